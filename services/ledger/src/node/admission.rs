//! Taking transactions in: signatures checked on all cores, rules tried on the expected state, the store
//! verified, the whole group made durable by one commit, then promised and told to the others.

use std::collections::HashMap;
use std::sync::Arc;

use hbc_types::Digest;
use hbc_types::chain::keys::{Kid, PublicKey};
use hbc_types::chain::tx::Tx;
use tokio::sync::{mpsc, oneshot};

use super::Node;
use super::agreement::Event;
use super::guardian::Soundness;
use crate::chain::Chain;
use crate::domain::reliance;
use crate::domain::rules::Refusal;
use crate::store::StoredPromise;

/// Transactions made durable by one commit at most.
const GROUP: usize = 4_096;
/// From so many on, signatures are checked on several threads.
const PARALLEL: usize = 32;

/// Transactions whose form is right, and where the answers go.
pub struct Submission {
    /// The transactions, in their order.
    pub txs: Vec<Arc<Tx>>,
    /// Answers in the same order; none for what other members passed on.
    pub reply: Option<oneshot::Sender<Vec<Result<Accepted, SubmitError>>>>,
}

/// A transaction that this node answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// It.
    pub txid: Digest,
    /// Its height, if it is final already.
    pub height: Option<u64>,
}

/// Why a transaction is not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SubmitError {
    /// Signed for another chain.
    #[error("signed for another chain")]
    OtherChain,
    /// Not signed by the key that it names, or that key is not known.
    #[error("the signature does not fit, or its key is not known")]
    Signature,
    /// A rule refuses it.
    #[error("{0}")]
    Rule(Refusal),
    /// Too much waits.
    #[error("too many transactions wait")]
    Full,
    /// The store failed verification.
    #[error("the node's store was changed")]
    Attacked,
    /// The store cannot be written.
    #[error("the store cannot be written now")]
    Store,
}

enum Judged {
    Final(u64),
    Promised,
    /// New here, or known here only from others: to be made durable before it is promised.
    Take(Arc<Tx>),
    Refused(SubmitError),
}

/// Runs until the node ends.
pub async fn run(node: Arc<Node>, mut inbox: mpsc::Receiver<Submission>) {
    while let Some(first) = inbox.recv().await {
        let mut group = vec![first];
        let mut size = group.iter().map(|submission| submission.txs.len()).sum::<usize>();
        while size < GROUP {
            let Ok(next) = inbox.try_recv() else { break };
            size += next.txs.len();
            group.push(next);
        }
        admit(&node, group).await;
    }
}

async fn admit(node: &Arc<Node>, group: Vec<Submission>) {
    let (promised, passed_on): (Vec<_>, Vec<_>) =
        group.into_iter().partition(|submission| submission.reply.is_some());
    admit_promised(node, promised).await;
    if !passed_on.is_empty() && node.attack().is_none() {
        let judge = node.clone();
        let txs: Vec<_> = passed_on.into_iter().flat_map(|submission| submission.txs).collect();
        let judged = tokio::task::spawn_blocking(move || judge.judge(&txs)).await.unwrap_or_default();
        let taken = judged.into_iter().filter_map(|judged| match judged {
            Judged::Take(tx) => Some(tx),
            Judged::Final(_) | Judged::Promised | Judged::Refused(_) => None,
        });
        node.take_in(taken.collect(), false);
        let _loop_ended = node.events.send(Event::Work).await;
    }
}

async fn admit_promised(node: &Arc<Node>, group: Vec<Submission>) {
    if group.is_empty() {
        return;
    }
    let all: Vec<_> = group.iter().flat_map(|submission| submission.txs.iter().cloned()).collect();
    let txids: Vec<_> = all.iter().map(|tx| tx.txid()).collect();
    let refuse_all = |error: SubmitError| txids.iter().map(|_| Err(error.clone())).collect::<Vec<_>>();
    let relied = reliance::heights(node.chain().state(), all.iter().map(AsRef::as_ref));
    let outcome = match node.store_is_sound(&relied).await {
        Soundness::Attacked => refuse_all(SubmitError::Attacked),
        Soundness::Unknown => refuse_all(SubmitError::Store),
        Soundness::Sound => {
            let judge = node.clone();
            match tokio::task::spawn_blocking(move || judge.judge(&all)).await {
                Ok(judged) => settle(node, judged, &txids).await,
                Err(_panicked) => refuse_all(SubmitError::Store),
            }
        }
    };
    let mut outcome = outcome.into_iter();
    for submission in group {
        let answers = outcome.by_ref().take(submission.txs.len()).collect();
        if let Some(reply) = submission.reply {
            let _caller_left = reply.send(answers);
        }
    }
}

/// Makes what was judged good durable, takes it in, and tells the others.
async fn settle(
    node: &Arc<Node>,
    judged: Vec<Judged>,
    txids: &[Digest],
) -> Vec<Result<Accepted, SubmitError>> {
    let taken: Vec<Arc<Tx>> = judged
        .iter()
        .filter_map(|judged| match judged {
            Judged::Take(tx) => Some(tx.clone()),
            Judged::Final(_) | Judged::Promised | Judged::Refused(_) => None,
        })
        .collect();
    let taken = node.waiting().with_predecessors(&taken);
    let mut stored = true;
    if !taken.is_empty() {
        let rows: Vec<_> =
            taken.iter().map(|tx| StoredPromise { txid: tx.txid(), jws: tx.bytes().to_vec() }).collect();
        // A repair carries over what was promised before the mark: nothing is promised behind it.
        let no_repair_meanwhile = node.gate.read().await;
        if node.attack().is_some() {
            return txids.iter().map(|_| Err(SubmitError::Attacked)).collect();
        }
        if let Err(error) = node.store.add_promises(&rows, node.clock.now().ms()).await {
            tracing::error!(error = %error, "Promises cannot be stored");
            stored = false;
        } else {
            node.take_in(taken.clone(), true);
            drop(no_repair_meanwhile);
            node.tell_of(&taken);
            let _loop_ended = node.events.send(Event::Work).await;
        }
    }
    txids
        .iter()
        .zip(judged)
        .map(|(txid, judged)| match judged {
            Judged::Final(height) => Ok(Accepted { txid: *txid, height: Some(height) }),
            Judged::Promised => Ok(Accepted { txid: *txid, height: None }),
            Judged::Take(_) if stored => Ok(Accepted { txid: *txid, height: None }),
            Judged::Take(_) => Err(SubmitError::Store),
            Judged::Refused(error) => Err(error),
        })
        .collect()
}

/// A refusal by something that only waits is not for good: that may itself come to nothing. What excludes for good is
/// final, or the final state refuses by itself.
pub(super) fn finally(chain: &Chain, tx: &Tx, time_ms: u64, refusal: Refusal) -> Refusal {
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

impl Node {
    fn judge(&self, txs: &[Arc<Tx>]) -> Vec<Judged> {
        let signed = self.check_signatures(txs);
        let chain = self.chain();
        let mut waiting = self.waiting();
        let now = self.clock.now().unsigned_ms();
        let mut here: HashMap<Digest, bool> = HashMap::new();
        txs.iter()
            .zip(signed)
            .map(|(tx, signed)| {
                let txid = tx.txid();
                if let Some(place) = chain.state().place(&txid) {
                    return Judged::Final(place.height);
                }
                if waiting.is_promised(&txid) || here.contains_key(&txid) {
                    return Judged::Promised;
                }
                if tx.payload().chain() != self.chain_id {
                    return Judged::Refused(SubmitError::OtherChain);
                }
                if waiting.get(&txid).is_some() {
                    return Judged::Take(tx.clone());
                }
                if !signed {
                    return Judged::Refused(SubmitError::Signature);
                }
                if waiting.admits(tx).is_err() {
                    return Judged::Refused(SubmitError::Full);
                }
                match waiting.expect(&chain, tx, now) {
                    Ok(()) => {
                        here.insert(txid, true);
                        Judged::Take(tx.clone())
                    }
                    Err(refusal) => Judged::Refused(SubmitError::Rule(finally(&chain, tx, now, refusal))),
                }
            })
            .collect()
    }

    /// Whether each is signed by the key that it names, wherever that key is introduced.
    fn check_signatures(&self, txs: &[Arc<Tx>]) -> Vec<bool> {
        let mut keys: HashMap<Kid, PublicKey> =
            txs.iter().filter_map(|tx| tx.payload().introduces()).map(|key| (key.kid(), key)).collect();
        {
            let chain = self.chain();
            let waiting = self.waiting();
            for tx in txs {
                let kid = tx.kid();
                if let Some(key) = chain.state().public_key(&kid).or_else(|| waiting.key(&kid)) {
                    keys.insert(kid, key);
                }
            }
        }
        let check = |tx: &Arc<Tx>| keys.get(&tx.kid()).is_some_and(|key| tx.verify_signature(key).is_ok());
        if txs.len() < PARALLEL {
            return txs.iter().map(check).collect();
        }
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let share = txs.len().div_ceil(threads);
        std::thread::scope(|scope| {
            let running: Vec<_> = txs
                .chunks(share)
                .map(|part| (part.len(), scope.spawn(move || part.iter().map(check).collect::<Vec<_>>())))
                .collect();
            running
                .into_iter()
                .flat_map(|(length, thread)| thread.join().unwrap_or_else(|_panicked| vec![false; length]))
                .collect()
        })
    }

    /// Takes transactions in that are not final meanwhile.
    pub(super) fn take_in(&self, txs: Vec<Arc<Tx>>, promised: bool) {
        let chain = self.chain();
        let mut waiting = self.waiting();
        for tx in txs {
            if chain.state().place(&tx.txid()).is_none() {
                waiting.insert(tx, promised);
            }
        }
    }
}
