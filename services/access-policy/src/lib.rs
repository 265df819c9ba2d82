//! Access requests, grants, decisions, key hierarchy, receipts.
//!
//! access-policy decides who may do what with which records and gives out the keys to do it. It signs no consent and holds
//! no record. What must always hold:
//!
//! - a key leaves only in the transaction that durably wrote the receipt of it;
//! - nothing but a live, final grant that the patient signed opens a record to somebody else;
//! - a revocation, freeze or denial acts before its call returns;
//! - a row that gives or takes rights and was written by another hand is a denial and an alarm;
//! - every number of a record ends up final or void, so that a withheld record shows.
//!
//! `domain` decides and computes, `store` holds the SQL, `flows` puts them together in transactions, `routes` speaks HTTP,
//! `worker` runs in the background.

pub mod app;
pub mod config;
pub mod domain;
pub mod error;
pub mod flows;
pub mod routes;
pub mod store;
pub mod jobs;
pub mod ledger;

use std::future::Future;

use anyhow::Context as _;
use ed25519_dalek::VerifyingKey;
use hbc_chain::genesis::Genesis;
use hbc_client::Endpoint;
use hbc_client::ledger::Finality;
use hbc_db::{Db, DbOptions};
use hbc_service::{Readiness, Server, ServiceVerifier, Tasks, TokenVerifier};
use hbc_types::account::ServiceRole;
use hbc_types::{Clock, Random};
use utoipa::openapi::OpenApi;

pub use crate::config::Config;

use crate::app::{App, Core};
use crate::domain::keys::MasterKey;
use crate::domain::policy::PolicyEngine;
use crate::domain::rights::RightsSeal;
use crate::store::MIGRATIONS;
use crate::jobs::Ledger;

/// Largest JSON body that the key operations need.
const KEYS_JSON_BYTES: usize = 8 * 1024 * 1024;

/// The API's description.
#[must_use]
pub fn openapi() -> OpenApi {
    hbc_service::openapi::document(
        "HBC access-policy",
        "Access requests, grants, decisions, keys of records, and the patient's access log.",
        routes::table,
    )
}

/// Brings the database's schema up to date.
pub async fn migrate(config: &Config) -> anyhow::Result<()> {
    let db = Db::connect(&config.database_url, DbOptions::default()).await?;
    db.migrate(MIGRATIONS).await?;
    db.close().await;
    Ok(())
}

/// What tests set and production leaves alone.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
    /// Keys of users' tokens, given by hand instead of fetched from auth.
    pub token_keys: Option<Vec<VerifyingKey>>,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self { clock: Clock::system(), random: Random::system(), token_keys: None }
    }
}

/// The service, ready to answer.
#[derive(Debug)]
pub struct Application {
    server: Server,
    app: App,
}

impl Application {
    /// Opens the database, checks the policies, makes the directory, and listens.
    pub async fn build(config: Config) -> anyhow::Result<Self> {
        Self::build_in(config, Surroundings::default()).await
    }

    /// Like [`Application::build`] in surroundings of one's own.
    pub async fn build_in(config: Config, surroundings: Surroundings) -> anyhow::Result<Self> {
        hbc_service::telemetry::init(&config.telemetry)?;
        let db = Db::connect(&config.database_url, DbOptions::default()).await?;
        db.migrate(MIGRATIONS).await?;
        let genesis = read_genesis(&config)?;
        let app = assemble(&config, genesis, db, &surroundings)?;
        jobs::prepare(&app).await?;
        let (tasks, readiness) = (Tasks::new(), Readiness::default());
        let ledger = Ledger::new(&config, &app)?;
        jobs::start(&tasks, &app, &ledger, &readiness, config.batch_interval());
        // A request for 10,000 keys has some 3 MB.
        let mut settings = config.server.clone();
        settings.json_limit_bytes = settings.json_limit_bytes.max(KEYS_JSON_BYTES);
        let server = Server::build("access-policy", &settings, openapi(), routes::table, tasks)
            .state(app.clone())
            .state(ledger)
            .tokens(token_verifier(&config, &surroundings)?)
            .services(service_verifier(&app.genesis, surroundings.clock)?)
            .readiness(readiness)
            .bind()?;
        Ok(Self { server, app })
    }

    /// The port it listens on.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.server.port()
    }

    /// The state behind the routes; tests look at it.
    #[must_use]
    pub const fn app(&self) -> &App {
        &self.app
    }

    /// Answers until `stop` resolves; then what is under way ends, and the database is closed.
    pub async fn run_until_stopped(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let outcome = self.server.run_until_stopped(stop).await;
        self.app.db.close().await;
        outcome
    }
}

fn read_genesis(config: &Config) -> anyhow::Result<Genesis> {
    let file = std::fs::read(&config.genesis_file)
        .with_context(|| format!("cannot read `{}`", config.genesis_file.display()))?;
    Ok(Genesis::parse(&file)?)
}

fn assemble(config: &Config, genesis: Genesis, db: Db, surroundings: &Surroundings) -> anyhow::Result<App> {
    let service_key = config.service_key_file.signing_key()?;
    let own = hbc_types::keys::PublicKey::of(&service_key);
    anyhow::ensure!(
        genesis.service_keys(ServiceRole::AccessPolicy).any(|key| key == own),
        "the genesis does not name this service's key"
    );
    Ok(App::new(Core {
        db,
        engine: PolicyEngine::load()?,
        seal: RightsSeal::new(config.rows_key_file.key()?),
        master: MasterKey::new(&config.master_key_file.key()?),
        service_key,
        chain: genesis.chain_id()?,
        auth_keys: App::auth_keys_of(&genesis),
        genesis,
        clock: surroundings.clock.clone(),
        random: surroundings.random.clone(),
        finality: Finality::default(),
    }))
}

fn token_verifier(config: &Config, surroundings: &Surroundings) -> anyhow::Result<TokenVerifier> {
    let (issuer, audience, clock) = (&config.issuer, &config.audience, surroundings.clock.clone());
    match &surroundings.token_keys {
        Some(keys) => Ok(TokenVerifier::with_keys(issuer, audience, keys, clock)),
        None => Ok(TokenVerifier::from_auth(issuer, audience, Endpoint::new(&config.auth_url)?, clock)),
    }
}

fn service_verifier(genesis: &Genesis, clock: Clock) -> anyhow::Result<ServiceVerifier> {
    let mut keys = Vec::new();
    for service in &genesis.services {
        keys.push((service.role, VerifyingKey::from_bytes(service.key.as_bytes())?));
    }
    Ok(ServiceVerifier::new(ServiceRole::AccessPolicy, &keys, clock))
}
