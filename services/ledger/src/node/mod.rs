//! One ledger node: what its parts share. [`boot`] opens it, [`agreement`] decides blocks, [`admission`]
//! takes transactions, [`guardian`] verifies the store, [`heal`] repairs it, [`neighbour`] tells of others whose store
//! was changed, [`catch_up`] fetches what the others decided.

pub mod addresses;
pub mod admission;
pub mod agreement;
pub mod blocks;
pub mod boot;
pub mod catch_up;
pub mod challenge;
pub mod guardian;
pub mod handing_on;
pub mod heal;
pub mod history;
pub mod inbound;
pub mod judging;
mod loading;
pub mod neighbour;
pub mod scrub;
pub mod seat;
pub mod waiting;
pub mod witness;

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hbc_chain::memory::Chain;
use hbc_consensus::texts::Texts;
use hbc_consensus::{MemberId, MemberSet, Message};
use hbc_types::wire::ledger::{NodeRole, NodeState};
use hbc_types::{Clock, Digest, Timestamp};
use tokio::sync::{mpsc, watch};

use crate::config::VerifyMode;
use crate::files::{AttackMark, DataFolder};
use crate::peers::{Heard, Peer, PeerNews, Peers, Sender, This};
use crate::store::Store;
use addresses::AddressBook;
use admission::{PassedOn, Submission};
use agreement::Event;
use heal::Healing;
use seat::Keyring;
use waiting::Waiting;

/// A peer that was heard of within this time counts as seen.
const SEEN_WITHIN_MS: i64 = 10_000;

/// What the node tells about itself beyond its chain.
#[derive(Debug, Default)]
pub struct Condition {
    /// Set once the store failed verification.
    pub attack: Option<AttackMark>,
    /// How far it is with an attack.
    pub stage: Stage,
    /// Something looked wrong: everything is being verified.
    pub suspect: bool,
    /// Fetching blocks from a peer.
    pub syncing: bool,
    /// When everything was verified last.
    pub verified_at: Option<Timestamp>,
    /// How far the rolling scrub is.
    pub scrub: scrub::Progress,
}

/// Where an attacked node stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Marked.
    #[default]
    Attacked,
    /// Making its database anew.
    Healing,
    /// Verifying what it made.
    Verifying,
}

/// A running node, shared by its tasks and its HTTP handlers.
pub struct Node {
    /// The member's name.
    pub name: String,
    /// Its keys.
    pub keyring: Keyring,
    /// Who it is in the present set, and what it announces.
    pub this: This,
    /// Its base address as it announces it.
    pub address: Option<String>,
    /// What the others announced.
    pub addresses: Mutex<AddressBook>,
    news: mpsc::Sender<PeerNews>,
    tip: watch::Sender<u64>,
    /// genesis.json as it is hashed.
    pub genesis_text: String,
    /// The chain's id.
    pub chain_id: Digest,
    /// What signed texts name.
    pub texts: Texts,
    /// The time.
    pub clock: Clock,
    /// How much is verified.
    pub verify: VerifyMode,
    /// Blocks compared at random.
    pub sampled_blocks: u32,
    /// Within this time all stored bytes are read again.
    pub scrub_period: std::time::Duration,
    /// Mean time between two challenges.
    pub challenge_period: std::time::Duration,
    /// Promised time to finality.
    pub include_within_ms: u64,
    /// Its database.
    pub store: Store,
    /// Its files.
    pub data: DataFolder,
    /// How a changed store is repaired.
    pub healing: Healing,
    /// The nodes it speaks to.
    pub peers: Peers,
    /// Taken for writing while a block is committed, for reading while the store is verified.
    pub gate: tokio::sync::RwLock<()>,
    chain: RwLock<Chain>,
    waiting: Mutex<Waiting>,
    condition: RwLock<Condition>,
    /// What of each member waits for the agreement.
    pub inbound: inbound::Inbound,
    /// What each member passed on and is not judged yet.
    pub gossip: Arc<inbound::Inbound>,
    events: mpsc::Sender<Event>,
    submissions: mpsc::Sender<Submission>,
    passed_on: mpsc::Sender<PassedOn>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Node {
    /// The chain in memory.
    pub fn chain(&self) -> RwLockReadGuard<'_, Chain> {
        self.chain.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn chain_mut(&self) -> RwLockWriteGuard<'_, Chain> {
        self.chain.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What waits for a block. Taken after [`Self::chain`], never before.
    pub fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mark of an attack, if there is one.
    #[must_use]
    pub fn attack(&self) -> Option<AttackMark> {
        self.condition().attack.clone()
    }

    /// How the node stands.
    pub fn condition(&self) -> RwLockReadGuard<'_, Condition> {
        self.condition.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn condition_mut(&self) -> RwLockWriteGuard<'_, Condition> {
        self.condition.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// As `/v1/status` says it.
    #[must_use]
    pub fn state(&self) -> NodeState {
        let condition = self.condition();
        match (&condition.attack, condition.stage) {
            (Some(_), Stage::Attacked) => NodeState::Attacked,
            (Some(_), Stage::Healing) => NodeState::Healing,
            (Some(_), Stage::Verifying) => NodeState::Verifying,
            (None, _) if condition.suspect => NodeState::Suspect,
            (None, _) if condition.syncing => NodeState::Syncing,
            (None, _) => NodeState::Healthy,
        }
    }

    /// What this node answers to an envelope.
    #[must_use]
    pub fn heard(&self) -> Heard {
        Heard { height: self.chain().height(), attacked: self.condition().attack.is_some() }
    }

    /// Who this node is in the present set; none for an observer.
    #[must_use]
    pub fn seat(&self) -> Option<Arc<Sender>> {
        self.this.seat()
    }

    /// Follows the height of the tip.
    #[must_use]
    pub fn tip(&self) -> watch::Receiver<u64> {
        self.tip.subscribe()
    }

    /// As `/v1/status` says it.
    #[must_use]
    pub fn role(&self) -> NodeRole {
        if self.seat().is_some() { NodeRole::Member } else { NodeRole::Observer }
    }

    /// Members heard of lately, this one included if it is one and its store is not attacked.
    #[must_use]
    pub fn members_seen(&self) -> usize {
        let oldest = self.clock.now().ms().saturating_sub(SEEN_WITHIN_MS);
        let fresh = |peer: &&Arc<Peer>| {
            peer.id().is_some() && peer.is_reached() && !peer.is_attacked() && peer.seen_ms() >= oldest
        };
        let this = self.seat().is_some() && self.attack().is_none();
        self.peers.all().iter().filter(fresh).count() + usize::from(this)
    }

    /// Whether those are a quorum.
    #[must_use]
    pub fn sees_quorum(&self) -> bool {
        self.members_seen() >= MemberSet::of(self.chain().state().members()).quorum()
    }

    /// Members that answer and say that they are well.
    #[must_use]
    pub fn healthy_peers(&self) -> Vec<Arc<Peer>> {
        let well = |peer: &&Arc<Peer>| peer.id().is_some() && peer.is_reached() && !peer.is_attacked();
        self.peers.all().iter().filter(well).cloned().collect()
    }

    /// Hands an agreement message over; false if too many wait.
    #[must_use]
    pub fn deliver(&self, from: MemberId, message: Message) -> bool {
        let weight = message.weight();
        let members = self.chain().state().members().len();
        if !self.inbound.admit(from, weight, members) {
            return false;
        }
        let taken = self.events.try_send(Event::Message(from, message)).is_ok();
        if !taken {
            self.inbound.done(&from, weight);
        }
        taken
    }
}
