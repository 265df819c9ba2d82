//! auth's OAuth endpoints, and the clients that agencies register.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::codes::codes;
use crate::ids::{AccountId, ClientId, OAuthClientId, PatientId};
use crate::scope::{ScopeWord, Scopes};
use crate::secret::SecretText;
use crate::time::Timestamp;

/// How a client proves itself: `client_assertion_type` (RFC 7523 §2.2).
pub const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

codes! {
    /// What a client is.
    ClientKind {
        /// A program of the agency's own, which reads what the agency may read.
        BackOffice = "back-office",
    }
}

codes! {
    /// How a client signs.
    ClientAlgorithm {
        /// ECDSA with P-384 and SHA-384.
        Es384 = "ES384",
        /// RSASSA-PKCS1-v1_5 with SHA-384 and at least 2,048 bits.
        Rs384 = "RS384",
        /// Ed25519.
        EdDsa = "EdDSA",
    }
}

/// `POST /v1/me/clients`: an agency registers a program.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewClient {
    /// What the agency calls it, 1–80 characters.
    pub name: String,
    /// What it is.
    pub kind: ClientKind,
    /// Its public keys, a JWK Set (RFC 7517 §5): one to five, each with its `kid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<Value>,
    /// In place of `jwks`: where such a set is (RFC 7591 §2), an `https` address that anybody can reach. It is fetched now, and
    /// again when the program names a key that is not in it, or after an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// The most that it may ask for.
    pub scope: Scopes,
    /// The agency's password: whoever has the keys reads as the agency does.
    pub password: SecretText,
    /// Second factor, where set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp: Option<SecretText>,
}

/// `PUT /v1/me/clients/{id}/jwks`: the keys that count from now on.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewClientKeys {
    /// A JWK Set, as at the registration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<Value>,
    /// In place of `jwks`: where it is, as at the registration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// The agency's password.
    pub password: SecretText,
    /// Second factor, where set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp: Option<SecretText>,
}

/// A client's public key, as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClientKeyView {
    /// Its name in the key set.
    pub kid: String,
    /// What it signs with.
    pub alg: ClientAlgorithm,
}

/// A client, as its owner sees it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ClientView {
    /// Its id: `client_id`, and `iss` and `sub` of its assertions.
    pub id: ClientId,
    /// What the agency calls it.
    pub name: String,
    /// What it is.
    pub kind: ClientKind,
    /// Its keys; where it has an address for them, those that were found there last.
    pub keys: Vec<ClientKeyView>,
    /// That address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// When it was asked last and answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_fetched_at: Option<Timestamp>,
    /// The most that it may ask for.
    pub scope: Scopes,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it got a token last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
}

/// `GET /v1/me/clients`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Clients {
    /// The clients, the oldest first.
    pub items: Vec<ClientView>,
}

/// `POST /oauth/token` (RFC 6749 §4.1.3, §4.4 and §6), as a form.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenRequest {
    /// `authorization_code`, `refresh_token` or `client_credentials`.
    pub grant_type: String,
    /// `refresh_token`: the latest one of a session, or of an app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<SecretText>,
    /// `authorization_code`: the code (RFC 6749 §4.1.3), good for a minute and once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<SecretText>,
    /// `authorization_code`: the `redirect_uri` of the request that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_uri: Option<String>,
    /// `authorization_code`: what the request's `code_challenge` is the SHA-256 of (RFC 7636 §4.5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_verifier: Option<SecretText>,
    /// `client_credentials`: what is asked for, within what is registered; all of that if it is left out. `refresh_token` of an
    /// app: the same, within what the patient allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The client: a public app is named by it alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// `client_credentials`: [`JWT_BEARER`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_assertion_type: Option<String>,
    /// `client_credentials`: the client's assertion (RFC 7523 §3), signed with ES384, RS384 or EdDSA, good for at most five
    /// minutes and once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_assertion: Option<SecretText>,
}

/// Answer of the token endpoint (RFC 6749 §5.1).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenResponse {
    /// The access token.
    pub access_token: SecretText,
    /// `Bearer`.
    pub token_type: String,
    /// Seconds that it lives.
    pub expires_in: u32,
    /// Sessions, and apps that may go on: the one refresh token that is good from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<SecretText>,
    /// Clients: what it may ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scopes>,
    /// Apps: whose records (SMART App Launch 2.2, launch context).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient: Option<PatientId>,
    /// Apps that ask for `openid`: who signed in (OpenID Connect Core 1.0 §3.1.3.3), with the code alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_token: Option<SecretText>,
}

/// `POST /oauth/introspect` (RFC 7662 §2.1), as a form.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct IntrospectionRequest {
    /// An access token of the client that asks.
    pub token: SecretText,
    /// What the client takes it for; it is seen without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_type_hint: Option<String>,
    /// The client, if it is named beside its assertion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// [`JWT_BEARER`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_assertion_type: Option<String>,
    /// The client's assertion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_assertion: Option<SecretText>,
}

/// Answer of the introspection endpoint (RFC 7662 §2.2): of a token that is not good, or not the client's, only that.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Introspection {
    /// Whether the token is good now: the client is registered, its agency active, its session open.
    pub active: bool,
    /// The client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<OAuthClientId>,
    /// The account it acts for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<AccountId>,
    /// What it may ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scopes>,
    /// `Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_type: Option<String>,
    /// Who gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// For whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<String>,
    /// Issued at, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
    /// Expires at, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
}

/// `POST /oauth/revoke` (RFC 7009 §2.1), as a form.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenRevocation {
    /// An access or a refresh token.
    pub token: SecretText,
    /// What the client takes it for; it is seen without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_type_hint: Option<String>,
}

/// How OAuth's endpoints refuse (RFC 6749 §5.2).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OAuthError {
    /// `invalid_request`, `invalid_client`, `invalid_grant`, `invalid_scope`, `unsupported_grant_type`,
    /// `temporarily_unavailable` or `server_error`.
    pub error: String,
    /// In words, for whoever writes the client.
    pub error_description: String,
}

impl OAuthError {
    /// The status with which OAuth's endpoints answer what elsewhere is refused with `status` (RFC 6749 §5.2): a request that
    /// does not hold is a 400, whether or not a client had to prove itself.
    #[must_use]
    pub const fn status_of(status: u16) -> u16 {
        match status {
            401 | 403 | 409 | 413 | 415 | 422 => 400,
            _ => status,
        }
    }
}

/// `GET /.well-known/oauth-authorization-server` (RFC 8414) and `/.well-known/smart-configuration` (SMART App Launch 2.2), the
/// part that HBC has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuthorizationServer {
    /// The issuer of access tokens.
    pub issuer: String,
    /// Where the key set is.
    pub jwks_uri: String,
    /// The page where patients answer apps; absent where the deployment has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_endpoint: Option<String>,
    /// Where tokens are given.
    pub token_endpoint: String,
    /// Where tokens are given back (RFC 7009).
    pub revocation_endpoint: String,
    /// Where a client asks whether its token is good (RFC 7662).
    pub introspection_endpoint: String,
    /// `code`, where there is an authorisation endpoint.
    pub response_types_supported: Vec<String>,
    /// How answers come: `query`.
    pub response_modes_supported: Vec<String>,
    /// `S256`: PKCE is never left out (RFC 7636).
    pub code_challenge_methods_supported: Vec<String>,
    /// Answers name the issuer (RFC 9207).
    pub authorization_response_iss_parameter_supported: bool,
    /// `public`: an app's ID tokens name the patient as every other app's do.
    pub subject_types_supported: Vec<String>,
    /// How ID tokens are signed.
    pub id_token_signing_alg_values_supported: Vec<String>,
    /// `authorization_code` of apps, where there is a page; `client_credentials`; `refresh_token` of apps, and of sessions, which
    /// begin at HBC's own endpoint with the password (OAuth 2.1 has no grant for that).
    pub grant_types_supported: Vec<String>,
    /// `none` for users' sessions and public apps, `private_key_jwt` for other clients.
    pub token_endpoint_auth_methods_supported: Vec<String>,
    /// How clients sign.
    pub token_endpoint_auth_signing_alg_values_supported: Vec<ClientAlgorithm>,
    /// `none`: whoever has a token may give it back.
    pub revocation_endpoint_auth_methods_supported: Vec<String>,
    /// `private_key_jwt`.
    pub introspection_endpoint_auth_methods_supported: Vec<String>,
    /// How clients sign there.
    pub introspection_endpoint_auth_signing_alg_values_supported: Vec<ClientAlgorithm>,
    /// What clients may ask for: programs these that read, and each with a resource type in the place of `*`; devices
    /// `system/Observation.c`.
    pub scopes_supported: Vec<String>,
    /// SMART's names of what there is.
    pub capabilities: Vec<String>,
    /// The OpenAPI document.
    pub service_documentation: String,
}

impl AuthorizationServer {
    /// Of auth at this address, with the page where patients answer apps.
    #[must_use]
    pub fn at(issuer: &str, page: Option<&str>) -> Self {
        let issuer = issuer.trim_end_matches('/').to_owned();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let mut grant_types = words(&["refresh_token", "client_credentials"]);
        let mut capabilities = words(&["client-confidential-asymmetric", "permission-v1", "permission-v2"]);
        let mut scopes = words(&["system/*.rs", "system/*.r", "system/*.s", "system/Observation.c"]);
        if page.is_some() {
            grant_types.push("authorization_code".to_owned());
            capabilities.extend(words(&[
                "launch-standalone",
                "authorize-get",
                "client-public",
                "context-standalone-patient",
                "sso-openid-connect",
                "permission-patient",
                "permission-offline",
                "permission-online",
            ]));
            scopes.extend(words(&["patient/*.rs", "patient/*.r", "patient/*.s"]));
            scopes.extend(ScopeWord::ALL.iter().map(|word| word.code().to_owned()));
        }
        let has_page = |of: &[&str]| if page.is_some() { words(of) } else { Vec::new() };
        Self {
            authorization_endpoint: page.map(str::to_owned),
            response_modes_supported: has_page(&["query"]),
            code_challenge_methods_supported: has_page(&["S256"]),
            authorization_response_iss_parameter_supported: page.is_some(),
            subject_types_supported: words(&["public"]),
            id_token_signing_alg_values_supported: words(&["EdDSA"]),
            jwks_uri: format!("{issuer}/.well-known/jwks.json"),
            token_endpoint: format!("{issuer}/oauth/token"),
            revocation_endpoint: format!("{issuer}/oauth/revoke"),
            introspection_endpoint: format!("{issuer}/oauth/introspect"),
            response_types_supported: has_page(&["code"]),
            grant_types_supported: grant_types,
            token_endpoint_auth_methods_supported: words(&["none", "private_key_jwt"]),
            token_endpoint_auth_signing_alg_values_supported: ClientAlgorithm::ALL.to_vec(),
            revocation_endpoint_auth_methods_supported: words(&["none"]),
            introspection_endpoint_auth_methods_supported: words(&["private_key_jwt"]),
            introspection_endpoint_auth_signing_alg_values_supported: ClientAlgorithm::ALL.to_vec(),
            scopes_supported: scopes,
            capabilities,
            service_documentation: format!("{issuer}/openapi.json"),
            issuer,
        }
    }
}
