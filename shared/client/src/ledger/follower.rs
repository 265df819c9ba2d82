//! Follows the chain: asks every node for its checkpoint each second, takes the highest that is certified, fetches the
//! blocks up to it from any node, verifies each, and hands them to the journal in order.
//!
//! Why: decision 0031.

use std::time::Duration;

use futures_util::future::join_all;
use hbc_chain::checkpoint::Certificate;
use hbc_types::wire::ledger::NodeState;

use super::finality::{Finality, Settlement};
use super::{ChainError, ChainView, FinalBlock, Journal, JournalError, LedgerClient};
use crate::ClientError;

/// Between two rounds when nothing is awaited.
const IDLE: Duration = Duration::from_secs(1);
/// Between two rounds while transactions of this service are not final yet.
const BUSY: Duration = Duration::from_millis(150);
/// Blocks asked for at once.
const BLOCKS: u32 = 100;

/// The loop that follows the chain for one service. Clones follow the same journal.
#[derive(Clone, Debug)]
pub struct Follower<J> {
    ledger: LedgerClient,
    journal: J,
    finality: Finality,
}

/// Why following stopped for this round.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error("the journal failed: {0}")]
    Journal(JournalError),
    #[error("{0}")]
    Chain(#[from] ChainError),
}

/// What the nodes showed in one round.
struct Round {
    best: Option<Certificate>,
    /// Highest height that a checkpoint names which the members known here did not sign.
    hint: u64,
    fork: bool,
    up: usize,
    says_quorum: bool,
    attacked: Vec<String>,
}

impl<J: Journal> Follower<J> {
    /// A follower for the service whose journal this is.
    #[must_use]
    pub fn new(ledger: LedgerClient, journal: J, finality: Finality) -> Self {
        Self { ledger, journal, finality }
    }

    /// The loop: give it to the service's supervised tasks.
    pub async fn run(self) {
        let Some(mut view) = self.start().await else {
            // A position that does not fit is for people: starting again would change nothing.
            return std::future::pending().await;
        };
        loop {
            let round = self.ask(&view).await;
            self.report(&view, &round);
            let target = round.target(&view);
            if target > view.height()
                && self.finality.health().alarm.is_none()
                && let Err(error) = self.catch_up(&mut view, target).await
            {
                tracing::warn!(error = %error, "The chain could not be followed this time");
            }
            self.finality.update(|health| health.applied = view.height());
            self.finality.pause(BUSY, IDLE).await;
        }
    }

    /// The stored position, verified; waits until the journal can be read.
    async fn start(&self) -> Option<ChainView> {
        let position = loop {
            match self.journal.position().await {
                Ok(position) => break position,
                Err(error) => {
                    tracing::warn!(error = %error, "The position on the chain could not be read");
                    tokio::time::sleep(IDLE).await;
                }
            }
        };
        let view = match &position {
            None => ChainView::genesis(self.ledger.genesis()),
            Some(position) => ChainView::at(self.ledger.genesis(), position),
        };
        match view {
            Ok(view) => {
                self.ledger.set_members(view.members());
                self.finality.update(|health| health.applied = view.height());
                Some(view)
            }
            Err(error) => {
                self.alarm(&error.to_string());
                None
            }
        }
    }

    /// Asks every node for its checkpoint and status.
    async fn ask(&self, view: &ChainView) -> Round {
        // A node that hangs is asked only every few seconds: it must not slow down each round.
        let asks = self.ledger.answering().into_iter().map(|index| async move {
            let answers =
                futures_util::future::join(self.ledger.checkpoint(index), self.ledger.status(index)).await;
            if let Err(error @ (ClientError::Unreachable(_) | ClientError::NoAnswer(_))) = &answers.0 {
                self.ledger.penalise(index, error, &mut None);
            }
            answers
        });
        let mut round =
            Round { best: None, hint: 0, fork: false, up: 0, says_quorum: false, attacked: Vec::new() };
        for (checkpoint, status) in join_all(asks).await {
            if let Ok(status) = status {
                let up = matches!(status.state, NodeState::Healthy | NodeState::Syncing | NodeState::Suspect);
                round.up += usize::from(up);
                round.says_quorum |= status.quorum;
                if matches!(status.state, NodeState::Attacked | NodeState::Healing | NodeState::Verifying) {
                    round.attacked.push(status.node);
                }
            }
            let Ok(Some(note)) = checkpoint else { continue };
            match view.certificate(&note) {
                Ok(certificate) => round.compare(certificate, view),
                Err(error) => {
                    // It may be signed by members who joined in a block that was not followed yet.
                    let unproven = Certificate::parse(&note).map_or(0, |note| note.checkpoint.height);
                    round.hint = round.hint.max(unproven);
                    if unproven <= view.height() {
                        tracing::warn!(error = %error, "A node showed a checkpoint that does not certify");
                    }
                }
            }
        }
        round
    }

    fn report(&self, view: &ChainView, round: &Round) {
        if round.fork {
            self.alarm("two blocks of one height are certified");
        }
        let nodes = self.ledger.node_count();
        let needed = self.ledger.quorum();
        let quorum = if nodes >= needed { round.up >= needed } else { round.says_quorum };
        let certified = round.best.as_ref().map_or(0, |best| best.checkpoint.height).max(view.height());
        self.finality.update(|health| {
            health.quorum = quorum;
            health.nodes = nodes;
            health.nodes_up = round.up;
            health.attacked.clone_from(&round.attacked);
            health.certified = certified;
        });
    }

    /// Takes blocks up to the certified height, from whichever node gives good ones.
    async fn catch_up(&self, view: &mut ChainView, target: u64) -> Result<(), FollowError> {
        let mut wrong = None;
        for index in self.ledger.order(None) {
            while view.height() < target {
                let Ok(answer) = self.ledger.blocks(index, view.height() + 1, BLOCKS).await else { break };
                if answer.blocks.is_empty() {
                    break;
                }
                match self.take_all(view, answer.blocks).await {
                    Ok(()) => {}
                    Err(FollowError::Chain(error)) => {
                        tracing::warn!(ledger.node = index, error = %error, "A node gave a block that does not hold");
                        wrong = Some(error);
                        break;
                    }
                    Err(error @ FollowError::Journal(_)) => return Err(error),
                }
            }
            if view.height() >= target {
                return Ok(());
            }
        }
        wrong.map_or(Ok(()), |error| Err(error.into()))
    }

    async fn take_all(
        &self,
        view: &mut ChainView,
        blocks: Vec<hbc_types::wire::ledger::BlockView>,
    ) -> Result<(), FollowError> {
        for block in blocks {
            let mut next = view.clone();
            let block = next.take(block)?;
            let position = next.position()?;
            // The view moves only after the journal did: a failure leaves both where they were.
            self.journal.apply(&block, position).await.map_err(FollowError::Journal)?;
            *view = next;
            self.ledger.set_members(view.members());
            self.settle(&block);
        }
        Ok(())
    }

    fn settle(&self, block: &FinalBlock) {
        self.finality.update(|health| {
            health.applied = block.height();
            health.certified = health.certified.max(block.height());
        });
        for transaction in &block.transactions {
            let settlement = Settlement::Final { height: block.height(), log_index: transaction.log_index };
            self.finality.settle(transaction.txid, settlement);
        }
    }

    fn alarm(&self, what: &str) {
        if self.finality.health().alarm.is_some() {
            return;
        }
        tracing::error!(ledger.alarm = what, "The ledger is not followed any further");
        self.finality.update(|health| health.alarm = Some(what.to_owned()));
    }
}

impl Round {
    /// The height to follow to. An unproven height is a reason to ask for blocks, each of which proves itself.
    fn target(&self, view: &ChainView) -> u64 {
        match &self.best {
            Some(best) if best.checkpoint.height > view.height() => best.checkpoint.height,
            _ if self.fork => 0,
            _ => self.hint,
        }
    }

    /// Keeps the higher of two certificates; two blocks of one height are the end of trust.
    fn compare(&mut self, found: Certificate, view: &ChainView) {
        let (height, block) = (found.checkpoint.height, found.checkpoint.block);
        self.fork |= height == view.height() && block != view.tip_hash();
        match &self.best {
            Some(best) if best.checkpoint.height == height => self.fork |= best.checkpoint.block != block,
            Some(best) if best.checkpoint.height > height => {}
            _ => self.best = Some(found),
        }
        if self.fork {
            self.best = None;
        }
    }
}
