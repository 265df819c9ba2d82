//! Records: sealing, segments on IPFS, FHIR R4, search index.

mod app;
pub mod blob;
pub mod config;
pub mod domain;
mod error;
mod policy;
mod read;
mod spool;
mod store;
mod upload;

pub use config::Config;
