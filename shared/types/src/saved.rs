//! The saved answer of a creating POST: what makes its repetition harmless (`Idempotency-Key`).

use crate::{Digest, Timestamp};

/// An answer that is given again when the same request comes again.
///
/// It is stored in the transaction that does what it tells of. Secrets do not belong in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedAnswer {
    /// Hash of caller, method, path and key.
    pub id: Digest,
    /// Hash of everything that the request says beside id: another request under the same key is refused.
    pub fingerprint: Digest,
    /// HTTP status.
    pub status: u16,
    /// Its headers, lowercase names: media type, place, version and the like.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
    /// When it was given.
    pub saved_at: Timestamp,
}
