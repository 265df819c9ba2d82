//! The loop that does what is owed: claims jobs under a lease, runs them beside each other, and says what became of them.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use futures_util::FutureExt as _;
use hbc_db::jobs::{self, Claim, Finished, Standing};
use hbc_db::{Db, DbError};
use hbc_types::{Clock, Random, Timestamp};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Entry, JobError, Jobs};

/// How long a claim holds without being renewed: after a crash, that is how long its job waits.
const LEASE: Duration = Duration::from_secs(15);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(5);
/// How often the queue is looked at when nobody wakes the runner: for jobs that other processes enqueued.
const POLL: Duration = Duration::from_secs(1);
/// How many jobs run at once in one process.
const LANES: usize = 16;

/// The queue, for flows that want to know whether something was done. Clones share it.
#[derive(Clone, Debug)]
pub struct Queue {
    db: Db,
    clock: Clock,
    /// Told of each run that ended here.
    turned: Arc<Notify>,
}

impl Queue {
    /// The queue in `db`.
    #[must_use]
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock, turned: Arc::default() }
    }

    /// Waits, at most for `patience`, until nothing is owed about `subject`. False: something is, and will be tried
    /// again. What waits for another try is tried now.
    pub async fn settled(&self, subject: &str, patience: Duration) -> Result<bool, DbError> {
        let end = Instant::now() + patience;
        let mut standing = jobs::standing(self.db.reads(), subject).await?;
        if standing == Standing::Troubled {
            let (subject, now) = (subject.to_owned(), self.clock.now());
            self.db.write(move |tx| Box::pin(async move { jobs::hurry(tx, &subject, now).await })).await?;
            standing = Standing::Open;
        }
        while standing == Standing::Open {
            if Instant::now() >= end {
                return Ok(false);
            }
            // Registered before the look, so that a run that ends in between is not missed. Another process's runs are
            // not heard of here.
            let turned = self.turned.notified();
            tokio::pin!(turned);
            turned.as_mut().enable();
            standing = jobs::standing(self.db.reads(), subject).await?;
            if standing == Standing::Open {
                let _nothing_heard = timeout_at(end.min(Instant::now() + POLL), turned).await;
            }
        }
        Ok(standing == Standing::Settled)
    }

    /// Whether nothing is owed about `subject` now.
    pub async fn is_settled(&self, subject: &str) -> Result<bool, DbError> {
        Ok(jobs::standing(self.db.reads(), subject).await? == Standing::Settled)
    }
}

/// Runs the jobs of one process. Clones are the same runner.
pub struct Runner<A> {
    queue: Queue,
    app: A,
    jobs: Arc<Jobs<A>>,
    random: Random,
    /// How this process's tokens begin.
    holder: String,
}

impl<A: Clone> Clone for Runner<A> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            app: self.app.clone(),
            jobs: Arc::clone(&self.jobs),
            random: self.random.clone(),
            holder: self.holder.clone(),
        }
    }
}

impl<A> std::fmt::Debug for Runner<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").field("jobs", &self.jobs).finish_non_exhaustive()
    }
}

impl<A: Clone + Send + Sync + 'static> Runner<A> {
    /// A runner of `jobs`, whose state is `app`. Refused if two jobs have the same name.
    pub fn new(queue: Queue, app: A, jobs: Jobs<A>, random: Random) -> anyhow::Result<Self> {
        ensure!(jobs.doubled.is_none(), "two jobs are called `{}`", jobs.doubled.unwrap_or_default());
        let holder = format!("{}:", hex::encode(random.bytes::<8>()));
        Ok(Self { queue, app, jobs: Arc::new(jobs), random, holder })
    }

    /// The loop: give it to the service's supervised tasks.
    pub async fn run(self) {
        let mut running = JoinSet::new();
        let mut planted = false;
        loop {
            let pause = match self.round(&mut planted, &mut running).await {
                Ok(pause) => pause,
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "The queue of jobs could not be looked at; it is tried again");
                    POLL
                }
            };
            tokio::select! {
                () = self.queue.db.job_enqueued() => {}
                Some(_ended) = running.join_next() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Gives back what this process still holds, once its loop has been stopped: others, or its next start, need not
    /// wait for the leases to run out.
    pub async fn release(&self) -> Result<(), DbError> {
        let (holder, now) = (self.holder.clone(), self.queue.clock.now());
        self.queue.db.write(move |tx| Box::pin(async move { jobs::release(tx, &holder, now).await })).await?;
        Ok(())
    }

    /// Starts what is due, as far as there are lanes; says how long nothing else is.
    async fn round(&self, planted: &mut bool, running: &mut JoinSet<()>) -> Result<Duration, DbError> {
        if !*planted {
            self.plant().await?;
            *planted = true;
        }
        let now = self.queue.clock.now();
        let free = u32::try_from(LANES.saturating_sub(running.len())).unwrap_or(0);
        if free > 0 {
            let due = jobs::due(self.queue.db.reads(), now, free).await?;
            for claim in self.claim(due, now).await? {
                running.spawn(self.clone().work(claim));
            }
        }
        let next = jobs::next_due(self.queue.db.reads(), now).await?;
        Ok(next.map_or(POLL, |next| next.since(now).min(POLL)))
    }

    /// Sees to it that every periodic job has its row, due within its period, or now.
    async fn plant(&self) -> Result<(), DbError> {
        let waits: Vec<_> = self
            .jobs
            .entries
            .iter()
            .filter_map(|(kind, entry)| {
                let period = entry.period.as_ref()?(&self.app);
                Some((*kind, if entry.at_start { Duration::ZERO } else { period }))
            })
            .collect();
        let now = self.queue.clock.now();
        self.queue
            .db
            .write(move |tx| {
                Box::pin(async move {
                    for (kind, wait) in waits {
                        jobs::plant(tx, kind, now.plus(wait), now).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Claims those of `due` that nobody else got, in one transaction.
    async fn claim(&self, due: Vec<i64>, now: Timestamp) -> Result<Vec<Claim>, DbError> {
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let (holder, random) = (self.holder.clone(), self.random.clone());
        self.queue
            .db
            .write(move |tx| {
                Box::pin(async move {
                    let mut claims = Vec::new();
                    for seq in due {
                        let token = format!("{holder}{}", hex::encode(random.bytes::<8>()));
                        claims.extend(jobs::claim(tx, seq, &token, now.plus(LEASE), now).await?);
                    }
                    Ok(claims)
                })
            })
            .await
    }

    /// Runs a claimed job and stores what became of it. If that cannot be stored, its lease runs out and it runs again.
    async fn work(self, claim: Claim) {
        let started = Instant::now();
        let outcome = tokio::select! {
            outcome = self.attempt(&claim) => Some(outcome),
            () = self.keep(&claim) => None,
        };
        let known = self.jobs.entries.get_key_value(claim.kind.as_str());
        let labels = [("kind", known.map_or("unknown", |(kind, _)| *kind))];
        metrics::histogram!("hbc_job_seconds", &labels).record(started.elapsed().as_secs_f64());
        let stored = match outcome {
            Some(outcome) => self.store(&claim, known.map(|(_, entry)| entry), outcome).await,
            None => Ok(false),
        };
        match stored {
            Ok(true) => {}
            Ok(false) => tracing::warn!(
                job.kind = claim.kind,
                job.seq = claim.seq,
                "A job's lease was lost; whoever has it now brings it to its end"
            ),
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                job.kind = claim.kind,
                job.seq = claim.seq,
                "What became of a job could not be stored; it will run again"
            ),
        }
        self.queue.turned.notify_waiters();
    }

    async fn attempt(&self, claim: &Claim) -> Result<(), JobError> {
        let Some(entry) = self.jobs.entries.get(claim.kind.as_str()) else {
            return Err(JobError::fault("unknown_kind"));
        };
        // One that takes its process down with it must not do so for ever.
        if entry.period.is_none() && claim.faults >= entry.retry.tries {
            return Err(JobError::fault("broken_off"));
        }
        let run = AssertUnwindSafe((entry.run)(&self.app, claim.key.clone()));
        run.catch_unwind().await.unwrap_or_else(|_panic| Err(JobError::fault("panicked")))
    }

    /// Renews the lease for as long as it can; returns once it is lost.
    async fn keep(&self, claim: &Claim) {
        loop {
            sleep(RENEW).await;
            let (held, until) = (claim.clone(), self.queue.clock.now().plus(LEASE));
            let renewed = self
                .queue
                .db
                .write(move |tx| Box::pin(async move { jobs::renew(tx, &held, until).await }))
                .await;
            match renewed {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    job.kind = claim.kind,
                    "A job's lease could not be renewed; it is tried again"
                ),
            }
        }
    }

    /// Stores what became of a run. False: the lease was lost.
    async fn store(
        &self,
        claim: &Claim,
        entry: Option<&Entry<A>>,
        outcome: Result<(), JobError>,
    ) -> Result<bool, DbError> {
        let (now, held) = (self.queue.clock.now(), claim.clone());
        let period = entry.and_then(|entry| entry.period.as_ref()).map(|period| period(&self.app));
        let next = period.map(|period| next_run(claim.owed_at, period, now));
        let db = &self.queue.db;
        let error = match (outcome, next) {
            (Ok(()), Some(next)) => {
                return db.write(move |tx| Box::pin(async move { jobs::rest(tx, &held, next).await })).await;
            }
            (Ok(()), None) => {
                let done =
                    db.write(move |tx| Box::pin(async move { jobs::finish(tx, &held, now).await })).await?;
                return Ok(done != Finished::Lost);
            }
            (Err(error), _) => error,
        };
        let retry = entry.map_or(super::Retry::STANDARD, |entry| entry.retry);
        let (code, fault) = (error.code(), error.is_fault());
        let for_good = fault && next.is_none() && claim.faults.saturating_add(1) >= retry.tries;
        log(claim, &error, for_good);
        if for_good {
            return db.write(move |tx| Box::pin(async move { jobs::fail(tx, &held, code, now).await })).await;
        }
        let pause = now.plus(retry.pause(claim.attempts, &self.random));
        let due = next.map_or(pause, |next| next.min(pause));
        db.write(move |tx| Box::pin(async move { jobs::again(tx, &held, due, code, fault).await })).await
    }
}

/// When a periodic job that was due at `due` is due next: the first time after `now` that is a whole number of periods
/// later, so that neither the length of runs nor missed ones move it.
fn next_run(due: Timestamp, period: Duration, now: Timestamp) -> Timestamp {
    let period_ms = i64::try_from(period.as_millis()).unwrap_or(i64::MAX).max(1);
    let missed = now.ms().saturating_sub(due.ms()).max(0) / period_ms;
    Timestamp::from_ms(due.ms().saturating_add(period_ms.saturating_mul(missed.saturating_add(1))))
}

fn log(claim: &Claim, error: &JobError, for_good: bool) {
    let (kind, seq, attempts, code) = (claim.kind.as_str(), claim.seq, claim.attempts, error.code());
    let cause: &dyn std::error::Error = error;
    if for_good {
        tracing::error!(
            alarm = "job_failed",
            error = cause,
            job.kind = kind,
            job.seq = seq,
            job.attempts = attempts,
            job.error = code,
            "A job failed for good; `hbc jobs retry` begins it anew"
        );
    } else if error.is_fault() {
        tracing::warn!(
            error = cause,
            job.kind = kind,
            job.seq = seq,
            job.attempts = attempts,
            job.error = code,
            "A job went wrong; it is tried again"
        );
    } else {
        tracing::info!(
            error = cause,
            job.kind = kind,
            job.seq = seq,
            job.attempts = attempts,
            job.error = code,
            "A job has to wait; it is tried again"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_periods_are_not_made_up_for_and_nothing_drifts() {
        let at = |seconds: i64| Timestamp::from_ms(seconds * 1000);
        let minute = Duration::from_secs(60);
        assert_eq!(next_run(at(0), minute, at(0)), at(60));
        assert_eq!(next_run(at(0), minute, at(59)), at(60));
        assert_eq!(next_run(at(60), minute, at(120)), at(180));
        assert_eq!(next_run(at(60), minute, at(100_000)), at(100_020));
        assert_eq!(next_run(at(100), minute, at(5)), at(160));
        assert!(next_run(at(0), Duration::ZERO, at(5)) > at(5));
    }
}
