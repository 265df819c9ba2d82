//! All SQL of the ledger: one SQLite file per node, one writer connection, fresh connections for whatever is
//! verified. Blocks are only ever added. Nothing read here is trusted before it was hashed: that is
//! `domain::verification`'s work.
//!
//! Why: decision 0020.

mod carry;
mod integrity;
mod inventory;
mod journal;
mod reader;
mod row_mac;
mod row_writer;
mod rows;
mod stamp;

use std::borrow::Cow;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use hbc_types::Digest;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use tokio::sync::{Mutex, RwLock};

pub use carry::Hold;
pub use integrity::Unsound;
pub use inventory::Inventory;
use inventory::{Change, MultisetHash, Sum};
use journal::Written;
pub use journal::recover_checksums;
use reader::read_only;
pub use reader::{BlockReader, ReadAhead};
pub use row_mac::{Authenticated, MacKey, Table};
use row_writer::RowWriter;
pub use rows::{Carried, Row};
use stamp::Stamps;
pub use stamp::Verification;

/// The tables, triggers and indices.
const TABLES: &str = include_str!("../migrations/0001_ledger.sql");
/// Rows per statement when many are written.
const ROWS_PER_STATEMENT: usize = 200;
/// Pieces of evidence of one kind against one member: a liar does not fill the disk.
const MOST_EVIDENCE: i64 = 1_000;
/// Refusals kept, the latest. Whoever asks for an older one gives the transaction again, and is told what excludes it.
const MOST_REFUSALS: usize = 10_000;

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
    /// A row is not as this node wrote it.
    #[error("a row of `{0}` is not as this node wrote it")]
    Row(&'static str),
    /// The journal that SQLite would take up was changed.
    #[error("the database's journal was changed")]
    Journal,
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
            // The last: what the file says of its tables is no text any more, which ends the library's thread.
            Self::Sql(
                sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::ColumnNotFound(_)
                | sqlx::Error::WorkerCrashed,
            )
            | Self::Shape(_)
            | Self::Row(_)
            | Self::Journal => true,
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

/// The one connection that writes, and what it wrote beside the blocks.
#[derive(Debug)]
struct WriterConnection {
    connection: SqliteConnection,
    /// Unknown until the rows of an existing file were read and found sound.
    known: Option<KnownRows>,
    written: Written,
}

#[derive(Clone, Debug)]
struct KnownRows {
    inventory: Arc<Inventory>,
    sum: Sum,
}

/// The open database of one node.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    writer: Mutex<WriterConnection>,
    stamps: StdMutex<Stamps>,
    /// Held by the verification of everything that is under way.
    alone: Mutex<()>,
    /// Somebody reads the journal, so that it cannot be folded in.
    hindered: AtomicBool,
    fold_above: AtomicU64,
    /// The journal is not what this store wrote.
    journal_changed: AtomicBool,
    mac: MacKey,
    /// The main file. Never closed while a connection to it is open: that would end the locks that SQLite holds for
    /// this process.
    file: StdMutex<Option<File>>,
    /// Taken for reading while a reader opens the file, for writing while the file is replaced. Before the writer.
    in_place: RwLock<()>,
}

impl Store {
    /// Opens the file and makes it if `create`. A file with other tables or triggers than a ledger's is damaged, and so
    /// is one whose journal was changed.
    pub async fn open(path: &Path, create: bool, mac: MacKey) -> Result<Self, StoreError> {
        journal::check(path)?;
        let writer = Self::open_writer(path, create, &mac).await?;
        let file = File::open(path)?;
        Ok(Self::with(path, writer, Some(file), mac))
    }

    async fn open_writer(path: &Path, create: bool, mac: &MacKey) -> Result<WriterConnection, StoreError> {
        let mut connection = Self::options(path).create_if_missing(create).connect().await?;
        if !integrity::has_our_schema(path, &mut connection).await? {
            let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
            sqlx::raw_sql(TABLES).execute(&mut *tx).await?;
            MultisetHash::new(Sum::default(), 0, mac).write(&mut tx).await?;
            tx.commit().await?;
            return Ok(WriterConnection::of(connection, Some(KnownRows::nothing())));
        }
        Ok(WriterConnection::of(connection, None))
    }

    /// An empty store in memory in the place of a database that cannot be opened: it holds nothing, and the
    /// node says so.
    pub async fn substitute(path: &Path, mac: MacKey) -> Result<Self, StoreError> {
        Ok(Self::with(path, WriterConnection::of(in_memory().await?, None), None, mac))
    }

    fn with(path: &Path, writer: WriterConnection, file: Option<File>, mac: MacKey) -> Self {
        Self {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            stamps: StdMutex::default(),
            alone: Mutex::new(()),
            hindered: AtomicBool::new(false),
            fold_above: AtomicU64::new(stamp::LARGEST_WAL_BYTES),
            journal_changed: AtomicBool::new(false),
            mac,
            file: StdMutex::new(file),
            in_place: RwLock::new(()),
        }
    }

    /// Nothing of a transaction reaches the journal before its commit, so that each of its pages is written once and
    /// what a crash leaves behind is told from what somebody changed.
    fn options(path: &Path) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10))
            .pragma("wal_autocheckpoint", "0")
            .pragma("cache_spill", "0")
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
        self.blocks(height).await?.at(height).await
    }

    /// Header and certificate of one block.
    pub async fn head(&self, height: u64) -> Result<Option<(Vec<u8>, String)>, StoreError> {
        self.blocks(height).await?.head(height).await
    }

    /// Adds a block, drops the promises that it keeps, and folds the journal into the main file.
    pub async fn commit(&self, block: &StoredBlock, kept: &[Digest]) -> Result<(), StoreError> {
        let blocks = std::slice::from_ref(block);
        self.write(true, async |rows| {
            insert_blocks(rows.connection, blocks).await?;
            rows.remove(Table::Promises, kept).await
        })
        .await
    }

    /// Makes a group of promises durable: one commit for all.
    pub async fn add_promises(&self, promises: &[StoredPromise], now_ms: i64) -> Result<(), StoreError> {
        self.write(self.journal_is_large(), async |rows| rows.promises(promises, now_ms).await).await
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

    /// Takes back promises that turned out impossible outside of a block commit. Of all refusals the latest are kept.
    pub async fn refuse(&self, refused: &[StoredRefusal], now_ms: i64) -> Result<(), StoreError> {
        let txids: Vec<Digest> = refused.iter().map(|refusal| refusal.txid).collect();
        self.write(false, async |rows| {
            rows.remove(Table::Promises, &txids).await?;
            for refusal in refused {
                rows.refusal(refusal, now_ms).await?;
            }
            rows.forget_old_refusals(MOST_REFUSALS).await
        })
        .await
    }

    /// Drops promises that were kept already.
    pub async fn forget_promises(&self, kept: &[Digest]) -> Result<(), StoreError> {
        self.write(false, async |rows| rows.remove(Table::Promises, kept).await).await
    }

    /// The refusal of a transaction that was promised once.
    ///
    /// # Errors
    /// [`StoreError::Row`] if the row is not as this node wrote it, or is gone.
    pub async fn refusal(&self, txid: &Digest) -> Result<Option<StoredRefusal>, StoreError> {
        if self.never_wrote(Table::Refusals, txid).await {
            return Ok(None);
        }
        let (mut connection, inventory) = self.snapshot().await?;
        let row = rows::refusal_of(&mut connection, txid).await?;
        let sealed = row.as_ref().is_none_or(|row| row.is_authentic(&self.mac));
        let known = inventory.map(|inventory| inventory.mac_of(Table::Refusals, txid));
        if !sealed || known.is_some_and(|known| known != row.as_ref().map(|row| row.mac)) {
            return Err(StoreError::Row("refusals"));
        }
        Ok(row.map(|row| row.row))
    }

    /// Keeps evidence; the same twice is kept once, and of one kind against one member the first thousand.
    pub async fn add_evidence(&self, evidence: &StoredEvidence, now_ms: i64) -> Result<(), StoreError> {
        self.write(false, async |rows| rows.evidence(evidence, now_ms).await).await
    }

    /// A piece of evidence by its digest.
    ///
    /// # Errors
    /// [`StoreError::Row`] if it does not hash to it any more, or is gone.
    pub async fn evidence(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        if self.never_wrote(Table::Evidence, digest).await {
            return Ok(None);
        }
        let (mut connection, inventory) = self.snapshot().await?;
        let row = sqlx::query("SELECT detail FROM evidence WHERE digest = $1")
            .bind(digest.as_bytes().as_slice())
            .fetch_optional(&mut connection)
            .await?;
        let detail: Option<Vec<u8>> = row.map(|row| row.try_get("detail")).transpose()?;
        let gone =
            detail.is_none() && inventory.is_some_and(|inventory| inventory.has(Table::Evidence, digest));
        if gone || detail.as_ref().is_some_and(|detail| Digest::of(detail) != *digest) {
            return Err(StoreError::Row("evidence"));
        }
        Ok(detail)
    }

    /// True if memory knows that there is no such row: nothing is read for whoever asks at random.
    async fn never_wrote(&self, table: Table, id: &Digest) -> bool {
        let writer = self.writer.lock().await;
        writer.known.as_ref().is_some_and(|known| !known.inventory.has(table, id))
    }

    /// How many rows of evidence there are.
    pub async fn evidence_count(&self) -> Result<u64, StoreError> {
        let mut connection = self.fresh().await?;
        let row = sqlx::query("SELECT count(*) AS n FROM evidence").fetch_one(&mut connection).await?;
        unsigned(row.try_get("n")?)
    }

    /// One transaction of this node's own: the rows, and the multiset hash with them. Then the journal is folded in if
    /// `fold`.
    async fn write(
        &self,
        fold: bool,
        rows: impl AsyncFnOnce(&mut RowWriter<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        let WriterConnection { connection, known, written } = &mut *writer;
        let left = self.left(connection).await?;
        let before = written.take();
        let mut change = Change::default();
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
        let inventory = known.as_ref().map(|known| &*known.inventory);
        rows(&mut RowWriter { connection: &mut tx, key: &self.mac, inventory, change: &mut change }).await?;
        let sum = known.as_ref().filter(|_| !change.is_empty());
        let sum = sum.map(|known| known.sum.after(&known.inventory, &change, &self.mac));
        if let Some((sum, entries)) = sum {
            MultisetHash::new(sum, entries, &self.mac).write(&mut tx).await?;
        }
        tx.commit().await?;
        *written = before;
        if let (Some(known), Some((sum, _))) = (known, sum) {
            Arc::make_mut(&mut known.inventory).apply(change);
            known.sum = sum;
        }
        self.wrote(&mut writer, left, fold).await
    }

    /// A fresh connection that stays at this moment, and what memory knows of the rows at the same moment.
    async fn snapshot(&self) -> Result<(SqliteConnection, Option<Arc<Inventory>>), StoreError> {
        let _the_file_stays = self.in_place.read().await;
        let writer = self.writer.lock().await;
        let connection = self.fixed().await?;
        Ok((connection, writer.known.as_ref().map(|known| known.inventory.clone())))
    }

    /// Called with the writer held, or where nobody writes.
    async fn fixed(&self) -> Result<SqliteConnection, StoreError> {
        let mut connection = read_only(&self.path).await?;
        sqlx::query("BEGIN").execute(&mut connection).await?;
        sqlx::query("SELECT count(*) FROM sqlite_schema").fetch_one(&mut connection).await?;
        Ok(connection)
    }

    /// Size of the main file.
    #[must_use]
    pub fn main_file_bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |file| file.len())
    }

    /// Closes the writer in good order: the journal is folded in, and nothing is written any more.
    pub async fn close(&self) -> Result<(), StoreError> {
        let nothing = WriterConnection::of(in_memory().await?, None);
        let writer = std::mem::replace(&mut *self.writer.lock().await, nothing);
        writer.connection.close().await?;
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }
}

impl WriterConnection {
    fn of(connection: SqliteConnection, known: Option<KnownRows>) -> Self {
        Self { connection, known, written: Written::default() }
    }
}

impl KnownRows {
    fn nothing() -> Self {
        Self { inventory: Arc::default(), sum: Sum::default() }
    }

    fn of(inventory: Inventory, key: &MacKey) -> Self {
        Self { sum: Sum::of(&inventory, key), inventory: Arc::new(inventory) }
    }
}

async fn insert_blocks(connection: &mut SqliteConnection, blocks: &[StoredBlock]) -> Result<(), StoreError> {
    for block in blocks {
        sqlx::query("INSERT INTO blocks (height, header, body, certificate) VALUES ($1, $2, $3, $4)")
            .bind(signed(block.height)?)
            .bind(block.header.as_slice())
            .bind(block.body.as_slice())
            .bind(block.certificate.as_str())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// A connection to nothing but the empty tables.
async fn in_memory() -> Result<SqliteConnection, StoreError> {
    let mut connection = SqliteConnectOptions::new().in_memory(true).connect().await?;
    sqlx::raw_sql(TABLES).execute(&mut connection).await?;
    Ok(connection)
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
