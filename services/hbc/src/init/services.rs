//! The services' configuration files: each service's own `Config`, written out.

use anyhow::{Context as _, Result};
use hbc_app::Settings;
use hbc_ledger::config::{PeerAddress, VerifyMode};
use hbc_service::ServerSettings;
use hbc_service::config::SecretFile;
use hbc_service::telemetry::TelemetrySettings;
use serde::Serialize;

use super::founding::Founding;
use crate::deployment::Deployment;
use crate::ports::PortPlan;

/// Writes every service's file into `place`, with paths as they will be in `home`.
pub fn write(place: &Deployment, home: &Deployment, ports: &PortPlan, founding: &Founding) -> Result<()> {
    let plan = Plan { home, ports, founding };
    save(place, "auth", &plan.auth())?;
    save(place, "access-policy", &plan.access_policy())?;
    save(place, "storage", &plan.storage())?;
    for (number, port) in (1..).zip(&ports.nodes) {
        let name = format!("node-{number}");
        save(place, &name, &plan.node(&name, *port))?;
    }
    Ok(())
}

fn save(place: &Deployment, name: &str, config: &impl Serialize) -> Result<()> {
    let text = toml::to_string_pretty(config).with_context(|| format!("the configuration of {name}"))?;
    let path = place.config(name);
    std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))
}

struct Plan<'a> {
    home: &'a Deployment,
    ports: &'a PortPlan,
    founding: &'a Founding,
}

impl Plan<'_> {
    fn server(port: u16) -> ServerSettings {
        ServerSettings { port, shutdown_seconds: 4, ..ServerSettings::default() }
    }

    fn url(port: u16) -> String {
        format!("http://127.0.0.1:{port}")
    }

    fn secret(&self, name: &str) -> SecretFile {
        SecretFile::new(self.home.secret(name))
    }

    fn database(&self, name: &str) -> String {
        format!("sqlite:{}", self.home.data(name).join(format!("{name}.db")).display())
    }

    fn ledger_urls(&self) -> Vec<String> {
        self.ports.nodes.iter().map(|port| Self::url(*port)).collect()
    }

    fn audience(&self) -> String {
        let chain = self.founding.chain.to_string();
        format!("urn:hbc:{}", chain.get(..16).unwrap_or_default())
    }

    /// What every service is told.
    fn base(&self, name: &str, port: u16) -> Settings {
        Settings {
            server: Self::server(port),
            telemetry: TelemetrySettings::default(),
            database_url: Some(self.database(name)),
            database_url_file: None,
            genesis_file: self.home.genesis(),
            service_key_file: self.secret(&format!("{name}.key")),
            issuer: Self::url(self.ports.auth),
            audience: self.audience(),
            ledger_urls: self.ledger_urls(),
        }
    }

    fn auth(&self) -> hbc_auth::Config {
        hbc_auth::Config {
            base: self.base("auth", self.ports.auth),
            token_key_file: self.secret("token.key"),
            rows_key_file: self.secret("rows-auth.key"),
            operators_file: Some(self.secret("operators.json")),
            access_policy_url: Self::url(self.ports.access_policy),
            passwords: hbc_auth::PasswordSettings::default(),
            sessions: hbc_auth::SessionSettings::default(),
        }
    }

    fn access_policy(&self) -> hbc_access_policy::Config {
        let mut base = self.base("access-policy", self.ports.access_policy);
        // Ten thousand keys in one request.
        base.server.json_limit_bytes = 8 << 20;
        hbc_access_policy::Config {
            base,
            master_key_file: self.secret("master.key"),
            rows_key_file: self.secret("rows-policy.key"),
            auth_url: Self::url(self.ports.auth),
            receipt_batch_ms: 2_000,
        }
    }

    fn storage(&self) -> hbc_storage::Config {
        let mut base = self.base("storage", self.ports.storage);
        // A whole Synthea patient is up to a few dozen megabytes.
        base.server.body_limit_bytes = 64 << 20;
        hbc_storage::Config {
            base,
            index_key_file: self.secret("index.key"),
            spool_dir: self.home.data("storage").join("spool"),
            auth_url: Self::url(self.ports.auth),
            access_policy_url: Self::url(self.ports.access_policy),
            kubo: hbc_storage::KuboSettings {
                url: Self::url(self.ports.kubo_api),
                user: "storage".to_owned(),
                token_file: self.secret("kubo.token"),
                timeout_seconds: 30,
                calls: 32,
            },
            reconcile: hbc_storage::ReconcileSettings::default(),
        }
    }

    fn node(&self, name: &str, port: u16) -> hbc_ledger::config::Config {
        let peers = (1..)
            .zip(&self.ports.nodes)
            .map(|(number, port)| PeerAddress { name: format!("node-{number}"), url: Self::url(*port) });
        let peers = peers.filter(|peer| peer.name != name);
        hbc_ledger::config::Config {
            name: name.to_owned(),
            genesis_file: self.home.genesis(),
            key_file: self.secret(&format!("{name}.key")),
            next_key_file: None,
            address: Some(Self::url(port)),
            data_dir: self.home.data(name),
            verify: VerifyMode::Incremental,
            include_within_ms: 10_000,
            sampled_blocks: 4,
            scrub_period_s: 600,
            challenge_period_s: 60,
            submissions_per_second: 20_000,
            heal: hbc_ledger::config::HealMode::Auto,
            create_store: true,
            server: Self::server(port),
            telemetry: hbc_service::telemetry::TelemetrySettings::default(),
            peers: peers.collect(),
        }
    }
}
