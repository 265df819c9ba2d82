//! Opening a database: pools, engine settings, and the checks that refuse a wrong one.

use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, Once};
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, ConnectOptions, Executor};
use tokio::sync::Notify;

use crate::writer::Writer;
use crate::{DbError, ReadPool};

/// The engines this crate speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Engine {
    /// One file, one writer: the default.
    Sqlite,
    /// A server, for several processes of one service.
    Postgres,
}

/// How a database is opened. The defaults suit a service on one machine.
#[derive(Clone, Debug)]
pub struct DbOptions {
    /// Make the SQLite file when it is missing. Off, a missing file is an error: a store that vanished must
    /// not be replaced silently by an empty one.
    pub create: bool,
    /// Connections for reads.
    pub read_connections: u32,
    /// Connections for writes on PostgreSQL; SQLite has exactly one.
    pub write_connections: u32,
    /// How long a statement waits for the engine's locks.
    pub busy_timeout: Duration,
    /// Largest number of jobs in one commit on SQLite.
    pub group_jobs: usize,
}

impl Default for DbOptions {
    fn default() -> Self {
        Self {
            create: true,
            read_connections: 4,
            write_connections: 8,
            busy_timeout: Duration::from_secs(5),
            group_jobs: 256,
        }
    }
}

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
    pub(crate) writer: Arc<Writer>,
    /// Told of each commit in which a durable job was enqueued.
    pub(crate) wake: Arc<Notify>,
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
            Engine::Postgres => Writer::postgres(write_pool(&options, &settings).await?, &settings),
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

/// The settings of every connection to this engine.
fn preamble(engine: Engine, settings: &DbOptions) -> String {
    let busy_ms = settings.busy_timeout.as_millis();
    match engine {
        Engine::Sqlite => format!(
            "PRAGMA busy_timeout = {busy_ms}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
             PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON; PRAGMA journal_size_limit = 67108864; \
             PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF;"
        ),
        Engine::Postgres => format!(
            "SET lock_timeout = {busy_ms}; SET statement_timeout = 60000; \
             SET idle_in_transaction_session_timeout = 60000; SET synchronous_commit = on;"
        ),
    }
}

/// One connection with its settings.
pub(crate) async fn open(
    engine: Engine,
    options: &AnyConnectOptions,
    settings: &DbOptions,
) -> Result<AnyConnection, DbError> {
    let mut connection = options.connect().await?;
    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(preamble(engine, settings)))).await?;
    Ok(connection)
}

fn pool(max: u32, settings: &DbOptions) -> AnyPoolOptions {
    AnyPoolOptions::new()
        .max_connections(max.max(1))
        .min_connections(1)
        .acquire_timeout(settings.busy_timeout)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
}

async fn read_pool(
    engine: Engine,
    options: &AnyConnectOptions,
    settings: &DbOptions,
) -> Result<AnyPool, DbError> {
    let mut sql = preamble(engine, settings);
    sql.push_str(match engine {
        Engine::Sqlite => " PRAGMA query_only = ON;",
        Engine::Postgres => " SET default_transaction_read_only = on;",
    });
    Ok(with_preamble(pool(settings.read_connections, settings), sql).connect_with(options.clone()).await?)
}

async fn write_pool(options: &AnyConnectOptions, settings: &DbOptions) -> Result<AnyPool, DbError> {
    let sql = preamble(Engine::Postgres, settings);
    Ok(with_preamble(pool(settings.write_connections, settings), sql).connect_with(options.clone()).await?)
}

fn with_preamble(options: AnyPoolOptions, sql: String) -> AnyPoolOptions {
    let sql: Arc<str> = Arc::from(sql);
    options.after_connect(move |connection, _meta| {
        let sql = Arc::clone(&sql);
        Box::pin(async move {
            connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_string()))).await?;
            Ok(())
        })
    })
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
