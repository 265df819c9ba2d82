//! Access tokens: EdDSA JWTs of ten minutes that say who calls and nothing about rights; those of clients, of five minutes, say
//! to what the client is held, too.

use std::sync::Arc;

use ed25519_dalek::{SigningKey, VerifyingKey};
use hbc_client::jwt;
use hbc_types::account::Role;
use hbc_types::ids::{AccountId, AppId, PatientId, SessionId};
use hbc_types::purpose::Purpose;
use hbc_types::secret::SecretText;
use hbc_types::wire::token::{
    ACCESS_SECONDS, ACCESS_TYP, AccessClaims, CLIENT_SECONDS, ClientClaims, Jwk, Jwks, fhir_audience,
};
use hbc_types::{Random, Timestamp};
use serde::Serialize;

/// How the credentials of a session were checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Amr {
    /// Password alone.
    Password,
    /// Password and second factor.
    PasswordAndCode,
    /// A client's key.
    Key,
    /// A passkey that stays on its device, opened by PIN or finger.
    Passkey,
    /// The same of one that can be on several devices.
    SyncedPasskey,
}

impl Amr {
    const ALL: [Self; 5] =
        [Self::Password, Self::PasswordAndCode, Self::Key, Self::Passkey, Self::SyncedPasskey];

    /// RFC 8176 names. That a key is in hardware is what its authenticator says; nobody else vouches for it.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        self.code().split(' ').map(str::to_owned).collect()
    }

    /// Whether two factors were shown.
    #[must_use]
    pub const fn is_two_factors(self) -> bool {
        match self {
            Self::PasswordAndCode | Self::Passkey | Self::SyncedPasskey => true,
            Self::Password | Self::Key => false,
        }
    }

    /// The code in the database: the names.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Password => "pwd",
            Self::PasswordAndCode => "pwd otp",
            Self::Key => "swk",
            Self::Passkey => "hwk user",
            Self::SyncedPasskey => "swk user",
        }
    }

    /// The way of a code.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|amr| amr.code() == code)
    }
}

/// For whom a token is.
#[derive(Clone, Debug)]
pub struct Bearer {
    /// The account.
    pub account: AccountId,
    /// Its role.
    pub role: Role,
    /// The session.
    pub session: SessionId,
    /// When credentials were last checked.
    pub auth_time: Timestamp,
    /// How.
    pub amr: Amr,
    /// Whether the account has a second factor.
    pub second_factor: bool,
    /// Why it asks unless it says something else.
    pub usual_purpose: Option<Purpose>,
    /// The client that acts for it.
    pub client: Option<ClientClaims>,
}

/// Claims of an ID token (OpenID Connect Core 1.0 §2). Times are Unix seconds.
#[derive(Clone, Debug, Serialize)]
pub struct IdClaims {
    /// The deployment's auth.
    pub iss: String,
    /// Who signed in.
    pub sub: PatientId,
    /// For which app.
    pub aud: AppId,
    /// Issued at.
    pub iat: i64,
    /// Expires at.
    pub exp: i64,
    /// The app's own word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// The FHIR resource of who signed in (SMART App Launch 2.2).
    #[serde(rename = "fhirUser", skip_serializing_if = "Option::is_none")]
    pub fhir_user: Option<String>,
}

/// Signs access tokens. Clones share the key.
#[derive(Clone)]
pub struct TokenIssuer {
    signer: Arc<jwt::Signer>,
    /// The keys that tokens are believed under.
    public: Vec<VerifyingKey>,
    issuer: String,
    audience: String,
}

impl std::fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenIssuer").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl TokenIssuer {
    /// An issuer with its key, all keys whose tokens live, and the names that stand in every token.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "the caller's copy of the key is wiped")]
    pub fn new(key: SigningKey, public: Vec<VerifyingKey>, issuer: String, audience: String) -> Self {
        Self { signer: Arc::new(jwt::Signer::new(&key)), public, issuer, audience }
    }

    /// The issuer's name.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The public keys, for everybody.
    #[must_use]
    pub fn jwks(&self) -> Jwks {
        Jwks { keys: self.public.iter().map(|key| Jwk::of(key.as_bytes())).collect() }
    }

    /// A fresh token.
    pub fn issue(
        &self,
        bearer: &Bearer,
        now: Timestamp,
        random: &Random,
    ) -> Result<SecretText, jwt::JwtError> {
        let life = if bearer.client.is_some() { CLIENT_SECONDS } else { ACCESS_SECONDS };
        self.issue_for(bearer, life, now, random)
    }

    /// The same, which lives for so many seconds.
    pub fn issue_for(
        &self,
        bearer: &Bearer,
        life: i64,
        now: Timestamp,
        random: &Random,
    ) -> Result<SecretText, jwt::JwtError> {
        let aud = match bearer.client {
            None => self.audience.clone(),
            Some(_) => fhir_audience(&self.audience),
        };
        let claims = AccessClaims {
            iss: self.issuer.clone(),
            aud,
            sub: bearer.account.clone(),
            iat: now.seconds(),
            nbf: now.seconds(),
            exp: now.seconds() + life,
            jti: hex::encode(random.bytes::<16>()),
            sid: bearer.session.clone(),
            role: bearer.role,
            auth_time: bearer.auth_time.seconds(),
            amr: bearer.amr.names(),
            second_factor: bearer.second_factor,
            usual_purpose: bearer.usual_purpose,
            client: bearer.client.clone(),
        };
        self.signer.sign(ACCESS_TYP, &claims).map(SecretText::new)
    }

    /// An ID token. It is for the app and opens nothing: its `typ` is not that of access tokens.
    pub fn issue_id(&self, claims: &IdClaims) -> Result<SecretText, jwt::JwtError> {
        self.signer.sign("JWT", claims).map(SecretText::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_under_the_published_key_and_holds_no_rights() {
        let random = Random::seeded(9);
        let key = SigningKey::from_bytes(&random.bytes());
        let public = vec![key.verifying_key()];
        let issuer = TokenIssuer::new(key, public, "http://auth".to_owned(), "hbc-test".to_owned());
        let bearer = Bearer {
            account: AccountId::Patient(PatientId::random(&random)),
            role: Role::Patient,
            session: SessionId::random(&random),
            auth_time: Timestamp::from_ms(5_000),
            amr: Amr::PasswordAndCode,
            second_factor: true,
            usual_purpose: None,
            client: None,
        };
        let token = issuer.issue(&bearer, Timestamp::from_ms(9_999), &random).unwrap();
        let jwk = issuer.jwks().keys.remove(0);
        let public = VerifyingKey::from_bytes(&jwk.x.to_array().unwrap()).unwrap();
        let open = jwt::Unverified::parse(token.expose(), ACCESS_TYP).unwrap();
        assert_eq!(open.kid(), jwk.kid);
        let claims: AccessClaims = open.open(&public).unwrap();
        assert_eq!((claims.iat, claims.nbf, claims.exp, claims.auth_time), (9, 9, 609, 5));
        assert_eq!(claims.sub, bearer.account);
        assert_eq!((claims.amr, claims.second_factor), (vec!["pwd".to_owned(), "otp".to_owned()], true));
        assert!(jwt::Unverified::parse(token.expose(), "hbc-service+jwt").is_err());
    }
}
