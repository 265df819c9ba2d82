//! ledger: submitting transactions, reading blocks, proofs and status.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::codes::codes;
use crate::digest::Digest;
use crate::keys::SignatureBytes;
use crate::secret::Bytes;
use crate::time::Timestamp;

/// `POST /v1/transactions`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitTransaction {
    /// The transaction: a compact JWS.
    pub jws: String,
}

/// `POST /v1/transactions/batch`: at most 1,000, answered in order.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitBatch {
    /// The transactions.
    pub transactions: Vec<String>,
}

/// The answers to a batch.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BatchAnswer {
    /// One per transaction, in order.
    pub results: Vec<BatchResult>,
}

/// A promise or the problem that stands in its way.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BatchResult {
    /// Accepted.
    Promise(Promise),
    /// Refused.
    Problem(crate::problem::ProblemDocument),
}

/// A node's signed word that it will see a transaction into the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Promise {
    /// The transaction's id: its RFC 6962 leaf hash.
    pub txid: Digest,
    /// The node that accepted it.
    pub node: String,
    /// When it should be final; past that, give it to the next node as well.
    pub include_by: Timestamp,
    /// Whether the node sees a quorum of members; without one, finality waits.
    pub quorum: bool,
    /// JWS (`typ` `hbc-promise+jws`) of the node's member key over `{chain, txid, node, include_by, iat}`.
    pub signature: String,
    /// Present when the transaction is final already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
}

codes! {
    /// Where a transaction stands on this node.
    TransactionState {
        /// Promised, not in a block yet.
        Pending = "pending",
        /// In a final block.
        Final = "final",
        /// A final transaction excludes it.
        Refused = "refused",
    }
}

/// `GET /v1/transactions/{txid}`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TransactionView {
    /// Its id.
    pub txid: Digest,
    /// Where it stands.
    pub state: TransactionState,
    /// The compact JWS.
    pub jws: String,
    /// Final: height of its block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// Final: its place in the block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// Final: its leaf's place in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf_index: Option<u64>,
    /// Refused: why, and by which final transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
}

/// `GET /v1/blocks/{height}`: a block with its certificate.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BlockView {
    /// Its height.
    pub height: u64,
    /// SHA-256 of the header.
    pub hash: Digest,
    /// The 180-byte header.
    pub header: Bytes,
    /// The transactions, compact JWS, in order.
    pub transactions: Vec<String>,
    /// The certificate: a C2SP signed note; empty for block 0.
    pub certificate: String,
}

/// `GET /v1/blocks?from&limit`: consecutive blocks, at most 100 or 8 MiB.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BlocksView {
    /// The blocks from the height asked for.
    pub blocks: Vec<BlockView>,
    /// The node's tip.
    pub tip: u64,
}

codes! {
    /// How a node's store stands.
    NodeState {
        /// Verified.
        Healthy = "healthy",
        /// Something looked wrong; full verification runs.
        Suspect = "suspect",
        /// The store does not match its hashes.
        Attacked = "attacked",
        /// Taking good bytes from peers.
        Healing = "healing",
        /// Verifying what was healed.
        Verifying = "verifying",
        /// Catching up with the chain.
        Syncing = "syncing",
    }
}

codes! {
    /// What a node may do at the next height.
    NodeRole {
        /// Its key is in the set: it proposes, votes and promises.
        Member = "member",
        /// It follows, verifies and serves reads.
        Observer = "observer",
    }
}

/// `GET /v1/status`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NodeStatus {
    /// The node's name.
    pub node: String,
    /// The chain.
    pub chain: Digest,
    /// Whether it is a member of the next height.
    pub role: NodeRole,
    /// How its store stands.
    pub state: NodeState,
    /// Height of its tip.
    pub height: u64,
    /// Hash of its tip.
    pub tip: Digest,
    /// Leaves in the log.
    pub log_size: u64,
    /// Transactions waiting.
    pub pending: u64,
    /// Members it heard from lately, itself included.
    pub members_seen: u32,
    /// All members.
    pub members: u32,
    /// Whether those are a quorum.
    pub quorum: bool,
    /// `full` or `incremental`.
    pub verify: String,
    /// The first height whose stored bytes are wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_bad_height: Option<u64>,
    /// What was found wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// SHA-256 of the document that says so: `GET /v1/evidence/{digest}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence_digest: Option<Digest>,
    /// When the whole store was last verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_full_verification: Option<Timestamp>,
    /// Within this many seconds the node reads all stored bytes again.
    #[serde(default)]
    pub scrub_period_s: u64,
    /// Blocks that the pass under way has read.
    #[serde(default)]
    pub scrub_blocks: u64,
    /// When the last whole pass ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_full_scrub: Option<Timestamp>,
    /// Nodes this one knows to be attacked, by signed events.
    #[serde(default)]
    pub attacked_peers: Vec<String>,
    /// What final `node.event` transactions say about nodes, the latest last.
    #[serde(default)]
    pub events: Vec<NodeEventView>,
    /// How far the healing of an attacked node is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healing: Option<HealingView>,
    /// The last healing that was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_healing: Option<HealedView>,
}

/// An event of a node that takes effect: told by the node itself or by more than a third of the members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeEventView {
    /// The node.
    pub node: String,
    /// `attacked`, `equivocation`, `challenge-failed` …
    pub event: String,
    /// The height that it is about.
    pub height: u64,
    /// SHA-256 of the evidence: `GET /v1/evidence/{digest}`.
    pub evidence: Digest,
    /// Height of the block in which it took effect.
    pub block: u64,
}

/// `POST /internal/v1/challenges`: a member asks another for a stored block.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// Height of the block.
    pub height: u64,
    /// Drawn at random for this question.
    pub nonce: Digest,
}

/// The answer to a challenge.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChallengeAnswer {
    /// `H("hbc/challenge/v1", nonce, header, body)` over the bytes on disk; zero without such a row.
    pub answer: Digest,
    /// The member's signature over chain, height, nonce and answer, hex.
    #[schema(value_type = String)]
    pub signature: SignatureBytes,
}

/// How far healing is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealingView {
    /// Heights that are good again.
    pub heights_checked: u64,
    /// Blocks taken from peers.
    pub blocks_healed: u64,
    /// Their bytes.
    pub bytes_healed: u64,
    /// Which peer gave how many.
    pub fetched_from: Vec<FetchedFrom>,
    /// Peers that gave a false block, which was refused.
    pub refused_peers: Vec<String>,
    /// Attempts so far; 0 while it waits for `hbc node heal`.
    pub attempts: u32,
    /// What it waits for, or why the last attempt came to nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// Healing that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealedView {
    /// When.
    pub at: Timestamp,
    /// The first height that was wrong.
    pub first_bad_height: u64,
    /// What had been found.
    pub evidence: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Blocks taken from peers.
    pub blocks_healed: u64,
    /// Their bytes.
    pub bytes_healed: u64,
    /// Which peer gave how many.
    pub fetched_from: Vec<FetchedFrom>,
}

/// A peer's share in healing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FetchedFrom {
    /// The peer.
    pub node: String,
    /// Blocks that it gave.
    pub blocks: u64,
}

/// `GET /v1/members`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MembersView {
    /// In the order of their names.
    pub members: Vec<MemberView>,
}

/// A member of the ledger.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MemberView {
    /// Its name.
    pub name: String,
    /// Kid of its key.
    pub kid: Digest,
    /// Its Ed25519 public key.
    pub key: Bytes,
    /// Where this node reaches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// `GET /v1/keys/{kid}`: a consent key as the final state knows it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct KeyView {
    /// Its kid.
    pub kid: Digest,
    /// Whether it is registered and not revoked.
    pub live: bool,
    /// `seq` of its last consent event.
    pub seq: u64,
    /// Transaction of its last consent event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Digest>,
}

/// `GET /v1/grants/{key}/{grant}`: a grant as the final state knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantStateView {
    /// Kid of the consent key.
    pub key: Digest,
    /// The grant.
    pub grant: String,
    /// Whether it and its key are active.
    pub in_force: bool,
    /// Whether the grant itself is active.
    pub live: bool,
    /// Commitment to its body; absent when it was revoked before it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commitment: Option<Digest>,
    /// The key's `seq` of its last event.
    pub seq: u64,
    /// Its last transaction.
    pub last: Digest,
}

/// `GET /v1/staff/{key}`: a staff profile as the final state knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StaffView {
    /// Kid of the person's key.
    pub key: Digest,
    /// The person's Ed25519 public key, hex.
    pub public: String,
    /// The organisation.
    pub organisation: String,
    /// Its agency type.
    pub role: String,
    /// `active`, `suspended` or `revoked`.
    pub status: String,
    /// Commitment to what stays off the chain.
    pub commitment: Digest,
    /// How often the profile changed: the nonce of the next change.
    pub changes: u64,
    /// The transaction that reached the threshold last.
    pub last: Digest,
}

/// `POST /internal/v1/addresses`: where a node can be reached, in its own signed words.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnnounceAddress {
    /// JWS (`typ` `hbc-address+jws`) of the member's key over `{chain, iat, node, url}`.
    pub announcement: String,
}

/// The answer: what the others announced.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AddressesView {
    /// The latest announcement of each member that this node knows.
    pub announcements: Vec<String>,
}
