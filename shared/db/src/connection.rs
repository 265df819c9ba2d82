//! How an engine is spoken to: its options, the settings of every connection, and the pools.

use std::sync::Arc;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, ConnectOptions, Executor};

use crate::DbError;

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

/// Connections for reads: on both engines the statements of one transaction see one state, and none writes.
pub(crate) async fn read_pool(
    engine: Engine,
    options: &AnyConnectOptions,
    settings: &DbOptions,
) -> Result<AnyPool, DbError> {
    let mut sql = preamble(engine, settings);
    sql.push_str(match engine {
        Engine::Sqlite => " PRAGMA query_only = ON;",
        Engine::Postgres => {
            " SET default_transaction_read_only = on; SET default_transaction_isolation = 'repeatable read';"
        }
    });
    Ok(with_preamble(pool(settings.read_connections, settings), sql).connect_with(options.clone()).await?)
}

pub(crate) async fn write_pool(
    options: &AnyConnectOptions,
    settings: &DbOptions,
) -> Result<AnyPool, DbError> {
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
