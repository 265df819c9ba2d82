//! Saved answers and settled bytes leave a database once their time is over, on every engine.

#![allow(clippy::unwrap_used, missing_docs, reason = "test code")]

use std::time::Duration;

use hbc_app::{FINAL_BYTES, REFUSED_BYTES, SAVED_ANSWERS, forget};
use hbc_db::testing::databases;
use hbc_db::{Db, DbError, ReadPool};
use hbc_types::outbox::NewTransaction;
use hbc_types::saved::SavedAnswer;
use hbc_types::{Digest, Timestamp};

const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);
const SECOND: Duration = Duration::from_secs(1);

fn txid(n: u8) -> Digest {
    Digest::of(&[n])
}

/// A saved answer, and three transactions: one final, one refused, one on its way.
async fn fill(db: &Db) {
    let filled: Result<(), DbError> = db
        .write(|tx| {
            Box::pin(async move {
                let answer = SavedAnswer {
                    id: txid(9),
                    fingerprint: txid(9),
                    status: 201,
                    headers: Vec::new(),
                    body: "{}".to_owned(),
                    saved_at: NOW,
                };
                hbc_db::idempotency::save(tx, &answer).await?;
                for n in 1..=3 {
                    let transaction = NewTransaction {
                        txid: txid(n),
                        author: txid(0),
                        kind: "record.anchor".to_owned(),
                        reference: String::new(),
                        jws: format!("signed-{n}"),
                    };
                    hbc_db::outbox::enqueue(tx, &transaction, NOW).await?;
                }
                hbc_db::outbox::finalised(tx, txid(1), 5, 5, NOW).await?;
                hbc_db::outbox::refused(tx, txid(2), "excluded", None, NOW).await?;
                Ok(())
            })
        })
        .await;
    filled.unwrap();
}

/// Which transactions still have their bytes, and whether the answer is still there.
async fn left(reads: &ReadPool) -> (Vec<String>, bool) {
    let bytes = sqlx::query_scalar("SELECT jws FROM ledger_outbox WHERE jws <> '' ORDER BY seq");
    let answer = hbc_db::idempotency::find(reads, txid(9)).await.unwrap();
    (bytes.fetch_all(reads).await.unwrap(), answer.is_some())
}

fn signed(numbers: &[u8]) -> Vec<String> {
    numbers.iter().map(|n| format!("signed-{n}")).collect()
}

#[tokio::test]
async fn answers_and_settled_bytes_are_kept_for_their_time_and_no_longer() {
    assert_eq!(SAVED_ANSWERS, FINAL_BYTES);
    for database in databases(&[]).await {
        let db = &database.db;
        fill(db).await;
        forget(db, NOW.plus(SAVED_ANSWERS)).await.unwrap();
        assert_eq!(left(db.reads()).await, (signed(&[1, 2, 3]), true));
        forget(db, NOW.plus(SAVED_ANSWERS + SECOND)).await.unwrap();
        assert_eq!(left(db.reads()).await, (signed(&[2, 3]), false));
        forget(db, NOW.plus(REFUSED_BYTES + SECOND)).await.unwrap();
        assert_eq!(left(db.reads()).await, (signed(&[3]), false), "what is on its way is never forgotten");
        let rows: i64 = sqlx::query_scalar("SELECT CAST(count(*) AS BIGINT) FROM ledger_outbox")
            .fetch_one(db.reads())
            .await
            .unwrap();
        assert_eq!(rows, 3, "the rows stay");
    }
}
