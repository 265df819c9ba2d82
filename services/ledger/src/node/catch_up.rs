//! Catching up: a member speaks of a later height, so its blocks are fetched, each proved by its certificate
//! and by following on this node's tip, and committed one after the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hbc_types::Digest;
use hbc_types::chain::checkpoint::Certificate as Note;
use hbc_types::chain::header::{Block, Header};
use hbc_types::chain::tx::Tx;
use hbc_types::wire::ledger::{BlockView, BlocksView};

use super::agreement::{Event, Loop};
use crate::chain::{Chain, NextBlock, value_of};
use crate::consensus::{Agreement as _, Input};
use crate::peers::Peer;

/// A fetch that takes longer is given up.
const GIVE_UP: Duration = Duration::from_secs(20);
/// Blocks asked for at once.
const AT_ONCE: u32 = 100;

/// A peer that gave nothing, or something wrong, is asked again only after this, unless there is no other.
const PASSED_OVER: Duration = Duration::from_secs(60);

/// Whether a fetch is under way, and who is of no use.
#[derive(Debug, Default)]
pub struct CatchUp {
    since: Option<Instant>,
    failed: HashMap<String, Instant>,
}

impl CatchUp {
    fn failed_lately(&self, name: &str) -> bool {
        self.failed.get(name).is_some_and(|at| at.elapsed() < PASSED_OVER)
    }

    /// The peer to ask: the one that spoke of later blocks, unless it failed lately and another has some too.
    fn choose(&self, speaker: &Arc<Peer>, others: &[Arc<Peer>], height: u64) -> Arc<Peer> {
        let ahead = others.iter().filter(|peer| peer.height() > height);
        let candidates = || std::iter::once(speaker).chain(ahead.clone());
        let fresh = |peer: &&Arc<Peer>| !self.failed_lately(&peer.name);
        let answers = candidates().filter(fresh).find(|peer| peer.is_reached());
        answers.or_else(|| candidates().find(fresh)).unwrap_or(speaker).clone()
    }
}

impl Loop {
    /// Fetches the blocks after the tip, unless that is being done: from the peer that speaks of them, or from another.
    pub(super) fn fetch_blocks(&mut self, speaker: &Arc<Peer>) {
        if self.catch_up.since.is_some_and(|since| since.elapsed() < GIVE_UP) {
            return;
        }
        let node = self.node.clone();
        let height = node.chain().height();
        let peer = self.catch_up.choose(speaker, &node.healthy_peers(), height);
        if self.catch_up.failed_lately(&peer.name) && !peer.is_reached() {
            // It only says so: it never answered.
            return;
        }
        self.catch_up.since = Some(Instant::now());
        let from = height.saturating_add(1);
        tokio::spawn(async move {
            let path = format!("/v1/blocks?from={from}&limit={AT_ONCE}");
            let blocks = peer.endpoint.get(&path).once().deadline(GIVE_UP).fetch::<BlocksView>().await;
            if let Err(error) = &blocks {
                tracing::info!(peer.name = %peer.name, error = %error, "Blocks could not be fetched");
            }
            let _loop_ended = node.events.send(Event::Blocks(peer, blocks.ok())).await;
        });
    }

    /// Takes the blocks that a member sent. One that sent nothing of use is passed over, and another is asked at once.
    pub(super) async fn take_blocks(&mut self, from: Arc<Peer>, blocks: Option<BlocksView>) {
        self.catch_up.since = None;
        let before = self.node.chain().height();
        let tip = blocks.as_ref().map_or(0, |view| view.tip);
        let whole = match blocks {
            Some(view) => self.take_all(&from, view.blocks).await,
            None => false,
        };
        let height = self.node.chain().height();
        if !whole || (height == before && tip > height) {
            self.catch_up.failed.insert(from.name.clone(), Instant::now());
        } else {
            self.catch_up.failed.remove(&from.name);
        }
        let ahead = self
            .node
            .healthy_peers()
            .into_iter()
            .find(|peer| peer.height() > height && !self.catch_up.failed_lately(&peer.name));
        let next = if whole && height > before && height < tip { Some(from) } else { ahead };
        self.node.condition_mut().syncing = next.is_some();
        if let Some(peer) = next {
            self.fetch_blocks(&peer);
        }
    }

    /// Who signed this block and told this node something else shows now, or never.
    async fn compare(&mut self, certificate: &str) {
        let Ok(note) = Note::parse(certificate) else { return };
        let certificate = self.node.certificate(&note);
        let outputs = self.core.handle(self.now_ms(), Input::Certified(certificate));
        self.carry_out_now(outputs).await;
    }

    /// Commits blocks as long as they hold; false at the first that does not.
    async fn take_all(&mut self, from: &Arc<Peer>, blocks: Vec<BlockView>) -> bool {
        for view in blocks {
            if view.height <= self.node.chain().height() {
                continue;
            }
            let examined = {
                let known = |txid: &Digest| self.node.waiting().get(txid).cloned();
                examine_fetched(&self.node.chain(), &view, &known)
            };
            match examined {
                Ok(next) => {
                    self.compare(&view.certificate).await;
                    let outputs = self.commit(next, view.certificate).await;
                    self.carry_out_now(outputs).await;
                }
                Err(reason) => {
                    tracing::error!(
                        peer.name = %from.name, block.height = view.height, block.reason = %reason,
                        "ALARM: a member's block is not certified or does not continue this chain"
                    );
                    return false;
                }
            }
        }
        true
    }
}

/// Checks a block that a member sent, whoever that is: certified by this chain's members of that height, and by every
/// rule a block that follows on the tip. `known` answers a transaction whose signature was verified before.
///
/// # Errors
/// Why it is not taken.
pub fn examine_fetched(
    chain: &Chain,
    view: &BlockView,
    known: &dyn Fn(&Digest) -> Option<Arc<Tx>>,
) -> Result<NextBlock, String> {
    let note = Note::parse(&view.certificate).map_err(|error| error.to_string())?;
    let header = Header::from_bytes(view.header.as_slice()).map_err(|error| error.to_string())?;
    note.check(chain.origin(), chain.state().members()).map_err(|error| error.to_string())?;
    let value = value_of(&header);
    let certified = (note.checkpoint.height, note.checkpoint.block);
    let roots = (note.checkpoint.log_size, note.checkpoint.log_root);
    if certified != (header.height, value.hash) || roots != (value.log_size, value.log_root) {
        return Err("the certificate is for another block".to_owned());
    }
    let transactions = view.transactions.iter().map(|jws| jws.clone().into_bytes()).collect();
    chain.examine(Block { header, transactions }, known).map_err(|error| error.to_string())
}
