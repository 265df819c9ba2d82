//! Ids, labels, wire formats, the keys that sign them: synchronous, no I/O.

pub mod account;
pub mod classify;
pub mod codes;
pub mod digest;
pub mod hash;
pub mod ids;
pub mod json;
pub mod keys;
pub mod labels;
pub mod outbox;
pub mod problem;
pub mod purpose;
pub mod random;
pub mod ranges;
pub mod saved;
pub mod schema;
pub mod scope;
pub mod secret;
pub mod time;
pub mod wire;

pub use digest::Digest;
pub use random::Random;
pub use time::{Clock, Timestamp};
