//! What the supervisor says: to its own log file always, to the terminal unless told to be quiet.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use hbc_types::Clock;

/// A log that people read.
#[derive(Debug)]
pub struct Journal {
    clock: Clock,
    file: Mutex<File>,
    quiet: bool,
}

impl Journal {
    /// Opens (or goes on with) the log file.
    pub fn open(path: &Path, clock: Clock, quiet: bool) -> Result<Self> {
        let file = append_to(path)?;
        Ok(Self { clock, file: Mutex::new(file), quiet })
    }

    /// Says one sentence.
    pub fn say(&self, sentence: &str) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk must not stop supervision; the terminal still hears it.
        let _unwritten = writeln!(file, "{} {sentence}", self.clock.now());
        if !self.quiet {
            eprintln!("hbc: {sentence}");
        }
    }
}

/// Opens a log for appending, after putting one that has grown past 64 MiB aside as `NAME.log.1`.
pub fn append_to(path: &Path) -> Result<File> {
    const LIMIT_BYTES: u64 = 64 << 20;
    if std::fs::metadata(path).is_ok_and(|found| found.len() > LIMIT_BYTES) {
        std::fs::rename(path, path.with_extension("log.1")).context("cannot put an old log aside")?;
    }
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot write the log `{}`", path.display()))
}
