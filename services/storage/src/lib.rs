//! Records: sealing, segments on IPFS, FHIR R4, search index.

pub mod config;
pub mod domain;

pub use config::Config;
