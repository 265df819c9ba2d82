//! What every service's `/readyz` says of its database and of the ledger.

use std::time::Duration;

use hbc_client::ledger::Finality;
use hbc_service::Readiness;

use crate::{Base, ServiceState};

/// How often the database and the parts are asked.
const GLANCE: Duration = Duration::from_secs(2);

/// Says whether the database answers.
pub async fn say_database(base: Base, readiness: Readiness) {
    let chain = base.chain.to_string();
    loop {
        match hbc_db::follow::position(base.db.reads(), &chain).await {
            Ok(_) => readiness.set("database", true, "answers"),
            Err(_) => readiness.set("database", false, "does not answer"),
        }
        tokio::time::sleep(GLANCE).await;
    }
}

/// How a part stands that the service needs.
#[derive(Clone, Debug)]
pub struct Part {
    name: &'static str,
    trouble: Option<String>,
}

impl Part {
    /// The part `name`, after it was tried. The error's words are shown to whoever asks for readiness.
    pub fn of<E: std::fmt::Display>(name: &'static str, tried: Result<(), E>) -> Self {
        Self { name, trouble: tried.err().map(|error| error.to_string()) }
    }
}

/// Says how the service's own parts stand.
pub async fn say_parts(app: impl ServiceState, readiness: Readiness) {
    loop {
        for part in app.parts().await {
            let ready = part.trouble.is_none();
            readiness.set(part.name, ready, part.trouble.unwrap_or_else(|| "answers".to_owned()));
        }
        tokio::time::sleep(GLANCE).await;
    }
}

/// Says how the ledger stands. A service goes on without it, and what waits for it waits: only what must never happen
/// (two certified blocks at one height, a stored position that does not fit) makes the service unready.
pub async fn say_ledger(finality: Finality, readiness: Readiness) {
    let mut health = finality.watch_health();
    loop {
        let now = health.borrow_and_update().clone();
        let note = match &now.alarm {
            Some(alarm) => alarm.clone(),
            None => format!("{} of {} nodes, {} blocks behind", now.nodes_up, now.nodes, now.lag()),
        };
        readiness.set("ledger", now.alarm.is_none(), note);
        if health.changed().await.is_err() {
            return;
        }
    }
}
