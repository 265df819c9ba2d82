//! Durable jobs: what a service owes to do is kept in its database (`hbc_db::jobs`) and done here.
//!
//! A job is one file that implements [`Job`] or [`Periodic`], and one line in the service's list ([`Jobs`]). It is
//! enqueued with [`enqueue`] in the transaction that makes it necessary; its key says what it is about, and whatever
//! is true of that is read when it runs. **A job may run twice**, and its process may die at any await: what it does
//! must bear that. Why it is built so: `docs/decisions/0100-durable-jobs.md`.

mod error;
mod retry;
mod runner;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hbc_db::jobs::NewJob;
use hbc_db::{DbError, Tx};
use hbc_types::Timestamp;

pub use error::JobError;
pub use retry::Retry;
pub use runner::{Queue, Runner};

/// A kind of work that is owed now and then.
pub trait Job: Send + Sync + 'static {
    /// The service's state.
    type App: Send + Sync;
    /// What it is about: an id. A kind has one job for a key, however often it is enqueued.
    type Key: Display + FromStr + Send;
    /// Its name in the database, in metrics and for operators; never given to other work.
    const KIND: &'static str;
    /// When it is tried again, and how often.
    const RETRY: Retry = Retry::STANDARD;

    /// Whose turn it is: of all kinds, the jobs with the same subject run one after the other, in the order in which
    /// they were enqueued.
    fn subject(key: &Self::Key) -> String {
        key.to_string()
    }

    /// Does it. May run twice, and in two processes if one of them lost its lease.
    fn run(app: &Self::App, key: Self::Key) -> impl Future<Output = Result<(), JobError>> + Send;
}

/// Work that is due again and again, at most once at a time over all processes of the service.
pub trait Periodic: Send + Sync + 'static {
    /// The service's state.
    type App: Send + Sync;
    /// Its name in the database, in metrics and for operators; never given to other work.
    const KIND: &'static str;
    /// The pauses after a run that failed; none is longer than the period, and it is tried for ever.
    const RETRY: Retry = Retry::STANDARD;

    /// Whether it also runs when a process of the service starts.
    const AT_START: bool = false;

    /// How long from one run to the next. Runs that were missed are not made up for.
    fn period(app: &Self::App) -> Duration;

    /// Does it.
    fn run(app: &Self::App) -> impl Future<Output = Result<(), JobError>> + Send;
}

/// Owes the job `J` about `key`, due at `due`.
pub async fn enqueue<J: Job>(tx: &mut Tx, key: &J::Key, due: Timestamp) -> Result<(), DbError> {
    let job = NewJob { kind: J::KIND, key: key.to_string(), subject: J::subject(key) };
    hbc_db::jobs::enqueue(tx, &job, due).await
}

/// The job `J` about `key` is not necessary any more.
pub async fn cancel<J: Job>(tx: &mut Tx, key: &J::Key) -> Result<(), DbError> {
    hbc_db::jobs::cancel(tx, J::KIND, &key.to_string()).await
}

type Run<A> = Box<dyn for<'a> Fn(&'a A, String) -> BoxFuture<'a, Result<(), JobError>> + Send + Sync>;
type Period<A> = Box<dyn Fn(&A) -> Duration + Send + Sync>;

/// One kind, with its types forgotten.
struct Entry<A> {
    retry: Retry,
    period: Option<Period<A>>,
    at_start: bool,
    run: Run<A>,
}

/// The jobs of a service, a line for each.
pub struct Jobs<A> {
    entries: BTreeMap<&'static str, Entry<A>>,
    /// A kind that two of them claim.
    doubled: Option<&'static str>,
}

impl<A> std::fmt::Debug for Jobs<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.entries.keys()).finish()
    }
}

impl<A: Send + Sync + 'static> Default for Jobs<A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A: Send + Sync + 'static> Jobs<A> {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: BTreeMap::new(), doubled: None }
    }

    /// With the job `J`.
    #[must_use]
    pub fn job<J: Job<App = A>>(self) -> Self {
        let run: Run<A> = Box::new(|app, key| {
            Box::pin(async move {
                let key = key.parse().map_err(|_not_a_key| JobError::fault("bad_key"))?;
                J::run(app, key).await
            })
        });
        self.with(J::KIND, Entry { retry: J::RETRY, period: None, at_start: false, run })
    }

    /// With the periodic job `P`.
    #[must_use]
    pub fn periodic<P: Periodic<App = A>>(self) -> Self {
        let run: Run<A> = Box::new(|app, _key| Box::pin(P::run(app)));
        self.with(
            P::KIND,
            Entry { retry: P::RETRY, period: Some(Box::new(P::period)), at_start: P::AT_START, run },
        )
    }

    /// With the periodic job `P` of the skeleton, whose state is its own.
    #[must_use]
    pub(crate) fn own<P: Periodic>(self, state: P::App) -> Self
    where
        P::App: Clone + 'static,
    {
        let counted = state.clone();
        let period: Period<A> = Box::new(move |_app| P::period(&counted));
        let run: Run<A> = Box::new(move |_app, _key| {
            let state = state.clone();
            Box::pin(async move { P::run(&state).await })
        });
        self.with(P::KIND, Entry { retry: P::RETRY, period: Some(period), at_start: P::AT_START, run })
    }

    /// The names of the kinds.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.entries.keys().copied()
    }

    fn with(mut self, kind: &'static str, entry: Entry<A>) -> Self {
        if self.entries.insert(kind, entry).is_some() {
            self.doubled = Some(kind);
        }
        self
    }
}
