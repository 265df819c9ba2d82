//! The configuration of access-policy: one TOML file, every key documented, unknown keys refused.

use std::path::PathBuf;

use hbc_service::ServerSettings;
use hbc_service::config::SecretFile;
use hbc_service::telemetry::TelemetrySettings;
use serde::{Deserialize, Serialize};

/// Everything that can be set. Paths may be relative to the working folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `sqlite:PATH` or `postgres://…`.
    pub database_url: String,
    /// The deployment's genesis: members, service keys, chain.
    pub genesis_file: PathBuf,
    /// Seed of this service's signing key, as the genesis names it.
    pub service_key_file: SecretFile,
    /// The master key above all key-encryption keys; it belongs outside the data folder.
    pub master_key_file: SecretFile,
    /// The key of the MACs over rows that give or take rights; it must not be in the database it guards.
    pub rows_key_file: SecretFile,
    /// Where auth answers (`http://host:port`): its key set verifies users' tokens.
    pub auth_url: String,
    /// `iss` of users' tokens.
    pub issuer: String,
    /// `aud` of users' tokens.
    pub audience: String,
    /// Where the ledger nodes answer, in the order in which they are tried.
    pub ledger_urls: Vec<String>,
    /// Receipts wait at most this long for their batch, in milliseconds (100 to 5,000).
    #[serde(default = "default_batch_ms")]
    pub receipt_batch_ms: u64,
    /// Where and how to listen.
    #[serde(default)]
    pub server: ServerSettings,
    /// Logs.
    #[serde(default)]
    pub telemetry: TelemetrySettings,
}

const fn default_batch_ms() -> u64 {
    2_000
}

impl Config {
    /// The interval between batches, within its bounds.
    #[must_use]
    pub fn batch_interval(&self) -> std::time::Duration {
        std::time::Duration::from_millis(self.receipt_batch_ms.clamp(100, 5_000))
    }
}
