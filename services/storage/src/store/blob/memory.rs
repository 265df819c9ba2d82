//! A block store in memory, for tests: it can be switched off, lose blocks and flip bytes.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use cid::Cid;
use futures_util::future::BoxFuture;

use crate::domain::segment::raw_cid;
use crate::store::blob::{BlobError, BlobStore};

/// The store.
#[derive(Debug, Default)]
pub struct Memory {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    blobs: HashMap<Cid, Vec<u8>>,
    pins: HashSet<Cid>,
    down: bool,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn up(&self) -> Result<MutexGuard<'_, Inner>, BlobError> {
        let inner = self.lock();
        if inner.down { Err(BlobError::Unavailable("switched off".to_owned())) } else { Ok(inner) }
    }

    /// Switches the store off or on.
    pub fn set_down(&self, down: bool) {
        self.lock().down = down;
    }

    /// The pinned CIDs.
    pub fn pins(&self) -> HashSet<Cid> {
        self.lock().pins.clone()
    }

    /// Everything that is stored, as a thief would find it.
    pub fn blobs(&self) -> HashMap<Cid, Vec<u8>> {
        self.lock().blobs.clone()
    }

    /// Flips one bit of a stored byte.
    pub fn flip(&self, cid: &Cid, at: usize) {
        if let Some(byte) = self.lock().blobs.get_mut(cid).and_then(|blob| blob.get_mut(at)) {
            *byte ^= 1;
        }
    }

    /// Loses an object and its pin.
    pub fn lose(&self, cid: &Cid) {
        let mut inner = self.lock();
        inner.blobs.remove(cid);
        inner.pins.remove(cid);
    }
}

impl BlobStore for Memory {
    fn put(&self, bytes: Bytes) -> BoxFuture<'_, Result<Cid, BlobError>> {
        Box::pin(async move {
            let cid = raw_cid(&bytes);
            let mut inner = self.up()?;
            inner.blobs.insert(cid, bytes.to_vec());
            inner.pins.insert(cid);
            Ok(cid)
        })
    }

    fn cid_of(&self, bytes: Bytes) -> BoxFuture<'_, Result<Cid, BlobError>> {
        Box::pin(async move { Ok(raw_cid(&bytes)) })
    }

    fn read(&self, cid: Cid, offset: u64, length: u64) -> BoxFuture<'_, Result<Bytes, BlobError>> {
        Box::pin(async move {
            let inner = self.up()?;
            let blob = inner.blobs.get(&cid).ok_or(BlobError::Missing(cid))?;
            let start = usize::try_from(offset).map_err(|_range| BlobError::Corrupt(cid))?;
            let length = usize::try_from(length).map_err(|_range| BlobError::Corrupt(cid))?;
            let slice = blob.get(start..start.saturating_add(length)).ok_or(BlobError::Corrupt(cid))?;
            Ok(Bytes::copy_from_slice(slice))
        })
    }

    fn unpin(&self, cid: Cid) -> BoxFuture<'_, Result<(), BlobError>> {
        Box::pin(async move {
            self.up()?.pins.remove(&cid);
            Ok(())
        })
    }

    fn is_pinned(&self, cid: Cid) -> BoxFuture<'_, Result<bool, BlobError>> {
        Box::pin(async move { Ok(self.up()?.pins.contains(&cid)) })
    }

    fn check(&self) -> BoxFuture<'_, Result<(), BlobError>> {
        Box::pin(async move { self.up().map(|_up| ()) })
    }
}
