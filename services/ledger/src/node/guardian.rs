//! Verify before append: the store is verified before each vote and each group of promises, and the node that
//! finds its store changed says so, durably, and does nothing more that others rely upon.
//!
//! Why: decision 0073.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use hbc_chain::comparison::{Known, compare, within};
use hbc_chain::verification::{Fault, Verifier, Wrong};
use hbc_types::{Clock, Digest, Random};
use tokio::sync::Notify;

use super::condition::{Condition, Stage};
use super::membership::Membership;
use super::memory::Memory;
use super::peer_book::PeerBook;
use super::tasks;
use crate::config::VerifyMode;
use crate::files::{AttackMark, DataFolder};
use crate::store::{ReadAhead, Store, StoreError, StoredBlock, StoredEvidence, Unsound};

/// Blocks that are read again because transactions rely on them, for one group or vote, end with the one that reaches so
/// many bytes; and so do those that are read at random.
const READ_SET_BYTES: u64 = 16 << 20;
const SAMPLE_BYTES: u64 = 4 << 20;
/// Blocks read at once.
const BLOCKS_PER_READ: u32 = 256;

/// What verification found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Soundness {
    /// All as it was.
    Sound,
    /// The store was changed: the node is attacked.
    Attacked,
    /// The store could not be read just now: neither vote nor promise, but try again.
    Unknown,
}

/// Why verification did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// The store is not what it was.
    Fault(Fault),
    /// It could not be read.
    Trouble(StoreError),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// What of the store is verified before it is relied upon.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    /// Everything each time, or some.
    pub mode: VerifyMode,
    /// Blocks compared at random, where it is some.
    pub sampled_blocks: u32,
    /// Within this time all stored bytes are read again in any case.
    pub scrub_period: Duration,
}

/// A store and the files beside it, opened, and how they were found to stand.
#[derive(Debug)]
pub struct Opened {
    /// The database.
    pub store: Store,
    /// The files.
    pub data: DataFolder,
    /// Attacked, or as a sound one begins.
    pub condition: Condition,
}

/// The store and the files beside it, with what is known of their soundness.
#[derive(Debug)]
pub struct StoreGuard {
    store: Store,
    data: DataFolder,
    depth: Depth,
    condition: RwLock<Condition>,
    /// Taken for writing while a block is committed, for reading while the store is verified.
    gate: tokio::sync::RwLock<()>,
    /// Told when an attack was found.
    attacked: Notify,
    memory: Arc<Memory>,
    membership: Arc<Membership>,
    book: Arc<PeerBook>,
    clock: Clock,
}

impl StoreGuard {
    /// Guards a store that was opened and found to be in `condition`.
    #[must_use]
    pub fn new(
        opened: Opened,
        depth: Depth,
        memory: Arc<Memory>,
        membership: Arc<Membership>,
        book: Arc<PeerBook>,
        clock: Clock,
    ) -> Self {
        let Opened { store, data, condition } = opened;
        let (condition, gate) = (RwLock::new(condition), tokio::sync::RwLock::new(()));
        let attacked = Notify::new();
        Self { store, data, depth, condition, gate, attacked, memory, membership, book, clock }
    }

    /// The database.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The files beside it.
    #[must_use]
    pub const fn data(&self) -> &DataFolder {
        &self.data
    }

    /// How much is verified before each vote and each group of promises.
    #[must_use]
    pub const fn mode(&self) -> VerifyMode {
        self.depth.mode
    }

    /// Within this time all stored bytes are read again.
    #[must_use]
    pub const fn scrub_period(&self) -> Duration {
        self.depth.scrub_period
    }

    /// The mark of an attack, if there is one.
    #[must_use]
    pub fn attack(&self) -> Option<AttackMark> {
        self.condition_now().attack.clone()
    }

    /// True if the store failed verification and is not healed yet.
    #[must_use]
    pub fn is_attacked(&self) -> bool {
        self.condition_now().attack.is_some()
    }

    /// How the store stands.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.condition_now().clone()
    }

    /// The node's name, for its log.
    pub(super) fn name(&self) -> &str {
        self.membership.name()
    }

    /// The height up to which the store must have blocks.
    pub(super) fn tip(&self) -> u64 {
        self.memory.height()
    }

    /// Resolves when an attack was found.
    pub(super) async fn attack_found(&self) {
        self.attacked.notified().await;
    }

    /// No block is committed as long as the answer is kept.
    pub(super) async fn no_commit(&self) -> tokio::sync::RwLockReadGuard<'_, ()> {
        self.gate.read().await
    }

    /// Nobody verifies the store or promises anything as long as the answer is kept.
    pub(super) async fn alone(&self) -> tokio::sync::RwLockWriteGuard<'_, ()> {
        self.gate.write().await
    }

    /// Verifies the store as configured, with the blocks that what comes next relies on. A fault marks the node as attacked.
    pub async fn store_is_sound(&self, read_set: &BTreeSet<u64>) -> Soundness {
        if self.is_attacked() {
            return Soundness::Attacked;
        }
        let result = match self.depth.mode {
            VerifyMode::Full => self.verify_all().await,
            VerifyMode::Incremental => self.verify_some(read_set).await,
        };
        match result {
            Ok(()) => Soundness::Sound,
            Err(Failure::Trouble(error)) => {
                tracing::error!(node.name = %self.name(), error = %error, "The store cannot be verified just now");
                Soundness::Unknown
            }
            Err(Failure::Fault(fault)) => {
                self.mark_attacked(fault).await;
                Soundness::Attacked
            }
        }
    }

    /// Verifies everything because of one wrong row, to name the first bad height; the node is attacked either way.
    pub async fn suspect(&self, seen: Fault) {
        let fault = match self.verify_suspect().await {
            Err(Failure::Fault(fault)) => fault,
            Ok(()) | Err(Failure::Trouble(_)) => seen,
        };
        self.mark_attacked(fault).await;
    }

    /// A row beside the blocks is not as this node wrote it.
    pub async fn suspect_row(&self, table: &'static str) {
        let height = self.memory.height();
        self.suspect(Fault { height, wrong: Wrong::Row(table) }).await;
    }

    /// Sorts an error of reading a block: damage marks the node as attacked.
    pub async fn reading_failed(&self, height: u64, error: StoreError) -> Soundness {
        match unreadable(height, error) {
            Failure::Fault(fault) => {
                self.mark_attacked(fault).await;
                Soundness::Attacked
            }
            Failure::Trouble(error) => {
                tracing::error!(node.name = %self.name(), error = %error, block.height = height, "A block cannot be read just now");
                Soundness::Unknown
            }
        }
    }

    /// Verifies everything because something was not as it was left; the node says `suspect` meanwhile.
    async fn verify_suspect(&self) -> Result<(), Failure> {
        self.condition_mut().suspect = true;
        let verified = self.verify_all().await;
        self.condition_mut().suspect = false;
        verified
    }

    /// Recomputes every block's hash on a fresh connection, and looks at all else in the file.
    async fn verify_all(&self) -> Result<(), Failure> {
        let _no_commit_meanwhile = self.no_commit().await;
        let verification = self.store.verification().await.map_err(|error| unreadable(0, error))?;
        let hashes = self.memory.chain().hashes().to_vec();
        verify_blocks(&self.store, &hashes, &|height| self.memory.chain().known(height)).await?;
        self.beside_the_blocks().await?;
        verification.accept();
        self.condition_mut().verified_at = Some(self.clock.now());
        Ok(())
    }

    /// Pages, tables and the rows that no block proves.
    pub(super) async fn beside_the_blocks(&self) -> Result<(), Failure> {
        let tip = self.memory.height();
        let found = fault_beside(&self.store, tip).await.map_err(|error| unreadable(tip, error))?;
        found.map_or(Ok(()), |fault| Err(fault.into()))
    }

    /// The tip, foreign writes, a random sample and what is relied on; everything if one of these is not as it was.
    async fn verify_some(&self, read_set: &BTreeSet<u64>) -> Result<(), Failure> {
        let sound = {
            let _no_commit_meanwhile = self.no_commit().await;
            let untouched = self.store.untouched().await.unwrap_or(false);
            untouched && self.some_are_sound(read_set).await.unwrap_or(false)
        };
        if sound {
            return Ok(());
        }
        tracing::info!(node.name = %self.name(), "The store is not as it was left: everything is verified");
        self.verify_suspect().await
    }

    /// Reads the tip, some blocks at random and those that are relied on again, on one fresh connection.
    async fn some_are_sound(&self, read_set: &BTreeSet<u64>) -> Result<bool, StoreError> {
        let heights = self.to_read_again(read_set);
        let mut reader = self.store.blocks(0).await?;
        for height in heights {
            if !reader.at(height).await?.is_some_and(|block| self.is_mine(&block)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Of both kinds a random choice, bounded by bytes.
    fn to_read_again(&self, read_set: &BTreeSet<u64>) -> BTreeSet<u64> {
        let random = Random::system();
        let draw = |below: u64| u64::from_be_bytes(random.bytes()).checked_rem(below).unwrap_or(0);
        let chain = self.memory.chain();
        let bytes =
            |height: &u64| chain.secondary_index().block(*height).map_or(0, |block| u64::from(block.bytes));
        let tip = chain.height();
        let sample = (0..self.depth.sampled_blocks).map(|_| draw(tip.saturating_add(1)));
        let mut heights = BTreeSet::from([tip]);
        heights.extend(within(SAMPLE_BYTES, sample.collect(), bytes, draw));
        heights.extend(within(READ_SET_BYTES, read_set.iter().copied().collect(), bytes, draw));
        heights
    }

    /// True if a stored block is, by its bytes, the one that this node has at that height.
    #[must_use]
    pub fn is_mine(&self, block: &StoredBlock) -> bool {
        self.fault_in(block).is_none()
    }

    /// What is wrong with a stored block, by its bytes and what memory knows of that height.
    #[must_use]
    pub fn fault_in(&self, block: &StoredBlock) -> Option<Fault> {
        let fault = |wrong| Fault { height: block.height, wrong };
        let Some(known) = self.memory.chain().known(block.height) else { return Some(fault(Wrong::Spare)) };
        compare(&known, &block.header, &block.body, &block.certificate).err().map(fault)
    }

    /// Marks the node as attacked, durably, and tells the others once.
    pub async fn mark_attacked(&self, fault: Fault) {
        let mark = AttackMark {
            first_bad_height: fault.height,
            evidence: fault.to_string(),
            found_at_ms: self.clock.now().ms(),
        };
        {
            let mut condition = self.condition_mut();
            if condition.attack.is_some() {
                return;
            }
            condition.attack = Some(mark.clone());
            condition.stage = Stage::Attacked;
        }
        tracing::error!(
            node.name = %self.name(),
            fault.height = fault.height,
            fault.what = %fault.wrong,
            "ALARM: the stored chain was changed; this node stops voting and refuses writes"
        );
        if let Err(error) = self.data.mark_attacked(&mark) {
            tracing::error!(error = %error, "The mark of the attack cannot be written; it is tried again");
        }
        let evidence = StoredEvidence {
            kind: "store".into(),
            member: self.membership.membership().map(|membership| membership.me.0),
            height: fault.height,
            detail: mark.document(),
        };
        if let Err(error) = self.store.add_evidence(&evidence, mark.found_at_ms).await {
            tracing::warn!(error = %error, "The evidence could not be stored in the changed database");
        }
        self.attacked.notify_one();
        self.tell_of_attack(&mark);
    }

    /// Tells the others that this node's store was changed, in the background.
    pub(super) fn tell_of_attack(&self, mark: &AttackMark) {
        let (digest, height, at_ms) = (mark.digest(), mark.first_bad_height, mark.found_at_ms);
        let book = Arc::clone(&self.book);
        tasks::once("telling of an attack", async move {
            book.tell_of_this("attacked", digest, height, at_ms).await;
        });
    }

    /// The store was healed and verified: nothing is left of the mark.
    pub(super) fn mark_gone(&self) {
        let mut condition = self.condition_mut();
        (condition.attack, condition.stage) = (None, Stage::Attacked);
        (condition.syncing, condition.verified_at) = (false, Some(self.clock.now()));
    }

    /// The healed store failed at once: the mark is durable again and healing begins anew.
    pub(super) fn mark_again(&self) {
        if let Some(mark) = self.attack()
            && let Err(error) = self.data.mark_attacked(&mark)
        {
            tracing::error!(error = %error, "The mark of the attack cannot be written");
        }
        self.condition_mut().stage = Stage::Attacked;
    }

    /// Changes how the store is said to stand.
    pub(super) fn change_condition(&self, change: impl FnOnce(&mut Condition)) {
        change(&mut self.condition_mut());
    }

    fn condition_now(&self) -> RwLockReadGuard<'_, Condition> {
        self.condition.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn condition_mut(&self) -> RwLockWriteGuard<'_, Condition> {
        self.condition.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Recomputes every stored block's hash on a fresh connection, and compares with the chain that has these hashes.
///
/// # Errors
/// The first fault, or why nothing can be said.
pub async fn verify_blocks(
    store: &Store,
    hashes: &[Digest],
    known: &(impl Fn(u64) -> Option<Known> + Sync),
) -> Result<(), Failure> {
    let mut verifier = Verifier::new(hashes);
    let reader = store.blocks(0).await.map_err(|error| unreadable(0, error))?;
    let mut pieces = ReadAhead::begin(reader, BLOCKS_PER_READ);
    loop {
        let next = verifier.next_height();
        let blocks = pieces.next().await.map_err(|error| unreadable(next, error))?;
        if blocks.is_empty() {
            break;
        }
        for block in &blocks {
            verifier.check(block.height, &block.header, &block.body, &mut |_| {})?;
            let certificate = known(block.height).map(|known| known.certificate);
            if certificate != Some(Digest::of(block.certificate.as_bytes())) {
                return Err(Fault { height: block.height, wrong: Wrong::Certificate }.into());
            }
        }
        tokio::task::yield_now().await;
    }
    verifier.finish()?;
    Ok(())
}

/// What is wrong with a store apart from its blocks, named at `height`. Pages first: a broken index hides rows.
///
/// # Errors
/// As the store.
pub async fn fault_beside(store: &Store, height: u64) -> Result<Option<Fault>, StoreError> {
    let found = match store.check_pages().await? {
        None => store.check_rows().await?,
        found => found,
    };
    Ok(found.map(|unsound| Fault { height, wrong: Wrong::from(unsound) }))
}

pub(super) fn unreadable(height: u64, error: StoreError) -> Failure {
    if !error.is_damage() {
        return Failure::Trouble(error);
    }
    tracing::error!(error = %error, block.height = height, "The store cannot be read");
    Failure::Fault(Fault { height, wrong: Wrong::Unreadable })
}

impl From<Unsound> for Wrong {
    fn from(unsound: Unsound) -> Self {
        match unsound {
            Unsound::Schema => Self::Schema,
            Unsound::Pages => Self::Pages,
            Unsound::Journal => Self::Journal,
            Unsound::Row(table) => Self::Row(table),
        }
    }
}
