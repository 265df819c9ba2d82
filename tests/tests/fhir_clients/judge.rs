//! The judge: HAPI's instance validator, which knows HL7's definitions of R4 and nothing of HBC.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use hbc_tests::tools;

use crate::verdict::{self, Verdict};
use crate::{answers, world};

/// What must be found wrong, so that silence means something.
const WRONG: [(&str, &str); 3] = [
    ("wrong-form", r#"{"resourceType":"Bundle","type":"searchset","entry":[]}"#),
    ("wrong-code", r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"nonsense"}]}"#),
    ("wrong-rule", r#"{"resourceType":"Bundle","type":"transaction-response","total":1}"#),
];

/// What the judge finds wrong in the files of a folder, by their names.
fn faults(mut judge: Command, folder: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let output = tools::run(judge.arg(folder))?;
    let said = String::from_utf8(output.stdout).context("the judge said no text")?;
    let mut lines: Vec<&str> = said.lines().collect();
    let files = std::fs::read_dir(folder)?.count();
    ensure!(
        lines.pop() == Some(format!("judged {files}").as_str()),
        "the judge did not judge all: {said:.500}"
    );
    let mut faults: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in lines {
        let (file, what) = line.split_once('\t').context("the judge said something else")?;
        faults.entry(file.trim_end_matches(".json").to_owned()).or_default().push(what.replace('\t', ": "));
    }
    Ok(faults)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_independent_judge_finds_nothing_wrong_with_any_answer() -> Result<()> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/java/Judge.java");
    let Some(judge) = tools::java(&program) else { return Ok(()) };
    let Some(app) = world::stack().await? else { return Ok(()) };
    world::directory(&app).await?;
    let answers = answers::collect(&app).await?;
    let folder = tempfile::tempdir()?;
    for (name, body) in WRONG {
        std::fs::write(folder.path().join(format!("{name}.json")), body)?;
    }
    for answer in answers.iter().filter(|answer| !answer.body.is_empty()) {
        std::fs::write(folder.path().join(format!("{}.json", answer.name)), &answer.body)?;
    }
    let place = folder.path().to_owned();
    let mut faults = tokio::task::spawn_blocking(move || faults(judge, &place)).await??;
    for (name, _) in WRONG {
        ensure!(faults.remove(name).is_some(), "the judge sleeps: {name}");
    }
    let verdicts: Vec<Verdict> = answers
        .into_iter()
        .map(|answer| {
            let found = faults.remove(&answer.name).map(|found| found.join("; "));
            Verdict { check: answer.name, fault: answer.fault.or(found) }
        })
        .collect();
    verdict::demand("judge", &verdicts)
}
