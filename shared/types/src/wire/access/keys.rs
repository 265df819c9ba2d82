//! What storage asks access-policy: decisions, data keys, and what became of the numbers it was given.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::digest::Digest;
use crate::ids::{IntentId, PatientId, ReceiptId, RecordId};
pub use crate::labels::Labels;
use crate::labels::Sensitivity;
use crate::purpose::{Action, Purpose};
use crate::ranges::Ranges;
use crate::secret::{Bytes, Key32};
use crate::time::Timestamp;

/// `POST /internal/v1/keys/data-keys` by storage: decide "may write", then make data keys.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DataKeysRequest {
    /// The write intent: asking again under the same id gives the same answer.
    pub intent: IntentId,
    /// Whose records.
    pub patient: PatientId,
    /// Why.
    pub purpose: Purpose,
    /// The record versions to be written, at most 10,000.
    pub items: Vec<DataKeyItem>,
}

/// A record version that needs a data key.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DataKeyItem {
    /// The record.
    pub record: RecordId,
    /// Its version, from 1.
    pub version: u32,
    /// Its labels.
    pub labels: Labels,
}

/// Fresh data keys, in the order of the items.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DataKeys {
    /// One per item.
    pub keys: Vec<DataKey>,
    /// One per sensitivity touched.
    pub tag_keys: Vec<TagKey>,
    /// The receipt of this write; absent for the directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<ReceiptId>,
}

/// A data key and its wrap.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DataKey {
    /// The record's number in its (patient, sensitivity, category): 1, 2, …
    pub n: u64,
    /// The key that encrypts this record version and nothing else.
    pub dek: Key32,
    /// The key wrapped under the patient's key-encryption key: storage keeps it.
    pub wrapped: Bytes,
    /// Which key-encryption key wrapped it.
    pub kek_epoch: u32,
}

/// The key of anchor tags of one sensitivity.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TagKey {
    /// The sensitivity.
    pub sensitivity: Sensitivity,
    /// The epoch it belongs to.
    pub kek_epoch: u32,
    /// The HMAC key.
    pub key: Key32,
}

/// `POST /internal/v1/keys/unwrap` by storage: decide "may read", write the receipt, release keys.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UnwrapRequest {
    /// Whose records.
    pub patient: PatientId,
    /// Why.
    pub purpose: Purpose,
    /// What is to be opened, at most 10,000.
    pub items: Vec<UnwrapItem>,
    /// Whether the state of all numbers is wanted beside the keys: it grows with what happened to the label sets, a read without
    /// it does not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub statement: bool,
}

/// A wrapped data key with everything its wrap is bound to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UnwrapItem {
    /// The record.
    pub record: RecordId,
    /// Its version.
    pub version: u32,
    /// Its labels.
    pub labels: Labels,
    /// Its number.
    pub n: u64,
    /// When the record was created: grants without future records need it.
    pub created_at: Timestamp,
    /// The wrapped key.
    pub wrapped: Bytes,
    /// Which key-encryption key wrapped it.
    pub kek_epoch: u32,
}

/// Released keys; what is not allowed is simply absent.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Unwrapped {
    /// The keys of what is allowed.
    pub keys: Vec<ReleasedKey>,
    /// Where it was asked for: the state of the numbers of every label set that is open to the caller. A gap in them is a withheld
    /// record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numbers: Option<NumbersStatement>,
    /// The receipt; absent for the directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<ReceiptId>,
    /// Nothing was released: the rule that denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Whether the caller may be told why nothing was released: see [`DecisionAnswer::known`].
    #[serde(default)]
    pub known: bool,
    /// The patient's consent version at this release: streams compare it.
    pub consent_version: u64,
}

/// One released data key.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReleasedKey {
    /// The record.
    pub record: RecordId,
    /// Its version.
    pub version: u32,
    /// The data key.
    pub dek: Key32,
}

/// What numbers exist, signed by access-policy.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NumbersStatement {
    /// Per label set.
    pub sets: Vec<NumberSet>,
    /// JWS (`typ` `hbc-numbers+jws`) of access-policy's service key over `{chain, patient, sets, iat}`.
    pub jws: String,
}

/// The numbers of one (sensitivity, category) of a patient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NumberSet {
    /// The labels.
    pub labels: Labels,
    /// The highest number handed out.
    pub n_max: u64,
    /// Handed out, not final yet.
    pub open: Ranges,
    /// Never written.
    pub voided: Ranges,
    /// Erased.
    pub erased: Ranges,
}

/// `POST /internal/v1/keys/void` by storage: the intent died; its numbers will never be used.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VoidRequest {
    /// The dead intent; an unknown one is remembered and a late request for it refused.
    pub intent: IntentId,
}

/// `POST /internal/v1/keys/anchored` by storage: these numbers stand on the ledger.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnchoredRequest {
    /// The intent whose numbers are final.
    pub intent: IntentId,
    /// The anchor's transaction.
    pub txid: Digest,
    /// Record commitments by number.
    pub items: Vec<AnchoredItem>,
}

/// One number that became final.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnchoredItem {
    /// The labels.
    pub labels: Labels,
    /// The number.
    pub n: u64,
    /// The record's salted commitment.
    pub commitment: Digest,
}

/// `POST /internal/v1/decisions` by storage: which labels may the caller list?
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DecisionRequest {
    /// Whose records.
    pub patient: PatientId,
    /// Why.
    pub purpose: Purpose,
    /// What the caller wants to do.
    pub action: Action,
    /// The label sets asked about.
    pub labels: Vec<Labels>,
}

/// The label sets that are allowed; an empty list is a denial, and both leave a receipt.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DecisionAnswer {
    /// What is allowed, and from which creation time on.
    pub allowed: Vec<AllowedLabels>,
    /// The receipt; absent for the directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<ReceiptId>,
    /// The rule that decided.
    pub rule: String,
    /// Whether the caller may be told why. Without any relation to the patient not even the patient's existence is told;
    /// without a grant that names one of the sensitivities, not that there are such records.
    pub known: bool,
    /// The patient's consent version.
    pub consent_version: u64,
}

/// An allowed label set and its limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AllowedLabels {
    /// The labels.
    pub labels: Labels,
    /// Only records created before this instant (a grant without future records).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_before: Option<Timestamp>,
}

/// `POST /internal/v1/admissions` by storage: may the caller write such records at all? Asked before anything of the account
/// is looked at; every label in it is told by the caller's own body.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdmissionRequest {
    /// Whose records.
    pub patient: PatientId,
    /// Why.
    pub purpose: Purpose,
    /// Label sets that would be written.
    pub writes: Vec<Labels>,
    /// Label sets of what may turn out to exist already: it is enough that the caller may read them.
    pub meets: Vec<Labels>,
    /// Label sets of which it is asked whether the caller may read them. It decides nothing.
    pub reads: Vec<Labels>,
    /// Nothing is left to write: no data keys will be asked for, so this leaves the receipt.
    pub nothing_left: bool,
}

/// The caller may write. (A refusal is a problem, and leaves a receipt.)
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Admission {
    /// What the caller may read of what was asked about.
    pub readable: Vec<AllowedLabels>,
    /// The receipt, if nothing is left to write; absent for the directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<ReceiptId>,
}

/// `GET /internal/v1/patients/{id}/consent-version`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ConsentVersion {
    /// Grows with every grant, alteration, revocation, freeze and denial.
    pub consent_version: u64,
}
