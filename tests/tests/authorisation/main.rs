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

use anyhow::Result;
use hbc_testkit::callers;
use hbc_tests::TestApp;
use hbc_tests::spec::operations;

use world::World;

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_refuses_nobody_and_strangers_and_serves_its_rightful_caller() -> Result<()> {
    let Some(app) = TestApp::start().await? else { return Ok(()) };
    let all = operations(&app).await?;
    let world = World::new(app).await?;
    let rows = callers::all();
    let (mut covered, mut wrong) = (BTreeSet::new(), Vec::new());
    // One group after the other: what one builds on may be what another ends.
    for group in ["ledger", "records", "policy", "freezes", "grants", "internal", "auth"] {
        let cases = match group {
            "ledger" => ledger::cases(&world).await?,
            "records" => records::cases(&world),
            "policy" => policy::cases(&world).await?,
            "freezes" => policy::freezes(&world).await?,
            "grants" => policy::grants(&world).await?,
            "internal" => internal::cases(&world).await?,
            _ => auth::cases(&world)?,
        };
        for case in &cases {
            covered.insert(case.name);
            let row = rows.iter().find(|row| case.name == format!("{} {}", row.service, row.name()));
            wrong.extend(row.into_iter().flat_map(|row| case.against(row)));
            match all.iter().find(|operation| operation.name() == case.name) {
                Some(operation) => wrong.extend(case.check(&world.app, operation).await?),
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
    Ok(())
}
