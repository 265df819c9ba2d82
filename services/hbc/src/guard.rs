//! `hbc guard`: runs a program that knows nothing of supervision (Kubo) and ends it when the guard's own input closes.
//!
//! Our services watch their input themselves; a foreign program cannot be taught to.

use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use tokio::process::Command;

use crate::process_id::ProcessId;
use crate::stop;

/// What the program gets to end by itself.
const GRACE: Duration = Duration::from_secs(7);

/// Runs `program` until it ends, or until the guard is told to stop; its exit code becomes the guard's.
pub async fn run(pid_file: &Path, program: &str, args: &[String]) -> Result<ExitCode> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start `{program}`"))?;
    let id = child.id().and_then(ProcessId::of);
    if let Some(id) = &id {
        id.record(pid_file)?;
    }
    let status = tokio::select! {
        status = child.wait() => Some(status.context("cannot wait for the program")?),
        () = stop::requested(true)? => None,
    };
    let code = match (status, id) {
        (Some(status), _) => status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
        (None, id) => {
            if let Some(id) = id {
                id.signal(Signal::TERM)?;
            }
            if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
                child.kill().await.context("cannot kill the program")?;
            }
            0
        }
    };
    let _absent = std::fs::remove_file(pid_file);
    Ok(ExitCode::from(code))
}
