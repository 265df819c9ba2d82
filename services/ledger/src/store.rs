//! All SQL of the ledger: one SQLite file per node, one writer connection, fresh connections for whatever is
//! verified. Blocks are only ever added. Nothing read here is trusted before it was hashed: that is
//! `domain::verification`'s work.

mod carry;
mod integrity;
mod seal;

use std::borrow::Cow;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use hbc_types::Digest;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, QueryBuilder, Row as _, Sqlite};
use tokio::sync::{Mutex, RwLock};

pub use carry::{Carried, Hold, Row};
pub use integrity::Unsound;
pub use seal::SealKey;
use seal::{insert_evidence, insert_promises, insert_refusal};

/// The tables, triggers and indices.
const TABLES: &str = include_str!("../migrations/0001_ledger.sql");
/// Rows per statement when many are written.
const ROWS_PER_STATEMENT: usize = 200;
/// Bytes of blocks in memory at once when many are read.
const BYTES_PER_READ: usize = 8 << 20;
/// Pieces of evidence of one kind against one member: a liar does not fill the disk.
const MOST_EVIDENCE: i64 = 1_000;
/// Rows that the database hands over ahead of the reader: a block may have 8 MiB.
const ROWS_AHEAD: usize = 2;
/// The journal is folded into the main file once it is larger than this, even without a block.
const LARGEST_WAL_BYTES: u64 = 8 << 20;

/// The store failed, or holds what it must not.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite failed.
    #[error("the ledger's database failed")]
    Sql(#[from] sqlx::Error),
    /// The file system failed.
    #[error("the ledger's files failed")]
    Io(#[from] std::io::Error),
    /// A value has the wrong shape.
    #[error("a stored value has the wrong shape: {0}")]
    Shape(&'static str),
}

impl StoreError {
    /// True if the file itself is not what it was: corrupt, not a database, a table gone, a value misshapen,
    /// or no file at all. False for what may pass: a full disk, too many open files, a lock.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        /// SQLite's result codes for an SQL error (a table is missing), a corrupt file, a value that is too
        /// large to be one, and a foreign file.
        const DAMAGE: [i32; 4] = [1, 11, 18, 26];
        match self {
            Self::Sql(sqlx::Error::Database(error)) => {
                let code = error.code().and_then(|code| code.parse::<i32>().ok());
                code.is_some_and(|code| DAMAGE.contains(&(code & 0xff)))
            }
            Self::Sql(sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_)) | Self::Shape(_) => {
                true
            }
            Self::Sql(_) => false,
            Self::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }
}

/// A block as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBlock {
    /// Its height.
    pub height: u64,
    /// The 180 header bytes.
    pub header: Vec<u8>,
    /// The transactions, as in the block.
    pub body: Vec<u8>,
    /// The certificate: a signed note; empty for block 0.
    pub certificate: String,
}

impl StoredBlock {
    /// The bytes of its row.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let bytes = self.header.len() + self.body.len() + self.certificate.len();
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// A promised transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPromise {
    /// Its id.
    pub txid: Digest,
    /// The compact JWS.
    pub jws: Vec<u8>,
}

/// A promised transaction that became impossible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRefusal {
    /// Its id.
    pub txid: Digest,
    /// The compact JWS.
    pub jws: Vec<u8>,
    /// Why.
    pub reason: String,
    /// The final transaction that excludes it.
    pub excluded_by: Option<Digest>,
}

/// Something a member was caught at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvidence {
    /// `equivocation`, `challenge-failed`, `store` or `healer`.
    pub kind: Cow<'static, str>,
    /// The member, if it is about one.
    pub member: Option<[u8; 32]>,
    /// The height it is about.
    pub height: u64,
    /// The proof.
    pub detail: Vec<u8>,
}

/// Who the main file is and when it was last changed: a foreign write shows here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
    modified: (i64, i64),
    data_version: i64,
}

/// The open database of one node.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    writer: Mutex<SqliteConnection>,
    stamp: Mutex<Option<Stamp>>,
    seal: SealKey,
    /// Taken for reading while a reader opens the file, for writing while the file is replaced.
    in_place: RwLock<()>,
}

impl Store {
    /// Opens the file and makes it if `create`. A file with other tables or triggers than a ledger's is damaged.
    pub async fn open(path: &Path, create: bool, seal: SealKey) -> Result<Self, StoreError> {
        let writer = Self::open_writer(path, create).await?;
        Ok(Self::with(path, writer, seal))
    }

    async fn open_writer(path: &Path, create: bool) -> Result<SqliteConnection, StoreError> {
        let mut writer = Self::options(path).create_if_missing(create).connect().await?;
        integrity::refuse_other_schema(path, &mut writer).await?;
        sqlx::raw_sql(TABLES).execute(&mut writer).await?;
        Ok(writer)
    }

    /// An empty store in memory in the place of a database that cannot be opened: it holds nothing, and the
    /// node says so.
    pub async fn substitute(path: &Path, seal: SealKey) -> Result<Self, StoreError> {
        Ok(Self::with(path, in_memory().await?, seal))
    }

    fn with(path: &Path, writer: SqliteConnection, seal: SealKey) -> Self {
        let (writer, stamp) = (Mutex::new(writer), Mutex::new(None));
        Self { path: path.to_owned(), writer, stamp, seal, in_place: RwLock::new(()) }
    }

    fn options(path: &Path) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10))
            .pragma("wal_autocheckpoint", "0")
            .disable_statement_logging()
    }

    /// A connection of its own that has cached nothing and cannot write.
    async fn fresh(&self) -> Result<SqliteConnection, StoreError> {
        let _the_file_stays = self.in_place.read().await;
        self.fresh_now().await
    }

    /// SQLite opens its files at the first read, so that is done here.
    async fn fresh_now(&self) -> Result<SqliteConnection, StoreError> {
        let mut connection = read_only(&self.path).await?;
        sqlx::query("SELECT count(*) FROM sqlite_schema").fetch_one(&mut connection).await?;
        Ok(connection)
    }

    /// A reader of the blocks from height `from` on, in order, on a fresh connection.
    pub async fn blocks(&self, from: u64) -> Result<BlockReader, StoreError> {
        Ok(BlockReader { connection: self.fresh().await?, next: from })
    }

    /// One block, on a fresh connection.
    pub async fn block(&self, height: u64) -> Result<Option<StoredBlock>, StoreError> {
        Ok(self.blocks(height).await?.read(1).await?.pop().filter(|block| block.height == height))
    }

    /// Adds a block, drops the promises that it keeps, and folds the journal into the main file.
    pub async fn commit(&self, block: &StoredBlock, kept: &[Digest]) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("INSERT INTO blocks (height, header, body, certificate) VALUES ($1, $2, $3, $4)")
            .bind(signed(block.height)?)
            .bind(block.header.as_slice())
            .bind(block.body.as_slice())
            .bind(block.certificate.as_str())
            .execute(&mut *tx)
            .await?;
        delete_promises(&mut tx, kept.iter()).await?;
        tx.commit().await?;
        self.fold(&mut writer).await
    }

    /// Makes a group of promises durable: one commit for all.
    pub async fn add_promises(&self, promises: &[StoredPromise], now_ms: i64) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
        insert_promises(&mut tx, &self.seal, promises, now_ms).await?;
        tx.commit().await?;
        if self.wal_bytes() > LARGEST_WAL_BYTES {
            self.fold(&mut writer).await?;
        }
        Ok(())
    }

    /// Promises not kept yet, oldest first.
    pub async fn promises(&self) -> Result<Vec<StoredPromise>, StoreError> {
        let mut connection = self.fresh().await?;
        let rows =
            sqlx::query("SELECT txid, jws FROM promises ORDER BY seq").fetch_all(&mut connection).await?;
        rows.iter()
            .map(|row| Ok(StoredPromise { txid: digest(row, "txid")?, jws: row.try_get("jws")? }))
            .collect()
    }

    /// Takes back promises that turned out impossible outside of a block commit.
    pub async fn refuse(&self, refused: &[StoredRefusal], now_ms: i64) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
        delete_promises(&mut tx, refused.iter().map(|refusal| &refusal.txid)).await?;
        for refusal in refused {
            insert_refusal(&mut tx, &self.seal, refusal, now_ms).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Drops promises that were kept already.
    pub async fn forget_promises(&self, kept: &[Digest]) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        delete_promises(&mut writer, kept.iter()).await
    }

    /// The refusal of a transaction that was promised once.
    pub async fn refusal(&self, txid: &Digest) -> Result<Option<StoredRefusal>, StoreError> {
        let mut connection = self.fresh().await?;
        let row = sqlx::query("SELECT txid, jws, reason, excluded_by FROM refusals WHERE txid = $1")
            .bind(txid.as_bytes().as_slice())
            .fetch_optional(&mut connection)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let excluded_by: Option<Vec<u8>> = row.try_get("excluded_by")?;
        let excluded_by = excluded_by.map(|bytes| to_digest(&bytes)).transpose()?;
        Ok(Some(StoredRefusal {
            txid: digest(&row, "txid")?,
            jws: row.try_get("jws")?,
            reason: row.try_get("reason")?,
            excluded_by,
        }))
    }

    /// Keeps evidence; the same twice is kept once, and of one kind against one member the first thousand.
    pub async fn add_evidence(&self, evidence: &StoredEvidence, now_ms: i64) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        insert_evidence(&mut writer, &self.seal, evidence, now_ms).await
    }

    /// A piece of evidence by its digest, if it still hashes to it.
    pub async fn evidence(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let mut connection = self.fresh().await?;
        let row = sqlx::query("SELECT detail FROM evidence WHERE digest = $1")
            .bind(digest.as_bytes().as_slice())
            .fetch_optional(&mut connection)
            .await?;
        let detail: Option<Vec<u8>> = row.map(|row| row.try_get("detail")).transpose()?;
        match detail {
            Some(detail) if Digest::of(&detail) == *digest => Ok(Some(detail)),
            Some(_) => Err(StoreError::Shape("evidence")),
            None => Ok(None),
        }
    }

    /// How many rows of evidence there are.
    pub async fn evidence_count(&self) -> Result<u64, StoreError> {
        let mut connection = self.fresh().await?;
        let row = sqlx::query("SELECT count(*) AS n FROM evidence").fetch_one(&mut connection).await?;
        unsigned(row.try_get("n")?)
    }

    /// True if nobody but this store wrote to the main file since it was last verified or written here.
    pub async fn untouched(&self) -> Result<bool, StoreError> {
        let now = {
            let mut writer = self.writer.lock().await;
            self.read_stamp(&mut writer).await?
        };
        Ok(*self.stamp.lock().await == Some(now))
    }

    /// Takes the file as it is now for good: called after a full verification that began with `before`.
    pub async fn accept(&self, before: Stamp) {
        *self.stamp.lock().await = Some(before);
    }

    /// The file as it is now.
    pub async fn look(&self) -> Result<Stamp, StoreError> {
        let mut writer = self.writer.lock().await;
        self.read_stamp(&mut writer).await
    }

    async fn read_stamp(&self, writer: &mut SqliteConnection) -> Result<Stamp, StoreError> {
        let row = sqlx::query("PRAGMA data_version").fetch_one(&mut *writer).await?;
        let file = std::fs::metadata(&self.path)?;
        Ok(Stamp {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            changed: (file.ctime(), file.ctime_nsec()),
            modified: (file.mtime(), file.mtime_nsec()),
            data_version: row.try_get(0)?,
        })
    }

    /// Folds the journal into the main file and empties it, so that what is read is the main file. A foreign
    /// write that happened before stays visible: the stamp moves on only if it fitted.
    async fn fold(&self, writer: &mut SqliteConnection) -> Result<(), StoreError> {
        let mut stamp = self.stamp.lock().await;
        let before = self.read_stamp(writer).await?;
        sqlx::query(AssertSqlSafe("PRAGMA wal_checkpoint(TRUNCATE)")).fetch_all(&mut *writer).await?;
        if *stamp == Some(before) {
            *stamp = Some(self.read_stamp(writer).await?);
        }
        Ok(())
    }

    /// Size of the main file.
    #[must_use]
    pub fn main_file_bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |file| file.len())
    }

    fn wal_bytes(&self) -> u64 {
        std::fs::metadata(carry::beside(&self.path, "-wal")).map_or(0, |file| file.len())
    }

    /// Closes the writer in good order.
    pub async fn close(self) -> Result<(), StoreError> {
        self.writer.into_inner().close().await?;
        Ok(())
    }
}

/// Reads blocks in order, in large pieces.
#[derive(Debug)]
pub struct BlockReader {
    connection: SqliteConnection,
    next: u64,
}

async fn read_only(path: &Path) -> Result<SqliteConnection, StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .row_buffer_size(ROWS_AHEAD)
        .busy_timeout(Duration::from_secs(10))
        .disable_statement_logging();
    Ok(options.connect().await?)
}

impl BlockReader {
    /// The block of one height, wherever the reader stands.
    pub async fn at(&mut self, height: u64) -> Result<Option<StoredBlock>, StoreError> {
        self.seek(height);
        Ok(self.read(1).await?.pop().filter(|block| block.height == height))
    }

    /// Goes on from this height.
    pub const fn seek(&mut self, height: u64) {
        self.next = height;
    }

    /// Reads a database that no node need have open, from height `from` on; writes nothing.
    pub async fn open(path: &Path, from: u64) -> Result<Self, StoreError> {
        Ok(Self { connection: read_only(path).await?, next: from })
    }

    /// The next blocks, at most `limit` and about 8 MiB; empty at the end. Gaps are not hidden: the caller checks
    /// heights.
    pub async fn read(&mut self, limit: u32) -> Result<Vec<StoredBlock>, StoreError> {
        self.read_within(limit, BYTES_PER_READ).await
    }

    /// The same, ending with the block that reaches `most_bytes`.
    pub async fn read_within(
        &mut self,
        limit: u32,
        most_bytes: usize,
    ) -> Result<Vec<StoredBlock>, StoreError> {
        let most_bytes = u64::try_from(most_bytes).unwrap_or(u64::MAX);
        let mut rows = sqlx::query(
            "SELECT height, header, body, certificate FROM blocks WHERE height >= $1 ORDER BY height LIMIT $2",
        )
        .bind(signed(self.next)?)
        .bind(i64::from(limit))
        .fetch(&mut self.connection);
        let (mut blocks, mut bytes): (Vec<StoredBlock>, u64) = (Vec::new(), 0);
        while bytes < most_bytes {
            let Some(row) = rows.try_next().await? else { break };
            let block = stored_block(&row)?;
            bytes += block.bytes();
            blocks.push(block);
        }
        drop(rows);
        if let Some(last) = blocks.last() {
            self.next = last.height.saturating_add(1);
        }
        Ok(blocks)
    }
}

/// A connection to nothing but the empty tables.
async fn in_memory() -> Result<SqliteConnection, StoreError> {
    let mut connection = SqliteConnectOptions::new().in_memory(true).connect().await?;
    sqlx::raw_sql(TABLES).execute(&mut connection).await?;
    Ok(connection)
}

fn stored_block(row: &SqliteRow) -> Result<StoredBlock, StoreError> {
    Ok(StoredBlock {
        height: unsigned(row.try_get("height")?)?,
        header: row.try_get("header")?,
        body: row.try_get("body")?,
        certificate: row.try_get("certificate")?,
    })
}

async fn delete_promises(
    tx: &mut SqliteConnection,
    txids: impl Iterator<Item = &Digest>,
) -> Result<(), StoreError> {
    let txids: Vec<_> = txids.collect();
    for some in txids.chunks(ROWS_PER_STATEMENT) {
        let mut query = QueryBuilder::<Sqlite>::new("DELETE FROM promises WHERE txid IN (");
        let mut list = query.separated(", ");
        for txid in some {
            list.push_bind(txid.as_bytes().to_vec());
        }
        query.push(")");
        query.build().execute(&mut *tx).await?;
    }
    Ok(())
}

fn signed(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_too_large| StoreError::Shape("height"))
}

fn unsigned(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_negative| StoreError::Shape("height"))
}

fn to_digest(bytes: &[u8]) -> Result<Digest, StoreError> {
    let bytes: [u8; 32] = bytes.try_into().map_err(|_wrong_length| StoreError::Shape("digest"))?;
    Ok(Digest::from_bytes(bytes))
}

fn digest(row: &SqliteRow, column: &'static str) -> Result<Digest, StoreError> {
    let bytes: Vec<u8> = row.try_get(column)?;
    to_digest(&bytes)
}

#[cfg(test)]
mod tests;
