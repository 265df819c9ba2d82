//! Storage: records as sealed bytes on IPFS, anchored on the ledger, served as FHIR R4 and as they were received.
//!
//! It owns records, segments, the search index and the spool. It holds ciphertext and wrapped keys and can read nothing
//! alone: every key comes from access-policy, with a decision and a receipt. What must always hold:
//!
//! - Received bytes are never re-written; FHIR's changes lie over them ([`domain::overlay`]).
//! - Nothing leaves before the row's seal, the slice's hash, the record's seal and its commitment verified (`read`).
//! - An upload is acknowledged when it is sealed, pinned and committed, or not at all (`upload`, `worker`).
//! - The database names nobody and no diagnosis ([`domain::index`]).
//!
//! `routes` speaks HTTP, `store` SQL, `domain` neither.

mod app;
pub mod config;
pub mod domain;
mod error;
mod flows;
mod jobs;
mod ledger;
mod routes;
pub mod store;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hbc_chain::genesis::Genesis;
use hbc_client::ledger::{Finality, Follower, LedgerClient, OutboxDriver};
use hbc_client::{Endpoint, ServiceCaller};
use hbc_db::{Db, DbOptions};
use hbc_service::{Readiness, Server, Tasks, TokenVerifier};
use hbc_types::account::ServiceRole;
use hbc_types::{Clock, Random};
use tokio::sync::Notify;
use utoipa::openapi::OpenApi;

use crate::app::{App, UnderWay};
pub use crate::config::Config;
use crate::domain::index::IndexKey;
use crate::flows::policy::Policy;
use crate::ledger::Anchors;
use crate::store::blob::BlobStore;
use crate::store::blob::kubo::Kubo;
use crate::store::spool::Spool;
use crate::store::{MIGRATIONS, Store};

/// The service, listening.
pub struct Application {
    server: Server,
    db: Db,
}

impl std::fmt::Debug for Application {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Application").field("port", &self.server.port()).finish_non_exhaustive()
    }
}

/// The OpenAPI document, from the route table.
#[must_use]
pub fn openapi() -> OpenApi {
    hbc_service::openapi::document(
        "HBC storage",
        "Records: FHIR R4 resources and documents, sealed, on IPFS, anchored on the ledger.",
        routes::table,
    )
}

/// Brings the database to the present schema.
pub async fn migrate(config: &Config) -> anyhow::Result<()> {
    let db = open_database(config).await?;
    db.close().await;
    Ok(())
}

async fn open_database(config: &Config) -> anyhow::Result<Db> {
    let address = match &config.database_file {
        Some(file) => file.text()?.expose().to_owned(),
        None => config.database.clone(),
    };
    let db =
        Db::connect(&address, DbOptions::default()).await.context("storage's database cannot be opened")?;
    db.migrate(MIGRATIONS).await.context("storage's database cannot be brought to the present schema")?;
    Ok(db)
}

impl Application {
    /// Opens everything and listens, without answering yet. No neighbour needs to be up.
    pub async fn build(config: Config) -> anyhow::Result<Self> {
        let kubo = Kubo::new(
            &config.kubo.url,
            &config.kubo.user,
            config.kubo.token_file.text()?,
            Duration::from_secs(config.kubo.timeout_seconds),
            config.kubo.calls,
        )?;
        Self::build_with(config, Arc::new(kubo), Clock::system(), Random::system()).await
    }

    /// Like [`Application::build`], on a block store, a clock and randomness of the caller's.
    pub async fn build_with(
        config: Config,
        blobs: Arc<dyn BlobStore>,
        clock: Clock,
        random: Random,
    ) -> anyhow::Result<Self> {
        hbc_service::telemetry::init(&config.telemetry)?;
        let db = open_database(&config).await?;
        let (tasks, readiness) = (Tasks::new(), Readiness::default());
        let app = state(&config, db.clone(), blobs, clock.clone(), random)?;
        start(&tasks, &readiness, &config, &app);
        let auth = Endpoint::new(&config.auth_url)?;
        let tokens = TokenVerifier::from_auth(&config.issuer, &config.audience, auth, clock);
        let server = Server::build("storage", &config.server, openapi(), routes::table, tasks)
            .state(app)
            .tokens(tokens)
            .readiness(readiness)
            .dialect(routes::fhir_dialect())
            .bind()?;
        Ok(Self { server, db })
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Serves until `stop` resolves, then finishes what is under way.
    pub async fn run_until_stopped(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let outcome = self.server.run_until_stopped(stop).await;
        self.db.close().await;
        outcome
    }
}

fn state(
    config: &Config,
    db: Db,
    blobs: Arc<dyn BlobStore>,
    clock: Clock,
    random: Random,
) -> anyhow::Result<App> {
    let file = std::fs::read(&config.genesis_file)
        .with_context(|| format!("cannot read `{}`", config.genesis_file.display()))?;
    let genesis = Genesis::parse(&file)?;
    let signer = config.service_key_file.signing_key()?;
    let caller = ServiceCaller::new(ServiceRole::Storage, signer.clone(), clock.clone(), random.clone());
    Ok(App {
        store: Store::new(db),
        blobs,
        spool: Spool::open(config.spool_dir.clone()).context("the spool cannot be opened")?,
        policy: Policy::new(&config.access_policy_url, caller)?,
        index: IndexKey::new(&config.index_key_file.key()?),
        signer: Arc::new(signer),
        chain: genesis.chain_id()?,
        finality: Finality::default(),
        ledger: LedgerClient::new(Arc::new(genesis), &config.ledger_urls)?,
        stir: Arc::new(Notify::new()),
        under_way: UnderWay::default(),
        clock,
        random,
    })
}

/// Starts the background loops.
fn start(tasks: &Tasks, readiness: &Readiness, config: &Config, app: &App) {
    let journal = Anchors::new(app.clone());
    let follower = Follower::new(app.ledger.clone(), journal.clone(), app.finality.clone());
    tasks.spawn_supervised("ledger follower", move || follower.clone().run());
    let driver = OutboxDriver::new(app.ledger.clone(), journal, app.finality.clone(), app.clock.clone());
    tasks.spawn_supervised("ledger outbox", move || driver.clone().run());
    tasks.spawn_supervised("schemas", || async {
        if app::blocking(domain::validation::warm_up).await.is_err() {
            tracing::error!("The FHIR schemas cannot be compiled: uploads will be refused");
        }
        std::future::pending::<()>().await;
    });
    let (app, settings, readiness) = (app.clone(), config.reconcile.clone(), readiness.clone());
    tasks.spawn_supervised("reconcile", move || {
        jobs::reconcile(app.clone(), settings.clone(), readiness.clone())
    });
}
