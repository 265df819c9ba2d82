//! Transactions that wait for a block: bounded, and fair per author, so that a flood of one cannot keep
//! another's consent out of the next block. Generic over what waits; no I/O.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use hbc_types::Digest;

/// What the pool must know of a transaction.
pub trait Waiting {
    /// Its id.
    fn txid(&self) -> Digest;
    /// Kid of its signer.
    fn author(&self) -> Digest;
    /// Its size in a block.
    fn bytes(&self) -> usize;
}

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// Transactions.
    pub count: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl Default for PoolLimits {
    /// Four blocks.
    fn default() -> Self {
        Self { count: 4 * 16_384, bytes: 4 * (8 << 20) }
    }
}

/// An author with no more than this waiting is let in while the pool is over-full by a tenth.
const SMALL_AUTHOR: usize = 64;

/// Why a transaction is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// It waits already.
    #[error("waits already")]
    Duplicate,
    /// Too much waits.
    #[error("too many transactions wait")]
    Full,
}

/// The pool.
#[derive(Debug)]
pub struct Mempool<T> {
    limits: PoolLimits,
    authors: HashMap<Digest, VecDeque<Arc<T>>>,
    waiting: HashMap<Digest, Arc<T>>,
    /// Arrival order: the first transaction of each author in it decides whose turn comes first.
    arrivals: BTreeMap<u64, Digest>,
    numbers: HashMap<Digest, u64>,
    next: u64,
    bytes: usize,
}

impl<T: Waiting> Mempool<T> {
    /// An empty pool.
    #[must_use]
    pub fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            authors: HashMap::new(),
            waiting: HashMap::new(),
            arrivals: BTreeMap::new(),
            numbers: HashMap::new(),
            next: 0,
            bytes: 0,
        }
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True if nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The waiting transaction with this id.
    #[must_use]
    pub fn get(&self, txid: &Digest) -> Option<&Arc<T>> {
        self.waiting.get(txid)
    }

    /// Says whether [`Self::insert`] would take it, without taking it.
    pub fn admits(&self, transaction: &T) -> Result<(), PoolError> {
        if self.waiting.contains_key(&transaction.txid()) {
            return Err(PoolError::Duplicate);
        }
        let own = self.authors.get(&transaction.author()).map_or(0, VecDeque::len);
        if own >= self.limits.count / 2 {
            return Err(PoolError::Full);
        }
        let (count, bytes) = (self.waiting.len() + 1, self.bytes + transaction.bytes());
        if count <= self.limits.count && bytes <= self.limits.bytes {
            return Ok(());
        }
        let reserve = count <= self.limits.count + self.limits.count / 10
            && bytes <= self.limits.bytes + self.limits.bytes / 10;
        if own < SMALL_AUTHOR && reserve { Ok(()) } else { Err(PoolError::Full) }
    }

    /// Takes a transaction in.
    pub fn insert(&mut self, transaction: Arc<T>) -> Result<(), PoolError> {
        self.admits(&transaction)?;
        self.keep(transaction)
    }

    /// Takes a transaction in even where there is no room: this node promised it. A group of submissions is at most
    /// some thousand more than the limits.
    pub fn keep(&mut self, transaction: Arc<T>) -> Result<(), PoolError> {
        if self.waiting.contains_key(&transaction.txid()) {
            return Err(PoolError::Duplicate);
        }
        let (txid, author) = (transaction.txid(), transaction.author());
        self.bytes += transaction.bytes();
        self.arrivals.insert(self.next, txid);
        self.numbers.insert(txid, self.next);
        self.next += 1;
        self.waiting.insert(txid, transaction.clone());
        self.authors.entry(author).or_default().push_back(transaction);
        Ok(())
    }

    /// Takes a transaction out: it is final, or impossible.
    pub fn remove(&mut self, txid: &Digest) -> Option<Arc<T>> {
        let transaction = self.waiting.remove(txid)?;
        self.bytes = self.bytes.saturating_sub(transaction.bytes());
        if let Some(number) = self.numbers.remove(txid) {
            self.arrivals.remove(&number);
        }
        let author = transaction.author();
        if let Some(queue) = self.authors.get_mut(&author) {
            // What becomes final is nearly always at the front.
            if let Some(position) = queue.iter().position(|other| other.txid() == *txid) {
                queue.remove(position);
            }
            if queue.is_empty() {
                self.authors.remove(&author);
            }
        }
        Some(transaction)
    }

    /// All that waits, in order of arrival.
    pub fn in_order(&self) -> impl Iterator<Item = &Arc<T>> {
        self.arrivals.values().filter_map(|txid| self.waiting.get(txid))
    }

    /// Candidates for a block: one of each author in turn, each author's in its own order, authors in the
    /// order in which their oldest arrived; at most `count` and `bytes`.
    #[must_use]
    pub fn take_turns(&self, count: usize, bytes: usize) -> Vec<Arc<T>> {
        let mut order: Vec<(&Digest, &VecDeque<Arc<T>>)> = self.authors.iter().collect();
        order.sort_by_key(|(_, queue)| queue.front().and_then(|first| self.numbers.get(&first.txid())));
        let mut turns: VecDeque<_> = order.into_iter().map(|(_, queue)| queue.iter()).collect();
        let (mut chosen, mut size) = (Vec::new(), 0);
        while let Some(mut author) = turns.pop_front() {
            let Some(transaction) = author.next() else { continue };
            if chosen.len() >= count || size + transaction.bytes() > bytes {
                break;
            }
            size += transaction.bytes();
            chosen.push(transaction.clone());
            turns.push_back(author);
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Item(u8, u32);

    impl Waiting for Item {
        fn txid(&self) -> Digest {
            Digest::of(&[self.0, self.1.to_be_bytes()[2], self.1.to_be_bytes()[3]])
        }
        fn author(&self) -> Digest {
            Digest::of(&[self.0])
        }
        fn bytes(&self) -> usize {
            10
        }
    }

    fn pool(count: usize) -> Mempool<Item> {
        Mempool::new(PoolLimits { count, bytes: 1 << 20 })
    }

    #[test]
    fn a_flood_does_not_keep_another_author_out_of_the_next_block() {
        let mut pool = pool(10_000);
        for number in 0..5_000 {
            pool.insert(Arc::new(Item(1, number))).unwrap();
        }
        pool.insert(Arc::new(Item(2, 0))).unwrap();
        let block = pool.take_turns(100, 1 << 20);
        assert_eq!(block.len(), 100);
        assert!(block.iter().any(|item| item.0 == 2));
    }

    #[test]
    fn a_full_pool_still_lets_small_authors_in() {
        let mut pool = pool(100);
        for author in [1, 9] {
            for number in 0..50 {
                pool.insert(Arc::new(Item(author, number))).unwrap();
            }
            let half = pool.insert(Arc::new(Item(author, 50)));
            assert_eq!(half, Err(PoolError::Full), "nobody holds more than half");
        }
        assert_eq!(pool.insert(Arc::new(Item(2, 0))), Ok(()));
        for number in 1..10 {
            pool.insert(Arc::new(Item(2, number))).unwrap();
        }
        assert_eq!(pool.insert(Arc::new(Item(3, 0))), Err(PoolError::Full));
    }

    #[test]
    fn removal_forgets_everything_and_order_is_kept() {
        let mut pool = pool(100);
        for number in 0..4 {
            pool.insert(Arc::new(Item(1, number))).unwrap();
        }
        assert_eq!(pool.insert(Arc::new(Item(1, 2))), Err(PoolError::Duplicate));
        pool.remove(&Item(1, 1).txid()).unwrap();
        let order: Vec<u32> = pool.take_turns(10, 1_000).iter().map(|item| item.1).collect();
        assert_eq!(order, [0, 2, 3]);
        assert_eq!(pool.in_order().count(), 3);
        for number in [0, 2, 3] {
            pool.remove(&Item(1, number).txid()).unwrap();
        }
        assert!(pool.is_empty() && pool.authors.is_empty() && pool.numbers.is_empty() && pool.bytes == 0);
    }
}
