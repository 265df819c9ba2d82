//! A node whose store was changed while it was stopped, or that was stopped while it healed.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hbc_chain::header::HEADER_BYTES;
use hbc_chain::memory::Chain;
use hbc_chain::tx::Tx;
use hbc_ledger::config::{HealMode, VerifyMode};
use hbc_ledger::wal::Wal;
use hbc_testkit::chain::certify;
use hbc_types::Clock;
use hbc_types::keys::PublicKey;
use hbc_types::wire::ledger::{BlocksView, NodeState};
use sqlx::{ConnectOptions as _, Connection as _};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::healing::{Beside, by_hand, flip_stored, is_whole};
use crate::net::{Net, txid};

const TRIGGERS: [&str; 2] = [
    "CREATE TRIGGER blocks_keep BEFORE UPDATE ON blocks
BEGIN SELECT RAISE(ABORT, 'blocks are never changed'); END",
    "CREATE TRIGGER blocks_stay BEFORE DELETE ON blocks
BEGIN SELECT RAISE(ABORT, 'blocks are never deleted'); END",
];

pub async fn without_triggers(net: &Net, index: usize, changes: &[impl AsRef<str>]) {
    by_hand(net, index, "DROP TRIGGER blocks_keep").await;
    by_hand(net, index, "DROP TRIGGER blocks_stay").await;
    for change in changes {
        by_hand(net, index, change.as_ref()).await;
    }
    for trigger in TRIGGERS {
        by_hand(net, index, trigger).await;
    }
}

/// Four nodes with some blocks, node 3 stopped; answers the stored transactions.
async fn stopped() -> (Net, Vec<String>) {
    let mut net = Net::start(4, VerifyMode::Incremental);
    let stored = net.grow(2, 4).await;
    net.one_tip(&[0, 1, 2, 3]).await;
    net.stop(2);
    (net, stored)
}

async fn heals(mut net: Net) {
    net.run(2);
    is_whole(&mut net, 2).await;
    let status = net.status(2).await;
    assert!(status.last_healing.is_some(), "it was found and healed: {status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_byte_changed_while_stopped_is_healed() {
    let (net, stored) = stopped().await;
    flip_stored(&net, 2, &stored[2]);
    heals(net).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn blocks_deleted_from_the_end_are_fetched_again() {
    let (net, _) = stopped().await;
    without_triggers(&net, 2, &["DELETE FROM blocks WHERE height > 1"]).await;
    heals(net).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_older_copy_of_the_file_is_brought_up_to_date() {
    let mut net = Net::start(4, VerifyMode::Incremental);
    net.grow(2, 2).await;
    net.stop(2);
    let old = std::fs::read(net.data(2).join("ledger.db")).unwrap();
    net.run(2);
    net.grow(2, 3).await;
    net.stop(2);
    std::fs::write(net.data(2).join("ledger.db"), old).unwrap();
    heals(net).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_file_that_is_no_database_any_more_or_is_gone_is_made_anew() {
    let (mut net, _) = stopped().await;
    let file = net.data(2).join("ledger.db");
    std::fs::write(&file, b"no database at all, but long enough to be looked at as one".repeat(99)).unwrap();
    net.run(2);
    is_whole(&mut net, 2).await;
    net.stop(2);
    std::fs::remove_file(&file).unwrap();
    heals(net).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_folder_that_was_lost_is_filled_from_the_peers_and_the_node_votes_again() {
    let (mut net, _) = stopped().await;
    std::fs::remove_dir_all(net.data(2)).unwrap();
    net.run(2);
    assert!(net.data(2).join("abstaining").exists(), "it does not know what it signed");
    is_whole(&mut net, 2).await;
    net.grow(2, 3).await;
    speaks_again(&mut net).await;
    // Its vote counts: with another member down there is a quorum only with it.
    net.stop(3);
    net.grow(0, 2).await;
}

async fn speaks_again(net: &mut Net) {
    let started = std::time::Instant::now();
    while net.data(2).join("abstaining").exists() {
        net.grow(0, 1).await;
        assert!(started.elapsed() < std::time::Duration::from_secs(60), "it abstains");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_log_that_is_not_the_stores_makes_the_node_abstaining_until_two_heights_were_decided() {
    let (mut net, _) = stopped().await;
    let wal = net.data(2).join("wal");
    let old = std::fs::read(&wal).unwrap();
    net.run(2);
    net.grow(2, 3).await;
    net.one_tip(&[0, 1, 2, 3]).await;
    net.stop(2);
    type Harm<'a> = Box<dyn Fn() + 'a>;
    let unborn = net.data(2).join("unborn");
    let harms: [Harm<'_>; 4] = [
        Box::new(|| std::fs::write(&wal, &old).unwrap()),
        Box::new(|| std::fs::write(&wal, b"").unwrap()),
        Box::new(|| {
            let mut bytes = std::fs::read(&wal).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            std::fs::write(&wal, bytes).unwrap();
        }),
        // As if it had never run.
        Box::new(|| {
            std::fs::remove_file(&wal).unwrap();
            std::fs::write(&unborn, b"").unwrap();
        }),
    ];
    for harm in harms {
        harm();
        net.run(2);
        assert!(net.data(2).join("abstaining").exists(), "it does not know what it signed");
        assert_eq!(net.status(2).await.state, NodeState::Healthy, "its store is whole");
        speaks_again(&mut net).await;
        net.stop(2);
    }
}

/// Another chain from the same genesis, certified by node 3 alone, in the place of the real one.
async fn forge(net: &mut Net, blocks: usize) {
    let mut chain = Chain::found(net.genesis.clone()).unwrap();
    let key = net.keys[2].clone();
    let (me, mut rows) = (PublicKey::of(&key).kid(), Vec::new());
    for _ in 0..blocks {
        let tx = Arc::new(Tx::parse(net.transaction().as_bytes()).unwrap());
        let next = chain.draft(&[tx], Clock::system().now(), &me).mine(&AtomicBool::new(false)).unwrap();
        let header = next.block.header;
        let signers = std::slice::from_ref(&key);
        let note = certify(chain.origin(), &header, signers, chain.state().members());
        rows.push((header.height, next.block.to_bytes(), note.clone()));
        assert!(chain.extend(next, note));
    }
    without_triggers(net, 2, &["DELETE FROM blocks WHERE height > 0"]).await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(net.data(2).join("ledger.db"));
    let mut connection = options.connect().await.unwrap();
    for (height, bytes, note) in &rows {
        sqlx::query("INSERT INTO blocks VALUES ($1, $2, $3, $4)")
            .bind(i64::try_from(*height).unwrap())
            .bind(&bytes[..HEADER_BYTES])
            .bind(&bytes[HEADER_BYTES..])
            .bind(note)
            .execute(&mut connection)
            .await
            .unwrap();
    }
    connection.close().await.unwrap();
    std::fs::write(net.data(2).join("checkpoint"), &rows.last().unwrap().2).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_chain_that_was_mined_anew_and_signed_by_one_member_is_replaced() {
    let (mut net, stored) = stopped().await;
    forge(&mut net, 6).await;
    net.run(2);
    is_whole(&mut net, 2).await;
    for jws in &stored {
        net.finality(2, &txid(jws)).await;
    }
    assert!(net.status(2).await.last_healing.is_some_and(|healed| healed.blocks_healed >= 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_lying_healer_is_refused_named_and_kept_as_evidence() {
    let (mut net, stored) = stopped().await;
    // What node 1 really has, with one transaction put in the place of another.
    let mut lie: BlocksView = net.blocks(0, 1).await;
    let other = lie.blocks.last().unwrap().transactions.clone();
    for block in &mut lie.blocks {
        block.transactions.clone_from(&other);
    }
    net.stop(0);
    let listener = std::net::TcpListener::bind(("127.0.0.1", net.ports[0])).unwrap();
    let liar = MockServer::builder().listener(listener).start().await;
    let answer = ResponseTemplate::new(200).set_body_json(lie);
    Mock::given(method("GET")).and(path("/v1/blocks")).respond_with(answer).mount(&liar).await;
    flip_stored(&net, 2, &stored[0]);
    net.run(2);
    net.state(2, NodeState::Healthy).await;
    let status = net.status(2).await;
    let healed = status.last_healing.unwrap();
    assert!(healed.fetched_from.iter().all(|peer| peer.node != "node-1"), "{healed:?}");
    assert!(healed.blocks_healed >= 1);
    assert!(!liar.received_requests().await.unwrap_or_default().is_empty());
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(net.data(2).join("ledger.db"));
    let mut connection = options.read_only(true).connect().await.unwrap();
    let kept = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM evidence WHERE kind = 'healer'");
    assert!(kept.fetch_one(&mut connection).await.unwrap() >= 1, "the lie is kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_heal_that_is_interrupted_again_and_again_still_ends() {
    let (mut net, stored) = stopped().await;
    flip_stored(&net, 2, &stored[1]);
    for round in 0..6_u64 {
        net.run(2);
        tokio::time::sleep(std::time::Duration::from_millis(round * 7)).await;
        net.stop(2);
        // What a process that was killed leaves behind.
        std::fs::write(net.data(2).join("ledger.db.new"), b"half a file").unwrap();
    }
    flip_stored(&net, 2, &stored[3]);
    heals(net).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn killed_between_the_new_file_and_the_mark_the_node_heals_again() {
    let (net, _) = stopped().await;
    let mark = r#"{"first_bad_height":2,"evidence":"x","found_at_ms":5}"#;
    std::fs::write(net.data(2).join("attacked"), mark).unwrap();
    std::fs::write(net.data(2).join("owed.db"), b"not a database").unwrap();
    std::fs::write(net.data(2).join("ledger.db.new-wal"), b"rest").unwrap();
    heals(net).await;
}

/// The files of a node that is killed now: its database and its journal as they are, put back once it is stopped.
fn kill(net: &mut Net, index: usize) {
    const FILES: [&str; 4] = ["ledger.db", "ledger.db-wal", "wal", "checkpoint"];
    let folder = net.data(index);
    let saved = folder.join("saved");
    std::fs::create_dir_all(&saved).unwrap();
    for name in FILES {
        std::fs::copy(folder.join(name), saved.join(name)).unwrap();
    }
    net.stop(index);
    for name in FILES {
        std::fs::rename(saved.join(name), folder.join(name)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_bit_changed_in_the_journal_of_a_killed_node_loses_no_promise() {
    for bit in [false, true] {
        let mut net = Net::start(4, VerifyMode::Incremental);
        net.grow(0, 2).await;
        for index in 1..4 {
            net.stop(index);
        }
        let mut promised = Vec::new();
        for _ in 0..5 {
            let jws = net.transaction();
            net.submit(0, &jws).await.unwrap();
            promised.push(txid(&jws));
        }
        kill(&mut net, 0);
        let path = net.data(0).join("ledger.db-wal");
        let mut journal = std::fs::read(&path).unwrap();
        let at = journal.len() / 5;
        journal[at] ^= u8::from(bit);
        std::fs::write(&path, &journal).unwrap();
        (0..4).for_each(|index| net.run(index));
        for txid in &promised {
            net.finality(0, txid).await;
        }
        let healed = net.state(0, NodeState::Healthy).await.last_healing;
        assert_eq!(healed.is_some(), bit, "{healed:?}");
        if let Some(healed) = healed {
            assert!(healed.evidence.contains("journal"), "{healed:?}");
            let kept =
                std::fs::read_dir(net.data(0).join("damaged")).unwrap().next().unwrap().unwrap().path();
            assert!(std::fs::read(kept.join("ledger.db-wal.damaged")).unwrap() == journal);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn rows_that_were_deleted_while_stopped_are_missed() {
    for edit in ["DELETE FROM evidence", "DELETE FROM refusals"] {
        let (mut net, _) = stopped().await;
        let key = net.keys[2].clone();
        let beside = Beside::put(&mut net, 2, &key).await;
        by_hand(&net, 2, edit).await;
        net.run(2);
        is_whole(&mut net, 2).await;
        let healed = net.status(2).await.last_healing.expect("it was noticed");
        assert!(healed.evidence.contains("multiset_hash"), "{healed:?}");
        // What is still there is carried over.
        let other = if edit.contains("evidence") {
            net.view(2, &beside.refusal.txid).await.is_some()
        } else {
            let path = format!("/v1/evidence/{}", hbc_types::Digest::of(&beside.evidence.detail));
            net.endpoint(2).get(&path).once().send().await.is_ok()
        };
        assert!(other, "{edit}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_log_that_demands_what_nobody_has_is_put_away_and_the_node_is_abstaining() {
    let (mut net, _) = stopped().await;
    drop(Wal::begin(&net.data(2).join("wal"), 1_000_000_000).unwrap());
    net.run(2);
    net.state(2, NodeState::Healthy).await;
    let folder = net.data(2);
    assert!(folder.join("wal.refused").exists() && folder.join("abstaining").exists());
    let started = std::time::Instant::now();
    while folder.join("abstaining").exists() {
        net.grow(0, 1).await;
        assert!(started.elapsed() < std::time::Duration::from_secs(60), "it abstains");
    }
    is_whole(&mut net, 2).await;
    net.stop(2);
    net.run(2);
    is_whole(&mut net, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_heal_asks_those_who_announced_an_address_and_a_slow_giver_last() {
    let (mut net, stored) = stopped().await;
    net.heal = HealMode::Manual;
    // Node-1 gives one block at a time, and takes its time for it.
    let honest: BlocksView = net.blocks(1, 1).await;
    net.stop(0);
    let listener = std::net::TcpListener::bind(("127.0.0.1", net.ports[0])).unwrap();
    let slow = MockServer::builder().listener(listener).start().await;
    for block in &honest.blocks {
        let one = BlocksView { blocks: vec![block.clone()], tip: honest.tip };
        let answer = ResponseTemplate::new(200).set_body_json(one);
        let answer = answer.set_delay(std::time::Duration::from_secs(3));
        let from = wiremock::matchers::query_param("from", block.height.to_string());
        Mock::given(method("GET")).and(path("/v1/blocks")).and(from).respond_with(answer).mount(&slow).await;
    }
    for jws in &stored {
        flip_stored(&net, 2, jws);
    }
    let mut config = net.config(2);
    config.peers.truncate(1);
    let board = Arc::new(hbc_ledger::node::heal::Board::default());
    let healed = hbc_ledger::node::heal::stopped::heal(&config, &Clock::system(), board).await.unwrap();
    let from = healed.record.fetched_from;
    assert_eq!(from.get("node-1"), Some(&1), "{from:?}");
    assert!(healed.record.healed_blocks >= 4, "the others were known by their announcements");
}
