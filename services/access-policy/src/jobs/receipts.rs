//! Receipts that wait are gathered into batches, whose roots go on the ledger.

use std::time::Duration;

use hbc_app::jobs::{JobError, Periodic};

use crate::app::App;
use crate::domain::receipts::BATCH_LEAVES;
use crate::flows;

/// Gathers what waits.
pub struct Gather;

impl Periodic for Gather {
    type App = App;
    const KIND: &'static str = "receipts.gather";

    fn period(app: &App) -> Duration {
        app.batch_interval
    }

    async fn run(app: &App) -> Result<(), JobError> {
        // A full batch means that more may wait.
        while flows::log::gather_batch(app).await? >= u64::from(BATCH_LEAVES) {}
        Ok(())
    }
}
