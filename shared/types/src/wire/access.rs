//! access-policy: access requests, grants, decisions, keys, receipts.

mod keys;

pub use keys::*;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::account::{AgencyType, Custody, Role, Standing};
use crate::codes::codes;
use crate::digest::Digest;
use crate::ids::{
    AccessRequestId, AccountId, AgencyId, EmergencyId, GrantId, GranteeId, PatientId, ReceiptId, RecordId,
};
use crate::labels::{Category, Sensitivity};
use crate::purpose::{Action, Purpose};
use crate::secret::Bytes;
use crate::time::Timestamp;
use crate::wire::auth::StaffProfile;

/// What a grant covers. Field order is that of the committed JCS text's keys only by coincidence: the
/// commitment covers the JCS form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// What may be done; not empty.
    pub actions: Vec<Action>,
    /// Kinds of record; not empty.
    pub categories: Vec<Category>,
    /// Sensitivities; `normal` unless named otherwise.
    #[serde(default = "normal_only")]
    pub sensitivities: Vec<Sensitivity>,
    /// Why; not empty.
    pub purposes: Vec<Purpose>,
    /// From when.
    pub from: Timestamp,
    /// Until when (exclusive).
    pub until: Timestamp,
    /// Whether records created after the grant are covered.
    #[serde(default = "yes")]
    pub future_records: bool,
}

fn normal_only() -> Vec<Sensitivity> {
    vec![Sensitivity::Normal]
}
fn yes() -> bool {
    true
}

/// `POST /v1/access-requests`: an agency asks.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAccessRequest {
    /// Whom it asks.
    pub patient: PatientId,
    /// What it asks for.
    pub scope: Scope,
    /// Shown to the patient, at most 500 characters.
    #[serde(default)]
    pub message: String,
}

codes! {
    /// Where an access request stands. All but `open` are final.
    AccessRequestState {
        /// Waiting for the patient.
        Open = "open",
        /// A grant came of it.
        Approved = "approved",
        /// The patient said no.
        Denied = "denied",
        /// Nobody answered in time (30 days).
        Expired = "expired",
        /// The agency took it back.
        Withdrawn = "withdrawn",
    }
}

/// An access request as both sides see it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AccessRequestView {
    /// Its id.
    pub id: AccessRequestId,
    /// Who asks.
    pub agency: AgencyId,
    /// The agency's name as auth told it.
    pub agency_name: String,
    /// What kind of agency.
    pub agency_type: AgencyType,
    /// Who is asked.
    pub patient: PatientId,
    /// What is asked for.
    pub scope: Scope,
    /// The agency's words.
    pub message: String,
    /// Where it stands.
    pub state: AccessRequestState,
    /// The grant that came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantId>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// `POST /v1/grants`: the patient drafts a grant, unasked or in answer to a request.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGrant {
    /// To whom: an agency, an organisation whose staff it then covers, an app, or a paired device.
    pub grantee: GranteeId,
    /// To an app, and to nothing else: whether it may come when the patient is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline: Option<bool>,
    /// What is granted; answering a request, it may only be narrower than asked.
    pub scope: Scope,
    /// The request that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<AccessRequestId>,
    /// Client custody: kid of the consent key for this grantee.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Digest>,
    /// Client custody: the root's certificate of that key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

impl NewGrant {
    /// Of this scope, unasked, by whose keys auth holds.
    #[must_use]
    pub const fn to(grantee: GranteeId, scope: Scope) -> Self {
        Self { grantee, offline: None, scope, request: None, key: None, certificate: None }
    }
}

/// A draft to be signed within five minutes.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GrantDraft {
    /// The grant's id.
    pub id: GrantId,
    /// The ledger payload; `key` is absent when auth is to derive it.
    pub payload: serde_json::Value,
    /// The consent body that the commitment covers: JCS text.
    pub body: String,
    /// 32 random bytes.
    pub salt: Bytes,
    /// When the draft expires.
    pub expires_at: Timestamp,
}

/// `PUT /v1/grants/{id}/signature`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantSignature {
    /// The signed transaction.
    pub jws: String,
    /// The root's certificate of the consent key.
    pub certificate: String,
    /// The key's signed registration, when the key is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<String>,
}

/// `PUT /v1/grants/{id}/alteration`: what the ledger's alteration of a grant says.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AlterationOpening {
    /// The signed `consent.alter`, as it is final.
    pub jws: String,
    /// The committed JCS text.
    pub body: String,
    /// The commitment's salt.
    pub salt: Bytes,
}

/// `POST /v1/grants/{id}/revocation`: the signed `consent.revoke`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantRevocation {
    /// The signed transaction.
    pub jws: String,
}

codes! {
    /// Where a grant stands.
    GrantState {
        /// Drafted, not signed.
        Draft = "draft",
        /// Signed, its block is not final yet: it does not act.
        Pending = "pending",
        /// In force within its period.
        Active = "active",
        /// The ledger refused it.
        Refused = "refused",
        /// Stopped for now by the patient, without a key.
        Frozen = "frozen",
        /// The ledger says that it was altered, and what it covers now is not known: it stands still until it is revoked.
        Altered = "altered",
        /// Revoked for ever.
        Revoked = "revoked",
        /// Its period is over.
        Expired = "expired",
    }
}

/// A grant as the patient and the grantee see it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GrantView {
    /// Its id.
    pub id: GrantId,
    /// Whose records.
    pub patient: PatientId,
    /// To whom.
    pub grantee: GranteeId,
    /// The grantee's name as auth told it.
    pub grantee_name: String,
    /// Since when the grantee's account is closed: nobody acts under the grant any more, whatever its state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grantee_closed_at: Option<Timestamp>,
    /// To an app: whether it may come when the patient is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline: Option<bool>,
    /// To a device: SHA-256 of its public key. Compare it with what the device shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Digest>,
    /// What is granted.
    pub scope: Scope,
    /// Where it stands.
    pub state: GrantState,
    /// Who holds the signing key.
    pub custody: Custody,
    /// Kid of the consent key, once signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Digest>,
    /// The ledger transaction that gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txid: Option<Digest>,
    /// The ledger transaction that revoked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_by: Option<Digest>,
    /// Height of the block that made it final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// SHA-256 of the patient's root key: compare it with what the patient shows.
    pub root_fingerprint: Digest,
    /// The signed transaction, the certificate and the commitment's opening, for offline checking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<GrantEvidence>,
    /// When it was drafted.
    pub created_at: Timestamp,
}

/// Everything that makes a consent checkable without HBC.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GrantEvidence {
    /// The signed transaction.
    pub jws: String,
    /// The root's certificate of the consent key.
    pub certificate: String,
    /// The committed JCS text.
    pub body: String,
    /// The commitment's salt.
    pub salt: Bytes,
}

/// `PUT /v1/me/freeze` (all grants) or `PUT /v1/grants/{id}/freeze`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FreezeView {
    /// Since when.
    pub since: Timestamp,
    /// The frozen grant; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantId>,
}

/// `DELETE` of a freeze: signed by the root or a consent key, because a session alone may only stop.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Unfreeze {
    /// JWS with `typ` `hbc-unfreeze+jws` by the root key over `{chain, patient, grant, iat}`.
    pub jws: String,
}

codes! {
    /// What a receipt records.
    AccessKind {
        /// Keys were released to read.
        Read = "read",
        /// Data keys were made to write.
        Write = "write",
        /// A listing showed metadata.
        List = "list",
        /// An attempt was refused.
        Denied = "denied",
        /// Numbers of a failed write were voided.
        Void = "void",
        /// Keys were released only to look through records for a search.
        Search = "search",
        /// Somebody signed in as the patient: a session was opened.
        Session = "session",
        /// The patient closed their account: from here on nothing is released.
        Closed = "closed",
    }
}

codes! {
    /// By which way an access came.
    Channel {
        /// A client of the API.
        Api = "api",
        /// The pages of this deployment.
        Portal = "portal",
        /// A third party's app.
        App = "app",
        /// A link that the patient gave away.
        Link = "link",
        /// A device or gateway.
        Device = "device",
    }
}

/// The body of a receipt: what is committed (JCS) into its leaf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiptBody {
    /// Its id.
    pub id: ReceiptId,
    /// Whose records.
    pub patient: PatientId,
    /// The patient's receipt number: 1, 2, … without a gap.
    pub n: u64,
    /// Emergency access: which one; only for emergency treatment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emergency: Option<EmergencyId>,
    /// Leaf hash of receipt n-1; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<Digest>,
    /// What happened.
    pub kind: AccessKind,
    /// Who did it.
    pub actor: AccountId,
    /// In whose name, where a delegate acted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<AccountId>,
    /// The organisation for which they did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<AgencyId>,
    /// Why.
    pub purpose: Purpose,
    /// Under which grant; absent for the patient and for denials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantId>,
    /// The rule that decided.
    pub rule: String,
    /// Which records (id and version).
    pub records: Vec<ReceiptRecord>,
    /// Categories concerned.
    pub categories: Vec<Category>,
    /// Searches: how many records were looked through. Those that were shown have a receipt of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The receipt that closes a row of equal denials (same actor, patient and rule): how many more there were since the
    /// first of them was receipted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folded: Option<u64>,
    /// By which way it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<Channel>,
    /// The actor's own reference, an insurer's case number for instance: 1 to 64 visible ASCII characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case: Option<String>,
    /// When.
    pub at: Timestamp,
}

impl ReceiptBody {
    /// The rule of FORMATS §2 that the body breaks, if it breaks one.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        let Self { patient, actor, n, prev, kind, purpose, records, categories, .. } = self;
        let Self { emergency, count, folded, case, .. } = self;
        let is_sign_in = *kind == AccessKind::Session;
        let is_closing = *kind == AccessKind::Closed;
        let is_search = *kind == AccessKind::Search;
        let has_case = |text: &String| {
            (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let rules = [
            (*n > 0 && (*n == 1) == prev.is_none(), "the receipt's number does not fit the one before it"),
            (count.is_some() == is_search, "a search, and nothing else, has a count"),
            (!is_search || records.is_empty(), "a search names no records"),
            (
                !is_sign_in || records.is_empty() && categories.is_empty(),
                "a sign-in names no records and no categories",
            ),
            (!is_sign_in || *actor == AccountId::Patient(patient.clone()), "a sign-in is the patient's own"),
            (
                !is_closing || records.is_empty() && categories.is_empty(),
                "a closing names no records and no categories",
            ),
            (!is_closing || *actor == AccountId::Patient(patient.clone()), "a closing is the patient's own"),
            (
                folded.is_none_or(|more| more > 0 && *kind == AccessKind::Denied),
                "only a denial is folded, at least once",
            ),
            (
                emergency.is_none() || *purpose == Purpose::EmergencyTreatment,
                "an emergency access is for emergency treatment",
            ),
            (case.as_ref().is_none_or(has_case), "a case is 1 to 64 visible ASCII characters"),
        ];
        rules.into_iter().find(|(holds, _)| !holds).map(|(_, rule)| rule)
    }
}

/// A record named in a receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiptRecord {
    /// The record.
    pub record: RecordId,
    /// Its version.
    pub version: u32,
}

/// One line of the patient's access log.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AccessView {
    /// The receipt's body.
    pub receipt: ReceiptBody,
    /// Name of the actor, where it is an agency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor_name: Option<String>,
    /// The receipt's leaf hash: `H("hbc/receipt/v1", salt, JCS body)` wrapped as an RFC 6962 leaf.
    pub leaf: Digest,
    /// The `access.receipts` transaction, once submitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txid: Option<Digest>,
    /// Height of its block, once final; absent: unanchored since `receipt.at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
}

/// `PUT /internal/v1/sessions/{session}` by auth: somebody signed in. An access token of a session that was never told of
/// opens nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSession {
    /// Whose session.
    pub account: AccountId,
    /// When they signed in.
    pub opened_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

/// `PUT /internal/v1/subjects/{account}` by auth: how an account stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Its role.
    pub role: Role,
    /// How it stands.
    pub standing: Standing,
    /// Agencies: what kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agency_type: Option<AgencyType>,
    /// Agencies, apps and devices: name to show to patients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Agencies: the organisation they belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<AgencyId>,
    /// Agencies: kid of the staff key on the ledger. Apps: SHA-256 of their id, the subject of the operators' order. Devices: kid
    /// of their key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staff_key: Option<Digest>,
    /// Agencies: what opens the commitment of the staff profile; apps: that of the order which registered them. Without it
    /// neither is taken for active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<StaffProfile>,
    /// Grows by one with each change: an older message never overwrites a newer one.
    pub revision: u64,
}

/// What the commitment of a staff profile covers; the ledger shows none of the names in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StaffBody {
    /// Who.
    pub agency: AgencyId,
    /// What kind of agency.
    pub agency_type: AgencyType,
    /// Under which licence.
    pub licence_number: String,
    /// By which name.
    pub name: String,
}

/// `POST /internal/v1/patients` by auth: pins the root key and makes the first key-encryption key; with a certificate, another
/// root key takes the place of the pinned one.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PinPatient {
    /// The patient.
    pub patient: PatientId,
    /// Ed25519 root public key, 32 bytes.
    pub root_public_key: Bytes,
    /// Ed25519 recovery public key, 32 bytes, where the patient has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_public_key: Option<Bytes>,
    /// Who holds the root key.
    pub custody: Custody,
    /// The certificate (`hbc-root-cert+jws`) by which these keys took the place of those before; none for the first, and for those that
    /// were claimed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

/// `PUT /internal/v1/denials/{session|subject|pairing}/{id}` by auth.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDenial {
    /// When the row may be forgotten (sessions: when the last access token has expired).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Pairings: when it ended. What the patient grants the device after that stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// A page of access requests.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AccessRequestPage {
    /// Newest first.
    pub items: Vec<AccessRequestView>,
    /// Cursor of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A page of grants.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GrantPage {
    /// Newest first.
    pub items: Vec<GrantView>,
    /// Cursor of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A page of the patient's access log.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AccessPage {
    /// Newest first.
    pub items: Vec<AccessView>,
    /// Cursor of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The oldest receipt that is not in a final block yet was written then; absent when all are anchored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unanchored_since: Option<Timestamp>,
}

/// `POST /v1/explain`: what would be decided, and why? Agencies ask about themselves, patients about anybody's access to
/// their own records.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// Whose records.
    pub patient: PatientId,
    /// Patients only: whose access; absent: the caller's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agency: Option<AgencyId>,
    /// To do what.
    pub action: Action,
    /// Kind of record.
    pub category: Category,
    /// Sensitivity.
    #[serde(default = "normal")]
    pub sensitivity: Sensitivity,
    /// Why.
    pub purpose: Purpose,
}

fn normal() -> Sensitivity {
    Sensitivity::Normal
}

/// The verdict with its reasons.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// Whether it is allowed.
    pub allowed: bool,
    /// The rule that decides: the same that a refusal names.
    pub rule: String,
    /// The grant it rests on, or the one that comes nearest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantId>,
    /// The ledger transaction of that grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txid: Option<Digest>,
    /// Only records created before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_before: Option<Timestamp>,
    /// The consent version it was computed at.
    pub consent_version: u64,
}

/// `GET /v1/patients/{id}/root`: the pinned root key's fingerprint and how it came there, for the patient and grantees.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RootView {
    /// SHA-256 of the root public key.
    pub root_fingerprint: Digest,
    /// Who holds it.
    pub custody: Custody,
    /// SHA-256 of the recovery public key, where the patient has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_fingerprint: Option<Digest>,
    /// Since when these keys are pinned.
    pub since: Timestamp,
    /// The keys before, the first of all first.
    pub former: Vec<FormerRoot>,
    /// For the patient: the keys that somebody claims for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimedRoot>,
}

/// Keys of a patient that others took the place of.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FormerRoot {
    /// The root public key, 32 bytes.
    pub root_public_key: Bytes,
    /// The recovery public key, 32 bytes, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_public_key: Option<Bytes>,
    /// Who held the root key.
    pub custody: Custody,
    /// Since when they were pinned.
    pub since: Timestamp,
    /// Since when they are not.
    pub until: Timestamp,
    /// The certificate (`hbc-root-cert+jws`) by which one of them named the next ones; none: operators ordered it, three days after
    /// the patient claimed the next ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

/// `PUT /internal/v1/patients/{id}/root-claim` by auth: these keys are to take the place of the pinned ones, and nobody has those.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRootClaim {
    /// 32 random bytes, the claim's own: another claim has others.
    pub nonce: Bytes,
    /// Ed25519 root public key, 32 bytes.
    pub root_public_key: Bytes,
    /// Ed25519 recovery public key, 32 bytes, where the patient has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_public_key: Option<Bytes>,
}

/// A claim to a patient's root key, which acts after three days, once operators ordered it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ClaimedRoot {
    /// SHA-256 of the root public key.
    pub root_fingerprint: Digest,
    /// When it was told.
    pub since: Timestamp,
    /// When it may act at the earliest.
    pub acts_from: Timestamp,
}
