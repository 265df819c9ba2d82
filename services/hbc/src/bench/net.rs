//! Ledger members in processes of their own, on a fresh chain in a folder that goes away.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use ed25519_dalek::SigningKey;
use hbc_client::Endpoint;
use hbc_client::operations::ledger;
use hbc_ledger::config::{Config, VerifyMode};
use hbc_types::account::ServiceRole;
use hbc_types::wire::ledger::NodeStatus;
use hbc_types::{Clock, Digest, Random};
use tokio::process::{Child, Command};

use super::processor;
use crate::cli::BenchLedger;
use crate::deployment::Deployment;
use crate::init::founding::{Founding, Terms};
use crate::init::keys::Keys;
use crate::ports::{PortPlan, Ports};
use crate::scratch::Scratch;
use crate::{init, services};

/// How long the members may take to hear each other.
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A chain of its own, laid out but not running.
pub struct Founded {
    /// Its folder.
    pub deployment: Deployment,
    /// The chain.
    pub chain: Digest,
    /// The first member's key.
    pub member: SigningKey,
    /// Keys of two services: what they sign, every member checks.
    pub access_policy: SigningKey,
    /// The other.
    pub storage: SigningKey,
    ports: Vec<u16>,
    _gone_with_this: Scratch,
}

impl Founded {
    /// Makes keys, genesis and configurations for so many members.
    pub fn new(members: u16, terms: Terms, full: bool, clock: &Clock, random: &Random) -> Result<Self> {
        let scratch = Scratch::new("hbc-bench", random)?;
        let deployment = Deployment::at(scratch.path())?;
        let keys = Keys::generate(members, random);
        let founding = Founding::new(terms, &keys, clock, random)?;
        let plan = PortPlan::choose(Ports::Auto, services::processes(members), random)?;
        init::lay_out(&deployment, &deployment, &plan, &keys, &founding)?;
        for (name, _) in &keys.nodes {
            configure(&deployment.config(name), full)?;
        }
        let member = keys.nodes.first().context("no member")?.1.clone();
        let service = |wanted| {
            let found = keys.services.iter().find(|(role, _)| *role == wanted);
            found.map(|(_, key)| key.clone()).context("no service")
        };
        Ok(Self {
            deployment,
            chain: founding.chain,
            member,
            access_policy: service(ServiceRole::AccessPolicy)?,
            storage: service(ServiceRole::Storage)?,
            ports: plan.nodes().map(|node| node.port).collect(),
            _gone_with_this: scratch,
        })
    }
}

fn configure(path: &Path, full: bool) -> Result<()> {
    let text = std::fs::read_to_string(path).context("cannot read a configuration")?;
    let mut config: Config = toml::from_str(&text).context("a configuration made here")?;
    config.verify = if full { VerifyMode::Full } else { VerifyMode::Incremental };
    config.submissions_per_second = u32::MAX;
    config.block_bytes_per_second = u32::MAX;
    std::fs::write(path, toml::to_string_pretty(&config)?).context("cannot write a configuration")
}

/// What the measured chains are founded with.
pub const fn terms(args: &BenchLedger) -> Terms {
    Terms { zero_bits: args.zero_bits, min_spacing_ms: args.min_spacing, ..Terms::of(true) }
}

/// Running members.
pub struct Net {
    /// What they run on.
    pub founded: Founded,
    /// Their addresses, in order.
    pub nodes: Vec<Endpoint>,
    children: Vec<Child>,
}

impl Net {
    /// Founds a chain and starts its members.
    pub async fn start(members: u16, args: &BenchLedger, clock: &Clock, random: &Random) -> Result<Self> {
        Self::run(Founded::new(members, terms(args), args.full, clock, random)?).await
    }

    /// Starts the members and waits until each hears all others.
    pub async fn run(founded: Founded) -> Result<Self> {
        let program = std::env::current_exe().context("this program has no path")?;
        let (mut nodes, mut children) = (Vec::new(), Vec::new());
        for (number, port) in (1..).zip(&founded.ports) {
            nodes.push(Endpoint::new(&format!("http://127.0.0.1:{port}"))?);
            let name = format!("node-{number}");
            let log = std::fs::File::create(founded.deployment.log(&name)).context("cannot write a log")?;
            let child = Command::new(&program)
                .args(["serve", "ledger", "--until-input-closes", "--config"])
                .arg(founded.deployment.config(&name))
                .stdin(Stdio::piped())
                .stdout(log.try_clone().context("cannot write a log")?)
                .stderr(log)
                .kill_on_drop(true)
                .spawn()
                .context("cannot start a member")?;
            children.push(child);
        }
        let mut net = Self { founded, nodes, children };
        net.wait_until_heard().await?;
        Ok(net)
    }

    async fn wait_until_heard(&mut self) -> Result<()> {
        let began = Instant::now();
        loop {
            let mut heard = 0;
            for node in &self.nodes {
                let status = node.to(ledger::read_status()).once().fetch().await;
                heard += usize::from(status.is_ok_and(|status| status.members_seen == status.members));
            }
            if heard == self.nodes.len() {
                return Ok(());
            }
            for child in &mut self.children {
                if let Some(status) = child.try_wait().context("cannot watch a member")? {
                    bail!("a member ended ({status})");
                }
            }
            if began.elapsed() > START_LIMIT {
                bail!("the members do not hear each other");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Transactions in blocks on each member.
    pub async fn included(&self) -> Result<Vec<u64>> {
        let mut all = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let status: NodeStatus = node.to(ledger::read_status()).fetch().await?;
            // Every block adds its parent's header to the log.
            all.push(status.log_size.saturating_sub(status.height));
        }
        Ok(all)
    }

    /// Memory of all members together, where the system tells it.
    pub fn resident_bytes(&self) -> Option<u64> {
        self.children.iter().map(|child| processor::resident_bytes(child.id()?)).sum()
    }

    /// Processor time of all members together so far, where the system tells it.
    pub fn processor_time(&self) -> Option<Duration> {
        self.children.iter().map(|child| processor::time(child.id()?)).sum()
    }

    /// Ends the members in good order.
    pub async fn stop(mut self) -> Result<()> {
        for child in &mut self.children {
            drop(child.stdin.take());
        }
        for child in &mut self.children {
            let ended = tokio::time::timeout(STOP_LIMIT, child.wait()).await;
            let status = ended.context("a member does not end")??;
            if !status.success() {
                bail!("a member ended badly: {status}");
            }
        }
        Ok(())
    }
}
