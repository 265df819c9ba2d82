//! How the node and consensus talk: what happens, what is to be done, in which order. Nothing of the library
//! underneath shows here.

use ed25519_dalek::SigningKey;

use crate::codec::Message;
use crate::sign_bytes::SignBytes;
use crate::types::{BlockBytes, BlockId, Certificate, Equivocation, MemberId, MemberSet, Verdict};
use crate::wal::Record;

/// How long consensus waits, in milliseconds. Each later round waits `step_ms` longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// For a proposal; at least five times the mean proof-of-work time.
    pub propose_ms: u64,
    /// For more prevotes once two thirds disagree.
    pub prevote_ms: u64,
    /// For more precommits once two thirds disagree.
    pub precommit_ms: u64,
    /// Before own votes are sent again.
    pub rebroadcast_ms: u64,
    /// Added per round.
    pub step_ms: u64,
    /// No timer runs longer.
    pub longest_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            propose_ms: 1_000,
            prevote_ms: 300,
            precommit_ms: 300,
            rebroadcast_ms: 1_000,
            step_ms: 250,
            longest_ms: 10_000,
        }
    }
}

/// What happens to consensus.
#[derive(Debug)]
pub enum Input {
    /// A timer may be due.
    Tick,
    /// Whether transactions wait (or a heartbeat is due).
    Work(bool),
    /// A message of another member.
    Message(MemberId, Message),
    /// The block asked for by [`Output::Build`], with its work done.
    Built {
        /// The height it was asked for.
        height: u64,
        /// The round it was asked for.
        round: u32,
        /// What it commits to.
        value: BlockId,
        /// Its bytes.
        block: BlockBytes,
    },
    /// There was nothing to build.
    NotBuilt {
        /// The height it was asked for.
        height: u64,
        /// The round it was asked for.
        round: u32,
    },
    /// The answer to [`Output::Check`].
    Checked {
        /// The height that was asked.
        height: u64,
        /// The value that was asked.
        value: BlockId,
        /// The finding.
        verdict: Verdict,
    },
    /// From the next [`Input::Committed`] on the node signs with this key, or, without one, only follows.
    Membership {
        /// The key that is in the set then.
        key: Option<SigningKey>,
        /// Time-outs for the parameters in force then.
        timing: Timing,
    },
    /// The running height was decided elsewhere: this certificate came with its block, which is committed next.
    Certified(Certificate),
    /// The store holds this height now, decided here or caught up; its state names the next members.
    Committed {
        /// The height.
        height: u64,
        /// Members of the next height.
        members: MemberSet,
        /// As [`Input::Work`], for the next height.
        work: bool,
    },
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Write to the log.
    Append(Record),
    /// Make the log durable before going on.
    Sync,
    /// To every other member.
    Send(Message),
    /// Make a block on the tip for this height and round, and find its work.
    Build {
        /// The height.
        height: u64,
        /// The round.
        round: u32,
    },
    /// Find out whether these bytes are the value's and keep all rules.
    Check {
        /// The height.
        height: u64,
        /// The value they are said to be.
        value: BlockId,
        /// The bytes.
        block: BlockBytes,
        /// More than two thirds prevoted it: an honest member's clock found its time right, and this node's is not
        /// asked.
        vouched: bool,
    },
    /// Decided: make block and certificate durable, then give [`Input::Committed`].
    Commit {
        /// The block.
        block: BlockBytes,
        /// Its certificate.
        certificate: Certificate,
    },
    /// Empty the log: everything below this height is committed.
    ResetLog(u64),
    /// This member speaks of a later height: ask it for blocks.
    Behind(MemberId, u64),
    /// A member signed two things.
    Evidence(Box<Equivocation>),
}

/// The consensus of one chain: takes inputs, never blocks, never fails.
pub trait Consensus {
    /// Takes one input at `now_ms` and says what is to be done.
    fn handle(&mut self, now_ms: u64, input: Input) -> Vec<Output>;
    /// When [`Input::Tick`] is wanted; none while the chain is idle.
    fn next_deadline_ms(&self) -> Option<u64>;
    /// The height being worked on or waited for: one above the store's.
    fn height(&self) -> u64;
    /// The round of the running height; none while idle.
    fn round(&self) -> Option<u32>;
}

/// Who this node is.
pub struct Identity {
    /// The member's signing key.
    pub key: SigningKey,
    /// Chain and origin.
    pub sign_bytes: SignBytes,
    /// Time-outs.
    pub timing: Timing,
}

/// Where consensus resumes.
pub struct Boot {
    /// Height of the last block in the store.
    pub tip: u64,
    /// Members of the next height.
    pub members: MemberSet,
    /// What the log holds.
    pub records: Vec<Record>,
    /// Nothing is signed: the log was lost, so the node does not know what it signed before.
    pub abstaining: bool,
}
