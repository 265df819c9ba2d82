//! Background loops: batches of receipts, the ledger (outbox and followed chain), sweeping.

use std::time::Duration;

use hbc_service::{Readiness, Tasks};
use hbc_types::Digest;
use hbc_types::chain::proof::TransactionProof;

use crate::app::App;
use crate::config::Config;
use crate::error::Error;
use crate::flows;
use crate::store;

/// How often what is over is swept away.
const SWEEP: Duration = Duration::from_secs(30);

/// The ledger as this service needs it.
#[derive(Clone, Debug)]
pub struct Ledger;

impl Ledger {
    /// A client of the configured nodes.
    pub fn new(_config: &Config, _app: &App, _readiness: &Readiness) -> anyhow::Result<Self> {
        Ok(Self)
    }

    /// The proof of a final transaction, from whichever node answers.
    pub async fn proof(&self, _txid: Digest) -> Result<TransactionProof, Error> {
        Err(Error::NotFound)
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
pub fn start(tasks: &Tasks, app: &App, _ledger: &Ledger, batches: Duration) {
    let this = app.clone();
    tasks.spawn_supervised("receipt batches", move || gather(this.clone(), batches));
    let this = app.clone();
    tasks.spawn_supervised("sweeping", move || sweep(this.clone()));
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
