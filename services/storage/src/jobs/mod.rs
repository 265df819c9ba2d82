//! What storage owes, and what it does again and again: a file and a line for each. What every service has (following
//! the ledger, the outbox, retention) is in `hbc_app`.
//!
//! Whatever a crash, a lost answer or a lost block left behind is brought to its end here. Every job may run twice, and
//! in several processes at once.

mod abort;
mod anchor;
mod pinning;
mod pins;
mod report;
mod unspool;

use hbc_app::jobs::Jobs;

use crate::app::App;

pub use abort::Abort;
pub use anchor::{AnchorWaiting, anchor_next};
pub use report::Report;
pub use unspool::Unspool;

/// The list.
pub fn list() -> Jobs<App> {
    Jobs::new()
        .job::<Abort>()
        .job::<AnchorWaiting>()
        .job::<Report>()
        .job::<Unspool>()
        .periodic::<pins::CheckPins>()
}
