//! Who the database's files are and when they were last changed: a write that is not this node's shows here. What
//! escapes it (a change within one tick of the file system's clock, or through memory that is written back later) is
//! left to the scrub, which compares content.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::MutexGuard;

use super::journal::Written;
use super::{Store, StoreError, WriterConnection};
use hbc_db::disk::beside;

/// How long the folding in waits for a reader that holds it up. Such a reader is another process, or a check of the
/// pages that is under way here.
const FOLD: &str = "PRAGMA busy_timeout = 100; PRAGMA wal_checkpoint(TRUNCATE); PRAGMA busy_timeout = 10000";
/// The journal is folded into the main file once it is larger than this, even without a block.
pub(super) const LARGEST_WAL_BYTES: u64 = 8 << 20;

/// One file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Not of the journal: where SQLite runs as root it sets the journal's owner each time it opens it.
    changed: Option<(i64, i64)>,
    modified: (i64, i64),
}

/// The main file and its journal, as they are at one time, if they are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    main: Option<FileStamp>,
    journal: Option<FileStamp>,
    data_version: i64,
}

impl FileStamp {
    fn of(path: &Path) -> std::io::Result<Option<Self>> {
        let file = match std::fs::metadata(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            changed: Some((file.ctime(), file.ctime_nsec())),
            modified: (file.mtime(), file.mtime_nsec()),
        }))
    }
}

impl Stamp {
    async fn read(path: &Path, writer: &mut SqliteConnection) -> Result<Self, StoreError> {
        let row = sqlx::query("PRAGMA data_version").fetch_one(&mut *writer).await?;
        let journal = FileStamp::of(&beside(path, "-wal"))?;
        let journal = journal.map(|journal| FileStamp { changed: None, ..journal });
        Ok(Self { main: FileStamp::of(path)?, journal, data_version: row.try_get(0)? })
    }
}

/// What the files must be so that nothing but this store's own writes happened: since they were last found sound, and
/// since the verification under way began.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    accepted: Option<Stamp>,
    candidate: Option<Stamp>,
}

/// The files before a write of this store's own, and which of the stamps they fit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    now: Stamp,
    accepted: bool,
    candidate: bool,
}

/// A verification of everything, one at a time: what it began with is accepted if it ends well.
pub struct Verification<'a> {
    store: &'a Store,
    _alone: MutexGuard<'a, ()>,
}

impl Verification<'_> {
    /// Everything was read and is right.
    pub fn accept(self) {
        let mut stamps = self.store.stamps();
        stamps.accepted = stamps.candidate.take();
    }
}

impl Store {
    fn stamps(&self) -> std::sync::MutexGuard<'_, Stamps> {
        self.stamps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if nobody but this store wrote to its files since they were last verified or written here.
    pub async fn untouched(&self) -> Result<bool, StoreError> {
        let mut writer = self.writer.lock().await;
        Ok(self.left(&mut writer.connection).await?.accepted && !self.journal_changed.load(Ordering::Relaxed))
    }

    /// Begins to verify everything, with the journal folded in. Own writes meanwhile do no harm.
    pub async fn verification(&self) -> Result<Verification<'_>, StoreError> {
        let alone = self.alone.lock().await;
        let mut writer = self.writer.lock().await;
        self.fold(&mut writer).await?;
        let now = Stamp::read(&self.path, &mut writer.connection).await?;
        self.stamps().candidate = Some(now);
        Ok(Verification { store: self, _alone: alone })
    }

    /// Forgets what was accepted: the file is another one.
    pub(super) fn forget_stamps(&self) {
        *self.stamps() = Stamps::default();
        self.journal_changed.store(false, Ordering::Relaxed);
    }

    pub(super) async fn left(&self, writer: &mut SqliteConnection) -> Result<Left, StoreError> {
        let now = Stamp::read(&self.path, writer).await?;
        let stamps = self.stamps();
        let (accepted, candidate) = (stamps.accepted == Some(now), stamps.candidate == Some(now));
        Ok(Left { now, accepted, candidate })
    }

    fn move_along(&self, left: Left, now: Stamp) {
        let mut stamps = self.stamps();
        if left.accepted {
            stamps.accepted = Some(now);
        }
        if left.candidate {
            stamps.candidate = Some(now);
        }
    }

    /// After a commit of this store's own: the stamps that the files fitted before move along. A commit changes the
    /// journal alone, so that a foreign write to the main file meanwhile stays visible.
    pub(super) async fn wrote(
        &self,
        writer: &mut WriterConnection,
        left: Left,
        fold: bool,
    ) -> Result<(), StoreError> {
        writer.written = writer.written.take().and_what_follows(&self.path);
        let committed = Stamp::read(&self.path, &mut writer.connection).await?;
        let same = (left.now.main, left.now.data_version) == (committed.main, committed.data_version);
        if same {
            self.move_along(left, committed);
        }
        if fold {
            self.fold(writer).await?;
        }
        Ok(())
    }

    /// Folds the journal into the main file and empties it, so that what is read is the main file. As long as another
    /// process reads the journal its newest pages stay there, are read from there, and are verified there: false then.
    /// A journal that is not what this node wrote is left as it is.
    pub(super) async fn fold(&self, writer: &mut WriterConnection) -> Result<bool, StoreError> {
        if !writer.written.is_there(&self.path)? {
            self.journal_changed.store(true, Ordering::Relaxed);
        }
        if self.journal_changed.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let left = self.left(&mut writer.connection).await?;
        let folded = self.fold_now(&mut writer.connection).await?;
        writer.written = if folded { Written::nothing() } else { Written::default() };
        let now = Stamp::read(&self.path, &mut writer.connection).await?;
        if now.data_version == left.now.data_version {
            self.move_along(left, now);
        }
        Ok(folded)
    }

    async fn fold_now(&self, connection: &mut SqliteConnection) -> Result<bool, StoreError> {
        let rows = sqlx::raw_sql(FOLD).fetch_all(connection).await?;
        // Three columns: busy, pages in the journal, pages folded in.
        let busy = rows.iter().filter(|row| row.len() == 3).map(|row| row.try_get::<i64, _>(0));
        let folded = busy.collect::<Result<Vec<_>, _>>()?.iter().all(|busy| *busy == 0);
        if !folded && !self.hindered.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "The journal cannot be folded into the database: somebody reads it; it is tried again with each block"
            );
        }
        if folded {
            self.hindered.store(false, Ordering::Relaxed);
        }
        let most = if folded { 0 } else { self.wal_bytes() };
        self.fold_above.store(most.saturating_add(LARGEST_WAL_BYTES), Ordering::Relaxed);
        Ok(folded)
    }

    /// True once so much waits in the journal that it is folded in without a block.
    pub(super) fn journal_is_large(&self) -> bool {
        self.wal_bytes() > self.fold_above.load(Ordering::Relaxed)
    }

    fn wal_bytes(&self) -> u64 {
        std::fs::metadata(beside(&self.path, "-wal")).map_or(0, |file| file.len())
    }
}
