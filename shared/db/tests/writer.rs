//! The group-commit writer on every engine at hand: what is durable, what is rolled back, who is told what.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, reason = "test code")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use hbc_db::testing::databases;
use hbc_db::{Db, DbError, DbOptions, Lock, Migration, Tx};

const STEPS: &[Migration] = &[Migration {
    version: 1,
    name: "things",
    sql: "CREATE TABLE things (id BIGINT NOT NULL PRIMARY KEY, body BYTEA, note TEXT);
          CREATE TABLE counters (id TEXT NOT NULL PRIMARY KEY, value BIGINT NOT NULL);",
}];

async fn insert(tx: &mut Tx, id: i64) -> Result<(), DbError> {
    let done = sqlx::query("INSERT INTO things (id, body, note) VALUES ($1, $2, $3)")
        .bind(id)
        .bind(vec![1_u8, 2, 3])
        .bind(None::<String>)
        .execute(tx)
        .await?;
    DbError::one_row(done.rows_affected())
}

async fn count(db: &Db) -> i64 {
    sqlx::query_scalar("SELECT CAST(count(*) AS BIGINT) FROM things").fetch_one(db.reads()).await.unwrap()
}

#[tokio::test]
async fn what_was_answered_is_there() {
    for database in databases(STEPS).await {
        let db = database.db;
        db.write(|tx| Box::pin(async move { insert(tx, 1).await })).await.unwrap();
        assert_eq!(count(&db).await, 1);
        let body: Vec<u8> =
            sqlx::query_scalar("SELECT body FROM things").fetch_one(db.reads()).await.unwrap();
        assert_eq!(body, [1, 2, 3]);
        db.close().await;
        let again = Db::connect(&database.url, DbOptions::default()).await.unwrap();
        again.migrate(STEPS).await.unwrap();
        assert_eq!(count(&again).await, 1);
    }
}

#[tokio::test]
async fn a_failing_job_takes_no_neighbour_down() {
    for database in databases(STEPS).await {
        let db = &database.db;
        let jobs = (0..60_i64).map(|id| {
            db.write(move |tx| {
                Box::pin(async move {
                    insert(tx, id).await?;
                    match id % 3 {
                        0 => insert(tx, id).await,
                        1 => Err(DbError::BadValue { column: "mine" }),
                        _ => Ok(()),
                    }
                })
            })
        });
        for (id, outcome) in join_all(jobs).await.into_iter().enumerate() {
            match id % 3 {
                0 => assert!(matches!(outcome, Err(DbError::UniqueViolation(_))), "{id}: {outcome:?}"),
                1 => {
                    assert!(
                        matches!(outcome, Err(DbError::BadValue { column: "mine" })),
                        "{id}: {outcome:?}"
                    );
                }
                _ => assert!(outcome.is_ok(), "{id}: {outcome:?}"),
            }
        }
        assert_eq!(count(db).await, 20);
    }
}

#[tokio::test]
async fn a_panicking_job_is_rolled_back_and_the_writer_lives() {
    for database in databases(STEPS).await {
        let db = &database.db;
        let panics = db.write(|tx| {
            Box::pin(async move {
                insert(tx, 1).await?;
                assert!(tx.backend_name().is_empty(), "deliberate");
                Ok(())
            })
        });
        let outcome: Result<(), DbError> = panics.await;
        assert!(matches!(outcome, Err(DbError::Panicked)), "{outcome:?}");
        db.write(|tx| Box::pin(async move { insert(tx, 2).await })).await.unwrap();
        assert_eq!(count(db).await, 1);
    }
}

#[tokio::test]
async fn a_job_runs_to_its_end_when_its_caller_goes_away() {
    for database in databases(STEPS).await {
        let db = &database.db;
        let started = Arc::new(tokio::sync::Notify::new());
        let go = Arc::new(tokio::sync::Notify::new());
        let (signal, wait) = (Arc::clone(&started), Arc::clone(&go));
        let handle = hbc_tasks::spawn("change", {
            let db = db.clone();
            async move {
                db.write(move |tx| {
                    Box::pin(async move {
                        insert(tx, 1).await?;
                        signal.notify_one();
                        wait.notified().await;
                        Ok::<(), DbError>(())
                    })
                })
                .await
            }
        });
        started.notified().await;
        handle.abort();
        assert!(handle.await.unwrap_err().is_cancelled());
        go.notify_one();
        db.close().await;
        let again = Db::connect(&database.url, DbOptions::default()).await.unwrap();
        // PostgreSQL ends the transaction on its own connection; give it the moment its commit takes.
        for _ in 0..100 {
            if count(&again).await == 1 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(count(&again).await, 1);
    }
}

#[tokio::test]
async fn lost_updates_do_not_happen() {
    for database in databases(STEPS).await {
        let db = &database.db;
        db.write(|tx| {
            Box::pin(async move {
                sqlx::query("INSERT INTO counters (id, value) VALUES ('a', 0)").execute(tx).await?;
                Ok::<(), DbError>(())
            })
        })
        .await
        .unwrap();
        let jobs = (0..24).map(|_| {
            db.write_locked(vec![Lock::exclusive("a")], |tx| {
                Box::pin(async move {
                    let value: i64 = sqlx::query_scalar("SELECT value FROM counters WHERE id = 'a'")
                        .fetch_one(&mut *tx)
                        .await?;
                    sqlx::query("UPDATE counters SET value = $1 WHERE id = 'a'")
                        .bind(value + 1)
                        .execute(tx)
                        .await?;
                    Ok::<(), DbError>(())
                })
            })
        });
        for outcome in join_all(jobs).await {
            outcome.unwrap();
        }
        let value: i64 =
            sqlx::query_scalar("SELECT value FROM counters").fetch_one(db.reads()).await.unwrap();
        assert_eq!(value, 24);
    }
}

#[tokio::test]
async fn write_skew_without_locks_is_repeated_until_it_is_serial() {
    for database in databases(STEPS).await {
        let db = &database.db;
        let runs = Arc::new(AtomicUsize::new(0));
        // Each job adds a row only while there are fewer than five: more than five would be a skew.
        let jobs = (0..12_i64).map(|id| {
            let runs = Arc::clone(&runs);
            db.write(move |tx| {
                Box::pin(async move {
                    runs.fetch_add(1, Ordering::Relaxed);
                    let there: i64 = sqlx::query_scalar("SELECT CAST(count(*) AS BIGINT) FROM things")
                        .fetch_one(&mut *tx)
                        .await?;
                    if there < 5 { insert(tx, id).await } else { Ok(()) }
                })
            })
        });
        for outcome in join_all(jobs).await {
            outcome.unwrap();
        }
        assert_eq!(count(db).await, 5, "after {} runs", runs.load(Ordering::Relaxed));
    }
}

#[tokio::test]
async fn the_read_pool_cannot_write() {
    for database in databases(STEPS).await {
        let refused = sqlx::query("INSERT INTO things (id) VALUES (9)").execute(database.db.reads()).await;
        assert!(refused.is_err());
        assert_eq!(count(&database.db).await, 0);
    }
}

#[tokio::test]
async fn a_transaction_for_reads_sees_one_state_throughout() {
    for test in databases(STEPS).await {
        let mut reading = test.db.reads().begin().await.unwrap();
        let mut seen = Vec::new();
        for id in 1..=2 {
            let count: i64 = sqlx::query_scalar("SELECT CAST(count(*) AS BIGINT) FROM things")
                .fetch_one(&mut *reading)
                .await
                .unwrap();
            seen.push(count);
            test.db.write(move |tx| Box::pin(async move { insert(tx, id).await })).await.unwrap();
        }
        assert_eq!((seen, count(&test.db).await), (vec![0, 0], 2));
    }
}

#[tokio::test]
async fn messages_that_may_leave_hold_no_sql() {
    for database in databases(STEPS).await {
        let db = &database.db;
        let failed: Result<(), DbError> = db
            .write(|tx| {
                Box::pin(async move {
                    sqlx::query("INSERT INTO nowhere (secret) VALUES ('swordfish')").execute(tx).await?;
                    Ok(())
                })
            })
            .await;
        let error = failed.unwrap_err();
        assert_eq!(error.to_string(), "the database failed");
        assert!(error.source().is_some());
    }
}

#[tokio::test]
async fn sqlite_is_set_up_to_keep_what_it_acknowledges() {
    let database = hbc_db::testing::sqlite(STEPS).await;
    let settings = database
        .db
        .write(|tx| {
            Box::pin(async move {
                let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *tx).await?;
                let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut *tx).await?;
                let foreign: i64 = sqlx::query_scalar("PRAGMA foreign_keys").fetch_one(&mut *tx).await?;
                let erase: i64 = sqlx::query_scalar("PRAGMA secure_delete").fetch_one(&mut *tx).await?;
                Ok::<_, DbError>((journal, synchronous, foreign, erase))
            })
        })
        .await
        .unwrap();
    assert_eq!(settings, ("wal".to_owned(), 2, 1, 1));
    database.db.truncate_log().await.unwrap();
}

#[tokio::test]
async fn a_changed_migration_is_refused() {
    for database in databases(STEPS).await {
        let changed = [Migration { sql: "CREATE TABLE things (id BIGINT);", ..STEPS[0] }];
        assert!(matches!(database.db.migrate(&changed).await, Err(DbError::Migration(_))));
    }
}

#[tokio::test]
async fn waiting_jobs_are_finished_at_closing_and_later_ones_refused() {
    let database = hbc_db::testing::sqlite(STEPS).await;
    let db = &database.db;
    let jobs: Vec<_> =
        (0..50_i64).map(|id| db.write(move |tx| Box::pin(async move { insert(tx, id).await }))).collect();
    let (outcomes, ()) = futures_util::future::join(join_all(jobs), db.close()).await;
    let stored = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let late = db.write(|tx| Box::pin(async move { insert(tx, 99).await })).await;
    assert!(matches!(late, Err(DbError::Closed)));
    let again = Db::connect(&database.url, DbOptions::default()).await.unwrap();
    assert_eq!(count(&again).await, i64::try_from(stored).unwrap());
}

#[tokio::test]
async fn who_waited_for_a_lock_sees_what_its_holder_did() {
    for database in databases(STEPS).await {
        let db = &database.db;
        let (entered, go) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
        let (signal, wait) = (Arc::clone(&entered), Arc::clone(&go));
        let revoke = db.write_locked(vec![Lock::exclusive("pat-1")], move |tx| {
            Box::pin(async move {
                signal.notify_one();
                wait.notified().await;
                insert(tx, 1).await
            })
        });
        let look = |lock: Lock| {
            db.write_locked(vec![lock], |tx| {
                Box::pin(async move {
                    let there: i64 = sqlx::query_scalar("SELECT CAST(count(*) AS BIGINT) FROM things")
                        .fetch_one(tx)
                        .await?;
                    Ok::<_, DbError>(there)
                })
            })
        };
        let after = async {
            entered.notified().await;
            let release = async {
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                go.notify_one();
            };
            futures_util::future::join(look(Lock::shared("pat-1")), release).await.0
        };
        let (revoked, seen) = futures_util::future::join(revoke, after).await;
        revoked.unwrap();
        assert_eq!(seen.unwrap(), 1, "a release that waited must see the revocation");
        assert_eq!(look(Lock::shared("pat-2")).await.unwrap(), 1);
    }
}
