//! The configuration of auth: one TOML file, overridden by `HBC_AUTH__…` in the environment.

use std::path::PathBuf;

use ed25519_dalek::VerifyingKey;
use hbc_app::{Configuration, Settings};
use hbc_client::outgoing::OutgoingSettings;
use hbc_service::config::{ConfigError, SecretFile};
use serde::{Deserialize, Serialize};

/// Everything auth is told from outside.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What every service is told.
    #[serde(flatten)]
    pub base: Settings,
    /// The key that signs access tokens.
    pub token_key_file: SecretFile,
    /// The key that signed them before (`hbc key rotate`): what it signed is believed until it expires. The file may be
    /// missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_token_key_file: Option<SecretFile>,
    /// The key that encrypts rows: it must not be in the database, nor in its backups.
    pub rows_key_file: SecretFile,
    /// The journal of rights: which passwords were changed, codes used and sessions ended, which no restored database may
    /// undo. It belongs on another disk than the database.
    pub journal_file: PathBuf,
    /// The first operators, read at start; accounts that exist are left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operators_file: Option<SecretFile>,
    /// Where access-policy answers.
    pub access_policy_url: String,
    /// How passwords are worked on.
    #[serde(default)]
    pub passwords: PasswordSettings,
    /// How long sessions live.
    #[serde(default)]
    pub sessions: SessionSettings,
    /// How third-party apps come to patients; without it none can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apps: Option<AppSettings>,
    /// Where requests to addresses that others chose may go.
    #[serde(default)]
    pub outgoing: OutgoingSettings,
    /// For whom passkeys are made. Without it there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webauthn: Option<WebauthnSettings>,
}

impl Config {
    /// The public keys that access tokens are believed under; the first one signs.
    pub fn token_keys(&self) -> Result<Vec<VerifyingKey>, ConfigError> {
        let old = self.old_token_key_file.as_ref().filter(|file| file.path().exists());
        let files = std::iter::once(&self.token_key_file).chain(old);
        files.map(|file| Ok(file.signing_key()?.verifying_key())).collect()
    }
}

impl Configuration for Config {
    fn base(&self) -> &Settings {
        &self.base
    }
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

/// How third-party apps come to patients.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppSettings {
    /// The page where a patient answers an app: the authorisation endpoint (RFC 6749 §3.1).
    pub page: String,
    /// The address of the FHIR server, as apps know it: they name it as `aud`.
    pub fhir_url: String,
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

/// For whom passkeys are made (WebAuthn Level 3 §4, "Relying Party Identifier"). Whoever changes the domain makes all passkeys
/// useless.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebauthnSettings {
    /// The domain of the portal, or one above it.
    pub rp_id: String,
    /// The origins of the pages that may make and use passkeys, as browsers write them: `https://HOST` or `https://HOST:PORT`;
    /// `http` for localhost alone.
    pub origins: Vec<String>,
}
