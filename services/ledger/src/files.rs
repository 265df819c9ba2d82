//! The small files beside the database: the latest checkpoint, so that a store that lost its tip is seen,
//! and the mark of an attack, which survives every restart until the node is repaired.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Paths of one node's data.
#[derive(Clone, Debug)]
pub struct DataFolder(PathBuf);

/// Why a node holds itself for attacked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttackMark {
    /// The first height whose stored bytes are wrong.
    pub first_bad_height: u64,
    /// What was found.
    pub evidence: String,
    /// When, Unix milliseconds.
    pub found_at_ms: i64,
}

impl DataFolder {
    /// The folder at `path`, made if it is missing.
    pub fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        Ok(Self(path.to_owned()))
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.0.join("ledger.db")
    }

    /// The write-ahead log of the agreement.
    #[must_use]
    pub fn wal(&self) -> PathBuf {
        self.0.join("wal")
    }

    /// The latest checkpoint, as written by [`Self::write_checkpoint`].
    pub fn checkpoint(&self) -> io::Result<Option<String>> {
        read_if_there(&self.0.join("checkpoint"))
    }

    /// Replaces the checkpoint file durably.
    pub fn write_checkpoint(&self, note: &str) -> io::Result<()> {
        self.replace("checkpoint", note.as_bytes())
    }

    /// Announcements of addresses, as written by [`Self::write_addresses`]. What cannot be read is announced again.
    pub fn addresses(&self) -> io::Result<Vec<String>> {
        let text = read_if_there(&self.0.join("addresses"))?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
    }

    /// Replaces the file of announcements durably.
    pub fn write_addresses(&self, announcements: &[String]) -> io::Result<()> {
        self.replace("addresses", &serde_json::to_vec(announcements).map_err(io::Error::other)?)
    }

    /// The mark of an attack. A mark that cannot be read is still a mark.
    pub fn attack_mark(&self) -> io::Result<Option<AttackMark>> {
        let Some(text) = read_if_there(&self.0.join("attacked"))? else { return Ok(None) };
        Ok(Some(serde_json::from_str(&text).unwrap_or(AttackMark {
            first_bad_height: 0,
            evidence: "the mark of an attack cannot be read".to_owned(),
            found_at_ms: 0,
        })))
    }

    /// Marks the node as attacked, durably. An earlier mark stays.
    pub fn mark_attacked(&self, mark: &AttackMark) -> io::Result<()> {
        if self.0.join("attacked").try_exists()? {
            return Ok(());
        }
        self.replace("attacked", &serde_json::to_vec(mark).map_err(io::Error::other)?)
    }

    fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let (path, temporary) = (self.0.join(name), self.0.join(format!("{name}.new")));
        let mut file = File::create(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(&self.0)?.sync_all()
    }
}

fn read_if_there(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_mark_of_an_attack_stays() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        assert_eq!(data.attack_mark().unwrap(), None);
        let mark = AttackMark { first_bad_height: 3, evidence: "x".to_owned(), found_at_ms: 1 };
        data.mark_attacked(&mark).unwrap();
        data.mark_attacked(&AttackMark { first_bad_height: 9, ..mark.clone() }).unwrap();
        assert_eq!(data.attack_mark().unwrap(), Some(mark));
        std::fs::write(folder.path().join("attacked"), "{").unwrap();
        assert_eq!(data.attack_mark().unwrap().unwrap().first_bad_height, 0);
    }

    #[test]
    fn the_checkpoint_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        assert_eq!(data.checkpoint().unwrap(), None);
        data.write_checkpoint("one\n").unwrap();
        data.write_checkpoint("two\n").unwrap();
        assert_eq!(data.checkpoint().unwrap().as_deref(), Some("two\n"));
    }
}
