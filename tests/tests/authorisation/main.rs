//! Every operation is tried anonymous, by a stranger, and by its rightful caller. An operation without a case fails.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "test code")]

mod auth;
mod case;
mod internal;
mod ledger;
mod policy;
mod records;
mod world;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use hbc_testkit::callers;
use hbc_tests::TestApp;
use hbc_tests::examples::{self, Example};
use hbc_tests::spec::{Operation, operations};

use world::World;

/// A list of operations that may only shrink.
fn listed(name: &str) -> BTreeSet<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name);
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_refuses_nobody_and_strangers_and_serves_its_rightful_caller() -> Result<()> {
    let Some(app) = TestApp::start_with(hbc_tests::apps::with_page).await? else { return Ok(()) };
    let all = operations(&app).await?;
    let world = World::new(app).await?;
    let rows = callers::all();
    let (mut covered, mut wrong, mut served) = (BTreeSet::new(), Vec::new(), Vec::new());
    // One group after the other: what one builds on may be what another ends.
    for group in ["ledger", "records", "policy", "freezes", "grants", "internal", "auth"] {
        let cases = match group {
            "ledger" => ledger::cases(&world).await?,
            "records" => records::cases(&world),
            "policy" => policy::cases(&world).await?,
            "freezes" => policy::freezes(&world).await?,
            "grants" => policy::grants(&world).await?,
            "internal" => internal::cases(&world).await?,
            _ => auth::cases(&world).await?,
        };
        for case in &cases {
            covered.insert(case.name);
            let row = rows.iter().find(|row| case.name == format!("{} {}", row.service, row.name()));
            wrong.extend(row.into_iter().flat_map(|row| case.against(row)));
            match all.iter().find(|operation| operation.name() == case.name) {
                Some(operation) => wrong.extend(case.check(&world.app, operation, &mut served).await?),
                None => wrong.push(format!("there is no operation {}", case.name)),
            }
        }
    }
    assert!(wrong.is_empty(), "{} answers are wrong:\n{}", wrong.len(), wrong.join("\n"));
    let names: BTreeSet<String> = all.iter().map(hbc_tests::spec::Operation::name).collect();
    let listed: BTreeSet<String> = rows.iter().map(|one| format!("{} {}", one.service, one.name())).collect();
    assert_eq!(names, listed, "the list of who may call what");
    let missing: Vec<&String> = names.iter().filter(|name| !covered.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "operations without a case: {missing:#?}");
    if std::env::var_os("HBC_WRITE_EXAMPLES").is_some() {
        return examples::add(&served);
    }
    compare_examples(&all, &served)
}

/// Every operation has an example, which is as described, and like what was sent and answered just now.
fn compare_examples(all: &[Operation], served: &[(Operation, Example)]) -> Result<()> {
    let (known, open) = (examples::read()?, listed("operations-without-an-example.txt"));
    let mut wrong = Vec::new();
    for operation in all {
        let (name, example) =
            (operation.name(), known.get(&operation.service).and_then(|all| all.get(operation.id().ok()?)));
        let example = match (example, open.contains(&name)) {
            (Some(example), false) => example,
            (None, true) => continue,
            (None, false) => {
                wrong.push(format!(
                    "{name} has no example: HBC_WRITE_EXAMPLES=1 writes it into openapi/examples.json"
                ));
                continue;
            }
            (Some(_), true) => {
                wrong.push(format!("{name} has an example: take it off the list"));
                continue;
            }
        };
        if let Err(error) = examples::valid(operation, example) {
            wrong.push(format!("{name}: {error:#}"));
        }
        match served.iter().find(|(one, _)| one.name() == name) {
            Some((_, seen)) => {
                wrong.extend(
                    examples::differences(example, seen).into_iter().map(|one| format!("{name}: {one}")),
                );
            }
            None => wrong.push(format!("{name}: nobody was served")),
        }
    }
    assert!(wrong.is_empty(), "examples and answers differ:\n{}", wrong.join("\n"));
    Ok(())
}
