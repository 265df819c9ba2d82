//! The files beside the database: the latest checkpoint, so that a store that lost its tip is seen; the mark of
//! an attack, which survives every restart until the node is repaired; what a repair needs and leaves behind; the
//! lock that keeps a folder to one process.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// How long a process that is ending may still hold the folder.
const LOCK_PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

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

/// What a repair did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealingRecord {
    /// What was found.
    pub mark: AttackMark,
    /// When the repair was done, Unix milliseconds.
    pub healed_at_ms: i64,
    /// How long the last run took.
    pub took_ms: u64,
    /// Blocks of the repaired chain.
    pub blocks: u64,
    /// Of these, taken from peers.
    pub repaired_blocks: u64,
    /// Their bytes.
    pub repaired_bytes: u64,
    /// Which peer gave how many.
    pub fetched_from: std::collections::BTreeMap<String, u64>,
}

/// Damaged databases kept at most, and their bytes.
const DAMAGED_KEPT: usize = 4;
const DAMAGED_BYTES: u64 = 1 << 30;

/// The folder is this process's until it is dropped.
#[derive(Debug)]
pub struct FolderLock(#[expect(dead_code, reason = "the lock ends with the file")] File);

impl DataFolder {
    /// Keeps the folder to this process. Waits a little for one that is just ending.
    pub async fn lock(&self) -> io::Result<FolderLock> {
        let file = File::options().create(true).truncate(false).write(true).open(self.0.join("lock"))?;
        let patience = std::time::Instant::now() + LOCK_PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(FolderLock(file)),
                Err(fs::TryLockError::WouldBlock) if std::time::Instant::now() < patience => {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The database that a repair makes, before it takes the place of the damaged one.
    #[must_use]
    pub fn new_database(&self) -> PathBuf {
        self.0.join("ledger.db.new")
    }

    /// What was promised, refused and kept as evidence, for as long as a repair goes on.
    #[must_use]
    pub fn owed(&self) -> PathBuf {
        self.0.join("owed.db")
    }

    /// Removes a database and its journal, if there.
    pub fn discard(&self, database: &Path) -> io::Result<()> {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let mut name = database.to_owned().into_os_string();
            name.push(suffix);
            remove_if_there(Path::new(&name))?;
        }
        self.sync()
    }

    /// Takes the mark away durably: the node is repaired.
    pub fn clear_mark(&self) -> io::Result<()> {
        remove_if_there(&self.0.join("attacked"))?;
        self.sync()
    }

    /// What the last repair did.
    pub fn healed(&self) -> io::Result<Option<HealingRecord>> {
        let text = read_if_there(&self.0.join("healed"))?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Writes down what a repair did.
    pub fn write_healed(&self, record: &HealingRecord) -> io::Result<()> {
        self.replace("healed", &serde_json::to_vec(record).map_err(io::Error::other)?)
    }

    /// Says that the node of this folder was never run: it has signed nothing. Called when a deployment is made.
    pub fn note_unborn(&self) -> io::Result<()> {
        self.replace("unborn", b"Never run: goes away at the first start.\n")
    }

    /// Whether the node of this folder was never run.
    pub fn is_unborn(&self) -> io::Result<bool> {
        self.0.join("unborn").try_exists()
    }

    /// Notes that the node runs: called once it has a log.
    pub fn note_born(&self) -> io::Result<()> {
        remove_if_there(&self.0.join("unborn"))?;
        self.sync()
    }

    /// Whether the node has lost its log, so that it does not know what it signed.
    pub fn is_silent(&self) -> io::Result<bool> {
        self.0.join("silent").try_exists()
    }

    /// Notes durably that the log was lost.
    pub fn fall_silent(&self) -> io::Result<()> {
        self.replace("silent", b"The log was lost: nothing is signed until two more blocks were decided.\n")
    }

    /// Notes that the node may sign again.
    pub fn speak(&self) -> io::Result<()> {
        remove_if_there(&self.0.join("silent"))?;
        self.sync()
    }

    /// Keeps the damaged database, its journal and `rows` (those that were refused) for whoever looks into it: the
    /// four latest, one GiB of all. A second name for the file costs no copy.
    pub fn keep_damaged(&self, mark: &AttackMark, now_ms: i64, rows: &[u8]) -> io::Result<PathBuf> {
        let all = self.0.join("damaged");
        let folder = all.join(format!("{now_ms:015}"));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("mark"), serde_json::to_vec(mark).map_err(io::Error::other)?)?;
        fs::write(folder.join("rows"), rows)?;
        for name in ["ledger.db", "ledger.db-wal"] {
            let path = self.0.join(name);
            if fs::metadata(&path).is_ok_and(|file| file.len() <= DAMAGED_BYTES) {
                let _kept_before = fs::remove_file(folder.join(name));
                if name == "ledger.db" {
                    fs::hard_link(&path, folder.join(name))?;
                } else {
                    fs::copy(&path, folder.join(name))?;
                }
            }
        }
        File::open(&folder)?.sync_all()?;
        forget_oldest(&all)?;
        Ok(folder)
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

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

/// Removes the oldest folders until few enough with few enough bytes are left; the latest always stays.
fn forget_oldest(all: &Path) -> io::Result<()> {
    let mut folders: Vec<PathBuf> =
        fs::read_dir(all)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    folders.sort();
    while folders.len() > 1 {
        let mut bytes = 0_u64;
        for folder in &folders {
            for entry in fs::read_dir(folder)? {
                bytes = bytes.saturating_add(entry?.metadata()?.len());
            }
        }
        if folders.len() <= DAMAGED_KEPT && bytes <= DAMAGED_BYTES {
            break;
        }
        fs::remove_dir_all(folders.remove(0))?;
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
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
    fn few_damaged_databases_are_kept_and_the_latest_always() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        let mark = AttackMark { first_bad_height: 3, evidence: "x".to_owned(), found_at_ms: 1 };
        for now_ms in 1..=7 {
            std::fs::write(data.database(), format!("damaged {now_ms}")).unwrap();
            let kept = data.keep_damaged(&mark, now_ms, b"rows").unwrap();
            std::fs::remove_file(data.database()).unwrap();
            assert_eq!(
                std::fs::read(kept.join("ledger.db")).unwrap(),
                format!("damaged {now_ms}").as_bytes()
            );
        }
        let names: Vec<_> = std::fs::read_dir(folder.path().join("damaged"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names.len(), DAMAGED_KEPT);
        assert!(names.contains(&format!("{:015}", 7)) && !names.contains(&format!("{:015}", 1)));
    }

    #[tokio::test]
    async fn a_folder_is_one_processs() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        let held = data.lock().await.unwrap();
        let other = File::options().write(true).open(folder.path().join("lock")).unwrap();
        assert!(other.try_lock().is_err());
        drop(held);
        assert!(other.try_lock().is_ok());
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
