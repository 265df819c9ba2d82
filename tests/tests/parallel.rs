//! 64 uploads at once while ledger nodes die and stop: every record is anchored exactly once, and the nodes agree.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "test code")]

use std::collections::BTreeMap;

use anyhow::Result;
use futures_util::future::{join_all, try_join_all};
use hbc_chain::payload::Payload;
use hbc_tests::chain::{status, transactions};
use hbc_tests::wait::until;
use hbc_tests::{Person, TestApp};
use hbc_types::wire::storage::RecordCreated;
use tokio::sync::watch;

const UPLOADS: usize = 64;

fn content(number: usize) -> Vec<u8> {
    format!("%PDF-1.7 document {number} ").repeat(40).into_bytes()
}

/// Uploads every document under the keys given, all at once; counts those that are acknowledged.
async fn upload_all(
    app: &TestApp,
    patient: &Person,
    keys: &[String],
    acknowledged: &watch::Sender<usize>,
) -> Result<Vec<RecordCreated>> {
    let owner = patient.patient()?.as_str();
    let calls = keys.iter().enumerate().map(|(number, key)| async move {
        let call = app.document(patient, owner, content(number)).idempotency_key(key);
        let created = call.fetch().await?;
        acknowledged.send_modify(|count| *count += 1);
        Ok(created)
    });
    try_join_all(calls).await
}

/// While uploads are under way one node is killed, and one is stopped and started again. Answers how many uploads were
/// acknowledged when both were down.
async fn trouble(app: &TestApp, mut acknowledged: watch::Receiver<usize>) -> Result<usize> {
    acknowledged.wait_for(|count| *count > 0).await?;
    tokio::task::block_in_place(|| app.stack().kill("node-2"))?;
    tokio::task::block_in_place(|| app.stack().stop("node-3"))?;
    let before = *acknowledged.borrow();
    tokio::task::block_in_place(|| app.stack().resume("node-2"))?;
    until("three nodes have a quorum again", || async {
        let seen = join_all(
            ["node-1", "node-2", "node-4"]
                .map(|name| async move { status(app.node(name)?).await.map(|status| status.quorum) }),
        );
        Ok(seen.await.into_iter().all(|quorum| quorum.unwrap_or(false)).then_some(()))
    })
    .await?;
    tokio::task::block_in_place(|| app.stack().resume("node-3"))?;
    Ok(before)
}

/// How often each CID stands in an anchor, as this node has it.
async fn anchored(app: &TestApp, node: &str) -> Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for transaction in transactions(app.node(node)?).await? {
        if let Payload::Anchor(anchor) = transaction.payload {
            for segment in anchor.segments {
                *counts.entry(segment.cid).or_default() += 1;
            }
        }
    }
    Ok(counts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_one_of_64_uploads_is_anchored_once_whatever_happens_to_two_nodes() -> Result<()> {
    let Some(app) = TestApp::start().await? else { return Ok(()) };
    let patient = app.patient().await?;
    let keys: Vec<String> = (0..UPLOADS).map(|_| app.key()).collect();
    let (acknowledged, watched) = watch::channel(0);
    let uploads = upload_all(&app, &patient, &keys, &acknowledged);
    let (uploaded, troubled) = tokio::join!(uploads, trouble(&app, watched));
    let created = uploaded?;
    eprintln!("{} of {UPLOADS} uploads were acknowledged when the nodes were down", troubled?);
    let again = upload_all(&app, &patient, &keys, &acknowledged).await?;
    for (first, second) in created.iter().zip(&again) {
        assert_eq!((&first.id, &first.cid), (&second.id, &second.cid), "the same key made another record");
    }
    let records = app.until_anchored(&patient).await?;
    assert_eq!(records.len(), UPLOADS);
    app.until_equal_tips().await?;
    for (name, _) in &app.nodes {
        let counts = anchored(&app, name).await?;
        for record in &created {
            assert_eq!(counts.get(&record.cid), Some(&1), "{} on {name}", record.cid);
        }
    }
    let chains = try_join_all(app.nodes.iter().map(|(_, node)| transactions(node))).await?;
    // Receipts go on being written while the nodes are asked.
    let last = chains.iter().filter_map(|chain| Some(chain.last()?.height)).min().unwrap_or(0);
    let ids = |chain: &[hbc_tests::chain::Final]| -> Vec<_> {
        let common = chain.iter().filter(|transaction| transaction.height <= last);
        common.map(|transaction| (transaction.height, transaction.txid)).collect()
    };
    for chain in &chains {
        assert_eq!(ids(chain), ids(&chains[0]));
    }
    for (number, record) in created.iter().enumerate() {
        assert_eq!(app.received(&patient, record.id.as_str(), "PATRQT").await?, content(number));
    }
    Ok(())
}
