//! The password pool: Argon2id off the event loop, so many at once and no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hbc_types::Random;
use hbc_types::secret::SecretText;
use tokio::sync::Semaphore;

use crate::config::PasswordSettings;
use crate::domain::custody::Cost;
use crate::domain::password;
use crate::error::Error;

/// Runs password hashes. Clones share the bounds.
#[derive(Clone, Debug)]
pub struct PasswordPool {
    running: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    most_waiting: usize,
    cost: Cost,
    random: Random,
    /// A hash of nobody's password: unknown users cost as much as known ones.
    decoy: Arc<str>,
}

/// Counts one waiting piece of work down when it goes away.
struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl PasswordPool {
    /// A pool with these bounds; hashes one decoy password right away.
    pub fn new(settings: &PasswordSettings, cost: Cost, random: Random) -> Result<Self, Error> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let threads = if settings.threads == 0 { cores } else { settings.threads };
        let nobody = SecretText::new(hex::encode(random.bytes::<32>()));
        let decoy = password::hash(&nobody, cost, &random)?;
        Ok(Self {
            running: Arc::new(Semaphore::new(threads)),
            waiting: Arc::new(AtomicUsize::new(0)),
            most_waiting: settings.waiting,
            cost,
            random,
            decoy: decoy.into(),
        })
    }

    /// The cost of new hashes and wraps.
    #[must_use]
    pub const fn cost(&self) -> Cost {
        self.cost
    }

    /// Runs `work`, which takes about as long as one hash.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        if self.waiting.fetch_add(1, Ordering::SeqCst)
            >= self.most_waiting.saturating_add(self.running.available_permits())
        {
            let _count_down = Waiting(Arc::clone(&self.waiting));
            return Err(Error::Overloaded);
        }
        let waiting = Waiting(Arc::clone(&self.waiting));
        let permit = Arc::clone(&self.running).acquire_owned().await.map_err(|_closed| Error::Overloaded)?;
        drop(waiting);
        let outcome = tokio::task::spawn_blocking(move || {
            let _until_done = permit;
            work()
        });
        outcome.await.map_err(|_panicked| Error::Broken("the password work was abandoned"))
    }

    /// Whether `password` is the one of `phc`; without a hash it costs the same and is not.
    pub async fn matches(&self, password: SecretText, phc: Option<String>) -> Result<bool, Error> {
        let (known, hash) = match phc {
            Some(hash) => (true, hash),
            None => (false, self.decoy.to_string()),
        };
        let fits = self.run(move || password::matches(&password, &hash)).await?;
        Ok(fits && known)
    }

    /// The hash of a new password.
    pub async fn hash(&self, password: SecretText) -> Result<String, Error> {
        let (cost, random) = (self.cost, self.random.clone());
        Ok(self.run(move || password::hash(&password, cost, &random)).await??)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost { m_kib: 64, t: 1, p: 1 };

    fn secret(text: &str) -> SecretText {
        SecretText::new(text.to_owned())
    }

    #[tokio::test]
    async fn nobody_matches_nothing() {
        let pool = PasswordPool::new(&PasswordSettings::default(), CHEAP, Random::seeded(1)).unwrap();
        let hash = pool.hash(secret("tall birches")).await.unwrap();
        assert!(pool.matches(secret("tall birches"), Some(hash)).await.unwrap());
        assert!(!pool.matches(secret("tall birches"), None).await.unwrap());
    }

    #[tokio::test]
    async fn too_much_waiting_work_is_refused_and_the_bound_recovers() {
        let settings = PasswordSettings { threads: 1, waiting: 0 };
        let pool = PasswordPool::new(&settings, CHEAP, Random::seeded(1)).unwrap();
        let (release, hold) = std::sync::mpsc::channel::<()>();
        let (started, has_started) = tokio::sync::oneshot::channel::<()>();
        let busy = hbc_service::spawn("busy", {
            let pool = pool.clone();
            async move {
                pool.run(move || {
                    started.send(()).ok();
                    hold.recv().ok();
                })
                .await
            }
        });
        has_started.await.unwrap();
        assert!(matches!(pool.run(|| ()).await, Err(Error::Overloaded)));
        release.send(()).unwrap();
        busy.await.unwrap().unwrap();
        pool.run(|| ()).await.unwrap();
    }
}
