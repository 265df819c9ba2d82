//! The way into consensus: one queue, with a bound for each member, so that a flood of one keeps nobody's message out.

use std::sync::Arc;

use hbc_chain::memory::{Chain, NextBlock};
use hbc_consensus::{BlockId, MemberId, Message, Verdict};
use hbc_types::wire::ledger::BlocksView;
use tokio::sync::{mpsc, oneshot};

use super::inbound::{CONSENSUS, Inbound};
use crate::peers::Peer;

/// What consensus is told.
pub enum Event {
    /// A member's message.
    Message(MemberId, Message),
    /// Transactions were taken in.
    Work,
    /// A block with its work, or none.
    Built(u64, u32, Option<Box<NextBlock>>),
    /// A proposed block was examined.
    Checked(u64, BlockId, Verdict, Option<Box<NextBlock>>),
    /// Blocks of a peer, or none.
    Blocks(Arc<Peer>, Option<BlocksView>),
    /// A member's announcement of its address was taken.
    Address(String),
    /// The store is healed: this is its chain. Answered once the node takes part again.
    Healed(Box<Chain>, oneshot::Sender<()>),
    /// End.
    Stop(oneshot::Sender<()>),
}

/// The queue's open end.
#[derive(Debug)]
pub struct Inlet {
    events: mpsc::Sender<Event>,
    inbound: Inbound,
}

impl Inlet {
    /// The queue, and the end that consensus reads.
    #[must_use]
    pub fn new() -> (Arc<Self>, mpsc::Receiver<Event>) {
        let (events, inbox) = mpsc::channel(CONSENSUS.queue);
        (Arc::new(Self { events, inbound: Inbound::new(CONSENSUS) }), inbox)
    }

    /// Hands over a message of one of so many members; false if too many wait.
    #[must_use]
    pub fn deliver(&self, from: MemberId, message: Message, members: usize) -> bool {
        let weight = message.weight();
        if !self.inbound.admit(from, weight, members) {
            return false;
        }
        let taken = self.events.try_send(Event::Message(from, message)).is_ok();
        if !taken {
            self.inbound.done(&from, weight);
        }
        taken
    }

    /// Notes that a member's message left the queue.
    pub(super) fn took(&self, from: &MemberId, message: &Message) {
        self.inbound.done(from, message.weight());
    }

    /// Waits for room; false once consensus ended.
    pub(super) async fn send(&self, event: Event) -> bool {
        self.events.send(event).await.is_ok()
    }

    /// The same on a thread that may block.
    pub(super) fn send_blocking(&self, event: Event) -> bool {
        self.events.blocking_send(event).is_ok()
    }

    /// False if there is no room now.
    pub(super) fn offer(&self, event: Event) -> bool {
        self.events.try_send(event).is_ok()
    }
}
