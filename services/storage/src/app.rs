//! What every part of storage shares.

mod policy;
mod schemas;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use anyhow::Context as _;
use hbc_app::{Base, Gauge, Part, ServiceState};
use hbc_db::DbError;
use hbc_service::idempotency::AnswerStore;
use hbc_service::{Problem, Tasks};
use hbc_types::Digest;
use hbc_types::ids::{AccountId, IntentId};
use hbc_types::saved::SavedAnswer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{AnchorSettings, Config, ReconcileSettings, RoomSettings};
use crate::domain::capabilities::About;
use crate::domain::index::IndexKey;
use crate::domain::reference::Bases;
use crate::error::Error;
use crate::store::Store;
use crate::store::blob::BlobStore;
use crate::store::blob::kubo::Kubo;
use crate::store::spool::Spool;
use policy::Policy;

/// The service's state. Clones share it.
#[derive(Clone)]
pub struct App(Arc<Core>);

/// What an [`App`] shares.
pub struct Core {
    /// What every service stands on.
    pub base: Base,
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
    /// Where this deployment's `/fhir` is reached: references below are its own.
    pub bases: Bases,
    /// What everybody may know of it.
    pub about: About,
    /// How unfinished work is cleaned up.
    pub reconcile: ReconcileSettings,
    /// When segments are anchored.
    pub anchors: AnchorSettings,
    /// How much may be written.
    pub room: RoomSettings,
    /// Turns of large bodies to be parsed: each becomes many times its size while it is looked at.
    pub parsing: Turns,
    /// Turns of large records to be opened.
    pub opening: Turns,
    /// Uploads that this process is working on: however long they take, they are not dead.
    pub under_way: UnderWay,
}

impl std::ops::Deref for App {
    type Target = Core;
    fn deref(&self) -> &Core {
        &self.0
    }
}

impl std::ops::Deref for Core {
    type Target = Base;
    fn deref(&self) -> &Base {
        &self.base
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("base", &self.base).finish_non_exhaustive()
    }
}

impl App {
    /// Opens the spool and reads the key that stands outside the database; `blobs` in place of the IPFS daemon.
    pub fn open(config: &Config, base: Base, blobs: Option<Arc<dyn BlobStore>>) -> anyhow::Result<Self> {
        let blobs: Arc<dyn BlobStore> = match blobs {
            Some(blobs) => blobs,
            None => Arc::new(Kubo::new(
                &config.kubo.url,
                &config.kubo.user,
                config.kubo.token_file.text()?,
                Duration::from_secs(config.kubo.timeout_seconds),
                config.kubo.calls,
            )?),
        };
        Ok(Self(Arc::new(Core {
            store: Store::new(base.db.clone()),
            blobs,
            spool: Spool::open(config.spool_dir.clone()).context("the spool cannot be opened")?,
            policy: Policy::new(&config.access_policy_url, base.caller.clone())?,
            index: IndexKey::new(&config.index_key_file.key()?),
            bases: Bases::new(config.fhir_bases.iter().map(String::as_str)),
            about: About::with_tokens_of(&config.base.issuer, config.authorization_page.as_deref()),
            reconcile: config.reconcile.clone(),
            anchors: config.anchors.clone(),
            room: config.room.clone(),
            parsing: Turns::new(PARSED_KIB),
            opening: Turns::new(OPENED_KIB),
            under_way: UnderWay::default(),
            base,
        })))
    }
}

impl ServiceState for App {
    fn tasks(&self, tasks: &Tasks) {
        tasks.spawn_supervised("schemas", schemas::run);
    }

    async fn gauges(&self) -> Result<Vec<Gauge>, DbError> {
        let spool = self.spool.clone();
        let free = blocking(move || spool.free().map_err(Error::Spool)).await.unwrap_or(0);
        let (spooled, lost, refused) = self.store.segment_counts().await?;
        Ok(vec![
            ("hbc_segments_spooled", spooled),
            ("hbc_segments_unpinned", lost),
            ("hbc_segments_refused", refused),
            ("hbc_spool_free_bytes", free),
        ])
    }

    async fn parts(&self) -> Vec<Part> {
        vec![Part::of("ipfs", self.blobs.check().await)]
    }
}

/// KiB of bodies that are parsed at once.
const PARSED_KIB: u32 = 16 * 1024;
/// KiB of records that are opened at once.
const OPENED_KIB: u32 = 16 * 1024;
/// What one account may have at work or in the queue of all: others never wait behind everything that one of them thinks of.
const EACH: usize = 4;
/// Accounts kept before those without work are thrown out.
const ACCOUNTS: usize = 1024;

/// Who works on something large now; others wait, in their order.
#[derive(Clone, Debug)]
pub struct Turns {
    all: Arc<Semaphore>,
    kib: u32,
    by_account: Arc<Mutex<HashMap<AccountId, Weak<Semaphore>>>>,
}

/// A turn, until it is dropped.
#[derive(Debug, Default)]
pub struct Turn {
    _of_all: Option<OwnedSemaphorePermit>,
    _of_account: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// What is up to this many KiB waits for nobody.
    const SMALL: u32 = 256;

    /// For so many KiB at once, or one thing alone that is larger.
    fn new(kib: u32) -> Self {
        Self { all: Arc::new(Semaphore::new(kib as usize)), kib, by_account: Arc::default() }
    }

    /// Waits until so many bytes may be worked on, first behind what the same account has under way.
    pub async fn turn(&self, account: Option<&AccountId>, bytes: u64) -> Turn {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        if kib <= Self::SMALL {
            return Turn::default();
        }
        let of_account = match account {
            Some(account) => self.of(account).acquire_owned().await.ok(),
            None => None,
        };
        let of_all = Arc::clone(&self.all).acquire_many_owned(kib.min(self.kib)).await.ok();
        Turn { _of_all: of_all, _of_account: of_account }
    }

    fn of(&self, account: &AccountId) -> Arc<Semaphore> {
        let mut by = self.by_account.lock().unwrap_or_else(PoisonError::into_inner);
        if by.len() > ACCOUNTS {
            by.retain(|_account, own| own.strong_count() > 0);
        }
        if let Some(own) = by.get(account).and_then(Weak::upgrade) {
            return own;
        }
        let own = Arc::new(Semaphore::new(EACH));
        by.insert(account.clone(), Arc::downgrade(&own));
        own
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
pub async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Error>
where
    T: Send + 'static,
    E: Into<Error> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(Into::into),
        Err(_panicked) => Err(Error::Fault("a computation panicked")),
    }
}

impl AnswerStore for App {
    async fn saved_answer(&self, id: Digest) -> Result<Option<SavedAnswer>, Problem> {
        let kept = hbc_db::idempotency::find(self.db.reads(), id).await;
        let kept = kept.map_err(|error| Problem::internal(&error))?;
        kept.map(|kept| self.index.show_answer(&kept).map_err(|error| Problem::internal(&error))).transpose()
    }
}
