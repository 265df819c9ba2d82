//! How a node's store stands, as the node tells it: sound, suspect or attacked, and how far what looks after it is.

use hbc_types::Timestamp;
use hbc_types::wire::ledger::NodeState;

use crate::files::AttackMark;

/// What the node tells about itself beyond its chain.
#[derive(Clone, Debug, Default)]
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
    pub scrub: Scrubbed,
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

/// How far the scrub is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scrubbed {
    /// Blocks read by the pass under way.
    pub blocks: u64,
    /// When the last whole pass ended.
    pub finished_at: Option<Timestamp>,
}

impl Condition {
    /// As `/v1/status` says it.
    #[must_use]
    pub const fn state(&self) -> NodeState {
        match (&self.attack, self.stage) {
            (Some(_), Stage::Attacked) => NodeState::Attacked,
            (Some(_), Stage::Healing) => NodeState::Healing,
            (Some(_), Stage::Verifying) => NodeState::Verifying,
            (None, _) if self.suspect => NodeState::Suspect,
            (None, _) if self.syncing => NodeState::Syncing,
            (None, _) => NodeState::Healthy,
        }
    }
}
