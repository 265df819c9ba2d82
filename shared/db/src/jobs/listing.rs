//! What an operator sees of the queue, and what can be done about a job that failed for good.

use hbc_types::Timestamp;
use sqlx::any::AnyRow;

use super::ENQUEUED;
use crate::row::Reader;
use crate::{DbError, ReadPool, Tx};

/// How a job stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum State {
    /// It waits for its first try, or a periodic one for its time.
    Waiting,
    /// Its last try went wrong, and it waits for the next one.
    Retrying,
    /// Somebody works on it, or did when the process died.
    Running,
    /// It failed for good.
    Failed,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Retrying, Self::Running, Self::Failed];

    /// The state's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Retrying => "retrying",
            Self::Running => "running",
            Self::Failed => "failed",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }
}

/// A job as an operator sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// The row; [`retry`] takes it.
    pub seq: i64,
    /// What is to be done.
    pub kind: String,
    /// What about.
    pub key: String,
    /// How it stands.
    pub state: State,
    /// Since when it should be done.
    pub owed_at: Timestamp,
    /// When it is due; of a running one, the end of its lease.
    pub due_at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// How many of the tries count against it.
    pub faults: u32,
    /// The code of what went wrong last.
    pub error: Option<String>,
}

/// How many jobs of a kind are in a state, and since when the oldest of them is owed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Depth {
    /// The kind.
    pub kind: String,
    /// The state.
    pub state: State,
    /// How many.
    pub jobs: u64,
    /// Since when the first of them should be done.
    pub owed_since: Timestamp,
}

/// Up to `limit` jobs after row `after`, in the order in which they were enqueued; only the failed ones where asked.
pub async fn list(
    reads: &ReadPool,
    only_failed: bool,
    after: i64,
    limit: u32,
) -> Result<Vec<Listed>, DbError> {
    let rows = sqlx::query(
        "SELECT seq, kind, key, owed_at_ms, due_at_ms, attempts, faults, error,
                CASE WHEN state = 'waiting' AND error IS NOT NULL THEN 'retrying' ELSE state END AS shown
         FROM jobs WHERE seq > $1 AND ($2 = 0 OR state = 'failed') ORDER BY seq LIMIT $3",
    )
    .bind(after)
    .bind(i64::from(only_failed))
    .bind(i64::from(limit))
    .fetch_all(reads)
    .await?;
    rows.iter().map(listed).collect()
}

/// How deep the queue is, by kind and state.
pub async fn depths(reads: &ReadPool) -> Result<Vec<Depth>, DbError> {
    let rows = sqlx::query(
        "SELECT kind, shown, CAST(count(*) AS BIGINT) AS jobs, CAST(min(owed_at_ms) AS BIGINT) AS oldest
         FROM (SELECT kind, owed_at_ms,
                      CASE WHEN state = 'waiting' AND error IS NOT NULL THEN 'retrying' ELSE state END AS shown
               FROM jobs) AS seen
         GROUP BY kind, shown ORDER BY kind, shown",
    )
    .fetch_all(reads)
    .await?;
    rows.iter().map(depth).collect()
}

/// Begins the failed job `seq` anew, due now. False: there is no such job, or it has not failed.
pub async fn retry(tx: &mut Tx, seq: i64, now: Timestamp) -> Result<bool, DbError> {
    let done = sqlx::query(
        "UPDATE jobs SET state = 'waiting', owed_at_ms = $2, due_at_ms = $2, attempts = 0, faults = 0, error = NULL,
             failed_at_ms = NULL
         WHERE seq = $1 AND state = 'failed'",
    )
    .bind(seq)
    .bind(now.ms())
    .execute(tx)
    .await?;
    let _outside = ENQUEUED.try_with(|enqueued| enqueued.set(true));
    Ok(done.rows_affected() == 1)
}

/// Forgets up to `limit` of the jobs that failed for good before `before` and says how many they were.
pub async fn forget_failed(tx: &mut Tx, before: Timestamp, limit: u32) -> Result<u64, DbError> {
    let done = sqlx::query(
        "DELETE FROM jobs WHERE seq IN (
             SELECT seq FROM jobs WHERE state = 'failed' AND failed_at_ms < $1 ORDER BY seq LIMIT $2)",
    )
    .bind(before.ms())
    .bind(i64::from(limit))
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

fn listed(row: &AnyRow) -> Result<Listed, DbError> {
    let row = Reader(row);
    Ok(Listed {
        seq: row.number("seq")?,
        kind: row.text("kind")?,
        key: row.text("key")?,
        state: row.code("shown", State::parse)?,
        owed_at: row.time("owed_at_ms")?,
        due_at: row.time("due_at_ms")?,
        attempts: row.number("attempts")?,
        faults: row.number("faults")?,
        error: row.text_opt("error")?,
    })
}

fn depth(row: &AnyRow) -> Result<Depth, DbError> {
    let row = Reader(row);
    Ok(Depth {
        kind: row.text("kind")?,
        state: row.code("shown", State::parse)?,
        jobs: row.number("jobs")?,
        owed_since: row.time("oldest")?,
    })
}
