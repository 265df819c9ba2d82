//! The one strict verifier of users' access tokens.
//!
//! EdDSA only; `typ` `at+jwt`; the key by `kid` from the deployment's own key set and nowhere else; `iss`, `aud`,
//! `sub`, `iat`, `nbf` and `exp` required; five seconds of leeway; any other header field, so also `crit`, refused.
//! Signature, issuer and audience are checked in [`hbc_client::jwt`], the times by the [`Clock`] here.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ed25519_dalek::VerifyingKey;
use hbc_client::Endpoint;
use hbc_client::jwt::{Expected, JwtError, TrustedKey, Unverified};
use hbc_client::operations::auth;
use hbc_types::Clock;
use hbc_types::wire::token::{ACCESS_TYP, AccessClaims, Jwks, fhir_audience};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How far clocks may differ.
const LEEWAY_SECONDS: i64 = 5;
/// Registered claims that a token must hold; `iat` and HBC's own are required by [`AccessClaims`].
const REQUIRED: &[&str] = &["iss", "aud", "sub", "exp", "nbf"];
/// Longest life of a token that is believed, whatever it says.
const MAX_LIFE_SECONDS: i64 = 3600;
/// Shortest time between two fetches of the key set.
const FETCH_PAUSE: Duration = Duration::from_secs(5);
/// The same while there is no key set at all, because auth did not answer yet.
const FIRST_FETCH_PAUSE: Duration = Duration::from_millis(500);
/// How often the key set is fetched without being asked, so that a withdrawn key stops working.
const REFRESH: Duration = Duration::from_secs(300);

/// Why a token is refused. Callers get one answer; the kind is for the log and for tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenError {
    /// Form, header or signature.
    #[error("{0}")]
    Jwt(JwtError),
    /// The key is not in the key set.
    #[error("the token's key is not known")]
    UnknownKey,
    /// Another issuer.
    #[error("the token is by another issuer")]
    Issuer,
    /// For another deployment.
    #[error("the token is for another audience")]
    Audience,
    /// Expired, not valid yet, or with a life that no token has.
    #[error("the token is not valid now")]
    Time,
    /// The subject is not an account of the token's role.
    #[error("the token's subject does not fit its role")]
    Subject,
    /// The key set was never fetched, because auth does not answer.
    #[error("the keys that sign tokens are not known yet")]
    NoKeys,
}

impl From<JwtError> for TokenError {
    fn from(error: JwtError) -> Self {
        match error {
            JwtError::Issuer => Self::Issuer,
            JwtError::Audience => Self::Audience,
            other => Self::Jwt(other),
        }
    }
}

/// The keys that tokens are believed under, by kid.
type Keys = HashMap<String, Arc<TrustedKey>>;

/// Verifies access tokens. Clones share the key set.
#[derive(Clone)]
pub struct TokenVerifier {
    inner: Arc<VerifierState>,
}

struct VerifierState {
    issuer: String,
    /// Of accounts' tokens.
    audience: String,
    /// Of clients' tokens.
    fhir: String,
    expected: Expected,
    clock: Clock,
    keys: RwLock<Option<Keys>>,
    source: Option<Endpoint>,
    fetched: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenVerifier").field("issuer", &self.inner.issuer).finish_non_exhaustive()
    }
}

impl TokenVerifier {
    /// With keys that are at hand: auth itself, and tests.
    #[must_use]
    pub fn with_keys(issuer: &str, audience: &str, keys: &[VerifyingKey], clock: Clock) -> Self {
        Self::build(issuer, audience, Some(trusted(keys.iter().copied())), None, clock)
    }

    /// With the key set that `auth` serves at `/.well-known/jwks.json`. It is fetched at the first token, when a
    /// token names an unknown key (at most every five seconds), and by [`TokenVerifier::keep_fresh`].
    #[must_use]
    pub fn from_auth(issuer: &str, audience: &str, auth: Endpoint, clock: Clock) -> Self {
        Self::build(issuer, audience, None, Some(auth), clock)
    }

    fn build(
        issuer: &str,
        audience: &str,
        keys: Option<Keys>,
        source: Option<Endpoint>,
        clock: Clock,
    ) -> Self {
        let fhir = fhir_audience(audience);
        let inner = VerifierState {
            issuer: issuer.to_owned(),
            expected: Expected::new(issuer, &[audience, &fhir], REQUIRED),
            audience: audience.to_owned(),
            fhir,
            clock,
            keys: RwLock::new(keys),
            source,
            fetched: Mutex::new(None),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Checks the `token` of an account and gives its claims. Those of clients are for another audience.
    pub async fn verify(&self, token: &str) -> Result<AccessClaims, TokenError> {
        let claims = self.verify_any(token).await?;
        if claims.client.is_none() { Ok(claims) } else { Err(TokenError::Audience) }
    }

    /// Checks the `token` of an account, or of a client that acts for one at `/fhir`.
    pub async fn verify_any(&self, token: &str) -> Result<AccessClaims, TokenError> {
        let unverified = Unverified::parse(token, ACCESS_TYP)?;
        let key = match self.key(unverified.kid()) {
            Some(key) => key,
            None => {
                self.fetch(false).await;
                self.key(unverified.kid()).ok_or_else(|| self.unknown_key())?
            }
        };
        let claims: AccessClaims = unverified.verify(&key, &self.inner.expected)?;
        self.check(&claims)?;
        let audience = if claims.client.is_some() { &self.inner.fhir } else { &self.inner.audience };
        if claims.aud == *audience { Ok(claims) } else { Err(TokenError::Audience) }
    }

    /// A loop for [`crate::Tasks`]: fetches the key set now and every five minutes.
    pub(crate) async fn keep_fresh(self) {
        loop {
            self.fetch(true).await;
            tokio::time::sleep(if self.has_keys() { REFRESH } else { FIRST_FETCH_PAUSE }).await;
        }
    }

    fn check(&self, claims: &AccessClaims) -> Result<(), TokenError> {
        let now = self.inner.clock.now().seconds();
        let expired = claims.exp.saturating_add(LEEWAY_SECONDS) <= now;
        let early = claims.nbf.max(claims.iat).saturating_sub(LEEWAY_SECONDS) > now;
        let endless = claims.exp.saturating_sub(claims.iat) > MAX_LIFE_SECONDS;
        if expired || early || endless {
            return Err(TokenError::Time);
        }
        if claims.role == claims.sub.role() { Ok(()) } else { Err(TokenError::Subject) }
    }

    fn key(&self, kid: &str) -> Option<Arc<TrustedKey>> {
        self.inner.keys.read().unwrap_or_else(PoisonError::into_inner).as_ref()?.get(kid).cloned()
    }

    fn has_keys(&self) -> bool {
        self.inner.keys.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn unknown_key(&self) -> TokenError {
        if self.has_keys() { TokenError::UnknownKey } else { TokenError::NoKeys }
    }

    /// Fetches the key set unless that was done a moment ago. A failure keeps the keys there are.
    async fn fetch(&self, even_if_recent: bool) {
        let Some(source) = &self.inner.source else { return };
        let mut fetched = self.inner.fetched.lock().await;
        let pause = if self.has_keys() { FETCH_PAUSE } else { FIRST_FETCH_PAUSE };
        if fetched.is_some_and(|at| at.elapsed() < pause) && !even_if_recent {
            return;
        }
        let call = source.to(auth::show_jwks()).once().deadline(Duration::from_secs(3));
        let answer = call.fetch().await;
        *fetched = Some(Instant::now());
        match answer {
            Ok(set) => {
                *self.inner.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(usable(&set));
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "The key set of auth could not be fetched"
                );
            }
        }
    }
}

/// The Ed25519 keys of a set.
fn usable(set: &Jwks) -> Keys {
    let keys = set.keys.iter().filter(|jwk| jwk.kty == "OKP" && jwk.crv == "Ed25519" && jwk.alg == "EdDSA");
    trusted(keys.filter_map(|jwk| VerifyingKey::from_bytes(&jwk.x.to_array::<32>()?).ok()))
}

/// Keys under the kid that follows from each and not one that is written beside it; weak ones are left out.
fn trusted(keys: impl Iterator<Item = VerifyingKey>) -> Keys {
    let keys = keys.filter_map(|key| TrustedKey::new(&key).ok());
    keys.map(|key| (key.kid().to_owned(), Arc::new(key))).collect()
}
