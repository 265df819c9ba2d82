//! The configuration of access-policy: one TOML file, every key documented, unknown keys refused.

use std::path::PathBuf;

use hbc_app::{Configuration, Settings};
use hbc_service::config::SecretFile;
use serde::{Deserialize, Serialize};

/// Everything that can be set. Paths may be relative to the working folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What every service is told. `server.json_limit_bytes` must take a request for 10,000 keys: some 3 MB.
    #[serde(flatten)]
    pub base: Settings,
    /// The master key above all key-encryption keys; it belongs outside the data folder.
    pub master_key_file: SecretFile,
    /// The key of the MACs over rows that give or take rights; it must not be in the database it guards.
    pub rows_key_file: SecretFile,
    /// The journal of rights: what was revoked, frozen, denied and ended, which no restored database may undo. It belongs on
    /// another disk than the database, and outside its backups.
    pub journal_file: PathBuf,
    /// Where auth answers (`http://host:port`): its key set verifies users' tokens.
    pub auth_url: String,
    /// Receipts wait at most this long for their batch, in milliseconds (100 to 5,000).
    #[serde(default = "default_batch_ms")]
    pub receipt_batch_ms: u64,
}

const fn default_batch_ms() -> u64 {
    2_000
}

impl Configuration for Config {
    fn base(&self) -> &Settings {
        &self.base
    }
}

impl Config {
    /// The interval between batches, within its bounds.
    #[must_use]
    pub fn batch_interval(&self) -> std::time::Duration {
        std::time::Duration::from_millis(self.receipt_batch_ms.clamp(100, 5_000))
    }
}
