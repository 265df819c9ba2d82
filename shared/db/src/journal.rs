//! A journal of rights: a file beside the database and outside its power, to which every change of rights is appended
//! and forced to disk before it is answered. Who owns the database can set rows back to an older state of theirs, MACs
//! included; they cannot set back this.
//!
//! A line is `kind name number mac`, `name` being a keyed hash of an id: nobody is named here. The MAC is chained: it covers
//! the line and the MAC before it, under the key of the rows, so that no line can be changed, left out or put in between.
//! What was torn off the end by a crash was never answered. When it is opened, when it has become long, and after a write that failed, it is written anew as short as it can be.
//!
//! Why: decision 0113.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, bail};
use hbc_types::{Digest, Timestamp};

use crate::floors::{Change, Floor, Floors, Kinds};
use crate::{Column, DbError, RowMac, disk};

/// The first line of the file.
const HEAD: &str = "hbc rights journal v1";
/// Lines beyond those that are needed, before the file is written anew.
const SPARE_LINES: usize = 100_000;
/// More bytes than one write appends: what is unwritten further before the end was written once.
const WRITE_BYTES: usize = 1 << 20;
/// What the chain of MACs is computed under.
const DOMAIN: &str = "rights journal";

type Mac = [u8; RowMac::BYTES];

/// The file cannot be written: what was changed acts, and may seem undone after a crash.
#[derive(Debug, thiserror::Error)]
#[error("the journal of rights cannot be written")]
pub struct JournalError(#[source] io::Error);

/// Runs work that must not end in the middle, such as a commit and its lines here, in a task of its own: whoever stops waiting
/// for it does not stop it.
pub async fn to_the_end<T, E>(
    name: &'static str,
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<DbError> + Send + 'static,
{
    hbc_tasks::spawn(name, work).await.map_err(|_ended| DbError::CommitUnknown)?
}

/// The open journal. Clones share it.
#[derive(Clone)]
pub struct Journal(Arc<Shared>);

struct Shared {
    floors: Floors,
    macs: RowMac,
    path: PathBuf,
    /// See [`SPARE_LINES`].
    spare_lines: usize,
    /// Waiting for the disk.
    waiting: Mutex<Waiting>,
    /// Held while lines are written: whoever holds it writes for everybody who waits.
    end: tokio::sync::Mutex<End>,
}

#[derive(Default)]
struct Waiting {
    floors: Vec<Floor>,
    /// How many changes were ever handed over.
    taken: u64,
}

struct End {
    file: Arc<Mutex<Tail>>,
    /// How many of the changes ever handed over are on disk.
    written: u64,
    /// The head that was told last, and after how many changes.
    told: Option<(u64, Digest)>,
}

/// The end of the file.
struct Tail {
    file: File,
    last: Mac,
    /// Lines in the file.
    lines: usize,
    /// Whether the file ends where the chain does: not after a write that failed.
    whole: bool,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Journal(…)")
    }
}

impl Journal {
    /// Opens the journal at `path`, or begins one.
    pub fn open(path: &Path, macs: RowMac, kinds: Kinds, now: Timestamp) -> anyhow::Result<Self> {
        Self::open_with(path, macs, kinds, now, SPARE_LINES)
    }

    fn open_with(
        path: &Path,
        macs: RowMac,
        kinds: Kinds,
        now: Timestamp,
        spare_lines: usize,
    ) -> anyhow::Result<Self> {
        let floors = Floors::new(macs.clone());
        if let Some(folder) = path.parent() {
            disk::make_folder(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        }
        if path.exists() {
            let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
            let text = String::from_utf8(bytes).context("the journal of rights is no text")?;
            replay(&text, &macs, kinds, &floors)
                .with_context(|| format!("{} cannot be used", path.display()))?;
        }
        floors.forget(kinds, now);
        let tail = write_anew(path, &macs, &floors.all())
            .with_context(|| format!("{} cannot be written", path.display()))?;
        let end = End { file: Arc::new(Mutex::new(tail)), written: 0, told: None };
        let (waiting, end) = (Mutex::default(), tokio::sync::Mutex::new(end));
        let path = path.to_owned();
        Ok(Self(Arc::new(Shared { floors, macs, path, spare_lines, waiting, end })))
    }

    /// What the journal knows.
    #[must_use]
    pub fn floors(&self) -> &Floors {
        &self.0.floors
    }

    /// Appends changes that are committed; they are on disk when this returns. Callers at the same time share one write.
    pub async fn append(&self, changes: &[impl Change]) -> Result<(), JournalError> {
        if changes.is_empty() {
            return Ok(());
        }
        let raised: Vec<Floor> = changes.iter().map(|change| self.0.floors.of(change)).collect();
        for floor in &raised {
            self.0.floors.raise(*floor);
        }
        let mine = {
            let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.taken += raised.len() as u64;
            waiting.floors.extend(raised);
            waiting.taken
        };
        let mut end = self.0.end.lock().await;
        if end.written >= mine {
            return Ok(());
        }
        let (batch, taken) = {
            let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            (std::mem::take(&mut waiting.floors), waiting.taken)
        };
        self.0.write_aside(&end, batch).await?;
        end.written = taken;
        Ok(())
    }

    /// The head of the journal, to be told elsewhere: it is noted here first. The same while nothing was appended.
    pub async fn head(&self) -> Result<Digest, JournalError> {
        let mut end = self.0.end.lock().await;
        if let Some((written, head)) = end.told
            && written == end.written
        {
            return Ok(head);
        }
        let head = Digest::from_bytes(end.file.lock().unwrap_or_else(PoisonError::into_inner).last);
        self.note(&mut end, head).await?;
        Ok(head)
    }

    /// Takes this journal for the one that told `head`, although it does not know it: somebody decided so.
    pub async fn accept(&self, head: Digest) -> Result<(), JournalError> {
        let mut end = self.0.end.lock().await;
        self.note(&mut end, head).await
    }

    async fn note(&self, end: &mut End, head: Digest) -> Result<(), JournalError> {
        let floor = self.0.floors.of(&self.0.floors.next_head(head));
        self.0.floors.raise(floor);
        self.0.write_aside(end, vec![floor]).await?;
        end.told = Some((end.written, head));
        Ok(())
    }

    /// Whether the last head that others have of this journal is one of its own: if it is not, this is an older one, or
    /// another.
    #[must_use]
    pub fn knows(&self, head: Digest) -> bool {
        self.0.floors.knows_head(head)
    }
}

impl Shared {
    /// Writes on a thread that may wait for the disk; `end` is held meanwhile.
    async fn write_aside(self: &Arc<Self>, end: &End, batch: Vec<Floor>) -> Result<(), JournalError> {
        let (file, shared) = (Arc::clone(&end.file), Arc::clone(self));
        let written = tokio::task::spawn_blocking(move || {
            shared.write(&mut file.lock().unwrap_or_else(PoisonError::into_inner), &batch)
        });
        written.await.map_err(|_panicked| JournalError(io::Error::other("the writer panicked")))?
    }

    /// Appends, or writes the file anew: every floor in memory is of a change that was committed.
    fn write(&self, tail: &mut Tail, batch: &[Floor]) -> Result<(), JournalError> {
        if tail.whole && tail.lines < self.spare_lines + self.floors.len() {
            return tail.append(&self.macs, batch);
        }
        let anew = write_anew(&self.path, &self.macs, &self.floors.all());
        *tail = anew.map_err(|error| JournalError(io::Error::other(error.to_string())))?;
        Ok(())
    }
}

impl Tail {
    fn append(&mut self, macs: &RowMac, floors: &[Floor]) -> Result<(), JournalError> {
        self.whole = false;
        let mut text = String::new();
        let mut last = self.last;
        for floor in floors {
            let line = floor.line();
            last = chained(macs, &last, &line);
            text.push_str(&format!("{line} {}\n", hex::encode(last)));
        }
        self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data()).map_err(JournalError)?;
        self.last = last;
        self.lines += floors.len();
        self.whole = true;
        Ok(())
    }
}

fn chained(macs: &RowMac, before: &Mac, line: &str) -> Mac {
    macs.compute(DOMAIN, &[Column::Bytes(before), Column::Text(line)])
}

/// Raises what a journal says. Only the last line may be torn, or the last lines have zeros where a power cut left a block of
/// the last write unwritten: neither was answered.
fn replay(text: &str, macs: &RowMac, kinds: Kinds, floors: &Floors) -> anyhow::Result<()> {
    let mut lines = text.split_inclusive('\n');
    if lines.next().is_none_or(|head| head.trim_end() != HEAD) {
        bail!("it does not begin as a journal of rights");
    }
    let (mut last, mut rest) = ([0; RowMac::BYTES], text.len());
    for (index, line) in lines.enumerate() {
        let Some(line) = line.strip_suffix('\n') else { break };
        if line.contains('\0') && rest <= WRITE_BYTES {
            break;
        }
        rest -= line.len();
        let number = index + 2;
        let (change, mac) = line.rsplit_once(' ').with_context(|| format!("line {number} is no change"))?;
        last = chained(macs, &last, change);
        if hex::encode(last) != mac {
            bail!("line {number} was changed, or the key of the rows is another one");
        }
        floors.raise(Floor::parse(change, kinds).with_context(|| format!("line {number} is no change"))?);
    }
    Ok(())
}

/// Writes a journal of these changes beside the one at `path` and puts it in its place.
fn write_anew(path: &Path, macs: &RowMac, floors: &[Floor]) -> anyhow::Result<Tail> {
    let beside = disk::beside(path, ".new");
    let mut tail = Tail { file: File::create(&beside)?, last: [0; RowMac::BYTES], lines: 0, whole: true };
    tail.file.write_all(format!("{HEAD}\n").as_bytes())?;
    tail.append(macs, floors)?;
    tail.file.sync_all()?;
    std::fs::rename(&beside, path)?;
    disk::sync_folder_of(path)?;
    tail.file = OpenOptions::new().append(true).open(path)?;
    Ok(tail)
}

#[cfg(test)]
mod tests {
    use hbc_types::secret::Key32;

    use super::*;
    use crate::floors::tests::{KINDS, Sample};

    fn macs() -> RowMac {
        RowMac::new(Key32::new([5; 32]))
    }

    fn open(path: &Path) -> anyhow::Result<Journal> {
        Journal::open(path, macs(), KINDS, Timestamp::from_ms(1_000))
    }

    fn rights(patient: u64, version: i64) -> [Sample; 1] {
        [Sample("rights", patient, version)]
    }

    fn version(journal: &Journal, patient: u64) -> i64 {
        journal.floors().get("rights", &patient.to_string()).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_answered_is_known_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rights.journal");
        let journal = open(&path).unwrap();
        let changes: Vec<_> = (0..40_i64).map(|n| rights(n.unsigned_abs() % 7, n)).collect();
        for done in futures_util::future::join_all(changes.iter().map(|change| journal.append(change))).await
        {
            done.unwrap();
        }
        for _restart in 0..2 {
            let journal = open(&path).unwrap();
            for seed in 0..7_u64 {
                let last = 35 + seed.cast_signed() - if seed > 4 { 7 } else { 0 };
                assert_eq!(version(&journal, seed), last);
            }
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text.lines().count(), 8, "as short as it can be");
        }
    }

    #[tokio::test]
    async fn a_write_that_fails_loses_nothing_and_spoils_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rights.journal");
        let journal = open(&path).unwrap();
        journal.append(&rights(1, 5)).await.unwrap();
        // A file that cannot be written to, and the half of a line in it.
        let mut torn = std::fs::read(&path).unwrap();
        torn.extend(b"rights 00");
        std::fs::write(&path, torn).unwrap();
        journal.0.end.lock().await.file.lock().unwrap().file = File::open(&path).unwrap();
        journal.append(&rights(2, 6)).await.unwrap_err();
        assert_eq!(version(&journal, 2), 6, "it acts at once all the same");
        journal.append(&rights(3, 7)).await.unwrap();
        let again = open(&path).unwrap();
        assert_eq!([1, 2, 3].map(|patient| version(&again, patient)), [5, 6, 7]);
    }

    #[tokio::test]
    async fn a_long_journal_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rights.journal");
        let journal = Journal::open_with(&path, macs(), KINDS, Timestamp::from_ms(1_000), 10).unwrap();
        for version in 1..100 {
            journal.append(&rights(1, version)).await.unwrap();
            assert!(std::fs::read_to_string(&path).unwrap().lines().count() <= 13, "{version}");
        }
        assert_eq!(version(&open(&path).unwrap(), 1), 99);
    }

    #[tokio::test]
    async fn a_torn_end_is_cut_off_and_everything_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rights.journal");
        let journal = open(&path).unwrap();
        journal.append(&rights(1, 5)).await.unwrap();
        journal.append(&rights(2, 6)).await.unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, whole.as_bytes().split_at(cut).0).unwrap();
            // A file cut within its first line is none: it is written whole, beside, before it takes its place.
            assert_eq!(open(&path).is_ok(), cut > HEAD.len() - 1, "cut at {cut}");
        }
        // Blocks of the last write that are not there, before others that are.
        let last = whole.trim_end().rfind('\n').unwrap() + 1;
        for from in last..whole.len() {
            let mut torn = whole.clone().into_bytes();
            torn[from..whole.len() - 1].fill(0);
            std::fs::write(&path, &torn).unwrap();
            let journal = open(&path).unwrap();
            assert_eq!(version(&journal, 1), 5);
            assert_eq!(journal.floors().get("rights", "2").is_some(), from == whole.len() - 1);
        }
        let lines: Vec<&str> = whole.lines().collect();
        let edits = [
            whole.replace(" 5 ", " 4 "),
            format!("{}\n{}\n", lines[0], lines[2]),
            format!("{}\n{}\n{}\n", lines[0], lines[2], lines[1]),
            whole.replace("journal v1", "journal v2"),
        ];
        for edit in edits {
            std::fs::write(&path, edit).unwrap();
            open(&path).unwrap_err();
        }
        std::fs::write(&path, &whole).unwrap();
        Journal::open(&path, RowMac::new(Key32::new([6; 32])), KINDS, Timestamp::from_ms(1)).unwrap_err();
    }

    #[tokio::test]
    async fn an_older_journal_does_not_know_what_was_told_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rights.journal");
        let journal = open(&path).unwrap();
        journal.append(&rights(1, 1)).await.unwrap();
        let first = journal.head().await.unwrap();
        assert_eq!(journal.head().await.unwrap(), first, "nothing was appended");
        let older = std::fs::read(&path).unwrap();
        journal.append(&rights(1, 2)).await.unwrap();
        let second = journal.head().await.unwrap();
        assert_ne!(first, second);
        assert!(journal.knows(first) && journal.knows(second));
        assert!(open(&path).unwrap().knows(second), "after a restart");
        std::fs::write(&path, &older).unwrap();
        let restored = open(&path).unwrap();
        assert!(!restored.knows(second));
        restored.accept(second).await.unwrap();
        assert!(restored.knows(second));
        assert!(open(&path).unwrap().knows(second));
        std::fs::remove_file(&path).unwrap();
        assert!(!open(&path).unwrap().knows(second), "a new one knows nothing");
    }
}
