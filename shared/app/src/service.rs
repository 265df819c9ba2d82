//! A service from its configuration to its end: opened, its loops started, served, stopped.

use std::future::Future;
use std::time::Duration;

use ed25519_dalek::VerifyingKey;
use hbc_client::Endpoint;
use hbc_client::ledger::{Follower, OutboxDriver};
use hbc_db::Migration;
use hbc_service::{Readiness, Routes, Server, ServerBuilder, Tasks, TokenVerifier};
use hbc_types::Clock;
use hbc_types::account::ServiceRole;
use utoipa::openapi::OpenApi;

use crate::base::open_database;
use crate::gauges::Gauges;
use crate::jobs::{Jobs, Runner};
use crate::retention::Retention;
use crate::state::ServiceState;
use crate::{Base, LedgerEvents, LedgerJournal, Settings, Surroundings, health};

/// A service's configuration: [`Settings`] and what is its own.
pub trait Configuration: Send + Sync + 'static {
    /// What every service is told.
    fn base(&self) -> &Settings;
}

/// Whose signatures make access tokens valid.
#[derive(Clone, Debug)]
pub enum TokenKeys {
    /// These keys': auth itself knows them.
    Known(Vec<VerifyingKey>),
    /// Those in the key set that auth serves at this address.
    Auth(String),
}

/// A service, as a list of what it consists of.
pub trait Service: Sized + 'static {
    /// Its name in logs and metrics.
    const NAME: &'static str;
    /// As whom it signs.
    const ROLE: ServiceRole;
    /// Title of its API's description.
    const TITLE: &'static str;
    /// What its API is for, in a sentence.
    const ABOUT: &'static str;
    /// Its schema, step by step.
    const MIGRATIONS: &'static [Migration];
    /// Its configuration.
    type Config: Configuration;
    /// What it lets tests replace.
    type Parts: Default + Send;
    /// Its state, for handlers and jobs.
    type App: ServiceState;
    /// What transactions of the ledger mean to it.
    type Events: LedgerEvents;

    /// Its routes.
    fn routes(table: &mut Routes<'_>);

    /// Whose signatures make its users' tokens valid.
    fn tokens(config: &Self::Config) -> anyhow::Result<TokenKeys>;

    /// Makes its state, once, and what a fresh database needs before the first request. No neighbour needs to be up.
    fn open(
        config: &Self::Config,
        base: Base,
        parts: Self::Parts,
    ) -> impl Future<Output = anyhow::Result<Self::App>>;

    /// What transactions of the ledger mean to it.
    fn events(app: &Self::App) -> Self::Events;

    /// Its durable and periodic jobs, a line for each.
    fn jobs() -> Jobs<Self::App>;

    /// What is special about how it is served.
    fn serve(server: ServerBuilder) -> ServerBuilder {
        server
    }
}

/// The service, ready to answer.
pub struct Application<S: Service> {
    server: Server,
    tasks: Tasks,
    base: Base,
    app: S::App,
    runner: Runner<S::App>,
}

impl<S: Service> std::fmt::Debug for Application<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Application");
        out.field("service", &S::NAME).field("port", &self.server.port()).finish_non_exhaustive()
    }
}

impl<S: Service> Application<S> {
    /// Opens everything, starts the loops and listens, without answering yet. No neighbour needs to be up.
    pub async fn build(config: S::Config) -> anyhow::Result<Self> {
        Self::build_in(config, Surroundings::default()).await
    }

    /// Like [`Application::build`] in surroundings of one's own.
    pub async fn build_in(config: S::Config, surroundings: Surroundings<S::Parts>) -> anyhow::Result<Self> {
        let Surroundings { clock, random, token_keys, glance, parts } = surroundings;
        let settings = config.base();
        hbc_service::telemetry::init(&settings.telemetry)?;
        let base = Base::open(S::ROLE, settings, S::MIGRATIONS, clock, random).await?;
        let app = S::open(&config, base.clone(), parts).await?;
        let (tasks, readiness) = (Tasks::new(), Readiness::default());
        start(&base, S::events(&app), glance, &tasks, &readiness);
        let runner = start_own::<S>(&base, &app, &tasks, &readiness)?;
        let keys = token_keys.map_or_else(|| S::tokens(&config), |keys| Ok(TokenKeys::Known(keys)))?;
        let server = Server::build(S::NAME, &settings.server, openapi::<S>(), S::routes, tasks.clone())
            .state(app.clone())
            .tokens(token_verifier(settings, keys, base.clock.clone())?)
            .services(base.service_verifier()?)
            .readiness(readiness);
        let server = S::serve(server).bind()?;
        Ok(Self { server, tasks, base, app, runner })
    }

    /// The port it listens on.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.server.port()
    }

    /// What its operations work with.
    #[must_use]
    pub const fn app(&self) -> &S::App {
        &self.app
    }

    /// Its loops.
    #[must_use]
    pub const fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Its side of the ledger.
    #[must_use]
    pub fn journal(&self) -> LedgerJournal<S::Events> {
        LedgerJournal::new(&self.base, S::events(&self.app))
    }

    /// Answers until `stop` resolves; then what is under way ends, the loops stop, and the database is closed.
    pub async fn run_until_stopped(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let outcome = self.server.run_until_stopped(stop).await;
        if let Err(error) = self.runner.release().await {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "Jobs under way could not be given back; their leases will run out");
        }
        self.base.db.close().await;
        outcome
    }
}

/// The service's API, from the same table that makes its routes.
#[must_use]
pub fn openapi<S: Service>() -> OpenApi {
    hbc_service::openapi::document(S::TITLE, S::ABOUT, S::routes)
}

/// Brings the service's database to the present schema, and closes it again.
pub async fn migrate<S: Service>(config: &S::Config) -> anyhow::Result<()> {
    open_database(config.base(), S::MIGRATIONS).await?.close().await;
    Ok(())
}

/// Starts what every service has. Nothing here waits for a neighbour: each loop tries until it gets through.
fn start<E: LedgerEvents>(base: &Base, events: E, glance: Duration, tasks: &Tasks, readiness: &Readiness) {
    let journal = LedgerJournal::new(base, events);
    let follower = Follower::new(base.ledger.clone(), journal.clone(), base.finality.clone());
    tasks.spawn_supervised("ledger follower", move || follower.clone().run());
    let driver = OutboxDriver::new(base.ledger.clone(), journal, base.finality.clone(), base.clock.clone());
    tasks.spawn_supervised("ledger outbox", move || driver.clone().run());
    let (finality, parts) = (base.finality.clone(), readiness.clone());
    tasks.spawn_supervised("ledger health", move || health::say_ledger(finality.clone(), parts.clone()));
    let (this, parts) = (base.clone(), readiness.clone());
    tasks.spawn_supervised("database health", move || {
        health::say_database(this.clone(), glance, parts.clone())
    });
}

/// Starts what does the service's jobs, what measures it, and what is its own.
fn start_own<S: Service>(
    base: &Base,
    app: &S::App,
    tasks: &Tasks,
    readiness: &Readiness,
) -> anyhow::Result<Runner<S::App>> {
    let jobs = S::jobs().own::<Retention>((base.db.clone(), base.clock.clone()));
    let runner = Runner::new(base.queue.clone(), app.clone(), jobs, base.random.clone())?;
    let this = runner.clone();
    tasks.spawn_supervised("jobs", move || this.clone().run());
    let (gauges, state) = (Gauges::new(base), app.clone());
    tasks.spawn_supervised("gauges", move || gauges.clone().run(state.clone()));
    let (state, readiness) = (app.clone(), readiness.clone());
    tasks.spawn_supervised("service health", move || health::say_parts(state.clone(), readiness.clone()));
    app.tasks(tasks);
    Ok(runner)
}

fn token_verifier(settings: &Settings, keys: TokenKeys, clock: Clock) -> anyhow::Result<TokenVerifier> {
    let (issuer, audience) = (&settings.issuer, &settings.audience);
    Ok(match keys {
        TokenKeys::Known(keys) => TokenVerifier::with_keys(issuer, audience, &keys, clock),
        TokenKeys::Auth(url) => TokenVerifier::from_auth(issuer, audience, Endpoint::new(&url)?, clock),
    })
}
