//! The rolling scrub and start-up verification: what nobody reads or writes is read again all the same.

use std::time::{Duration, Instant};

use hbc_ledger::config::{HealMode, VerifyMode};
use hbc_types::problem::Slug;
use hbc_types::wire::ledger::{NodeState, NodeStatus};

use sqlx::{ConnectOptions as _, Row as _};

use crate::healing::Beside;
use crate::net::{Net, txid};
use crate::tampering::flip;

/// Some blocks on one node that scrubs every second.
async fn some_blocks(verify: VerifyMode) -> (Net, Vec<String>) {
    let mut net = Net::new(1, verify);
    net.scrub_period_s = 1;
    net.heal = HealMode::Manual;
    net.run(0);
    let mut sent = Vec::new();
    for _ in 0..4 {
        let jws = net.transaction();
        net.submit(0, &jws).await.unwrap();
        net.finality(0, &txid(&jws)).await;
        sent.push(jws);
    }
    (net, sent)
}

async fn until(net: &Net, what: &str, holds: impl Fn(&NodeStatus) -> bool) -> NodeStatus {
    let started = Instant::now();
    loop {
        let status = net.status(0).await;
        if holds(&status) {
            return status;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "not within a minute: {what}: {status:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_idle_node_reads_everything_again_within_its_period_and_says_so() {
    let (net, _) = some_blocks(VerifyMode::Incremental).await;
    let first = until(&net, "a pass ends", |status| status.last_full_scrub.is_some()).await;
    assert_eq!(first.scrub_period_s, 1);
    let next = until(&net, "another", |status| status.last_full_scrub > first.last_full_scrub).await;
    assert_eq!((next.state, next.scrub_blocks), (NodeState::Healthy, next.height + 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_the_start_verified_is_not_verified_again_by_the_first_write() {
    let mut net = Net::start(1, VerifyMode::Incremental);
    net.grow(0, 2).await;
    net.stop(0);
    net.run(0);
    let at_the_start = net.status(0).await.last_full_verification;
    net.grow(0, 2).await;
    assert_eq!(net.status(0).await.last_full_verification, at_the_start);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_changed_old_body_is_found_by_an_idle_node() {
    for verify in [VerifyMode::Incremental, VerifyMode::Full] {
        let (net, sent) = some_blocks(verify).await;
        let height = net.finality(0, &txid(&sent[1])).await;
        let signed = sent[1].rsplit('.').next().unwrap();
        flip(&net.data(0).join("ledger.db"), &signed.as_bytes()[..40]);
        let status = until(&net, "attacked", |status| status.state == NodeState::Attacked).await;
        assert_eq!(status.first_bad_height, Some(height), "{status:?}");
    }
}

/// The signature part of a block's certificate, as it stands in the file.
async fn signature(net: &Net, height: u64) -> String {
    let certificate = net.blocks(0, height).await.blocks.remove(0).certificate;
    certificate.trim_end().rsplit(' ').next().and_then(|line| line.get(20..60)).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_changed_old_certificate_is_found_by_an_idle_node() {
    let (net, _) = some_blocks(VerifyMode::Incremental).await;
    let signature = signature(&net, 2).await;
    flip(&net.data(0).join("ledger.db"), signature.as_bytes());
    let status = until(&net, "attacked", |status| status.state == NodeState::Attacked).await;
    assert_eq!(status.first_bad_height, Some(2), "{status:?}");
    assert!(status.evidence.unwrap().contains("certificate"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_changed_old_certificate_is_found_at_the_start_and_never_served() {
    let (mut net, sent) = some_blocks(VerifyMode::Incremental).await;
    let found = signature(&net, 2).await;
    net.stop(0);
    flip(&net.data(0).join("ledger.db"), found.as_bytes());
    net.run(0);
    let status = net.status(0).await;
    assert_eq!((status.state, status.first_bad_height), (NodeState::Attacked, Some(2)), "{status:?}");

    let mut net = Net::start_healing(1, VerifyMode::Incremental, HealMode::Manual);
    for jws in sent.iter().map(|_| net.transaction()).collect::<Vec<_>>() {
        net.submit(0, &jws).await.unwrap();
        net.finality(0, &txid(&jws)).await;
    }
    let found = signature(&net, 1).await;
    flip(&net.data(0).join("ledger.db"), found.as_bytes());
    let error = net.endpoint(0).get("/v1/blocks/1").once().send().await.unwrap_err();
    assert_eq!(error.slug(), Some(Slug::Integrity), "{error}");
    let status = net.status(0).await;
    assert_eq!((status.state, status.first_bad_height), (NodeState::Attacked, Some(1)), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn rows_beside_the_blocks_and_index_pages_are_read_again_by_an_idle_node() {
    let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
    for (what, column) in
        [("a refusal", 0), ("a document", 1), ("an index", 2), ("a row of the multiset hash", 3)]
    {
        let (mut net, _) = some_blocks(VerifyMode::Incremental).await;
        net.stop(0);
        let beside = Beside::put(&mut net, 0, &key).await;
        let path = net.data(0).join("ledger.db");
        let nonce = nonce(&path).await;
        net.run(0);
        let needle = match column {
            0 => beside.refusal.reason.as_bytes(),
            1 => &beside.evidence.detail,
            // Once in the table and once in its index: the one that comes first in the file alone is changed.
            2 => beside.refusal.txid.as_bytes().as_slice(),
            _ => &nonce,
        };
        let bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[bytes[at + 5] ^ 4], at as u64 + 5).unwrap();
        let status = until(&net, what, |status| status.state == NodeState::Attacked).await;
        println!("{what}: {:?}", status.evidence);
    }
}

/// Of the multiset hash, which changes with each promise.
async fn nonce(path: &std::path::Path) -> Vec<u8> {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).read_only(true);
    let mut connection = options.connect().await.unwrap();
    sqlx::query("SELECT nonce FROM multiset_hash").fetch_one(&mut connection).await.unwrap().get(0)
}
