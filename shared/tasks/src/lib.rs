//! Background work: started here and nowhere else, so that no panic goes unseen.
//!
//! - [`Tasks::spawn_supervised`]: a loop. It is logged and started again when it ends or panics, and stopped with its
//!   service.
//! - [`spawn`]: work with an end. A panic is logged under its name, and whoever waits for it is told.
//! - [`spawn_essential`]: work without which the process is worth nothing and which cannot be started again. A panic
//!   ends the process; whoever supervises it starts it anew.

#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Exit status of a process whose essential work panicked: an internal software error (`sysexits.h`).
const INTERNAL_FAULT: i32 = 70;

/// Does `work` in the background. If it panics, that is logged under `name`, and the handle says so.
pub fn spawn<F>(name: &'static str, work: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(async move {
        match AssertUnwindSafe(work).catch_unwind().await {
            Ok(done) => done,
            Err(panic) => {
                tracing::error!(task.name = name, "A background task panicked");
                resume_unwind(panic)
            }
        }
    })
}

/// Does `work` in the background. If it panics, that is logged under `name`, and the process ends.
pub fn spawn_essential<F>(name: &'static str, work: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(async move {
        match AssertUnwindSafe(work).catch_unwind().await {
            Ok(done) => done,
            Err(_panic) => {
                tracing::error!(
                    task.name = name,
                    "A task that nothing works without panicked: the process ends"
                );
                std::process::exit(INTERNAL_FAULT)
            }
        }
    })
}

/// The background loops of one service. Clones share the set.
#[derive(Clone, Debug)]
pub struct Tasks {
    stop: Arc<watch::Sender<bool>>,
    loops: Arc<Mutex<Loops>>,
}

/// The loops, and how often each was started.
#[derive(Debug, Default)]
struct Loops {
    handles: Vec<JoinHandle<()>>,
    standing: BTreeMap<&'static str, Standing>,
}

#[derive(Clone, Debug, Default)]
struct Standing {
    starts: u64,
    trip: Arc<Notify>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self { stop: Arc::new(watch::channel(false).0), loops: Arc::default() }
    }
}

impl Tasks {
    /// No loops yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs the loop that `make` makes until [`Tasks::stop`]; if it ends or panics before that, it is logged and
    /// made anew after a pause that grows while failures follow each other.
    pub fn spawn_supervised<M, F>(&self, name: &'static str, mut make: M)
    where
        M: FnMut() -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let mut stop = self.stop.subscribe();
        // Not the whole of it: loops end when nobody holds their set any more.
        let loops = Arc::clone(&self.loops);
        let trip = Arc::clone(&lock(&loops).standing.entry(name).or_default().trip);
        let supervised = async move {
            let mut pause = FIRST_PAUSE;
            loop {
                let started = Instant::now();
                lock(&loops).standing.entry(name).or_default().starts += 1;
                let ended = tokio::select! {
                    _stopped = stop.wait_for(|stop| *stop) => return,
                    ended = AssertUnwindSafe(tripping(&trip, make())).catch_unwind() => ended,
                };
                if started.elapsed() > LONGEST_PAUSE {
                    pause = FIRST_PAUSE;
                }
                let reason = if ended.is_ok() { "it ended" } else { "it panicked" };
                tracing::error!(
                    task.name = name,
                    task.reason = reason,
                    task.pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                    "A background loop is started again"
                );
                tokio::select! {
                    _stopped = stop.wait_for(|stop| *stop) => return,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        };
        let handle = tokio::spawn(supervised);
        lock(&self.loops).handles.push(handle);
    }

    /// The loops by name, each with how often it was started.
    #[must_use]
    pub fn starts(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.loops).standing.iter().map(|(name, standing)| (*name, standing.starts)).collect()
    }

    /// Makes the loop `name` panic where it stands, once.
    #[cfg(any(test, feature = "testing"))]
    pub fn trip(&self, name: &str) {
        if let Some(standing) = lock(&self.loops).standing.get(name) {
            standing.trip.notify_one();
        }
    }

    /// Resolves when the loops are to stop: for loops that want to finish a step.
    pub async fn stopping(&self) {
        let mut stop = self.stop.subscribe();
        let _sender_gone = stop.wait_for(|stop| *stop).await;
    }

    /// Stops every loop at its next await and waits for them.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let handles = std::mem::take(&mut lock(&self.loops).handles);
        for handle in handles {
            let _panicked = handle.await;
        }
    }
}

fn lock(loops: &Mutex<Loops>) -> MutexGuard<'_, Loops> {
    loops.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `work`, until it ends or the loop is tripped.
async fn tripping(trip: &Notify, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = trip.notified() => tripped(),
    }
}

#[expect(clippy::panic, reason = "only a test comes here, and a panic is what it asks for")]
fn tripped() {
    panic!("tripped");
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_ends_or_panics_comes_back_and_stops_when_told() {
        let tasks = Tasks::new();
        let starts = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&starts);
        tasks.spawn_supervised("sample", move || {
            let nth = count.fetch_add(1, Ordering::SeqCst);
            async move {
                assert!(nth != 1, "deliberate");
                if nth >= 2 {
                    std::future::pending::<()>().await;
                }
            }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(starts.load(Ordering::SeqCst), 3);
        assert_eq!(tasks.starts()["sample"], 3);
        assert_eq!(testing::trip_all(&tasks).await, ["sample"].into());
        assert_eq!(starts.load(Ordering::SeqCst), 4);
        tasks.stop().await;
    }

    #[tokio::test]
    async fn who_waits_for_work_that_panics_is_told() {
        assert_eq!(spawn("sums", async { 2 + 2 }).await.unwrap(), 4);
        let ended = spawn("sample", async { assert_eq!(1, 2, "deliberate") }).await;
        assert!(ended.unwrap_err().is_panic());
    }

    /// This test runs itself once more, as a process of its own that must die.
    #[test]
    fn a_panic_of_essential_work_ends_the_process() {
        const CHILD: &str = "HBC_TASKS_PLAYS_THE_CHILD";
        if std::env::var_os(CHILD).is_some() {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                spawn_essential("sample", async { assert_eq!(1, 2, "deliberate") });
                std::future::pending::<()>().await;
            });
        }
        let itself = std::env::current_exe().unwrap();
        let ended = std::process::Command::new(itself)
            .args(["--exact", "tests::a_panic_of_essential_work_ends_the_process", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(INTERNAL_FAULT), "{ended:?}");
    }
}
