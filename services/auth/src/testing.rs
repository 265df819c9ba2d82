//! What this service's tests reach into: they play the ledger and an authenticator.

pub use crate::app::App;
pub use crate::domain::totp::code_at;
pub use crate::store::MIGRATIONS;
