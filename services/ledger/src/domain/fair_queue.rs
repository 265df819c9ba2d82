//! Transactions that wait for a block: bounded, and fair per author, so that a flood of one cannot keep
//! another's consent out of the next block. Generic over what waits; no I/O.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use hbc_types::Digest;

/// What the pool must know of a transaction.
pub trait Queued {
    /// Its id.
    fn txid(&self) -> Digest;
    /// Kid of its signer.
    fn author(&self) -> Digest;
    /// Its size in a block.
    fn bytes(&self) -> usize;
}

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// Transactions.
    pub count: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl Default for QueueLimits {
    /// Four blocks.
    fn default() -> Self {
        Self { count: 4 * 16_384, bytes: 4 * (8 << 20) }
    }
}

/// An author with no more than this waiting is let in while the pool is over-full by a tenth.
const SMALL_AUTHOR: usize = 64;

/// Why a transaction is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// It waits already.
    #[error("waits already")]
    Duplicate,
    /// Too much waits.
    #[error("too many transactions wait")]
    Full,
}

/// What waits of one author, by number of arrival.
#[derive(Debug)]
struct Share<T> {
    queue: BTreeMap<u64, Arc<T>>,
    bytes: usize,
}

impl<T> Default for Share<T> {
    fn default() -> Self {
        Self { queue: BTreeMap::new(), bytes: 0 }
    }
}

/// The pool.
#[derive(Debug)]
pub struct FairQueue<T> {
    limits: QueueLimits,
    authors: HashMap<Digest, Share<T>>,
    entries: HashMap<Digest, (u64, Arc<T>)>,
    arrivals: BTreeMap<u64, Arc<T>>,
    next: u64,
    bytes: usize,
}

impl<T: Queued> FairQueue<T> {
    /// An empty pool.
    #[must_use]
    pub fn new(limits: QueueLimits) -> Self {
        Self {
            limits,
            authors: HashMap::new(),
            entries: HashMap::new(),
            arrivals: BTreeMap::new(),
            next: 0,
            bytes: 0,
        }
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The waiting transaction with this id.
    #[must_use]
    pub fn get(&self, txid: &Digest) -> Option<&Arc<T>> {
        self.entries.get(txid).map(|(_, transaction)| transaction)
    }

    /// The number that the next to arrive will have; numbers only grow.
    #[must_use]
    pub const fn next_number(&self) -> u64 {
        self.next
    }

    /// Says whether [`Self::insert`] would take it, without taking it. No author holds more than half of the pool, by
    /// number or by bytes.
    pub fn admits(&self, transaction: &T) -> Result<(), QueueError> {
        if self.entries.contains_key(&transaction.txid()) {
            return Err(QueueError::Duplicate);
        }
        let (limits, size) = (self.limits, transaction.bytes());
        let (own, own_bytes) = match self.authors.get(&transaction.author()) {
            Some(share) => (share.queue.len(), share.bytes),
            None => (0, 0),
        };
        if own >= limits.count / 2 || own_bytes + size > limits.bytes / 2 {
            return Err(QueueError::Full);
        }
        let (count, bytes) = (self.entries.len() + 1, self.bytes + size);
        if count <= limits.count && bytes <= limits.bytes {
            return Ok(());
        }
        let reserve = count <= limits.count + limits.count / 10 && bytes <= limits.bytes + limits.bytes / 10;
        if own < SMALL_AUTHOR && reserve { Ok(()) } else { Err(QueueError::Full) }
    }

    /// Takes a transaction in.
    pub fn insert(&mut self, transaction: Arc<T>) -> Result<(), QueueError> {
        self.admits(&transaction)?;
        self.keep(transaction)
    }

    /// Takes a transaction in even where there is no room: this node promised it before it was started anew.
    pub fn keep(&mut self, transaction: Arc<T>) -> Result<(), QueueError> {
        if self.entries.contains_key(&transaction.txid()) {
            return Err(QueueError::Duplicate);
        }
        let number = self.next;
        self.next += 1;
        self.bytes += transaction.bytes();
        let share = self.authors.entry(transaction.author()).or_default();
        share.bytes += transaction.bytes();
        share.queue.insert(number, transaction.clone());
        self.arrivals.insert(number, transaction.clone());
        self.entries.insert(transaction.txid(), (number, transaction));
        Ok(())
    }

    /// Takes a transaction out: it is final, or impossible.
    pub fn remove(&mut self, txid: &Digest) -> Option<Arc<T>> {
        let (number, transaction) = self.entries.remove(txid)?;
        self.bytes = self.bytes.saturating_sub(transaction.bytes());
        self.arrivals.remove(&number);
        let author = transaction.author();
        if let Some(share) = self.authors.get_mut(&author) {
            share.queue.remove(&number);
            share.bytes = share.bytes.saturating_sub(transaction.bytes());
            if share.queue.is_empty() {
                self.authors.remove(&author);
            }
        }
        Some(transaction)
    }

    /// All that waits, in order of arrival.
    pub fn in_order(&self) -> impl Iterator<Item = &Arc<T>> {
        self.arrivals.values()
    }

    /// What arrived before this number, in order of arrival.
    pub fn arrived_before(&self, number: u64) -> impl Iterator<Item = &Arc<T>> {
        self.arrivals.range(..number).map(|(_, transaction)| transaction)
    }

    /// What arrived with this number or a later one, in order of arrival, with the numbers.
    pub fn arrived_from(&self, number: u64) -> impl Iterator<Item = (u64, &Arc<T>)> {
        self.arrivals.range(number..).map(|(number, transaction)| (*number, transaction))
    }

    /// Candidates for a block: one of each author in turn, each author's in its own order, authors in the
    /// order in which their oldest arrived; at most `count` and `bytes`, and only `wanted` ones. An author whose next one
    /// does not fit has no further turn; the others go on.
    #[must_use]
    pub fn take_turns(&self, count: usize, bytes: usize, wanted: impl Fn(&Digest) -> bool) -> Vec<Arc<T>> {
        let mut order: Vec<&Share<T>> = self.authors.values().collect();
        order.sort_by_key(|share| share.queue.keys().next());
        let mut turns: VecDeque<_> = order.into_iter().map(|share| share.queue.values()).collect();
        let (mut chosen, mut size) = (Vec::new(), 0);
        while chosen.len() < count {
            let Some(mut author) = turns.pop_front() else { break };
            let next = author.find(|transaction| wanted(&transaction.txid()));
            let fitting = next.filter(|transaction| size + transaction.bytes() <= bytes);
            let Some(transaction) = fitting else { continue };
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

    /// One of so many bytes.
    #[derive(Debug, PartialEq)]
    struct Large(u8, u32, usize);

    impl Queued for Large {
        fn txid(&self) -> Digest {
            Item(self.0, self.1).txid()
        }
        fn author(&self) -> Digest {
            Digest::of(&[self.0])
        }
        fn bytes(&self) -> usize {
            self.2
        }
    }

    impl Queued for Item {
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

    fn pool(count: usize) -> FairQueue<Item> {
        FairQueue::new(QueueLimits { count, bytes: 1 << 20 })
    }

    #[test]
    fn a_flood_does_not_keep_another_author_out_of_the_next_block() {
        let mut pool = pool(10_000);
        for number in 0..5_000 {
            pool.insert(Arc::new(Item(1, number))).unwrap();
        }
        pool.insert(Arc::new(Item(2, 0))).unwrap();
        let block = pool.take_turns(100, 1 << 20, |_| true);
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
            assert_eq!(half, Err(QueueError::Full), "nobody holds more than half");
        }
        assert_eq!(pool.insert(Arc::new(Item(2, 0))), Ok(()));
        for number in 1..10 {
            pool.insert(Arc::new(Item(2, number))).unwrap();
        }
        assert_eq!(pool.insert(Arc::new(Item(3, 0))), Err(QueueError::Full));
    }

    #[test]
    fn removal_forgets_everything_and_order_is_kept() {
        let mut pool = pool(100);
        for number in 0..4 {
            pool.insert(Arc::new(Item(1, number))).unwrap();
        }
        assert_eq!(pool.insert(Arc::new(Item(1, 2))), Err(QueueError::Duplicate));
        pool.remove(&Item(1, 1).txid()).unwrap();
        let order: Vec<u32> = pool.take_turns(10, 1_000, |_| true).iter().map(|item| item.1).collect();
        assert_eq!(order, [0, 2, 3]);
        let wanted = pool.take_turns(10, 1_000, |txid| *txid != Item(1, 2).txid());
        assert_eq!(wanted.iter().map(|item| item.1).collect::<Vec<_>>(), [0, 3]);
        assert_eq!(pool.in_order().count(), 3);
        for number in [0, 2, 3] {
            pool.remove(&Item(1, number).txid()).unwrap();
        }
        assert!(pool.is_empty() && pool.authors.is_empty() && pool.arrivals.is_empty() && pool.bytes == 0);
    }

    #[test]
    fn few_large_ones_of_one_author_fill_half_of_the_pool_and_no_more() {
        let mut pool = FairQueue::new(QueueLimits { count: 1_000, bytes: 1_000 });
        for number in 0..5 {
            pool.insert(Arc::new(Large(1, number, 100))).unwrap();
        }
        assert_eq!(pool.insert(Arc::new(Large(1, 5, 1))), Err(QueueError::Full));
        for number in 0..74 {
            pool.insert(Arc::new(Large(2, number, 5))).unwrap();
        }
        pool.remove(&Large(1, 0, 100).txid()).unwrap();
        assert_eq!(pool.insert(Arc::new(Large(1, 6, 100))), Ok(()));
    }

    #[test]
    fn a_large_one_that_does_not_fit_any_more_keeps_no_small_one_out() {
        let mut pool = FairQueue::new(QueueLimits { count: 1_000, bytes: 10_000 });
        for (author, number, bytes) in [(1, 0, 600), (2, 0, 10), (1, 1, 600), (2, 1, 10), (3, 0, 10)] {
            pool.insert(Arc::new(Large(author, number, bytes))).unwrap();
        }
        let block: Vec<_> =
            pool.take_turns(10, 1_000, |_| true).iter().map(|item| (item.0, item.1)).collect();
        assert_eq!(block, [(1, 0), (2, 0), (3, 0), (2, 1)]);
        let next: Vec<_> = pool.arrived_before(2).map(|item| (item.0, item.1)).collect();
        assert_eq!((next, pool.next_number()), (vec![(1, 0), (2, 0)], 5));
    }
}
