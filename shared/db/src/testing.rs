//! Fresh databases for tests: an SQLite file in a folder of its own, and a PostgreSQL schema of its own where
//! `HBC_TEST_POSTGRES_URL` names a server.

use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::{Connection, Executor};

use crate::{Db, DbOptions, Engine, Migration};

/// A migrated database that belongs to one test; it goes away with this value (a PostgreSQL schema stays until
/// its server is thrown away).
#[derive(Debug)]
pub struct TestDatabase {
    /// The database.
    pub db: Db,
    /// Its address, to open it a second time.
    pub url: String,
    _folder: Option<tempfile::TempDir>,
}

/// One fresh database per engine that is at hand, migrated by `steps`.
pub async fn databases(steps: &[Migration]) -> Vec<TestDatabase> {
    let mut all = vec![sqlite(steps).await];
    all.extend(postgres(steps).await);
    all
}

/// A fresh SQLite file, migrated by `steps`.
#[expect(clippy::expect_used, reason = "this is test code that other crates call")]
pub async fn sqlite(steps: &[Migration]) -> TestDatabase {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("sqlite:{}", folder.path().join("test.db").display());
    let db = Db::connect(&url, DbOptions::default()).await.expect("the database opens");
    db.migrate(steps).await.expect("the schema fits");
    TestDatabase { db, url, _folder: Some(folder) }
}

/// A fresh PostgreSQL schema, if a server is named.
#[expect(clippy::expect_used, reason = "this is test code that other crates call")]
pub async fn postgres(steps: &[Migration]) -> Option<TestDatabase> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    #[expect(
        clippy::disallowed_methods,
        reason = "only tests come here, and their server is named in the environment"
    )]
    let base = std::env::var("HBC_TEST_POSTGRES_URL").ok()?;
    let schema = format!("test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let admin = Db::connect(&base, DbOptions::default()).await.expect("the server answers");
    let mut connection = admin.own_connection().await.expect("the server answers");
    let make = format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}");
    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(make))).await.expect("a schema can be made");
    connection.close().await.expect("the connection closes");
    admin.close().await;
    let sign = if base.contains('?') { '&' } else { '?' };
    let url = format!("{base}{sign}options=-c%20search_path%3D{schema}");
    let db = Db::connect(&url, DbOptions::default()).await.expect("the database opens");
    assert_eq!(db.engine(), Engine::Postgres, "the address names PostgreSQL");
    db.migrate(steps).await.expect("the schema fits");
    Some(TestDatabase { db, url, _folder: None })
}
