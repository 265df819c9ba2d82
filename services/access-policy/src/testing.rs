//! What this service's tests reach into: they play the ledger, the clock and an intruder.

pub use crate::app::{App, Who};
pub use crate::domain::floors::Changes;
pub use crate::domain::policy::{PolicyEngine, Principal, Question, SessionState};
pub use crate::error::Error;
pub use crate::flows::log::{gather_batch, locate};
pub use crate::jobs::sweep::sweep;
pub use crate::ledger::audit_block;
pub use crate::store::MIGRATIONS;
pub use crate::store::rights::{commit, rights};
