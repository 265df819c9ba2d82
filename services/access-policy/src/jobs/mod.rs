//! Background loops: batches of receipts, the ledger (outbox and followed chain), sweeping.

use std::sync::Arc;
use std::time::Duration;

use hbc_chain::proof::{Document, TransactionProof};
use hbc_client::ledger::{
    ChainView, FinalBlock, Follower, Journal, JournalError, LedgerClient, OutboxDriver,
};
use hbc_service::{Readiness, Tasks};
use hbc_types::outbox::{FollowPosition, OpenTransaction, SubmitOutcome};
use hbc_types::{Digest, Timestamp};

use crate::app::App;
use crate::config::Config;
use crate::error::Error;
use crate::flows;
use crate::store;

/// How often what is over is swept away.
const SWEEP: Duration = Duration::from_secs(30);
/// How often the whole chain is compared with what stands here.
const AUDIT: Duration = Duration::from_secs(60 * 60);
/// Between two requests for blocks of that comparison.
const AUDIT_PAUSE: Duration = Duration::from_millis(50);
/// How often readiness is said anew.
const GLANCE: Duration = Duration::from_secs(2);

/// The ledger as this service needs it.
#[derive(Clone, Debug)]
pub struct Ledger {
    client: LedgerClient,
}

impl Ledger {
    /// A client of the configured nodes.
    pub fn new(config: &Config, app: &App) -> anyhow::Result<Self> {
        let client = LedgerClient::new(Arc::new(app.genesis.clone()), &config.ledger_urls)?;
        Ok(Self { client })
    }

    /// The proof of a final transaction, from whichever node answers. It is not verified yet: the caller verifies the
    /// whole document that it becomes part of.
    pub async fn proof(&self, txid: Digest) -> Result<TransactionProof, Error> {
        let bytes = self.client.proof(txid).await.map_err(Error::Ledger)?;
        match Document::parse(&bytes) {
            Ok(Document::Transaction(proof)) => Ok(proof),
            Ok(_) => Err(Error::Unverified("it is a proof of something else".to_owned())),
            Err(error) => Err(Error::Unverified(error.to_string())),
        }
    }
}

/// What a fresh database needs before the first request.
pub async fn prepare(app: &App) -> Result<(), Error> {
    let this = app.clone();
    app.db
        .write(move |db| Box::pin(async move { store::accounts::make_buckets(db, &this.seal).await }))
        .await?;
    flows::accounts::make_directory(app).await?;
    Ok(())
}

/// Starts the loops.
pub fn start(tasks: &Tasks, app: &App, ledger: &Ledger, readiness: &Readiness, batches: Duration) {
    let this = app.clone();
    tasks.spawn_supervised("receipt batches", move || gather(this.clone(), batches));
    let this = app.clone();
    tasks.spawn_supervised("sweeping", move || sweep(this.clone()));
    let (client, journal) = (ledger.client.clone(), LedgerJournal(app.clone()));
    let follower = Follower::new(client.clone(), journal.clone(), app.finality.clone());
    tasks.spawn_supervised("ledger follower", move || follower.clone().run());
    let driver = OutboxDriver::new(client, journal, app.finality.clone(), app.clock.clone());
    tasks.spawn_supervised("ledger outbox", move || driver.clone().run());
    let (this, client) = (app.clone(), ledger.client.clone());
    tasks.spawn_supervised("ledger audit", move || audit(this.clone(), client.clone()));
    let (this, readiness) = (app.clone(), readiness.clone());
    tasks.spawn_supervised("readiness", move || say_ready(this.clone(), readiness.clone()));
}

async fn gather(app: App, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        loop {
            match flows::log::gather_batch(&app).await {
                Ok(count) if count >= u64::from(crate::domain::receipts::BATCH_LEAVES) => {}
                Ok(_) => break,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "Receipts could not be gathered; they wait for the next batch");
                    break;
                }
            }
        }
    }
}

async fn sweep(app: App) {
    loop {
        if let Err(error) = crate::ledger::sweep(&app).await {
            tracing::error!(error = &error as &dyn std::error::Error, "Sweeping failed");
        }
        tokio::time::sleep(SWEEP).await;
    }
}

/// At start and hourly: every block that was applied is fetched and verified again, and its effects are looked for.
async fn audit(app: App, client: LedgerClient) {
    loop {
        match audit_once(&app, &client).await {
            Ok(0) => tokio::time::sleep(AUDIT).await,
            Ok(missing) => {
                tracing::error!(alarm = "restored_state", missing, "Rows here were older than the chain");
                tokio::time::sleep(AUDIT).await;
            }
            Err(error) => {
                tracing::warn!(error = %error, "The chain could not be compared to its end; it is tried again");
                tokio::time::sleep(SWEEP).await;
            }
        }
    }
}

/// Walks the chain from its beginning to the height that was applied; says how many effects were missing.
async fn audit_once(app: &App, client: &LedgerClient) -> anyhow::Result<u64> {
    let position = hbc_db::follow::position(app.db.reads(), &app.chain.to_string()).await?;
    let applied = position.map_or(0, |position| position.height);
    let mut view = ChainView::genesis(&app.genesis)?;
    let mut missing = 0;
    while view.height() < applied {
        let before = view.height();
        for node in 0..client.node_count() {
            let Ok(page) = client.blocks(node, view.height() + 1, 100).await else { continue };
            for block in page.blocks {
                // A node that gives another block gives nothing; the next one is asked.
                let Ok(block) = view.take(block) else { break };
                missing += crate::ledger::audit_block(app, &block).await?;
                if view.height() >= applied {
                    return Ok(missing);
                }
            }
        }
        anyhow::ensure!(view.height() > before, "no node gave the next blocks");
        tokio::time::sleep(AUDIT_PAUSE).await;
    }
    Ok(missing)
}

/// A ledger that does not answer makes nothing here unready: decisions go on, what waits for it waits.
async fn say_ready(app: App, readiness: Readiness) {
    loop {
        match flows::decide::consent_version(&app, &hbc_types::ids::PatientId::directory()).await {
            Ok(_) => readiness.set("database", true, "answers"),
            Err(_) => readiness.set("database", false, "does not answer as it should"),
        }
        let health = app.finality.health();
        let note =
            format!("{} of {} nodes answer, {} blocks behind", health.nodes_up, health.nodes, health.lag());
        readiness.set("ledger", true, note);
        tokio::time::sleep(GLANCE).await;
    }
}

/// This service's side of the ledger.
#[derive(Clone, Debug)]
pub struct LedgerJournal(pub App);

impl Journal for LedgerJournal {
    async fn position(&self) -> Result<Option<FollowPosition>, JournalError> {
        Ok(hbc_db::follow::position(self.0.db.reads(), &self.0.chain.to_string()).await?)
    }

    async fn apply(&self, block: &FinalBlock, position: FollowPosition) -> Result<(), JournalError> {
        Ok(crate::ledger::apply_block(&self.0, block, position).await?)
    }

    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<OpenTransaction>, JournalError> {
        Ok(hbc_db::outbox::due(self.0.db.reads(), now, limit).await?)
    }

    async fn record(&self, outcomes: Vec<SubmitOutcome>) -> Result<(), JournalError> {
        Ok(crate::ledger::record(&self.0, outcomes).await?)
    }
}
