//! What a ledger node is told: who it is, where its genesis, key and data lie, and where the others are.

use std::path::PathBuf;

use hbc_service::ServerSettings;
use hbc_service::config::SecretFile;
use hbc_service::telemetry::TelemetrySettings;
use serde::{Deserialize, Serialize};

/// Configuration of one ledger node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The member's name, as in the genesis or in the vote that adds it.
    pub name: String,
    /// genesis.json of the deployment.
    pub genesis_file: PathBuf,
    /// The member's Ed25519 seed, 64 hex digits.
    pub key_file: SecretFile,
    /// While the key is changed: the next one. The node signs with whichever is in the set of members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_key_file: Option<SecretFile>,
    /// Its own base address as the other members reach it, `http://host:port`. They learn it from this node, signed;
    /// without it they must have it in their configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Folder for the database, the log and the checkpoint.
    pub data_dir: PathBuf,
    /// How much is verified before each vote and each group of promises.
    #[serde(default)]
    pub verify: VerifyMode,
    /// A promise says that the transaction is final within this time, in milliseconds.
    #[serde(default = "include_within")]
    pub include_within_ms: u64,
    /// Blocks compared at random in each incremental verification.
    #[serde(default = "sampled_blocks")]
    pub sampled_blocks: u32,
    /// Within this many seconds all stored bytes are read again and compared, in pieces.
    #[serde(default = "scrub_period_s")]
    pub scrub_period_s: u64,
    /// Mean time in seconds between two questions to other members about an old block.
    #[serde(default = "challenge_period_s")]
    pub challenge_period_s: u64,
    /// Submitted transactions per second and address.
    #[serde(default = "submissions_per_second")]
    pub submissions_per_second: u32,
    /// Bytes of blocks that are read for an address in a second, eight seconds of it at once. Members and the deployment's
    /// services are not bound by it.
    #[serde(default = "block_bytes_per_second")]
    pub block_bytes_per_second: u32,
    /// Whether a store that was changed is healed without being asked.
    #[serde(default)]
    pub heal: HealMode,
    /// Make the database if it is missing. Off, a node whose store vanished does not start.
    #[serde(default = "yes")]
    pub create_store: bool,
    /// Where and how it listens.
    #[serde(default)]
    pub server: ServerSettings,
    /// How it logs.
    #[serde(default)]
    pub telemetry: TelemetrySettings,
    /// Other nodes and where they are; a member's own announcement wins over it.
    #[serde(default)]
    pub peers: Vec<PeerAddress>,
}

/// How much of the store is verified before it is relied upon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerifyMode {
    /// Every earlier block, on a fresh connection, each time.
    Full,
    /// The tip, foreign writes, a random sample; everything as soon as one of these is wrong.
    #[default]
    Incremental,
}

impl VerifyMode {
    /// As `/v1/status` says it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
        }
    }
}

/// What a node does once its store was found changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealMode {
    /// Makes its database anew from what is still good and from the peers.
    #[default]
    Auto,
    /// Waits for `hbc node heal`.
    Manual,
}

/// Another node's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerAddress {
    /// Its name.
    pub name: String,
    /// Its base address, `http://host:port`.
    pub url: String,
}

const fn include_within() -> u64 {
    10_000
}

const fn sampled_blocks() -> u32 {
    4
}

const fn scrub_period_s() -> u64 {
    600
}

const fn challenge_period_s() -> u64 {
    60
}

const fn submissions_per_second() -> u32 {
    20_000
}

const fn block_bytes_per_second() -> u32 {
    8 << 20
}

const fn yes() -> bool {
    true
}
