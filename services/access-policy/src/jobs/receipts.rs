//! Receipts that wait are gathered into batches, whose roots go on the ledger.

use crate::app::App;
use crate::domain::receipts::BATCH_LEAVES;
use crate::flows;

/// The loop.
pub async fn run(app: App) {
    loop {
        tokio::time::sleep(app.batch_interval).await;
        loop {
            match flows::log::gather_batch(&app).await {
                Ok(count) if count >= u64::from(BATCH_LEAVES) => {}
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
