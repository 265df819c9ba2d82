//! Devices at auth: how they make themselves known, and how a patient pairs them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::codes::codes;
use crate::digest::Digest;
use crate::ids::{DeviceId, GrantId, PairingId, PatientId};
use crate::secret::SecretText;
use crate::time::Timestamp;

codes! {
    /// How a pairing code stands.
    PairingState {
        /// No device has claimed it yet.
        Open = "open",
        /// A device claimed it: the patient compares fingerprints. Nothing is bound yet.
        Claimed = "claimed",
        /// The patient confirmed the device: it is paired.
        Confirmed = "confirmed",
        /// Its time is over, it was ended, or the fingerprint was another.
        Expired = "expired",
    }
}

/// `POST /v1/devices`: a device or gateway makes itself known. It may do nothing until a patient pairs it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDevice {
    /// What patients see, 1–80 characters.
    pub name: String,
    /// Make and model, 1–80 characters.
    pub model: String,
    /// Its public key: a JWK Set (RFC 7517 §5) of one key with its `kid`. Another key is another device.
    pub jwks: Value,
    /// Signed with that key, as a client's at the token endpoint (RFC 7523 §3); `iss` and `sub` are the key's fingerprint.
    pub assertion: SecretText,
}

/// A device as auth knows it from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceRegistered {
    /// Its id: `client_id`, and `iss` and `sub` of its later assertions.
    pub id: DeviceId,
    /// SHA-256 of its key as RFC 7638 §3 writes it: the device shows it, and the patient compares it.
    pub fingerprint: Digest,
}

/// `POST /v1/me/pairing-codes` and `GET /v1/me/pairing-codes/{id}`: a pairing code, as its patient sees it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PairingCode {
    /// Its id.
    pub id: PairingId,
    /// When it is made, and never again: the code, `XXXX-XXXX` in Crockford's base 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<SecretText>,
    /// When it is made, and never again: the same for a picture that the device reads, auth's address with `/pair#` and the code
    /// behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<SecretText>,
    /// Until when it can be claimed; once it is claimed, until when it can be confirmed.
    pub expires_at: Timestamp,
    /// How it stands.
    pub state: PairingState,
    /// Who claimed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<ClaimingDevice>,
}

/// The device that claimed a code. Its name and model are its own word: only the fingerprint proves anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClaimingDevice {
    /// Its id: the grantee of the grant.
    pub id: DeviceId,
    /// What it calls itself.
    pub name: String,
    /// Make and model.
    pub model: String,
    /// Fingerprint of its key, to be compared with what the device shows.
    pub fingerprint: Digest,
}

/// `POST /v1/me/pairing-codes/{id}/confirmation`: the patient compared fingerprints and signed a grant to the device.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PairingConfirmation {
    /// What the device shows.
    pub fingerprint: Digest,
    /// The grant to it.
    pub grant: GrantId,
}

/// A paired device, as its patient sees it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PairedDevice {
    /// Its id.
    pub id: DeviceId,
    /// What it calls itself.
    pub name: String,
    /// Make and model.
    pub model: String,
    /// Fingerprint of its key.
    pub fingerprint: Digest,
    /// The grant that was signed when it was paired.
    pub grant: GrantId,
    /// Since when.
    pub paired_at: Timestamp,
    /// When it got a token last, for whichever of its patients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at: Option<Timestamp>,
    /// How far its clock was ahead of auth's then, in milliseconds; seconds are told, so it is right to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset_ms: Option<i64>,
}

/// `GET /v1/me/devices`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PairedDevices {
    /// The devices, the oldest pairing first.
    pub items: Vec<PairedDevice>,
}

/// `DELETE /v1/me/devices/{id}`: the device is cut off. Its grants are frozen; the patient's signature revokes them.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PairingEnded {
    /// Since when.
    pub since: Timestamp,
    /// Whether access-policy knows it already.
    pub effective: bool,
    /// The grants that are to be revoked, as far as auth was told of them.
    pub grants: Vec<GrantId>,
}

/// `POST /v1/pairing-claims`: a device claims a code that a patient showed it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PairingClaim {
    /// The code; case, dashes and spaces do not matter.
    pub code: SecretText,
    /// The device's assertion, as at the token endpoint.
    pub assertion: SecretText,
}

/// A claimed code. Whose it is is told once the patient confirmed the device.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PairingClaimed {
    /// The pairing that may come of it.
    pub id: PairingId,
    /// Until when the patient can confirm it.
    pub expires_at: Timestamp,
}

/// `POST /v1/device-pairings`: a device asks with whom it is paired.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceProof {
    /// The device's assertion, as at the token endpoint.
    pub assertion: SecretText,
}

/// A pairing, as its device sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DevicePairing {
    /// Its id, as the claim answered it.
    pub id: PairingId,
    /// Whose records it may write: what it sends names them as `Patient/pat-…`.
    pub patient: PatientId,
    /// Since when.
    pub paired_at: Timestamp,
}

/// `POST /v1/device-pairings`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DevicePairings {
    /// The pairings, the oldest first.
    pub items: Vec<DevicePairing>,
}
