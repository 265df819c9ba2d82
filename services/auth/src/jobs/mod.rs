//! What runs in the background. What every service has (following the ledger, the outbox, retention) is in `hbc_app`.

pub mod prune;
pub mod pushes;

use hbc_service::Tasks;

use crate::app::App;

/// Starts them.
pub fn start(app: &App, tasks: &Tasks) {
    let this = app.clone();
    tasks.spawn_supervised("pushes", move || pushes::run(this.clone()));
    let this = app.clone();
    tasks.spawn_supervised("prune", move || prune::run(this.clone()));
}
