//! What waits for a block, and the state as it will be if all of it gets in: the filter for what is admitted.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use hbc_types::Digest;
use hbc_types::chain::keys::{Kid, PublicKey};
use hbc_types::chain::payload::Payload;
use hbc_types::chain::tx::Tx;

use super::admission::finally;
use crate::chain::Chain;
use crate::domain::expectation::Expectation;
use crate::domain::mempool::{Mempool, PoolError, PoolLimits, Waiting as Item};
use crate::domain::rules::{Refusal, Rule};

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

/// The event that a consent builds on.
fn previous(tx: &Tx) -> Option<Digest> {
    match tx.payload() {
        Payload::Grant(consent) | Payload::Alter(consent) => consent.prev,
        _ => None,
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
    /// Waiting, but not possible on the expected state as far as this node knows the chain.
    unfit: HashSet<Digest>,
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
            unfit: HashSet::new(),
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

    /// True if something waits that a block can take.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.pool.len() > self.unfit.len()
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
        // A promise is a promise: what was made durable waits even where its own group filled the pool. Of what others
        // pass on, a surplus only drops what they still hold.
        let _full_or_double = if promised { self.pool.keep(tx) } else { self.pool.insert(tx) };
    }

    /// Takes one out that can never be in a block.
    pub fn remove(&mut self, txid: &Digest) -> Option<Arc<Tx>> {
        self.promised.remove(txid);
        self.unfit.remove(txid);
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
        if self.pool.len() <= CHEAP || foreign || self.blocks_since >= AT_LEAST_EVERY {
            return self.rebuild(chain, now_ms);
        }
        Vec::new()
    }

    /// Drops what is final in a chain that was not followed block by block.
    pub fn drop_final(&mut self, chain: &Chain) {
        let done: Vec<Digest> = self.pool.in_order().map(|tx| tx.txid()).collect();
        for txid in done.iter().filter(|txid| chain.state().place(txid).is_some()) {
            self.remove(txid);
        }
    }

    /// Makes the expected state anew from the final one. What can never be final is taken out and answered;
    /// what is only not possible *yet* stays: this node may be behind, and a promise is a promise.
    pub fn rebuild(&mut self, chain: &Chain, now_ms: u64) -> Vec<Impossible> {
        self.blocks_since = 0;
        self.expected = Expectation::default();
        self.unfit.clear();
        let introduced = self.pool.in_order().filter_map(|tx| tx.payload().introduces());
        self.keys = introduced.map(|key| (key.kid(), key)).collect();
        let mut impossible = Vec::new();
        for tx in self.pool.in_order() {
            let outcome = self.expected.apply(chain.state(), tx, now_ms);
            match outcome.map_err(|refusal| finally(chain, tx, now_ms, refusal)) {
                Ok(()) => {}
                Err(Refusal::NotYet(_)) => {
                    self.unfit.insert(tx.txid());
                }
                Err(error @ Refusal::Never { .. }) => {
                    impossible.push(Impossible { tx: tx.clone(), error });
                }
            }
        }
        self.add_followers(&mut impossible);
        for Impossible { tx, .. } in &impossible {
            self.remove(&tx.txid());
        }
        impossible
    }

    /// An event names the one before it. When that is excluded for good, so is whatever builds on it, by the same
    /// final transaction: it must be answered now, because nothing would ever bring its turn.
    fn add_followers(&self, impossible: &mut Vec<Impossible>) {
        if impossible.is_empty() {
            return;
        }
        let mut followers: HashMap<Digest, Vec<&Arc<Tx>>> = HashMap::new();
        for tx in self.pool.in_order() {
            if let Some(before) = previous(tx) {
                followers.entry(before).or_default().push(tx);
            }
        }
        let mut listed: HashSet<Digest> = impossible.iter().map(|known| known.tx.txid()).collect();
        let mut next = 0;
        while let Some(Impossible { tx: first, error }) = impossible.get(next) {
            let excluded_by = match error {
                Refusal::Never { excluded_by, .. } => *excluded_by,
                Refusal::NotYet(_) => None,
            };
            let error = Refusal::Never { rule: Rule::Previous, excluded_by };
            for tx in followers.remove(&first.txid()).unwrap_or_default() {
                if listed.insert(tx.txid()) {
                    impossible.push(Impossible { tx: tx.clone(), error });
                }
            }
            next += 1;
        }
    }

    /// These and the waiting events that they build on, earlier ones first: whoever promises an event answers for
    /// what it builds on too, or would be left with a promise that nothing can keep.
    #[must_use]
    pub fn with_predecessors(&self, txs: &[Arc<Tx>]) -> Vec<Arc<Tx>> {
        let mut all: Vec<Arc<Tx>> = Vec::with_capacity(txs.len());
        let mut listed: HashSet<Digest> = txs.iter().map(|tx| tx.txid()).collect();
        for tx in txs {
            let place = all.len();
            all.push(tx.clone());
            let mut before = previous(tx);
            while let Some(earlier) = before.and_then(|txid| self.pool.get(&txid)) {
                let txid = earlier.txid();
                if self.promised.contains(&txid) || !listed.insert(txid) {
                    break;
                }
                all.insert(place, earlier.clone());
                before = previous(earlier);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use hbc_types::account::{Custody, ServiceRole};
    use hbc_types::chain::genesis::{Genesis, Named, Parameters, ServiceKey};
    use hbc_types::chain::payload::{Consent, Receipts};
    use hbc_types::chain::tx::sign;
    use hbc_types::ids::GrantId;

    use super::*;

    fn key(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    fn chain() -> Chain {
        let named = |name: &str, n| Named { key: PublicKey::of(&key(n)), name: name.to_owned() };
        let service = |role, n| ServiceKey { key: PublicKey::of(&key(n)), role };
        let genesis = Genesis {
            members: vec![named("node-1", 1)],
            operators: vec![named("operator-1", 2)],
            origin: "hbc.test".to_owned(),
            parameters: Parameters::with_zero_bits(0, 1).unwrap(),
            services: vec![
                service(ServiceRole::AccessPolicy, 3),
                service(ServiceRole::Auth, 4),
                service(ServiceRole::Storage, 5),
            ],
            time_ms: 1_000,
        };
        Chain::found(genesis).unwrap()
    }

    fn tx(n: u8, payload: &Payload) -> Arc<Tx> {
        Arc::new(Tx::parse(sign(&key(n), payload).unwrap().as_bytes()).unwrap())
    }

    /// A grant whose key this node has not seen registered: it may be behind the chain.
    fn grant_of_an_unknown_key(chain: &Chain) -> Arc<Tx> {
        let grant = Consent {
            chain: chain.id(),
            commitment: Digest::of(b"body"),
            custody: Custody::Client,
            grant: GrantId::parse("grt-00000000000000000000000000000001").unwrap(),
            iat: 2_000,
            key: PublicKey::of(&key(9)).kid(),
            prev: None,
            seq: 1,
        };
        tx(9, &Payload::Grant(grant))
    }

    fn receipts(chain: &Chain, signer: u8) -> Arc<Tx> {
        let payload = Receipts { chain: chain.id(), count: 1, iat: 2_000, root: Digest::of(b"root") };
        tx(signer, &Payload::Receipts(payload))
    }

    #[test]
    fn what_is_not_possible_yet_stays_promised_and_asks_for_no_block() {
        let chain = chain();
        let mut waiting = Waiting::new(PoolLimits::default());
        let early = grant_of_an_unknown_key(&chain);
        waiting.insert(early.clone(), true);
        assert!(waiting.rebuild(&chain, 2_000).is_empty());
        assert!(waiting.is_promised(&early.txid()) && !waiting.has_work());
        let possible = receipts(&chain, 3);
        waiting.insert(possible.clone(), false);
        assert!(waiting.has_work());
        waiting.settle(&chain, &[possible.txid()], 2_000);
        assert!(!waiting.has_work());
        assert_eq!(waiting.promises(10), [early]);
    }

    #[test]
    fn what_only_another_waiting_transaction_excludes_is_not_refused_for_good() {
        let chain = chain();
        let mut waiting = Waiting::new(PoolLimits::default());
        let same_root = Receipts { chain: chain.id(), count: 2, iat: 2_001, root: Digest::of(b"root") };
        let second = tx(3, &Payload::Receipts(same_root));
        waiting.insert(receipts(&chain, 3), false);
        waiting.insert(second.clone(), true);
        assert!(waiting.rebuild(&chain, 3_000).is_empty());
        assert!(waiting.is_promised(&second.txid()));
    }

    #[test]
    fn what_the_final_state_excludes_is_answered_and_forgotten() {
        let mut chain = chain();
        let first = receipts(&chain, 3);
        let draft = chain.draft(
            std::slice::from_ref(&first),
            hbc_types::Timestamp::from_ms(2_000),
            &PublicKey::of(&key(1)).kid(),
        );
        let next = draft.mine(&std::sync::atomic::AtomicBool::new(false)).unwrap();
        assert!(chain.extend(next, String::new()));
        let mut waiting = Waiting::new(PoolLimits::default());
        let same_root = Receipts { chain: chain.id(), count: 2, iat: 2_001, root: Digest::of(b"root") };
        let second = tx(3, &Payload::Receipts(same_root));
        waiting.insert(second.clone(), true);
        let impossible = waiting.rebuild(&chain, 3_000);
        assert_eq!(impossible.len(), 1);
        assert!(matches!(&impossible[0].error,
            Refusal::Never { excluded_by: Some(by), .. } if *by == first.txid()));
        assert!(waiting.is_empty() && !waiting.is_promised(&second.txid()));
    }
}
