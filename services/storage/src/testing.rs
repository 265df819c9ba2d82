//! What this service's tests reach into: they play the IPFS daemon.

pub use crate::domain::segment::raw_cid;
pub use crate::store::blob::kubo::Kubo;
#[cfg(any(test, feature = "testing"))]
pub use crate::store::blob::memory::Memory;
pub use crate::store::blob::{BlobError, BlobStore};
