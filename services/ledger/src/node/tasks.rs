//! What happens when work in the background fails. A loop that keeps nothing between its rounds is started again
//! (`hbc_service::Tasks`). A piece of work that ends by itself is logged here: whoever waits for what it brings has a
//! time-out of its own. Consensus, admission and a disk that fails under them end the process: half a node, answering
//! but not deciding, is worse than one that is started again.

use std::panic::AssertUnwindSafe;

/// Runs something that ends by itself. A panic is logged.
pub(super) fn once(name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    drop(hbc_service::spawn(name, work));
}

/// The same on a thread that may block.
pub(super) fn once_aside(name: &'static str, work: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(move || {
        if std::panic::catch_unwind(AssertUnwindSafe(work)).is_err() {
            tracing::error!(task.name = name, "A piece of work in the background panicked");
        }
    });
}

/// Runs something without which the node is none: if it ends or panics, so does the process.
pub(super) fn vital(name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    drop(hbc_service::spawn_essential(name, async move {
        work.await;
        tracing::error!(task.name = name, "A part that the node cannot do without ended; the node ends here");
        std::process::abort();
    }));
}

/// The log must not fail: what was signed and not recorded could be contradicted after a restart.
pub(super) fn or_die<T>(result: std::io::Result<T>) -> T {
    result.unwrap_or_else(|error| {
        tracing::error!(error = %error, "The write-ahead log cannot be used; the node ends here");
        std::process::abort();
    })
}
