//! Stands in for the yanked `core2` crate, which one dependency of the IPFS client still names.
pub use std::{error, io};
