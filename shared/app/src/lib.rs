//! The skeleton of a service: what all of them do alike, so that each one only says what it is.
//!
//! A service is a type that implements [`Service`]: its name, its configuration, its migrations, its routes, its jobs,
//! and what transactions of the ledger mean to it ([`LedgerEvents`]). [`Application`] opens what every service needs
//! ([`Base`]), starts the loops, and serves until it is told to stop.
//!
//! Nothing here knows what a service is for, and no SQL of a service's own tables stands here.

mod base;
mod gauges;
mod health;
pub mod jobs;
mod ledger;
mod retention;
mod service;
mod settings;

pub use base::{Base, Surroundings};
pub use gauges::Gauge;
pub use health::Part;
pub use ledger::{FinalEvent, LedgerEvents, LedgerJournal, Refusal};
pub use retention::{FAILED_JOBS, FINAL_BYTES, REFUSED_BYTES, SAVED_ANSWERS, forget};
pub use service::{Application, Configuration, Service, ServiceState, TokenKeys, migrate, openapi};
pub use settings::Settings;
