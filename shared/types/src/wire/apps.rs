//! Third-party apps: how operators register them, how they ask a patient, and what the patient sees of them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::account::Standing;
use crate::ids::{AppId, AuthorizationId};
use crate::scope::Scopes;
use crate::secret::SecretText;
use crate::time::Timestamp;
use crate::wire::access::Scope;

/// `POST /v1/apps`: an operator registers an app and signs for it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewApp {
    /// By which name patients see it, 1–80 characters.
    pub name: String,
    /// Who answers for it, 1–200 characters.
    pub publisher: String,
    /// Where its users are sent back to (RFC 6749 §3.1.2), one to five: `https`, a scheme of the app's own, or `http` to the
    /// machine that it runs on (RFC 8252 §7). They are compared letter by letter.
    pub redirect_uris: Vec<String>,
    /// Its public keys, a JWK Set, where it can keep a secret (`private_key_jwt`); absent for a public client (RFC 6749 §2.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<Value>,
    /// In place of `jwks`: where such a set is (RFC 7591 §2), an `https` address that anybody can reach. It is what operators sign
    /// for, whichever keys are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// The most that it may ask for.
    pub scope: Scopes,
    /// The operator's password, which unwraps the signing key.
    pub password: SecretText,
    /// Second factor, where set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp: Option<SecretText>,
}

/// An app, as patients and operators see it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AppView {
    /// Its id: `client_id`, and the grantee of patients' grants.
    pub id: AppId,
    /// Its name.
    pub name: String,
    /// Who answers for it.
    pub publisher: String,
    /// Where its users are sent back to.
    pub redirect_uris: Vec<String>,
    /// Whether it proves itself with a key of its own.
    pub confidential: bool,
    /// Where that key is, if it is at an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// When that address was asked last and answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_fetched_at: Option<Timestamp>,
    /// The most that it may ask for.
    pub scope: Scopes,
    /// `pending` until enough operators signed, `suspended` once it was ended: that is for ever.
    pub standing: Standing,
    /// When it was registered.
    pub created_at: Timestamp,
}

/// `GET /v1/apps`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Apps {
    /// The apps, the oldest first: those that may ask patients, and to operators all of them.
    pub items: Vec<AppView>,
}

/// `POST /v1/authorizations`: what an app sent the patient's browser with.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAuthorization {
    /// The query of the authorization request, as it came (RFC 6749 §4.1.1), at most 4,096 bytes.
    pub query: String,
}

/// An app's question, for the page that shows it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AuthorizationView {
    /// Its id.
    pub id: AuthorizationId,
    /// Who asks.
    pub app: AppView,
    /// Where the browser goes afterwards, without path and query: what the patient can recognise.
    pub redirect_origin: String,
    /// What the app asks for, as far as there is such a thing and it is registered for it.
    pub scope: Scopes,
    /// What to grant at most for that (`POST /v1/grants` at access-policy): nothing sensitive, from now on, for ninety days.
    pub access: Scope,
    /// Whether it asks to come when the patient is not there.
    pub offline: bool,
    /// Until when it can be answered.
    pub expires_at: Timestamp,
}

/// What becomes of an app's question.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AuthorizationStep {
    /// It is to be answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<AuthorizationView>,
    /// It is over: where the browser is to be sent, with a code or an error (RFC 6749 §4.1.2) and the issuer (RFC 9207).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<SecretText>,
}

/// `POST /v1/authorizations/{id}/decision`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthorizationDecision {
    /// Whether the app is let in.
    pub allow: bool,
    /// What it gets, within what it asks for; all of that if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scopes>,
    /// Until when, at most ninety days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// An app that a patient let in.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AppAccess {
    /// The app.
    pub app: AppView,
    /// What its tokens are for.
    pub scope: Scopes,
    /// Since when.
    pub allowed_at: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// When it got a token last.
    pub last_used_at: Timestamp,
}

/// `GET /v1/me/apps`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AppAccesses {
    /// The apps, the one that was let in last first.
    pub items: Vec<AppAccess>,
}
