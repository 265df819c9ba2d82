//! Healing: a node whose store was changed makes its database anew, from the rows that are still good and from
//! what peers have of the others, verifies it, and takes its place among the members again. [`new_database`] makes the
//! new file, [`sources`] asks peers, [`install`] carries over what no block proves and changes the files,
//! [`verify`] reads the result again; [`healer`] does it all in a node that runs, [`repair`] for one that is stopped.
//!
//! The mark of the attack goes last, durably. Killed at any line before, a node begins again: the damaged file is
//! in its place or the new one is, never half of one.
//!
//! Why: decision 0070.

pub mod healer;
pub mod install;
pub mod new_database;
pub mod progress;
pub mod resume;
pub mod site;
pub mod sources;
pub mod stopped;
pub mod verify;

pub use progress::Board;
