//! The tutorial is run as it is written: its shell blocks in one `bash`, against a stack of the test's own, and what
//! they print is compared with the lines that the page shows.

use std::process::{Command, Stdio};

use hbc_testkit::Stack;

const PAGE: &str = include_str!("../../docs/TUTORIAL.md");

/// The shell blocks, one after the other.
fn script() -> String {
    let blocks = PAGE.split("```sh\n").skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap()).collect()
}

/// The lines that the page says are printed.
fn promised(script: &str) -> Vec<&str> {
    script.lines().filter_map(|line| line.strip_prefix("# ")).collect()
}

/// Whether a printed line is the promised one, in which `…` stands for anything.
fn fits(promised: &str, printed: &str) -> bool {
    let mut parts = promised.split('…');
    let Some(mut rest) = printed.strip_prefix(parts.next().unwrap()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

#[tokio::test]
async fn the_tutorial_prints_what_it_promises() {
    for program in ["bash", "curl", "jq"] {
        if Command::new(program).arg("--version").stdout(Stdio::null()).status().is_err() {
            hbc_testkit::skip(&format!("`{program}` is not installed (make deps installs it where it may)"));
            return;
        }
    }
    let Some(stack) = Stack::start().await.unwrap() else { return };
    let script = script();
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .envs([("AUTH", stack.auth()), ("POLICY", stack.access_policy()), ("STORAGE", stack.storage())])
        .env("DIR", stack.dir())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}\n{errors}");
    let (promised, printed) = (promised(&script), printed.lines().collect::<Vec<_>>());
    assert!(promised.len() >= 8, "the page shows too little: {promised:?}");
    assert_eq!(promised.len(), printed.len(), "promised: {promised:#?}\nprinted: {printed:#?}");
    for (promised, printed) in promised.iter().zip(printed) {
        assert!(fits(promised, printed), "promised: {promised}\nprinted: {printed}");
    }
}

#[test]
fn an_ellipsis_stands_for_anything_and_nothing_else_does() {
    assert!(fits("[\"rec-…\",{\"unit\":\"…\"}]", "[\"rec-0a\",{\"unit\":\"g\"}]"));
    assert!(!fits("[\"rec-…\",2]", "[\"rec-0a\",1]"));
    assert!(!fits("\"Not found\"", "\"Not found\" "));
}
