//! Catching up: a member speaks of a later height, so its blocks are fetched, each proved by its certificate
//! and by following on this node's tip, and committed one after the other.
//!
//! Why: decision 0093.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hbc_chain::checkpoint::{BlockId, Certificate as Note};
use hbc_chain::header::{Block, Header};
use hbc_chain::memory::{Chain, NextBlock};
use hbc_chain::tx::Tx;
use hbc_client::operations::ledger;
use hbc_types::Digest;
use hbc_types::wire::ledger::{BlockView, BlocksView};

use super::inlet::{Event, Inlet};
use super::peer_book::PeerBook;
use super::tasks;
use crate::peers::{Peer, Sender, read_as};

/// Blocks asked for at once.
const AT_ONCE: u32 = 100;
/// A piece with so many bytes of transactions is a full one, whatever it has of blocks.
const FULL_BYTES: usize = 8 << 20;
/// How long a full piece may take; one that takes longer is given up.
const GIVE_UP: Duration = Duration::from_secs(20);
/// How long the smallest may take. What lies between has its share.
const AT_LEAST: Duration = Duration::from_secs(2);
/// A peer that gave nothing, too little, too slowly, or something wrong, is asked again only after this, unless there is
/// no other.
const PASSED_OVER: Duration = Duration::from_secs(60);

/// Whether a fetch is under way, and who is of no use.
#[derive(Debug, Default)]
pub struct CatchUp {
    asked: Option<Asked>,
    /// Who was asked last: the next one is another, so that nobody sets the pace alone.
    last: String,
    failed: HashMap<String, Instant>,
}

/// A fetch under way.
#[derive(Debug, Clone, Copy)]
struct Asked {
    since: Instant,
    /// The first block that was asked for.
    from: u64,
    /// How far the peer said it was.
    tip: u64,
}

/// What a fetch brought.
#[derive(Debug, Clone, Copy)]
struct Fetched {
    blocks: u64,
    bytes: usize,
    /// Blocks that the peer said it had, before or in its answer.
    said: u64,
    took: Duration,
}

impl Fetched {
    fn of(asked: Asked, view: &BlocksView) -> Self {
        let wanted = || view.blocks.iter().filter(|block| block.height >= asked.from);
        Self {
            blocks: u64::try_from(wanted().count()).unwrap_or(u64::MAX),
            bytes: wanted().map(bytes_of).sum(),
            said: view.tip.max(asked.tip).saturating_add(1).saturating_sub(asked.from),
            took: asked.since.elapsed(),
        }
    }

    /// True if the peer gave what it could, at the pace of a full piece.
    fn is_fair(&self) -> bool {
        let full = self.bytes >= FULL_BYTES;
        let enough = full || self.blocks >= self.said.min(AT_ONCE.into());
        let blocks = u32::try_from(self.blocks).unwrap_or(u32::MAX).min(AT_ONCE);
        let kibibytes = u32::try_from(self.bytes / 1_024).unwrap_or(u32::MAX);
        let span = GIVE_UP.saturating_sub(AT_LEAST);
        let by_blocks = span * blocks / AT_ONCE;
        let by_bytes = (span * kibibytes / (8 << 10)).min(span);
        enough && self.took <= AT_LEAST + by_blocks.max(by_bytes)
    }
}

impl CatchUp {
    /// True if it is not asked again yet, unless there is no other.
    pub(super) fn failed_lately(&self, name: &str) -> bool {
        self.failed.get(name).is_some_and(|at| at.elapsed() < PASSED_OVER)
    }

    /// The peer to ask: of those that have later blocks, whoever speaks of them included, the one after the last in the
    /// order of their names, unless it failed lately or does not answer and another does.
    fn choose(&self, speaker: &Arc<Peer>, others: &[Arc<Peer>], height: u64) -> Arc<Peer> {
        let mut candidates: Vec<_> = others.iter().filter(|peer| peer.height() > height).collect();
        if candidates.iter().all(|peer| peer.name != speaker.name) {
            candidates.push(speaker);
        }
        candidates.sort_by(|one, next| one.name.cmp(&next.name));
        let (past, count) =
            (candidates.partition_point(|peer| peer.name <= self.last), candidates.len().max(1));
        candidates.rotate_left(past % count);
        let fresh = |peer: &&&Arc<Peer>| !self.failed_lately(&peer.name);
        let answers = candidates.iter().filter(fresh).find(|peer| peer.is_reached());
        Arc::clone(answers.or_else(|| candidates.iter().find(fresh)).unwrap_or(&speaker))
    }

    /// Fetches the blocks after the tip, unless that is being done: from the peer that speaks of them, or from another.
    pub(super) fn fetch(
        &mut self,
        speaker: &Arc<Peer>,
        height: u64,
        book: &PeerBook,
        inlet: &Arc<Inlet>,
        reader: Option<Arc<Sender>>,
    ) {
        if self.asked.is_some_and(|asked| asked.since.elapsed() < GIVE_UP) {
            return;
        }
        let peer = self.choose(speaker, &book.healthy(), height);
        if self.failed_lately(&peer.name) && !peer.is_reached() {
            // It only says so: it never answered.
            return;
        }
        let from = height.saturating_add(1);
        self.asked = Some(Asked { since: Instant::now(), from, tip: peer.height() });
        self.last.clone_from(&peer.name);
        let inlet = Arc::clone(inlet);
        tasks::once("fetching blocks", async move {
            let route = ledger::list_blocks().with(format!("from={from}&limit={AT_ONCE}"));
            let path = route.path.clone();
            let call = read_as(peer.endpoint.to(route), &path, peer.id(), reader.as_deref());
            let blocks = call.once().deadline(GIVE_UP).fetch().await;
            if let Err(error) = &blocks {
                tracing::info!(peer.name = %peer.name, error = %error, "Blocks could not be fetched");
            }
            let _loop_ended = inlet.send(Event::Blocks(peer, blocks.ok())).await;
        });
    }

    /// The fetch under way ended. True if it brought what its giver said, at the pace of a full piece.
    pub(super) fn ended(&mut self, blocks: Option<&BlocksView>) -> bool {
        let piece = self.asked.take().zip(blocks).map(|(asked, view)| Fetched::of(asked, view));
        piece.is_some_and(|piece| piece.is_fair())
    }

    /// Remembers who was of use and who was not.
    pub(super) fn rate(&mut self, name: &str, of_use: bool) {
        if of_use {
            self.failed.remove(name);
        } else {
            self.failed.insert(name.to_owned(), Instant::now());
        }
    }
}

/// Bytes of a block's transactions, as who serves them counts.
fn bytes_of(view: &BlockView) -> usize {
    view.transactions.iter().map(|jws| jws.len() + 4).sum::<usize>() + 4
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
    let value = BlockId::of(&header);
    let certified = (note.checkpoint.height, note.checkpoint.block);
    let roots = (note.checkpoint.log_size, note.checkpoint.log_root);
    if certified != (header.height, value.hash) || roots != (value.log_size, value.log_root) {
        return Err("the certificate is for another block".to_owned());
    }
    let transactions = view.transactions.iter().map(|jws| jws.clone().into_bytes()).collect();
    chain.examine(Block { header, transactions }, known).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fair_piece_has_what_its_giver_said_or_is_full_and_comes_at_the_pace_of_a_full_one() {
        let fair = |blocks, bytes, said, seconds| {
            Fetched { blocks, bytes, said, took: Duration::from_secs(seconds) }.is_fair()
        };
        assert!(fair(100, 1_000, 600, 19), "a full one");
        assert!(fair(3, 9 << 20, 600, 19), "few, but large");
        assert!(fair(7, 1_000, 7, 3), "all there is");
        assert!(!fair(1, 1_000, 600, 0), "one of many");
        assert!(!fair(1, 1_000, 1, 19), "as slow as a full one");
        assert!(!fair(0, 0, 5, 0), "nothing");
        assert!(!fair(100, 1_000, 600, 21));
    }
}
