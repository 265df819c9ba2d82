//! The configuration of storage: one TOML file, overridden by `HBC_STORAGE__…` in the environment.

use std::path::PathBuf;

use hbc_app::{Configuration, Settings};
use hbc_service::config::SecretFile;
use serde::{Deserialize, Serialize};

/// Everything storage is told from outside.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What every service is told. `server.body_limit_bytes` bounds uploads.
    #[serde(flatten)]
    pub base: Settings,
    /// The key of index tokens and row encryption: it must not be in the database, nor in its backups.
    pub index_key_file: SecretFile,
    /// Folder of encrypted segments on their way to IPFS.
    pub spool_dir: PathBuf,
    /// Where auth answers (its JWKS).
    pub auth_url: String,
    /// Where access-policy answers.
    pub access_policy_url: String,
    /// The URLs under which `/fhir` is reached (`https://records.example/fhir`), beside the one that a request comes by: a
    /// reference that begins with one is read like a relative one.
    #[serde(default)]
    pub fhir_bases: Vec<String>,
    /// The page where patients answer third-party apps, as auth has it; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_page: Option<String>,
    /// The IPFS daemon.
    pub kubo: KuboSettings,
    /// When segments are anchored.
    #[serde(default)]
    pub anchors: AnchorSettings,
    /// How much may be written.
    #[serde(default)]
    pub room: RoomSettings,
    /// How unfinished work is cleaned up.
    #[serde(default)]
    pub reconcile: ReconcileSettings,
}

impl Configuration for Config {
    fn base(&self) -> &Settings {
        &self.base
    }
}

/// The IPFS daemon (Kubo) and its RPC.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KuboSettings {
    /// Where its RPC answers: `http://127.0.0.1:5001`.
    pub url: String,
    /// The RPC's user.
    #[serde(default = "kubo_user")]
    pub user: String,
    /// The RPC's password or token.
    pub token_file: SecretFile,
    /// How long a pin or a read may take, in seconds.
    #[serde(default = "kubo_timeout")]
    pub timeout_seconds: u64,
    /// Calls under way at once.
    #[serde(default = "kubo_calls")]
    pub calls: usize,
}

fn kubo_user() -> String {
    "storage".to_owned()
}
fn kubo_timeout() -> u64 {
    30
}
fn kubo_calls() -> usize {
    32
}

/// When segments are anchored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnchorSettings {
    /// A sensitive segment waits for its anchor a random time up to this many seconds, so that nobody tells by the ledger
    /// which upload it came with.
    pub sensitive_wait_seconds: u64,
}

impl Default for AnchorSettings {
    fn default() -> Self {
        Self { sensitive_wait_seconds: 30 * 60 }
    }
}

/// How much may be written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RoomSettings {
    /// With fewer bytes left on the spool's disk, uploads are refused and reads go on.
    pub free_bytes: u64,
    /// What one account may write on one UTC day, in bytes of encrypted segments.
    pub author_day_bytes: u64,
    /// What a patient may write in all.
    pub patient_bytes: u64,
}

impl Default for RoomSettings {
    fn default() -> Self {
        Self { free_bytes: 1 << 30, author_day_bytes: 2 << 30, patient_bytes: 50 << 30 }
    }
}

/// How unfinished work is cleaned up.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReconcileSettings {
    /// Seconds between two looks at the pins of segments, and at one segment's pin at least.
    pub every_seconds: u64,
    /// An upload that has not been committed after this many seconds is dead.
    pub intent_seconds: u64,
    /// Encrypted segments stay in the spool at least this long after their commit, to be pinned again if IPFS lost
    /// them.
    pub spool_seconds: u64,
}

impl Default for ReconcileSettings {
    fn default() -> Self {
        Self { every_seconds: 5, intent_seconds: 120, spool_seconds: 600 }
    }
}
