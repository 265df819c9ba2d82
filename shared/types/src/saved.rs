//! The saved answer of a creating POST: what makes its repetition harmless (`Idempotency-Key`).

use crate::{Digest, Timestamp};

/// An answer that is given again when the same request comes again.
///
/// It is stored in the transaction that does what it tells of. Secrets do not belong in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedAnswer {
    /// Hash of caller, method, path and key.
    pub id: Digest,
    /// Hash of the request's body: another body under the same key is refused.
    pub fingerprint: Digest,
    /// HTTP status.
    pub status: u16,
    /// `Location` header.
    pub location: Option<String>,
    /// The JSON body.
    pub body: String,
    /// When it was given.
    pub saved_at: Timestamp,
}
