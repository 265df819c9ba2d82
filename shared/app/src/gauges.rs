//! What an operator watches of every service: the queue of jobs, the outbox, the way to the chain's tip, the database.
//!
//! Every name stands in `docs/OPERATIONS.md`. A label is a constant of the program, never an id.

use std::collections::BTreeSet;
use std::time::Duration;

use hbc_client::ledger::Finality;
use hbc_db::jobs::listing::{self, State};
use hbc_db::{Db, DbError};
use hbc_types::Clock;
use metrics::gauge;

use crate::{Base, ServiceState};

/// How often they are measured.
const EVERY: Duration = Duration::from_secs(5);

/// A count under its name, which stands in `docs/OPERATIONS.md`.
pub type Gauge = (&'static str, u64);

/// Measures what every service has.
#[derive(Clone, Debug)]
pub(crate) struct Gauges {
    db: Db,
    clock: Clock,
    finality: Finality,
    /// What was shown before: what is gone is shown as nothing.
    shown: BTreeSet<(String, State)>,
}

impl Gauges {
    /// The gauges of the service that stands on `base`.
    pub fn new(base: &Base) -> Self {
        let (db, clock, finality) = (base.db.clone(), base.clock.clone(), base.finality.clone());
        Self { db, clock, finality, shown: BTreeSet::new() }
    }

    /// The loop, with the service's own.
    pub async fn run(mut self, app: impl ServiceState) {
        loop {
            let measured = async {
                self.measure().await?;
                for (name, count) in app.gauges().await? {
                    gauge!(name).set(whole(count));
                }
                Ok::<(), DbError>(())
            };
            if let Err(error) = measured.await {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "The gauges could not be read; it is tried again");
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn measure(&mut self) -> Result<(), DbError> {
        self.ledger();
        self.database();
        self.jobs().await?;
        let (open, oldest) = hbc_db::outbox::backlog(self.db.reads()).await?;
        gauge!("hbc_outbox_transactions").set(whole(open));
        let age = oldest.map_or(Duration::ZERO, |oldest| self.clock.now().since(oldest));
        gauge!("hbc_outbox_oldest_seconds").set(age.as_secs_f64());
        Ok(())
    }

    async fn jobs(&mut self) -> Result<(), DbError> {
        let now = self.clock.now();
        let mut gone = std::mem::take(&mut self.shown);
        for depth in listing::depths(self.db.reads()).await? {
            show(&depth.kind, depth.state, depth.jobs, now.since(depth.owed_since));
            gone.remove(&(depth.kind.clone(), depth.state));
            self.shown.insert((depth.kind, depth.state));
        }
        for (kind, state) in gone {
            show(&kind, state, 0, Duration::ZERO);
        }
        Ok(())
    }

    fn ledger(&self) {
        let health = self.finality.health();
        gauge!("hbc_ledger_applied_height").set(whole(health.applied));
        gauge!("hbc_ledger_lag_blocks").set(whole(health.lag()));
        gauge!("hbc_ledger_nodes_up").set(whole(health.nodes_up as u64));
        gauge!("hbc_ledger_quorum").set(f64::from(u8::from(health.quorum)));
    }

    fn database(&self) {
        let connections = self.db.connections();
        for (pool, open, idle) in [
            ("read", connections.reads, connections.idle_reads),
            ("write", connections.writes, connections.idle_writes),
        ] {
            gauge!("hbc_db_connections", "pool" => pool, "state" => "idle").set(whole(idle));
            gauge!("hbc_db_connections", "pool" => pool, "state" => "busy")
                .set(whole(open.saturating_sub(idle)));
        }
        gauge!("hbc_db_waiting_changes").set(whole(connections.waiting_changes));
    }
}

fn show(kind: &str, state: State, jobs: u64, age: Duration) {
    let labels = [("kind", kind.to_owned()), ("state", state.name().to_owned())];
    gauge!("hbc_jobs", &labels).set(whole(jobs));
    gauge!("hbc_job_oldest_seconds", &labels).set(age.as_secs_f64());
}

/// A count as gauges have it.
#[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^53")]
const fn whole(count: u64) -> f64 {
    count as f64
}
