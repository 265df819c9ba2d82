//! Catching up: a member speaks of a later height, so its blocks are fetched, each proved by its certificate
//! and by following on this node's tip, and committed one after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hbc_types::Digest;
use hbc_types::chain::checkpoint::Certificate as Note;
use hbc_types::chain::header::{Block, Header};
use hbc_types::chain::tx::Tx;
use hbc_types::wire::ledger::{BlockView, BlocksView};

use super::agreement::{Event, Loop};
use crate::chain::{Chain, NextBlock, value_of};
use crate::peers::Peer;

/// A fetch that takes longer is given up.
const GIVE_UP: Duration = Duration::from_secs(20);
/// Blocks asked for at once.
const AT_ONCE: u32 = 100;

/// Whether a fetch is under way.
#[derive(Debug, Default)]
pub struct CatchUp {
    since: Option<Instant>,
}

impl Loop {
    /// Asks a member for the blocks after the tip, unless that is being done.
    pub(super) fn fetch_blocks(&mut self, peer: Arc<Peer>) {
        if self.catch_up.since.is_some_and(|since| since.elapsed() < GIVE_UP) {
            return;
        }
        self.catch_up.since = Some(Instant::now());
        let node = self.node.clone();
        let from = node.chain().height() + 1;
        tokio::spawn(async move {
            let path = format!("/v1/blocks?from={from}&limit={AT_ONCE}");
            let blocks = peer.endpoint.get(&path).once().deadline(GIVE_UP).fetch::<BlocksView>().await;
            if let Err(error) = &blocks {
                tracing::info!(peer.name = %peer.name, error = %error, "Blocks could not be fetched");
            }
            let _loop_ended = node.events.send(Event::Blocks(peer, blocks.ok())).await;
        });
    }

    /// Takes the blocks that a member sent.
    pub(super) async fn take_blocks(&mut self, from: Arc<Peer>, blocks: Option<BlocksView>) {
        self.catch_up.since = None;
        let Some(BlocksView { blocks, tip }) = blocks else { return };
        let got_some = !blocks.is_empty();
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
                    let outputs = self.commit(next, view.certificate).await;
                    self.carry_out_now(outputs).await;
                }
                Err(reason) => {
                    tracing::error!(
                        peer.name = %from.name, block.height = view.height, block.reason = %reason,
                        "ALARM: a member's block is not certified or does not continue this chain"
                    );
                    self.node.condition_mut().syncing = false;
                    return;
                }
            }
        }
        let behind = got_some && self.node.chain().height() < tip;
        self.node.condition_mut().syncing = behind;
        if behind {
            self.fetch_blocks(from);
        }
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
    chain.examine(Block { header, transactions }, None, known).map_err(|error| error.to_string())
}
