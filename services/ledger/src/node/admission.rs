//! Taking transactions in: validated in groups, the store verified, those that this node answers for made durable by
//! one commit, then promised and told to the others. What members relay waits in a line of its own, bounded per member,
//! and is promised to nobody.
//!
//! Why: decision 0022.

use std::sync::Arc;

use hbc_chain::read_set;
use hbc_chain::tx::Tx;
use hbc_types::{Clock, Digest};

use super::guardian::{Soundness, StoreGuard};
use super::inlet::{Event, Inlet};
use super::membership::Membership;
use super::memory::Memory;
use super::peer_book::PeerBook;
use super::pool::{Accepted, Lines, Pool, Relayed, Submission};
use super::telling::tell_of;
use super::validation::{self, Signature, Source, SubmitError, Validated};
use crate::store::StoredPromise;

/// Transactions made durable by one commit at most.
const GROUP: usize = 4_096;
/// So many of what a member relayed are validated at once; a false signature among them ends the rest.
const SLICE: usize = 512;

/// Takes transactions into the pool.
pub struct Admission {
    /// Where they wait then.
    pub pool: Arc<Pool>,
    /// What they are checked against.
    pub memory: Arc<Memory>,
    /// Where promises are kept.
    pub guard: Arc<StoreGuard>,
    /// Who tells of them.
    pub membership: Arc<Membership>,
    /// Who is told.
    pub book: Arc<PeerBook>,
    /// Consensus, which is told that there is work.
    pub inlet: Arc<Inlet>,
    /// The time.
    pub clock: Clock,
}

impl Admission {
    /// Runs until the node ends. Neither line keeps the other waiting for more than one group.
    pub async fn run(self, mut lines: Lines) {
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
                    self.admit(group).await;
                }
                Some(relayed) = lines.relayed.recv() => self.take_in(relayed).await,
                else => return,
            }
        }
    }

    /// Validates off the node's tasks: signatures take long. Nothing was validated if that failed.
    async fn validated(&self, txs: Vec<Arc<Tx>>, source: Source) -> Option<(Vec<Validated>, Vec<Signature>)> {
        let (memory, pool, clock) = (self.memory.clone(), self.pool.clone(), self.clock.clone());
        let validated = tokio::task::spawn_blocking(move || {
            let lookup = validation::lookup(&memory.chain(), &pool.mempool(), &txs);
            let signatures = validation::check_signatures(&txs, &lookup);
            let (chain, now_ms) = (memory.chain(), clock.now().unsigned_ms());
            let validated =
                validation::decide(&chain, &mut pool.mempool(), &txs, &signatures, source, now_ms);
            (validated, signatures)
        });
        validated.await.ok()
    }

    async fn take_in(&self, relayed: Relayed) {
        for some in relayed.txs.chunks(SLICE) {
            if self.guard.is_attacked() {
                break;
            }
            let Some((_, signatures)) = self.validated(some.to_vec(), Source::Member).await else { break };
            if signatures.contains(&Signature::False) {
                let member = relayed.permit.member();
                tracing::warn!(member.id = %member, "A member passes on what is not signed; the rest of it is dropped");
                break;
            }
        }
        let _loop_ended = self.inlet.send(Event::Work).await;
    }

    async fn admit(&self, group: Vec<Submission>) {
        let all: Vec<Arc<Tx>> = group.iter().flat_map(|submission| submission.txs.iter().cloned()).collect();
        let txids: Vec<Digest> = all.iter().map(|tx| tx.txid()).collect();
        let outcome = match self.validated(all.clone(), Source::Client).await {
            Some((validated, _)) => self.promise(&all, validated).await,
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
        &self,
        txs: &[Arc<Tx>],
        validated: Vec<Validated>,
    ) -> Vec<Result<Option<u64>, SubmitError>> {
        let waits = |(tx, validated): (&Arc<Tx>, &Validated)| {
            matches!(validated, Validated::Waits).then(|| tx.clone())
        };
        let taken: Vec<Arc<Tx>> = txs.iter().zip(&validated).filter_map(waits).collect();
        let durable = if taken.is_empty() { Ok(()) } else { self.make_durable(&taken).await };
        if durable.is_err() {
            self.give_back(&taken).await;
        }
        txs.iter()
            .zip(validated)
            .map(|(tx, validated)| match validated {
                Validated::Final(height) => Ok(Some(height)),
                Validated::Promised => Ok(None),
                Validated::Waits => durable.clone().and_then(|()| self.answered(&tx.txid())),
                Validated::Refused(error) => Err(error),
            })
            .collect()
    }

    /// What could not be made durable waits no longer.
    async fn give_back(&self, txs: &[Arc<Tx>]) {
        let txids: Vec<Digest> = txs.iter().map(|tx| tx.txid()).collect();
        self.pool.settle(|mempool, chain, now_ms| mempool.give_back(chain, &txids, now_ms)).await;
    }

    /// Something that was made durable is promised, or became final or impossible in between.
    fn answered(&self, txid: &Digest) -> Result<Option<u64>, SubmitError> {
        if let Some(place) = self.memory.chain().state().place(txid) {
            return Ok(Some(place.height));
        }
        if self.pool.mempool().is_promised(txid) { Ok(None) } else { Err(SubmitError::Store) }
    }

    /// One commit for all, after the store was verified. What became final or impossible since it was validated is left
    /// out; no block is committed meanwhile, so that it stays so until the rest is noted as promised.
    async fn make_durable(&self, txs: &[Arc<Tx>]) -> Result<(), SubmitError> {
        let read_set = read_set::heights(self.memory.chain().state(), txs.iter().map(AsRef::as_ref));
        match self.guard.store_is_sound(&read_set).await {
            Soundness::Sound => {}
            Soundness::Attacked => return Err(SubmitError::Attacked),
            Soundness::Unknown => return Err(SubmitError::Store),
        }
        // Healing carries over what was promised before the mark: nothing is promised behind it.
        let no_block_and_no_heal_meanwhile = self.guard.no_commit().await;
        if self.guard.is_attacked() {
            return Err(SubmitError::Attacked);
        }
        let txs: Vec<Arc<Tx>> = {
            let mempool = self.pool.mempool();
            let all = mempool.with_predecessors(txs);
            all.into_iter().filter(|tx| mempool.get(&tx.txid()).is_some()).collect()
        };
        let row = |tx: &Arc<Tx>| StoredPromise { txid: tx.txid(), jws: tx.bytes().to_vec() };
        let rows: Vec<_> = txs.iter().map(row).collect();
        if let Err(error) = self.guard.store().add_promises(&rows, self.clock.now().ms()).await {
            drop(no_block_and_no_heal_meanwhile);
            tracing::error!(error = %error, "Promises cannot be stored");
            let tip = self.memory.height();
            return Err(match self.guard.reading_failed(tip, error).await {
                Soundness::Attacked => SubmitError::Attacked,
                Soundness::Sound | Soundness::Unknown => SubmitError::Store,
            });
        }
        {
            let mut mempool = self.pool.mempool();
            txs.iter().for_each(|tx| mempool.promise(&tx.txid()));
        }
        drop(no_block_and_no_heal_meanwhile);
        tell_of(&txs, &self.membership, &self.book);
        let _loop_ended = self.inlet.send(Event::Work).await;
        Ok(())
    }
}
