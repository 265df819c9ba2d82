//! `hbc node stop|start|heal NAME DIR`: suspends and resumes the supervision of one child of a running deployment,
//! and makes the database of a ledger node anew while it is suspended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hbc_client::Endpoint;
use hbc_client::operations::ledger;
use hbc_ledger::node::heal::{Board as Healing, stopped::Healed};
use hbc_types::Clock;
use hbc_types::wire::ledger::{NodeState, NodeStatus};
use rustix::process::Signal;

use crate::deployment::Deployment;
use crate::process_id::ProcessId;
use crate::settings::Settings;
use crate::supervise::{Board, Standings, State};

/// How long a child may take to reach the wished state.
const LIMIT: Duration = Duration::from_secs(60);
/// How often a wait or healing tells how it stands.
const TELL: Duration = Duration::from_secs(3);

/// How the ledger nodes of a deployment say that they stand.
pub struct Conditions {
    nodes: Vec<(String, Endpoint)>,
    runtime: tokio::runtime::Runtime,
}

impl Conditions {
    /// Those of this deployment.
    pub fn of(deployment: &Deployment, runtime: tokio::runtime::Runtime) -> Result<Self> {
        let settings = Settings::read(&deployment.settings())?;
        let ledger = settings.services.iter().filter(|service| service.is_node());
        let mut nodes = Vec::new();
        for service in ledger {
            let url = settings.url(&service.name).context("a service without an address")?;
            nodes.push((service.name.clone(), Endpoint::new(&url)?));
        }
        Ok(Self { nodes, runtime })
    }

    /// The status of a ledger node that answers and is not well.
    pub fn unwell(&self, name: &str) -> Option<NodeStatus> {
        let (_, node) = self.nodes.iter().find(|(node, _)| node == name)?;
        let ask = node.to(ledger::read_status()).once().deadline(Duration::from_secs(2)).fetch();
        let status = self.runtime.block_on(ask).ok()?;
        (!matches!(status.state, NodeState::Healthy)).then_some(status)
    }
}

/// Ends the child and keeps it down until [`start`].
pub fn stop(deployment: &Deployment, name: &str) -> Result<()> {
    known(deployment, name)?;
    std::fs::write(deployment.suspended().join(name), b"").context("cannot ask for the suspension")?;
    wait_for(deployment, name, State::Suspended, None)
}

/// Lets the child run again and waits until it is ready. Of a ledger node that heals it tells how far it is, and of one
/// that waits to be healed it says so at once.
pub fn start(deployment: &Deployment, name: &str, conditions: Option<&Conditions>) -> Result<()> {
    resume(deployment, name)?;
    wait_for(deployment, name, State::Ready, conditions)
}

fn resume(deployment: &Deployment, name: &str) -> Result<()> {
    known(deployment, name)?;
    match std::fs::remove_file(deployment.suspended().join(name)) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).context("cannot lift the suspension"),
    }
    Ok(())
}

/// Makes a ledger node's database anew. One that runs is suspended meanwhile and runs again afterwards.
pub fn heal(deployment: &Deployment, name: &str, runtime: &tokio::runtime::Runtime) -> Result<()> {
    let settings = Settings::read(&deployment.settings())?;
    let service = settings.services.iter().find(|service| service.name == name);
    if service.is_none_or(|service| !service.is_node()) {
        bail!("`{name}` is no ledger node of this deployment");
    }
    let config: hbc_ledger::Config = hbc_service::config::load("ledger", &deployment.config(name))?;
    let runs = standings(deployment)
        .is_ok_and(|all| all.get(name).is_some_and(|standing| standing.state != State::Suspended));
    if runs {
        stop(deployment, name)?;
    }
    let healed = runtime.block_on(heal_telling(&config));
    if runs {
        resume(deployment, name)?;
    }
    let healed = healed?;
    for line in report(name, &healed) {
        crate::say(&line)?;
    }
    Ok(())
}

async fn heal_telling(config: &hbc_ledger::Config) -> Result<Healed> {
    let board = Arc::new(Healing::default());
    let clock = Clock::system();
    let work = hbc_ledger::node::heal::stopped::heal(config, &clock, Arc::clone(&board));
    tokio::pin!(work);
    let mut tick = tokio::time::interval(TELL);
    tick.reset();
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = tick.tick() => {
                let view = board.view();
                let trouble = view.trouble.map(|trouble| format!("; {trouble}")).unwrap_or_default();
                eprintln!("hbc: {} blocks are good{trouble}", view.heights_checked);
            }
        }
    }
}

fn report(name: &str, healed: &Healed) -> Vec<String> {
    let record = &healed.record;
    let from: Vec<String> =
        record.fetched_from.iter().map(|(node, blocks)| format!("{blocks} from {node}")).collect();
    let from = if from.is_empty() { String::new() } else { format!(" ({})", from.join(", ")) };
    vec![
        format!("{name} is healed: {} blocks, {} of them fetched{from}", record.blocks, record.healed_blocks),
        format!("height      {}", healed.height),
        format!("tip         {}", healed.tip),
        format!("log         {} leaves, root {}", healed.log_size, healed.log_root),
        format!("state root  {}", healed.state_root),
        format!("  map       {}", healed.map),
        format!("  anchors   {}", healed.anchors),
        format!("  pages     {}", healed.pages),
    ]
}

/// Kills the child without warning; the supervisor will start it again.
pub fn kill(deployment: &Deployment, name: &str) -> Result<()> {
    known(deployment, name)?;
    let guarded = ProcessId::recorded(&deployment.guarded_pid_file(name));
    let child = guarded.or_else(|| ProcessId::recorded(&deployment.pid_file(name)));
    let killed = child.map(|child| child.signal(Signal::KILL)).transpose()?.unwrap_or(false);
    if !killed {
        bail!("`{name}` is not running");
    }
    Ok(())
}

/// Everything the supervisor knows of its children.
pub fn standings(deployment: &Deployment) -> Result<Standings> {
    let running = ProcessId::recorded(&deployment.pid_file("supervisor"))
        .is_some_and(|supervisor| supervisor.is_alive());
    if !running {
        bail!("`{}` is not running; start it with `hbc up`", deployment.root().display());
    }
    Board::read(&deployment.state())
}

fn known(deployment: &Deployment, name: &str) -> Result<()> {
    let standings = standings(deployment)?;
    if standings.contains_key(name) {
        return Ok(());
    }
    let names: Vec<_> = standings.keys().map(String::as_str).collect();
    bail!("no process is named `{name}`; there are: {}", names.join(", "))
}

fn wait_for(
    deployment: &Deployment,
    name: &str,
    wanted: State,
    conditions: Option<&Conditions>,
) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    let mut told = Instant::now();
    loop {
        if standings(deployment)?.get(name).is_some_and(|standing| standing.state == wanted) {
            return Ok(());
        }
        if told.elapsed() >= TELL
            && let Some(status) = conditions.and_then(|conditions| conditions.unwell(name))
        {
            told = Instant::now();
            tell(name, &status)?;
        }
        if Instant::now() >= deadline {
            bail!("`{name}` did not become {wanted:?} within {} s", LIMIT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How a node that is not well stands; an error if it will stay so.
fn tell(name: &str, status: &NodeStatus) -> Result<()> {
    let healing = status.healing.as_ref();
    let found = status.evidence.as_deref().unwrap_or("nothing wrong");
    if status.state == NodeState::Attacked && healing.is_none_or(|healing| healing.attempts == 0) {
        bail!("`{name}` runs but is attacked ({found}) and waits for `hbc node heal`");
    }
    let trouble = healing.and_then(|healing| healing.trouble.as_deref()).unwrap_or("no trouble");
    let good = healing.map_or(0, |healing| healing.heights_checked);
    eprintln!("hbc: {name} is {} ({found}): {good} blocks are good, {trouble}", status.state);
    Ok(())
}
