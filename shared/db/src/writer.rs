//! The one way to change data.
//!
//! SQLite: a single task owns the only writing connection, groups the waiting jobs into one
//! `BEGIN IMMEDIATE` transaction, each behind its own savepoint, commits, then answers each. One fsync pays
//! for many jobs, and one failing job takes nobody down.
//!
//! PostgreSQL: jobs run at once, each in a SERIALIZABLE transaction that is repeated on a conflict. A job
//! may therefore be written as if it were alone in the database, on both engines.
//!
//! A job that was handed over runs to its end even if its caller goes away. A job must not call
//! [`crate::Db::write`] again and must not wait for anything but its own statements.
//!
//! Why: decision 0030.

use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::any::AnyConnectOptions;
use sqlx::{AnyConnection, AnyPool, Connection, Executor};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::connection::{DbOptions, Engine, open};
use crate::jobs::watched;
use crate::{DbError, JobFuture, Lock, Tx};

/// How long one job may hold the writer before it is abandoned.
const JOB_LIMIT: Duration = Duration::from_secs(30);
/// How long a group may keep taking in more jobs.
const GROUP_TIME: Duration = Duration::from_millis(10);
/// How often a conflicting PostgreSQL transaction is repeated.
const ATTEMPTS: u32 = 12;

/// What became of a job when it ran: whether its changes may stay, and how to tell the caller.
pub(crate) struct Done {
    keep: bool,
    /// Whether a durable job was enqueued in it.
    enqueued: bool,
    answer: Box<dyn FnOnce(Option<DbError>) + Send>,
}

pub(crate) type Job =
    Box<dyn for<'c> FnOnce(Result<&'c mut AnyConnection, DbError>) -> BoxFuture<'c, Done> + Send>;

pub(crate) enum Work {
    Job(Job),
    TruncateLog(oneshot::Sender<Result<(), DbError>>),
    Close(oneshot::Sender<()>),
}

/// The writing half of a [`crate::Db`].
pub(crate) enum Writer {
    Sqlite(mpsc::Sender<Work>),
    /// The pool, and what is told of each commit in which a durable job was enqueued.
    Postgres(AnyPool, Arc<Notify>),
}

impl Writer {
    /// `wake` is told of each commit in which a durable job was enqueued.
    pub(crate) async fn sqlite(
        options: AnyConnectOptions,
        settings: DbOptions,
        wake: Arc<Notify>,
    ) -> Result<Self, DbError> {
        let connection = open(Engine::Sqlite, &options, &settings).await?;
        let (sender, receiver) = mpsc::channel(1024);
        let group =
            GroupWriter { options, settings, wake, receiver, connection: Some(connection), held: None };
        // Without it no change is stored any more, and what it held cannot be taken up again.
        hbc_tasks::spawn_essential("database writer", group.run());
        Ok(Self::Sqlite(sender))
    }

    /// `wake` is told of each commit in which a durable job was enqueued.
    pub(crate) const fn postgres(pool: AnyPool, wake: Arc<Notify>) -> Self {
        Self::Postgres(pool, wake)
    }

    /// Runs a job, holding `locks` from before its transaction begins until after it ended.
    pub(crate) async fn run<T, E, F>(&self, locks: Vec<Lock>, job: F) -> Result<T, E>
    where
        F: for<'c> FnOnce(&'c mut Tx) -> JobFuture<'c, T, E> + Clone + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + Error + Send + 'static,
    {
        match self {
            Self::Sqlite(sender) => {
                let (answer, wait) = oneshot::channel();
                let work = Work::Job(erase(job, answer));
                sender.send(work).await.map_err(|_stopped| E::from(DbError::Closed))?;
                wait.await.unwrap_or_else(|_stopped| Err(E::from(DbError::Closed)))
            }
            Self::Postgres(pool, wake) => {
                let (pool, wake) = (pool.clone(), Arc::clone(wake));
                let task = hbc_tasks::spawn("database change", async move {
                    let (outcome, enqueued) = watched(repeat(pool, Lock::in_order(locks), job)).await;
                    if enqueued && outcome.is_ok() {
                        wake.notify_one();
                    }
                    outcome
                });
                task.await.unwrap_or_else(|_panicked| Err(E::from(DbError::Panicked)))
            }
        }
    }

    /// Cuts SQLite's write-ahead log to nothing.
    pub(crate) async fn truncate_log(&self) -> Result<(), DbError> {
        let Self::Sqlite(sender) = self else { return Ok(()) };
        let (answer, wait) = oneshot::channel();
        sender.send(Work::TruncateLog(answer)).await.map_err(|_stopped| DbError::Closed)?;
        wait.await.unwrap_or(Err(DbError::Closed))
    }

    /// Connections, those of them that are idle, and changes that wait.
    pub(crate) fn load(&self) -> (u64, u64, u64) {
        match self {
            Self::Sqlite(sender) => {
                let waiting = sender.max_capacity().saturating_sub(sender.capacity()) as u64;
                (1, u64::from(waiting == 0), waiting)
            }
            Self::Postgres(pool, _wake) => (u64::from(pool.size()), pool.num_idle() as u64, 0),
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(sender) => {
                let (done, wait) = oneshot::channel();
                if sender.send(Work::Close(done)).await.is_ok() {
                    wait.await.ok();
                }
            }
            Self::Postgres(pool, _wake) => pool.close().await,
        }
    }
}

/// Hides the job's types behind one that fits in a channel. Given an error instead of a connection, the job
/// is not run and its caller gets that error.
fn erase<T, E, F>(job: F, caller: oneshot::Sender<Result<T, E>>) -> Job
where
    F: for<'c> FnOnce(&'c mut Tx) -> JobFuture<'c, T, E> + Send + 'static,
    T: Send + 'static,
    E: From<DbError> + Send + 'static,
{
    Box::new(move |connection| {
        Box::pin(async move {
            let (outcome, enqueued) = match connection {
                Ok(connection) => watched(within_limits(job, connection)).await,
                Err(error) => (Err(E::from(error)), false),
            };
            let keep = outcome.is_ok();
            let answer = move |failure: Option<DbError>| {
                // A caller that went away has nobody to tell.
                let _gone = caller.send(match failure {
                    Some(failure) => Err(E::from(failure)),
                    None => outcome,
                });
            };
            Done { keep, enqueued, answer: Box::new(answer) }
        })
    })
}

/// Runs a job; a panic or a job that does not end becomes an error.
async fn within_limits<T, E, F>(job: F, connection: &mut AnyConnection) -> Result<T, E>
where
    F: for<'c> FnOnce(&'c mut Tx) -> JobFuture<'c, T, E>,
    E: From<DbError>,
{
    let job = AssertUnwindSafe(async move { job(connection).await });
    match timeout(JOB_LIMIT, job.catch_unwind()).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) | Err(_) => {
            tracing::error!("A change was abandoned because its job panicked or did not end");
            Err(E::from(DbError::Panicked))
        }
    }
}

/// The task that owns SQLite's writing connection.
struct GroupWriter {
    options: AnyConnectOptions,
    settings: DbOptions,
    wake: Arc<Notify>,
    receiver: mpsc::Receiver<Work>,
    connection: Option<AnyConnection>,
    /// Work that is not a job and arrived while a group was being filled.
    held: Option<Work>,
}

impl GroupWriter {
    async fn run(mut self) {
        loop {
            let work = match self.held.take() {
                Some(work) => Some(work),
                None => self.receiver.recv().await,
            };
            match work {
                Some(Work::Job(job)) => self.group(job).await,
                Some(Work::TruncateLog(answer)) => {
                    let outcome = self.truncate().await;
                    answer.send(outcome).ok();
                }
                // The waiting jobs are worked off first: `recv` ends only when the channel is empty.
                Some(Work::Close(done)) => {
                    self.receiver.close();
                    while let Some(work) = self.receiver.recv().await {
                        if let Work::Job(job) = work {
                            self.group(job).await;
                        }
                    }
                    self.disconnect().await;
                    done.send(()).ok();
                    return;
                }
                None => return self.disconnect().await,
            }
        }
    }

    async fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(error = &error as &dyn Error, "The database connection did not close cleanly");
        }
    }

    async fn truncate(&mut self) -> Result<(), DbError> {
        let mut connection = self.take_connection().await?;
        let outcome = connection.execute(sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)")).await;
        self.connection = Some(connection);
        outcome?;
        Ok(())
    }

    async fn take_connection(&mut self) -> Result<AnyConnection, DbError> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => open(Engine::Sqlite, &self.options, &self.settings).await,
        }
    }

    /// Runs `first` and whatever else waits in one transaction and answers them all. A connection that
    /// failed is dropped, and the next group opens a new one.
    async fn group(&mut self, first: Job) {
        let mut connection = match self.take_connection().await {
            Ok(connection) => connection,
            Err(error) => return (first(Err(error)).await.answer)(None),
        };
        let mut finished = Vec::new();
        let outcome = self.fill_and_commit(&mut connection, first, &mut finished).await;
        let failed = match outcome {
            Ok(()) => {
                self.connection = Some(connection);
                false
            }
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::error!(error, db.jobs = finished.len(), "A group of changes was not committed");
                true
            }
        };
        if !failed && finished.iter().any(|done| done.keep && done.enqueued) {
            self.wake.notify_one();
        }
        for Done { keep, answer, .. } in finished {
            // A job that failed on its own keeps its own error.
            answer((failed && keep).then_some(DbError::NotCommitted));
        }
    }

    async fn fill_and_commit(
        &mut self,
        connection: &mut AnyConnection,
        first: Job,
        finished: &mut Vec<Done>,
    ) -> Result<(), sqlx::Error> {
        let started = Instant::now();
        let mut tx = match connection.begin_with("BEGIN IMMEDIATE").await {
            Ok(tx) => tx,
            Err(error) => {
                finished.push(first(Err(error.into())).await);
                return Ok(());
            }
        };
        let mut next = Some(first);
        while let Some(job) = next.take() {
            tx.execute(sqlx::query("SAVEPOINT job")).await?;
            let done = job(Ok(&mut tx)).await;
            let keep = done.keep;
            finished.push(done);
            if !keep {
                tx.execute(sqlx::query("ROLLBACK TO job")).await?;
            }
            tx.execute(sqlx::query("RELEASE job")).await?;
            if finished.len() < self.settings.group_jobs && started.elapsed() < GROUP_TIME {
                next = self.next_waiting_job();
            }
        }
        tx.commit().await
    }

    fn next_waiting_job(&mut self) -> Option<Job> {
        match self.receiver.try_recv().ok()? {
            Work::Job(job) => Some(job),
            other => {
                self.held = Some(other);
                None
            }
        }
    }
}

/// One PostgreSQL job: locks, transaction, and again on a conflict.
async fn repeat<T, E, F>(pool: AnyPool, locks: Vec<Lock>, job: F) -> Result<T, E>
where
    F: for<'c> FnOnce(&'c mut Tx) -> JobFuture<'c, T, E> + Clone,
    E: From<DbError> + Error + 'static,
{
    let mut connection = pool.acquire().await.map_err(|error| E::from(error.into()))?;
    let outcome = locked(&mut connection, &locks, job).await;
    let unlocked = match locks.is_empty() {
        true => Ok(()),
        false => connection
            .execute(sqlx::query("SELECT CAST(pg_advisory_unlock_all() AS TEXT)"))
            .await
            .map(|_done| ()),
    };
    if let Err(error) = unlocked {
        tracing::warn!(
            error = &error as &dyn Error,
            "A connection is dropped because its locks were not released"
        );
        connection.detach().close_hard().await.ok();
    }
    outcome
}

async fn locked<T, E, F>(connection: &mut AnyConnection, locks: &[Lock], job: F) -> Result<T, E>
where
    F: for<'c> FnOnce(&'c mut Tx) -> JobFuture<'c, T, E> + Clone,
    E: From<DbError> + Error + 'static,
{
    for lock in locks {
        let taken = sqlx::query(lock.statement()).bind(lock.key()).execute(&mut *connection).await;
        taken.map_err(|error| E::from(error.into()))?;
    }
    let mut attempt = 0;
    loop {
        attempt += 1;
        let outcome = once(connection, job.clone()).await;
        match outcome {
            Err(error) if attempt < ATTEMPTS && is_conflict(&error) => {
                // Conflicting writers must not wait alike, or they meet again.
                let [spread] = hbc_types::Random::system().bytes();
                tokio::time::sleep(Duration::from_millis(u64::from(attempt) * u64::from(spread % 8))).await;
            }
            outcome => return outcome,
        }
    }
}

async fn once<T, E, F>(connection: &mut AnyConnection, job: F) -> Result<T, E>
where
    F: for<'c> FnOnce(&'c mut Tx) -> JobFuture<'c, T, E>,
    E: From<DbError>,
{
    let begun = connection.begin_with("BEGIN ISOLATION LEVEL SERIALIZABLE").await;
    let mut tx = begun.map_err(|error| E::from(error.into()))?;
    match within_limits(job, &mut tx).await {
        Ok(value) => match tx.commit().await {
            Ok(()) => Ok(value),
            Err(error @ sqlx::Error::Database(_)) => Err(E::from(error.into())),
            Err(error) => {
                tracing::error!(error = &error as &dyn Error, "The outcome of a commit is unknown");
                Err(E::from(DbError::CommitUnknown))
            }
        },
        Err(error) => {
            tx.rollback().await.ok();
            Err(error)
        }
    }
}

/// Whether PostgreSQL asked to repeat the transaction; looks through the error's sources.
fn is_conflict(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(sqlx::Error::Database(database)) = error.downcast_ref::<sqlx::Error>() {
            return database.code().is_some_and(|code| code == "40001" || code == "40P01");
        }
        next = error.source();
    }
    false
}
