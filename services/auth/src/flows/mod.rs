//! The work of each operation: parse, check, store in one transaction, then tell the neighbours.

pub mod account;
pub mod agencies;
pub mod apps;
pub mod authorizations;
pub mod clients;
pub mod codes;
pub mod consents;
pub mod devices;
pub mod factors;
pub mod key_addresses;
pub mod login;
pub mod members;
pub mod operators;
pub mod pairings;
pub mod passkeys;
pub mod patients;
pub mod preferences;
pub mod recovery;
pub mod refresh;
pub mod sessions;
pub mod staff;
