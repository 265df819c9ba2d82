//! The services' configurations in a fresh deployment: each service's own `Config`, for its row in the table.

use anyhow::Result;
use hbc_app::Settings;
use hbc_client::outgoing::OutgoingSettings;
use hbc_ledger::config::{PeerAddress, VerifyMode};
use hbc_service::ServerSettings;
use hbc_service::config::SecretFile;
use hbc_service::telemetry::TelemetrySettings;
use hbc_types::Digest;

use crate::deployment::Deployment;
use crate::ports::PortPlan;
use crate::settings::ServiceSettings;

/// Where a portal's pages are.
const PORTAL: u16 = 7100;

/// What the configurations are made of.
pub struct Plan<'a> {
    /// Where everything will lie.
    pub home: &'a Deployment,
    /// The processes and their ports.
    pub ports: &'a PortPlan,
    /// The chain.
    pub chain: Digest,
    /// For development: nobody has to wait.
    pub dev: bool,
}

impl Plan<'_> {
    fn server(port: u16) -> ServerSettings {
        ServerSettings { port, shutdown_seconds: 4, ..ServerSettings::default() }
    }

    fn url(port: u16) -> String {
        format!("http://127.0.0.1:{port}")
    }

    fn url_of(&self, name: &str) -> Result<String> {
        self.ports.of(name).map(Self::url)
    }

    fn secret(&self, name: &str) -> SecretFile {
        SecretFile::new(self.home.secret(name))
    }

    fn database(&self, name: &str) -> String {
        format!("sqlite:{}", self.home.data(name).join(format!("{name}.db")).display())
    }

    fn ledger_urls(&self) -> Vec<String> {
        self.ports.nodes().map(|node| Self::url(node.port)).collect()
    }

    fn audience(&self) -> String {
        let chain = self.chain.to_string();
        format!("urn:hbc:{}", chain.get(..16).unwrap_or_default())
    }

    /// What every service is told.
    fn base(&self, process: &ServiceSettings) -> Result<Settings> {
        let name = &process.name;
        Ok(Settings {
            server: Self::server(process.port),
            telemetry: TelemetrySettings::default(),
            database_url: Some(self.database(name)),
            database_url_file: None,
            genesis_file: self.home.genesis(),
            service_key_file: self.secret(&format!("{name}.key")),
            issuer: self.url_of("auth")?,
            audience: self.audience(),
            ledger_urls: self.ledger_urls(),
        })
    }

    /// auth's.
    pub fn auth(&self, process: &ServiceSettings) -> Result<hbc_auth::Config> {
        Ok(hbc_auth::Config {
            base: self.base(process)?,
            token_key_file: self.secret("token.key"),
            old_token_key_file: Some(self.secret("token.old.key")),
            rows_key_file: self.secret("rows-auth.key"),
            journal_file: self.home.journal("auth.rights"),
            operators_file: Some(self.secret("operators.json")),
            access_policy_url: self.url_of("access-policy")?,
            passwords: hbc_auth::PasswordSettings::default(),
            sessions: hbc_auth::SessionSettings::default(),
            // A deployment has a page for apps once somebody made one.
            apps: None,
            outgoing: OutgoingSettings::default(),
            // A browser takes `localhost` for safe without a certificate, and no number for a domain.
            webauthn: Some(hbc_auth::WebauthnSettings {
                rp_id: "localhost".to_owned(),
                origins: vec![format!("http://localhost:{PORTAL}")],
            }),
        })
    }

    /// access-policy's.
    pub fn access_policy(&self, process: &ServiceSettings) -> Result<hbc_access_policy::Config> {
        let mut base = self.base(process)?;
        // Ten thousand keys in one request.
        base.server.json_limit_bytes = 8 << 20;
        Ok(hbc_access_policy::Config {
            base,
            master_key_file: self.secret("master.key"),
            rows_key_file: self.secret("rows-policy.key"),
            journal_file: self.home.journal("access-policy.rights"),
            auth_url: self.url_of("auth")?,
            receipt_batch_ms: 2_000,
        })
    }

    /// storage's.
    pub fn storage(&self, process: &ServiceSettings) -> Result<hbc_storage::Config> {
        let mut base = self.base(process)?;
        // A whole Synthea patient is up to a few dozen megabytes.
        base.server.body_limit_bytes = 64 << 20;
        Ok(hbc_storage::Config {
            base,
            index_key_file: self.secret("index.key"),
            spool_dir: self.home.data(&process.name).join("spool"),
            auth_url: self.url_of("auth")?,
            access_policy_url: self.url_of("access-policy")?,
            fhir_bases: vec![format!("{}/fhir", Self::url(process.port))],
            authorization_page: None,
            kubo: hbc_storage::KuboSettings {
                url: Self::url(self.ports.kubo_api),
                user: "storage".to_owned(),
                token_file: self.secret("kubo.token"),
                timeout_seconds: 30,
                calls: 32,
            },
            anchors: match self.dev {
                true => hbc_storage::AnchorSettings { sensitive_wait_seconds: 1 },
                false => hbc_storage::AnchorSettings::default(),
            },
            room: hbc_storage::RoomSettings::default(),
            reconcile: hbc_storage::ReconcileSettings::default(),
        })
    }

    /// A ledger node's.
    pub fn node(&self, process: &ServiceSettings) -> Result<hbc_ledger::Config> {
        let ServiceSettings { name, port, .. } = process;
        let peers = self.ports.nodes().filter(|node| node.name != *name);
        let peers = peers.map(|node| PeerAddress { name: node.name.clone(), url: Self::url(node.port) });
        Ok(hbc_ledger::Config {
            name: name.clone(),
            genesis_file: self.home.genesis(),
            key_file: self.secret(&format!("{name}.key")),
            next_key_file: None,
            address: Some(Self::url(*port)),
            data_dir: self.home.data(name),
            verify: VerifyMode::Incremental,
            include_within_ms: 10_000,
            sampled_blocks: 4,
            scrub_period_s: 600,
            challenge_period_s: 60,
            submissions_per_second: 20_000,
            block_bytes_per_second: 8 << 20,
            heal: hbc_ledger::config::HealMode::Auto,
            create_store: true,
            server: Self::server(*port),
            telemetry: TelemetrySettings::default(),
            peers: peers.collect(),
        })
    }
}
