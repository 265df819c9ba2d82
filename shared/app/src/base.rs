//! Opening what every service stands on: database, genesis, keys, the ledger's nodes, time and randomness.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ed25519_dalek::{SigningKey, VerifyingKey};
use hbc_chain::genesis::Genesis;
use hbc_client::ServiceCaller;
use hbc_client::ledger::{Finality, LedgerClient};
use hbc_db::{Db, DbOptions, Migration, Schema};
use hbc_service::ServiceVerifier;
use hbc_service::config::SecretFile;
use hbc_types::account::ServiceRole;
use hbc_types::keys::PublicKey;
use hbc_types::{Clock, Digest, Random};

use crate::Settings;
use crate::jobs::Queue;

/// What tests set and production leaves alone; `parts` is what one service lets them replace beyond that.
#[derive(Clone, Debug)]
pub struct Surroundings<P = ()> {
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
    /// Keys of users' tokens, given by hand instead of fetched from auth.
    pub token_keys: Option<Vec<VerifyingKey>>,
    /// How often the database is looked at.
    pub glance: Duration,
    /// What this service lets tests replace.
    pub parts: P,
}

impl<P: Default> Default for Surroundings<P> {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            random: Random::system(),
            token_keys: None,
            glance: GLANCE,
            parts: P::default(),
        }
    }
}

/// How often the database and the parts are asked.
pub(crate) const GLANCE: Duration = Duration::from_secs(2);

/// What every service stands on. Clones share it.
#[derive(Clone)]
pub struct Base {
    /// The database, migrated.
    pub db: Db,
    /// What it consisted of then.
    pub(crate) schema: Arc<Schema>,
    /// Says whether what is owed was done.
    pub queue: Queue,
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
    /// Where the chain began.
    pub genesis: Arc<Genesis>,
    /// The chain's id.
    pub chain: Digest,
    /// This service's signing key.
    pub service_key: Arc<SigningKey>,
    /// Calls other services in this service's name.
    pub caller: ServiceCaller,
    /// The ledger's nodes.
    pub ledger: LedgerClient,
    /// How the ledger stands, who waits for transactions; wakes the loop that sends them.
    pub finality: Finality,
}

impl std::fmt::Debug for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Base").field("chain", &self.chain).finish_non_exhaustive()
    }
}

impl Base {
    /// Opens everything for the service of `role`. No neighbour needs to be up.
    pub(crate) async fn open(
        role: ServiceRole,
        settings: &Settings,
        migrations: &[Migration],
        clock: Clock,
        random: Random,
    ) -> anyhow::Result<Self> {
        let genesis = settings.genesis()?;
        let service_key = settings.service_key_file.signing_key()?;
        let own = PublicKey::of(&service_key);
        anyhow::ensure!(
            genesis.service_keys(role).any(|key| key == own),
            "the genesis does not name the key in `{}` as this service's",
            settings.service_key_file.path().display()
        );
        let genesis = Arc::new(genesis);
        let db = open_database(settings, migrations).await?;
        let caller = ServiceCaller::new(role, service_key.clone(), clock.clone(), random.clone());
        let schema = Schema::read(&db).await.context("the database cannot be looked at")?;
        Ok(Self {
            queue: Queue::new(db.clone(), clock.clone()),
            schema: Arc::new(schema),
            db,
            chain: genesis.chain_id()?,
            ledger: LedgerClient::of_service(Arc::clone(&genesis), &settings.ledger_urls, caller.clone())?,
            genesis,
            caller,
            service_key: Arc::new(service_key),
            finality: Finality::default(),
            clock,
            random,
        })
    }

    /// Refuses a key that is not the one with which the database was begun: under another nothing would open, and
    /// everything seem changed.
    pub async fn check_key(&self, name: &'static str, file: &SecretFile) -> anyhow::Result<()> {
        let checked = hbc_db::key_check::check(&self.db, name, &file.key()?).await;
        checked.with_context(|| format!("the key in `{}`", file.path().display()))
    }

    /// Verifies what other services say: their keys stand in the genesis.
    pub(crate) fn service_verifier(&self) -> anyhow::Result<ServiceVerifier> {
        let mut keys = Vec::new();
        for service in &self.genesis.services {
            keys.push((service.role, VerifyingKey::from_bytes(service.key.as_bytes())?));
        }
        Ok(ServiceVerifier::new(self.caller.role(), &keys, self.clock.clone()))
    }
}

/// Opens the database and brings it to the present schema.
pub(crate) async fn open_database(settings: &Settings, migrations: &[Migration]) -> anyhow::Result<Db> {
    let url = settings.database_url()?;
    let db =
        Db::connect(url.expose(), DbOptions::default()).await.context("the database cannot be opened")?;
    db.migrate(migrations).await.context("the database cannot be brought to the present schema")?;
    Ok(db)
}
