//! Old sessions are forgotten.

use std::time::Duration;

use hbc_app::jobs::{JobError, Periodic};

use crate::app::App;
use crate::flows::sessions;

/// Forgets sessions that have been over for long.
pub struct Prune;

impl Periodic for Prune {
    type App = App;
    const KIND: &'static str = "forget.sessions";

    fn period(_app: &App) -> Duration {
        Duration::from_secs(3600)
    }

    async fn run(app: &App) -> Result<(), JobError> {
        Ok(sessions::prune(app).await?)
    }
}
