//! What the service does, one transaction each: reads rows, asks the domain, writes rows. No HTTP here, and none inside a
//! transaction.

pub mod accounts;
pub mod admit;
pub mod alterations;
pub mod closing;
pub mod consents;
pub mod decide;
pub mod explain;
pub mod keys;
pub mod log;
pub mod pairings;
pub mod proofs;
pub mod requests;
pub mod roots;
pub mod views;
