//! `hbc node stop|start NAME DIR`: suspends and resumes the supervision of one child of a running deployment.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use crate::deployment::Deployment;
use crate::process_id::ProcessId;
use crate::supervise::{Board, Standings, State};

/// How long a child may take to reach the wished state.
const LIMIT: Duration = Duration::from_secs(60);

/// Ends the child and keeps it down until [`start`].
pub fn stop(deployment: &Deployment, name: &str) -> Result<()> {
    known(deployment, name)?;
    std::fs::write(deployment.suspended().join(name), b"").context("cannot ask for the suspension")?;
    wait_for(deployment, name, State::Suspended)
}

/// Lets the child run again and waits until it is ready.
pub fn start(deployment: &Deployment, name: &str) -> Result<()> {
    known(deployment, name)?;
    match std::fs::remove_file(deployment.suspended().join(name)) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).context("cannot lift the suspension"),
    }
    wait_for(deployment, name, State::Ready)
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

fn wait_for(deployment: &Deployment, name: &str, wanted: State) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        if standings(deployment)?.get(name).is_some_and(|standing| standing.state == wanted) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("`{name}` did not become {wanted:?} within {} s", LIMIT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
