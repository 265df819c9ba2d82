//! A service in the test's own process: on a free port, until the test is over or stops it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Resolves when the service is to stop.
pub type Stopped = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A service that runs as a task. It is told to stop when this is dropped.
#[derive(Debug)]
pub struct Spawned {
    /// Its base URL.
    pub base: String,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Spawned {
    /// Runs what listens on `port` already and serves until the future that it is given resolves.
    pub fn run<Serving>(port: u16, serve: impl FnOnce(Stopped) -> Serving) -> Self
    where
        Serving: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let stopped: Stopped = Box::pin(async move {
            let _told_or_dropped: Result<(), _> = stopped.await;
        });
        let running = hbc_tasks::spawn("the service under test", serve(stopped));
        Self { base: format!("http://127.0.0.1:{port}"), stop: Some(stop), running: Some(running) }
    }

    /// Tells it to stop and waits until it has.
    ///
    /// # Panics
    /// If it ended badly.
    #[expect(clippy::unwrap_used, reason = "a service that ends badly fails the test")]
    pub async fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(running) = self.running.take() {
            running.await.unwrap().unwrap();
        }
    }
}

/// Writes a secret as `hbc init` does, readable by its owner alone; answers where it is.
///
/// # Panics
/// If the folder cannot be written.
#[expect(clippy::unwrap_used, reason = "a folder that cannot be written fails the test")]
pub fn secret_file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// The file of a 32-byte key that is this byte, repeated.
#[must_use]
pub fn key_file(folder: &Path, name: &str, seed: u8) -> PathBuf {
    secret_file(folder, name, &format!("{seed:02x}").repeat(32))
}

/// Looks again and again until something holds.
///
/// # Panics
/// If it does not within twenty seconds.
#[expect(clippy::panic, reason = "what never holds fails the test")]
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _look in 0..400 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}
