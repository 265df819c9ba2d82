//! Background loops: batches of receipts, the ledger (outbox and followed chain), sweeping.

use std::sync::Arc;
use std::time::Duration;

use hbc_client::ledger::{FinalBlock, Follower, Journal, JournalError, LedgerClient, OutboxDriver};
use hbc_service::{Readiness, Tasks};
use hbc_types::chain::proof::{Document, TransactionProof};
use hbc_types::outbox::{FollowPosition, OpenTransaction, SubmitOutcome};
use hbc_types::{Digest, Timestamp};

use crate::app::App;
use crate::config::Config;
use crate::error::Error;
use crate::flows;
use crate::store;

/// How often what is over is swept away.
const SWEEP: Duration = Duration::from_secs(30);
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
        if let Err(error) = flows::ledger::sweep(&app).await {
            tracing::error!(error = &error as &dyn std::error::Error, "Sweeping failed");
        }
        tokio::time::sleep(SWEEP).await;
    }
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
        Ok(flows::ledger::apply_block(&self.0, block, position).await?)
    }

    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<OpenTransaction>, JournalError> {
        Ok(hbc_db::outbox::due(self.0.db.reads(), now, limit).await?)
    }

    async fn record(&self, outcomes: Vec<SubmitOutcome>) -> Result<(), JournalError> {
        Ok(flows::ledger::record(&self.0, outcomes).await?)
    }
}
