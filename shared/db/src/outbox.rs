//! The outbox of ledger transactions: signed bytes that a service owes the ledger.
//!
//! [`enqueue`] runs in the transaction that makes the transaction necessary, so a crash can neither lose it nor
//! invent it. `hbc_client::ledger` asks for what is [`due`], sends it, and tells what became of it. Rows of one
//! author are handed out in the order they were enqueued.

use hbc_types::outbox::{NewTransaction, OpenTransaction, SubmitOutcome, TransactionState};
use hbc_types::{Digest, Timestamp};
use sqlx::any::AnyRow;

use crate::row::{Reader, bad, stored};
use crate::{DbError, ReadPool, Tx};

/// Adds `transaction`, due at once. Enqueuing the same txid twice is harmless.
pub async fn enqueue(tx: &mut Tx, transaction: &NewTransaction, now: Timestamp) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO ledger_outbox (txid, author, kind, reference, jws, state, enqueued_at_ms, due_at_ms, attempts)
         VALUES ($1, $2, $3, $4, $5, 'waiting', $6, $6, 0)
         ON CONFLICT (txid) DO NOTHING",
    )
    .bind(transaction.txid.to_string())
    .bind(transaction.author.to_string())
    .bind(transaction.kind.clone())
    .bind(transaction.reference.clone())
    .bind(transaction.jws.clone())
    .bind(now.ms())
    .execute(tx)
    .await?;
    Ok(())
}

/// Up to `limit` unsettled transactions that are due, oldest first. One that waits for its time holds back the
/// later ones of its author.
pub async fn due(reads: &ReadPool, now: Timestamp, limit: u32) -> Result<Vec<OpenTransaction>, DbError> {
    let rows = sqlx::query(
        "SELECT o.seq, o.txid, o.author, o.kind, o.reference, o.jws, o.enqueued_at_ms, o.attempts, o.node,
                o.include_by_ms
         FROM ledger_outbox AS o
         LEFT JOIN (SELECT author, min(seq) AS seq FROM ledger_outbox
                    WHERE settled_at_ms IS NULL AND state = 'waiting' AND due_at_ms > $1
                    GROUP BY author) AS held ON held.author = o.author
         WHERE o.settled_at_ms IS NULL AND o.due_at_ms <= $1 AND (held.seq IS NULL OR o.seq < held.seq)
         ORDER BY o.seq LIMIT $2",
    )
    .bind(now.ms())
    .bind(i64::from(limit))
    .fetch_all(reads)
    .await?;
    rows.iter().map(open_transaction).collect()
}

/// A node promised `txid` by `include_by`; it is due again at `look_again`.
pub async fn submitted(
    tx: &mut Tx,
    txid: Digest,
    node: &str,
    include_by: Timestamp,
    look_again: Timestamp,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE ledger_outbox SET state = 'submitted', node = $2, include_by_ms = $3, due_at_ms = $4,
             attempts = attempts + 1
         WHERE txid = $1 AND settled_at_ms IS NULL",
    )
    .bind(txid.to_string())
    .bind(node.to_owned())
    .bind(include_by.ms())
    .bind(look_again.ms())
    .execute(tx)
    .await?;
    Ok(())
}

/// No node took `txid` this time; it is due again at `again`.
pub async fn postponed(tx: &mut Tx, txid: Digest, again: Timestamp) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE ledger_outbox SET due_at_ms = $2, attempts = attempts + 1 WHERE txid = $1 AND settled_at_ms IS NULL",
    )
    .bind(txid.to_string())
    .bind(again.ms())
    .execute(tx)
    .await?;
    Ok(())
}

/// `txid` is in a final block. Returns what it was about, or nothing if it is not in this outbox or known to
/// be final already. A refusal that was recorded before is overruled: the chain is the truth.
pub async fn finalised(
    tx: &mut Tx,
    txid: Digest,
    height: u64,
    log_index: u64,
    now: Timestamp,
) -> Result<Option<Settled>, DbError> {
    let row = sqlx::query(
        "UPDATE ledger_outbox SET state = 'final', height = $2, log_index = $3, settled_at_ms = $4,
             refused = NULL, excluded_by = NULL
         WHERE txid = $1 AND state <> 'final'
         RETURNING kind, reference, enqueued_at_ms",
    )
    .bind(txid.to_string())
    .bind(stored(height, "height")?)
    .bind(stored(log_index, "log_index")?)
    .bind(now.ms())
    .fetch_optional(tx)
    .await?;
    row.map(|row| settled(&row)).transpose()
}

/// The ledger excludes `txid` for ever. Returns what it was about, or nothing if it was settled before.
pub async fn refused(
    tx: &mut Tx,
    txid: Digest,
    reason: &str,
    excluded_by: Option<Digest>,
    now: Timestamp,
) -> Result<Option<Settled>, DbError> {
    let row = sqlx::query(
        "UPDATE ledger_outbox SET state = 'refused', refused = $2, excluded_by = $3, settled_at_ms = $4
         WHERE txid = $1 AND settled_at_ms IS NULL
         RETURNING kind, reference, enqueued_at_ms",
    )
    .bind(txid.to_string())
    .bind(reason.to_owned())
    .bind(excluded_by.map(|txid| txid.to_string()))
    .bind(now.ms())
    .fetch_optional(tx)
    .await?;
    row.map(|row| settled(&row)).transpose()
}

/// Stores what became of attempts to submit. Returns the transactions that are refused for good, with what they
/// were about.
pub async fn record(
    tx: &mut Tx,
    outcomes: &[SubmitOutcome],
    now: Timestamp,
) -> Result<Vec<(Digest, Settled)>, DbError> {
    let mut settled = Vec::new();
    for outcome in outcomes {
        match outcome {
            SubmitOutcome::Submitted { txid, node, include_by, look_again } => {
                submitted(tx, *txid, node, *include_by, *look_again).await?;
            }
            SubmitOutcome::Postponed { txid, again } => postponed(tx, *txid, *again).await?,
            SubmitOutcome::Refused { txid, reason, excluded_by } => {
                let about = refused(tx, *txid, reason, *excluded_by, now).await?;
                settled.extend(about.map(|about| (*txid, about)));
            }
        }
    }
    Ok(settled)
}

/// What a settled transaction was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The transaction's `type`.
    pub kind: String,
    /// The reference given to [`enqueue`].
    pub reference: String,
    /// When it was enqueued.
    pub enqueued_at: Timestamp,
}

/// How `txid` stands, or nothing if it is not in this outbox.
pub async fn state(reads: &ReadPool, txid: Digest) -> Result<Option<TransactionState>, DbError> {
    let row = sqlx::query(
        "SELECT state, height, log_index, refused, excluded_by FROM ledger_outbox WHERE txid = $1",
    )
    .bind(txid.to_string())
    .fetch_optional(reads)
    .await?;
    row.map(|row| transaction_state(&row)).transpose()
}

/// How many transactions are unsettled and when the oldest of them was enqueued.
pub async fn backlog(reads: &ReadPool) -> Result<(u64, Option<Timestamp>), DbError> {
    let row = sqlx::query(
        "SELECT CAST(count(*) AS BIGINT) AS open, CAST(min(enqueued_at_ms) AS BIGINT) AS oldest
         FROM ledger_outbox WHERE settled_at_ms IS NULL",
    )
    .fetch_one(reads)
    .await?;
    let row = Reader(&row);
    Ok((row.number("open")?, row.time_opt("oldest")?))
}

/// Forgets the signed bytes of at most `limit` transactions that are final since before `final_before` or refused since
/// before `refused_before`, and says how many they were; their rows stay.
pub async fn forget_bytes(
    tx: &mut Tx,
    final_before: Timestamp,
    refused_before: Timestamp,
    limit: u32,
) -> Result<u64, DbError> {
    let done = sqlx::query(
        "UPDATE ledger_outbox SET jws = '' WHERE seq IN (
             SELECT seq FROM ledger_outbox
             WHERE settled_at_ms IS NOT NULL AND jws <> ''
               AND ((state = 'final' AND settled_at_ms < $1) OR (state = 'refused' AND settled_at_ms < $2))
             ORDER BY settled_at_ms LIMIT $3)",
    )
    .bind(final_before.ms())
    .bind(refused_before.ms())
    .bind(i64::from(limit))
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

fn settled(row: &AnyRow) -> Result<Settled, DbError> {
    let row = Reader(row);
    Ok(Settled {
        kind: row.text("kind")?,
        reference: row.text("reference")?,
        enqueued_at: row.time("enqueued_at_ms")?,
    })
}

fn transaction_state(row: &AnyRow) -> Result<TransactionState, DbError> {
    let row = Reader(row);
    Ok(match row.text("state")?.as_str() {
        "waiting" => TransactionState::Waiting,
        "submitted" => TransactionState::Submitted,
        "final" => {
            TransactionState::Final { height: row.number("height")?, log_index: row.number("log_index")? }
        }
        "refused" => TransactionState::Refused {
            reason: row.text("refused")?,
            excluded_by: row.parsed_opt("excluded_by")?,
        },
        _ => return Err(bad("state")),
    })
}

fn open_transaction(row: &AnyRow) -> Result<OpenTransaction, DbError> {
    let row = Reader(row);
    Ok(OpenTransaction {
        seq: row.number("seq")?,
        txid: row.parsed("txid")?,
        author: row.parsed("author")?,
        kind: row.text("kind")?,
        reference: row.text("reference")?,
        jws: row.text("jws")?,
        enqueued_at: row.time("enqueued_at_ms")?,
        attempts: row.number("attempts")?,
        node: row.text_opt("node")?,
        include_by: row.time_opt("include_by_ms")?,
    })
}
