//! The one way to change the database: in a transaction that notes what changes rights, so that the journal beside it has it
//! before anybody is answered.
//!
//! Why: decision 0121.

use hbc_db::floors::Rereading;
use hbc_db::journal::{Journal, to_the_end};
use hbc_db::{Db, JobFuture, Lock, Tx};

use crate::domain::floors::Changes;
use crate::error::Error;
use crate::store::{Rows, alarm};

/// The database, the key that MACs its rows, and the journal beside it.
#[derive(Clone, Debug)]
pub struct Store {
    /// The database, for reads.
    pub db: Db,
    /// Access to its rows.
    pub rows: Rows,
    /// What the database must not fall behind.
    pub journal: Journal,
}

impl Store {
    /// Runs a job in a transaction. What it changed is durable, and in the journal, when this returns.
    pub async fn write<T, F>(&self, job: F) -> Result<T, Error>
    where
        F: for<'c> FnOnce(&'c mut Tx, Rows) -> JobFuture<'c, T, Error> + Clone + Send + 'static,
        T: Send + 'static,
    {
        self.write_locked(Vec::new(), job).await
    }

    /// The same, holding `locks` from before the transaction begins until after it ended.
    pub async fn write_locked<T, F>(&self, locks: Vec<Lock>, job: F) -> Result<T, Error>
    where
        F: for<'c> FnOnce(&'c mut Tx, Rows) -> JobFuture<'c, T, Error> + Clone + Send + 'static,
        T: Send + 'static,
    {
        let this = self.clone();
        // A caller who hangs up stops nothing between the commit and the journal.
        to_the_end("change of rights", async move { this.write_here(locks, job).await }).await
    }

    async fn write_here<T, F>(&self, locks: Vec<Lock>, job: F) -> Result<T, Error>
    where
        F: for<'c> FnOnce(&'c mut Tx, Rows) -> JobFuture<'c, T, Error> + Clone + Send + 'static,
        T: Send + 'static,
    {
        let mut rereading = Rereading::default();
        loop {
            let (rows, job) = (self.rows.clone(), job.clone());
            let outcome = self.db.write_locked(locks.clone(), move |tx| {
                Box::pin(async move {
                    let changes = Changes::default();
                    let value = job(tx, rows.noting(changes.clone())).await?;
                    Ok((value, changes.take()))
                })
            });
            match outcome.await {
                Ok((value, changes)) => {
                    self.journal.append(&changes).await?;
                    return Ok(value);
                }
                Err(Error::SetBack(error)) if rereading.is_called_for(error) => {}
                Err(Error::SetBack(error)) => {
                    alarm(error.table);
                    return Err(Error::Tampered);
                }
                Err(error) => return Err(error),
            }
        }
    }
}
