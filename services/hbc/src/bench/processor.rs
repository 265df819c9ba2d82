//! Processor time and memory of processes, where the system tells them (Linux: `/proc`).

use std::time::Duration;

/// User and system time that a process has used so far. The numbers of `/proc/<pid>/stat` after the command's closing
/// bracket begin with the third; the 14th and 15th are the times in clock ticks (proc(5)).
pub fn time(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_command) = stat.rsplit_once(')')?;
    let mut numbers = after_command.split_whitespace().skip(11);
    let ticks: u64 = numbers.next()?.parse::<u64>().ok()? + numbers.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks.saturating_mul(1_000) / rustix::param::clock_ticks_per_second()))
}

/// Bytes of a process in memory.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_memory_and_the_more_it_works_the_more_time() {
        let own = std::process::id();
        assert!(resident_bytes(own).is_some_and(|bytes| bytes > 1 << 20));
        let before = time(own).expect("the system tells");
        let mut digest = hbc_types::Digest::of(b"work");
        while time(own).is_some_and(|now| now <= before) {
            digest = hbc_types::Digest::of(digest.as_bytes());
        }
        assert_ne!(digest, hbc_types::Digest::ZERO);
    }
}
