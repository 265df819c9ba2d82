//! What every service's `/readyz` says of its database and of the ledger.

use std::time::Duration;

use hbc_client::ledger::Finality;
use hbc_db::{DbError, Schema};
use hbc_service::Readiness;
use tokio::time::timeout;

use crate::Base;
use crate::base::GLANCE;
use crate::state::ServiceState;

/// What does not answer within this does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Says whether the database answers, consists of what it consisted of at the start, and has not lost its place in the
/// ledger. While it is another one than it was, the service answers nothing: what it would decide is somebody else's.
pub async fn say_database(base: Base, glance: Duration, readiness: Readiness) {
    let (chain, mut highest) = (base.chain.to_string(), None);
    loop {
        let trouble = match timeout(PATIENCE, look(&base, &chain, &mut highest)).await {
            Ok(Ok(oddity)) => {
                readiness.halt("database", oddity.is_some());
                oddity
            }
            Ok(Err(_)) | Err(_) => Some("does not answer".to_owned()),
        };
        let was_ready = readiness.set("database", trouble.is_none(), trouble.as_deref().unwrap_or("answers"));
        if let Some(trouble) = trouble.filter(|_| was_ready) {
            tracing::error!(alarm = "database", trouble, "The database is not as it should be");
        }
        tokio::time::sleep(glance).await;
    }
}

async fn look(base: &Base, chain: &str, highest: &mut Option<u64>) -> Result<Option<String>, DbError> {
    if let Some(oddity) = Schema::read(&base.db).await?.oddity(&base.schema) {
        return Ok(Some(oddity));
    }
    let height = hbc_db::follow::position(base.db.reads(), chain).await?.map(|position| position.height);
    if height < *highest {
        return Ok(Some("its place in the ledger was set back".to_owned()));
    }
    *highest = height;
    Ok(None)
}

/// Says how the service's own parts stand.
pub async fn say_parts(app: impl ServiceState, readiness: Readiness) {
    let mut known = Vec::new();
    loop {
        match timeout(PATIENCE, app.parts()).await {
            Ok(parts) => {
                known = parts.iter().map(|part| part.name).collect();
                for part in parts {
                    let ready = part.trouble.is_none();
                    readiness.halt(part.name, part.stops && !ready);
                    readiness.set(part.name, ready, part.trouble.as_deref().unwrap_or("answers"));
                }
            }
            Err(_elapsed) => {
                for part in &known {
                    readiness.set(part, false, "does not answer in time");
                }
            }
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
