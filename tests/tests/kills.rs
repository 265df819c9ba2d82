//! `kill -9` in the middle of the work, twenty rounds each: what was acknowledged is there once, every released key has
//! its receipt, and no member ever signs two things for one height and round.

use hbc_client::operations::storage;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hbc_tests::TestApp;
use hbc_types::labels::Category;
use hbc_types::wire::access::AccessKind;
use rustix::process::{Pid, Signal, kill_process};

/// How often each window is hit.
const ROUNDS: u32 = 20;

/// Kills a process this instant; [`revive`] brings it back.
fn kill_now(app: &TestApp, name: &str) -> Result<()> {
    let recorded = std::fs::read_to_string(app.dir().join("run").join(format!("{name}.pid")))?;
    let pid = recorded.split_whitespace().next().context("no pid is recorded")?.parse()?;
    kill_process(Pid::from_raw(pid).context("not a pid")?, Signal::KILL).context("cannot kill")
}

/// Lets the supervisor start it again at once, past its back-off, and waits until it is ready.
fn revive(app: &TestApp, name: &str) -> Result<()> {
    app.stack().stop(name)?;
    app.stack().resume(name)
}

/// Spins for a fraction of a millisecond up to some: which instant of the work the kill meets is what varies.
fn aim(round: u32) {
    let until = Instant::now() + Duration::from_micros(u64::from(round) * 400);
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

/// Names in a folder.
fn entries(folder: &PathBuf) -> BTreeSet<String> {
    let listed = std::fs::read_dir(folder).into_iter().flatten().flatten();
    listed.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_is_killed_between_spool_pin_and_commit() -> Result<()> {
    let Some(app) = TestApp::start().await? else { return Ok(()) };
    let patient = app.patient().await?;
    let spool = app.dir().join("data/storage/spool");
    let mut acknowledged = BTreeMap::new();
    let mut interrupted = 0;
    for round in 0..ROUNDS {
        let (key, content) = (app.key(), format!("%PDF round {round}").into_bytes());
        let seen = entries(&spool);
        let call = app.storage.to(storage::create_record()).header("idempotency-key", &key);
        let call = patient.signs(call.body("application/pdf", content.clone())).once();
        let upload = hbc_tasks::spawn("upload", async move { call.fetch().await });
        let watched = spool.clone();
        let appeared = move || {
            let deadline = Instant::now() + Duration::from_secs(20);
            while Instant::now() < deadline {
                if entries(&watched).difference(&seen).next().is_some() {
                    return true;
                }
            }
            false
        };
        ensure!(tokio::task::spawn_blocking(appeared).await?, "nothing was spooled in round {round}");
        aim(round);
        kill_now(&app, "storage")?;
        let answer = upload.await?;
        interrupted += u32::from(answer.is_err());
        revive(&app, "storage")?;
        let created = app.insist(&patient, &key, &content).await?;
        if let Ok(first) = answer {
            assert_eq!(first.id, created.id, "an acknowledged upload is answered again, not repeated");
        }
        acknowledged.insert(created.id.to_string(), content);
    }
    assert!(interrupted > 0, "no kill met an upload under way");
    app.has_exactly(&patient, &acknowledged).await?;
    app.anchored_once(&patient).await
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_is_killed_between_commit_and_anchor() -> Result<()> {
    let Some(app) = TestApp::start().await? else { return Ok(()) };
    let patient = app.patient().await?;
    let mut acknowledged = BTreeMap::new();
    for round in 0..ROUNDS {
        let content = format!("%PDF committed in round {round}").into_bytes();
        let created = app.upload(&patient, &content).await?;
        aim(round);
        kill_now(&app, "storage")?;
        acknowledged.insert(created.id.to_string(), content);
        revive(&app, "storage")?;
    }
    app.has_exactly(&patient, &acknowledged).await?;
    app.anchored_once(&patient).await
}

#[tokio::test(flavor = "multi_thread")]
async fn access_policy_is_killed_around_a_key_release() -> Result<()> {
    let Some(app) = TestApp::start().await? else { return Ok(()) };
    let (patient, doctor) = (app.patient().await?, app.doctor().await?);
    let record = app.upload(&patient, b"%PDF what is read").await?.id;
    app.grant(&patient, &doctor, app.scope(&[Category::Document])).await?;
    let (mut reads, mut interrupted) = (0, 0);
    for round in 0..ROUNDS {
        let call = app.storage.to(storage::get_received(&record)).once();
        let call = doctor.signs(call.header("hbc-purpose", "TREAT"));
        let read = hbc_tasks::spawn("read", async move { call.send().await });
        tokio::task::spawn_blocking(move || aim(round)).await?;
        kill_now(&app, "access-policy")?;
        match read.await? {
            Ok(_) => reads += 1,
            Err(_) => interrupted += 1,
        }
        revive(&app, "access-policy")?;
    }
    assert_eq!(app.received(&doctor, record.as_str(), "TREAT").await?, b"%PDF what is read");
    reads += 1;
    let log = app.until_receipts_anchored(&patient).await?;
    let of_reads = log.iter().filter(|line| line.receipt.kind == AccessKind::Read).count();
    assert!(of_reads >= reads, "{reads} reads succeeded and {of_reads} have receipts");
    let numbers: BTreeSet<_> = log.iter().map(|line| line.receipt.n).collect();
    assert_eq!(numbers, (1..=u64::try_from(log.len())?).collect(), "no receipt is missing");
    assert!(interrupted > 0, "no kill met a read under way");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ledger_nodes_are_killed_between_promise_and_block() -> Result<()> {
    let Some(app) = TestApp::start().await? else { return Ok(()) };
    let mut promised = BTreeSet::new();
    for round in 0..ROUNDS {
        let victims = app.nodes.len();
        let (name, node) = app.nodes.get(usize::try_from(round)? % victims).context("no such node")?;
        let txid = app.promise(node).await?;
        aim(round);
        kill_now(&app, name)?;
        promised.insert(txid);
        revive(&app, name)?;
    }
    app.promised_once(&promised).await
}
