//! Verify before append: the store is verified before each vote and each group of promises, and the node that
//! finds its store changed says so, durably, and does nothing more that others rely upon.

use std::collections::BTreeSet;
use std::sync::Arc;

use hbc_types::Digest;

use super::heal::verify::rows_fault;
use super::{Node, Stage};
use crate::config::VerifyMode;
use crate::domain::comparison::compare;
use crate::domain::verification::{Fault, Verifier, Wrong};
use crate::files::AttackMark;
use crate::store::{StoreError, StoredBlock, StoredEvidence};

/// Blocks that are read again because transactions rely on them, for one group or vote.
const MOST_RELIED: usize = 64;
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
pub(super) enum Failure {
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

impl Node {
    /// Verifies the store as configured, with the blocks that what comes next relies on. A fault marks the node as attacked.
    pub async fn store_is_sound(self: &Arc<Self>, relied: &BTreeSet<u64>) -> Soundness {
        if self.attack().is_some() {
            return Soundness::Attacked;
        }
        let result = match self.verify {
            VerifyMode::Full => self.verify_all().await,
            VerifyMode::Incremental => self.verify_some(relied).await,
        };
        match result {
            Ok(()) => Soundness::Sound,
            Err(Failure::Trouble(error)) => {
                tracing::error!(node.name = %self.name, error = %error, "The store cannot be verified just now");
                Soundness::Unknown
            }
            Err(Failure::Fault(fault)) => {
                self.mark_attacked(fault).await;
                Soundness::Attacked
            }
        }
    }

    /// Verifies everything because of one wrong row, to name the first bad height; the node is attacked either way.
    pub(super) async fn suspect(self: &Arc<Self>, seen: Fault) {
        let fault = match self.verify_all().await {
            Err(Failure::Fault(fault)) => fault,
            Ok(()) | Err(Failure::Trouble(_)) => seen,
        };
        self.mark_attacked(fault).await;
    }

    /// Sorts an error of reading a block: damage marks the node as attacked.
    pub async fn reading_failed(self: &Arc<Self>, height: u64, error: StoreError) -> Soundness {
        match unreadable(height, error) {
            Failure::Fault(fault) => {
                self.mark_attacked(fault).await;
                Soundness::Attacked
            }
            Failure::Trouble(error) => {
                tracing::error!(node.name = %self.name, error = %error, block.height = height, "A block cannot be read just now");
                Soundness::Unknown
            }
        }
    }

    /// Recomputes every block's hash on a fresh connection.
    async fn verify_all(&self) -> Result<(), Failure> {
        let _no_commit_meanwhile = self.gate.read().await;
        self.verify_all_now().await
    }

    async fn verify_all_now(&self) -> Result<(), Failure> {
        let before = self.store.look().await.map_err(|error| unreadable(0, error))?;
        let hashes = self.chain().hashes().to_vec();
        let mut verifier = Verifier::new(&hashes);
        let mut reader = self.store.blocks(0).await.map_err(|error| unreadable(0, error))?;
        loop {
            let next = verifier.next_height();
            let blocks = reader.read(BLOCKS_PER_READ).await.map_err(|error| unreadable(next, error))?;
            if blocks.is_empty() {
                break;
            }
            for block in &blocks {
                verifier.check(block.height, &block.header, &block.body, &mut |_| {})?;
                if self.certificate_differs(block) {
                    return Err(Fault { height: block.height, wrong: Wrong::Certificate }.into());
                }
            }
            tokio::task::yield_now().await;
        }
        verifier.finish()?;
        let promised: Vec<Digest> = self.waiting().promises(usize::MAX).iter().map(|tx| tx.txid()).collect();
        let tip = verifier.next_height().saturating_sub(1);
        let rows = rows_fault(&self.store, tip, &promised).await.map_err(|error| unreadable(tip, error))?;
        if let Some(fault) = rows {
            return Err(fault.into());
        }
        self.store.accept(before).await;
        self.condition_mut().verified_at = Some(self.clock.now());
        Ok(())
    }

    /// The tip, foreign writes, a random sample and what is relied on; everything if one of these is not as it was.
    async fn verify_some(&self, relied: &BTreeSet<u64>) -> Result<(), Failure> {
        let _no_commit_meanwhile = self.gate.read().await;
        let untouched = self.store.untouched().await.unwrap_or(false);
        let sound = untouched
            && self.sample_is_sound().await.unwrap_or(false)
            && self.relied_are_sound(relied).await.unwrap_or(false);
        if sound {
            return Ok(());
        }
        tracing::info!(node.name = %self.name, "The store is not as it was left: everything is verified");
        self.condition_mut().suspect = true;
        let verified = self.verify_all_now().await;
        self.condition_mut().suspect = false;
        verified
    }

    /// Reads the blocks that are relied on again, on one fresh connection; of too many a random choice.
    async fn relied_are_sound(&self, relied: &BTreeSet<u64>) -> Result<bool, StoreError> {
        let mut heights: Vec<u64> = relied.iter().copied().collect();
        let random = hbc_types::Random::system();
        while heights.len() > MOST_RELIED {
            let index = u64::from_be_bytes(random.bytes()) % u64::try_from(heights.len()).unwrap_or(1);
            heights.swap_remove(usize::try_from(index).unwrap_or(0));
        }
        let Some(first) = heights.first() else { return Ok(true) };
        let mut reader = self.store.blocks(*first).await?;
        for height in heights {
            reader.seek(height);
            let block = reader.read(1).await?.pop().filter(|block| block.height == height);
            if !block.is_some_and(|block| self.is_mine(&block)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn sample_is_sound(&self) -> Result<bool, StoreError> {
        let tip = self.chain().height();
        if !self.store.block(tip).await?.is_some_and(|block| self.is_mine(&block)) {
            return Ok(false);
        }
        for _ in 0..self.sampled_blocks {
            let height = u64::from_be_bytes(hbc_types::Random::system().bytes()) % (tip + 1);
            if !self.store.block(height).await?.is_some_and(|block| self.is_mine(&block)) {
                return Ok(false);
            }
        }
        Ok(true)
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
        let Some(known) = self.chain().known(block.height) else { return Some(fault(Wrong::Spare)) };
        compare(&known, &block.header, &block.body, &block.certificate).err().map(fault)
    }

    fn certificate_differs(&self, block: &StoredBlock) -> bool {
        let known = self.chain().known(block.height);
        known.is_some_and(|known| known.certificate != Digest::of(block.certificate.as_bytes()))
    }

    /// Marks the node as attacked, durably, and tells the others once.
    pub async fn mark_attacked(self: &Arc<Self>, fault: Fault) {
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
            node.name = %self.name,
            fault.height = fault.height,
            fault.what = %fault.wrong,
            "ALARM: the stored chain was changed; this node stops voting and refuses writes"
        );
        if let Err(error) = self.data.mark_attacked(&mark) {
            tracing::error!(error = %error, "The mark of the attack cannot be written");
        }
        let evidence = StoredEvidence {
            kind: "store".into(),
            member: self.seat().map(|seat| seat.me.0),
            height: fault.height,
            detail: serde_json::to_vec(&mark).unwrap_or_default(),
        };
        if let Err(error) = self.store.add_evidence(&evidence, mark.found_at_ms).await {
            tracing::warn!(error = %error, "The evidence could not be stored in the changed database");
        }
        self.healing.wanted.notify_one();
        let node = self.clone();
        tokio::spawn(async move { node.tell_of_attack(&mark).await });
    }

    /// Gives a signed `node.event` to a healthy peer.
    pub async fn tell_of_attack(&self, mark: &AttackMark) {
        let evidence = Digest::of(mark.evidence.as_bytes());
        self.tell_event("attacked", evidence, mark.first_bad_height, mark.found_at_ms).await;
    }
}

pub(super) fn unreadable(height: u64, error: StoreError) -> Failure {
    if !error.is_damage() {
        return Failure::Trouble(error);
    }
    tracing::error!(error = %error, block.height = height, "The store cannot be read");
    Failure::Fault(Fault { height, wrong: Wrong::Unreadable })
}
