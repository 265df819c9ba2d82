//! storage: records and documents. FHIR resources travel under `/fhir` in their own shapes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::codes::codes;
use crate::digest::Digest;
use crate::ids::{PatientId, RecordId};
use crate::labels::{Category, Sensitivity};
use crate::time::Timestamp;

codes! {
    /// Where a record's anchor stands.
    AnchorState {
        /// Durable here, on its way to the ledger.
        Pending = "pending",
        /// In a final block.
        Final = "final",
        /// The ledger excludes it for ever: the record can be read, not proved. Operators are alarmed.
        Refused = "refused",
    }
}

/// Answer to an upload: `201` once the record is encrypted, pinned and committed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RecordCreated {
    /// The record.
    pub id: RecordId,
    /// Its version, from 1.
    pub version: u32,
    /// The IPFS object that holds its encrypted bytes.
    pub cid: String,
    /// The record's salted commitment.
    pub digest: Digest,
    /// Where the anchor stands.
    pub anchor: AnchorState,
    /// Whether it existed already (idempotent repetition).
    #[serde(default)]
    pub existing: bool,
}

/// A record's description: labels and whereabouts, never content.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RecordView {
    /// The record.
    pub id: RecordId,
    /// Its version.
    pub version: u32,
    /// Whose it is.
    pub patient: PatientId,
    /// FHIR type, or `Document`.
    pub kind: String,
    /// Its category.
    pub category: Category,
    /// Its sensitivity.
    pub sensitivity: Sensitivity,
    /// Its number in (patient, sensitivity, category).
    pub n: u64,
    /// First clinical day, where known (`YYYY-MM-DD`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// Media type of the received bytes.
    pub media_type: String,
    /// Length of the received bytes.
    pub bytes: u64,
    /// The IPFS object.
    pub cid: String,
    /// Where its encrypted slice begins in that object.
    pub offset: u64,
    /// Length of its encrypted slice.
    pub length: u64,
    /// The record's salted commitment.
    pub digest: Digest,
    /// Where the anchor stands.
    pub anchor: AnchorState,
    /// The anchor's transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txid: Option<Digest>,
    /// Height of the anchor's block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// When storage committed it.
    pub created_at: Timestamp,
}

/// A page of records that the caller may see, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RecordPage {
    /// The records of this page.
    pub items: Vec<RecordView>,
    /// Pass it as `cursor` to get the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Categories that were asked for and that the caller's grants leave out: what is absent here may exist. The same for
    /// every patient, whatever the chart holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<Category>,
}

/// Query of `GET /v1/records`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RecordQuery {
    /// Whose records; the caller's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient: Option<PatientId>,
    /// Only this category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<Category>,
    /// Only this FHIR type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Clinical day from (inclusive).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Clinical day to (inclusive).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// At most this many, 1–1,000; default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Cursor of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Query of `POST /v1/records`: the labels of a document.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DocumentQuery {
    /// Its category; `document` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<Category>,
    /// Its sensitivity; `normal` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensitivity: Option<Sensitivity>,
    /// The clinical day that it tells of: `YYYY-MM-DD`, `YYYY-MM` or `YYYY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
}
