//! The rows that no block proves, as they are in a file: promises, refusals and evidence, each with its time and MAC.

use std::collections::HashSet;

use futures_util::TryStreamExt as _;
use hbc_types::Digest;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::{
    Authenticated, MacKey, StoreError, StoredEvidence, StoredPromise, StoredRefusal, digest, to_digest,
    unsigned,
};

/// A row with its time and its MAC as they are in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<T> {
    /// What it says.
    pub row: T,
    /// When it was written, Unix milliseconds.
    pub at_ms: i64,
    pub(super) mac: Digest,
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

impl<T: Authenticated> Row<T> {
    /// True if this member wrote the row.
    #[must_use]
    pub fn is_authentic(&self, key: &MacKey) -> bool {
        let by = |key: &MacKey| self.row.mac(key, self.at_ms) == self.mac;
        by(key) || key.before().is_some_and(|before| by(&before))
    }
}

impl Carried {
    /// Takes the rows of `other` that are not here byte by byte.
    pub fn unite(&mut self, other: Self, key: &MacKey) {
        add(&mut self.promises, other.promises, key);
        add(&mut self.refusals, other.refusals, key);
        add(&mut self.evidence, other.evidence, key);
        self.unreadable.extend(other.unreadable);
    }
}

fn add<T: Authenticated>(to: &mut Vec<Row<T>>, rows: Vec<Row<T>>, key: &MacKey) {
    let content = |row: &Row<T>| (row.row.mac(key, row.at_ms), row.mac);
    let mut here: HashSet<_> = to.iter().map(content).collect();
    to.extend(rows.into_iter().filter(|row| here.insert(content(row))));
}

/// The rows that no block proves; a table that cannot be read to its end is read as far as it can.
pub(super) async fn read_all(connection: &mut SqliteConnection) -> Carried {
    let mut all = Carried::default();
    let promises = "SELECT txid, jws, received_at_ms AS at_ms, mac FROM promises ORDER BY seq";
    if !read(connection, promises, promise, &mut all.promises).await {
        all.unreadable.push("promises");
    }
    let refusals =
        "SELECT txid, jws, reason, excluded_by, refused_at_ms AS at_ms, mac FROM refusals ORDER BY rowid";
    if !read(connection, refusals, refusal, &mut all.refusals).await {
        all.unreadable.push("refusals");
    }
    let evidence =
        "SELECT kind, member, height, detail, seen_at_ms AS at_ms, mac FROM evidence ORDER BY rowid";
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
            Ok(Some(row)) => match with_mac(&row, decode) {
                Ok(row) => into.push(row),
                Err(_misshapen) => whole = false,
            },
            Err(_damaged) => return false,
        }
    }
}

fn with_mac<T>(
    row: &SqliteRow,
    decode: fn(&SqliteRow) -> Result<T, StoreError>,
) -> Result<Row<T>, StoreError> {
    Ok(Row { row: decode(row)?, at_ms: row.try_get("at_ms")?, mac: digest(row, "mac")? })
}

/// The refusal of one transaction.
pub(super) async fn refusal_of(
    connection: &mut SqliteConnection,
    txid: &Digest,
) -> Result<Option<Row<StoredRefusal>>, StoreError> {
    let row = sqlx::query(
        "SELECT txid, jws, reason, excluded_by, refused_at_ms AS at_ms, mac FROM refusals WHERE txid = $1",
    )
    .bind(txid.as_bytes().as_slice())
    .fetch_optional(connection)
    .await?;
    row.map(|row| with_mac(&row, refusal)).transpose()
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

/// MACs these rows under `key`, in the file too.
pub(super) async fn renew_macs(
    carried: &mut Carried,
    key: &MacKey,
    connection: &mut SqliteConnection,
) -> Result<(), StoreError> {
    for row in &mut carried.promises {
        row.mac = row.row.mac(key, row.at_ms);
        write_mac(connection, "UPDATE promises SET mac = $1 WHERE txid = $2", &row.row.txid, &row.mac)
            .await?;
    }
    for row in &mut carried.refusals {
        row.mac = row.row.mac(key, row.at_ms);
        write_mac(connection, "UPDATE refusals SET mac = $1 WHERE txid = $2", &row.row.txid, &row.mac)
            .await?;
    }
    for row in &mut carried.evidence {
        row.mac = row.row.mac(key, row.at_ms);
        let digest = Digest::of(&row.row.detail);
        write_mac(connection, "UPDATE evidence SET mac = $1 WHERE digest = $2", &digest, &row.mac).await?;
    }
    Ok(())
}

async fn write_mac(
    connection: &mut SqliteConnection,
    update: &'static str,
    id: &Digest,
    mac: &Digest,
) -> Result<(), StoreError> {
    let bind = sqlx::query(update).bind(mac.as_bytes().as_slice()).bind(id.as_bytes().as_slice());
    bind.execute(connection).await?;
    Ok(())
}
