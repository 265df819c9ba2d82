//! What runs in the background. What every service has (following the ledger, the outbox, retention) is in `hbc_app`.

pub mod audit;
pub mod receipts;
pub mod sweep;

use hbc_service::Tasks;

use crate::app::App;

/// Starts them.
pub fn start(app: &App, tasks: &Tasks) {
    let this = app.clone();
    tasks.spawn_supervised("receipt batches", move || receipts::run(this.clone()));
    let this = app.clone();
    tasks.spawn_supervised("sweeping", move || sweep::run(this.clone()));
    let this = app.clone();
    tasks.spawn_supervised("ledger audit", move || audit::run(this.clone()));
}
