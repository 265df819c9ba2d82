//! How a service proves who it is to another: a 60-second assertion over one request.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use hbc_types::account::ServiceRole;
use hbc_types::wire::token::{Audience, SERVICE_SECONDS, SERVICE_TYP, ServiceClaims};
use hbc_types::{Clock, Digest, Random};

use crate::ClientError;
use crate::jwt::Signer;

/// Signs the calls of one service. Clones share the key.
#[derive(Clone)]
pub struct ServiceCaller {
    role: ServiceRole,
    signer: Arc<Signer>,
    clock: Clock,
    random: Random,
}

impl std::fmt::Debug for ServiceCaller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceCaller").field("role", &self.role).finish_non_exhaustive()
    }
}

impl ServiceCaller {
    /// A caller for `role` with its service key.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "the caller's copy of the key is wiped")]
    pub fn new(role: ServiceRole, key: SigningKey, clock: Clock, random: Random) -> Self {
        Self { role, signer: Arc::new(Signer::new(&key)), clock, random }
    }

    /// The service that calls.
    #[must_use]
    pub const fn role(&self) -> ServiceRole {
        self.role
    }

    /// The value of `HBC-Service` (of `HBC-Reader`, to the ledger) for one request to `audience`.
    pub fn assertion(
        &self,
        audience: impl Into<Audience>,
        method: &str,
        path_and_query: &str,
        body: &[u8],
    ) -> Result<String, ClientError> {
        let now = self.clock.now().seconds();
        let claims = ServiceClaims {
            iss: self.role,
            aud: audience.into(),
            htm: method.to_owned(),
            htu: path_and_query.to_owned(),
            bh: Digest::of(body),
            iat: now,
            exp: now + SERVICE_SECONDS,
            jti: hex::encode(self.random.bytes::<16>()),
        };
        self.signer.sign(SERVICE_TYP, &claims).map_err(|error| ClientError::BadCall(error.to_string()))
    }
}
