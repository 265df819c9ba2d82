//! Accounts, passwords, sessions, tokens, agency approval, custody of signing keys.
//!
//! auth owns who somebody is and how they prove it, and the signing keys of patients who leave them in its custody. It
//! decides nothing about records: it says who calls, tells access-policy how accounts stand, and signs what a patient
//! confirmed with a freshly typed password. What must always hold:
//!
//! - a seed in custody opens under a password or a recovery code only, never under a server key alone;
//! - a row that gives rights and was not written by this service is refused, with an alarm in the log;
//! - access-policy is told of suspensions and logouts until it has stored them;
//! - contact data never leaves auth's database.

pub mod app;
pub mod config;
pub mod domain;
pub mod error;
pub mod flows;
pub mod jobs;
pub mod ledger;
pub mod routes;
pub mod store;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hbc_chain::genesis::Genesis;
use hbc_client::{Endpoint, ServiceCaller};
use hbc_db::{Db, DbOptions, RowMac};
use hbc_service::{RateLimit, Readiness, Server, Tasks, TokenVerifier};
use hbc_types::account::ServiceRole;
use hbc_types::secret::Key32;
use hbc_types::{Clock, Random};

pub use config::Config;

use crate::app::{AccessPolicy, App, Keys};
use crate::domain::custody::{Cost, server_key};
use crate::domain::token::TokenIssuer;
use crate::flows::passwords::PasswordPool;
use crate::store::{MIGRATIONS, Rows, Store};

/// What tests set and production leaves alone.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
    /// Cost of password hashes.
    pub cost: Cost,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self { clock: Clock::system(), random: Random::system(), cost: Cost::STANDARD }
    }
}

/// The service, ready to answer.
#[derive(Debug)]
pub struct Application {
    server: Server,
    app: App,
}

impl Application {
    /// Opens the database, brings it up to date, makes the first operators, and listens.
    pub async fn build(config: Config) -> anyhow::Result<Self> {
        Self::build_in(config, Surroundings::default()).await
    }

    /// Like [`Application::build`] in surroundings of one's own.
    pub async fn build_in(config: Config, surroundings: Surroundings) -> anyhow::Result<Self> {
        hbc_service::telemetry::init(&config.telemetry)?;
        let db = open(&config).await?;
        let genesis = read_genesis(&config)?;
        let app = assemble(&config, &genesis, db, surroundings)?;
        if let Some(file) = &config.operators_file {
            flows::operators::import(&app, file).await?;
        }
        let token_key = config.token_key_file.signing_key()?.verifying_key();
        let verifier =
            TokenVerifier::with_keys(&config.issuer, &config.audience, &[token_key], app.clock.clone());
        let (tasks, readiness) = (Tasks::new(), Readiness::default());
        jobs::start(&app, &config, genesis, &tasks, &readiness)?;
        let server = Server::build("auth", &config.server, openapi(), routes::table, tasks)
            .state(app.clone())
            .tokens(verifier)
            .readiness(readiness)
            .bind()?;
        Ok(Self { server, app })
    }

    /// The port it listens on.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.server.port()
    }

    /// What its operations work with.
    #[must_use]
    pub const fn app(&self) -> &App {
        &self.app
    }

    /// Answers until `stop` resolves.
    pub async fn run_until_stopped(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        self.server.run_until_stopped(stop).await
    }
}

/// The OpenAPI document, from the same table that makes the routes.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    hbc_service::openapi::document(
        "HBC auth",
        "Accounts, sessions, agency approval, and custody of signing keys.",
        routes::table,
    )
}

/// Brings the database up to date and closes it again.
pub async fn migrate(config: &Config) -> anyhow::Result<()> {
    open(config).await?.close().await;
    Ok(())
}

async fn open(config: &Config) -> anyhow::Result<Db> {
    let db = Db::connect(&config.database_url, DbOptions::default()).await.context("auth's database")?;
    db.migrate(MIGRATIONS).await.context("auth's database")?;
    Ok(db)
}

fn read_genesis(config: &Config) -> anyhow::Result<Genesis> {
    let path = &config.genesis_file;
    let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(Genesis::parse(&bytes)?)
}

fn assemble(config: &Config, genesis: &Genesis, db: Db, surroundings: Surroundings) -> anyhow::Result<App> {
    let Surroundings { clock, random, cost } = surroundings;
    let service = config.service_key_file.signing_key()?;
    let rows_key = config.rows_key_file.key()?;
    let derived = |purpose: &str| -> anyhow::Result<Key32> { Ok(server_key(&rows_key, purpose)?) };
    let keys = Keys {
        service: service.clone(),
        refresh: derived("hbc/refresh-key/v1")?,
        factors: derived("hbc/factors-key/v1")?,
    };
    let caller = ServiceCaller::new(ServiceRole::Auth, service, clock.clone(), random.clone());
    let sign_ups =
        RateLimit::new(NonZeroU32::new(500).unwrap_or(NonZeroU32::MIN), Duration::from_millis(100));
    Ok(App {
        store: Store { db, rows: Rows::new(RowMac::new(derived("hbc/rows-key/v1")?)) },
        passwords: PasswordPool::new(&config.passwords, cost, random.clone())?,
        issuer: TokenIssuer::new(
            config.token_key_file.signing_key()?,
            config.issuer.clone(),
            config.audience.clone(),
        ),
        keys: Arc::new(keys),
        chain: genesis.chain_id()?,
        approvals: u32::try_from(genesis.parameters.approvals)?,
        access_policy: AccessPolicy { endpoint: Endpoint::new(&config.access_policy_url)?, caller },
        sessions: config.sessions.clone(),
        finality: hbc_client::ledger::Finality::default(),
        sign_ups: Arc::new(sign_ups),
        attempts: app::KeyedLocks::default(),
        pushing: app::KeyedLocks::default(),
        clock,
        random,
    })
}
