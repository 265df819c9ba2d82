//! What a block store may answer instead of the bytes that it was given.

use cid::Cid;

/// Why a blob could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The store does not answer, or not now.
    #[error("the block store is not available: {0}")]
    Unavailable(String),
    /// The store does not have it.
    #[error("the block store has lost `{0}`")]
    Missing(Cid),
    /// The store gave back something else than it was given.
    #[error("the block store answered wrong bytes for `{0}`")]
    Corrupt(Cid),
}
