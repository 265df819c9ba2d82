//! Waiting for a transaction to be settled, and how the ledger stands, without asking any node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hbc_types::Digest;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// How long after a submission its block is looked for often.
const EXPECTED: Duration = Duration::from_secs(3);

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// In a final block, and the service applied that block durably.
    Final {
        /// Height of the block.
        height: u64,
        /// Index of its leaf in the log.
        log_index: u64,
    },
    /// Excluded for ever.
    Refused {
        /// Slug of the problem.
        reason: String,
    },
}

/// How the ledger stands as this service sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether enough nodes answer to make blocks final.
    pub quorum: bool,
    /// Nodes that answer and are healthy.
    pub nodes_up: usize,
    /// Nodes that are known.
    pub nodes: usize,
    /// Names of nodes that say they are attacked.
    pub attacked: Vec<String>,
    /// Height that this service applied.
    pub applied: u64,
    /// Highest certified height that any node showed.
    pub certified: u64,
    /// Something that must not happen, in words: two certified blocks at one height, a stored position that does not
    /// fit. The follower stands still.
    pub alarm: Option<String>,
}

impl Health {
    /// Blocks this service is behind.
    #[must_use]
    pub const fn lag(&self) -> u64 {
        self.certified.saturating_sub(self.applied)
    }
}

type Waiters = HashMap<Digest, watch::Sender<Option<Settlement>>>;

/// Settlements and health, for handlers. Clones share them.
#[derive(Clone, Debug)]
pub struct Finality {
    waiters: Arc<Mutex<Waiters>>,
    health: watch::Sender<Health>,
    wake: Arc<Notify>,
    expecting: Arc<Notify>,
    expected_until: Arc<Mutex<Option<Instant>>>,
}

impl Default for Finality {
    fn default() -> Self {
        Self {
            waiters: Arc::default(),
            health: watch::channel(Health::default()).0,
            wake: Arc::default(),
            expecting: Arc::default(),
            expected_until: Arc::default(),
        }
    }
}

/// A place in the queue of those who wait for a transaction; taken *before* looking whether it is settled already.
#[derive(Debug)]
pub struct Waiter {
    txid: Digest,
    settlement: watch::Receiver<Option<Settlement>>,
    waiters: Arc<Mutex<Waiters>>,
}

impl Finality {
    /// Begins to wait for `txid`. Then look whether it is settled already, and only then [`Waiter::settled`].
    #[must_use]
    pub fn register(&self, txid: Digest) -> Waiter {
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        let settlement = waiters.entry(txid).or_insert_with(|| watch::channel(None).0).subscribe();
        Waiter { txid, settlement, waiters: Arc::clone(&self.waiters) }
    }

    /// Tells the outbox that something new is due.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// How the ledger stands.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    /// Follows how the ledger stands.
    #[must_use]
    pub fn watch_health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    pub(super) fn settle(&self, txid: Digest, settlement: Settlement) {
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = waiters.remove(&txid) {
            sender.send_replace(Some(settlement));
        }
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Health)) {
        self.health.send_if_modified(|health| {
            let before = health.clone();
            change(health);
            *health != before
        });
    }

    /// Says that transactions were submitted: blocks with them are worth looking for often for a while.
    pub(super) fn expect_soon(&self) {
        *self.expected_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + EXPECTED);
        self.expecting.notify_one();
    }

    /// Pauses the follower: shortly while blocks are expected, else until one is or `idle` is over.
    pub(super) async fn pause(&self, busy: Duration, idle: Duration) {
        let until = *self.expected_until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.is_some_and(|until| Instant::now() < until) {
            return tokio::time::sleep(busy).await;
        }
        let _nothing_new = tokio::time::timeout(idle, self.expecting.notified()).await;
    }

    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }
}

impl Waiter {
    /// Waits for the settlement, at most for `limit`.
    pub async fn settled(mut self, limit: Duration) -> Option<Settlement> {
        let wait = self.settlement.wait_for(Option::is_some);
        tokio::time::timeout(limit, wait).await.ok()?.ok()?.clone()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        // The last one that waits takes the entry away; this receiver still counts.
        if waiters.get(&self.txid).is_some_and(|sender| sender.receiver_count() <= 1) {
            waiters.remove(&self.txid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_settlement_reaches_all_who_wait_and_nothing_is_left() {
        let finality = Finality::default();
        let txid = Digest::of(b"x");
        let (one, two) = (finality.register(txid), finality.register(txid));
        let settlement = Settlement::Final { height: 3, log_index: 9 };
        finality.settle(txid, settlement.clone());
        assert_eq!(one.settled(Duration::from_secs(1)).await, Some(settlement.clone()));
        assert_eq!(two.settled(Duration::from_secs(1)).await, Some(settlement));
        assert_eq!(finality.register(Digest::of(b"y")).settled(Duration::from_millis(1)).await, None);
        assert!(finality.waiters.lock().unwrap().is_empty());
    }
}
