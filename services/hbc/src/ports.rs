//! Which ports a deployment's processes listen on.

use std::net::TcpListener;

use anyhow::{Result, bail};
use hbc_types::Random;

use crate::cli::Ports;

/// One deployment's ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortPlan {
    /// auth.
    pub auth: u16,
    /// access-policy.
    pub access_policy: u16,
    /// storage.
    pub storage: u16,
    /// The ledger nodes, in order.
    pub nodes: Vec<u16>,
    /// Kubo's RPC.
    pub kubo_api: u16,
    /// Kubo's private swarm.
    pub kubo_swarm: u16,
}

impl PortPlan {
    /// Ports as asked for.
    pub fn choose(ports: Ports, nodes: u16, random: &Random) -> Result<Self> {
        match ports {
            Ports::Default => Ok(Self {
                auth: 7101,
                access_policy: 7102,
                storage: 7104,
                nodes: (0..nodes).map(|node| 7103 + 10 * node).collect(),
                kubo_api: 7105,
                kubo_swarm: 7106,
            }),
            Ports::Auto => {
                let free = free_ports(usize::from(nodes) + 5, random)?;
                let [auth, access_policy, storage, kubo_api, kubo_swarm, nodes @ ..] = free.as_slice() else {
                    bail!("too few free ports");
                };
                Ok(Self {
                    auth: *auth,
                    access_policy: *access_policy,
                    storage: *storage,
                    nodes: nodes.to_vec(),
                    kubo_api: *kubo_api,
                    kubo_swarm: *kubo_swarm,
                })
            }
        }
    }
}

/// Ports that nobody listens on now, below the range from which the system serves outgoing connections: those could
/// be taken between this look and the start.
fn free_ports(count: usize, random: &Random) -> Result<Vec<u16>> {
    const LOWEST: u16 = 12_000;
    const SPAN: u16 = 18_000;
    let mut held = Vec::new();
    for _attempt in 0..10_000 {
        if held.len() == count {
            break;
        }
        let port = LOWEST + u16::from_be_bytes(random.bytes::<2>()) % SPAN;
        held.extend(TcpListener::bind(("127.0.0.1", port)).map(|listener| (port, listener)));
    }
    if held.len() < count {
        bail!("cannot find {count} free ports");
    }
    Ok(held.into_iter().map(|(port, _listener)| port).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn automatic_ports_are_distinct_and_free() {
        let plan = PortPlan::choose(Ports::Auto, 4, &Random::system()).unwrap();
        let mut all = vec![plan.auth, plan.access_policy, plan.storage, plan.kubo_api, plan.kubo_swarm];
        all.extend(&plan.nodes);
        for port in &all {
            TcpListener::bind(("127.0.0.1", *port)).unwrap();
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 9);
    }

    #[test]
    fn documented_ports_do_not_collide() {
        let plan = PortPlan::choose(Ports::Default, 4, &Random::system()).unwrap();
        assert_eq!(plan.nodes, [7103, 7113, 7123, 7133]);
    }
}
