//! Reading blocks, in order or one by one, in pieces that are bounded by bytes.
//!
//! Why: decision 0088.

use std::path::Path;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{ConnectOptions as _, Row as _};
use tokio::task::JoinHandle;

use super::{StoreError, StoredBlock, signed, unsigned};

/// Bytes of blocks in memory at once when many are read.
const BYTES_PER_READ: usize = 8 << 20;
/// Rows that the database hands over ahead of the reader: a block may have 8 MiB.
const ROWS_AHEAD: usize = 2;

/// Reads blocks in order, in large pieces.
#[derive(Debug)]
pub struct BlockReader {
    pub(super) connection: SqliteConnection,
    pub(super) next: u64,
}

pub(super) async fn read_only(path: &Path) -> Result<SqliteConnection, StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .row_buffer_size(ROWS_AHEAD)
        .busy_timeout(Duration::from_secs(10))
        .disable_statement_logging();
    match options.connect().await {
        Ok(connection) => Ok(connection),
        // One that is gone is told apart from one that cannot be opened just now.
        Err(error) => Err(std::fs::metadata(path).err().map_or(error.into(), StoreError::Io)),
    }
}

impl BlockReader {
    /// The block of one height, wherever the reader stands.
    pub async fn at(&mut self, height: u64) -> Result<Option<StoredBlock>, StoreError> {
        self.seek(height);
        Ok(self.read(1).await?.pop().filter(|block| block.height == height))
    }

    /// Header and certificate of one height, without the transactions between them.
    pub async fn head(&mut self, height: u64) -> Result<Option<(Vec<u8>, String)>, StoreError> {
        let row = sqlx::query("SELECT header, certificate FROM blocks WHERE height = $1")
            .bind(signed(height)?)
            .fetch_optional(&mut self.connection)
            .await?;
        row.map(|row| Ok((row.try_get("header")?, row.try_get("certificate")?))).transpose()
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
        let limit = self.fitting(limit, most_bytes).await?;
        let most_bytes = u64::try_from(most_bytes).unwrap_or(u64::MAX);
        let mut rows = sqlx::query(
            "SELECT height, header, body, certificate FROM blocks WHERE height >= $1 ORDER BY height LIMIT $2",
        )
        .bind(signed(self.next)?)
        .bind(limit)
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

    /// How many of the next `limit` blocks end with the one that reaches `most_bytes`. The database reads ahead of whoever
    /// takes its rows, and a row may have 8 MiB: it is told where to end.
    async fn fitting(&mut self, limit: u32, most_bytes: usize) -> Result<i64, StoreError> {
        if limit < 2 {
            return Ok(i64::from(limit));
        }
        let before: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM (SELECT sum(size) OVER (ORDER BY height) AS until FROM (
                SELECT height, octet_length(header) + octet_length(body) + octet_length(certificate) AS size
                    FROM blocks WHERE height >= $1 ORDER BY height LIMIT $2))
                WHERE until < $3",
        )
        .bind(signed(self.next)?)
        .bind(i64::from(limit))
        .bind(i64::try_from(most_bytes).unwrap_or(i64::MAX))
        .fetch_one(&mut self.connection)
        .await?;
        Ok(before.saturating_add(1).min(i64::from(limit)))
    }
}

/// What was read, and its reader, to go on with.
type Piece = (BlockReader, Result<Vec<StoredBlock>, StoreError>);

/// The same in order, with the next piece being read while one is worked on.
#[derive(Debug)]
pub struct ReadAhead {
    limit: u32,
    under_way: Option<JoinHandle<Piece>>,
}

impl ReadAhead {
    /// From where the reader stands, at most `limit` blocks at once.
    #[must_use]
    pub fn begin(reader: BlockReader, limit: u32) -> Self {
        Self { limit, under_way: Some(Self::read(reader, limit)) }
    }

    fn read(mut reader: BlockReader, limit: u32) -> JoinHandle<Piece> {
        hbc_service::spawn("reading ahead", async move {
            let blocks = reader.read(limit).await;
            (reader, blocks)
        })
    }

    /// The next blocks; empty at the end, and after an error.
    pub async fn next(&mut self) -> Result<Vec<StoredBlock>, StoreError> {
        let Some(under_way) = self.under_way.take() else { return Ok(Vec::new()) };
        let (reader, blocks) = under_way.await.map_err(|ended| StoreError::Io(ended.into()))?;
        let blocks = blocks?;
        if !blocks.is_empty() {
            self.under_way = Some(Self::read(reader, self.limit));
        }
        Ok(blocks)
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        if let Some(under_way) = &self.under_way {
            under_way.abort();
        }
    }
}

fn stored_block(row: &SqliteRow) -> Result<StoredBlock, StoreError> {
    Ok(StoredBlock {
        height: unsigned(row.try_get("height")?)?,
        header: row.try_get("header")?,
        body: row.try_get("body")?,
        certificate: row.try_get("certificate")?,
    })
}
