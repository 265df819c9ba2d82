//! Background loops: started here and nowhere else, started again with back-off when they end, stopped together.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The background loops of one service. Clones share the set.
#[derive(Clone, Debug)]
pub struct Tasks {
    stop: Arc<watch::Sender<bool>>,
    handles: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self { stop: Arc::new(watch::channel(false).0), handles: Arc::default() }
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
        let supervised = async move {
            let mut pause = FIRST_PAUSE;
            loop {
                let started = Instant::now();
                let ended = tokio::select! {
                    _stopped = stop.wait_for(|stop| *stop) => return,
                    ended = AssertUnwindSafe(make()).catch_unwind() => ended,
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
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).push(handle);
    }

    /// Resolves when the loops are to stop: for loops that want to finish a step.
    pub async fn stopping(&self) {
        let mut stop = self.stop.subscribe();
        let _sender_gone = stop.wait_for(|stop| *stop).await;
    }

    /// Stops every loop at its next await and waits for them.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let handles: Vec<_> =
            std::mem::take(&mut *self.handles.lock().unwrap_or_else(PoisonError::into_inner));
        for handle in handles {
            let _panicked = handle.await;
        }
    }
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
        tasks.stop().await;
    }
}
