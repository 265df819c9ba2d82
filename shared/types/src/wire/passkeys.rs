//! Passkeys at auth: what a browser's Web Authentication API takes and gives, as JSON (WebAuthn Level 3 §5.1).
//!
//! What HBC sends goes unchanged into `PublicKeyCredential.parseCreationOptionsFromJSON` and `parseRequestOptionsFromJSON`;
//! what it takes is what `toJSON()` of the answer gives. That part is the browser's own: members that it has beyond these are
//! left out, so that a newer browser locks nobody out.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::PasskeyId;
use crate::secret::Bytes;
use crate::time::Timestamp;

/// `POST /v1/me/passkey-challenges`: how a passkey is to be made (`PublicKeyCredentialCreationOptionsJSON`, §5.4). Good for
/// five minutes and once.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasskeyCreation {
    /// For whom.
    pub rp: PasskeyRelyingParty,
    /// Whose.
    pub user: PasskeyUser,
    /// 32 random bytes, which the answer must name.
    pub challenge: Bytes,
    /// The kinds of keys that are taken, the preferred first.
    pub pub_key_cred_params: Vec<PasskeyKeyKind>,
    /// Milliseconds.
    pub timeout: u32,
    /// The account's passkeys: an authenticator that has one of them makes no second.
    pub exclude_credentials: Vec<PasskeyDescriptor>,
    /// What the authenticator must be able to do.
    pub authenticator_selection: PasskeySelection,
    /// `none`: of what make an authenticator is nobody asks.
    pub attestation: String,
    /// What else is asked for.
    pub extensions: PasskeyExtensions,
}

/// Who a passkey is for (§5.4.2).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PasskeyRelyingParty {
    /// A domain: the passkey works there and below.
    pub id: String,
    /// Its name, for people.
    pub name: String,
}

/// Whose a passkey is (§5.4.3).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasskeyUser {
    /// Stands for the account, the same for all its passkeys, and says nothing about it: 32 bytes.
    pub id: Bytes,
    /// The username, by which the authenticator's owner tells accounts apart.
    pub name: String,
    /// The same.
    pub display_name: String,
}

/// A kind of key (§5.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PasskeyKeyKind {
    /// `public-key`.
    #[serde(rename = "type")]
    pub kind: String,
    /// A COSE algorithm: -7 (ES256), -8 (EdDSA) or -257 (RS256).
    pub alg: i32,
}

/// A passkey by its id (§5.8.3).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PasskeyDescriptor {
    /// `public-key`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The authenticator's id of it.
    pub id: Bytes,
    /// How its authenticator is reached, as the browser said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transports: Vec<String>,
}

/// What an authenticator must be able to do (§5.4.4).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasskeySelection {
    /// `required`: a passkey is found without a username.
    pub resident_key: String,
    /// The same, for older browsers.
    pub require_resident_key: bool,
    /// `required`: a PIN or a finger, so that a passkey is two factors.
    pub user_verification: String,
}

/// What else is asked for (§9).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasskeyExtensions {
    /// Whether the authenticator derives secrets (§10.1.4); none is asked for here.
    pub prf: PasskeyPrf,
    /// Whether it will be found without a username (§10.1.3).
    pub cred_props: bool,
}

/// An empty object: whether there is such an extension.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct PasskeyPrf {}

/// `POST /v1/passkey-challenges`: how somebody signs in with a passkey (`PublicKeyCredentialRequestOptionsJSON`, §5.5). Good
/// for five minutes and once, and the same for everybody but the challenge.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasskeyRequest {
    /// 32 random bytes, which the answer must name.
    pub challenge: Bytes,
    /// Milliseconds.
    pub timeout: u32,
    /// For whom.
    pub rp_id: String,
    /// Empty: the authenticator says whose passkeys it has.
    pub allow_credentials: Vec<PasskeyDescriptor>,
    /// `required`.
    pub user_verification: String,
}

/// `POST /v1/me/passkeys`: a passkey that was made.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPasskey {
    /// What its owner calls it, 1–80 characters.
    pub name: String,
    /// `toJSON()` of what `navigator.credentials.create` gave.
    pub credential: PasskeyCreated,
}

/// A passkey as the browser tells of it (`RegistrationResponseJSON`, §5.1).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasskeyCreated {
    /// The authenticator's id of it.
    pub id: Bytes,
    /// The same.
    pub raw_id: Bytes,
    /// `public-key`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the authenticator said.
    pub response: PasskeyAttestation,
    /// What the extensions gave.
    #[serde(default)]
    pub client_extension_results: PasskeyExtensionResults,
}

/// What an authenticator says of a passkey that it made (§5.2.1).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasskeyAttestation {
    /// What the browser saw (§5.8.1), JSON.
    #[serde(rename = "clientDataJSON")]
    pub client_data_json: Bytes,
    /// The attestation object (§6.5), CBOR.
    pub attestation_object: Bytes,
    /// How the authenticator is reached.
    #[serde(default)]
    pub transports: Vec<String>,
}

/// `POST /v1/sessions/passkey`: log in with a passkey.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasskeyLogin {
    /// `toJSON()` of what `navigator.credentials.get` gave.
    pub credential: PasskeyUsed,
}

/// A passkey that was used, as the browser tells of it (`AuthenticationResponseJSON`, §5.1).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasskeyUsed {
    /// The authenticator's id of it.
    pub id: Bytes,
    /// The same.
    pub raw_id: Bytes,
    /// `public-key`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the authenticator said.
    pub response: PasskeyAssertion,
    /// What the extensions gave.
    #[serde(default)]
    pub client_extension_results: PasskeyExtensionResults,
}

/// What an authenticator signs (§5.2.2).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasskeyAssertion {
    /// What the browser saw (§5.8.1), JSON.
    #[serde(rename = "clientDataJSON")]
    pub client_data_json: Bytes,
    /// The authenticator data (§6.1).
    pub authenticator_data: Bytes,
    /// The signature over it and the hash of what the browser saw.
    pub signature: Bytes,
    /// [`PasskeyUser::id`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_handle: Option<Bytes>,
}

/// What the extensions gave; those that HBC does not know are left out.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct PasskeyExtensionResults {
    /// Of the secrets that the authenticator derives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prf: Option<PasskeyPrfResult>,
}

/// Of the secrets that an authenticator derives (§10.1.4).
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct PasskeyPrfResult {
    /// Whether it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The secrets themselves. They are the page's alone: whoever sends them is refused.
    #[serde(default, skip_serializing)]
    #[schema(value_type = Option<Object>)]
    pub results: Option<serde::de::IgnoredAny>,
}

/// A passkey, as its owner sees it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PasskeyView {
    /// Its id here.
    pub id: PasskeyId,
    /// What its owner calls it.
    pub name: String,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When somebody signed in with it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
    /// Whether it is on more than one device, as its authenticator said when it was used last.
    pub backed_up: bool,
    /// Whether its authenticator derives secrets (PRF).
    pub prf: bool,
}

/// `GET /v1/me/passkeys`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Passkeys {
    /// The passkeys, the oldest first.
    pub items: Vec<PasskeyView>,
}
