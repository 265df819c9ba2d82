//! What auth owes, and what it does again and again: a file and a line for each. What every service has (following the
//! ledger, the outbox, retention) is in `hbc_app`.

mod denial;
mod device;
mod end_sessions;
mod prune;
pub mod push;
mod root_key;
mod session;
mod standing;

use hbc_app::jobs::Jobs;

use crate::app::App;

pub use denial::TellDenial;
pub use device::{TellDevice, TellPairing};
pub use end_sessions::EndSessions;
pub use root_key::{TellRootClaim, TellRootKey};
pub use session::{TellSession, end_session};
pub use standing::TellStanding;

/// The list.
pub fn list() -> Jobs<App> {
    Jobs::new()
        .job::<TellStanding>()
        .job::<TellRootKey>()
        .job::<TellRootClaim>()
        .job::<TellDenial>()
        .job::<TellSession>()
        .job::<EndSessions>()
        .job::<TellDevice>()
        .job::<TellPairing>()
        .periodic::<prune::Prune>()
}
