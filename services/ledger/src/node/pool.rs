//! The pool: transactions that wait for a block, the lines in which others wait to be validated, and what this node
//! answers for: promises and refusals, in memory and in the store.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hbc_chain::memory::Chain;
use hbc_chain::rules::Refusal;
use hbc_chain::tx::Tx;
use hbc_consensus::MemberId;
use hbc_types::{Clock, Digest};
use tokio::sync::{mpsc, oneshot};

use super::guardian::StoreGuard;
use super::inbound::{GOSSIP, Inbound, Permit};
use super::memory::Memory;
use super::mempool::{Impossible, Mempool};
use super::validation::{self, SubmitError};
use crate::domain::fair_queue::QueueLimits;
use crate::store::{StoreError, StoredRefusal};

/// Submissions that wait for admission.
const SUBMISSIONS: usize = 1_024;

/// A client's transactions whose form is right, and where the answers go, in the same order.
pub struct Submission {
    /// The transactions, in their order.
    pub txs: Vec<Arc<Tx>>,
    /// Where the answers go.
    pub reply: oneshot::Sender<Vec<Result<Accepted, SubmitError>>>,
}

/// Transactions that a member relayed.
pub struct Relayed {
    /// The transactions, in their order.
    pub txs: Vec<Arc<Tx>>,
    /// Who did, and its room for them.
    pub permit: Permit,
}

/// A transaction that this node answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// It.
    pub txid: Digest,
    /// Its height, if it is final already.
    pub height: Option<u64>,
}

/// The two lines in which transactions wait to be validated.
pub struct Lines {
    /// Clients'.
    pub submitted: mpsc::Receiver<Submission>,
    /// The other members'.
    pub relayed: mpsc::Receiver<Relayed>,
}

/// What waits, validated and not.
#[derive(Debug)]
pub struct Pool {
    mempool: Mutex<Mempool>,
    /// What each member relayed and is not validated yet.
    gossip: Arc<Inbound>,
    submissions: mpsc::Sender<Submission>,
    relayed: mpsc::Sender<Relayed>,
    memory: Arc<Memory>,
    guard: Arc<StoreGuard>,
    clock: Clock,
}

impl Pool {
    /// Nothing waits; and the ends of the lines, for whoever validates.
    #[must_use]
    pub fn new(memory: Arc<Memory>, guard: Arc<StoreGuard>, clock: Clock) -> (Arc<Self>, Lines) {
        let (submissions, submitted) = mpsc::channel(SUBMISSIONS);
        let (relay, relayed) = mpsc::channel(GOSSIP.queue);
        let mempool = Mutex::new(Mempool::new(QueueLimits::default()));
        let gossip = Arc::new(Inbound::new(GOSSIP));
        let pool = Self { mempool, gossip, submissions, relayed: relay, memory, guard, clock };
        (Arc::new(pool), Lines { submitted, relayed })
    }

    /// What waits for a block. Taken after the chain, never before.
    pub fn mempool(&self) -> MutexGuard<'_, Mempool> {
        self.mempool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a client's transactions over for admission; false if too many wait.
    #[must_use]
    pub fn submit(&self, submission: Submission) -> bool {
        self.submissions.try_send(submission).is_ok()
    }

    /// Makes room for what one of so many members passes on; none if it has too much waiting.
    #[must_use]
    pub fn permit(&self, member: MemberId, weight: usize, members: usize) -> Option<Permit> {
        self.gossip.permit(member, weight, members)
    }

    /// Hands over what a member relayed; false if too much waits.
    #[must_use]
    pub fn relay(&self, relayed: Relayed) -> bool {
        self.relayed.try_send(relayed).is_ok()
    }

    /// True if the transaction is neither final here nor waits.
    #[must_use]
    pub fn is_new(&self, txid: &Digest) -> bool {
        let chain = self.memory.chain();
        validation::is_new(&chain, &self.mempool(), txid)
    }

    /// Changes what waits, and remembers what that makes impossible.
    pub(super) async fn settle(&self, change: impl FnOnce(&mut Mempool, &Chain, u64) -> Vec<Impossible>) {
        let now = self.clock.now();
        let impossible = {
            let chain = self.memory.chain();
            change(&mut self.mempool(), &chain, now.unsigned_ms())
        };
        self.refuse(&impossible, now.ms()).await;
    }

    /// Promises of an earlier run wait again, and the others are told again.
    pub(super) async fn restore_promises(&self) -> Result<(), StoreError> {
        let stored = self.guard.store().promises().await?;
        let mut txs = Vec::with_capacity(stored.len());
        for promise in stored {
            match Tx::parse(&promise.jws) {
                Ok(tx) if tx.txid() == promise.txid => txs.push(Arc::new(tx)),
                _ => {
                    tracing::error!(ledger.txid = %promise.txid, "A stored promise is not what was promised");
                }
            }
        }
        if !txs.is_empty() {
            let done: Vec<Digest> = {
                let chain = self.memory.chain();
                let is_final = |txid: &Digest| chain.state().place(txid).is_some();
                txs.iter().map(|tx| tx.txid()).filter(is_final).collect()
            };
            self.guard.store().forget_promises(&done).await?;
            let mut mempool = self.mempool();
            txs.into_iter().filter(|tx| !done.contains(&tx.txid())).for_each(|tx| mempool.resume(tx));
        }
        self.settle(|mempool, chain, now_ms| {
            mempool.drop_final(chain);
            mempool.recompute(chain, now_ms)
        })
        .await;
        Ok(())
    }

    /// Remembers promised transactions that became impossible.
    pub(super) async fn refuse(&self, impossible: &[Impossible], now_ms: i64) {
        if impossible.is_empty() {
            return;
        }
        let refusals: Vec<StoredRefusal> = impossible
            .iter()
            .map(|Impossible { tx, error }| StoredRefusal {
                txid: tx.txid(),
                jws: tx.bytes().to_vec(),
                reason: error.to_string(),
                excluded_by: excluded_by(error),
            })
            .collect();
        if let Err(error) = self.guard.store().refuse(&refusals, now_ms).await {
            tracing::error!(error = %error, "Refusals could not be stored");
        }
    }
}

/// The final transaction that excludes a refused one.
#[must_use]
pub fn excluded_by(refusal: &Refusal) -> Option<Digest> {
    match refusal {
        Refusal::Never { excluded_by, .. } => *excluded_by,
        Refusal::NotYet(_) => None,
    }
}
