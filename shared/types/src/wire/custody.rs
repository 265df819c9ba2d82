//! Custody of a patient's root key at auth: who holds it, what takes its place, and what opens one that the patient's own client
//! made.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::account::Custody;
use crate::digest::Digest;
use crate::ids::{PasskeyId, PatientId};
use crate::secret::{Bytes, SecretText};
use crate::time::Timestamp;

/// How long a claim to another root key waits, so that whoever holds the key of before can object.
pub const ROOT_CLAIM_WAIT: Duration = Duration::from_secs(72 * 3600);

/// `PUT /v1/me/custody`: another root key, another recovery key, or another who holds them.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCustody {
    /// Who holds the root key from now on. `server` is for patients whose root key auth holds already: it makes another one.
    pub custody: Custody,
    /// All but `server`: the Ed25519 root key, 32 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_public_key: Option<Bytes>,
    /// All but `server`: the root key's signature over `hbc/root-pop/v1\n<chain>\n<kid>\n<kid of the recovery key, or
    /// ->\n<username>\n`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_pop: Option<Bytes>,
    /// The Ed25519 recovery key, 32 bytes: it may name another root key when this one is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_public_key: Option<Bytes>,
    /// With a recovery key that is new: its signature over the same text, which shows that the printed code was typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_pop: Option<Bytes>,
    /// Who holds their own keys: the certificate (`hbc-root-cert+jws`) of the root key or the recovery key of before. Without it these
    /// are keys that the patient claimed three days ago, and operators ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// `passkey`: the root seed as passkeys and the recovery code open it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wraps: Vec<RootWrap>,
    /// The account's password.
    pub password: SecretText,
    /// Second factor, where set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp: Option<SecretText>,
}

/// A root seed that a page wrapped; no server can open it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RootWrap {
    /// The passkey whose secret (PRF) opens it; none: the recovery code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passkey: Option<PasskeyId>,
    /// 32 random bytes: the input of the passkey's PRF, or the salt of the code's derivation.
    pub salt: Bytes,
    /// Nonce, encrypted seed and tag of AES-256-GCM: 60 bytes.
    pub wrapped: Bytes,
}

/// `PUT /v1/me/passkeys/{id}/root-wrap`: one more passkey opens the root key.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRootWrap {
    /// SHA-256 of the root public key whose seed this is.
    pub root_fingerprint: Digest,
    /// The root key's signature, as in [`NewCustody`]: who has it opened it.
    pub root_pop: Bytes,
    /// 32 random bytes, the input of the passkey's PRF.
    pub salt: Bytes,
    /// Nonce, encrypted seed and tag of AES-256-GCM: 60 bytes.
    pub wrapped: Bytes,
    /// The account's password.
    pub password: SecretText,
    /// Second factor, where set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp: Option<SecretText>,
}

/// Answer to a change of custody.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CustodyChanged {
    /// Who holds the root key now.
    pub custody: Custody,
    /// SHA-256 of the root public key.
    pub root_fingerprint: Digest,
    /// SHA-256 of the recovery public key, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_fingerprint: Option<Digest>,
    /// With another root key: codes that restore the account when the password is lost. Those of before are void.
    pub recovery_codes: Vec<SecretText>,
    /// Since when.
    pub since: Timestamp,
    /// Whether access-policy knows it: until it does, the keys of before count there.
    pub effective: bool,
}

/// `GET /v1/me/root-wraps`: with what the patient's own client gets at its root key.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RootWraps {
    /// SHA-256 of the root public key.
    pub root_fingerprint: Digest,
    /// The wraps.
    pub items: Vec<RootWrapView>,
}

/// A wrap, with what a browser needs to ask for its passkey.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RootWrapView {
    /// The passkey; none: the recovery code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passkey: Option<PasskeyId>,
    /// The authenticator's id of the passkey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Bytes>,
    /// The input of the passkey's PRF, or the salt of the code's derivation.
    pub salt: Bytes,
    /// Nonce, encrypted seed and tag.
    pub wrapped: Bytes,
    /// When it was made.
    pub created_at: Timestamp,
}

/// `PUT /v1/me/root-claim`: other keys are to count, and nobody has those of before.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRootClaim {
    /// The Ed25519 root key, 32 bytes.
    pub root_public_key: Bytes,
    /// Its signature, as in [`NewCustody`].
    pub root_pop: Bytes,
    /// The Ed25519 recovery key, 32 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_public_key: Option<Bytes>,
    /// Its signature over the same text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_pop: Option<Bytes>,
    /// The account's password.
    pub password: SecretText,
    /// Second factor, where set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp: Option<SecretText>,
}

/// A claim to another root key.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RootClaim {
    /// Whose.
    pub patient: PatientId,
    /// SHA-256 of the root public key.
    pub root_fingerprint: Digest,
    /// SHA-256 of the recovery public key, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_fingerprint: Option<Digest>,
    /// When it was made.
    pub since: Timestamp,
    /// When it may act at the earliest.
    pub acts_from: Timestamp,
    /// Operators whose order is final.
    pub approvals: u32,
    /// How many must be.
    pub approvals_needed: u32,
}

/// `GET /v1/root-claims`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RootClaims {
    /// The claims, the oldest first.
    pub items: Vec<RootClaim>,
}
