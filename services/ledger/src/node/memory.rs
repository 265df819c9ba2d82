//! The chain that this node has in memory, for all its tasks: read by many, extended by whoever commits a block, and
//! changed for another after healing. Whoever waits for the next block follows the tip.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hbc_types::Digest;
use tokio::sync::watch;

use hbc_chain::memory::{Chain, NextBlock};

/// The one chain in memory.
#[derive(Debug)]
pub struct Memory {
    id: Digest,
    chain: RwLock<Chain>,
    tip: watch::Sender<u64>,
}

impl Memory {
    /// With a chain whose blocks were verified.
    #[must_use]
    pub fn new(chain: Chain) -> Self {
        let tip = watch::channel(chain.height()).0;
        Self { id: chain.id(), chain: RwLock::new(chain), tip }
    }

    /// The chain's id, which never changes.
    #[must_use]
    pub const fn id(&self) -> Digest {
        self.id
    }

    /// The chain, for reading.
    pub fn chain(&self) -> RwLockReadGuard<'_, Chain> {
        self.chain.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The height of the tip.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.chain().height()
    }

    /// Follows the height of the tip.
    #[must_use]
    pub fn tip(&self) -> watch::Receiver<u64> {
        self.tip.subscribe()
    }

    /// Takes a block that is stored as the new tip; `first` sees the chain before anybody else does. False if it does not
    /// follow on the tip. Whoever follows the tip is told by [`Self::tell_tip`].
    pub(super) fn extend(&self, next: NextBlock, note: String, first: impl FnOnce(&Chain)) -> bool {
        let mut chain = self.chain_mut();
        let extended = chain.extend(next, note);
        if extended {
            first(&chain);
        }
        extended
    }

    /// Takes another chain, made anew from the healed store.
    pub(super) fn replace(&self, chain: Chain) {
        let tip = chain.height();
        *self.chain_mut() = chain;
        self.tell_tip(tip);
    }

    /// Tells whoever follows the tip.
    pub(super) fn tell_tip(&self, height: u64) {
        self.tip.send_replace(height);
    }

    fn chain_mut(&self) -> RwLockWriteGuard<'_, Chain> {
        self.chain.write().unwrap_or_else(PoisonError::into_inner)
    }
}
