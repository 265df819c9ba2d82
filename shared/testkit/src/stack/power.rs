//! A power cut: every process of a stack is gone at one instant, and none of them does anything before.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// How long dying may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Stops and kills the supervisor and all processes below it, down to the IPFS daemon behind its guard.
///
/// The supervisor stands still first, so that it starts nothing again and tells nobody to stop; then all others, a few
/// microseconds after each other. Killed one by one, each would be told by the end of the one before.
pub(super) fn cut(supervisor: u32) -> Result<()> {
    let mut all = vec![supervisor];
    signal(&all, Signal::STOP)?;
    until("they stand still", || {
        let found = with_descendants(supervisor)?;
        let new: Vec<u32> =
            found.iter().map(|process| process.pid).filter(|pid| !all.contains(pid)).collect();
        signal(&new, Signal::STOP)?;
        all.extend(&new);
        Ok(new.is_empty() && found.iter().all(|process| matches!(process.state, 'T' | 'Z')))
    })?;
    signal(&all, Signal::KILL)?;
    until("they are gone", || {
        Ok(processes()?.iter().all(|process| !all.contains(&process.pid) || process.state == 'Z'))
    })
}

fn signal(pids: &[u32], signal: Signal) -> Result<()> {
    for pid in pids {
        let pid = Pid::from_raw(pid.cast_signed()).context("not a pid")?;
        match kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error).context("cannot signal a process"),
        }
    }
    Ok(())
}

fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !holds()? {
        ensure!(began.elapsed() < PATIENCE, "after {} s still not so: {what}", PATIENCE.as_secs());
        std::thread::yield_now();
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Process {
    pid: u32,
    parent: u32,
    /// As in `/proc/PID/stat`: `T` stands still, `Z` is gone and not yet waited for.
    state: char,
}

/// The supervisor, and whoever descends from it.
fn with_descendants(supervisor: u32) -> Result<Vec<Process>> {
    let mut rest = processes()?;
    let mut found: Vec<Process> = rest.extract_if(.., |process| process.pid == supervisor).collect();
    loop {
        let parents: Vec<u32> = found.iter().map(|process| process.pid).collect();
        let children: Vec<Process> =
            rest.extract_if(.., |process| parents.contains(&process.parent)).collect();
        if children.is_empty() {
            return Ok(found);
        }
        found.extend(children);
    }
}

/// Every process of this machine.
fn processes() -> Result<Vec<Process>> {
    let entries = std::fs::read_dir("/proc").context("cannot list the processes")?;
    Ok(entries.flatten().filter_map(|entry| process(entry.file_name().to_str()?)).collect())
}

/// One process, if it is one and still there. Its name stands in parentheses and may have any characters.
fn process(pid: &str) -> Option<Process> {
    let pid = pid.parse().ok()?;
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some(Process { pid, parent: fields.next()?.parse().ok()?, state })
}
