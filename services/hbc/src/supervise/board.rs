//! What the supervisor knows of its children, kept in `DIR/run/state.json` for `hbc node`, tests and people.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// How a child stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Started, does not answer yet.
    Starting,
    /// Answers that it is ready.
    Ready,
    /// Ended by itself; waits to be started again.
    Waiting,
    /// Suspended by `hbc node stop`.
    Suspended,
    /// Ended for good: the supervisor stops.
    Stopped,
}

/// One line of the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// How it stands.
    pub state: State,
    /// Its process number while it runs.
    pub pid: Option<u32>,
    /// How often it ended by itself.
    pub failures: u32,
}

/// All children by name.
pub type Standings = BTreeMap<String, Standing>;

/// The board: one writer per child, any number of watchers.
#[derive(Debug)]
pub struct Board {
    file: PathBuf,
    write: Mutex<()>,
    standings: watch::Sender<Standings>,
}

impl Board {
    /// An empty board written to `file`.
    pub fn new(file: PathBuf) -> Self {
        Self { file, write: Mutex::new(()), standings: watch::Sender::new(Standings::new()) }
    }

    /// Sets one child's line.
    pub fn set(&self, name: &str, standing: Standing) {
        let _one_writer = self.write.lock().unwrap_or_else(PoisonError::into_inner);
        self.standings.send_modify(|all| {
            all.insert(name.to_owned(), standing);
        });
        let written = serde_json::to_vec_pretty(&*self.standings.borrow())
            .map_err(std::io::Error::other)
            .and_then(|json| {
                let temporary = self.file.with_extension("new");
                std::fs::write(&temporary, json)?;
                std::fs::rename(&temporary, &self.file)
            });
        if let Err(error) = written {
            tracing::warn!(%error, "the state file cannot be written");
        }
    }

    /// Follows the board.
    pub fn watch(&self) -> watch::Receiver<Standings> {
        self.standings.subscribe()
    }

    /// Reads what a supervisor wrote.
    pub fn read(file: &std::path::Path) -> Result<Standings> {
        let json = std::fs::read(file).with_context(|| format!("cannot read `{}`", file.display()))?;
        serde_json::from_slice(&json).with_context(|| format!("`{}` is not a state file", file.display()))
    }
}
