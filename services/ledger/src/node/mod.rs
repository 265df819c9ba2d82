//! One ledger node, composed of what it owns. Each owned thing keeps its state to itself and is shared by the tasks that
//! need it: [`memory`] (the chain in memory), [`membership`] (its keys and its place among the members), [`peer_book`]
//! (the other nodes and where they are), [`guardian`] (the store and its soundness), [`pool`] (what waits, and what was
//! promised), [`accusations`] (what it says of other members), [`inlet`] (the way into consensus).
//!
//! The tasks: [`boot`] opens the node, [`consensus_loop`] decides blocks, [`catch_up`] fetches what the others decided,
//! [`admission`] takes transactions, [`scrub`] reads the store over and over, [`heal`] heals it, [`challenge`] asks
//! others for old blocks, [`confirmations`] looks at what they tell, [`attack_reports`] tells of nodes that reach nobody.

pub mod accusations;
pub mod addresses;
pub mod admission;
pub mod attack_reports;
mod blocks;
pub mod boot;
pub mod catch_up;
pub mod challenge;
pub mod condition;
pub mod confirmations;
pub mod consensus_loop;
pub mod guardian;
pub mod heal;
pub mod history;
pub mod inbound;
pub mod inlet;
pub(crate) mod loading;
pub mod membership;
pub mod memory;
pub mod mempool;
pub mod peer_book;
pub mod pool;
mod quiet;
pub mod scrub;
mod tasks;
mod telling;
mod timing;
pub mod validation;

use std::sync::{Arc, MutexGuard, RwLockReadGuard};

use hbc_chain::memory::Chain;
use hbc_consensus::{MemberId, MemberSet, Message};
use hbc_types::wire::ledger::{NodeRole, NodeState};
use hbc_types::{Clock, Digest};
use tokio::sync::watch;

use crate::files::AttackMark;
use crate::peers::{Heard, Sender};
use accusations::Accusations;
use challenge::Challenges;
use guardian::StoreGuard;
use heal::healer::Healing;
use inlet::Inlet;
use membership::Membership;
use memory::Memory;
use mempool::Mempool;
use peer_book::PeerBook;
use pool::Pool;

/// A peer that was heard of within this time counts as seen.
const SEEN_WITHIN_MS: i64 = 10_000;

/// A running node, shared by its tasks and its HTTP handlers.
///
/// Locks are taken in this order, and one of a line is not held while another of the same line is taken:
///
/// 1. the store's gate ([`StoreGuard`]): for writing while a block is committed, for reading while the store is verified or a
///    group is promised; the only one that is held across an `await`;
/// 2. the chain ([`Memory`]);
/// 3. what waits ([`Pool`]); the announced addresses ([`PeerBook`]);
/// 4. the store's condition ([`StoreGuard`]), the node's own membership ([`Membership`]), the list of peers
///    ([`PeerBook`]);
/// 5. a peer's membership.
///
/// The chain is not locked for reading twice by one thread: a writer that waits in between would stop both. The store has
/// locks of its own, taken last of all.
pub struct Node {
    /// genesis.json as it is hashed.
    pub genesis_text: String,
    /// Promised time to finality.
    pub include_within_ms: u64,
    /// The time.
    pub clock: Clock,
    /// The chain in memory.
    pub memory: Arc<Memory>,
    /// Its name, its keys and its place among the members.
    pub membership: Arc<Membership>,
    /// The other nodes.
    pub book: Arc<PeerBook>,
    /// The store.
    pub guard: Arc<StoreGuard>,
    /// What waits for a block.
    pub pool: Arc<Pool>,
    /// What it says of other members.
    pub accusations: Arc<Accusations>,
    /// What members ask each other.
    pub challenges: Arc<Challenges>,
    /// How a changed store is healed.
    pub healing: Arc<Healing>,
    inlet: Arc<Inlet>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("name", &self.name()).finish_non_exhaustive()
    }
}

impl Node {
    /// The member's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.membership.name()
    }

    /// The chain's id.
    #[must_use]
    pub fn chain_id(&self) -> Digest {
        self.memory.id()
    }

    /// The chain in memory.
    pub fn chain(&self) -> RwLockReadGuard<'_, Chain> {
        self.memory.chain()
    }

    /// What waits for a block. Taken after [`Self::chain`], never before.
    pub fn mempool(&self) -> MutexGuard<'_, Mempool> {
        self.pool.mempool()
    }

    /// The mark of an attack, if there is one.
    #[must_use]
    pub fn attack(&self) -> Option<AttackMark> {
        self.guard.attack()
    }

    /// As `/v1/status` says it.
    #[must_use]
    pub fn state(&self) -> NodeState {
        self.guard.condition().state()
    }

    /// What this node answers to an envelope.
    #[must_use]
    pub fn heard(&self) -> Heard {
        Heard { height: self.memory.height(), attacked: self.guard.is_attacked() }
    }

    /// Who this node is in the present set; none for an observer.
    #[must_use]
    pub fn membership(&self) -> Option<Arc<Sender>> {
        self.membership.membership()
    }

    /// Follows the height of the tip.
    #[must_use]
    pub fn tip(&self) -> watch::Receiver<u64> {
        self.memory.tip()
    }

    /// As `/v1/status` says it.
    #[must_use]
    pub fn role(&self) -> NodeRole {
        if self.membership().is_some() { NodeRole::Member } else { NodeRole::Observer }
    }

    /// Members heard of lately, this one included if it is one and its store is not attacked.
    #[must_use]
    pub fn members_seen(&self) -> usize {
        let oldest_ms = self.clock.now().ms().saturating_sub(SEEN_WITHIN_MS);
        let this = self.membership().is_some() && !self.guard.is_attacked();
        self.book.count_healthy_since(oldest_ms) + usize::from(this)
    }

    /// Whether those are a quorum.
    #[must_use]
    pub fn sees_quorum(&self) -> bool {
        self.members_seen() >= MemberSet::of(self.chain().state().members()).quorum()
    }

    /// Hands a consensus message over; false if too many wait.
    #[must_use]
    pub fn deliver(&self, from: MemberId, message: Message) -> bool {
        let members = self.chain().state().members().len();
        self.inlet.deliver(from, message, members)
    }
}
