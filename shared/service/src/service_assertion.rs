//! Services that call services: the assertion in `HBC-Service` is checked against the whole request before any
//! handler runs, and a handler that wants it says so: `_from: Service<FromStorage>`.
//!
//! A service key alone opens nothing that belongs to a user: where a user stands behind the call, the handler
//! also takes a [`crate::Caller`].

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use ed25519_dalek::VerifyingKey;
use futures_util::future::{Ready, ready};
use hbc_client::jwt::{Expected, JwtError, TrustedKey, Unverified};
use hbc_types::account::ServiceRole;
use hbc_types::problem::Slug;
use hbc_types::wire::token::{Audience, READER_HEADER, SERVICE_SECONDS, SERVICE_TYP, ServiceClaims};
use hbc_types::{Clock, Digest, Timestamp};

use crate::Problem;

const LEEWAY_SECONDS: i64 = 5;
/// Registered claims that an assertion must hold; the others are required by [`ServiceClaims`].
const REQUIRED: &[&str] = &["iss", "aud", "exp"];
/// Assertions remembered at most; they live 60 seconds.
const REMEMBERED: usize = 500_000;

/// Why an assertion is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum AssertionError {
    /// Form, header or signature.
    #[error("{0}")]
    Jwt(JwtError),
    /// The key is no service's.
    #[error("the assertion's key is no service's")]
    UnknownKey,
    /// Signed by one service in the name of another.
    #[error("the assertion is not by the service it names")]
    Issuer,
    /// For another service.
    #[error("the assertion is for another service")]
    Audience,
    /// For another method, path, query or body.
    #[error("the assertion is for another request")]
    Request,
    /// Expired, from the future, or with a life that none has.
    #[error("the assertion is not valid now")]
    Time,
    /// Seen before.
    #[error("the assertion was used before")]
    Replay,
}

impl From<JwtError> for AssertionError {
    fn from(error: JwtError) -> Self {
        match error {
            JwtError::Issuer => Self::Issuer,
            JwtError::Audience => Self::Audience,
            other => Self::Jwt(other),
        }
    }
}

/// A service whose assertions are believed under one key and in no other name.
struct Peer {
    role: ServiceRole,
    key: TrustedKey,
    expected: Expected,
}

/// Verifies the assertions of services. Clones share the memory of those that were used.
#[derive(Clone)]
pub struct ServiceVerifier {
    inner: Arc<Inner>,
}

struct Inner {
    audience: Audience,
    peers: HashMap<String, Peer>,
    clock: Clock,
    started: Timestamp,
    used: Mutex<HashMap<String, i64>>,
}

impl std::fmt::Debug for ServiceVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceVerifier").field("audience", &self.inner.audience).finish_non_exhaustive()
    }
}

impl ServiceVerifier {
    /// For calls to `audience`, by the services whose `keys` the genesis names.
    #[must_use]
    pub fn new(audience: impl Into<Audience>, keys: &[(ServiceRole, VerifyingKey)], clock: Clock) -> Self {
        let audience = audience.into();
        let peers = keys.iter().filter_map(|(role, key)| {
            let key = TrustedKey::new(key).ok()?;
            let expected = Expected::new(role.code(), &[audience.code()], REQUIRED);
            Some((key.kid().to_owned(), Peer { role: *role, key, expected }))
        });
        let (peers, started) = (peers.collect(), clock.now());
        Self { inner: Arc::new(Inner { audience, peers, clock, started, used: Mutex::default() }) }
    }

    /// The service that shows itself as the reader of a request without a body.
    #[must_use]
    pub fn reader(&self, request: &HttpRequest) -> Option<ServiceRole> {
        let assertion = request.headers().get(READER_HEADER)?.to_str().ok()?;
        let path = request.uri().path_and_query().map_or("/", |both| both.as_str());
        self.verify(assertion, request.method().as_str(), path, b"").ok()
    }

    /// Checks an assertion against the request it came with, and remembers it.
    pub(crate) fn verify(
        &self,
        assertion: &str,
        method: &str,
        path_and_query: &str,
        body: &[u8],
    ) -> Result<ServiceRole, AssertionError> {
        let unverified = Unverified::parse(assertion, SERVICE_TYP)?;
        let peer = self.inner.peers.get(unverified.kid()).ok_or(AssertionError::UnknownKey)?;
        let claims: ServiceClaims = unverified.verify(&peer.key, &peer.expected)?;
        if claims.htm != method || claims.htu != path_and_query || claims.bh != Digest::of(body) {
            return Err(AssertionError::Request);
        }
        self.check_time(&claims)?;
        self.use_once(&claims)?;
        Ok(peer.role)
    }

    fn check_time(&self, claims: &ServiceClaims) -> Result<(), AssertionError> {
        let now = self.inner.clock.now().seconds();
        let expired = claims.exp.saturating_add(LEEWAY_SECONDS) <= now;
        let early = claims.iat.saturating_sub(LEEWAY_SECONDS) > now;
        let endless = claims.exp.saturating_sub(claims.iat) > SERVICE_SECONDS;
        // The memory of used assertions begins with this process: an older one may have been used before.
        let before_start = claims.iat < self.inner.started.seconds();
        if expired || early || endless || before_start { Err(AssertionError::Time) } else { Ok(()) }
    }

    fn use_once(&self, claims: &ServiceClaims) -> Result<(), AssertionError> {
        let now = self.inner.clock.now().seconds();
        let mut used = self.inner.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= REMEMBERED {
            used.retain(|_jti, exp| exp.saturating_add(LEEWAY_SECONDS) > now);
        }
        if used.len() >= REMEMBERED {
            tracing::error!("Too many service calls to remember: further ones are refused for a moment");
            return Err(AssertionError::Replay);
        }
        match used.insert(claims.jti.clone(), claims.exp) {
            None => Ok(()),
            Some(_) => Err(AssertionError::Replay),
        }
    }
}

/// The service whose assertion the edge verified, kept with the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VerifiedService(pub(crate) ServiceRole);

/// Which services may call an operation.
pub trait AllowedServices {
    /// Their roles.
    const ROLES: &'static [ServiceRole];
}

/// Any service of the deployment.
#[derive(Clone, Copy, Debug)]
pub struct AnyService;
/// auth alone.
#[derive(Clone, Copy, Debug)]
pub struct FromAuth;
/// access-policy alone.
#[derive(Clone, Copy, Debug)]
pub struct FromAccessPolicy;
/// storage alone.
#[derive(Clone, Copy, Debug)]
pub struct FromStorage;

impl AllowedServices for AnyService {
    const ROLES: &'static [ServiceRole] = ServiceRole::ALL;
}
impl AllowedServices for FromAuth {
    const ROLES: &'static [ServiceRole] = &[ServiceRole::Auth];
}
impl AllowedServices for FromAccessPolicy {
    const ROLES: &'static [ServiceRole] = &[ServiceRole::AccessPolicy];
}
impl AllowedServices for FromStorage {
    const ROLES: &'static [ServiceRole] = &[ServiceRole::Storage];
}

/// A service that proved itself for exactly this request.
#[derive(Clone, Copy, Debug)]
pub struct Service<A: AllowedServices> {
    /// Who calls.
    pub role: ServiceRole,
    allowed: PhantomData<A>,
}

impl<A: AllowedServices> FromRequest for Service<A> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let verified = request.extensions().get::<VerifiedService>().copied();
        ready(match verified {
            None => Err(Problem::new(Slug::Unauthenticated)),
            Some(VerifiedService(role)) if A::ROLES.contains(&role) => {
                Ok(Self { role, allowed: PhantomData })
            }
            Some(_) => Err(Problem::new(Slug::Forbidden).detail("this service may not do this")),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ed25519_dalek::SigningKey;
    use hbc_client::{ServiceCaller, jwt};
    use hbc_types::Random;

    use super::*;

    const PATH: &str = "/internal/v1/keys/unwrap?x=1";

    struct Setup {
        clock: Clock,
        caller: ServiceCaller,
        verifier: ServiceVerifier,
    }

    fn setup() -> Setup {
        let clock = Clock::fixed(Timestamp::from_ms(1_800_000_000_000));
        let (storage, auth) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        let keys =
            [(ServiceRole::Storage, storage.verifying_key()), (ServiceRole::Auth, auth.verifying_key())];
        Setup {
            caller: ServiceCaller::new(ServiceRole::Storage, storage, clock.clone(), Random::seeded(1)),
            verifier: ServiceVerifier::new(ServiceRole::AccessPolicy, &keys, clock.clone()),
            clock,
        }
    }

    #[test]
    fn the_request_it_was_made_for_is_accepted_once() {
        let s = setup();
        let assertion = s.caller.assertion(ServiceRole::AccessPolicy, "POST", PATH, b"body").unwrap();
        assert_eq!(s.verifier.verify(&assertion, "POST", PATH, b"body"), Ok(ServiceRole::Storage));
        assert_eq!(s.verifier.verify(&assertion, "POST", PATH, b"body"), Err(AssertionError::Replay));
    }

    #[test]
    fn any_other_request_is_refused() {
        let s = setup();
        let assertion = s.caller.assertion(ServiceRole::AccessPolicy, "POST", PATH, b"body").unwrap();
        let refused = Err(AssertionError::Request);
        assert_eq!(s.verifier.verify(&assertion, "PUT", PATH, b"body"), refused);
        assert_eq!(s.verifier.verify(&assertion, "POST", "/internal/v1/keys/unwrap?x=2", b"body"), refused);
        assert_eq!(s.verifier.verify(&assertion, "POST", "/internal/v1/keys/unwrap", b"body"), refused);
        assert_eq!(s.verifier.verify(&assertion, "POST", PATH, b"bodY"), refused);
        assert_eq!(s.verifier.verify(&assertion, "POST", PATH, b""), refused);
        let other = s.caller.assertion(ServiceRole::Auth, "POST", PATH, b"body").unwrap();
        assert_eq!(s.verifier.verify(&other, "POST", PATH, b"body"), Err(AssertionError::Audience));
    }

    #[test]
    fn time_is_checked_on_both_sides() {
        let s = setup();
        let assertion = s.caller.assertion(ServiceRole::AccessPolicy, "GET", PATH, b"").unwrap();
        s.clock.advance(Duration::from_secs(65));
        assert_eq!(s.verifier.verify(&assertion, "GET", PATH, b""), Err(AssertionError::Time));
        let restarted = ServiceVerifier::new(
            ServiceRole::AccessPolicy,
            &[(ServiceRole::Storage, SigningKey::from_bytes(&[1; 32]).verifying_key())],
            s.clock.clone(),
        );
        let old = s.caller.assertion(ServiceRole::AccessPolicy, "GET", PATH, b"").unwrap();
        assert!(restarted.verify(&old, "GET", PATH, b"").is_ok());
        s.clock.advance(Duration::from_secs(1));
        let before = s.caller.assertion(ServiceRole::AccessPolicy, "GET", PATH, b"").unwrap();
        s.clock.advance(Duration::from_secs(1));
        let restarted = ServiceVerifier::new(
            ServiceRole::AccessPolicy,
            &[(ServiceRole::Storage, SigningKey::from_bytes(&[1; 32]).verifying_key())],
            s.clock.clone(),
        );
        assert_eq!(restarted.verify(&before, "GET", PATH, b""), Err(AssertionError::Time));
    }

    #[test]
    fn no_service_speaks_for_another() {
        let s = setup();
        let auth = SigningKey::from_bytes(&[2; 32]);
        let forger = ServiceCaller::new(ServiceRole::Storage, auth, s.clock.clone(), Random::seeded(3));
        let forged = forger.assertion(ServiceRole::AccessPolicy, "GET", PATH, b"").unwrap();
        assert_eq!(s.verifier.verify(&forged, "GET", PATH, b""), Err(AssertionError::Issuer));
        let stranger = SigningKey::from_bytes(&[9; 32]);
        let stranger = ServiceCaller::new(ServiceRole::Storage, stranger, s.clock.clone(), Random::seeded(4));
        let strange = stranger.assertion(ServiceRole::AccessPolicy, "GET", PATH, b"").unwrap();
        assert_eq!(s.verifier.verify(&strange, "GET", PATH, b""), Err(AssertionError::UnknownKey));
    }

    #[test]
    fn a_users_token_is_no_assertion() {
        let s = setup();
        let key = SigningKey::from_bytes(&[1; 32]);
        let claims = serde_json::json!({"iss": "storage"});
        let token = jwt::sign("at+jwt", &key, &claims).unwrap();
        assert_eq!(s.verifier.verify(&token, "GET", PATH, b""), Err(AssertionError::Jwt(JwtError::Header)));
    }
}
