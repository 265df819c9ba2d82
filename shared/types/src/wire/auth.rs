//! auth: accounts, sessions, agency approval, custody of signing keys.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::account::{AgencyType, Custody, Role, Standing};
use crate::codes::codes;
use crate::digest::Digest;
use crate::ids::{AccountId, AgencyId, ClientId, GrantId, OperatorId, PatientId, SessionId};
use crate::secret::{Bytes, SecretText};
use crate::time::Timestamp;

/// `POST /v1/patients`: a patient signs up.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPatient {
    /// 3–64 characters of `a-z 0-9 . _ -`, unique.
    pub username: String,
    /// At least 15 characters (8 once a second factor is set up).
    pub password: SecretText,
    /// Contact data: it never leaves auth.
    #[serde(default)]
    pub contact: Contact,
    /// Who holds the signing keys.
    #[serde(default = "server_custody")]
    pub custody: Custody,
    /// Client custody only: the Ed25519 root key, 32 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_public_key: Option<Bytes>,
    /// Client custody only: signature of the root key over
    /// `hbc/root-pop/v1\n<chain>\n<kid>\n<kid of the recovery key, or ->\n<username>\n`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_pop: Option<Bytes>,
    /// Client custody only: the Ed25519 recovery key, 32 bytes, which may name another root key when this one is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_public_key: Option<Bytes>,
    /// With a recovery key: its signature over the same text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_pop: Option<Bytes>,
}

fn server_custody() -> Custody {
    Custody::Server
}

/// How to reach a person; all optional.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    /// Full name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// E-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Telephone number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// Postal address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// Answer to a patient's sign-up. Recovery codes are shown this once.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PatientCreated {
    /// The pseudonym that everything outside auth knows.
    pub id: PatientId,
    /// Custody of the signing keys.
    pub custody: Custody,
    /// SHA-256 of the root public key: compare it with what access-policy shows.
    pub root_fingerprint: Digest,
    /// Codes that restore the account when the password is lost, and in server custody signing with it.
    pub recovery_codes: Vec<SecretText>,
}

/// `POST /v1/agencies`: an agency signs up; it waits for approval.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAgency {
    /// Name of the person or body.
    pub name: String,
    /// 3–64 characters of `a-z 0-9 . _ -`, unique.
    pub username: String,
    /// At least 15 characters.
    pub password: SecretText,
    /// Telephone number.
    pub contact_number: String,
    /// E-mail address.
    pub email: String,
    /// Postal address.
    pub address: String,
    /// What kind of agency.
    pub agency_type: AgencyType,
    /// Number of the licence to practise or operate.
    pub licence_number: String,
    /// The agency this one belongs to (a doctor's hospital); operators confirm it by approving.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<AgencyId>,
}

/// Answer to an agency's sign-up.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AgencyCreated {
    /// The agency's id.
    pub id: AgencyId,
    /// Always `pending`.
    pub standing: Standing,
    /// Codes that restore the account when the password is lost; shown this once.
    pub recovery_codes: Vec<SecretText>,
}

/// An agency as operators (all) and other accounts (public part) see it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AgencyView {
    /// The agency's id.
    pub id: AgencyId,
    /// Name of the person or body.
    pub name: String,
    /// What kind of agency.
    pub agency_type: AgencyType,
    /// How it stands.
    pub standing: Standing,
    /// The organisation that it belongs to; for itself, its organisation and operators also one that did not take it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<AgencyId>,
    /// Operators only: number of the licence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence_number: Option<String>,
    /// Operators only: contact data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<Contact>,
    /// Operators and itself only: why it was rejected, suspended or ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Operators and itself only: when it signed up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// Operators who have approved so far.
    pub approvals: u32,
    /// Approvals needed.
    pub approvals_needed: u32,
    /// Kid of the agency's staff key, once approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staff_key: Option<Digest>,
    /// All staff keys that the agency has and had, in the order in which it asked for them. What the ledger says of each is
    /// proved at `GET /v1/staff/{key}/proof` of any of its nodes.
    #[serde(default)]
    pub keys: Vec<StaffKeyView>,
    /// Since when it is ended for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Who signed which change of its standing on the ledger, the oldest first.
    #[serde(default)]
    pub history: Vec<StaffSigned>,
    /// What the ledger's staff commitment opens with, under each of the keys: `H("hbc/staff/v1", salt, profile)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<StaffProfile>,
}

/// One signature of a change of an agency's standing: a transaction `identity.staff` of the ledger, which proves it. A change
/// takes effect with the last signature that it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StaffSigned {
    /// The staff key whose profile it changes.
    pub key: Digest,
    /// The change of that profile: 0 is the approval; its signatures have the same number (`nonce` on the ledger).
    pub change: u64,
    /// What it is a change to: `active`, or `suspended`, also where that is for ever.
    pub standing: Standing,
    /// Whether it ends the key for ever.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ends: bool,
    /// The operator who signed it, or none: auth itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<OperatorId>,
    /// The transaction.
    pub txid: Digest,
    /// When it was signed.
    pub signed_at: Timestamp,
    /// When its block was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_at: Option<Timestamp>,
}

codes! {
    /// How a staff key stands.
    StaffKeyState {
        /// The agency asked for it; operators have not all signed, or the ledger does not have it yet.
        Pending = "pending",
        /// Its profile is on the ledger.
        Active = "active",
        /// The ledger says that it is ended, for ever.
        Ended = "ended",
        /// It was withdrawn before the ledger had it.
        Withdrawn = "withdrawn",
    }
}

/// A staff key of an agency. Those that wait, or were withdrawn, are seen by operators and the agency alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StaffKeyView {
    /// Kid of the key.
    pub key: Digest,
    /// How it stands.
    pub state: StaffKeyState,
    /// When the agency asked for it.
    pub asked_at: Timestamp,
    /// Operators who signed for it.
    pub approvals: u32,
    /// When the block was seen that made its profile active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_at: Option<Timestamp>,
    /// When the block was seen that ended it; of one that was withdrawn, when that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

/// `POST /v1/me/staff-keys`: a key was made that takes the place of the agency's own once operators have approved it and the
/// ledger has it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StaffKeyAsked {
    /// Kid of the new key.
    pub key: Digest,
    /// Fresh recovery codes, shown this once; the earlier ones are void.
    pub recovery_codes: Vec<SecretText>,
    /// Members whom the agency takes in under the new key as well: signed now, on the ledger with the key.
    pub members: u32,
    /// The organisation that has to take the caller in again under the new key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<AgencyId>,
}

/// `POST /v1/agencies/{id}/key-approvals`: an operator signs for a key that an agency asked for, and for the end of the one
/// before.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyApproval {
    /// Kid of the key, as it was looked at.
    pub key: Digest,
    /// The operator's password, which unwraps the signing key.
    pub password: SecretText,
    /// Second factor, where set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp: Option<SecretText>,
}

/// The opening of a staff commitment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StaffProfile {
    /// 32 random bytes.
    pub salt: Bytes,
    /// The committed JCS text of a [`crate::wire::access::StaffBody`].
    pub body: String,
}

/// `POST /v1/agencies/{id}/rejections`, `/suspensions`, `/reinstatements` and `/revocations`: an operator decides, with a freshly checked
/// password, and says why.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// The operator's password, which unwraps the signing key.
    pub password: SecretText,
    /// Second factor, where set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp: Option<SecretText>,
    /// Why, for the agency and for other operators; it does not stand on the ledger.
    pub reason: String,
}

/// `POST /v1/agencies/{id}/approvals`, `DELETE /v1/me/members/{id}` and `/v1/me/organisation`: the caller
/// signs with a freshly checked password.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SigningPassword {
    /// The caller's password, which unwraps the signing key.
    pub password: SecretText,
    /// Second factor, where set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp: Option<SecretText>,
}

/// `PUT /v1/me/members/{id}`: an organisation takes somebody in, with a freshly checked password.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMember {
    /// As what they act for it; 1 to 200 bytes.
    pub function: String,
    /// The organisation's password, which unwraps the signing key.
    pub password: SecretText,
    /// Second factor, where set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp: Option<SecretText>,
}

codes! {
    /// How somebody stands to an organisation.
    MemberStanding {
        /// They named it when they signed up.
        Asked = "asked",
        /// It took them in.
        Active = "active",
        /// One of the two ended it.
        Ended = "ended",
    }
}

/// Somebody who asked to belong to an organisation, or does.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MemberView {
    /// Who.
    pub agency: AgencyId,
    /// The organisation.
    pub organisation: AgencyId,
    /// Their name.
    pub name: String,
    /// How they stand, as it was signed last.
    pub standing: MemberStanding,
    /// As what they act for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The transaction of the last change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<Digest>,
    /// Since when it is final; until then what was before holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_at: Option<Timestamp>,
}

/// `POST /v1/sessions`: log in.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The account's username.
    pub username: String,
    /// Its password.
    pub password: SecretText,
    /// Second factor, where set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp: Option<SecretText>,
}

/// `POST /v1/sessions/refresh`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    /// The latest refresh token of the family.
    pub refresh_token: SecretText,
}

/// Tokens of a session.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Tokens {
    /// JWT for `Authorization: Bearer`.
    pub access_token: SecretText,
    /// Seconds until the access token expires.
    pub expires_in: u32,
    /// Opaque; good for one refresh.
    pub refresh_token: SecretText,
    /// Always `Bearer`.
    pub token_type: String,
    /// The account.
    pub account: AccountId,
    /// Its role.
    pub role: Role,
    /// The session.
    pub session: SessionId,
}

/// `POST /v1/sessions/current/step-up`: the same session, its credentials shown just now.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SteppedUp {
    /// JWT for `Authorization: Bearer`.
    pub access_token: SecretText,
    /// Seconds until the access token expires.
    pub expires_in: u32,
    /// Always `Bearer`.
    pub token_type: String,
}

/// A session, as its owner sees it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SessionView {
    /// Its id.
    pub id: SessionId,
    /// Whether it is the one that asks.
    pub current: bool,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was used last: tokens were given.
    pub last_used_at: Timestamp,
    /// When it ends if it is not used again.
    pub expires_at: Timestamp,
    /// Whether it was opened with two factors: password and code, or a passkey.
    pub second_factor: bool,
    /// Browser and system, coarsely; absent where the client says neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The agency's program that it is of: one for each token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<ClientId>,
}

/// `GET /v1/me/sessions`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Sessions {
    /// The sessions, the last used first.
    pub items: Vec<SessionView>,
}

/// `GET /v1/me`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Me {
    /// The account.
    pub account: AccountId,
    /// Its role.
    pub role: Role,
    /// Its username.
    pub username: String,
    /// How it stands.
    pub standing: Standing,
    /// Agencies: what kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agency_type: Option<AgencyType>,
    /// Contact data.
    pub contact: Contact,
    /// Patients: custody of the signing keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custody: Option<Custody>,
    /// Patients: SHA-256 of the root public key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_fingerprint: Option<Digest>,
    /// Patients who have one: SHA-256 of the recovery public key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_fingerprint: Option<Digest>,
    /// Whether a second factor is set up.
    pub second_factor: bool,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_factor_since: Option<Timestamp>,
    /// When the password was changed last.
    pub password_changed_at: Timestamp,
    /// Recovery codes that are not used yet; operators have none.
    pub recovery_codes_left: u32,
}

/// `POST /v1/me/consent-keys`: a client with keys of its own registers a consent key on the ledger.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewConsentKey {
    /// The Ed25519 public key, 32 bytes.
    pub key: Bytes,
    /// Its signature over `hbc/pop/v1\n<chain>\n<kid>\n`.
    pub pop: Bytes,
}

/// The key's registration as a ledger transaction.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ConsentKeyRegistered {
    /// SHA-256 of the public key.
    pub kid: Digest,
    /// The signed `identity.key` transaction, for access-policy to submit before the first event.
    pub registration: String,
}

/// `POST /v1/me/consent-signatures`: sign a draft after fresh re-authentication (server custody).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsentSignatureRequest {
    /// The account's password.
    pub password: SecretText,
    /// Second factor, where set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp: Option<SecretText>,
    /// The draft's ledger payload (consent.grant or consent.alter), as a JSON object.
    pub payload: serde_json::Value,
    /// The draft's consent body: JCS text, exactly as given.
    pub body: String,
    /// The draft's salt, 32 bytes.
    pub salt: Bytes,
}

/// What auth signed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ConsentSignature {
    /// The signed transaction.
    pub jws: String,
    /// Certificate of the consent key by the root key.
    pub certificate: String,
    /// The key's signed `identity.key` registration, when the key is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<String>,
}

/// `POST /v1/me/revocation-signatures`: sign a revocation without access-policy (server custody).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevocationSignatureRequest {
    /// The account's password.
    pub password: SecretText,
    /// Second factor, where set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp: Option<SecretText>,
    /// Kid of the consent key.
    pub key: Digest,
    /// The grant.
    pub grant: GrantId,
}

/// A signed `consent.revoke` transaction: give it to access-policy, or to any ledger node.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RevocationSignature {
    /// The signed transaction.
    pub jws: String,
}

/// `POST /v1/me/unfreeze-signatures`: the root key's word that a freeze is over (server custody).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UnfreezeSignatureRequest {
    /// The account's password.
    pub password: SecretText,
    /// Second factor, where set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp: Option<SecretText>,
    /// The frozen grant; absent: the freeze of everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantId>,
}

/// The signed order (`typ` `hbc-unfreeze+jws`): give it to access-policy.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UnfreezeSignature {
    /// The signed order.
    pub jws: String,
}

/// `PUT /v1/me/password`: every other session ends, signing keys are wrapped anew.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    /// The password so far.
    pub password: SecretText,
    /// Second factor, where set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp: Option<SecretText>,
    /// The new one.
    pub new_password: SecretText,
}

/// A freshly typed password, and the second factor where set up: what an operation asks for that a stolen session must
/// not do.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FreshProof {
    /// The account's password.
    pub password: SecretText,
    /// Second factor, where set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp: Option<SecretText>,
}

/// `POST /v1/me/closure`: the owner closes their account, for ever.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Closure {
    /// The account's username, typed once more, so that nobody closes an account by mistake.
    pub confirm: String,
    /// The account's password.
    pub password: SecretText,
    /// Second factor, where set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp: Option<SecretText>,
}

/// `POST /v1/recoveries`: restore an account with a recovery code.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Recovery {
    /// The account's username.
    pub username: String,
    /// An unused recovery code.
    pub code: SecretText,
    /// The new password.
    pub new_password: SecretText,
}

/// `POST /v1/me/recovery-codes`: fresh codes, shown this once; the earlier ones are void.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RecoveryCodes {
    /// The codes.
    pub recovery_codes: Vec<SecretText>,
}

/// `POST /v1/me/totp`: a second factor is prepared.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TotpPrepared {
    /// `otpauth://` URI for an authenticator.
    pub uri: SecretText,
    /// The same as a QR code: an SVG image. It holds the secret.
    pub qr_svg: SecretText,
}

/// `PUT /v1/me/totp`: the second factor is confirmed by a first code.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TotpConfirm {
    /// Six digits.
    pub code: SecretText,
}

/// A suspension, logout or closing as auth answers it: `effective` once access-policy stored the denial.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Denial {
    /// Since when.
    pub since: Timestamp,
    /// Whether every service knows it already.
    pub effective: bool,
}
