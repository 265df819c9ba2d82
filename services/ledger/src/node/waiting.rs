//! What waits for a block, and the state as it will be if all of it gets in: the filter for what is admitted.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use hbc_types::Digest;
use hbc_types::chain::keys::{Kid, PublicKey};
use hbc_types::chain::tx::Tx;

use crate::chain::Chain;
use crate::domain::expectation::Expectation;
use crate::domain::mempool::{Mempool, PoolError, PoolLimits, Waiting as Item};
use crate::domain::rules::Refusal;

/// Up to so many waiting transactions the expected state is made anew after each block; above it now and then.
const CHEAP: usize = 1_024;
/// Blocks after which it is made anew in any case.
const AT_LEAST_EVERY: u32 = 64;

impl Item for Tx {
    fn txid(&self) -> Digest {
        Self::txid(self)
    }
    fn author(&self) -> Digest {
        self.kid()
    }
    fn bytes(&self) -> usize {
        Self::bytes(self).len() + 4
    }
}

/// A waiting transaction that turned out impossible.
#[derive(Debug)]
pub struct Impossible {
    /// It.
    pub tx: Arc<Tx>,
    /// Why.
    pub error: Refusal,
}

/// The waiting transactions and what they lead to.
#[derive(Debug)]
pub struct Waiting {
    pool: Mempool<Tx>,
    expected: Expectation,
    /// Promised by this node: durable in its store.
    promised: HashSet<Digest>,
    keys: HashMap<Kid, PublicKey>,
    blocks_since: u32,
}

impl Waiting {
    /// Nothing waits.
    #[must_use]
    pub fn new(limits: PoolLimits) -> Self {
        Self {
            pool: Mempool::new(limits),
            expected: Expectation::default(),
            promised: HashSet::new(),
            keys: HashMap::new(),
            blocks_since: 0,
        }
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pool.len()
    }

    /// True if nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pool.is_empty()
    }

    /// A waiting transaction.
    #[must_use]
    pub fn get(&self, txid: &Digest) -> Option<&Arc<Tx>> {
        self.pool.get(txid)
    }

    /// Whether this node promised it.
    #[must_use]
    pub fn is_promised(&self, txid: &Digest) -> bool {
        self.promised.contains(txid)
    }

    /// A key that a waiting transaction introduces.
    #[must_use]
    pub fn key(&self, kid: &Kid) -> Option<PublicKey> {
        self.keys.get(kid).copied()
    }

    /// Whether there is room for it.
    pub fn admits(&self, tx: &Tx) -> Result<(), PoolError> {
        self.pool.admits(tx)
    }

    /// Tries it on the expected state; what fits changes that state.
    pub fn expect(&mut self, chain: &Chain, tx: &Tx, time_ms: u64) -> Result<(), Refusal> {
        self.expected.apply(chain.state(), tx, time_ms)
    }

    /// Takes it in.
    pub fn insert(&mut self, tx: Arc<Tx>, promised: bool) {
        if promised {
            self.promised.insert(tx.txid());
        }
        if let Some(key) = tx.payload().introduces() {
            self.keys.insert(key.kid(), key);
        }
        // Full or double was asked before; a race only drops what others still hold.
        let _room_was_asked_for = self.pool.insert(tx);
    }

    /// Takes one out that can never be in a block.
    pub fn remove(&mut self, txid: &Digest) -> Option<Arc<Tx>> {
        self.promised.remove(txid);
        self.pool.remove(txid)
    }

    /// Candidates for a block, in fair order.
    #[must_use]
    pub fn candidates(&self, count: usize, bytes: usize) -> Vec<Arc<Tx>> {
        self.pool.take_turns(count, bytes)
    }

    /// Promised transactions, oldest first: what is told to the others again.
    #[must_use]
    pub fn promises(&self, limit: usize) -> Vec<Arc<Tx>> {
        let promised = self.pool.in_order().filter(|tx| self.promised.contains(&tx.txid()));
        promised.take(limit).cloned().collect()
    }

    /// After a block: drops what is final, and says what became impossible.
    pub fn settle(&mut self, chain: &Chain, txids: &[Digest], now_ms: u64) -> Vec<Impossible> {
        let mut foreign = false;
        for txid in txids {
            foreign |= self.remove(txid).is_none();
        }
        self.blocks_since += 1;
        if self.pool.is_empty() {
            self.keys.clear();
        }
        if self.pool.len() <= CHEAP || foreign || self.blocks_since >= AT_LEAST_EVERY {
            return self.rebuild(chain, now_ms);
        }
        Vec::new()
    }

    /// Makes the expected state anew from the final one.
    pub fn rebuild(&mut self, chain: &Chain, now_ms: u64) -> Vec<Impossible> {
        self.blocks_since = 0;
        self.expected = Expectation::default();
        let mut impossible = Vec::new();
        for tx in self.pool.in_order() {
            if let Err(error) = self.expected.apply(chain.state(), tx, now_ms) {
                impossible.push(Impossible { tx: tx.clone(), error });
            }
        }
        for Impossible { tx, .. } in &impossible {
            self.promised.remove(&tx.txid());
            self.pool.remove(&tx.txid());
        }
        impossible
    }
}
