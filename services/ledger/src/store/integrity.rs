//! Whether the database is, apart from its blocks, what this node made of it: its tables and triggers, its
//! pages, its header, and the MACs of the rows that no block proves.

use std::collections::HashSet;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use hbc_chain::merkle::leaf_hash;
use hbc_types::Digest;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Row as _};
use tokio::sync::OnceCell;

use super::{
    Carried, Inventory, KnownRows, MultisetHash, Store, StoreError, Sum, Table, WriterConnection, in_memory,
    rows, to_digest,
};

/// SQLite's result code for a database that it takes for read-only.
const READ_ONLY: i32 = 8;

/// What is not as this node made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsound {
    /// The tables, indices or triggers.
    Schema,
    /// The file's header, or its pages and indices among themselves.
    Pages,
    /// The journal is not what this node wrote.
    Journal,
    /// A row of this table.
    Row(&'static str),
}

type Schema = Vec<(Vec<u8>, Vec<u8>, Vec<u8>, Option<Vec<u8>>)>;

/// Whether a file has tables; false for a new one. They must be these and no others, and the file must take writes
/// where the file system does.
pub(super) async fn has_our_schema(
    path: &Path,
    connection: &mut SqliteConnection,
) -> Result<bool, StoreError> {
    let found = schema(connection).await?;
    if !found.is_empty() && found != *expected().await? {
        return Err(StoreError::Shape("tables and triggers"));
    }
    match sqlx::raw_sql("BEGIN IMMEDIATE; ROLLBACK").execute(connection).await {
        Err(sqlx::Error::Database(error))
            if error
                .code()
                .and_then(|code| code.parse::<i32>().ok())
                .is_some_and(|c| c & 0xff == READ_ONLY)
                && std::fs::File::options().write(true).open(path).is_ok() =>
        {
            Err(StoreError::Shape("header"))
        }
        Err(error) => Err(error.into()),
        Ok(_) => Ok(!found.is_empty()),
    }
}

async fn schema(connection: &mut SqliteConnection) -> Result<Schema, StoreError> {
    let rows = sqlx::query(
        "SELECT CAST(type AS BLOB), CAST(name AS BLOB), CAST(tbl_name AS BLOB), CAST(sql AS BLOB)
         FROM sqlite_schema ORDER BY 2",
    )
    .fetch_all(connection)
    .await?;
    let column = |row: &sqlx::sqlite::SqliteRow| {
        Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?))
    };
    rows.iter().map(column).collect::<Result<_, sqlx::Error>>().map_err(StoreError::from)
}

/// What documents are found by.
async fn digests(connection: &mut SqliteConnection) -> Result<HashSet<Digest>, StoreError> {
    let rows = sqlx::query("SELECT digest FROM evidence").fetch_all(connection).await?;
    rows.iter().map(|row| to_digest(row.try_get("digest")?)).collect()
}

/// As the tables of this build are; made once.
async fn expected() -> Result<&'static Schema, StoreError> {
    static EXPECTED: OnceCell<Schema> = OnceCell::const_new();
    EXPECTED.get_or_try_init(async || schema(&mut in_memory().await?).await).await
}

impl Store {
    /// Whether tables, triggers and the rows that no block proves are this node's, each of them and no others, on a
    /// fresh connection; and that no block stands below block 0, where nothing else looks.
    pub async fn check_rows(&self) -> Result<Option<Unsound>, StoreError> {
        let (mut connection, inventory) = self.snapshot().await?;
        Ok(match self.read_rows(&mut connection).await? {
            Err(unsound) => Some(unsound),
            Ok(found) => {
                let differs = inventory.and_then(|inventory| inventory.difference(&Inventory::of(&found)));
                differs.map(|table| Unsound::Row(table.name()))
            }
        })
    }

    /// The same at a start, when memory knows nothing yet: what is found sound is what this node wrote. What it
    /// authenticated under the key before is authenticated anew, so that the file needs that key no longer.
    pub async fn take_inventory(&self) -> Result<Option<Unsound>, StoreError> {
        let _the_file_stays = self.in_place.read().await;
        let mut writer = self.writer.lock().await;
        let found = match self.read_rows(&mut self.fixed().await?).await? {
            Err(unsound) => return Ok(Some(unsound)),
            Ok(found) => found,
        };
        let WriterConnection { connection, known, .. } = &mut *writer;
        let left = self.left(connection).await?;
        let inventory = if self.is_under_the_key(connection, &found).await? {
            Inventory::of(&found)
        } else {
            self.renew_macs(connection, found).await?
        };
        *known = Some(KnownRows::of(inventory, &self.mac));
        self.wrote(&mut writer, left, true).await?;
        Ok(None)
    }

    /// All rows, if schema, MACs and multiset hash are right.
    async fn read_rows(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<Result<Carried, Unsound>, StoreError> {
        if schema(connection).await? != *expected().await? {
            return Ok(Err(Unsound::Schema));
        }
        let carried = rows::read_all(connection).await;
        if let Some(table) = carried.unreadable.first() {
            return Ok(Err(Unsound::Row(table)));
        }
        let row = |table: Table| Ok(Err(Unsound::Row(table.name())));
        let promised = |jws: &[u8], txid| leaf_hash(jws) == txid;
        if !carried
            .promises
            .iter()
            .all(|row| row.is_authentic(&self.mac) && promised(&row.row.jws, row.row.txid))
        {
            return row(Table::Promises);
        }
        if !carried.refusals.iter().all(|row| row.is_authentic(&self.mac)) {
            return row(Table::Refusals);
        }
        let evidence = carried.evidence.iter().map(|row| Digest::of(&row.row.detail)).collect::<HashSet<_>>();
        if evidence != digests(connection).await?
            || !carried.evidence.iter().all(|row| row.is_authentic(&self.mac))
        {
            return row(Table::Evidence);
        }
        let multiset_hash = MultisetHash::read(connection).await;
        let fits = |multiset_hash: &MultisetHash| {
            let inventory = Inventory::of(&carried);
            let before = self.mac.before();
            multiset_hash.fits(&inventory, &self.mac)
                || before.is_some_and(|before| multiset_hash.fits(&inventory, &before))
        };
        if !multiset_hash.is_ok_and(|multiset_hash| multiset_hash.as_ref().is_some_and(fits)) {
            return Ok(Err(Unsound::Row("multiset_hash")));
        }
        let lowest: Option<i64> =
            sqlx::query("SELECT min(height) FROM blocks").fetch_one(connection).await?.try_get(0)?;
        Ok(if lowest.is_some_and(|lowest| lowest < 0) { Err(Unsound::Row("blocks")) } else { Ok(carried) })
    }

    async fn is_under_the_key(
        &self,
        connection: &mut SqliteConnection,
        found: &Carried,
    ) -> Result<bool, StoreError> {
        let multiset_hash = MultisetHash::read(connection).await?;
        Ok(multiset_hash.is_some_and(|multiset_hash| multiset_hash.fits(&Inventory::of(found), &self.mac)))
    }

    async fn renew_macs(
        &self,
        connection: &mut SqliteConnection,
        mut found: Carried,
    ) -> Result<Inventory, StoreError> {
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
        rows::renew_macs(&mut found, &self.mac, &mut tx).await?;
        let inventory = Inventory::of(&found);
        MultisetHash::new(Sum::of(&inventory, &self.mac), inventory.entries(), &self.mac)
            .write(&mut tx)
            .await?;
        tx.commit().await?;
        tracing::info!(
            store.rows = inventory.entries(),
            "Rows of the key before are authenticated under the present one"
        );
        Ok(inventory)
    }

    /// Whether header, pages and indices fit together, on a fresh connection, and the file at the path is the one that
    /// this node writes. Reads the whole file.
    pub async fn check_pages(&self) -> Result<Option<Unsound>, StoreError> {
        let (mut connection, ours) = {
            let _the_file_stays = self.in_place.read().await;
            let mut writer = self.writer.lock().await;
            let folded = self.fold(&mut writer).await?;
            let ours = self.header_is_ours(folded)?;
            (self.fixed().await?, ours)
        };
        if self.journal_changed.load(Ordering::Relaxed) {
            return Ok(Some(Unsound::Journal));
        }
        if !ours {
            return Ok(Some(Unsound::Pages));
        }
        let row = sqlx::query("PRAGMA integrity_check(1)").fetch_one(&mut connection).await?;
        let found: String = row.try_get(0)?;
        if found == "ok" {
            return Ok(None);
        }
        tracing::error!(store.finding = %found, "The database's pages do not fit together");
        Ok(Some(Unsound::Pages))
    }

    /// The 100-byte header (SQLite's file format, section 1.3): what is the same in every file that this node makes,
    /// and the number of pages, which is that of the file once its journal was folded in.
    fn header_is_ours(&self, folded: bool) -> Result<bool, StoreError> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = &*file else { return Ok(false) };
        let (here, named) = (file.metadata()?, std::fs::metadata(&self.path)?);
        let mut header = [0; 100];
        file.read_exact_at(&mut header, 0)?;
        let pages = folded.then_some(here.len() / 4_096);
        Ok((here.dev(), here.ino()) == (named.dev(), named.ino()) && is_our_header(&header, pages))
    }
}

fn is_our_header(header: &[u8; 100], pages: Option<u64>) -> bool {
    let word = |at: usize| {
        let bytes = header.get(at..).and_then(|rest| rest.first_chunk::<4>());
        bytes.map(|bytes| u32::from_be_bytes(*bytes))
    };
    // Magic, 4,096 bytes a page, journal beside the file, nothing reserved, the fixed fractions.
    header.starts_with(b"SQLite format 3\0\x10\0\x02\x02\0\x40\x20\x20")
        && pages.is_none_or(|pages| word(28).map(u64::from) == Some(pages))
        // Schema format 4; no suggested cache, no vacuum; UTF-8; no user version, application or reserve.
        && [(44, 4), (48, 0), (52, 0), (56, 1), (60, 0), (64, 0), (68, 0)]
            .iter()
            .all(|(at, value)| word(*at) == Some(*value))
        && header.get(72..92).is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
        // The page count is valid for this state of the file.
        && word(24) == word(92)
}

#[cfg(test)]
mod tests {
    use super::super::{MacKey, StoredEvidence, StoredPromise, StoredRefusal};
    use super::*;

    fn key() -> MacKey {
        MacKey::of(&ed25519_dalek::SigningKey::from_bytes(&[7; 32]))
    }

    fn promise() -> StoredPromise {
        StoredPromise { txid: leaf_hash(b"jws"), jws: b"jws".to_vec() }
    }

    async fn filled(folder: &tempfile::TempDir) -> Store {
        let store = Store::open(&folder.path().join("ledger.db"), true, key()).await.unwrap();
        store.add_promises(&[promise()], 5).await.unwrap();
        let refusal = StoredRefusal {
            txid: Digest::of(b"r"),
            jws: b"r".to_vec(),
            reason: "late".to_owned(),
            excluded_by: None,
        };
        store.refuse(&[refusal], 6).await.unwrap();
        let evidence =
            StoredEvidence { kind: "store".into(), member: None, height: 4, detail: b"d".to_vec() };
        store.add_evidence(&evidence, 7).await.unwrap();
        store
    }

    #[tokio::test]
    async fn rows_and_pages_of_an_untouched_file_are_sound() {
        let folder = tempfile::tempdir().unwrap();
        let store = filled(&folder).await;
        assert_eq!(store.check_rows().await.unwrap(), None);
        assert_eq!(store.check_pages().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_changed_row_and_a_dropped_trigger_are_found() {
        for (change, found) in [
            ("UPDATE promises SET received_at_ms = 9", Unsound::Row("promises")),
            ("UPDATE promises SET jws = 'jwS'", Unsound::Row("promises")),
            ("UPDATE refusals SET reason = 'because'", Unsound::Row("refusals")),
            ("UPDATE evidence SET height = 5", Unsound::Row("evidence")),
            ("UPDATE evidence SET kind = x'00'", Unsound::Row("evidence")),
            ("DELETE FROM promises", Unsound::Row("multiset_hash")),
            ("DELETE FROM evidence", Unsound::Row("multiset_hash")),
            ("INSERT INTO blocks VALUES (-1, x'', x'', '')", Unsound::Row("blocks")),
            ("DROP TRIGGER blocks_keep", Unsound::Schema),
            ("CREATE INDEX mine ON promises (jws)", Unsound::Schema),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let store = filled(&folder).await;
            sqlx::query(sqlx::AssertSqlSafe(change))
                .execute(&mut store.writer.lock().await.connection)
                .await
                .unwrap();
            assert_eq!(store.check_rows().await.unwrap(), Some(found), "{change}");
        }
    }

    #[tokio::test]
    async fn a_file_with_other_tables_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let store = filled(&folder).await;
        sqlx::query("DROP TRIGGER blocks_stay")
            .execute(&mut store.writer.lock().await.connection)
            .await
            .unwrap();
        store.close().await.unwrap();
        let error = Store::open(&folder.path().join("ledger.db"), true, key()).await.unwrap_err();
        assert!(error.is_damage(), "{error}");
    }

    #[tokio::test]
    async fn every_byte_of_the_header_that_means_something_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        filled(&folder).await.close().await.unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let pages = bytes.len() as u64 / 4_096;
        let header: [u8; 100] = bytes[..100].try_into().unwrap();
        assert!(is_our_header(&header, Some(pages)));
        // What is left: the free pages (the integrity check counts them), the schema's counter and the version of
        // SQLite that wrote last, which nothing reads.
        let free = (32..44).chain(96..100);
        for at in (0..100).filter(|at| !free.clone().any(|other| other == *at)) {
            let mut changed = header;
            changed[at] ^= 1;
            assert!(!is_our_header(&changed, Some(pages)), "byte {at}");
        }
    }
}
