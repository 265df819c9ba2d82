//! A changed store: seen before the next write, marked until it is healed, refused with the way to the healthy
//! nodes. Nodes heal only when asked here, so that the attacked state can be looked at.

use std::path::Path;
use std::time::{Duration, Instant};

use hbc_ledger::config::{HealMode, VerifyMode};
use hbc_types::problem::Slug;
use hbc_types::wire::ledger::NodeState;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::healing::{Beside, by_hand};
use crate::net::{Net, txid};

/// Changes one byte of `needle` wherever it stands in the file: unused parts of pages keep old copies.
pub fn flip(path: &Path, needle: &[u8]) -> usize {
    use std::os::unix::fs::FileExt as _;
    let bytes = std::fs::read(path).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    let places = bytes.windows(needle.len()).enumerate().filter(|(_, window)| *window == needle);
    let places: Vec<usize> = places.map(|(at, _)| at + needle.len() / 2).collect();
    places.iter().for_each(|at| file.write_all_at(&[bytes[*at] ^ 1], *at as u64).unwrap());
    *places.first().expect("it is in the main file")
}

async fn a_hex_edit_is_seen_before_the_next_write(verify: VerifyMode) {
    let mut net = Net::start_healing(4, verify, HealMode::Manual);
    let jws = net.transaction();
    net.submit(1, &jws).await.unwrap();
    for index in 0..4 {
        net.finality(index, &txid(&jws)).await;
    }
    let height = net.finality(1, &txid(&jws)).await;
    let payload = jws.split('.').nth(1).unwrap();
    flip(&net.data(1).join("ledger.db"), &payload.as_bytes()[20..44]);

    let next = net.transaction();
    let error = net.submit(1, &next).await.unwrap_err();
    assert_eq!(error.slug(), Some(Slug::NodeAttacked), "{error}");
    let hbc_client::ClientError::Problem(problem) = error else { panic!("a problem") };
    assert!(!problem.document.references.is_empty(), "the healthy peers are named");
    let status = net.status(1).await;
    assert_eq!((status.state, status.first_bad_height), (NodeState::Attacked, Some(height)));

    // The others go on, know of it, and have it on the chain.
    net.submit(0, &next).await.unwrap();
    for index in [0, 2, 3] {
        net.finality(index, &txid(&next)).await;
    }
    wait_for_event(&net, "node-2", "attacked").await;
    assert!(net.status(0).await.attacked_peers.contains(&"node-2".to_owned()));
    assert!(net.endpoint(1).get(&format!("/v1/transactions/{}", txid(&jws))).once().send().await.is_err());

    // A restart does not make it well by itself.
    net.stop(1);
    net.run(1);
    assert_eq!(net.status(1).await.state, NodeState::Attacked);
    let jws = net.transaction();
    assert!(net.submit(1, &jws).await.is_err());
}

pub async fn wait_for_event(net: &Net, node: &str, kind: &str) {
    let started = Instant::now();
    loop {
        let blocks = net.blocks(0, 1).await.blocks;
        let told = blocks.iter().flat_map(|block| &block.transactions).any(|jws| {
            let tx = hbc_chain::tx::Tx::parse(jws.as_bytes()).unwrap();
            matches!(tx.payload(), hbc_chain::payload::Payload::NodeEvent(event)
                if event.node == node && event.event == kind)
        });
        if told {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "`{kind}` is not on the chain");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_hex_edit_is_seen_when_everything_is_verified() {
    a_hex_edit_is_seen_before_the_next_write(VerifyMode::Full).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_hex_edit_is_seen_by_incremental_verification() {
    a_hex_edit_is_seen_before_the_next_write(VerifyMode::Incremental).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_deleted_tip_is_seen_by_the_checkpoint_file() {
    let mut net = Net::start_healing(4, VerifyMode::Incremental, HealMode::Manual);
    let mut height = 0;
    for _ in 0..2 {
        let jws = net.transaction();
        net.submit(2, &jws).await.unwrap();
        height = net.finality(2, &txid(&jws)).await;
    }
    net.stop(2);
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(net.data(2).join("ledger.db"));
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql("DROP TRIGGER blocks_stay").execute(&mut connection).await.unwrap();
    let deleted = sqlx::query("DELETE FROM blocks WHERE height = (SELECT max(height) FROM blocks)");
    deleted.execute(&mut connection).await.unwrap();
    let trigger = "CREATE TRIGGER blocks_stay BEFORE DELETE ON blocks
BEGIN SELECT RAISE(ABORT, 'blocks are never deleted'); END";
    sqlx::raw_sql(trigger).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    net.run(2);
    let status = net.status(2).await;
    assert_eq!(status.state, NodeState::Attacked, "{status:?}");
    assert!(status.first_bad_height.unwrap() >= height, "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_changed_certificate_or_checkpoint_is_seen_at_the_start() {
    let mut net = Net::start_healing(1, VerifyMode::Full, HealMode::Manual);
    let jws = net.transaction();
    net.submit(0, &jws).await.unwrap();
    net.finality(0, &txid(&jws)).await;
    net.stop(0);
    let path = net.data(0).join("checkpoint");
    let note = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, note.replacen("hbc-block 1", "hbc-block 9", 1)).unwrap();
    net.run(0);
    assert_eq!(net.status(0).await.state, NodeState::Attacked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn touching_the_file_alone_is_no_attack() {
    let mut net = Net::start(1, VerifyMode::Incremental);
    for _ in 0..2 {
        let jws = net.transaction();
        net.submit(0, &jws).await.unwrap();
        net.finality(0, &txid(&jws)).await;
        let file = std::fs::File::options().write(true).open(net.data(0).join("ledger.db")).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    }
    assert_eq!(net.status(0).await.state, NodeState::Healthy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_database_that_is_none_any_more_starts_as_attacked() {
    let mut net = Net::start_healing(1, VerifyMode::Full, HealMode::Manual);
    let jws = net.transaction();
    net.submit(0, &jws).await.unwrap();
    net.finality(0, &txid(&jws)).await;
    net.stop(0);
    let path = net.data(0).join("ledger.db");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..16].copy_from_slice(b"SQLite format 9\0");
    std::fs::write(&path, bytes).unwrap();
    net.run(0);
    let status = net.status(0).await;
    assert_eq!((status.state, status.first_bad_height), (NodeState::Attacked, Some(0)), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_byte_that_is_no_text_in_a_file_beside_the_database_keeps_no_node_from_starting() {
    let mut net = Net::start_healing(1, VerifyMode::Incremental, HealMode::Manual);
    net.grow(0, 2).await;
    let spoil = |net: &Net, name: &str| {
        let path = net.data(0).join(name);
        let mut bytes = std::fs::read(&path).unwrap_or_else(|_| b"{}".to_vec());
        bytes[1] |= 0x80;
        std::fs::write(&path, bytes).unwrap();
    };
    net.stop(0);
    spoil(&net, "healed");
    net.run(0);
    let status = net.status(0).await;
    assert_eq!((status.state, status.last_healing), (NodeState::Healthy, None));
    net.stop(0);
    spoil(&net, "checkpoint");
    net.run(0);
    assert_eq!(net.status(0).await.state, NodeState::Attacked, "a bad checkpoint is a fault");
    net.stop(0);
    spoil(&net, "attacked");
    net.run(0);
    let status = net.status(0).await;
    assert_eq!(
        (status.state, status.first_bad_height),
        (NodeState::Attacked, Some(0)),
        "a bad mark is a mark"
    );
    net.document(0, &status.evidence_digest.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_edited_refusal_or_document_is_not_served_and_marks_the_node() {
    for edit in [
        "UPDATE refusals SET reason = 'because'",
        "UPDATE refusals SET excluded_by = zeroblob(32)",
        "DELETE FROM refusals",
        "UPDATE evidence SET detail = CAST('a forgery' AS BLOB)",
        "DELETE FROM evidence",
    ] {
        let mut net = Net::start_healing(1, VerifyMode::Incremental, HealMode::Manual);
        net.grow(0, 1).await;
        net.stop(0);
        let key = net.keys[0].clone();
        let beside = Beside::put(&mut net, 0, &key).await;
        net.run(0);
        beside.are_served(&net, 0).await;
        by_hand(&net, 0, edit).await;
        let path = if edit.contains("refusals") {
            format!("/v1/transactions/{}", beside.refusal.txid)
        } else {
            format!("/v1/evidence/{}", hbc_types::Digest::of(&beside.evidence.detail))
        };
        let error = net.endpoint(0).get(&path).once().send().await.unwrap_err();
        assert_eq!(error.slug(), Some(Slug::Integrity), "{edit}: {error}");
        assert_eq!(net.status(0).await.state, NodeState::Attacked, "{edit}");
    }
}
