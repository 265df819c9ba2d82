//! What storage does, step by step: what is asked of whom, in which order, in which transaction. No HTTP server here, and
//! no SQL.

pub mod create;
pub mod indexing;
pub mod opened;
pub mod read;
pub mod reindex;
pub mod search;
pub mod summary;
pub mod upload;
