//! The ledger: consensus on proof-of-work blocks, the rules of transactions, proofs, attack detection.
//!
//! A node owns one SQLite file, one write-ahead log and one member key. It promises a transaction only once
//! that is durable, votes only after its store was verified, and signs one text per height, round and step.
//! From the outside in: [`routes`] (HTTP), [`node`] (tasks), [`store`], [`wal`] and [`files`] (disk), [`peers`] (the
//! other members), [`domain`] (no I/O). Consensus is `hbc_consensus`, rules and chain are `hbc_chain`.

pub mod config;
pub mod domain;
pub mod files;
pub mod node;
pub mod peers;
pub mod routes;
pub mod store;
pub mod wal;

use std::sync::Arc;
use std::time::Duration;

pub use config::Config;
use hbc_service::{Readiness, Server, Tasks};
use hbc_types::Clock;
use hbc_types::wire::ledger::NodeState;
use node::Node;
use node::boot::Running;
use routes::stream::Audience;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};

/// A ledger node that listens.
pub struct Application {
    server: Server,
    running: Running,
    audience: Arc<Audience>,
}

impl Application {
    /// Opens the store, verifies it, starts the node and listens.
    pub async fn build(config: Config) -> anyhow::Result<Self> {
        Self::build_with(config, Clock::system()).await
    }

    /// The same by a clock of one's own.
    pub async fn build_with(config: Config, clock: Clock) -> anyhow::Result<Self> {
        let running = Running::start(&config, clock).await?;
        let readiness = Readiness::default();
        let tasks = Tasks::new();
        say_ready(&running.node, &readiness);
        tasks.spawn_supervised("readiness", {
            let (node, readiness) = (running.node.clone(), readiness.clone());
            move || keep_saying(node.clone(), readiness.clone())
        });
        let app = routes::App::new(running.node.clone(), &config);
        let audience = app.audience();
        let server = Server::build("ledger", &config.server, openapi(), routes::table, tasks)
            .state(app)
            .readiness(readiness)
            .ends_with_caller()
            .open_reads()
            .bind()?;
        Ok(Self { server, running, audience })
    }

    /// The port it listens on.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.server.port()
    }

    /// The node, for whoever runs it in the same process.
    #[must_use]
    pub fn node(&self) -> Arc<Node> {
        self.running.node.clone()
    }

    /// Answers until `stop` resolves, then stops the node.
    pub async fn run_until_stopped(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let audience = self.audience;
        let stop = async move {
            stop.await;
            // A stream has no end of its own: the server would wait for it.
            audience.close();
        };
        let outcome = self.server.run_until_stopped(stop).await;
        self.running.stop().await;
        outcome
    }
}

/// A node without a quorum is ready: it promises, and what it promised becomes final later.
fn say_ready(node: &Node, readiness: &Readiness) {
    let state = node.state();
    let note = match state {
        NodeState::Attacked => "attacked: the stored chain was changed",
        NodeState::Healing => "healing: the store is made anew",
        NodeState::Verifying => "verifying: the healed store is read again",
        NodeState::Suspect => "suspect: everything is being verified",
        NodeState::Healthy | NodeState::Syncing => "verified",
    };
    readiness.set("store", node.attack().is_none(), note);
    readiness.set("quorum", true, if node.sees_quorum() { "seen" } else { "not seen" });
}

async fn keep_saying(node: Arc<Node>, readiness: Readiness) {
    loop {
        say_ready(&node, &readiness);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// The service's OpenAPI document.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = hbc_service::openapi::document(
        "HBC ledger",
        "Signed transactions, blocks, checkpoints and proofs of one ledger node.",
        routes::table,
    );
    let signature = ApiKeyValue::with_description(
        "HBC-Member-Signature",
        "Signature of the member named in HBC-Member over chain, sender, receiver and body",
    );
    let scheme = SecurityScheme::ApiKey(ApiKey::Header(signature));
    document.components.get_or_insert_default().add_security_scheme("member", scheme);
    document
}

/// Opens the store once, which brings its tables up to date.
pub async fn migrate(config: &Config) -> anyhow::Result<()> {
    let data = files::DataFolder::open(&config.data_dir)?;
    let mac = node::loading::mac_key(config)?;
    store::Store::open(&data.database(), config.create_store, mac).await?.close().await?;
    Ok(())
}
