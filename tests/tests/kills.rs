//! `kill -9` in the middle of the work, twenty rounds each: what was acknowledged is there once, every released key has
//! its receipt, and no member ever signs two things for one height and round.

use hbc_client::operations::{ledger, storage};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hbc_chain::payload::{Payload, Receipts};
use hbc_chain::tx;
use hbc_tests::{Person, TestApp, chain, wait};
use hbc_types::Digest;
use hbc_types::labels::Category;
use hbc_types::wire::access::AccessKind;
use hbc_types::wire::ledger::{Promise, SubmitTransaction};
use hbc_types::wire::storage::RecordCreated;
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

/// Every acknowledged record is there, equal to the last byte, once, and anchored once.
async fn acknowledged_once(
    app: &TestApp,
    patient: &Person,
    acknowledged: &BTreeMap<String, Vec<u8>>,
) -> Result<()> {
    let records = app.until_anchored(patient).await?;
    let ids: BTreeSet<_> = records.iter().map(|record| record.id.to_string()).collect();
    assert_eq!(ids, acknowledged.keys().cloned().collect(), "exactly the acknowledged records are there");
    assert_eq!(records.len(), ids.len());
    for (id, content) in acknowledged {
        assert_eq!(&app.received(patient, id, "PATRQT").await?, content);
    }
    app.until_equal_tips().await?;
    let mut anchored: BTreeMap<String, u32> = BTreeMap::new();
    let (_, node) = app.nodes.first().context("no node")?;
    for transaction in chain::transactions(node).await? {
        if let Payload::Anchor(anchor) = transaction.payload {
            for segment in anchor.segments {
                *anchored.entry(segment.cid.to_string()).or_default() += 1;
            }
        }
    }
    for record in records {
        assert_eq!(anchored.get(&record.cid), Some(&1), "{} is anchored once", record.id);
    }
    Ok(())
}

/// Uploads under `key` until it is acknowledged, as a client does after a broken connection.
async fn insist(app: &TestApp, patient: &Person, key: &str, content: &[u8]) -> Result<RecordCreated> {
    wait::until("the upload is acknowledged", || async {
        let call = app.storage.to(storage::create_record()).header("idempotency-key", key);
        let call = call.body("application/pdf", content.to_vec());
        match patient.signs(call).once().fetch().await {
            Ok(created) => Ok(Some(created)),
            Err(error) if error.is_transient() => Ok(None),
            // The first attempt's row may still say that it is under way.
            Err(error) if error.status() == Some(409) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
    .await
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
        let created = insist(&app, &patient, &key, &content).await?;
        if let Ok(first) = answer {
            assert_eq!(first.id, created.id, "an acknowledged upload is answered again, not repeated");
        }
        acknowledged.insert(created.id.to_string(), content);
    }
    assert!(interrupted > 0, "no kill met an upload under way");
    acknowledged_once(&app, &patient, &acknowledged).await
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
    acknowledged_once(&app, &patient, &acknowledged).await
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
    let seed = hex::decode(app.secret("access-policy.key")?)?;
    let key = ed25519_dalek::SigningKey::from_bytes(seed.as_slice().try_into()?);
    let chain_id: Digest = chain::status(&app.nodes.first().context("no node")?.1).await?.chain;
    let mut promised = BTreeSet::new();
    for round in 0..ROUNDS {
        let receipts = Receipts {
            chain: chain_id,
            count: 1,
            iat: app.clock.now().unsigned_ms(),
            rights: None,
            root: Digest::from_bytes(app.random.bytes()),
        };
        let jws = tx::sign(&key, &Payload::Receipts(receipts))?;
        let victims = app.nodes.len();
        let (name, node) = app.nodes.get(usize::try_from(round)? % victims).context("no such node")?;
        let promise: Promise =
            node.to(ledger::submit_transaction()).once().json(&SubmitTransaction { jws }).fetch().await?;
        aim(round);
        kill_now(&app, name)?;
        promised.insert(promise.txid);
        revive(&app, name)?;
    }
    for txid in &promised {
        for (_, node) in &app.nodes {
            app.until_final(node, txid).await?;
        }
    }
    app.until_equal_tips().await?;
    for (name, node) in &app.nodes {
        let all = chain::transactions(node).await?;
        for txid in &promised {
            assert_eq!(all.iter().filter(|one| one.txid == *txid).count(), 1, "{txid} stands once on {name}");
        }
        assert!(!app.stack().log(name).contains("signed two things"), "{name} saw a contradiction");
    }
    Ok(())
}
