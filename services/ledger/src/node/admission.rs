//! Taking transactions in: judged in groups, the store verified, those that this node answers for made durable by one
//! commit, then promised and told to the others. What members pass on waits in a line of its own, bounded per member,
//! and is promised to nobody.
//!
//! Why: decision 0022.

use std::sync::Arc;

use hbc_chain::tx::Tx;
use hbc_types::Digest;
use tokio::sync::{mpsc, oneshot};

use super::Node;
use super::agreement::Event;
use super::guardian::Soundness;
use super::inbound::Permit;
pub use super::judging::SubmitError;
use super::judging::{self, Judged, Signature, Source};
use crate::domain::reliance;
use crate::store::StoredPromise;

/// Transactions made durable by one commit at most.
const GROUP: usize = 4_096;
/// So many of what a member passed on are judged at once; a false signature among them ends the rest.
const SLICE: usize = 512;

/// A client's transactions whose form is right, and where the answers go, in the same order.
pub struct Submission {
    /// The transactions, in their order.
    pub txs: Vec<Arc<Tx>>,
    /// Where the answers go.
    pub reply: oneshot::Sender<Vec<Result<Accepted, SubmitError>>>,
}

/// Transactions that a member passed on.
pub struct PassedOn {
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

/// The two lines in which transactions wait to be judged.
pub struct Lines {
    /// Clients'.
    pub submitted: mpsc::Receiver<Submission>,
    /// The other members'.
    pub passed_on: mpsc::Receiver<PassedOn>,
}

/// Runs until the node ends. Neither line keeps the other waiting for more than one group.
pub async fn run(node: Arc<Node>, mut lines: Lines) {
    loop {
        tokio::select! {
            Some(first) = lines.submitted.recv() => {
                let mut size = first.txs.len();
                let mut group = vec![first];
                while size < GROUP {
                    let Ok(next) = lines.submitted.try_recv() else { break };
                    size += next.txs.len();
                    group.push(next);
                }
                node.admit(group).await;
            }
            Some(passed_on) = lines.passed_on.recv() => node.take_in(passed_on).await,
            else => return,
        }
    }
}

impl Node {
    /// Hands a client's transactions over for admission; false if too many wait.
    #[must_use]
    pub fn submit(&self, submission: Submission) -> bool {
        self.submissions.try_send(submission).is_ok()
    }

    /// Hands over what a member passed on; false if too much waits.
    #[must_use]
    pub fn pass_on(&self, passed_on: PassedOn) -> bool {
        self.passed_on.try_send(passed_on).is_ok()
    }

    /// True if the transaction is neither final here nor waits.
    #[must_use]
    pub fn is_new(&self, txid: &Digest) -> bool {
        let chain = self.chain();
        judging::is_new(&chain, &self.waiting(), txid)
    }

    /// Judges off the node's tasks: signatures take long. Nothing was judged if that failed.
    async fn judged(
        self: &Arc<Self>,
        txs: Vec<Arc<Tx>>,
        source: Source,
    ) -> Option<(Vec<Judged>, Vec<Signature>)> {
        let node = self.clone();
        let judged = tokio::task::spawn_blocking(move || {
            let look = judging::look(&node.chain(), &node.waiting(), &txs);
            let signatures = judging::check_signatures(&txs, &look);
            let (chain, now_ms) = (node.chain(), node.clock.now().unsigned_ms());
            let judged = judging::decide(&chain, &mut node.waiting(), &txs, &signatures, source, now_ms);
            (judged, signatures)
        });
        judged.await.ok()
    }

    async fn take_in(self: &Arc<Self>, passed_on: PassedOn) {
        for some in passed_on.txs.chunks(SLICE) {
            if self.attack().is_some() {
                break;
            }
            let Some((_, signatures)) = self.judged(some.to_vec(), Source::Member).await else { break };
            if signatures.contains(&Signature::False) {
                let member = passed_on.permit.member();
                tracing::warn!(member.id = %member, "A member passes on what is not signed; the rest of it is dropped");
                break;
            }
        }
        let _loop_ended = self.events.send(Event::Work).await;
    }

    async fn admit(self: &Arc<Self>, group: Vec<Submission>) {
        let all: Vec<Arc<Tx>> = group.iter().flat_map(|submission| submission.txs.iter().cloned()).collect();
        let txids: Vec<Digest> = all.iter().map(|tx| tx.txid()).collect();
        let outcome = match self.judged(all.clone(), Source::Client).await {
            Some((judged, _)) => self.promise(&all, judged).await,
            None => all.iter().map(|_| Err(SubmitError::Store)).collect(),
        };
        let mut answers = txids
            .into_iter()
            .zip(outcome)
            .map(|(txid, outcome)| outcome.map(|height| Accepted { txid, height }));
        for submission in group {
            let own = answers.by_ref().take(submission.txs.len()).collect();
            let _caller_left = submission.reply.send(own);
        }
    }

    /// Makes durable what waits and is not promised yet; answers the height of what is final.
    async fn promise(
        self: &Arc<Self>,
        txs: &[Arc<Tx>],
        judged: Vec<Judged>,
    ) -> Vec<Result<Option<u64>, SubmitError>> {
        let waits = |(tx, judged): (&Arc<Tx>, &Judged)| matches!(judged, Judged::Waits).then(|| tx.clone());
        let taken: Vec<Arc<Tx>> = txs.iter().zip(&judged).filter_map(waits).collect();
        let durable = if taken.is_empty() { Ok(()) } else { self.make_durable(&taken).await };
        if durable.is_err() {
            self.give_back(&taken).await;
        }
        txs.iter()
            .zip(judged)
            .map(|(tx, judged)| match judged {
                Judged::Final(height) => Ok(Some(height)),
                Judged::Promised => Ok(None),
                Judged::Waits => durable.clone().and_then(|()| self.answered(&tx.txid())),
                Judged::Refused(error) => Err(error),
            })
            .collect()
    }

    /// What could not be made durable waits no longer.
    async fn give_back(&self, txs: &[Arc<Tx>]) {
        let (txids, now): (Vec<Digest>, _) = (txs.iter().map(|tx| tx.txid()).collect(), self.clock.now());
        let impossible = {
            let chain = self.chain();
            self.waiting().give_back(&chain, &txids, now.unsigned_ms())
        };
        self.refuse(&impossible, now.ms()).await;
    }

    /// Something that was made durable is promised, or became final or impossible in between.
    fn answered(&self, txid: &Digest) -> Result<Option<u64>, SubmitError> {
        if let Some(place) = self.chain().state().place(txid) {
            return Ok(Some(place.height));
        }
        if self.waiting().is_promised(txid) { Ok(None) } else { Err(SubmitError::Store) }
    }

    /// One commit for all, after the store was verified. What became final or impossible since it was judged is left
    /// out; no block is committed meanwhile, so that it stays so until the rest is noted as promised.
    async fn make_durable(self: &Arc<Self>, txs: &[Arc<Tx>]) -> Result<(), SubmitError> {
        let relied = reliance::heights(self.chain().state(), txs.iter().map(AsRef::as_ref));
        match self.store_is_sound(&relied).await {
            Soundness::Sound => {}
            Soundness::Attacked => return Err(SubmitError::Attacked),
            Soundness::Unknown => return Err(SubmitError::Store),
        }
        // A repair carries over what was promised before the mark: nothing is promised behind it.
        let no_block_and_no_repair_meanwhile = self.gate.read().await;
        if self.attack().is_some() {
            return Err(SubmitError::Attacked);
        }
        let txs: Vec<Arc<Tx>> = {
            let waiting = self.waiting();
            let all = waiting.with_predecessors(txs);
            all.into_iter().filter(|tx| waiting.get(&tx.txid()).is_some()).collect()
        };
        let row = |tx: &Arc<Tx>| StoredPromise { txid: tx.txid(), jws: tx.bytes().to_vec() };
        let rows: Vec<_> = txs.iter().map(row).collect();
        if let Err(error) = self.store.add_promises(&rows, self.clock.now().ms()).await {
            drop(no_block_and_no_repair_meanwhile);
            tracing::error!(error = %error, "Promises cannot be stored");
            let tip = self.chain().height();
            return Err(match self.reading_failed(tip, error).await {
                Soundness::Attacked => SubmitError::Attacked,
                Soundness::Sound | Soundness::Unknown => SubmitError::Store,
            });
        }
        {
            let mut waiting = self.waiting();
            txs.iter().for_each(|tx| waiting.promise(&tx.txid()));
        }
        drop(no_block_and_no_repair_meanwhile);
        self.tell_of(&txs);
        let _loop_ended = self.events.send(Event::Work).await;
        Ok(())
    }
}
