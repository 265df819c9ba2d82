//! One queue of durable jobs: what a service owes to do, kept in its own database until it is done.
//!
//! [`enqueue`] runs in the transaction that makes the job necessary, so a crash can neither lose it nor invent it. A
//! job is one row for its kind and key, however often it is enqueued. Runners, in as many processes as there are, look
//! for what is [`due`] and [`claim`] it under a lease; whoever lost the lease changes nothing any more. Jobs about one
//! subject run one at a time, in the order in which they were first enqueued: one that waits for another try holds
//! back the later ones. One that failed for good holds back nobody.
//!
//! A job may run twice. A row must never say what is true, only what to look at: `error` is a code, never a message.
//! The runner is `hbc_app::jobs`; what an operator sees and repeats is in [`listing`].

pub mod listing;

use std::cell::Cell;

use hbc_types::Timestamp;
use sqlx::any::AnyRow;

use crate::row::{Reader, bad};
use crate::{DbError, ReadPool, Tx};

tokio::task_local! {
    /// Whether the change that runs enqueued a job: the writer wakes this process's runner after the commit.
    pub(crate) static ENQUEUED: Cell<bool>;
}

/// Runs one change of the writer and says whether it enqueued a job.
pub(crate) async fn watched<T>(change: impl Future<Output = T>) -> (T, bool) {
    let watched = async {
        let outcome = change.await;
        (outcome, ENQUEUED.with(Cell::get))
    };
    ENQUEUED.scope(Cell::new(false), watched).await
}

/// What a job is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewJob {
    /// What is to be done; a constant of the program.
    pub kind: &'static str,
    /// An id: a kind has one job with this key.
    pub key: String,
    /// An id: jobs with the same subject run one after the other.
    pub subject: String,
}

/// A job that a runner holds under a lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The row.
    pub seq: i64,
    /// What is to be done.
    pub kind: String,
    /// What about.
    pub key: String,
    /// Whose turn it is.
    pub subject: String,
    /// How often it was tried, this time included.
    pub attempts: u32,
    /// How many tries failed by the job's own fault, or were broken off.
    pub faults: u32,
    /// Since when it should be done; of a periodic one, when this run was due.
    pub owed_at: Timestamp,
    token: String,
    wanted: i64,
}

/// What became of a job whose run was a success.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finished {
    /// It is gone.
    Done,
    /// It was enqueued again during the run and is due at once.
    Again,
    /// The lease was lost meanwhile: nothing was changed.
    Lost,
}

/// Owes `job`, due at `due`. A waiting one stays in its place and is due at the earlier time; a running one runs once
/// more afterwards; a failed one begins anew.
pub async fn enqueue(tx: &mut Tx, job: &NewJob, due: Timestamp) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO jobs (kind, key, subject, state, wanted, owed_at_ms, due_at_ms, attempts, faults)
         VALUES ($1, $2, $3, 'waiting', 1, $4, $4, 0, 0)
         ON CONFLICT (kind, key) DO UPDATE SET
             wanted = jobs.wanted + 1,
             state = CASE jobs.state WHEN 'running' THEN 'running' ELSE 'waiting' END,
             owed_at_ms = CASE
                 WHEN jobs.state <> 'failed' AND jobs.owed_at_ms < excluded.owed_at_ms THEN jobs.owed_at_ms
                 ELSE excluded.owed_at_ms END,
             due_at_ms = CASE
                 WHEN jobs.state = 'running' THEN jobs.due_at_ms
                 WHEN jobs.state = 'waiting' AND jobs.due_at_ms < excluded.due_at_ms THEN jobs.due_at_ms
                 ELSE excluded.due_at_ms END,
             attempts = CASE jobs.state WHEN 'running' THEN jobs.attempts ELSE 0 END,
             faults = CASE jobs.state WHEN 'running' THEN jobs.faults ELSE 0 END,
             error = CASE jobs.state WHEN 'running' THEN jobs.error ELSE NULL END,
             failed_at_ms = NULL",
    )
    .bind(job.kind)
    .bind(job.key.clone())
    .bind(job.subject.clone())
    .bind(due.ms())
    .execute(tx)
    .await?;
    // Outside a write of `Db` there is no runner to be woken.
    let _outside = ENQUEUED.try_with(|enqueued| enqueued.set(true));
    Ok(())
}

/// Takes the job of `kind` and `key` back: it is not necessary any more. One that runs meanwhile stores nothing.
pub async fn cancel(tx: &mut Tx, kind: &'static str, key: &str) -> Result<(), DbError> {
    sqlx::query("DELETE FROM jobs WHERE kind = $1 AND key = $2")
        .bind(kind)
        .bind(key.to_owned())
        .execute(tx)
        .await?;
    Ok(())
}

/// Plants the one row of a periodic job, or brings its next run forward to `due` at the latest.
pub async fn plant(tx: &mut Tx, kind: &'static str, due: Timestamp, now: Timestamp) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO jobs (kind, key, subject, state, wanted, owed_at_ms, due_at_ms, attempts, faults)
         VALUES ($1, '', $1, 'waiting', 1, $2, $2, 0, 0)
         ON CONFLICT (kind, key) DO UPDATE SET due_at_ms = $3, owed_at_ms = $3
         WHERE jobs.state = 'waiting' AND jobs.due_at_ms > $3",
    )
    .bind(kind)
    .bind(now.ms())
    .bind(due.ms())
    .execute(tx)
    .await?;
    Ok(())
}

/// Up to `limit` jobs whose turn it is, longest due first. Only [`claim`] decides who gets one.
pub async fn due(reads: &ReadPool, now: Timestamp, limit: u32) -> Result<Vec<i64>, DbError> {
    let rows = sqlx::query(
        "SELECT j.seq FROM jobs AS j
         WHERE j.state <> 'failed' AND j.due_at_ms <= $1 AND NOT EXISTS (
             SELECT 1 FROM jobs AS o WHERE o.subject = j.subject AND o.seq <> j.seq
                 AND ((o.seq < j.seq AND o.state <> 'failed') OR (o.state = 'running' AND o.due_at_ms > $1)))
         ORDER BY j.due_at_ms, j.seq LIMIT $2",
    )
    .bind(now.ms())
    .bind(i64::from(limit))
    .fetch_all(reads)
    .await?;
    rows.iter().map(|row| Reader(row).number("seq")).collect()
}

/// When the next job that waits, or a lease, comes to its time; nothing if none does.
pub async fn next_due(reads: &ReadPool, now: Timestamp) -> Result<Option<Timestamp>, DbError> {
    let row = sqlx::query(
        "SELECT CAST(min(due_at_ms) AS BIGINT) AS due FROM jobs WHERE state <> 'failed' AND due_at_ms > $1",
    )
    .bind(now.ms())
    .fetch_one(reads)
    .await?;
    Reader(&row).time_opt("due")
}

/// Takes job `seq` under a lease until `until`, if it is still its turn. `token` must be new for every claim. A job
/// whose last holder let the lease run out has that counted as a fault.
pub async fn claim(
    tx: &mut Tx,
    seq: i64,
    token: &str,
    until: Timestamp,
    now: Timestamp,
) -> Result<Option<Claim>, DbError> {
    let row = sqlx::query(
        "UPDATE jobs SET state = 'running', token = $2, due_at_ms = $3, attempts = attempts + 1,
             faults = faults + CASE state WHEN 'running' THEN 1 ELSE 0 END
         WHERE seq = $1 AND state <> 'failed' AND due_at_ms <= $4 AND NOT EXISTS (
             SELECT 1 FROM jobs AS o WHERE o.subject = jobs.subject AND o.seq <> jobs.seq
                 AND ((o.seq < jobs.seq AND o.state <> 'failed') OR (o.state = 'running' AND o.due_at_ms > $4)))
         RETURNING seq, kind, key, subject, attempts, faults, owed_at_ms, token, wanted",
    )
    .bind(seq)
    .bind(token.to_owned())
    .bind(until.ms())
    .bind(now.ms())
    .fetch_optional(tx)
    .await?;
    row.map(|row| claimed(&row)).transpose()
}

/// Moves the end of the lease to `until`. False: it is lost, and the run must end.
pub async fn renew(tx: &mut Tx, claim: &Claim, until: Timestamp) -> Result<bool, DbError> {
    let done = sqlx::query("UPDATE jobs SET due_at_ms = $3 WHERE seq = $1 AND token = $2")
        .bind(claim.seq)
        .bind(claim.token.clone())
        .bind(until.ms())
        .execute(tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// The run was a success.
pub async fn finish(tx: &mut Tx, claim: &Claim, now: Timestamp) -> Result<Finished, DbError> {
    let gone = sqlx::query("DELETE FROM jobs WHERE seq = $1 AND token = $2 AND wanted = $3")
        .bind(claim.seq)
        .bind(claim.token.clone())
        .bind(claim.wanted)
        .execute(&mut *tx)
        .await?;
    if gone.rows_affected() == 1 {
        return Ok(Finished::Done);
    }
    Ok(if rest(tx, claim, now).await? { Finished::Again } else { Finished::Lost })
}

/// The run was a success, and the job is due again at `at`: the end of a periodic job's run. False: the lease was lost.
pub async fn rest(tx: &mut Tx, claim: &Claim, at: Timestamp) -> Result<bool, DbError> {
    let done = sqlx::query(
        "UPDATE jobs SET state = 'waiting', token = NULL, due_at_ms = $3, owed_at_ms = $3, attempts = 0, faults = 0,
             error = NULL
         WHERE seq = $1 AND token = $2",
    )
    .bind(claim.seq)
    .bind(claim.token.clone())
    .bind(at.ms())
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The run did not do it: it is tried again at `at`. `error` is a code that says nothing about anybody; `fault` tells
/// whether it counts against the job's tries. False: the lease was lost.
pub async fn again(
    tx: &mut Tx,
    claim: &Claim,
    at: Timestamp,
    error: &'static str,
    fault: bool,
) -> Result<bool, DbError> {
    let done = sqlx::query(
        "UPDATE jobs SET state = 'waiting', token = NULL, due_at_ms = $3, error = $4, faults = faults + $5
         WHERE seq = $1 AND token = $2",
    )
    .bind(claim.seq)
    .bind(claim.token.clone())
    .bind(at.ms())
    .bind(error)
    .bind(i64::from(fault))
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The job failed for good: nobody tries it again unless it is enqueued or repeated. False: the lease was lost.
pub async fn fail(tx: &mut Tx, claim: &Claim, error: &'static str, now: Timestamp) -> Result<bool, DbError> {
    let done = sqlx::query(
        "UPDATE jobs SET state = 'failed', token = NULL, due_at_ms = $4, error = $3, failed_at_ms = $4, faults = faults + 1
         WHERE seq = $1 AND token = $2",
    )
    .bind(claim.seq)
    .bind(claim.token.clone())
    .bind(error)
    .bind(now.ms())
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives back what the holder of all tokens that begin with `holder` still has: it stops. No fault is counted.
pub async fn release(tx: &mut Tx, holder: &str, now: Timestamp) -> Result<u64, DbError> {
    let length = i64::try_from(holder.len()).map_err(|_range| bad("token"))?;
    let done = sqlx::query(
        "UPDATE jobs SET state = 'waiting', token = NULL, due_at_ms = $3
         WHERE state = 'running' AND substr(token, 1, CAST($2 AS INTEGER)) = $1",
    )
    .bind(holder.to_owned())
    .bind(length)
    .bind(now.ms())
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

/// How the jobs about a subject stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// None is owed.
    Settled,
    /// Some are owed, and nothing has gone wrong with the one whose turn it is.
    Open,
    /// The one whose turn it is waits for another try.
    Troubled,
    /// None is owed, but one failed for good.
    Failed,
}

/// How the jobs about `subject` stand.
pub async fn standing(reads: &ReadPool, subject: &str) -> Result<Standing, DbError> {
    let rows = sqlx::query("SELECT state, error FROM jobs WHERE subject = $1 ORDER BY seq LIMIT 100")
        .bind(subject.to_owned())
        .fetch_all(reads)
        .await?;
    let mut standing = Standing::Settled;
    for row in &rows {
        let (state, error) = (Reader(row).text("state")?, Reader(row).text_opt("error")?);
        match state.as_str() {
            "failed" => standing = Standing::Failed,
            "waiting" if error.is_some() => return Ok(Standing::Troubled),
            "waiting" | "running" => return Ok(Standing::Open),
            _ => return Err(bad("state")),
        }
    }
    Ok(standing)
}

/// Whether a job of this kind about `subject` is not done, one that failed for good included; in a transaction.
pub async fn is_owed(tx: &mut Tx, kind: &str, subject: &str) -> Result<bool, DbError> {
    let row = sqlx::query("SELECT seq FROM jobs WHERE subject = $1 AND kind = $2 LIMIT 1")
        .bind(subject.to_owned())
        .bind(kind.to_owned())
        .fetch_optional(tx)
        .await?;
    Ok(row.is_some())
}

/// Makes what waits about `subject` due now, whatever its pause.
pub async fn hurry(tx: &mut Tx, subject: &str, now: Timestamp) -> Result<u64, DbError> {
    let done = sqlx::query(
        "UPDATE jobs SET due_at_ms = $2, error = NULL WHERE subject = $1 AND state = 'waiting' AND due_at_ms > $2",
    )
    .bind(subject.to_owned())
    .bind(now.ms())
    .execute(tx)
    .await?;
    let _outside = ENQUEUED.try_with(|enqueued| enqueued.set(true));
    Ok(done.rows_affected())
}

fn claimed(row: &AnyRow) -> Result<Claim, DbError> {
    let row = Reader(row);
    Ok(Claim {
        seq: row.number("seq")?,
        kind: row.text("kind")?,
        key: row.text("key")?,
        subject: row.text("subject")?,
        attempts: row.number("attempts")?,
        faults: row.number("faults")?,
        owed_at: row.time("owed_at_ms")?,
        token: row.text("token")?,
        wanted: row.number("wanted")?,
    })
}
