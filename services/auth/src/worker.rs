//! Background loops: what access-policy is owed, and what is old.

use std::time::Duration;

use hbc_service::{Readiness, Tasks};
use hbc_types::chain::genesis::Genesis;

use crate::app::App;
use crate::config::Config;
use crate::flows::{push, sessions};

/// How often old rows are forgotten.
const PRUNE: Duration = Duration::from_secs(3600);

/// Starts the loops.
pub fn start(
    app: &App,
    _config: &Config,
    _genesis: &Genesis,
    tasks: &Tasks,
    _readiness: &Readiness,
) -> anyhow::Result<()> {
    let pushing = app.clone();
    tasks.spawn_supervised("pushes", move || push::run(pushing.clone()));
    let pruning = app.clone();
    tasks.spawn_supervised("prune", move || prune(pruning.clone()));
    Ok(())
}

async fn prune(app: App) {
    loop {
        tokio::time::sleep(PRUNE).await;
        if let Err(error) = sessions::prune(&app).await {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "Old sessions could not be forgotten");
        }
    }
}
