//! The tables that every service has, on every engine at hand: outbox, chain position, saved answers.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, reason = "test code")]

use std::time::Duration;

use hbc_db::testing::{TestDatabase, databases};
use hbc_db::{Db, DbError, follow, idempotency, outbox};
use hbc_types::outbox::{FollowPosition, NewTransaction, SubmitOutcome, TransactionState};
use hbc_types::saved::SavedAnswer;
use hbc_types::{Digest, Timestamp};

const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

fn transaction(n: u64, author: &str) -> NewTransaction {
    NewTransaction {
        txid: Digest::of(&n.to_be_bytes()),
        author: Digest::of(author.as_bytes()),
        kind: "record.anchor".to_owned(),
        reference: format!("segment-{n}"),
        jws: format!("header.payload.{n}"),
    }
}

fn txid(n: u64) -> Digest {
    Digest::of(&n.to_be_bytes())
}

async fn fresh() -> Vec<TestDatabase> {
    databases(&[]).await
}

async fn enqueue(db: &Db, transaction: NewTransaction) {
    db.write(move |tx| Box::pin(async move { outbox::enqueue(tx, &transaction, NOW).await })).await.unwrap();
}

async fn record(db: &Db, outcomes: Vec<SubmitOutcome>) -> Vec<(Digest, outbox::Settled)> {
    db.write(move |tx| Box::pin(async move { outbox::record(tx, &outcomes, NOW).await })).await.unwrap()
}

async fn due(db: &Db, now: Timestamp) -> Vec<Digest> {
    outbox::due(db.reads(), now, 100).await.unwrap().into_iter().map(|open| open.txid).collect()
}

#[tokio::test]
async fn what_is_enqueued_is_due_once_in_order_with_its_very_bytes() {
    for database in fresh().await {
        let db = &database.db;
        for n in [3, 1, 2] {
            enqueue(db, transaction(n, "a")).await;
        }
        enqueue(db, transaction(1, "a")).await;
        let open = outbox::due(db.reads(), NOW, 100).await.unwrap();
        assert_eq!(open.iter().map(|open| open.txid).collect::<Vec<_>>(), [txid(3), txid(1), txid(2)]);
        assert_eq!(open[1].jws, "header.payload.1");
        assert_eq!((open[1].attempts, open[1].node.clone(), open[1].enqueued_at), (0, None, NOW));
        assert_eq!(outbox::due(db.reads(), NOW, 2).await.unwrap().len(), 2);
        assert_eq!(outbox::backlog(db.reads()).await.unwrap(), (3, Some(NOW)));
    }
}

#[tokio::test]
async fn a_job_that_fails_enqueues_nothing() {
    for database in fresh().await {
        let db = &database.db;
        let failed: Result<(), DbError> = db
            .write(|tx| {
                Box::pin(async move {
                    outbox::enqueue(tx, &transaction(1, "a"), NOW).await?;
                    Err(DbError::BadValue { column: "mine" })
                })
            })
            .await;
        assert!(failed.is_err());
        assert!(due(db, NOW).await.is_empty());
    }
}

#[tokio::test]
async fn one_that_waits_holds_back_the_later_ones_of_its_author_alone() {
    for database in fresh().await {
        let db = &database.db;
        for (n, author) in [(1, "a"), (2, "a"), (3, "b")] {
            enqueue(db, transaction(n, author)).await;
        }
        let later = NOW.plus(Duration::from_secs(5));
        record(db, vec![SubmitOutcome::Postponed { txid: txid(1), again: later }]).await;
        assert_eq!(due(db, NOW).await, [txid(3)]);
        assert_eq!(due(db, later).await, [txid(1), txid(2), txid(3)]);
    }
}

#[tokio::test]
async fn a_promised_one_comes_back_after_its_time_and_holds_nobody_back() {
    for database in fresh().await {
        let db = &database.db;
        enqueue(db, transaction(1, "a")).await;
        enqueue(db, transaction(2, "a")).await;
        let include_by = NOW.plus(Duration::from_secs(5));
        let outcome = SubmitOutcome::Submitted {
            txid: txid(1),
            node: "node-2".to_owned(),
            include_by,
            look_again: include_by,
        };
        record(db, vec![outcome]).await;
        assert_eq!(outbox::state(db.reads(), txid(1)).await.unwrap(), Some(TransactionState::Submitted));
        assert_eq!(due(db, NOW).await, [txid(2)]);
        let open = outbox::due(db.reads(), include_by, 10).await.unwrap();
        assert_eq!(open[0].node.as_deref(), Some("node-2"));
        assert_eq!((open[0].include_by, open[0].attempts), (Some(include_by), 1));
    }
}

#[tokio::test]
async fn what_is_settled_is_never_due_again_and_told_once() {
    for database in fresh().await {
        let db = &database.db;
        enqueue(db, transaction(1, "a")).await;
        enqueue(db, transaction(2, "a")).await;
        let finalise = |n: u64| {
            db.write(move |tx| Box::pin(async move { outbox::finalised(tx, txid(n), 7, 40 + n, NOW).await }))
        };
        let about = finalise(1).await.unwrap().unwrap();
        assert_eq!((about.kind.as_str(), about.reference.as_str()), ("record.anchor", "segment-1"));
        assert_eq!(finalise(1).await.unwrap(), None);
        assert_eq!(finalise(99).await.unwrap(), None);
        let state = outbox::state(db.reads(), txid(1)).await.unwrap();
        assert_eq!(state, Some(TransactionState::Final { height: 7, log_index: 41 }));

        let refusal = || SubmitOutcome::Refused {
            txid: txid(2),
            reason: "excluded".to_owned(),
            excluded_by: Some(txid(50)),
        };
        let settled = record(db, vec![refusal()]).await;
        assert_eq!((settled.len(), settled[0].1.reference.as_str()), (1, "segment-2"));
        assert!(record(db, vec![refusal()]).await.is_empty());
        let state = outbox::state(db.reads(), txid(2)).await.unwrap();
        let refused =
            TransactionState::Refused { reason: "excluded".to_owned(), excluded_by: Some(txid(50)) };
        assert_eq!(state, Some(refused));
        assert!(due(db, NOW.plus(Duration::from_secs(3600))).await.is_empty());
        assert_eq!(outbox::backlog(db.reads()).await.unwrap(), (0, None));

        // The chain is the truth, whatever nodes said before.
        assert!(finalise(2).await.unwrap().is_some());
        let forget = |limit| async move {
            let later = NOW.plus(Duration::from_secs(1));
            let forgotten: Result<u64, DbError> = db
                .write(move |tx| Box::pin(async move { outbox::forget_bytes(tx, later, NOW, limit).await }))
                .await;
            forgotten.unwrap()
        };
        assert_eq!([forget(1).await, forget(10).await, forget(10).await], [1, 1, 0]);
    }
}

fn position(height: u64) -> FollowPosition {
    FollowPosition { height, block_hash: txid(height), state: format!("{{\"h\":{height}}}") }
}

#[tokio::test]
async fn the_position_moves_one_block_at_a_time_with_what_the_block_does() {
    for database in fresh().await {
        let db = &database.db;
        let advance = |to: FollowPosition| {
            db.write(move |tx| Box::pin(async move { follow::advance(tx, "chain", &to, NOW).await }))
        };
        assert_eq!(follow::position(db.reads(), "chain").await.unwrap(), None);
        advance(position(1)).await.unwrap();
        advance(position(2)).await.unwrap();
        for wrong in [1, 2, 4] {
            let refused = advance(position(wrong)).await;
            assert!(
                matches!(refused, Err(DbError::RowCount { expected: 1, found: 0 })),
                "{wrong}: {refused:?}"
            );
        }
        assert_eq!(follow::position(db.reads(), "chain").await.unwrap(), Some(position(2)));
        assert_eq!(follow::position(db.reads(), "other").await.unwrap(), None);
    }
}

#[tokio::test]
async fn one_of_two_rivals_saves_its_answer_and_the_other_does_nothing() {
    for database in fresh().await {
        let db = &database.db;
        let answer = |body: &str| SavedAnswer {
            id: txid(1),
            fingerprint: txid(2),
            status: 201,
            headers: vec![("location".to_owned(), "/v1/grants/grt-1".to_owned())],
            body: body.to_owned(),
            saved_at: NOW,
        };
        let work = |n: u64, answer: SavedAnswer| {
            db.write(move |tx| {
                Box::pin(async move {
                    outbox::enqueue(tx, &transaction(n, "a"), NOW).await?;
                    idempotency::save(tx, &answer).await
                })
            })
        };
        let (one, two) = futures_util::future::join(work(1, answer("one")), work(2, answer("two"))).await;
        assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
        let lost = one.err().or(two.err()).unwrap();
        assert!(lost.is_unique_violation(), "{lost:?}");
        let found = idempotency::find(db.reads(), txid(1)).await.unwrap().unwrap();
        assert!(found == answer("one") || found == answer("two"));
        assert_eq!(due(db, NOW).await.len(), 1, "the loser's work is undone");
        assert_eq!(idempotency::find(db.reads(), txid(9)).await.unwrap(), None);
        let pruned: Result<u64, DbError> = db
            .write(|tx| {
                Box::pin(async move { idempotency::prune(tx, NOW.plus(Duration::from_secs(1)), 10).await })
            })
            .await;
        assert_eq!(pruned.unwrap(), 1);
        assert_eq!(idempotency::find(db.reads(), txid(1)).await.unwrap(), None);
    }
}
