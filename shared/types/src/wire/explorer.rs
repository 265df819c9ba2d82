//! ledger, for whoever looks around: blocks newest first, transactions decoded, pending votes, changes, nodes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ledger::{NodeRole, NodeState};
use crate::digest::Digest;
use crate::time::Timestamp;

/// A block in a few words: an item of `GET /v1/explorer/blocks`, and an event of `GET /v1/stream`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockSummary {
    /// Its height.
    pub height: u64,
    /// SHA-256 of its header.
    pub hash: Digest,
    /// Its time.
    pub time: Timestamp,
    /// How many transactions it has.
    pub transactions: u64,
    /// Bytes of its encoding.
    pub bytes: u32,
    /// The member that found its work; absent for block 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub miner: Option<String>,
    /// The round that decided it.
    pub round: u32,
}

/// `GET /v1/explorer/blocks/{height}`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BlockDetails {
    /// The same as in the listing.
    pub summary: BlockSummary,
    /// Hash of the block before; of genesis.json in block 0.
    pub previous: Digest,
    /// Root over its transactions.
    pub tx_root: Digest,
    /// Root over the log so far.
    pub log_root: Digest,
    /// Leaves of the log so far.
    pub log_size: u64,
    /// Root of the state after it.
    pub state_root: Digest,
    /// The proof-of-work target, compact form.
    pub target: u32,
    /// Leading zero bits of its hash.
    pub zero_bits: u32,
    /// What the work found.
    pub nonce: u64,
    /// The members that certified it.
    pub signers: Vec<String>,
}

/// A final transaction, decoded.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TransactionSummary {
    /// Its id.
    pub txid: Digest,
    /// Height of its block.
    pub height: u64,
    /// Its place in the block.
    pub index: u32,
    /// Time of its block.
    pub time: Timestamp,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Fingerprint of the key that signed it.
    pub author: Digest,
    /// Whose key that is, if the ledger names it: a member, an operator or a service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author_name: Option<String>,
    /// All that it says.
    #[schema(value_type = Object)]
    pub fields: serde_json::Value,
}

/// A transaction that waits for its block: an item of `GET /v1/explorer/waiting`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WaitingSummary {
    /// Its id.
    pub txid: Digest,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Fingerprint of the key that signed it.
    pub author: Digest,
    /// Whose key that is, if the ledger names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author_name: Option<String>,
    /// Bytes that it will take of its block.
    pub bytes: u64,
    /// Whether the node that answers promised it.
    pub promised: bool,
}

/// `GET /v1/network`: who decides at the next height, and by which numbers.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NetworkView {
    /// The chain.
    pub chain: Digest,
    /// First line of its checkpoints.
    pub origin: String,
    /// Height of the block after which it is so.
    pub height: u64,
    /// The parameters.
    pub parameters: ParametersView,
    /// The members, by name.
    pub members: Vec<PartyView>,
    /// The operators, by name.
    pub operators: Vec<PartyView>,
    /// Services' keys, active and revoked, in the order in which they came.
    pub services: Vec<ServiceView>,
}

/// The numbers that members vote about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ParametersView {
    /// Operators that a staff profile needs.
    pub approvals: u64,
    /// An empty block is due after this long without one.
    pub heartbeat_ms: u64,
    /// Bytes of a block at most.
    pub max_block_bytes: u64,
    /// A block is at least this much later than its parent.
    pub min_spacing_ms: u64,
    /// The proof-of-work target, compact form: what votes name.
    pub target: u64,
    /// Zero bits at the beginning of the largest hash that meets it.
    pub zero_bits: u32,
}

/// A member or an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartyView {
    /// Its name.
    pub name: String,
    /// Fingerprint of its key.
    pub kid: Digest,
    /// Its Ed25519 public key, hex.
    pub key: String,
}

/// A service's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceView {
    /// Which service.
    pub role: String,
    /// Fingerprint of the key.
    pub kid: Digest,
    /// The Ed25519 public key, hex.
    pub key: String,
    /// `active` or `revoked`.
    pub status: String,
}

/// `GET /v1/votes`: subjects on which members have spoken, or the one asked for.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct VotesView {
    /// Votes that make a change take effect: more than two thirds of the members.
    pub needed: u32,
    /// The subjects, by name.
    pub subjects: Vec<SubjectView>,
    /// Pass it as `cursor` to get the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A subject of votes.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SubjectView {
    /// `member:…`, `operator:…`, `parameter:…` or `service:<kid>`.
    pub subject: String,
    /// What a vote must carry: the number of earlier changes.
    pub nonce: u64,
    /// The pending votes.
    pub votes: Vec<VoteView>,
}

/// A member's vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VoteView {
    /// The member.
    pub member: String,
    /// What it wants: a key, `none`, a number, or role, status and key of a service.
    pub value: String,
    /// Whether it counts: its key is in the present set.
    pub counts: bool,
    /// Its transaction.
    pub txid: Digest,
    /// Height of its block.
    pub height: u64,
}

/// A change that took effect: an item of `GET /v1/members/history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangeView {
    /// Height of the block that completed it; it is in force from the next one on.
    pub height: u64,
    /// Time of that block.
    pub time: Timestamp,
    /// What changed.
    pub subject: String,
    /// To what.
    pub value: String,
    /// By whose votes.
    pub votes: Vec<String>,
    /// The transaction that completed it.
    pub txid: Digest,
}

/// `GET /v1/nodes`: what this node hears from the others, and itself.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NodesView {
    /// By name.
    pub nodes: Vec<NodeView>,
}

/// A node as this one knows it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Whether it is the one that answers.
    pub this: bool,
    /// Whether it is a member of the next height.
    pub role: NodeRole,
    /// Where it is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Whether it answered the last time.
    pub reached: bool,
    /// Height of its tip when it answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// When it was heard last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Timestamp>,
    /// Whether it says that its store was changed.
    pub attacked: bool,
    /// How its store stands, as it said last; absent for one that was never heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<NodeState>,
    /// What stands on the ledger about it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<LastEventView>,
}

/// A `node.event` that counts: said by the node itself or by more than a third of the members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastEventView {
    /// What, such as `attacked`.
    pub event: String,
    /// At which height of that node's chain.
    pub about_height: u64,
    /// Digest of the evidence.
    pub evidence: Digest,
    /// Its transaction.
    pub txid: Digest,
    /// Height of its block.
    pub height: u64,
    /// Time of its block.
    pub time: Timestamp,
}
