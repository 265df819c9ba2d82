//! An open database: opening it with the checks that refuse a wrong one, and handing jobs to its writer.

use std::error::Error;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, Once};

use sqlx::any::AnyConnectOptions;
use sqlx::{AnyConnection, ConnectOptions};
use tokio::sync::Notify;

use crate::connection::{DbOptions, Engine, open, read_pool, write_pool};
use crate::writer::Writer;
use crate::{DbError, JobFuture, Lock, ReadPool, Tx};

/// How busy a database's connections are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connections {
    /// Connections for reads.
    pub reads: u64,
    /// Those of them that nobody uses.
    pub idle_reads: u64,
    /// Connections for writes.
    pub writes: u64,
    /// Those of them that nobody uses; SQLite's one counts as busy while changes wait for it.
    pub idle_writes: u64,
    /// Changes that wait for SQLite's writer.
    pub waiting_changes: u64,
}

/// An open database. Clones share the pools and the writer.
#[derive(Clone)]
pub struct Db {
    engine: Engine,
    options: AnyConnectOptions,
    reads: ReadPool,
    writer: Arc<Writer>,
    /// Told of each commit in which a durable job was enqueued.
    wake: Arc<Notify>,
    settings: DbOptions,
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl Db {
    /// Opens `url`: `sqlite:PATH`, `sqlite://PATH` or `postgres://…`. Must be called inside a tokio runtime.
    ///
    /// SQLite runs with WAL, `synchronous=FULL`, `foreign_keys`, `secure_delete` and a bounded journal; its
    /// read connections refuse to write.
    pub async fn connect(url: &str, settings: DbOptions) -> Result<Self, DbError> {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);
        let (engine, url) = normalise(url, settings.create)?;
        let options = AnyConnectOptions::from_str(&url)
            .map_err(|_may_hold_a_password| DbError::Configuration("the address cannot be read".to_owned()))?
            .disable_statement_logging();
        let wake = Arc::new(Notify::new());
        let writer = match engine {
            Engine::Sqlite => Writer::sqlite(options.clone(), settings.clone(), Arc::clone(&wake)).await?,
            Engine::Postgres => Writer::postgres(write_pool(&options, &settings).await?, Arc::clone(&wake)),
        };
        let reads = read_pool(engine, &options, &settings).await?;
        Ok(Self { engine, options, reads, writer: Arc::new(writer), wake, settings })
    }

    /// The pool for reads. On SQLite a statement that writes fails here.
    #[must_use]
    pub const fn reads(&self) -> &ReadPool {
        &self.reads
    }

    /// Resolves once a durable job was enqueued by this process since the last time; for its one runner.
    pub async fn job_enqueued(&self) {
        self.wake.notified().await;
    }

    /// How busy the connections are.
    #[must_use]
    pub fn connections(&self) -> Connections {
        let (writes, idle_writes, waiting_changes) = self.writer.load();
        Connections {
            reads: u64::from(self.reads.size()),
            idle_reads: self.reads.num_idle() as u64,
            writes,
            idle_writes,
            waiting_changes,
        }
    }

    /// Which engine this is; a service has no reason to ask, its health page may.
    #[must_use]
    pub const fn engine(&self) -> Engine {
        self.engine
    }

    /// Runs `job` in a transaction and returns what it returned, once that is durable. `Err` means that
    /// nothing of it is stored. The job's captures are cloned for repetitions: put what is large into an
    /// `Arc`.
    pub async fn write<T, E, F>(&self, job: F) -> Result<T, E>
    where
        F: for<'c> FnOnce(&'c mut Tx) -> JobFuture<'c, T, E> + Clone + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + Error + Send + 'static,
    {
        self.writer.run(Vec::new(), job).await
    }

    /// Like [`Db::write`], holding `locks` from before the transaction begins until after it ended.
    pub async fn write_locked<T, E, F>(&self, locks: Vec<Lock>, job: F) -> Result<T, E>
    where
        F: for<'c> FnOnce(&'c mut Tx) -> JobFuture<'c, T, E> + Clone + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + Error + Send + 'static,
    {
        self.writer.run(locks, job).await
    }

    /// Moves the whole write-ahead log into the main file and cuts it to nothing, so that erased rows are
    /// not left in it. Does nothing on PostgreSQL.
    pub async fn truncate_log(&self) -> Result<(), DbError> {
        self.writer.truncate_log().await
    }

    /// Finishes the waiting jobs and closes every connection.
    pub async fn close(&self) {
        self.writer.close().await;
        self.reads.close().await;
    }

    /// A connection of one's own with the engine's settings, outside the pools and the writer.
    pub(crate) async fn own_connection(&self) -> Result<AnyConnection, DbError> {
        open(self.engine, &self.options, &self.settings).await
    }
}

/// The engine of `url` and the form of it that the driver takes.
fn normalise(url: &str, create: bool) -> Result<(Engine, String), DbError> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok((Engine::Postgres, url.to_owned()));
    }
    let refuse = |why: &str| Err(DbError::Configuration(why.to_owned()));
    let Some(path) = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:")) else {
        return refuse("the address must begin with `sqlite:` or `postgres:`");
    };
    if path.is_empty() || path.contains(":memory:") || path.contains('?') {
        return refuse("SQLite needs the path of a file, without parameters");
    }
    if !create && !Path::new(path).exists() {
        return refuse("the database file is missing");
    }
    let mut escaped = String::with_capacity(path.len() + 16);
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                escaped.push(char::from(byte));
            }
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    let mode = if create { "rwc" } else { "rw" };
    Ok((Engine::Sqlite, format!("sqlite:{escaped}?mode={mode}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_and_escaped() {
        let (engine, url) = normalise("sqlite:/tmp/a b#c.db", true).unwrap();
        assert_eq!((engine, url.as_str()), (Engine::Sqlite, "sqlite:/tmp/a%20b%23c.db?mode=rwc"));
        assert_eq!(normalise("postgres://u@h/d", true).unwrap().0, Engine::Postgres);
        for bad in ["mysql://x", "sqlite::memory:", "sqlite:", "sqlite:/x?mode=memory"] {
            assert!(normalise(bad, true).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_missing_file_is_refused_unless_it_may_be_made() {
        assert!(normalise("sqlite:/nonexistent/store.db", false).is_err());
    }
}
