//! What a repaired database takes over from the damaged one besides its blocks, and how one file takes the place
//! of the other.

use std::path::{Path, PathBuf};

use futures_util::TryStreamExt as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection as _, Row as _};
use tokio::sync::{MutexGuard, RwLockWriteGuard};

use super::{
    SealKey, Store, StoreError, StoredBlock, StoredEvidence, StoredPromise, StoredRefusal, digest, in_memory,
    insert_evidence, insert_promises, insert_refusal, signed, to_digest, unsigned,
};

/// A row with its time and its seal as they are in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<T> {
    /// What it says.
    pub row: T,
    /// When it was written, Unix milliseconds.
    pub at_ms: i64,
    seal: Vec<u8>,
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

impl Row<StoredPromise> {
    /// True if this member wrote the row.
    #[must_use]
    pub fn is_sealed(&self, key: &SealKey) -> bool {
        let by = |key: &SealKey| self.row.seal(key, self.at_ms) == self.seal;
        by(key) || key.before().is_some_and(|before| by(&before))
    }
}

impl Row<StoredRefusal> {
    /// True if this member wrote the row.
    #[must_use]
    pub fn is_sealed(&self, key: &SealKey) -> bool {
        let by = |key: &SealKey| self.row.seal(key, self.at_ms) == self.seal;
        by(key) || key.before().is_some_and(|before| by(&before))
    }
}

impl Row<StoredEvidence> {
    /// True if this member wrote the row.
    #[must_use]
    pub fn is_sealed(&self, key: &SealKey) -> bool {
        let by = |key: &SealKey| self.row.seal(key, self.at_ms) == self.seal;
        by(key) || key.before().is_some_and(|before| by(&before))
    }
}

/// Holds readers and the writer off while the file is replaced.
pub struct Hold<'a> {
    store: &'a Store,
    writer: MutexGuard<'a, SqliteConnection>,
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
        let mut writer = self.writer.lock().await;
        let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
        for row in &carried.promises {
            insert_promises(&mut tx, &self.seal, std::slice::from_ref(&row.row), row.at_ms).await?;
        }
        for row in &carried.refusals {
            insert_refusal(&mut tx, &self.seal, &row.row, row.at_ms).await?;
        }
        for row in &carried.evidence {
            insert_evidence(&mut tx, &self.seal, &row.row, row.at_ms).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Adds blocks in one commit.
    pub async fn import_blocks(&self, blocks: &[StoredBlock]) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
        for block in blocks {
            sqlx::query("INSERT INTO blocks (height, header, body, certificate) VALUES ($1, $2, $3, $4)")
                .bind(signed(block.height)?)
                .bind(block.header.as_slice())
                .bind(block.body.as_slice())
                .bind(block.certificate.as_str())
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        self.fold(&mut writer).await
    }

    /// Folds the journal in and closes: what is left is the one file.
    pub async fn finish(self) -> Result<(), StoreError> {
        self.fold(&mut *self.writer.lock().await).await?;
        let path = self.path.clone();
        self.close().await?;
        let journal = beside(&path, "-wal");
        if std::fs::metadata(journal).is_ok_and(|file| file.len() > 0) {
            return Err(std::io::Error::other("the journal could not be folded in").into());
        }
        Ok(())
    }

    /// Waits until nobody opens or writes the file, and keeps it so.
    pub async fn hold(&self) -> Hold<'_> {
        let no_reader_opens = self.in_place.write().await;
        Hold { store: self, writer: self.writer.lock().await, _no_reader_opens: no_reader_opens }
    }
}

impl Hold<'_> {
    /// As [`Store::carried`].
    pub async fn carried(&mut self) -> Result<Carried, StoreError> {
        let mut connection = self.store.fresh_now().await?;
        Ok(read_all(&mut connection).await)
    }

    /// Puts the closed database at `new` in the place of this store's file and opens it. The journal of the old
    /// file goes first: with the new file it would be taken for the new one's.
    pub async fn replace(mut self, new: &Path) -> Result<(), StoreError> {
        let nothing = in_memory().await?;
        let old = std::mem::replace(&mut *self.writer, nothing);
        if let Err(error) = old.close().await {
            tracing::info!(error = %error, "The damaged database could not be closed in good order");
        }
        for name in ["-wal", "-shm"] {
            let path = beside(&self.store.path, name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                Ok(()) | Err(_) => {}
            }
        }
        sync_folder_of(&self.store.path)?;
        std::fs::File::open(new)?.sync_all()?;
        std::fs::rename(new, &self.store.path)?;
        sync_folder_of(&self.store.path)?;
        *self.writer = Store::open_writer(&self.store.path, false).await?;
        *self.store.stamp.lock().await = None;
        Ok(())
    }
}

/// The file of a database's journal.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

fn sync_folder_of(path: &Path) -> Result<(), StoreError> {
    match path.parent() {
        Some(folder) => Ok(std::fs::File::open(folder)?.sync_all()?),
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
    Ok(Row { row: decode(row)?, at_ms: row.try_get("at_ms")?, seal: row.try_get("seal")? })
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
