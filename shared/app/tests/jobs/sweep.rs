//! A sample periodic job.

use std::time::Duration;

use hbc_app::jobs::{JobError, Periodic};

use crate::App;

/// Sweeps every hour.
pub struct Sweep;

impl Periodic for Sweep {
    type App = App;
    const KIND: &'static str = "sweep";

    fn period(_app: &App) -> Duration {
        Duration::from_secs(3600)
    }

    async fn run(app: &App) -> Result<(), JobError> {
        app.work("sweep").await
    }
}
