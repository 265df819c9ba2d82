//! The configuration of auth: one TOML file, overridden by `HBC_AUTH__…` in the environment.

use std::path::PathBuf;

use hbc_service::ServerSettings;
use hbc_service::config::SecretFile;
use hbc_service::telemetry::TelemetrySettings;
use serde::{Deserialize, Serialize};

/// Everything auth is told from outside.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens.
    #[serde(default)]
    pub server: ServerSettings,
    /// How it logs.
    #[serde(default)]
    pub telemetry: TelemetrySettings,
    /// Its database: `sqlite:PATH` or `postgres://…`.
    pub database_url: String,
    /// The deployment's genesis.json: chain id, members, service keys, operators, parameters.
    pub genesis_file: PathBuf,
    /// Its service key: signs calls to other services and its ledger transactions.
    pub service_key_file: SecretFile,
    /// The key that signs access tokens.
    pub token_key_file: SecretFile,
    /// The key that seals rows: it must not be in the database, nor in its backups.
    pub rows_key_file: SecretFile,
    /// The first operators, read at start; accounts that exist are left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operators_file: Option<SecretFile>,
    /// `iss` of access tokens: the address under which clients know auth.
    pub issuer: String,
    /// `aud` of access tokens: the deployment.
    pub audience: String,
    /// Where access-policy answers.
    pub access_policy_url: String,
    /// Where the ledger nodes answer.
    pub ledger_urls: Vec<String>,
    /// How passwords are worked on.
    #[serde(default)]
    pub passwords: PasswordSettings,
    /// How long sessions live.
    #[serde(default)]
    pub sessions: SessionSettings,
}

/// How passwords are worked on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PasswordSettings {
    /// Argon2id hashes under way at once; each takes 19 MiB and about 30 ms of a core. 0: one a core.
    pub threads: usize,
    /// Hashes waiting at most; beyond that 503.
    pub waiting: usize,
}

impl Default for PasswordSettings {
    fn default() -> Self {
        Self { threads: 0, waiting: 64 }
    }
}

/// How long sessions live.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionSettings {
    /// Hours without a refresh after which a session ends.
    pub idle_hours: u32,
    /// Days after which it ends in any case.
    pub days: u32,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self { idle_hours: 24, days: 14 }
    }
}
