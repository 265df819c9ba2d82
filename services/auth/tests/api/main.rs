//! auth over HTTP, on every engine at hand, with access-policy played by a mock.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that finds something else than it expects fails"
)]

mod accounts;
mod agencies;
mod app;
mod apps;
mod clients;
mod closing;
mod consents;
mod credentials_in_flight;
mod custody;
mod devices;
mod figures;
mod hostile_database;
mod key_addresses;
mod loops;
mod matrix;
mod members;
mod news;
mod oauth;
mod one_address_for_all;
mod operators;
mod passkeys;
mod preferences;
mod recovery;
mod second_factor;
mod sessions;
mod staff_keys;
