//! What every operation works with. Cloning shares everything.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ed25519_dalek::SigningKey;
use hbc_client::ledger::Finality;
use hbc_client::{Endpoint, ServiceCaller};
use hbc_service::RateLimit;
use hbc_types::secret::Key32;
use hbc_types::{Clock, Digest, Random};

use crate::config::SessionSettings;
use crate::domain::token::TokenIssuer;
use crate::flows::passwords::PasswordPool;
use crate::store::Store;

/// The state of the service.
#[derive(Clone, Debug)]
pub struct App {
    /// The database.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
    /// Password hashing.
    pub passwords: PasswordPool,
    /// Access tokens.
    pub issuer: TokenIssuer,
    /// Keys that never leave the process.
    pub keys: Arc<Keys>,
    /// The chain's id.
    pub chain: Digest,
    /// Operators that an approval needs.
    pub approvals: u32,
    /// access-policy.
    pub access_policy: AccessPolicy,
    /// How long sessions live.
    pub sessions: SessionSettings,
    /// Settlements and health of the ledger.
    pub finality: Finality,
    /// Sign-ups by address.
    pub sign_ups: Arc<RateLimit<String>>,
    /// One password check at a time for an account from an address.
    pub attempts: KeyedLocks,
    /// One conversation with access-policy at a time about a subject.
    pub pushing: KeyedLocks,
}

/// Keys that never leave the process.
pub struct Keys {
    /// The service key: signs ledger transactions.
    pub service: SigningKey,
    /// Derives successors of refresh tokens.
    pub refresh: Key32,
    /// Seals second factors.
    pub factors: Key32,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(…)")
    }
}

/// How to reach access-policy.
#[derive(Clone, Debug)]
pub struct AccessPolicy {
    /// Where.
    pub endpoint: Endpoint,
    /// As whom.
    pub caller: ServiceCaller,
}

/// Locks by name; a name nobody holds or waits for takes no memory for long.
#[derive(Clone, Debug, Default)]
pub struct KeyedLocks {
    locks: Arc<Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>>,
}

/// Names kept before the unused ones are thrown out.
const NAMES: usize = 1024;

impl KeyedLocks {
    /// Waits for the lock of `name`; it is free again when the guard goes away.
    pub async fn lock(&self, name: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            if locks.len() > NAMES {
                locks.retain(|_name, lock| lock.strong_count() > 0);
            }
            match locks.get(name).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::new(tokio::sync::Mutex::new(()));
                    locks.insert(name.to_owned(), Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}
