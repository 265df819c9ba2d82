//! Embedded migrations: this crate's own tables first, then the service's.

use std::borrow::Cow;

use sqlx::migrate::{MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr};

use crate::{Db, DbError, Engine};

/// One step of a service's schema. Once released it is never edited: its checksum is stored.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// The number in the file's name, ascending.
    pub version: i64,
    /// What the step brings, as in the file's name.
    pub name: &'static str,
    /// Portable SQL; several statements are allowed.
    pub sql: &'static str,
}

/// `migrations![1 "accounts" "../migrations/0001_accounts.sql", …]`: the list for [`Db::migrate`], embedded.
#[macro_export]
macro_rules! migrations {
    ($($version:literal $name:literal $path:literal),+ $(,)?) => {
        &[$($crate::Migration { version: $version, name: $name, sql: include_str!($path) }),+]
    };
}

/// A step whose numbering of rows the engines write differently has a file for each.
const OWN_SQLITE: &[Migration] = migrations![
    1 "platform" "../migrations/0001_platform_sqlite.sql",
    2 "jobs" "../migrations/0002_jobs_sqlite.sql",
    3 "settled bytes" "../migrations/0003_settled_bytes.sql",
    4 "saved headers" "../migrations/0004_saved_headers.sql",
    5 "key checks" "../migrations/0005_key_checks.sql",
];
const OWN_POSTGRES: &[Migration] = migrations![
    1 "platform" "../migrations/0001_platform_postgres.sql",
    2 "jobs" "../migrations/0002_jobs_postgres.sql",
    3 "settled bytes" "../migrations/0003_settled_bytes.sql",
    4 "saved headers" "../migrations/0004_saved_headers.sql",
    5 "key checks" "../migrations/0005_key_checks.sql",
];
const OWN_TABLE: &str = "_hbc_db_migrations";

impl Db {
    /// Brings the schema up to date: the tables of [`crate::outbox`], [`crate::follow`], [`crate::idempotency`] and
    /// [`crate::jobs`], then the service's `steps`. A changed or unknown stored step is an error.
    pub async fn migrate(&self, steps: &[Migration]) -> Result<(), DbError> {
        let mut own = migrator(match self.engine() {
            Engine::Sqlite => OWN_SQLITE,
            Engine::Postgres => OWN_POSTGRES,
        });
        own.dangerous_set_table_name(OWN_TABLE);
        self.run(&own).await?;
        self.run(&migrator(steps)).await
    }

    async fn run(&self, migrator: &Migrator) -> Result<(), DbError> {
        let mut connection = self.own_connection().await?;
        migrator.run_direct(None, &mut connection, false).await?;
        sqlx::Connection::close(connection).await?;
        Ok(())
    }
}

fn migrator(steps: &[Migration]) -> Migrator {
    let steps = steps.iter().map(|step| {
        let sql = AssertSqlSafe(step.sql).into_sql_str();
        sqlx::migrate::Migration::new(
            step.version,
            Cow::Borrowed(step.name),
            MigrationType::Simple,
            sql,
            false,
        )
    });
    Migrator::with_migrations(steps.collect())
}
