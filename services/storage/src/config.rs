//! The configuration of storage: one TOML file, overridden by `HBC_STORAGE__…` in the environment.

use std::path::PathBuf;

use hbc_service::ServerSettings;
use hbc_service::config::SecretFile;
use hbc_service::telemetry::TelemetrySettings;
use serde::{Deserialize, Serialize};

/// Everything storage is told from outside.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens. `body_limit_bytes` bounds uploads.
    #[serde(default)]
    pub server: ServerSettings,
    /// How it logs.
    #[serde(default)]
    pub telemetry: TelemetrySettings,
    /// Its database: `sqlite:PATH` or `postgres://…`.
    pub database: String,
    /// A file that holds the database's address instead, where that holds a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_file: Option<SecretFile>,
    /// The deployment's genesis.json: chain id, members, service keys.
    pub genesis_file: PathBuf,
    /// Its service key: signs calls to other services and its ledger transactions.
    pub service_key_file: SecretFile,
    /// The key of index tokens and row seals: it must not be in the database, nor in its backups.
    pub index_key_file: SecretFile,
    /// Folder of sealed segments on their way to IPFS.
    pub spool_dir: PathBuf,
    /// `iss` of access tokens.
    pub issuer: String,
    /// `aud` of access tokens: the deployment.
    pub audience: String,
    /// Where auth answers (its JWKS).
    pub auth_url: String,
    /// Where access-policy answers.
    pub access_policy_url: String,
    /// Where the ledger nodes answer.
    pub ledger_urls: Vec<String>,
    /// The IPFS daemon.
    pub kubo: KuboSettings,
    /// How unfinished work is cleaned up.
    #[serde(default)]
    pub reconcile: ReconcileSettings,
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

/// How unfinished work is cleaned up.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReconcileSettings {
    /// Seconds between two rounds.
    pub every_seconds: u64,
    /// An upload that has not been committed after this many seconds is dead.
    pub intent_seconds: u64,
    /// Sealed segments stay in the spool at least this long after their commit, to be pinned again if IPFS lost them.
    pub spool_seconds: u64,
}

impl Default for ReconcileSettings {
    fn default() -> Self {
        Self { every_seconds: 5, intent_seconds: 120, spool_seconds: 600 }
    }
}
