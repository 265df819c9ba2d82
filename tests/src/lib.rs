//! End-to-end, contract, store and chaos tests on real parts.
//!
//! The library is what they share: [`TestApp`] is the whole stack as processes with typed calls on it, [`Person`]
//! somebody with a session. Waiting is always for a condition, with a deadline ([`wait::until`]); nothing sleeps.

pub mod app;
pub mod apps;
pub mod ask;
pub mod chain;
pub mod consents;
pub mod described;
pub mod devices;
pub mod examples;
pub mod kept;
pub mod people;
pub mod records;
pub mod reply;
pub mod spec;
pub mod tools;
pub mod wait;
pub mod wallet;

pub use app::TestApp;
pub use people::Person;
