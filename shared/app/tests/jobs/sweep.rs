//! Two sample periodic jobs.

use std::time::Duration;

use hbc_app::jobs::{JobError, Periodic};

use crate::App;

/// Looks every day, and whenever a process starts.
pub struct Audit;

impl Periodic for Audit {
    type App = App;
    const KIND: &'static str = "audit";
    const AT_START: bool = true;

    fn period(_app: &App) -> Duration {
        Duration::from_secs(86_400)
    }

    async fn run(app: &App) -> Result<(), JobError> {
        app.work("audit").await
    }
}

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
