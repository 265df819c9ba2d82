//! Where encrypted segments lie: content-addressed, pinned, and trusted with nothing.
//!
//! Two stores exist: Kubo ([`kubo`]), and one in memory for tests ([`memory`]). What either gives back is checked by
//! the caller (length, hash, commitment, tag) before it is used.

pub mod kubo;
#[cfg(any(test, feature = "testing"))]
pub mod memory;

use bytes::Bytes;
use cid::Cid;
use futures_util::future::BoxFuture;

pub use crate::domain::blob::BlobError;

/// A content-addressed store with pins. Every operation may be repeated.
pub trait BlobStore: Send + Sync + 'static {
    /// Stores and pins `bytes`; durable when it returns. Up to 1 MiB the CID is that of one raw block.
    fn put(&self, bytes: Bytes) -> BoxFuture<'_, Result<Cid, BlobError>>;

    /// The CID that [`BlobStore::put`] gives `bytes`, without storing them.
    fn cid_of(&self, bytes: Bytes) -> BoxFuture<'_, Result<Cid, BlobError>>;

    /// `length` bytes from `offset` on: exactly that many or an error.
    fn read(&self, cid: Cid, offset: u64, length: u64) -> BoxFuture<'_, Result<Bytes, BlobError>>;

    /// Takes the pin away; nothing happens if there is none.
    fn unpin(&self, cid: Cid) -> BoxFuture<'_, Result<(), BlobError>>;

    /// Whether it is pinned.
    fn is_pinned(&self, cid: Cid) -> BoxFuture<'_, Result<bool, BlobError>>;

    /// Whether the store answers.
    fn check(&self) -> BoxFuture<'_, Result<(), BlobError>>;
}
