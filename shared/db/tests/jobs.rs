//! The queue of durable jobs on every engine at hand: who gets a job, in which order, and what a lost lease may still do.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, reason = "test code")]

use std::time::Duration;

use futures_util::future::join_all;
use hbc_db::jobs::listing::{self, State};
use hbc_db::jobs::{self, Claim, Finished, NewJob, Standing};
use hbc_db::testing::{TestDatabase, databases};
use hbc_db::{Db, DbError, DbOptions};
use hbc_types::Timestamp;

const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);
const LEASE: Duration = Duration::from_secs(15);

fn at(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

async fn fresh() -> Vec<TestDatabase> {
    databases(&[]).await
}

fn job(kind: &'static str, key: &str, subject: &str) -> NewJob {
    NewJob { kind, key: key.to_owned(), subject: subject.to_owned() }
}

async fn enqueue(db: &Db, job: NewJob) {
    enqueue_at(db, job, NOW).await;
}

async fn enqueue_at(db: &Db, job: NewJob, due: Timestamp) {
    db.write(move |tx| Box::pin(async move { jobs::enqueue(tx, &job, due).await })).await.unwrap();
}

async fn claim(db: &Db, seq: i64, token: &'static str, now: Timestamp) -> Option<Claim> {
    db.write(move |tx| Box::pin(async move { jobs::claim(tx, seq, token, now.plus(LEASE), now).await }))
        .await
        .unwrap()
}

/// Claims the first job whose turn it is.
async fn take(db: &Db, token: &'static str, now: Timestamp) -> Option<Claim> {
    let seq = *jobs::due(db.reads(), now, 10).await.unwrap().first()?;
    claim(db, seq, token, now).await
}

async fn finish(db: &Db, claim: &Claim, now: Timestamp) -> Finished {
    let claim = claim.clone();
    db.write(move |tx| Box::pin(async move { jobs::finish(tx, &claim, now).await })).await.unwrap()
}

async fn again(db: &Db, claim: &Claim, due: Timestamp, fault: bool) -> bool {
    let claim = claim.clone();
    db.write(move |tx| Box::pin(async move { jobs::again(tx, &claim, due, "unreachable", fault).await }))
        .await
        .unwrap()
}

async fn fail(db: &Db, claim: &Claim, now: Timestamp) -> bool {
    let claim = claim.clone();
    db.write(move |tx| Box::pin(async move { jobs::fail(tx, &claim, "refused", now).await })).await.unwrap()
}

/// Keys of the jobs whose turn it is.
async fn due(db: &Db, now: Timestamp) -> Vec<String> {
    let listed = listing::list(db.reads(), false, 0, 100).await.unwrap();
    let seqs = jobs::due(db.reads(), now, 100).await.unwrap();
    let key = |seq: &i64| listed.iter().find(|job| job.seq == *seq).unwrap().key.clone();
    seqs.iter().map(key).collect()
}

#[tokio::test]
async fn a_change_that_fails_enqueues_nothing() {
    for database in fresh().await {
        let db = &database.db;
        let failed: Result<(), DbError> = db
            .write(|tx| {
                Box::pin(async move {
                    jobs::enqueue(tx, &job("push", "a", "a"), NOW).await?;
                    Err(DbError::BadValue { column: "mine" })
                })
            })
            .await;
        assert!(failed.is_err());
        assert!(due(db, NOW).await.is_empty());
        assert_eq!(jobs::standing(db.reads(), "a").await.unwrap(), Standing::Settled);
    }
}

#[tokio::test]
async fn a_kind_has_one_job_for_a_key_and_the_earlier_time_wins() {
    for database in fresh().await {
        let db = &database.db;
        enqueue_at(db, job("push", "a", "a"), at(60)).await;
        enqueue_at(db, job("push", "a", "a"), at(90)).await;
        enqueue_at(db, job("pin", "a", "a2"), at(90)).await;
        assert_eq!(listing::list(db.reads(), false, 0, 100).await.unwrap().len(), 2);
        assert!(due(db, at(59)).await.is_empty());
        assert_eq!(jobs::next_due(db.reads(), NOW).await.unwrap(), Some(at(60)));
        enqueue_at(db, job("push", "a", "a"), NOW).await;
        assert_eq!(due(db, NOW).await, ["a"]);
        assert_eq!(jobs::next_due(db.reads(), at(90)).await.unwrap(), None);
    }
}

#[tokio::test]
async fn of_many_claims_in_two_processes_one_gets_the_job() {
    for database in fresh().await {
        let other = Db::connect(&database.url, DbOptions::default()).await.unwrap();
        let db = &database.db;
        enqueue(db, job("push", "a", "a")).await;
        let seq = jobs::due(db.reads(), NOW, 1).await.unwrap()[0];
        let claims = (0..12).map(|n| claim(if n % 2 == 0 { db } else { &other }, seq, "one", NOW));
        let got = join_all(claims).await.into_iter().flatten().count();
        assert_eq!(got, 1);
        assert!(take(&other, "two", NOW).await.is_none());
        other.close().await;
    }
}

#[tokio::test]
async fn a_subject_has_one_running_job_in_order_and_others_run_beside_it() {
    for database in fresh().await {
        let db = &database.db;
        for (kind, key, subject) in [("push", "1", "a"), ("pin", "2", "a"), ("push", "3", "b")] {
            enqueue(db, job(kind, key, subject)).await;
        }
        assert_eq!(due(db, NOW).await, ["1", "3"]);
        let first = take(db, "one", NOW).await.unwrap();
        let second = jobs::due(db.reads(), at(3600), 10).await.unwrap();
        assert!(!second.contains(&(first.seq + 1)), "the later one of a subject waits for the earlier one");
        assert!(claim(db, first.seq + 1, "two", NOW).await.is_none());
        let beside = take(db, "two", NOW).await.unwrap();
        assert_eq!(beside.key, "3");
        // One that waits for another try holds back the later one; the other subject goes on.
        assert!(again(db, &first, at(30), false).await);
        assert_eq!(finish(db, &beside, NOW).await, Finished::Done);
        assert!(due(db, at(29)).await.is_empty());
        assert_eq!(jobs::standing(db.reads(), "a").await.unwrap(), Standing::Troubled);
        let first = take(db, "three", at(30)).await.unwrap();
        assert_eq!((first.key.as_str(), first.attempts, first.faults), ("1", 2, 0));
        assert_eq!(finish(db, &first, at(30)).await, Finished::Done);
        assert_eq!(due(db, at(30)).await, ["2"]);
    }
}

#[tokio::test]
async fn a_lease_that_runs_out_gives_the_job_to_another_and_its_old_holder_changes_nothing() {
    for database in fresh().await {
        let db = &database.db;
        enqueue(db, job("push", "a", "a")).await;
        let lost = take(db, "one", NOW).await.unwrap();
        assert!(take(db, "two", at(14)).await.is_none());
        let renewed = lost.clone();
        let renew = move |until: Timestamp, claim: Claim| {
            db.write(move |tx| Box::pin(async move { jobs::renew(tx, &claim, until).await }))
        };
        assert!(renew(at(20), renewed).await.unwrap());
        assert!(take(db, "two", at(19)).await.is_none());
        let next = take(db, "two", at(20)).await.unwrap();
        assert_eq!((next.attempts, next.faults), (2, 1), "a run that was broken off counts");
        assert!(!renew(at(99), lost.clone()).await.unwrap());
        assert_eq!(finish(db, &lost, at(21)).await, Finished::Lost);
        assert!(!again(db, &lost, at(21), true).await);
        assert!(!fail(db, &lost, at(21)).await);
        let listed = listing::list(db.reads(), false, 0, 10).await.unwrap();
        assert_eq!((listed[0].state, listed[0].error.clone()), (State::Running, None));
        assert_eq!(finish(db, &next, at(22)).await, Finished::Done);
        assert!(listing::list(db.reads(), false, 0, 10).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn what_is_enqueued_during_a_run_leads_to_another_run() {
    for database in fresh().await {
        let db = &database.db;
        enqueue(db, job("push", "a", "a")).await;
        let running = take(db, "one", NOW).await.unwrap();
        enqueue_at(db, job("push", "a", "a"), at(1)).await;
        assert!(due(db, at(2)).await.is_empty(), "its lease is not shortened");
        assert_eq!(finish(db, &running, at(2)).await, Finished::Again);
        let next = take(db, "two", at(2)).await.unwrap();
        assert_eq!((next.seq, next.attempts), (running.seq, 1));
        assert_eq!(finish(db, &next, at(3)).await, Finished::Done);
        assert_eq!(jobs::standing(db.reads(), "a").await.unwrap(), Standing::Settled);
    }
}

#[tokio::test]
async fn what_failed_for_good_holds_nobody_back_and_is_repeated_on_request() {
    for database in fresh().await {
        let db = &database.db;
        enqueue(db, job("push", "1", "a")).await;
        enqueue(db, job("push", "2", "a")).await;
        let first = take(db, "one", NOW).await.unwrap();
        assert!(fail(db, &first, at(1)).await);
        let second = take(db, "two", at(1)).await.unwrap();
        assert_eq!(second.key, "2");
        let failed = listing::list(db.reads(), true, 0, 10).await.unwrap();
        assert_eq!((failed.len(), failed[0].key.as_str(), failed[0].state), (1, "1", State::Failed));
        assert_eq!(failed[0].error.as_deref(), Some("refused"));
        let retry =
            |seq: i64| db.write(move |tx| Box::pin(async move { listing::retry(tx, seq, at(2)).await }));
        assert!(retry(first.seq).await.unwrap());
        assert!(!retry(first.seq).await.unwrap(), "it has not failed again");
        assert!(due(db, at(2)).await.is_empty(), "its subject has a running job");
        assert_eq!(finish(db, &second, at(3)).await, Finished::Done);
        let first = take(db, "three", at(3)).await.unwrap();
        assert_eq!((first.key.as_str(), first.attempts, first.faults), ("1", 1, 0));
        assert!(fail(db, &first, at(4)).await);
        assert_eq!(jobs::standing(db.reads(), "a").await.unwrap(), Standing::Failed);
        enqueue_at(db, job("push", "1", "a"), at(5)).await;
        assert_eq!(jobs::standing(db.reads(), "a").await.unwrap(), Standing::Open);
        let first = take(db, "four", at(5)).await.unwrap();
        assert!(fail(db, &first, at(6)).await);
        let forget = |before: Timestamp| {
            db.write(move |tx| Box::pin(async move { listing::forget_failed(tx, before, 10).await }))
        };
        let (early, late): (Result<u64, DbError>, Result<u64, DbError>) =
            (forget(at(6)).await, forget(at(7)).await);
        assert_eq!((early.unwrap(), late.unwrap()), (0, 1));
    }
}

#[tokio::test]
async fn a_periodic_job_has_one_row_that_stays_and_can_be_brought_forward() {
    for database in fresh().await {
        let db = &database.db;
        let plant = |due: Timestamp| {
            db.write(move |tx| Box::pin(async move { jobs::plant(tx, "sweep", due, NOW).await }))
        };
        plant(at(60)).await.unwrap();
        plant(at(60)).await.unwrap();
        let run = take(db, "one", NOW).await.unwrap();
        assert_eq!((run.kind.as_str(), run.key.as_str(), run.owed_at), ("sweep", "", NOW));
        plant(NOW).await.unwrap();
        let rested = run.clone();
        let rest = db.write(move |tx| Box::pin(async move { jobs::rest(tx, &rested, at(3600)).await }));
        assert!(rest.await.unwrap());
        plant(at(7200)).await.unwrap();
        assert_eq!(jobs::next_due(db.reads(), NOW).await.unwrap(), Some(at(3600)));
        plant(at(60)).await.unwrap();
        assert_eq!(jobs::next_due(db.reads(), NOW).await.unwrap(), Some(at(60)));
        let rest = db.write(move |tx| Box::pin(async move { jobs::rest(tx, &run, at(1)).await }));
        assert!(!rest.await.unwrap(), "the lease is over");
    }
}

#[tokio::test]
async fn one_that_stops_gives_its_jobs_back_without_a_fault() {
    for database in fresh().await {
        let db = &database.db;
        enqueue(db, job("push", "a", "a")).await;
        enqueue(db, job("push", "b", "b")).await;
        let mine = take(db, "aa:1", NOW).await.unwrap();
        take(db, "bb:1", NOW).await.unwrap();
        let release = |holder: &'static str| {
            db.write(move |tx| Box::pin(async move { jobs::release(tx, holder, NOW).await }))
        };
        let released: Result<u64, DbError> = release("aa:").await;
        assert_eq!(released.unwrap(), 1);
        assert_eq!(finish(db, &mine, NOW).await, Finished::Lost);
        let next = take(db, "cc:1", NOW).await.unwrap();
        assert_eq!((next.key.as_str(), next.faults), ("a", 0));
    }
}

#[tokio::test]
async fn what_waits_for_another_try_can_be_hurried() {
    for database in fresh().await {
        let db = &database.db;
        enqueue(db, job("push", "a", "a")).await;
        let run = take(db, "one", NOW).await.unwrap();
        assert!(again(db, &run, at(600), true).await);
        let hurried: Result<u64, DbError> =
            db.write(|tx| Box::pin(async move { jobs::hurry(tx, "a", at(1)).await })).await;
        assert_eq!(hurried.unwrap(), 1);
        assert_eq!(jobs::standing(db.reads(), "a").await.unwrap(), Standing::Open);
        assert_eq!(take(db, "two", at(1)).await.unwrap().faults, 1);
    }
}

#[tokio::test]
async fn depths_tell_kinds_states_and_the_longest_due() {
    for database in fresh().await {
        let db = &database.db;
        for key in ["a", "b", "c"] {
            enqueue(db, job("push", key, key)).await;
        }
        enqueue_at(db, job("pin", "a", "d"), at(9)).await;
        let troubled = take(db, "one", NOW).await.unwrap();
        assert!(again(db, &troubled, at(5), true).await);
        let failed = take(db, "two", NOW).await.unwrap();
        assert!(fail(db, &failed, NOW).await);
        take(db, "three", NOW).await.unwrap();
        let depths = listing::depths(db.reads()).await.unwrap();
        let seen: Vec<_> = depths.iter().map(|d| (d.kind.as_str(), d.state, d.jobs, d.owed_since)).collect();
        let expected = [
            ("pin", State::Waiting, 1, at(9)),
            ("push", State::Failed, 1, NOW),
            ("push", State::Retrying, 1, NOW),
            ("push", State::Running, 1, NOW),
        ];
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn the_runner_of_this_process_is_woken_by_the_commit_alone() {
    for database in fresh().await {
        let db = &database.db;
        let failed: Result<(), DbError> = db
            .write(|tx| {
                Box::pin(async move {
                    jobs::enqueue(tx, &job("push", "a", "a"), NOW).await?;
                    Err(DbError::BadValue { column: "mine" })
                })
            })
            .await;
        assert!(failed.is_err());
        let unwoken = tokio::time::timeout(Duration::from_millis(50), db.job_enqueued()).await;
        assert!(unwoken.is_err(), "nothing was enqueued");
        enqueue(db, job("push", "a", "a")).await;
        tokio::time::timeout(Duration::from_secs(10), db.job_enqueued()).await.unwrap();
    }
}
