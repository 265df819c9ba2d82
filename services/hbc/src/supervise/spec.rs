//! What to run: the supervisor knows nothing of services, only of this list.

use std::path::PathBuf;

use crate::probe::Probe;

/// One child process to keep running.
#[derive(Clone, Debug)]
pub struct ProcessSpec {
    /// Short name; also the name of its log and its record.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment on top of the supervisor's own.
    pub env: Vec<(String, String)>,
    /// How to tell that it is ready; without one it is ready once started.
    pub ready: Option<Probe>,
    /// Children of a lower number are stopped before those of a higher one.
    pub stop_order: u8,
}
