//! Claims of the two signed tokens: what users carry to every service, and what services carry to each other.

use serde::{Deserialize, Serialize};

use crate::account::{Role, ServiceRole};
use crate::digest::Digest;
use crate::ids::{AccountId, OAuthClientId, PatientId, SessionId};
use crate::purpose::Purpose;
use crate::scope::Scopes;

/// `typ` of a user's access token.
pub const ACCESS_TYP: &str = "at+jwt";
/// `typ` of a service's assertion.
pub const SERVICE_TYP: &str = "hbc-service+jwt";
/// Header that carries a service's assertion.
pub const SERVICE_HEADER: &str = "HBC-Service";
/// Seconds an access token lives.
pub const ACCESS_SECONDS: i64 = 600;
/// Seconds a client's access token lives.
pub const CLIENT_SECONDS: i64 = 300;
/// Seconds a service's assertion lives.
pub const SERVICE_SECONDS: i64 = 60;

/// Claims of an access token. Times are Unix seconds. They say who calls and give no rights; a client's hold it to a part of what
/// its account may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessClaims {
    /// The deployment's auth.
    pub iss: String,
    /// The deployment.
    pub aud: String,
    /// The account.
    pub sub: AccountId,
    /// Issued at.
    pub iat: i64,
    /// Not before.
    pub nbf: i64,
    /// Expires at.
    pub exp: i64,
    /// This token's id.
    pub jti: String,
    /// The login session.
    pub sid: SessionId,
    /// The account's role.
    pub role: Role,
    /// When credentials were last checked.
    pub auth_time: i64,
    /// How: `pwd`, `otp`; of clients `swk` (RFC 8176).
    pub amr: Vec<String>,
    /// The account has a second factor: what asks for it takes only a token that was got with its code, lately.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub second_factor: bool,
    /// Why an agency asks unless it says something else: what is usual for its type. It is no right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual_purpose: Option<Purpose>,
    /// The client that acts for the account, if it is not the account itself. Such tokens are for [`fhir_audience`].
    #[serde(flatten)]
    pub client: Option<ClientClaims>,
}

/// What the token of a client says of it (RFC 9068 §2.2). It narrows what the account may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientClaims {
    /// The client.
    pub client_id: OAuthClientId,
    /// What it may ask for.
    pub scope: Scopes,
    /// Why it asks, unless it may not say: what its agency's type gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Purpose>,
    /// Apps: whose records, and nobody else's (SMART App Launch 2.2, launch context).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient: Option<PatientId>,
}

/// `aud` of clients' tokens in the deployment whose own is `audience`: they are good for `/fhir` and for nothing else.
#[must_use]
pub fn fhir_audience(audience: &str) -> String {
    format!("{audience}:fhir")
}

/// How long credentials count as shown lately, in seconds.
pub const STEP_UP_SECONDS: i64 = 600;

/// Whom a service's assertion is for, by its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// A service.
    Service(ServiceRole),
    /// Any node of the ledger: it only shows who reads.
    Ledger(LedgerAudience),
}

crate::codes! {
    /// The nodes of the ledger, as an audience.
    LedgerAudience {
        /// Any node.
        Node = "ledger",
    }
}

impl Audience {
    /// Any node of the ledger.
    pub const LEDGER: Self = Self::Ledger(LedgerAudience::Node);

    /// Its code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Service(role) => role.code(),
            Self::Ledger(ledger) => ledger.code(),
        }
    }
}

impl From<ServiceRole> for Audience {
    fn from(role: ServiceRole) -> Self {
        Self::Service(role)
    }
}

/// `HBC-Reader`: the same assertion, to a ledger node, which serves everybody and keeps some of its capacity for the services
/// of the deployment. One that does not hold makes a reader like any other.
pub const READER_HEADER: &str = "hbc-reader";

/// Claims of a service's assertion: good for one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceClaims {
    /// The calling service.
    pub iss: ServiceRole,
    /// Who is called.
    pub aud: Audience,
    /// HTTP method.
    pub htm: String,
    /// Path and query, as sent.
    pub htu: String,
    /// SHA-256 of the body.
    pub bh: Digest,
    /// Issued at, Unix seconds.
    pub iat: i64,
    /// Expires at, Unix seconds.
    pub exp: i64,
    /// Random; accepted once.
    pub jti: String,
}

/// `GET /.well-known/jwks.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Jwks {
    /// The keys that sign access tokens now, or signed ones that may still be alive.
    pub keys: Vec<Jwk>,
}

/// An Ed25519 public key (RFC 8037).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Jwk {
    /// Always `OKP`.
    pub kty: String,
    /// Always `Ed25519`.
    pub crv: String,
    /// The public key, unpadded base64url.
    pub x: crate::secret::Bytes,
    /// SHA-256 of the public key, lowercase hex.
    pub kid: String,
    /// Always `EdDSA`.
    pub alg: String,
    /// Always `sig`.
    #[serde(rename = "use")]
    pub key_use: String,
}

impl Jwk {
    /// The JWK of a public key.
    #[must_use]
    pub fn of(public: &[u8; 32]) -> Self {
        Self {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            x: crate::secret::Bytes::from(public.as_slice()),
            kid: Digest::of(public).to_string(),
            alg: "EdDSA".to_owned(),
            key_use: "sig".to_owned(),
        }
    }
}
