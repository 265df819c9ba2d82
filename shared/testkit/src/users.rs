//! People and their tokens, for a service that is tried without auth.

use hbc_chain::testing::key;
use hbc_client::jwt;
use hbc_types::ids::{AccountId, OAuthClientId, SessionId};
use hbc_types::purpose::Purpose;
use hbc_types::scope::Scopes;
use hbc_types::wire::token::{
    ACCESS_SECONDS, ACCESS_TYP, AccessClaims, ClientClaims, Jwk, Jwks, fhir_audience,
};
use hbc_types::{Random, Timestamp};

/// Who issues the tokens.
pub const ISSUER: &str = "https://auth.test";
/// Whom they are for.
pub const AUDIENCE: &str = "hbc-test";
/// Seed of the key that signs them.
pub const TOKENS: u8 = 0x77;

/// Somebody with a session.
#[derive(Clone, Debug)]
pub struct User {
    /// Who it is.
    pub account: AccountId,
    /// The session.
    pub session: SessionId,
}

impl User {
    /// A new session of an account.
    #[must_use]
    pub fn of(account: AccountId, random: &Random) -> Self {
        Self { account, session: SessionId::random(random) }
    }

    /// What the user's access token says now. A device's is for `/fhir` alone, to create observations.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    #[expect(clippy::unwrap_used, reason = "a scope that there is")]
    pub fn claims(&self, now: Timestamp, random: &Random) -> AccessClaims {
        let (now, jti) = (now.seconds(), random.bytes::<16>());
        let client = match &self.account {
            AccountId::Device(device) => Some(ClientClaims {
                client_id: OAuthClientId::Device(device.clone()),
                scope: Scopes::parse("system/Observation.c").unwrap(),
                purpose: Some(Purpose::PatientRequest),
                patient: None,
            }),
            AccountId::Patient(_) | AccountId::Agency(_) | AccountId::Operator(_) | AccountId::App(_) => None,
        };
        AccessClaims {
            iss: ISSUER.to_owned(),
            aud: if client.is_some() { fhir_audience(AUDIENCE) } else { AUDIENCE.to_owned() },
            sub: self.account.clone(),
            iat: now,
            nbf: now,
            exp: now + ACCESS_SECONDS,
            jti: jti.iter().map(|byte| format!("{byte:02x}")).collect(),
            sid: self.session.clone(),
            role: self.account.role(),
            auth_time: now,
            amr: vec!["pwd".to_owned()],
            second_factor: false,
            usual_purpose: None,
            client,
        }
    }

    /// An access token that is good now.
    ///
    /// # Panics
    /// Never with the kit's key.
    #[must_use]
    #[expect(clippy::unwrap_used, reason = "the kit's key signs")]
    pub fn token(&self, now: Timestamp, random: &Random) -> String {
        jwt::sign(ACCESS_TYP, &key(TOKENS), &self.claims(now, random)).unwrap()
    }
}

/// The key set with which tokens are checked, as auth serves it.
#[must_use]
pub fn jwks() -> Jwks {
    Jwks { keys: vec![Jwk::of(key(TOKENS).verifying_key().as_bytes())] }
}
