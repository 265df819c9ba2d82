//! What waits for a block, and the state as it will be if all of it gets in: the filter for what is admitted.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use hbc_chain::memory::Chain;
use hbc_chain::payload::Payload;
use hbc_chain::rules::{Refusal, Rule};
use hbc_chain::speculative_state::SpeculativeState;
use hbc_chain::tx::Tx;
use hbc_types::Digest;
use hbc_types::keys::{Kid, PublicKey};

use crate::domain::fair_queue::{FairQueue, QueueError, QueueLimits, Queued as Item};

/// Up to so many waiting transactions the speculative state is made anew after each block; above it now and then.
const CHEAP: usize = 1_024;
/// Blocks after which it is made anew in any case, and if there was something in them that did not wait here.
const AT_LEAST_EVERY: u32 = 64;
const SURPRISED_EVERY: u32 = 4;

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
        Payload::MemberVote(_)
        | Payload::ServiceKey(_)
        | Payload::Staff(_)
        | Payload::Affiliation(_)
        | Payload::Order(_)
        | Payload::ConsentKey(_)
        | Payload::Anchor(_)
        | Payload::Erase(_)
        | Payload::Revoke(_)
        | Payload::Receipts(_)
        | Payload::Release(_)
        | Payload::NodeEvent(_) => None,
    }
}

/// A refusal by something that only waits is not for good: that may itself come to nothing. What excludes for good is
/// final, or the final state refuses by itself.
fn finally(chain: &Chain, tx: &Tx, time_ms: u64, refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Never { rule, excluded_by: Some(by) } if chain.state().place(&by).is_none() => {
            Refusal::NotYet(rule)
        }
        Refusal::Never { rule, excluded_by: None } => match chain.state().draft(time_ms).apply(tx) {
            Err(for_good @ Refusal::Never { .. }) => for_good,
            Ok(()) | Err(Refusal::NotYet(_)) => Refusal::NotYet(rule),
        },
        refusal => refusal,
    }
}

/// Why a transaction is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwelcome {
    /// There is no room.
    Full,
    /// It cannot be in a block after what waits already.
    Rule(Refusal),
}

/// A waiting transaction that turned out impossible.
#[derive(Debug)]
pub struct Impossible {
    /// It.
    pub tx: Arc<Tx>,
    /// Why.
    pub error: Refusal,
}

/// What blocks held since the speculative state was made anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Surprise {
    /// What was expected.
    #[default]
    None,
    /// Something else, beside which all that waits seemed possible.
    Mild,
    /// Something that excludes what waits.
    Grave,
}

/// The waiting transactions and what they lead to.
#[derive(Debug)]
pub struct Mempool {
    pool: FairQueue<Tx>,
    expected: SpeculativeState,
    /// Promised by this node: durable in its store.
    promised: HashSet<Digest>,
    keys: HashMap<Kid, PublicKey>,
    /// Waiting, but not possible on the speculative state as far as this node knows the chain.
    unfit: HashSet<Digest>,
    /// Waiting, but not durable here yet, and known from nobody else: in no block of this node's so far.
    held: HashSet<Digest>,
    blocks_since: u32,
    surprise: Surprise,
}

impl Mempool {
    /// Nothing waits.
    #[must_use]
    pub fn new(limits: QueueLimits) -> Self {
        Self {
            pool: FairQueue::new(limits),
            expected: SpeculativeState::default(),
            promised: HashSet::new(),
            keys: HashMap::new(),
            unfit: HashSet::new(),
            held: HashSet::new(),
            blocks_since: 0,
            surprise: Surprise::None,
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
        self.pool.len() > self.unfit.len() + self.held.len()
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

    /// Lets one in whose signature was checked, if there is room for it and it fits on what is expected. What is held is
    /// offered to no block before it is promised.
    pub fn welcome(
        &mut self,
        chain: &Chain,
        tx: &Arc<Tx>,
        held: bool,
        time_ms: u64,
    ) -> Result<(), Unwelcome> {
        match self.pool.admits(tx) {
            Ok(()) => {}
            Err(QueueError::Full) => return Err(Unwelcome::Full),
            Err(QueueError::Duplicate) => return Ok(()),
        }
        let fits = self.expected.apply(chain.state(), tx, time_ms);
        fits.map_err(|refusal| Unwelcome::Rule(finally(chain, tx, time_ms, refusal)))?;
        self.note_key(tx);
        if held {
            self.held.insert(tx.txid());
        }
        self.pool.keep(tx.clone()).map_err(|_counted_before| Unwelcome::Full)
    }

    /// Notes that others know it too.
    pub fn release(&mut self, txid: &Digest) {
        self.held.remove(txid);
    }

    /// Notes that this node answers for it from now on, if it still waits.
    pub fn promise(&mut self, txid: &Digest) {
        self.held.remove(txid);
        if self.pool.get(txid).is_some() {
            self.promised.insert(*txid);
        }
    }

    /// Takes back what could not be made durable, unless others know it by now. Answers what that makes impossible.
    pub fn give_back(&mut self, chain: &Chain, txids: &[Digest], now_ms: u64) -> Vec<Impossible> {
        let held: Vec<&Digest> = txids.iter().filter(|txid| self.held.contains(*txid)).collect();
        held.into_iter().for_each(|txid| drop(self.remove(txid)));
        self.recompute(chain, now_ms)
    }

    /// Takes a promise of an earlier run up again, whether or not there is room.
    pub fn resume(&mut self, tx: Arc<Tx>) {
        self.promised.insert(tx.txid());
        self.note_key(&tx);
        let _waits_already = self.pool.keep(tx);
    }

    fn note_key(&mut self, tx: &Tx) {
        if let Some(key) = tx.payload().introduces() {
            self.keys.insert(key.kid(), key);
        }
    }

    /// Takes one out that can never be in a block.
    pub fn remove(&mut self, txid: &Digest) -> Option<Arc<Tx>> {
        self.promised.remove(txid);
        self.unfit.remove(txid);
        self.held.remove(txid);
        self.pool.remove(txid)
    }

    /// Candidates for a block, in fair order.
    #[must_use]
    pub fn candidates(&self, count: usize, bytes: usize) -> Vec<Arc<Tx>> {
        self.pool.take_turns(count, bytes, |txid| !self.held.contains(txid))
    }

    /// Promised transactions, oldest first.
    #[must_use]
    pub fn promises(&self, limit: usize) -> Vec<Arc<Tx>> {
        let promised = self.pool.in_order().filter(|tx| self.promised.contains(&tx.txid()));
        promised.take(limit).cloned().collect()
    }

    /// What waits, oldest first, from this number of arrival on, and whether this node promised it; then the number where
    /// the rest begins.
    #[must_use]
    pub fn page(&self, from: u64, limit: usize) -> (Vec<(Arc<Tx>, bool)>, Option<u64>) {
        let mut rest = self.pool.arrived_from(from);
        let page = rest.by_ref().take(limit);
        let page = page.map(|(_, tx)| (tx.clone(), self.promised.contains(&tx.txid()))).collect();
        (page, rest.next().map(|(number, _)| number))
    }

    /// The number of the next arrival.
    #[must_use]
    pub const fn next_number(&self) -> u64 {
        self.pool.next_number()
    }

    /// Promised transactions that arrived before this number, oldest first: what is told to the others again.
    #[must_use]
    pub fn promised_before(&self, number: u64, limit: usize) -> Vec<Arc<Tx>> {
        let promised = self.pool.arrived_before(number).filter(|tx| self.promised.contains(&tx.txid()));
        promised.take(limit).cloned().collect()
    }

    /// Before a block is taken as the new tip: adds to the speculative state what is in it and was not expected. While
    /// little waits that state is made anew after the block anyway.
    pub fn speculate<'a>(&mut self, chain: &Chain, txs: impl Iterator<Item = &'a Tx>, now_ms: u64) {
        if self.pool.len() <= CHEAP {
            return;
        }
        for tx in txs {
            let txid = tx.txid();
            if self.pool.get(&txid).is_some() && !self.unfit.contains(&txid) {
                continue;
            }
            self.surprise = match self.expected.apply(chain.state(), tx, now_ms) {
                Ok(()) => self.surprise.max(Surprise::Mild),
                Err(_something_waits_that_it_excludes) => Surprise::Grave,
            };
        }
    }

    /// After a block: drops what is final, and says what became impossible. While much waits, the speculative state is
    /// not made anew for every block, and what became impossible is found a few blocks later.
    pub fn settle(&mut self, chain: &Chain, txids: &[Digest], now_ms: u64) -> Vec<Impossible> {
        for txid in txids {
            self.remove(txid);
        }
        self.blocks_since += 1;
        let most = match self.surprise {
            Surprise::None => AT_LEAST_EVERY,
            Surprise::Mild => SURPRISED_EVERY,
            Surprise::Grave => 0,
        };
        if self.pool.len() <= CHEAP || self.blocks_since >= most {
            return self.recompute(chain, now_ms);
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

    /// Makes the speculative state anew from the final one. What can never be final is taken out and answered;
    /// what is only not possible *yet* stays: this node may be behind, and a promise is a promise. What is held is none, and
    /// what it was built on may just have been given back: it goes.
    pub fn recompute(&mut self, chain: &Chain, now_ms: u64) -> Vec<Impossible> {
        (self.blocks_since, self.surprise) = (0, Surprise::None);
        self.expected = SpeculativeState::default();
        self.unfit.clear();
        let introduced = self.pool.in_order().filter_map(|tx| tx.payload().introduces());
        self.keys = introduced.map(|key| (key.kid(), key)).collect();
        let (mut impossible, mut baseless) = (Vec::new(), Vec::new());
        for tx in self.pool.in_order() {
            let outcome = self.expected.apply(chain.state(), tx, now_ms);
            match outcome.map_err(|refusal| finally(chain, tx, now_ms, refusal)) {
                Ok(()) => {}
                Err(Refusal::NotYet(_)) if self.held.contains(&tx.txid()) => baseless.push(tx.txid()),
                Err(Refusal::NotYet(_)) => {
                    self.unfit.insert(tx.txid());
                }
                Err(error @ Refusal::Never { .. }) => {
                    impossible.push(Impossible { tx: tx.clone(), error });
                }
            }
        }
        baseless.iter().for_each(|txid| drop(self.remove(txid)));
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
    use hbc_chain::genesis::{Genesis, Named, Parameters, ServiceKey};
    use hbc_chain::payload::{Consent, ConsentKey, KeyStatus, Receipts};
    use hbc_chain::tx::sign;
    use hbc_types::account::{Custody, ServiceRole};
    use hbc_types::ids::GrantId;
    use hbc_types::keys::{SignatureBytes, possession_text};

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
        let payload =
            Receipts { chain: chain.id(), count: 1, iat: 2_000, rights: None, root: Digest::of(b"root") };
        tx(signer, &Payload::Receipts(payload))
    }

    #[test]
    fn what_is_not_possible_yet_stays_promised_and_asks_for_no_block() {
        let chain = chain();
        let mut mempool = Mempool::new(QueueLimits::default());
        let early = grant_of_an_unknown_key(&chain);
        mempool.resume(early.clone());
        assert!(mempool.recompute(&chain, 2_000).is_empty());
        assert!(mempool.is_promised(&early.txid()) && !mempool.has_work());
        let possible = receipts(&chain, 3);
        assert_eq!(mempool.welcome(&chain, &possible, false, 2_000), Ok(()));
        assert!(mempool.has_work());
        mempool.settle(&chain, &[possible.txid()], 2_000);
        assert!(!mempool.has_work());
        assert_eq!(mempool.promises(10), [early]);
    }

    #[test]
    fn what_is_held_is_in_no_block_until_it_is_promised_or_others_know_it() {
        let chain = chain();
        let mut mempool = Mempool::new(QueueLimits::default());
        let first = receipts(&chain, 3);
        let other =
            Receipts { chain: chain.id(), count: 2, iat: 2_001, rights: None, root: Digest::of(b"other") };
        let other = tx(3, &Payload::Receipts(other));
        for tx in [&first, &other] {
            assert_eq!(mempool.welcome(&chain, tx, true, 2_000), Ok(()));
        }
        assert!(!mempool.has_work() && mempool.candidates(10, 1 << 20).is_empty());
        mempool.promise(&first.txid());
        assert_eq!(mempool.candidates(10, 1 << 20), std::slice::from_ref(&first));
        assert!(mempool.give_back(&chain, &[first.txid(), other.txid()], 2_000).is_empty());
        assert!(mempool.is_promised(&first.txid()) && mempool.get(&other.txid()).is_none());
        // What was expected of it is forgotten as well: it may come again.
        assert_eq!(mempool.welcome(&chain, &other, true, 2_000), Ok(()));
        mempool.release(&other.txid());
        assert!(mempool.give_back(&chain, &[other.txid()], 2_000).is_empty());
        assert_eq!(mempool.candidates(10, 1 << 20), [first, other]);
    }

    #[test]
    fn what_was_validated_on_something_that_is_given_back_goes_with_it() {
        let chain = chain();
        let mut mempool = Mempool::new(QueueLimits::default());
        let public = PublicKey::of(&key(9));
        let possession = possession_text(&chain.id(), &public.kid());
        let registration = Payload::ConsentKey(ConsentKey {
            chain: chain.id(),
            iat: 2_000,
            key: public.kid(),
            pop: Some(SignatureBytes::sign(&key(9), &possession)),
            public: Some(public),
            status: KeyStatus::Active,
        });
        let (registration, grant) = (tx(4, &registration), grant_of_an_unknown_key(&chain));
        for tx in [&registration, &grant] {
            assert_eq!(mempool.welcome(&chain, tx, true, 2_000), Ok(()));
        }
        assert!(mempool.give_back(&chain, &[registration.txid()], 2_000).is_empty());
        assert!(mempool.is_empty(), "nobody is promised a grant whose key nobody knows");
    }

    #[test]
    fn what_only_another_waiting_transaction_excludes_is_not_refused_for_good() {
        let chain = chain();
        let mut mempool = Mempool::new(QueueLimits::default());
        let same_root =
            Receipts { chain: chain.id(), count: 2, iat: 2_001, rights: None, root: Digest::of(b"root") };
        let second = tx(3, &Payload::Receipts(same_root));
        assert_eq!(mempool.welcome(&chain, &receipts(&chain, 3), false, 2_000), Ok(()));
        mempool.resume(second.clone());
        assert!(mempool.recompute(&chain, 3_000).is_empty());
        assert!(mempool.is_promised(&second.txid()));
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
        let mut mempool = Mempool::new(QueueLimits::default());
        let same_root =
            Receipts { chain: chain.id(), count: 2, iat: 2_001, rights: None, root: Digest::of(b"root") };
        let second = tx(3, &Payload::Receipts(same_root));
        mempool.resume(second.clone());
        let impossible = mempool.recompute(&chain, 3_000);
        assert_eq!(impossible.len(), 1);
        assert!(matches!(&impossible[0].error,
            Refusal::Never { excluded_by: Some(by), .. } if *by == first.txid()));
        assert!(mempool.is_empty() && !mempool.is_promised(&second.txid()));
    }
}
