//! The spool: encrypted segments on disk, fsynced, from before they are pinned until IPFS is known to hold them.
//!
//! One folder per intent, one file per segment. Only ciphertext ever lies here.
//!
//! Why: decision 0062.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use bytes::Bytes;
use hbc_db::disk;
use hbc_types::ids::IntentId;

/// The spool's folder.
#[derive(Clone, Debug)]
pub struct Spool {
    folder: PathBuf,
}

impl Spool {
    /// Opens the folder, making it if need be.
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        disk::make_folder(&folder)?;
        Ok(Self { folder })
    }

    /// Bytes that are left on its disk for whoever is not root. Blocking.
    pub fn free(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.folder)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn of(&self, intent: &IntentId) -> PathBuf {
        self.folder.join(intent.as_str())
    }

    /// Writes an intent's segments and returns when they are durable. Blocking.
    pub fn write<'s>(&self, intent: &IntentId, segments: impl Iterator<Item = &'s [u8]>) -> io::Result<()> {
        let folder = self.of(intent);
        disk::make_folder(&folder)?;
        for (position, bytes) in segments.enumerate() {
            let mut file = File::create(folder.join(position.to_string()))?;
            file.write_all(bytes)?;
            file.sync_all()?;
        }
        File::open(&folder)?.sync_all()
    }

    /// One segment of an intent, if it is still here. Blocking.
    pub fn read(&self, intent: &IntentId, position: u32) -> io::Result<Option<Bytes>> {
        match fs::read(self.of(intent).join(position.to_string())) {
            Ok(bytes) => Ok(Some(Bytes::from(bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every segment of an intent. Blocking.
    pub fn segments(&self, intent: &IntentId) -> io::Result<Vec<Bytes>> {
        let mut all = Vec::new();
        while let Some(bytes) = self.read(intent, u32::try_from(all.len()).unwrap_or(u32::MAX))? {
            all.push(bytes);
        }
        Ok(all)
    }

    /// Forgets an intent's segments. Blocking.
    pub fn remove(&self, intent: &IntentId) -> io::Result<()> {
        match fs::remove_dir_all(self.of(intent)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use hbc_types::Random;

    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path().join("spool")).unwrap();
        let intent = IntentId::random(&Random::seeded(1));
        let parts: [&[u8]; 2] = [b"one", b"two"];
        spool.write(&intent, parts.into_iter()).unwrap();
        assert_eq!(spool.segments(&intent).unwrap(), parts);
        assert_eq!(spool.read(&intent, 2).unwrap(), None);
        spool.remove(&intent).unwrap();
        spool.remove(&intent).unwrap();
        assert_eq!(spool.segments(&intent).unwrap(), Vec::<Bytes>::new());
    }
}
