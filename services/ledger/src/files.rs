//! The files beside the database: the latest checkpoint, so that a store that lost its tip is seen; the mark of
//! an attack, which survives every restart until the node is healed; what healing needs and leaves behind; the
//! lock that keeps a folder to one process.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use hbc_db::disk::make_folder;
use hbc_types::Digest;
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

/// What healing did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealingRecord {
    /// What was found.
    pub mark: AttackMark,
    /// When healing was done, Unix milliseconds.
    pub healed_at_ms: i64,
    /// How long the last run took.
    pub took_ms: u64,
    /// Blocks of the healed chain.
    pub blocks: u64,
    /// Of these, taken from peers.
    pub healed_blocks: u64,
    /// Their bytes.
    pub healed_bytes: u64,
    /// Which peer gave how many.
    pub fetched_from: std::collections::BTreeMap<String, u64>,
}

impl AttackMark {
    /// The mark as a document: what is in the file, in the evidence, and told to all by its digest.
    #[must_use]
    pub fn document(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// SHA-256 of the document.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.document())
    }
}

impl HealingRecord {
    /// The record as a document, as [`AttackMark::document`].
    #[must_use]
    pub fn document(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// SHA-256 of the document.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.document())
    }
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

    /// The database that healing makes, before it takes the place of the damaged one.
    #[must_use]
    pub fn new_database(&self) -> PathBuf {
        self.0.join("ledger.db.new")
    }

    /// What was promised, refused and kept as evidence, for as long as healing goes on.
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

    /// Takes the mark away durably: the node is healed.
    pub fn clear_mark(&self) -> io::Result<()> {
        remove_if_there(&self.0.join("attacked"))?;
        self.sync()
    }

    /// What the last healing did; nothing where that cannot be read any more.
    pub fn healed(&self) -> io::Result<Option<HealingRecord>> {
        let bytes = read_if_there(&self.0.join("healed"))?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Writes down what healing did.
    pub fn write_healed(&self, record: &HealingRecord) -> io::Result<()> {
        self.replace("healed", &record.document())
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

    /// Puts consensus's log away, durably: it was changed, so that the node does not know what it signed. The next
    /// start without it abstains.
    pub fn put_log_away(&self) -> io::Result<()> {
        fs::rename(self.wal(), self.0.join("wal.refused"))?;
        self.sync()
    }

    /// Whether the node has lost its log, so that it does not know what it signed.
    pub fn is_abstaining(&self) -> io::Result<bool> {
        self.0.join("abstaining").try_exists()
    }

    /// Notes durably that the log was lost.
    pub fn abstain(&self) -> io::Result<()> {
        self.replace(
            "abstaining",
            b"The log was lost: nothing is signed until two more blocks were decided.\n",
        )
    }

    /// Notes that the node may sign again.
    pub fn speak(&self) -> io::Result<()> {
        remove_if_there(&self.0.join("abstaining"))?;
        self.sync()
    }

    /// Keeps the damaged database, its journal and `rows` (those that were refused) for whoever looks into it, in a
    /// folder named after the time of the mark: the four latest, one GiB of all. What an earlier attempt of the same
    /// healing kept stays: by now the database may be another one. Nobody may write to the database.
    pub fn keep_damaged(&self, mark: &AttackMark, rows: &[u8]) -> io::Result<PathBuf> {
        let all = self.0.join("damaged");
        let folder = all.join(format!("{:015}", mark.found_at_ms));
        if folder.try_exists()? {
            return Ok(folder);
        }
        let half = all.join("half");
        if half.try_exists()? {
            fs::remove_dir_all(&half)?;
        }
        make_folder(&half)?;
        for (name, content) in [("mark", mark.document().as_slice()), ("rows", rows)] {
            fs::write(half.join(name), content)?;
            File::open(half.join(name))?.sync_all()?;
        }
        for name in ["ledger.db", "ledger.db-wal", "ledger.db-wal.damaged"] {
            keep(&self.0.join(name), &half.join(name))?;
        }
        File::open(&half)?.sync_all()?;
        fs::rename(&half, &folder)?;
        File::open(&all)?.sync_all()?;
        forget_oldest(&all)?;
        Ok(folder)
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    /// The folder at `path`, made if it is missing.
    pub fn open(path: &Path) -> io::Result<Self> {
        make_folder(path)?;
        Ok(Self(path.to_owned()))
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.0.join("ledger.db")
    }

    /// The write-ahead log of consensus.
    #[must_use]
    pub fn wal(&self) -> PathBuf {
        self.0.join("wal")
    }

    /// The latest checkpoint, as written by [`Self::write_checkpoint`]. One that is no text any more is no checkpoint, and
    /// does not pass for a missing one.
    pub fn checkpoint(&self) -> io::Result<Option<String>> {
        let bytes = read_if_there(&self.0.join("checkpoint"))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Replaces the checkpoint file durably.
    pub fn write_checkpoint(&self, note: &str) -> io::Result<()> {
        self.replace("checkpoint", note.as_bytes())
    }

    /// Removes the checkpoint file: no block is decided.
    pub fn forget_checkpoint(&self) -> io::Result<()> {
        remove_if_there(&self.0.join("checkpoint"))?;
        self.sync()
    }

    /// Announcements of addresses, as written by [`Self::write_addresses`]. What cannot be read is announced again.
    pub fn addresses(&self) -> io::Result<Vec<String>> {
        let bytes = read_if_there(&self.0.join("addresses"))?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
    }

    /// Replaces the file of announcements durably.
    pub fn write_addresses(&self, announcements: &[String]) -> io::Result<()> {
        self.replace("addresses", &serde_json::to_vec(announcements).map_err(io::Error::other)?)
    }

    /// The mark of an attack. A mark that cannot be read is still a mark, of the time when the file was changed.
    pub fn attack_mark(&self) -> io::Result<Option<AttackMark>> {
        let path = self.0.join("attacked");
        let Some(bytes) = read_if_there(&path)? else { return Ok(None) };
        if let Ok(mark) = serde_json::from_slice(&bytes) {
            return Ok(Some(mark));
        }
        let changed = fs::metadata(&path)?.modified()?.duration_since(std::time::UNIX_EPOCH);
        Ok(Some(AttackMark {
            first_bad_height: 0,
            evidence: "the mark of an attack cannot be read".to_owned(),
            found_at_ms: changed.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(0)),
        }))
    }

    /// Marks the node as attacked, durably. An earlier mark stays.
    pub fn mark_attacked(&self, mark: &AttackMark) -> io::Result<()> {
        if self.0.join("attacked").try_exists()? {
            return Ok(());
        }
        self.replace("attacked", &mark.document())
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

/// Gives a file a second name, which costs nothing; where that cannot be done, copies it unless it is very large.
fn keep(from: &Path, to: &Path) -> io::Result<()> {
    if !from.try_exists()? {
        return Ok(());
    }
    if fs::hard_link(from, to).is_err() && fs::metadata(from)?.len() <= DAMAGED_BYTES {
        fs::copy(from, to)?;
    }
    if to.try_exists()? { File::open(to)?.sync_all() } else { Ok(()) }
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

/// Bytes: who changed them need not have left text.
fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(found_at_ms: i64) -> AttackMark {
        AttackMark { first_bad_height: 3, evidence: "x".to_owned(), found_at_ms }
    }

    #[test]
    fn the_first_mark_of_an_attack_stays() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        assert_eq!(data.attack_mark().unwrap(), None);
        data.mark_attacked(&mark(1)).unwrap();
        data.mark_attacked(&AttackMark { first_bad_height: 9, ..mark(1) }).unwrap();
        assert_eq!(data.attack_mark().unwrap(), Some(mark(1)));
        for unreadable in [b"{".as_slice(), b"{\xff}"] {
            std::fs::write(folder.path().join("attacked"), unreadable).unwrap();
            let mark = data.attack_mark().unwrap().unwrap();
            assert_eq!(mark.first_bad_height, 0);
            assert!(mark.found_at_ms > 0, "two such marks are told apart");
        }
    }

    #[test]
    fn a_byte_that_is_no_text_keeps_no_file_from_being_read() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        for name in ["checkpoint", "healed", "addresses"] {
            std::fs::write(folder.path().join(name), b"[\xff]").unwrap();
        }
        assert!(data.checkpoint().unwrap().is_some(), "a bad one is not a missing one");
        assert_eq!(data.healed().unwrap(), None);
        assert!(data.addresses().unwrap().is_empty());
    }

    #[test]
    fn few_damaged_databases_are_kept_and_the_latest_always() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        for at_ms in 1..=7 {
            std::fs::write(data.database(), format!("damaged {at_ms}")).unwrap();
            let kept = data.keep_damaged(&mark(at_ms), b"rows").unwrap();
            std::fs::remove_file(data.database()).unwrap();
            assert_eq!(std::fs::read(kept.join("ledger.db")).unwrap(), format!("damaged {at_ms}").as_bytes());
        }
        let names: Vec<_> = std::fs::read_dir(folder.path().join("damaged"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names.len(), DAMAGED_KEPT);
        assert!(names.contains(&format!("{:015}", 7)) && !names.contains(&format!("{:015}", 1)));
    }

    #[test]
    fn a_heal_that_begins_again_keeps_what_its_first_attempt_kept() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        std::fs::write(data.database(), b"damaged").unwrap();
        std::fs::write(folder.path().join("ledger.db-wal"), b"journal").unwrap();
        // What a process that was killed leaves behind.
        std::fs::create_dir_all(folder.path().join("damaged/half")).unwrap();
        let kept = data.keep_damaged(&mark(5), b"rows").unwrap();
        std::fs::remove_file(data.database()).unwrap();
        std::fs::write(data.database(), b"repaired").unwrap();
        for _ in 0..5 {
            assert_eq!(data.keep_damaged(&mark(5), b"").unwrap(), kept);
        }
        for (name, content) in [("ledger.db", "damaged"), ("ledger.db-wal", "journal"), ("rows", "rows")] {
            assert_eq!(std::fs::read_to_string(kept.join(name)).unwrap(), content);
        }
        assert_eq!(std::fs::read_dir(folder.path().join("damaged")).unwrap().count(), 1);
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
