//! What came of named checks: those that fail must stand in the list of what the server cannot do yet, and those that pass must not.

use anyhow::{Result, ensure};

use crate::PENDING;

/// One check of a program and what came of it.
#[derive(Debug)]
pub struct Verdict {
    pub check: String,
    /// Why it failed, if it did.
    pub fault: Option<String>,
}

/// What a program says: `ok NAME`, or `failed NAME: why`.
pub fn read(said: &str) -> Vec<Verdict> {
    let line = |line: &str| {
        if let Some(check) = line.strip_prefix("ok ") {
            return Some(Verdict { check: check.to_owned(), fault: None });
        }
        let (check, why) = line.strip_prefix("failed ")?.split_once(": ")?;
        Some(Verdict { check: check.to_owned(), fault: Some(why.to_owned()) })
    };
    said.lines().filter_map(line).collect()
}

/// Demands that a program's checks are as they should be. What is pending is printed, and listed with what `make test` skipped.
pub fn demand(program: &str, verdicts: &[Verdict]) -> Result<()> {
    ensure!(!verdicts.is_empty(), "{program} tried nothing");
    let pending: Vec<&str> = PENDING
        .iter()
        .filter(|(name, _)| *name == program)
        .flat_map(|(_, checks)| checks.iter().copied())
        .collect();
    let mut wrong = Vec::new();
    for Verdict { check, fault } in verdicts {
        match (fault, pending.contains(&check.as_str())) {
            (None, false) => {}
            (None, true) => wrong.push(format!("{check}: it passes now: take it off the list PENDING")),
            (Some(why), false) => wrong.push(format!("{check}: {why}")),
            (Some(why), true) => eprintln!("PENDING {program}: {check}: {why}"),
        }
    }
    if !pending.is_empty() {
        list(program, &pending);
    }
    for check in pending {
        if !verdicts.iter().any(|verdict| verdict.check == check) {
            wrong.push(format!("{check}: there is no such check any more: take it off the list PENDING"));
        }
    }
    ensure!(wrong.is_empty(), "{program}: {} of {}:\n{}", wrong.len(), verdicts.len(), wrong.join("\n"));
    Ok(())
}

/// What `make test` prints at its end.
fn list(program: &str, checks: &[&str]) {
    use std::io::Write as _;
    if let Some(list) = std::env::var_os("HBC_SKIP_LIST")
        && let Ok(mut file) = std::fs::File::options().create(true).append(true).open(list)
    {
        let _not_listed =
            writeln!(file, "{program}: {} checks are pending: {}", checks.len(), checks.join("; "));
    }
}
