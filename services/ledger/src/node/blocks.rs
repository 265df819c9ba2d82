//! What a node does with one block: make it, look at it, make it durable.
//!
//! Why: decision 0090.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use hbc_chain::block::{earliest_ms, early_by_ms};
use hbc_chain::checkpoint::{Certificate as Note, Checkpoint};
use hbc_chain::header::{Block, HEADER_BYTES, Header, MAX_TRANSACTIONS};
use hbc_chain::memory::NextBlock;
use hbc_consensus::{BlockBytes, BlockId, Certificate, MemberId, Verdict};
use hbc_types::keys::SignatureBytes;

use super::Node;
use super::inlet::Event;
use super::tasks::{self, or_die};
use crate::store::StoredBlock;

/// Room for the header and lengths when candidates are chosen by bytes.
const OVERHEAD_BYTES: usize = HEADER_BYTES + 4;

impl Node {
    /// Builds a block on another thread after `wait`, and tells consensus.
    pub(super) fn build_after(
        self: &Arc<Self>,
        wait: Duration,
        (height, round): (u64, u32),
        allow_empty: bool,
        stop: Arc<AtomicBool>,
    ) {
        let node = self.clone();
        tasks::once("building a block", async move {
            tokio::time::sleep(wait).await;
            tasks::once_aside("mining a block", move || {
                let next = node.build_block(allow_empty, &stop).map(Box::new);
                let _loop_ended = node.inlet.send_blocking(Event::Built(height, round, next));
            });
        });
    }

    /// Looks at a proposed block on another thread, and tells consensus. One that was `examined` and found good, but
    /// early, is only held against the clock.
    pub(super) fn check_aside(
        self: &Arc<Self>,
        (height, value): (u64, BlockId),
        bytes: BlockBytes,
        examined: Option<Header>,
        vouched: bool,
    ) {
        let node = self.clone();
        tasks::once_aside("checking a block", move || {
            let (verdict, next) = match examined {
                Some(header) => (node.check_time(&header), None),
                None => node.check_block(value, &bytes),
            };
            let verdict = match verdict {
                Verdict::Early { .. } if vouched => Verdict::Valid,
                verdict => verdict,
            };
            let _loop_ended = node.inlet.send_blocking(Event::Checked(height, value, verdict, next));
        });
    }

    /// Makes a block of what waits and finds its work. None if nothing waits, or if stopped.
    fn build_block(&self, allow_empty: bool, stop: &AtomicBool) -> Option<NextBlock> {
        let draft = {
            let chain = self.chain();
            let bytes = usize::try_from(chain.state().parameters().max_block_bytes).ok()?;
            let bytes = bytes.saturating_sub(OVERHEAD_BYTES);
            let candidates = self.mempool().candidates(MAX_TRANSACTIONS, bytes);
            chain.draft(&candidates, self.clock.now(), &self.membership.kid()?)
        };
        if draft.is_empty() && !allow_empty {
            return None;
        }
        draft.mine(stop)
    }

    /// Looks at a proposed block: damaged, against the rules, good, or good once this node's clock gets there.
    fn check_block(&self, value: BlockId, bytes: &[u8]) -> (Verdict, Option<Box<NextBlock>>) {
        let Ok(block) = Block::from_bytes(bytes) else { return (Verdict::Damaged, None) };
        if BlockId::of(&block.header) != value
            || hbc_chain::merkle::root(&block.txids()) != block.header.tx_root
        {
            return (Verdict::Damaged, None);
        }
        let chain = self.chain();
        match chain.examine(block, &|txid| self.mempool().get(txid).cloned()) {
            Ok(next) => (self.check_time(&next.block.header), Some(Box::new(next))),
            Err(error) => {
                tracing::warn!(node.name = %self.name(), block.hash = %value.hash, error = %error, "A proposed block is refused");
                (Verdict::Invalid, None)
            }
        }
    }

    /// What this node's clock says of a good block.
    fn check_time(&self, header: &Header) -> Verdict {
        match early_by_ms(header, self.clock.now()) {
            0 => Verdict::Valid,
            wait_ms => Verdict::Early { wait_ms },
        }
    }

    /// Examines a block whose certificate was verified.
    pub(super) fn examine_certified(&self, bytes: &[u8]) -> Option<NextBlock> {
        let block = Block::from_bytes(bytes).ok()?;
        let chain = self.chain();
        chain.examine(block, &|txid| self.mempool().get(txid).cloned()).ok()
    }

    /// The signed note of a certificate.
    pub(super) fn note(&self, certificate: &Certificate) -> Note {
        let checkpoint =
            self.membership.sign_bytes().statement(certificate.height, certificate.round, &certificate.value);
        let votes: Vec<_> = certificate
            .signatures
            .iter()
            .map(|(member, signature)| {
                (hbc_types::Digest::from_bytes(member.0), SignatureBytes::from_bytes(*signature))
            })
            .collect();
        Note::assemble(checkpoint, &votes, self.chain().state().members())
    }

    /// The certificate that a signed note is, of the next height.
    pub(super) fn certificate(&self, note: &Note) -> Certificate {
        let chain = self.chain();
        let members = chain.state().members();
        let signatures = note.signatures.iter().filter_map(|line| {
            let member = members.iter().find(|member| member.name == line.member)?;
            Some((MemberId(*member.kid().as_bytes()), *line.signature.as_bytes()))
        });
        let Checkpoint { height, round, block, log_size, log_root, .. } = note.checkpoint;
        let value = BlockId { hash: block, log_size, log_root };
        Certificate { height, round, value, signatures: signatures.collect() }
    }

    /// How long until a block may be begun whose time is not ahead of this node's clock. Where the last block's is, the
    /// spacing at most: whoever dates blocks ahead neither stops the others nor draws them along.
    pub(super) fn until_earliest(&self) -> Duration {
        let chain = self.chain();
        let early_ms = earliest_ms(chain.state()).saturating_sub(self.clock.now().unsigned_ms());
        Duration::from_millis(early_ms.min(chain.state().parameters().min_spacing_ms))
    }

    /// Database, checkpoint file, memory, in this order. False, and nothing is done, on an attacked node: the block
    /// is decided and will be fetched.
    pub(super) async fn commit_block(&self, next: NextBlock, note: String) -> bool {
        let _nobody_verifies_meanwhile = self.guard.alone().await;
        if self.guard.is_attacked() {
            return false;
        }
        let now = self.clock.now();
        let mut bytes = next.block.to_bytes();
        let body = bytes.split_off(HEADER_BYTES);
        let stored =
            StoredBlock { height: next.block.header.height, header: bytes, body, certificate: note.clone() };
        let txids: Vec<_> = next.txids().collect();
        let kept: Vec<_> = {
            let mempool = self.mempool();
            txids.iter().filter(|txid| mempool.is_promised(txid)).copied().collect()
        };
        if let Err(error) = self.guard.store().commit(&stored, &kept).await {
            tracing::error!(error = %error, block.height = stored.height, "A decided block cannot be stored; the node ends here");
            std::process::abort();
        }
        or_die(self.guard.data().write_checkpoint(&note));
        {
            let chain = self.chain();
            self.mempool().speculate(&chain, next.txs(), now.unsigned_ms());
        }
        let extended = self.memory.extend(next, note, |chain| {
            self.membership.update_membership(chain);
            self.book.take_seats(chain);
        });
        if !extended {
            tracing::error!("A stored block does not follow on the tip; the node ends here");
            std::process::abort();
        }
        let impossible = {
            let chain = self.chain();
            self.mempool().settle(&chain, &txids, now.unsigned_ms())
        };
        self.memory.tell_tip(stored.height);
        tracing::info!(node.name = %self.name(), block.height = stored.height, block.transactions = txids.len(), "A block is final");
        self.pool.refuse(&impossible, now.ms()).await;
        true
    }
}
