//! What runs in the background. What every service has (following the ledger, the outbox, retention) is in `hbc_app`.

pub mod reconcile;
pub mod schemas;

use hbc_service::{Readiness, Tasks};

use crate::app::App;

/// Starts them.
pub fn start(app: &App, tasks: &Tasks, readiness: &Readiness) {
    tasks.spawn_supervised("schemas", schemas::run);
    let (app, readiness) = (app.clone(), readiness.clone());
    tasks.spawn_supervised("reconcile", move || reconcile::run(app.clone(), readiness.clone()));
}
