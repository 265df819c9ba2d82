//! Which ports a deployment's processes listen on.

use std::net::TcpListener;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use hbc_types::Random;

use crate::settings::ServiceSettings;

/// How ports are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Ports {
    /// The documented ones.
    Default,
    /// Whatever is free.
    Auto,
}

/// Kubo's RPC where nothing else is said.
const KUBO_API: u16 = 7105;
/// Kubo's private swarm where nothing else is said.
const KUBO_SWARM: u16 = 7106;

/// One deployment's processes with their ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortPlan {
    /// The services' processes, in the order in which they are started.
    pub services: Vec<ServiceSettings>,
    /// Kubo's RPC.
    pub kubo_api: u16,
    /// Kubo's private swarm.
    pub kubo_swarm: u16,
}

impl PortPlan {
    /// Ports as asked for, for processes that have their documented ones.
    pub fn choose(ports: Ports, services: Vec<ServiceSettings>, random: &Random) -> Result<Self> {
        let mut plan = Self { services, kubo_api: KUBO_API, kubo_swarm: KUBO_SWARM };
        match ports {
            Ports::Default => {}
            Ports::Auto => {
                let free = free_ports(plan.services.len() + 2, random)?;
                let Self { services, kubo_api, kubo_swarm } = &mut plan;
                let all = services.iter_mut().map(|service| &mut service.port).chain([kubo_api, kubo_swarm]);
                for (port, free) in all.zip(free) {
                    *port = free;
                }
            }
        }
        Ok(plan)
    }

    /// The port of a process.
    pub fn of(&self, name: &str) -> Result<u16> {
        let found = self.services.iter().find(|service| service.name == name);
        found.map(|service| service.port).with_context(|| format!("no process is called `{name}`"))
    }

    /// The ledger members' processes, in order.
    pub fn nodes(&self) -> impl Iterator<Item = &ServiceSettings> {
        self.services.iter().filter(|service| service.is_node())
    }
}

/// Ports that nobody listens on now, one beside the other where that can be, below the range from which the system
/// serves outgoing connections: those could be taken between this look and the start. Neighbours, since two folders
/// that are started at once then seldom choose the same.
fn free_ports(count: usize, random: &Random) -> Result<Vec<u16>> {
    const LOWEST: u16 = 12_000;
    const SPAN: u16 = 18_000;
    let first = u16::from_be_bytes(random.bytes::<2>()) % SPAN;
    let free: Vec<u16> = (first..SPAN)
        .chain(0..first)
        .map(|place| LOWEST + place)
        .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .take(count)
        .collect();
    if free.len() < count {
        bail!("cannot find {count} free ports");
    }
    Ok(free)
}
