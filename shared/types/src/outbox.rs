//! What a service keeps about its ledger transactions until they are final, and how far it followed the chain.
//!
//! The rows live in the service's database (`hbc_db::outbox`, `hbc_db::follow`), the loops that drive them in
//! `hbc_client::ledger`; these types are what the two exchange.

use crate::{Digest, Timestamp};

/// A signed transaction that a service owes the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTransaction {
    /// SHA-256 of 0x00 and the signed bytes.
    pub txid: Digest,
    /// Kid of the signing key: its transactions are sent in the order they were enqueued.
    pub author: Digest,
    /// The transaction's `type`.
    pub kind: String,
    /// The service's own name for what this is about (a grant, a segment); empty if there is none.
    pub reference: String,
    /// The signed bytes. They are sent as they are and never signed again.
    pub jws: String,
}

/// A transaction that is not settled yet, with where it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenTransaction {
    /// Position in the outbox.
    pub seq: i64,
    /// SHA-256 of 0x00 and the signed bytes.
    pub txid: Digest,
    /// Kid of the signing key.
    pub author: Digest,
    /// The transaction's `type`.
    pub kind: String,
    /// The service's own name for what this is about.
    pub reference: String,
    /// The signed bytes.
    pub jws: String,
    /// When it was enqueued.
    pub enqueued_at: Timestamp,
    /// How often it was sent.
    pub attempts: u32,
    /// Name of the node that promised it.
    pub node: Option<String>,
    /// By when that node promised to have it in a block.
    pub include_by: Option<Timestamp>,
}

/// How a transaction stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransactionState {
    /// Not promised by any node yet.
    Waiting,
    /// A node promised it.
    Submitted,
    /// In a block that more than two thirds of the members signed.
    Final {
        /// Height of that block.
        height: u64,
        /// Index of its leaf in the log.
        log_index: u64,
    },
    /// The ledger's rules exclude it for ever.
    Refused {
        /// Slug of the problem.
        reason: String,
        /// The final transaction that excludes it, where one does.
        excluded_by: Option<Digest>,
    },
}

/// How far a service followed the chain: stored together with the effects of the block it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowPosition {
    /// Height of the last block applied.
    pub height: u64,
    /// Its hash.
    pub block_hash: Digest,
    /// The follower's own state at that height, as JSON; opaque to the database.
    pub state: String,
}

/// What became of an attempt to submit a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmitOutcome {
    /// A node promised it.
    Submitted {
        /// The transaction.
        txid: Digest,
        /// The node.
        node: String,
        /// By when it promised to have it in a block.
        include_by: Timestamp,
        /// When it is due again if it is not final by then.
        look_again: Timestamp,
    },
    /// No node took it this time.
    Postponed {
        /// The transaction.
        txid: Digest,
        /// When it is due again.
        again: Timestamp,
    },
    /// More than a third of the members exclude it: at least one honest one does.
    Refused {
        /// The transaction.
        txid: Digest,
        /// Slug of the problem.
        reason: String,
        /// The final transaction that excludes it, where one does.
        excluded_by: Option<Digest>,
    },
}
