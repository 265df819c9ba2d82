//! `DIR/hbc.toml`: which processes `hbc up` runs on this machine.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// The supervisor's settings. A member that runs only its ledger node lists only that service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// A development deployment: logins are kept in `secrets/logins.json`.
    pub dev: bool,
    /// The IPFS daemon; absent where storage uses one that somebody else runs.
    pub kubo: Option<KuboSettings>,
    /// The services, in the order in which they are started.
    #[serde(rename = "service")]
    pub services: Vec<ServiceSettings>,
}

/// The IPFS daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KuboSettings {
    /// The `ipfs` program.
    pub program: PathBuf,
    /// Port of its RPC on loopback.
    pub api_port: u16,
    /// Port of its private swarm on loopback.
    pub swarm_port: u16,
}

/// One service process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSettings {
    /// Its name; `config/NAME.toml` is its configuration.
    pub name: String,
    /// Which service it is, as the table calls it.
    pub role: String,
    /// The port it listens on, as its configuration says too.
    pub port: u16,
}

impl ServiceSettings {
    /// Whether it is a member's ledger node.
    pub fn is_node(&self) -> bool {
        self.role == "ledger"
    }
}

impl Settings {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read `{}`; `hbc init` makes a deployment", path.display()))?;
        toml::from_str(&text).with_context(|| format!("`{}` is not usable", path.display()))
    }

    /// The address of a service on this machine.
    pub fn url(&self, name: &str) -> Option<String> {
        let service = self.services.iter().find(|service| service.name == name)?;
        Some(format!("http://127.0.0.1:{}", service.port))
    }
}
