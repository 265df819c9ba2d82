//! What a repaired database takes over from the damaged one besides its blocks, and how one file takes the place
//! of the other.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use futures_util::TryStreamExt as _;
use hbc_types::Digest;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection as _, Row as _};
use tokio::sync::{MutexGuard, RwLockWriteGuard};

use super::stock::Stock;
use super::{
    Known, SealKey, Sealed, Store, StoreError, StoredBlock, StoredEvidence, StoredPromise, StoredRefusal,
    Table, Writer, digest, in_memory, insert_blocks, journal, to_digest, unsigned,
};

/// A row with its time and its seal as they are in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<T> {
    /// What it says.
    pub row: T,
    /// When it was written, Unix milliseconds.
    pub at_ms: i64,
    pub(super) seal: Digest,
}

/// The rows that no block proves, as far as they can be read.
#[derive(Clone, Debug, Default)]
pub struct Carried {
    /// Transactions that were promised.
    pub promises: Vec<Row<StoredPromise>>,
    /// Promised transactions that became impossible.
    pub refusals: Vec<Row<StoredRefusal>>,
    /// What members were caught at.
    pub evidence: Vec<Row<StoredEvidence>>,
    /// Tables that could not be read to their end.
    pub unreadable: Vec<&'static str>,
}

impl<T: Sealed> Row<T> {
    /// True if this member wrote the row.
    #[must_use]
    pub fn is_sealed(&self, key: &SealKey) -> bool {
        let by = |key: &SealKey| self.row.seal(key, self.at_ms) == self.seal;
        by(key) || key.before().is_some_and(|before| by(&before))
    }
}

impl Carried {
    /// Takes the rows of `other` that are not here byte by byte.
    pub fn unite(&mut self, other: Self, key: &SealKey) {
        add(&mut self.promises, other.promises, key);
        add(&mut self.refusals, other.refusals, key);
        add(&mut self.evidence, other.evidence, key);
        self.unreadable.extend(other.unreadable);
    }
}

fn add<T: Sealed>(to: &mut Vec<Row<T>>, rows: Vec<Row<T>>, key: &SealKey) {
    let content = |row: &Row<T>| (row.row.seal(key, row.at_ms), row.seal);
    let mut here: HashSet<_> = to.iter().map(content).collect();
    to.extend(rows.into_iter().filter(|row| here.insert(content(row))));
}

/// Holds readers and the writer off while the file is replaced.
pub struct Hold<'a> {
    store: &'a Store,
    writer: MutexGuard<'a, Writer>,
    _no_reader_opens: RwLockWriteGuard<'a, ()>,
}

impl Store {
    /// The key of the rows' seals.
    #[must_use]
    pub const fn seal_key(&self) -> &SealKey {
        &self.seal
    }

    /// The rows that no block proves; a table that cannot be read to its end is read as far as it can.
    pub async fn carried(&self) -> Result<Carried, StoreError> {
        let mut connection = self.fresh().await?;
        Ok(read_all(&mut connection).await)
    }

    /// Adds such rows, sealed anew; what is there stays.
    pub async fn import(&self, carried: &Carried) -> Result<(), StoreError> {
        self.write(false, async |pen| {
            for row in &carried.promises {
                pen.promises(std::slice::from_ref(&row.row), row.at_ms).await?;
            }
            for row in &carried.refusals {
                pen.refusal(&row.row, row.at_ms).await?;
            }
            for row in &carried.evidence {
                pen.evidence(&row.row, row.at_ms).await?;
            }
            Ok(())
        })
        .await
    }

    /// Adds blocks in one commit.
    pub async fn import_blocks(&self, blocks: &[StoredBlock]) -> Result<(), StoreError> {
        self.write(true, async |pen| insert_blocks(pen.connection, blocks).await).await
    }

    /// Folds the journal in and closes: what is left is the one file. Answers what it has beside its blocks.
    pub async fn finish(self) -> Result<Option<Stock>, StoreError> {
        let path = self.path.clone();
        let Writer { mut connection, known, .. } = self.writer.into_inner();
        sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await?;
        connection.close().await?;
        let journal = beside(&path, "-wal");
        if std::fs::metadata(journal).is_ok_and(|file| file.len() > 0) {
            return Err(std::io::Error::other("the journal could not be folded in").into());
        }
        Ok(known.map(|known| Arc::unwrap_or_clone(known.stock)))
    }

    /// Waits until nobody opens or writes the file, and keeps it so.
    pub async fn hold(&self) -> Hold<'_> {
        let no_reader_opens = self.in_place.write().await;
        Hold { store: self, writer: self.writer.lock().await, _no_reader_opens: no_reader_opens }
    }
}

impl Hold<'_> {
    /// The rows that no block proves: those of the file that this node has open, whatever lies at its path by now, and
    /// those of the file at its path.
    pub async fn carried(&mut self) -> Carried {
        let mut all = read_all(&mut self.writer.connection).await;
        match self.store.fresh_now().await {
            Ok(mut connection) => all.unite(read_all(&mut connection).await, &self.store.seal),
            Err(error) => {
                tracing::error!(error = %error, "The damaged database's own rows cannot be read from its path");
            }
        }
        all
    }

    /// How many rows that this node wrote are not among these, by table, if it knows what it wrote.
    #[must_use]
    pub fn missing(&self, carried: &Carried) -> Vec<(Table, usize)> {
        let Some(known) = &self.writer.known else { return Vec::new() };
        known.stock.missing(&Stock::of(carried)).filter(|(_, count)| *count > 0).collect()
    }

    /// Closes the damaged database without touching its bytes: SQLite would fold the journal in with the last connection
    /// that may write, so one that may only read goes after it.
    pub async fn close(&mut self) -> Result<(), StoreError> {
        let last = self.store.fixed().await;
        let nothing = Writer::of(in_memory().await?, None);
        let old = std::mem::replace(&mut *self.writer, nothing);
        if let Err(error) = old.connection.close().await {
            tracing::info!(error = %error, "The damaged database could not be closed in good order");
        }
        if let Ok(last) = last
            && let Err(error) = last.close().await
        {
            tracing::info!(error = %error, "The damaged database could not be closed in good order");
        }
        Ok(())
    }

    /// Puts the closed database at `new`, which has these rows beside its blocks, in the place of this store's file and
    /// opens it. The journal of the old file goes first: with the new file it would be taken for the new one's.
    pub async fn replace(mut self, new: &Path, stock: Option<Stock>) -> Result<(), StoreError> {
        let path = &self.store.path;
        for gone in [beside(path, "-wal"), beside(path, "-shm"), journal::kept(path)] {
            match std::fs::remove_file(&gone) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                Ok(()) | Err(_) => {}
            }
        }
        sync_folder_of(path)?;
        std::fs::File::open(new)?.sync_all()?;
        std::fs::rename(new, path)?;
        sync_folder_of(path)?;
        let Writer { connection, .. } = Store::open_writer(path, false, &self.store.seal).await?;
        let known = stock.map(|stock| Known::of(stock, &self.store.seal));
        *self.writer = Writer::of(connection, known);
        *self.store.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::fs::File::open(path)?);
        self.store.forget_stamps();
        Ok(())
    }
}

/// The file of a database's journal.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

pub(super) fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

pub(super) async fn read_all(connection: &mut SqliteConnection) -> Carried {
    let mut all = Carried::default();
    let promises = "SELECT txid, jws, received_at_ms AS at_ms, seal FROM promises ORDER BY seq";
    if !read(connection, promises, promise, &mut all.promises).await {
        all.unreadable.push("promises");
    }
    let refusals =
        "SELECT txid, jws, reason, excluded_by, refused_at_ms AS at_ms, seal FROM refusals ORDER BY rowid";
    if !read(connection, refusals, refusal, &mut all.refusals).await {
        all.unreadable.push("refusals");
    }
    let evidence =
        "SELECT kind, member, height, detail, seen_at_ms AS at_ms, seal FROM evidence ORDER BY rowid";
    if !read(connection, evidence, one_evidence, &mut all.evidence).await {
        all.unreadable.push("evidence");
    }
    all
}

/// False if the table could not be read whole.
async fn read<T>(
    connection: &mut SqliteConnection,
    query: &'static str,
    decode: fn(&SqliteRow) -> Result<T, StoreError>,
    into: &mut Vec<Row<T>>,
) -> bool {
    let mut rows = sqlx::query(query).fetch(connection);
    let mut whole = true;
    loop {
        match rows.try_next().await {
            Ok(None) => return whole,
            Ok(Some(row)) => match with_seal(&row, decode) {
                Ok(row) => into.push(row),
                Err(_misshapen) => whole = false,
            },
            Err(_damaged) => return false,
        }
    }
}

fn with_seal<T>(
    row: &SqliteRow,
    decode: fn(&SqliteRow) -> Result<T, StoreError>,
) -> Result<Row<T>, StoreError> {
    Ok(Row { row: decode(row)?, at_ms: row.try_get("at_ms")?, seal: digest(row, "seal")? })
}

/// The refusal of one transaction.
pub(super) async fn refusal_of(
    connection: &mut SqliteConnection,
    txid: &Digest,
) -> Result<Option<Row<StoredRefusal>>, StoreError> {
    let row = sqlx::query(
        "SELECT txid, jws, reason, excluded_by, refused_at_ms AS at_ms, seal FROM refusals WHERE txid = $1",
    )
    .bind(txid.as_bytes().as_slice())
    .fetch_optional(connection)
    .await?;
    row.map(|row| with_seal(&row, refusal)).transpose()
}

fn promise(row: &SqliteRow) -> Result<StoredPromise, StoreError> {
    Ok(StoredPromise { txid: digest(row, "txid")?, jws: row.try_get("jws")? })
}

fn refusal(row: &SqliteRow) -> Result<StoredRefusal, StoreError> {
    let excluded_by: Option<Vec<u8>> = row.try_get("excluded_by")?;
    Ok(StoredRefusal {
        txid: digest(row, "txid")?,
        jws: row.try_get("jws")?,
        reason: row.try_get("reason")?,
        excluded_by: excluded_by.map(|bytes| to_digest(&bytes)).transpose()?,
    })
}

fn one_evidence(row: &SqliteRow) -> Result<StoredEvidence, StoreError> {
    let member: Option<Vec<u8>> = row.try_get("member")?;
    let member = member.map(<[u8; 32]>::try_from).transpose();
    Ok(StoredEvidence {
        kind: row.try_get::<String, _>("kind")?.into(),
        member: member.map_err(|_wrong_length| StoreError::Shape("member"))?,
        height: unsigned(row.try_get("height")?)?,
        detail: row.try_get("detail")?,
    })
}
