//! The supervisor: one keeper per child, one lock per deployment folder, nothing left running when it ends.
//!
//! Children are told apart from strangers by pid *and* start time, end when the supervisor's pipe closes, and are
//! suspended by a file in `DIR/run/suspended`, so that `hbc node stop` needs no connection to anything.
//!
//! Why: decision 0001.

mod board;
mod child;
mod journal;
mod log;
mod spec;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hbc_types::Clock;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use board::{Board, Standings, State};
use child::{DesiredState, Keeper};
pub use journal::Journal;
pub use spec::ProcessSpec;

use crate::deployment::Deployment;
use crate::process_id::ProcessId;

/// How often the folder of suspensions is looked at.
const SUSPENSION_POLL: Duration = Duration::from_millis(100);

/// A running set of children.
pub struct Supervisor {
    journal: Arc<Journal>,
    board: Arc<Board>,
    keepers: Vec<JoinHandle<()>>,
    wishes: BTreeMap<String, (u8, watch::Sender<DesiredState>)>,
    deployment: Deployment,
    _lock: File,
}

impl Supervisor {
    /// Takes the folder's lock, ends what a killed supervisor left behind, and starts every child.
    pub fn start(
        deployment: &Deployment,
        specs: Vec<ProcessSpec>,
        clock: Clock,
        quiet: bool,
    ) -> Result<Self> {
        for folder in [deployment.run(), deployment.root().join("logs")] {
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("cannot make `{}`", folder.display()))?;
        }
        let lock = take_lock(&deployment.lock())?;
        let journal = Arc::new(Journal::open(&deployment.log("supervisor"), clock, quiet)?);
        end_leftovers(deployment, &journal)?;
        // A suspension lasts as long as the supervisor that was told of it.
        let _absent = std::fs::remove_dir_all(deployment.suspended());
        std::fs::create_dir_all(deployment.suspended()).context("cannot make the folder of suspensions")?;
        if let Some(me) = ProcessId::of(std::process::id()) {
            me.record(&deployment.pid_file("supervisor"))?;
        }
        let board = Arc::new(Board::new(deployment.state()));
        let mut keepers = Vec::new();
        let mut wishes = BTreeMap::new();
        for spec in specs {
            let (send, desired) = watch::channel(DesiredState::Run);
            wishes.insert(spec.name.clone(), (spec.stop_order, send));
            let keeper = Keeper {
                spec,
                deployment: deployment.clone(),
                board: Arc::clone(&board),
                journal: Arc::clone(&journal),
                desired,
            };
            // Nobody would look after its child any more: then this process ends, and its children with it.
            keepers.push(hbc_service::spawn_essential("child's keeper", keeper.keep()));
        }
        Ok(Self { journal, board, keepers, wishes, deployment: deployment.clone(), _lock: lock })
    }

    /// The children's standings, to follow.
    pub fn watch(&self) -> watch::Receiver<Standings> {
        self.board.watch()
    }

    /// The supervisor's log.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Obeys the folder of suspensions until `stop` resolves, then ends all children in order.
    pub async fn run_until(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut poll = tokio::time::interval(SUSPENSION_POLL);
        loop {
            tokio::select! {
                () = &mut stop => break,
                _tick = poll.tick() => self.obey_suspensions(),
            }
        }
        self.stop().await;
    }

    fn obey_suspensions(&self) {
        for (name, (_, desired)) in &self.wishes {
            let wanted = if self.deployment.suspended().join(name).exists() {
                DesiredState::Rest
            } else {
                DesiredState::Run
            };
            let changed = desired.send_if_modified(|now| std::mem::replace(now, wanted) != wanted);
            if changed {
                let what = if wanted == DesiredState::Rest { "is suspended" } else { "is resumed" };
                self.journal.say(&format!("{name} {what}"));
            }
        }
    }

    async fn stop(&mut self) {
        let mut board = self.board.watch();
        let orders: std::collections::BTreeSet<u8> = self.wishes.values().map(|(order, _)| *order).collect();
        for order in orders {
            let mut names = Vec::new();
            for (name, (_, desired)) in self.wishes.iter().filter(|(_, (of, _))| *of == order) {
                desired.send_replace(DesiredState::End);
                names.push(name.clone());
            }
            let all_stopped = |standings: &Standings| {
                names.iter().all(|name| standings.get(name).is_some_and(|s| s.state == State::Stopped))
            };
            let _closed = board.wait_for(all_stopped).await;
        }
        for keeper in std::mem::take(&mut self.keepers) {
            let _panicked = keeper.await;
        }
        let _absent = std::fs::remove_file(self.deployment.pid_file("supervisor"));
    }
}

fn take_lock(path: &Path) -> Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open `{}`", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            bail!("this deployment is already running (`{}` is locked)", path.display())
        }
        Err(error) => Err(error).with_context(|| format!("cannot lock `{}`", path.display())),
    }
}

/// Ends the processes that the records of an earlier supervisor name, if they are still the same processes.
fn end_leftovers(deployment: &Deployment, journal: &Journal) -> Result<()> {
    let entries = std::fs::read_dir(deployment.run()).context("cannot read the records of processes")?;
    let mut records: Vec<_> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "pid"))
        .collect();
    records.sort();
    for path in records {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if name != "supervisor"
            && let Some(leftover) = ProcessId::recorded(&path)
            && leftover.end(Duration::from_secs(8))?
        {
            journal.say(&format!("ended {name} (process {}), left over from an earlier run", leftover.pid()));
        }
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            // A guard that was ending by itself has removed its own record meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot remove `{}`", path.display())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
