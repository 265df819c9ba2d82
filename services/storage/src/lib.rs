//! Records: sealing, segments on IPFS, FHIR R4, search index.

pub mod domain;
