//! `hbc guard` ends its program with itself, and the program's end is its own.

#![expect(clippy::unwrap_used, reason = "what a test helper cannot do fails the test")]

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn guard(pid_file: &Path, script: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_hbc"))
        .args(["guard", "--pid-file"])
        .arg(pid_file)
        .args(["--", "/bin/sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn recorded(pid_file: &Path) -> Option<u32> {
    std::fs::read_to_string(pid_file).ok()?.split(' ').next()?.parse().ok()
}

fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

#[test]
fn the_program_ends_when_the_guards_input_closes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("program.pid");
    let mut guard = guard(&file, "exec sleep 300");
    until("the program is recorded", || recorded(&file).is_some());
    let program = recorded(&file).unwrap();
    assert!(runs(program));
    drop(guard.stdin.take());
    assert!(guard.wait().unwrap().success());
    assert!(!runs(program) && !file.exists());
}

#[test]
fn a_program_that_does_not_listen_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("program.pid");
    let mut guard = guard(&file, "trap '' TERM; while :; do sleep 1; done");
    until("the program is recorded", || recorded(&file).is_some());
    std::thread::sleep(Duration::from_millis(300));
    let program = recorded(&file).unwrap();
    let asked = Instant::now();
    drop(guard.stdin.take());
    guard.wait().unwrap();
    assert!(!runs(program));
    assert!(asked.elapsed() >= Duration::from_secs(5), "it was given time");
}

#[test]
fn output_and_exit_code_are_the_programs() {
    let folder = tempfile::tempdir().unwrap();
    let mut guard = guard(&folder.path().join("program.pid"), "echo hello; exit 7");
    // Waiting would close the pipe, and its end is what ends the program early.
    let _held = guard.stdin.take();
    let status = guard.wait().unwrap();
    let mut said = String::new();
    guard.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((status.code(), said.as_str()), (Some(7), "hello\n"));
}
