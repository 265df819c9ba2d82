//! What every operation works with: the database, keys, passwords, neighbours, time and randomness.

mod devices;
pub mod key_fetches;
mod passwords;
mod store;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::Context as _;
use hbc_app::{Base, Gauge, ServiceState};
use hbc_client::Endpoint;
use hbc_client::outgoing::Outgoing;
use hbc_db::journal::Journal;
use hbc_db::{DbError, RowMac};
use hbc_service::RateLimit;
use hbc_types::ids::{AccountId, ClientId, OAuthClientId};
use hbc_types::secret::Key32;
use hbc_types::wire::oauth::AuthorizationServer;

use crate::config::{AppSettings, Config, SessionSettings, WebauthnSettings};
use crate::domain::custody::{Cost, server_key};
use crate::domain::floors::KINDS;
use crate::domain::token::TokenIssuer;
use crate::domain::webauthn::RelyingParty;
use crate::store::Rows;
use devices::DeviceLimits;
use key_fetches::KeyFetches;
use passwords::PasswordPool;
use store::Store;

/// The service's state. Clones share it.
#[derive(Clone)]
pub struct App(Arc<Core>);

/// What an [`App`] shares.
pub struct Core {
    /// What every service stands on.
    pub base: Base,
    /// The database and the key that encrypts its rows.
    pub store: Store,
    /// Password hashing.
    pub passwords: PasswordPool,
    /// Access tokens.
    pub issuer: TokenIssuer,
    /// What everybody may know of it, made once.
    pub metadata: AuthorizationServer,
    /// Keys that never leave the process.
    pub keys: Keys,
    /// Operators that an approval needs.
    pub approvals: u32,
    /// Where access-policy answers.
    pub access_policy: Endpoint,
    /// How long sessions live.
    pub sessions: SessionSettings,
    /// Where patients answer apps, and what the apps are let in to; absent: nowhere.
    pub apps: Option<AppSettings>,
    /// For whom passkeys are made.
    pub relying_party: Option<RelyingParty>,
    /// Sign-ups by address.
    pub sign_ups: RateLimit<String>,
    /// Challenges for signing in with a passkey, by address.
    pub challenges: RateLimit<String>,
    /// Tokens of clients: each is a session for five minutes, which whoever ends them all must end.
    pub client_tokens: RateLimit<ClientId>,
    /// Whatever clients ask for.
    pub client_requests: RateLimit<OAuthClientId>,
    /// Asks addresses that others chose.
    pub outgoing: Outgoing,
    /// Addresses of keys that one account registers, or tries to.
    pub key_addresses: RateLimit<AccountId>,
    /// Fetches of keys that were registered so.
    pub key_fetches: KeyFetches,
    /// What devices ask for.
    pub devices: DeviceLimits,
    /// One password check at a time for an account from an address.
    pub attempts: KeyedLocks,
}

impl std::ops::Deref for App {
    type Target = Core;
    fn deref(&self) -> &Core {
        &self.0
    }
}

impl std::ops::Deref for Core {
    type Target = Base;
    fn deref(&self) -> &Base {
        &self.base
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("base", &self.base).finish_non_exhaustive()
    }
}

impl ServiceState for App {
    async fn gauges(&self) -> Result<Vec<Gauge>, DbError> {
        Ok(vec![
            ("hbc_rights_floors", self.store.journal.floors().len() as u64),
            ("hbc_client_keys_unfetched", self.key_fetches.failing()),
        ])
    }
}

impl App {
    /// Reads the keys that stand outside the database.
    pub fn open(config: &Config, base: Base, cost: Cost) -> anyhow::Result<Self> {
        let rows_key = config.rows_key_file.key()?;
        let derived = |purpose: &str| -> anyhow::Result<Key32> { Ok(server_key(&rows_key, purpose)?) };
        let settings = &config.base;
        let macs = RowMac::new(derived("hbc/rows-key/v1")?);
        let journal = Journal::open(&config.journal_file, macs.clone(), KINDS, base.clock.now())?;
        Ok(Self(Arc::new(Core {
            store: Store { db: base.db.clone(), rows: Rows::new(macs, journal.floors().clone()), journal },
            passwords: PasswordPool::new(&config.passwords, cost, base.random.clone())?,
            issuer: TokenIssuer::new(
                config.token_key_file.signing_key()?,
                config.token_keys()?,
                settings.issuer.clone(),
                settings.audience.clone(),
            ),
            metadata: AuthorizationServer::at(
                &settings.issuer,
                config.apps.as_ref().map(|apps| apps.page.as_str()),
            ),
            keys: Keys { refresh: derived("hbc/refresh-key/v1")?, factors: derived("hbc/factors-key/v1")? },
            approvals: u32::try_from(base.genesis.parameters.approvals)?,
            access_policy: Endpoint::new(&config.access_policy_url)?,
            sessions: config.sessions.clone(),
            apps: config.apps.clone(),
            relying_party: relying_party(config.webauthn.as_ref())?,
            sign_ups: RateLimit::new(SIGN_UPS, Duration::from_millis(100)),
            challenges: RateLimit::new(CHALLENGES, Duration::from_millis(200)),
            client_tokens: RateLimit::new(CLIENT_TOKENS, Duration::from_secs(2)),
            client_requests: RateLimit::new(CLIENT_REQUESTS, Duration::from_millis(20)),
            outgoing: Outgoing::new(&config.outgoing)
                .context("the section `outgoing` of the configuration")?,
            key_addresses: RateLimit::new(KEY_ADDRESSES, ADDRESS_EVERY),
            key_fetches: KeyFetches::default(),
            devices: DeviceLimits::default(),
            attempts: KeyedLocks::default(),
            base,
        })))
    }
}

fn relying_party(settings: Option<&WebauthnSettings>) -> anyhow::Result<Option<RelyingParty>> {
    let party = settings.map(|settings| RelyingParty::new(&settings.rp_id, &settings.origins));
    party.transpose().context("the section `webauthn` of the configuration")
}

/// Sign-ups from one address before it must wait.
const SIGN_UPS: NonZeroU32 = match NonZeroU32::new(500) {
    Some(sign_ups) => sign_ups,
    None => NonZeroU32::MIN,
};

/// Challenges for one address at once; then five a second.
const CHALLENGES: NonZeroU32 = NonZeroU32::MIN.saturating_add(299);

/// Tokens of one client at once; then one in two seconds.
const CLIENT_TOKENS: NonZeroU32 = NonZeroU32::MIN.saturating_add(19);

/// Requests of one client at once; then fifty a second.
const CLIENT_REQUESTS: NonZeroU32 = NonZeroU32::MIN.saturating_add(199);

/// When somebody who named many addresses may name the next one.
pub const ADDRESS_EVERY: Duration = Duration::from_secs(10);
/// Addresses of keys from one account at once; then one in ten seconds.
const KEY_ADDRESSES: NonZeroU32 = NonZeroU32::MIN.saturating_add(29);

/// Keys that never leave the process.
pub struct Keys {
    /// Derives successors of refresh tokens.
    pub refresh: Key32,
    /// Encrypts second factors.
    pub factors: Key32,
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
