//! A process told apart from a later one that got the same number: pid, start time and boot.
//!
//! A pid alone must never be signalled: after a crash it may belong to anybody. Everything here reads `/proc`, so
//! supervision is for Linux.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Who a process is, as written to `DIR/run/NAME.pid`: pid, start time in clock ticks since boot (field 22 of
/// `/proc/PID/stat`), and the boot it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessId {
    pid: i32,
    started_ticks: u64,
    boot: String,
}

impl ProcessId {
    /// Looks up a running process; `None` when there is none by that number or it has already ended.
    pub fn of(pid: u32) -> Option<Self> {
        let pid = i32::try_from(pid).ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let started_ticks = parse_stat(&stat)?;
        Some(Self { pid, started_ticks, boot: boot_id()? })
    }

    /// The process number.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Reads a record written by [`ProcessId::record`]; `None` when the file is absent or unreadable as one.
    pub fn recorded(path: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(path).ok()?;
        let mut parts = text.split_whitespace();
        let id = Self {
            pid: parts.next()?.parse().ok()?,
            started_ticks: parts.next()?.parse().ok()?,
            boot: parts.next()?.to_owned(),
        };
        parts.next().is_none().then_some(id)
    }

    /// Writes the record whole or not at all.
    pub fn record(&self, path: &Path) -> Result<()> {
        let temporary = path.with_extension("new");
        std::fs::write(&temporary, format!("{self}\n"))
            .and_then(|()| std::fs::rename(&temporary, path))
            .with_context(|| format!("cannot record a process in `{}`", path.display()))
    }

    /// Whether exactly this process still runs.
    pub fn is_alive(&self) -> bool {
        u32::try_from(self.pid).ok().and_then(Self::of).as_ref() == Some(self)
    }

    /// Sends a signal to exactly this process; `false` when it is gone. The handle is opened before the start time is
    /// compared, so the number cannot change hands in between.
    pub fn signal(&self, signal: Signal) -> Result<bool> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(false) };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(false),
            Err(error) => return Err(error).context("cannot open a process handle"),
        };
        if !self.is_alive() {
            return Ok(false);
        }
        match pidfd_send_signal(&handle, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("cannot signal process {}", self.pid)),
        }
    }

    /// Ends the process: asks, waits up to `grace`, then kills. `false` when it was gone already.
    pub fn end(&self, grace: Duration) -> Result<bool> {
        if !self.signal(Signal::TERM)? {
            return Ok(false);
        }
        if self.wait_until_gone(grace) {
            return Ok(true);
        }
        self.signal(Signal::KILL)?;
        if self.wait_until_gone(Duration::from_secs(5)) {
            return Ok(true);
        }
        bail!("process {} does not end, even when killed", self.pid)
    }

    fn wait_until_gone(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.pid, self.started_ticks, self.boot)
    }
}

/// Field 22 of `/proc/PID/stat`, or `None` for a process that has ended and only waits to be collected. The name in
/// field 2 may itself hold spaces and parentheses, so fields are counted from the last `)`.
fn parse_stat(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

fn boot_id() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_record_survives_the_file_and_names_a_living_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("me.pid");
        let me = ProcessId::of(std::process::id()).unwrap();
        me.record(&path).unwrap();
        assert_eq!(ProcessId::recorded(&path), Some(me.clone()));
        assert!(me.is_alive());
    }

    #[test]
    fn another_start_time_is_another_process_and_is_never_signalled() {
        let mut child = Command::new("sleep").arg("30").stdin(Stdio::null()).spawn().unwrap();
        let id = ProcessId::of(child.id()).unwrap();
        let imposter = ProcessId { started_ticks: id.started_ticks + 1, ..id.clone() };
        assert!(!imposter.signal(Signal::KILL).unwrap());
        assert!(id.is_alive());
        let other_boot = ProcessId { boot: "elsewhere".to_owned(), ..id.clone() };
        assert!(!other_boot.end(Duration::from_secs(1)).unwrap());
        assert!(id.signal(Signal::KILL).unwrap());
        child.wait().unwrap();
        assert!(!id.is_alive());
        assert!(!id.end(Duration::from_secs(1)).unwrap());
    }

    #[test]
    fn names_with_parentheses_and_spaces_do_not_shift_the_fields() {
        let head = "42 (a) (b c)) S";
        let fields: Vec<String> = (4..=30).map(|n| n.to_string()).collect();
        assert_eq!(parse_stat(&format!("{head} {}", fields.join(" "))), Some(22));
        assert_eq!(parse_stat(&format!("42 (gone) Z {}", fields.join(" "))), None);
        assert_eq!(parse_stat("nonsense"), None);
    }
}
