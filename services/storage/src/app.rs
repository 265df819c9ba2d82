//! What every part of storage shares.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ed25519_dalek::SigningKey;
use hbc_client::ledger::{Finality, LedgerClient};
use hbc_types::ids::IntentId;
use hbc_types::{Clock, Digest, Random};
use tokio::sync::Notify;

use crate::domain::index::IndexKey;
use crate::flows::policy::Policy;
use crate::store::Store;
use crate::store::blob::BlobStore;
use crate::store::spool::Spool;

/// The state of the service. Clones share it.
#[derive(Clone)]
pub struct App {
    /// The database.
    pub store: Store,
    /// Where segments lie.
    pub blobs: Arc<dyn BlobStore>,
    /// Segments on their way there.
    pub spool: Spool,
    /// access-policy.
    pub policy: Policy,
    /// The key outside the database.
    pub index: IndexKey,
    /// Signs anchors.
    pub signer: Arc<SigningKey>,
    /// The chain that anchors are for.
    pub chain: Digest,
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
    /// Who waits for anchors, and how the ledger stands.
    pub finality: Finality,
    /// The ledger nodes.
    pub ledger: LedgerClient,
    /// Wakes the reconcile loop before its time.
    pub stir: Arc<Notify>,
    /// Uploads that this process is working on: however long they take, they are not dead.
    pub under_way: UnderWay,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("chain", &self.chain).finish_non_exhaustive()
    }
}

/// The intents that this process is working on. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct UnderWay(Arc<Mutex<HashSet<IntentId>>>);

impl UnderWay {
    /// Work on an intent begins; it ends with the value returned.
    #[must_use]
    pub fn begin(&self, intent: &IntentId) -> Working {
        self.lock().insert(intent.clone());
        Working { under_way: self.clone(), intent: intent.clone() }
    }

    /// Whether an intent is being worked on.
    #[must_use]
    pub fn contains(&self, intent: &IntentId) -> bool {
        self.lock().contains(intent)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<IntentId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An intent being worked on.
#[derive(Debug)]
pub struct Working {
    under_way: UnderWay,
    intent: IntentId,
}

impl Drop for Working {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.intent);
    }
}

/// Runs work that takes the processor for longer than a moment away from the threads that serve requests.
pub async fn blocking<T, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, crate::error::Error>
where
    T: Send + 'static,
    E: Into<crate::error::Error> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(Into::into),
        Err(_panicked) => Err(crate::error::Error::Fault("a computation panicked")),
    }
}
