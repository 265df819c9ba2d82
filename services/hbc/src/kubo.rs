//! The private IPFS daemon: how its repository is made, configured and started.
//!
//! Nothing it stores may be announced or fetched from elsewhere, and nobody without the token may talk to it. So: its
//! own swarm key, no routing, no providing, no discovery, loopback only, and an allow-list of RPC paths.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use hbc_types::Random;
use serde_json::{Value, json};

use crate::settings::KuboSettings;

/// Oldest release whose private profile was tried.
const OLDEST: (u32, u32) = (0, 43);

/// The RPC paths that storage needs; Kubo matches them as prefixes and always allows `version`.
const ALLOWED_PATHS: [&str; 12] = [
    "/api/v0/add",
    "/api/v0/block/get",
    "/api/v0/block/put",
    "/api/v0/block/rm",
    "/api/v0/block/stat",
    "/api/v0/cat",
    "/api/v0/pin/add",
    "/api/v0/pin/ls",
    "/api/v0/pin/rm",
    "/api/v0/repo/gc",
    "/api/v0/repo/stat",
    "/api/v0/swarm/peers",
];

/// What the daemon must be told by its environment.
pub fn environment(repository: &Path) -> Vec<(String, String)> {
    [
        ("IPFS_PATH", repository.to_string_lossy().into_owned()),
        // It refuses to start without a swarm key, rather than join the public network.
        ("LIBP2P_FORCE_PNET", "1".to_owned()),
        ("IPFS_TELEMETRY", "off".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Finds a recent enough `ipfs`: on PATH, else the one that `make deps` built.
pub fn find() -> Result<PathBuf> {
    let mut candidates = vec![PathBuf::from("ipfs")];
    let built = Path::new("deploy/kubo/bin/ipfs");
    candidates.extend(std::path::absolute(built).ok());
    if let Ok(program) = std::env::current_exe() {
        candidates.extend(program.ancestors().skip(1).take(4).map(|folder| folder.join(built)));
    }
    for candidate in candidates {
        if version(&candidate).is_some_and(|found| found >= OLDEST) {
            return Ok(candidate);
        }
    }
    bail!(
        "no IPFS daemon found: `make deps` builds one, or put `ipfs` (Kubo) {}.{} or newer on PATH",
        OLDEST.0,
        OLDEST.1
    )
}

/// Major and minor version of an `ipfs` program, if it is one.
fn version(program: &Path) -> Option<(u32, u32)> {
    let output = Command::new(program).args(["version", "--number"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut parts = text.trim().split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Makes the repository: identity, swarm key and the private profile.
pub fn init(settings: &KuboSettings, repository: &Path, token: &str, random: &Random) -> Result<()> {
    let output = Command::new(&settings.program)
        .args(["init", "--empty-repo"])
        .envs(environment(repository))
        // The key is written below; `init` itself opens no connection.
        .env_remove("LIBP2P_FORCE_PNET")
        .output()
        .with_context(|| format!("cannot run `{}`", settings.program.display()))?;
    if !output.status.success() {
        bail!("`ipfs init` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let key = format!("/key/swarm/psk/1.0.0/\n/base16/\n{}\n", hex::encode(random.bytes::<32>()));
    crate::secret_file::write(&repository.join("swarm.key"), key.as_bytes())?;
    let path = repository.join("config");
    let text = std::fs::read(&path).context("cannot read Kubo's configuration")?;
    let mut config: Value = serde_json::from_slice(&text).context("Kubo's configuration is not JSON")?;
    merge(&mut config, private_profile(settings, token));
    let text = serde_json::to_vec_pretty(&config).context("cannot write Kubo's configuration")?;
    crate::secret_file::write(&path, &text)
}

/// The changes that make a fresh repository private.
fn private_profile(settings: &KuboSettings, token: &str) -> Value {
    json!({
        "API": { "Authorizations": {
            "storage": { "AuthSecret": format!("bearer:{token}"), "AllowedPaths": ALLOWED_PATHS },
            "storage-basic": { "AuthSecret": format!("basic:storage:{token}"), "AllowedPaths": ALLOWED_PATHS },
        }},
        "Addresses": {
            "API": format!("/ip4/127.0.0.1/tcp/{}", settings.api_port),
            "Announce": [],
            "AppendAnnounce": [],
            "Gateway": [],
            "Swarm": [format!("/ip4/127.0.0.1/tcp/{}", settings.swarm_port)],
        },
        "AutoConf": { "Enabled": false },
        "AutoTLS": { "Enabled": false },
        "Bootstrap": [],
        "DNS": { "Resolvers": {} },
        "Discovery": { "MDNS": { "Enabled": false } },
        "Ipns": { "DelegatedPublishers": [] },
        "Provide": { "Enabled": false },
        "Routing": { "Type": "none", "DelegatedRouters": [] },
        "Swarm": {
            "DisableNatPortMap": true,
            "EnableHolePunching": false,
            "RelayClient": { "Enabled": false },
            "RelayService": { "Enabled": false },
            "Transports": { "Network": {
                "QUIC": false, "Relay": false, "TCP": true, "WebRTCDirect": false, "WebTransport": false,
                "Websocket": false,
            }},
        },
        "Version": { "SwarmCheckEnabled": false },
    })
}

/// Lays `changes` over `config`: objects are merged, everything else (and an empty object) replaces.
fn merge(config: &mut Value, changes: Value) {
    match (config, changes) {
        (Value::Object(config), Value::Object(changes)) if !changes.is_empty() => {
            for (name, change) in changes {
                merge(config.entry(name).or_insert(Value::Null), change);
            }
        }
        (config, Value::Object(changes)) if !changes.is_empty() => {
            *config = Value::Object(serde_json::Map::new());
            merge(config, Value::Object(changes));
        }
        (config, changes) => *config = changes,
    }
}

#[cfg(test)]
mod tests;
