//! What a healed database takes over from the damaged one besides its blocks, and how one file takes the place
//! of the other.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use sqlx::Connection as _;
use tokio::sync::{MutexGuard, RwLockWriteGuard};

use super::inventory::Inventory;
use super::rows::{Carried, read_all};
use super::{
    KnownRows, MacKey, Store, StoreError, StoredBlock, Table, WriterConnection, in_memory, insert_blocks,
    journal,
};
use hbc_db::disk::{beside, sync_folder_of};

/// Holds readers and the writer off while the file is replaced.
pub struct Hold<'a> {
    store: &'a Store,
    writer: MutexGuard<'a, WriterConnection>,
    _no_reader_opens: RwLockWriteGuard<'a, ()>,
}

impl Store {
    /// The key of the rows' MACs.
    #[must_use]
    pub const fn mac_key(&self) -> &MacKey {
        &self.mac
    }

    /// The rows that no block proves; a table that cannot be read to its end is read as far as it can.
    pub async fn carried(&self) -> Result<Carried, StoreError> {
        let mut connection = self.fresh().await?;
        Ok(read_all(&mut connection).await)
    }

    /// Adds such rows, authenticated anew; what is there stays.
    pub async fn import(&self, carried: &Carried) -> Result<(), StoreError> {
        self.write(false, async |rows| {
            for row in &carried.promises {
                rows.promises(std::slice::from_ref(&row.row), row.at_ms).await?;
            }
            for row in &carried.refusals {
                rows.refusal(&row.row, row.at_ms).await?;
            }
            for row in &carried.evidence {
                rows.evidence(&row.row, row.at_ms).await?;
            }
            Ok(())
        })
        .await
    }

    /// Adds blocks in one commit.
    pub async fn import_blocks(&self, blocks: &[StoredBlock]) -> Result<(), StoreError> {
        self.write(true, async |rows| insert_blocks(rows.connection, blocks).await).await
    }

    /// Folds the journal in and closes: what is left is the one file. Answers what it has beside its blocks.
    pub async fn finish(self) -> Result<Option<Inventory>, StoreError> {
        let path = self.path.clone();
        let WriterConnection { mut connection, known, .. } = self.writer.into_inner();
        sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await?;
        connection.close().await?;
        let journal = beside(&path, "-wal");
        if std::fs::metadata(journal).is_ok_and(|file| file.len() > 0) {
            return Err(std::io::Error::other("the journal could not be folded in").into());
        }
        Ok(known.map(|known| Arc::unwrap_or_clone(known.inventory)))
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
            Ok(mut connection) => all.unite(read_all(&mut connection).await, &self.store.mac),
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
        known.inventory.missing(&Inventory::of(carried)).filter(|(_, count)| *count > 0).collect()
    }

    /// Closes the damaged database without touching its bytes: SQLite would fold the journal in with the last connection
    /// that may write, so one that may only read goes after it.
    pub async fn close(&mut self) -> Result<(), StoreError> {
        let last = self.store.fixed().await;
        let nothing = WriterConnection::of(in_memory().await?, None);
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
    pub async fn replace(mut self, new: &Path, inventory: Option<Inventory>) -> Result<(), StoreError> {
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
        let WriterConnection { connection, .. } = Store::open_writer(path, false, &self.store.mac).await?;
        let known = inventory.map(|inventory| KnownRows::of(inventory, &self.store.mac));
        *self.writer = WriterConnection::of(connection, known);
        *self.store.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::fs::File::open(path)?);
        self.store.forget_stamps();
        Ok(())
    }
}
