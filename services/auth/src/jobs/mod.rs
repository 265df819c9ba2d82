//! Background loops: what access-policy and the ledger are owed, following the chain, and what is old.

use std::sync::Arc;
use std::time::Duration;

use hbc_chain::genesis::Genesis;
use hbc_client::ledger::{Finality, Follower, LedgerClient, OutboxDriver};
use hbc_service::{Readiness, Tasks};

use crate::app::App;
use crate::config::Config;
use crate::flows::{push, sessions};
use crate::ledger::AuthJournal;

/// How often old rows are forgotten.
const PRUNE: Duration = Duration::from_secs(3600);

/// Starts the loops. Nothing here waits for a neighbour: each loop tries until it gets through.
pub fn start(
    app: &App,
    config: &Config,
    genesis: Genesis,
    tasks: &Tasks,
    readiness: &Readiness,
) -> anyhow::Result<()> {
    let ledger = LedgerClient::new(Arc::new(genesis), &config.ledger_urls)?;
    let journal = AuthJournal::new(app.clone());
    let follower = Follower::new(ledger.clone(), journal.clone(), app.finality.clone());
    tasks.spawn_supervised("chain follower", move || follower.clone().run());
    let driver = OutboxDriver::new(ledger, journal, app.finality.clone(), app.clock.clone());
    tasks.spawn_supervised("ledger outbox", move || driver.clone().run());
    let pushing = app.clone();
    tasks.spawn_supervised("pushes", move || push::run(pushing.clone()));
    let pruning = app.clone();
    tasks.spawn_supervised("prune", move || prune(pruning.clone()));
    let (finality, readiness) = (app.finality.clone(), readiness.clone());
    tasks.spawn_supervised("health", move || watch(finality.clone(), readiness.clone()));
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

/// Without a ledger everything but approvals works, so only an alarm of the follower makes auth unready.
async fn watch(finality: Finality, readiness: Readiness) {
    let mut health = finality.watch_health();
    loop {
        let now = health.borrow_and_update().clone();
        let note = match &now.alarm {
            Some(alarm) => alarm.clone(),
            None => format!("{} of {} nodes, {} blocks behind", now.nodes_up, now.nodes, now.lag()),
        };
        readiness.set("ledger", now.alarm.is_none(), note);
        if health.changed().await.is_err() {
            return;
        }
    }
}
