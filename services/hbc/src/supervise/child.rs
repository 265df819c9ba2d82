//! Keeps one child running: start, watch, start again with back-off, suspend, stop.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::sync::{oneshot, watch};

use super::board::{Board, Standing, State};
use super::journal::Journal;
use super::log::Log;
use super::spec::ProcessSpec;
use crate::deployment::Deployment;
use crate::process_id::ProcessId;

/// First pause before a child that ended by itself is started again; doubled each time.
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
/// The longest pause.
const BACKOFF_LONGEST: Duration = Duration::from_secs(10);
/// A child that ran this long has recovered: its next pause is the first one again.
const RECOVERED_AFTER: Duration = Duration::from_secs(20);
/// What a child gets to end by itself when asked.
const GRACE: Duration = Duration::from_secs(10);

/// How long the log of a child that ended is waited for: somebody else may hold its pipe open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What the supervisor wants of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DesiredState {
    /// It shall run.
    Run,
    /// It shall rest until told to run.
    Rest,
    /// It shall end, and its keeper with it.
    End,
}

/// The keeper of one child.
pub struct Keeper {
    /// What to run.
    pub spec: ProcessSpec,
    /// Where its log and record go.
    pub deployment: Deployment,
    /// Where its standing is shown.
    pub board: Arc<Board>,
    /// Where its failures are told.
    pub journal: Arc<Journal>,
    /// What is wanted.
    pub desired: watch::Receiver<DesiredState>,
}

/// Why a run of the child came to its end.
enum Ended {
    ByItself(ExitStatus),
    AsWished,
}

/// The pauses before starts that follow failures.
fn pauses() -> ExponentialBackoff {
    let pauses = ExponentialBuilder::new().with_min_delay(BACKOFF_FIRST).with_max_delay(BACKOFF_LONGEST);
    pauses.with_factor(2.0).without_max_times().build()
}

impl Keeper {
    /// Runs until the desired state is [`DesiredState::End`].
    pub async fn keep(mut self) {
        let mut failures = 0;
        let mut pauses = pauses();
        loop {
            let desired = *self.desired.borrow_and_update();
            match desired {
                DesiredState::Run => {}
                DesiredState::Rest => {
                    self.show(State::Suspended, None, failures);
                    if self.desired.changed().await.is_err() {
                        return;
                    }
                    continue;
                }
                DesiredState::End => {
                    self.show(State::Stopped, None, failures);
                    return;
                }
            }
            let began = Instant::now();
            let reason = match self.run_once(failures).await {
                Ok(Ended::AsWished) => {
                    pauses = self::pauses();
                    continue;
                }
                Ok(Ended::ByItself(status)) => format!("ended ({status})"),
                Err(error) => format!("could not be run ({error:#})"),
            };
            failures += 1;
            if began.elapsed() >= RECOVERED_AFTER {
                pauses = self::pauses();
            }
            let pause = pauses.next().unwrap_or(BACKOFF_LONGEST);
            self.journal.say(&format!(
                "{} {reason}; starting it again in {:.1} s (log: {})",
                self.spec.name,
                pause.as_secs_f64(),
                self.deployment.log(&self.spec.name).display()
            ));
            self.show(State::Waiting, None, failures);
            // Any change of the wish cuts the pause short; the loop then looks at it.
            let _cut_short = tokio::time::timeout(pause, self.desired.changed()).await;
        }
    }

    async fn run_once(&mut self, failures: u32) -> Result<Ended> {
        let (mut child, copying) = self.spawn()?;
        // Held here, because waiting for a child closes the pipe it still owns.
        let pipe = child.stdin.take();
        let pid = child.id();
        if let Some(id) = pid.and_then(ProcessId::of) {
            id.record(&self.deployment.pid_file(&self.spec.name))?;
        }
        self.show(State::Starting, pid, failures);
        let (board, name, probe) = (Arc::clone(&self.board), self.spec.name.clone(), self.spec.ready.clone());
        let announce = async move {
            if let Some(probe) = probe {
                while !probe.is_ready().await {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            board.set(&name, Standing { state: State::Ready, pid, failures });
            std::future::pending::<()>().await;
        };
        let desired = &mut self.desired;
        let wished_away = async {
            // An error means that the supervisor itself is gone.
            let _gone = desired.wait_for(|desired| *desired != DesiredState::Run).await;
        };
        let ended = tokio::select! {
            status = child.wait() => Some(status.context("cannot wait for the child")?),
            () = wished_away => None,
            () = announce => None,
        };
        let ended = match ended {
            Some(status) => {
                self.end_orphan();
                Ended::ByItself(status)
            }
            None => {
                drop(pipe);
                self.await_end(&mut child).await;
                Ended::AsWished
            }
        };
        // Its last words are in the log before anybody is told to look there.
        let _held_open = tokio::time::timeout(LAST_WORDS, copying).await;
        let _absent = std::fs::remove_file(self.deployment.pid_file(&self.spec.name));
        Ok(ended)
    }

    /// Starts the child, and what copies its words into its log.
    fn spawn(&self) -> Result<(Child, oneshot::Receiver<()>)> {
        let (log, copying) = Log::open(&self.deployment.log(&self.spec.name))?.pipe()?;
        let errors = log.try_clone().context("cannot share the log")?;
        let child = Command::new(&self.spec.program)
            .args(&self.spec.args)
            .envs(self.spec.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.deployment.root())
            // The child ends when this pipe closes, however the supervisor came to its end.
            .stdin(Stdio::piped())
            .stdout(Stdio::from(log))
            .stderr(Stdio::from(errors))
            // Ctrl-C at the terminal is for the supervisor alone: it stops the children in good order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start `{}`", self.spec.program.display()))?;
        Ok((child, copying))
    }

    /// Waits for a child whose pipe was closed, and in the end kills it.
    async fn await_end(&self, child: &mut Child) {
        if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
            self.journal.say(&format!(
                "{} did not stop within {} s; killing it",
                self.spec.name,
                GRACE.as_secs()
            ));
            if let Err(error) = child.kill().await {
                self.journal.say(&format!("{} cannot be killed: {error}", self.spec.name));
            }
        }
        self.end_orphan();
    }

    /// A guard that was killed leaves its program behind; nothing may run twice on one folder.
    fn end_orphan(&self) {
        let record = self.deployment.guarded_pid_file(&self.spec.name);
        if let Some(orphan) = ProcessId::recorded(&record)
            && let Err(error) = orphan.signal(Signal::KILL)
        {
            self.journal.say(&format!("{} left process {} behind: {error:#}", self.spec.name, orphan.pid()));
        }
        let _absent = std::fs::remove_file(record);
    }

    fn show(&self, state: State, pid: Option<u32>, failures: u32) {
        self.board.set(&self.spec.name, Standing { state, pid, failures });
    }
}
