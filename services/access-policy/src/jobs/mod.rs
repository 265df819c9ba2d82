//! What access-policy does again and again: a file and a line for each. What every service has (following the ledger,
//! the outbox, retention) is in `hbc_app`.

mod audit;
mod receipts;
pub mod sweep;

use hbc_app::jobs::Jobs;

use crate::app::App;

/// The list.
pub fn list() -> Jobs<App> {
    Jobs::new().periodic::<receipts::Gather>().periodic::<sweep::Sweep>().periodic::<audit::Audit>()
}
