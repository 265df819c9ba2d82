//! What the supervisor says: to its own log file always, to the terminal unless told to be quiet.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use hbc_types::Clock;

use super::log::Log;

/// A log that people read.
#[derive(Debug)]
pub struct Journal {
    clock: Clock,
    log: Mutex<Log>,
    quiet: bool,
}

impl Journal {
    /// Opens (or goes on with) the log file.
    pub fn open(path: &Path, clock: Clock, quiet: bool) -> Result<Self> {
        Ok(Self { clock, log: Mutex::new(Log::open(path)?), quiet })
    }

    /// Says one sentence.
    pub fn say(&self, sentence: &str) {
        let line = format!("{} {sentence}\n", self.clock.now());
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk must not stop supervision; the terminal still hears it.
        let _unwritten = log.append(line.as_bytes(), true);
        if !self.quiet {
            eprintln!("hbc: {sentence}");
        }
    }
}
