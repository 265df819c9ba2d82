//! The table of services: all that `init`, `up`, `serve`, `migrate`, `openapi` and the test stack know of each.
//!
//! A service is one row here with its configuration in [`plan`], and its crate. No other file lists them.

pub mod plan;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use anyhow::{Context as _, Result};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use hbc_app::Service as Skeleton;
use hbc_service::{config, telemetry};
use hbc_types::account::ServiceRole;
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::openapi::OpenApi;

use crate::settings::ServiceSettings;
use plan::Plan;

/// The services, in the order in which they are started.
pub static ALL: [Service; 4] = [
    Service {
        name: "ledger",
        about: "One member's ledger node",
        port: 7103,
        processes: Processes::OneEachMember,
        stop_order: 2,
        signs_as: None,
        keys: &[],
        found: |data| Ok(hbc_ledger::files::DataFolder::open(data)?.note_unborn()?),
        configure: |plan, process| text(&plan.node(process)?),
        library: Library {
            serve: |path, stop| Box::pin(serve_ledger(path, stop)),
            migrate: |path| {
                Box::pin(async move { hbc_ledger::migrate(&config::load("ledger", &path)?).await })
            },
            openapi: hbc_ledger::openapi,
        },
    },
    Service {
        name: hbc_auth::Auth::NAME,
        about: "Accounts, sessions, tokens, custody of signing keys",
        port: 7101,
        processes: Processes::One,
        stop_order: 1,
        signs_as: Some(hbc_auth::Auth::ROLE),
        // The seed of the key that signs tokens, and the key of the row MACs.
        keys: &["token.key", "rows-auth.key"],
        found: |_data| Ok(()),
        configure: |plan, process| text(&plan.auth(process)?),
        library: Library::of::<hbc_auth::Auth>(),
    },
    Service {
        name: hbc_access_policy::AccessPolicy::NAME,
        about: "Grants, decisions, keys, receipts",
        port: 7102,
        processes: Processes::One,
        stop_order: 1,
        signs_as: Some(hbc_access_policy::AccessPolicy::ROLE),
        // The master of all key-encryption keys, and the key of the row MACs.
        keys: &["master.key", "rows-policy.key"],
        found: |_data| Ok(()),
        configure: |plan, process| text(&plan.access_policy(process)?),
        library: Library::of::<hbc_access_policy::AccessPolicy>(),
    },
    Service {
        name: hbc_storage::Storage::NAME,
        about: "Records: encrypted, pinned, anchored",
        port: 7104,
        processes: Processes::One,
        stop_order: 0,
        signs_as: Some(hbc_storage::Storage::ROLE),
        // The key of searchable tokens.
        keys: &["index.key"],
        found: |_data| Ok(()),
        configure: |plan, process| text(&plan.storage(process)?),
        library: Library::of::<hbc_storage::Storage>(),
    },
];

/// One service of the one binary.
#[derive(Debug)]
pub struct Service {
    /// Its name on the command line, in settings, and of its API's document.
    pub name: &'static str,
    /// What it is for, in a few words.
    pub about: &'static str,
    /// The documented port of its process, or of the first member's.
    pub port: u16,
    /// How many processes it has in a deployment.
    pub processes: Processes,
    /// Those with smaller numbers are stopped first.
    pub stop_order: u8,
    /// As whom it signs calls and transactions: the genesis then names its key.
    pub signs_as: Option<ServiceRole>,
    /// Files of 32-byte keys that it needs besides, and that no genesis knows.
    pub keys: &'static [&'static str],
    /// What a fresh data folder of it must have.
    pub found: fn(&Path) -> Result<()>,
    /// The text of a process's configuration file.
    pub configure: fn(&Plan<'_>, &ServiceSettings) -> Result<String>,
    /// What its crate does.
    pub library: Library,
}

/// How many processes a service has in a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processes {
    /// One, of the service's name.
    One,
    /// One for each member of the ledger: `node-1`, `node-2`, …
    OneEachMember,
}

/// What is done until it ends or fails.
pub type Work = Pin<Box<dyn Future<Output = Result<()>>>>;

/// Resolves when a service is to stop.
pub type Stop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a service's crate does, from its configuration file.
#[derive(Debug)]
pub struct Library {
    /// Serves until it is told to stop.
    pub serve: fn(PathBuf, Stop) -> Work,
    /// Brings its database to the present schema.
    pub migrate: fn(PathBuf) -> Work,
    /// Describes its API.
    pub openapi: fn() -> OpenApi,
}

impl Library {
    /// That of a service on the common skeleton.
    const fn of<S: Skeleton<Config: DeserializeOwned>>() -> Self {
        Self {
            serve: |path, stop| {
                Box::pin(async move {
                    let config = config::load::<S::Config>(S::NAME, &path)?;
                    let application = hbc_app::Application::<S>::build(config).await;
                    let application = application.with_context(|| format!("{} cannot start", S::NAME))?;
                    application.run_until_stopped(stop).await
                })
            },
            migrate: |path| {
                Box::pin(async move { hbc_app::migrate::<S>(&config::load(S::NAME, &path)?).await })
            },
            openapi: hbc_app::openapi::<S>,
        }
    }
}

async fn serve_ledger(path: PathBuf, stop: Stop) -> Result<()> {
    let config: hbc_ledger::Config = config::load("ledger", &path)?;
    telemetry::init(&config.telemetry)?;
    let application = hbc_ledger::Application::build(config).await;
    application.context("the ledger node cannot start")?.run_until_stopped(stop).await
}

fn text(config: &impl Serialize) -> Result<String> {
    Ok(toml::to_string_pretty(config)?)
}

impl Service {
    /// Its processes in a deployment of so many members, with their documented ports.
    pub fn processes(&self, members: u16) -> Vec<ServiceSettings> {
        let process =
            |name: &str, port| ServiceSettings { name: name.to_owned(), role: self.name.to_owned(), port };
        match self.processes {
            Processes::One => vec![process(self.name, self.port)],
            Processes::OneEachMember => (0..members)
                .map(|number| process(&format!("node-{}", number + 1), self.port + 10 * number))
                .collect(),
        }
    }
}

/// The row of this name.
pub fn named(name: &str) -> Result<&'static Service> {
    let row = ALL.iter().find(|service| service.name == name);
    row.with_context(|| format!("no service is called `{name}`"))
}

/// Every process of a deployment of so many members, with its documented port.
pub fn processes(members: u16) -> Vec<ServiceSettings> {
    ALL.iter().flat_map(|service| service.processes(members)).collect()
}

/// Reads a service's name on the command line.
pub fn parser() -> impl TypedValueParser<Value = &'static Service> {
    let names = ALL.iter().map(|service| PossibleValue::new(service.name).help(service.about));
    PossibleValuesParser::new(names).try_map(|name| named(&name))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use hbc_types::Random;

    use super::*;
    use crate::ports::{PortPlan, Ports};

    #[test]
    fn no_two_rows_share_a_name_a_port_a_key_or_a_role() {
        let processes: Vec<ServiceSettings> = super::processes(100);
        let unique = |mut all: Vec<String>| {
            let count = all.len();
            all.sort();
            all.dedup();
            all.len() == count
        };
        assert!(unique(ALL.iter().map(|service| service.name.to_owned()).collect()));
        assert!(unique(processes.iter().map(|process| process.name.clone()).collect()));
        assert!(unique(processes.iter().map(|process| process.port.to_string()).collect()));
        assert!(unique(ALL.iter().flat_map(|service| service.keys).map(|key| (*key).to_owned()).collect()));
        assert!(unique(
            ALL.iter().filter_map(|service| service.signs_as).map(|role| role.to_string()).collect()
        ));
    }

    #[test]
    fn every_role_that_signs_transactions_has_a_service() {
        for role in ServiceRole::ALL {
            assert!(ALL.iter().any(|service| service.signs_as == Some(*role)), "{role}");
        }
    }

    #[test]
    fn automatic_ports_are_distinct_and_free() {
        let plan = PortPlan::choose(Ports::Auto, super::processes(4), &Random::system()).unwrap();
        let mut all = vec![plan.kubo_api, plan.kubo_swarm];
        all.extend(plan.services.iter().map(|service| service.port));
        for port in &all {
            TcpListener::bind(("127.0.0.1", *port)).unwrap();
        }
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert_eq!(plan.nodes().count(), 4);
    }

    #[test]
    fn documented_ports_do_not_collide() {
        let plan = PortPlan::choose(Ports::Default, super::processes(4), &Random::system()).unwrap();
        let nodes: Vec<u16> = plan.nodes().map(|node| node.port).collect();
        assert_eq!(nodes, [7103, 7113, 7123, 7133]);
        let mut all: Vec<u16> = plan.services.iter().map(|service| service.port).collect();
        all.extend([plan.kubo_api, plan.kubo_swarm]);
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
