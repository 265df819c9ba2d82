//! A node whose store was changed while it runs: it heals, nothing acknowledged is lost, and the others see it.

use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use hbc_ledger::config::{HealMode, VerifyMode};
use hbc_ledger::store::{MacKey, Store, StoredEvidence, StoredRefusal};
use hbc_types::Digest;
use hbc_types::problem::Slug;
use hbc_types::wire::ledger::{NodeState, TransactionState};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::net::{Net, txid};
use crate::tampering::{flip, wait_for_event};

/// Changes a byte of this transaction where blocks hold it; answers the place. (Pages that were split leave copies
/// in free space: all are changed.)
pub fn flip_stored(net: &Net, index: usize, jws: &str) -> usize {
    let mut needle = u32::try_from(jws.len()).unwrap().to_be_bytes().to_vec();
    needle.extend_from_slice(jws.as_bytes());
    flip(&net.data(index).join("ledger.db"), &needle)
}

/// Runs SQL on a node's database from outside the node.
pub async fn by_hand(net: &Net, index: usize, sql: impl Into<String>) -> u64 {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(net.data(index).join("ledger.db"));
    let mut connection = options.connect().await.unwrap();
    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.into())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    done.rows_affected()
}

/// Rows that no block proves, as a node would have them from before.
pub struct Beside {
    pub refusal: StoredRefusal,
    pub evidence: StoredEvidence,
}

impl Beside {
    /// Puts them into the database of a node that does not run, under its key.
    pub async fn put(net: &mut Net, index: usize, key: &SigningKey) -> Self {
        let jws = net.transaction();
        let refusal = StoredRefusal {
            txid: txid(&jws),
            jws: jws.into_bytes(),
            reason: "it came too late".to_owned(),
            excluded_by: None,
        };
        let evidence = StoredEvidence {
            kind: "equivocation".into(),
            member: Some([9; 32]),
            height: 1,
            detail: format!("a document of node {index}").into_bytes(),
        };
        let path = net.data(index).join("ledger.db");
        let store = Store::open(&path, true, MacKey::of(key)).await.unwrap();
        assert_eq!(store.take_inventory().await.unwrap(), None);
        store.refuse(std::slice::from_ref(&refusal), 5).await.unwrap();
        store.add_evidence(&evidence, 6).await.unwrap();
        store.close().await.unwrap();
        Self { refusal, evidence }
    }

    /// They are still there, and served.
    pub async fn are_served(&self, net: &Net, index: usize) {
        let view = net.view(index, &self.refusal.txid).await.expect("the refusal is known");
        assert_eq!(view.state, TransactionState::Refused);
        assert_eq!(view.refusal.as_deref(), Some("it came too late"));
        let document = net.document(index, &Digest::of(&self.evidence.detail)).await;
        assert_eq!(document, self.evidence.detail);
    }
}

/// Sends a write that the damaged node refuses; answers the write.
async fn refused_write(net: &mut Net, index: usize) -> String {
    let jws = net.transaction();
    let error = net.submit(index, &jws).await.unwrap_err();
    assert_eq!(error.slug(), Some(Slug::NodeAttacked), "{error}");
    jws
}

/// The node is well again, has the others' tip, and takes writes that become final everywhere.
pub async fn is_whole(net: &mut Net, index: usize) {
    net.state(index, NodeState::Healthy).await;
    let jws = net.transaction();
    net.submit(index, &jws).await.unwrap();
    let all: Vec<usize> = (0..net.ports.len()).collect();
    for other in &all {
        net.finality(*other, &txid(&jws)).await;
    }
    net.one_tip(&all).await;
    let folder = net.data(index);
    for gone in ["attacked", "ledger.db.new", "owed.db"] {
        assert!(!folder.join(gone).exists(), "{gone} is left");
    }
}

async fn an_edited_node_heals(verify: VerifyMode) {
    let mut net = Net::start(4, verify);
    let stored = net.grow(1, 3).await;
    net.one_tip(&[0, 1, 2, 3]).await;
    let damaged = std::fs::read(net.data(1).join("ledger.db")).unwrap();
    let place = flip_stored(&net, 1, &stored[1]);
    let height = net.finality(0, &txid(&stored[1])).await;
    let jws = refused_write(&mut net, 1).await;
    // The others go on meanwhile.
    net.submit(0, &jws).await.unwrap();
    net.finality(0, &txid(&jws)).await;

    let status = net.state(1, NodeState::Healthy).await;
    let healed = status.last_healing.expect("it says that it healed");
    assert_eq!((healed.first_bad_height, healed.blocks_healed), (height, 1), "{healed:?}");
    assert_eq!(healed.fetched_from.iter().map(|peer| peer.blocks).sum::<u64>(), 1);
    assert_eq!((status.first_bad_height, status.evidence, status.healing), (None, None, None));
    for kind in ["attacked", "healed"] {
        wait_for_event(&net, "node-2", kind).await;
    }
    is_whole(&mut net, 1).await;
    assert!(net.evidence(1).await >= 1, "the evidence is kept");
    let kept = std::fs::read_dir(net.data(1).join("damaged")).unwrap().next().unwrap().unwrap().path();
    let bytes = std::fs::read(kept.join("ledger.db")).unwrap();
    assert_eq!(bytes[place], damaged[place] ^ 1, "the damaged byte is kept");
    let rows = std::fs::read_to_string(kept.join("rows")).unwrap();
    assert!(rows.contains(&format!("\"height\":{height}")), "{rows}");

    net.stop(1);
    net.run(1);
    is_whole(&mut net, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_edited_node_heals_when_everything_is_verified() {
    an_edited_node_heals(VerifyMode::Full).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_edited_node_heals_by_incremental_verification() {
    an_edited_node_heals(VerifyMode::Incremental).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_file_deleted_under_a_running_node_is_made_anew_with_what_no_block_proves() {
    let mut net = Net::start(4, VerifyMode::Incremental);
    net.stop(2);
    let key = net.keys[2].clone();
    let beside = Beside::put(&mut net, 2, &key).await;
    net.run(2);
    net.grow(2, 3).await;
    std::fs::remove_file(net.data(2).join("ledger.db")).unwrap();
    refused_write(&mut net, 2).await;
    is_whole(&mut net, 2).await;
    beside.are_served(&net, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_dropped_trigger_and_a_changed_certificate_are_found_and_healed() {
    let mut net = Net::start(4, VerifyMode::Incremental);
    net.grow(2, 3).await;
    by_hand(&net, 2, "DROP TRIGGER blocks_keep").await;
    refused_write(&mut net, 2).await;
    is_whole(&mut net, 2).await;
    // A certificate below the tip, by somebody who drops the trigger for it and puts it back.
    let trigger = "CREATE TRIGGER blocks_keep BEFORE UPDATE ON blocks
BEGIN SELECT RAISE(ABORT, 'blocks are never changed'); END";
    by_hand(&net, 2, "DROP TRIGGER blocks_keep").await;
    by_hand(&net, 2, "UPDATE blocks SET certificate = replace(certificate, 'A', 'B') WHERE height = 1").await;
    by_hand(&net, 2, trigger).await;
    refused_write(&mut net, 2).await;
    let status = net.state(2, NodeState::Healthy).await;
    assert_eq!(status.last_healing.unwrap().first_bad_height, 1);
    is_whole(&mut net, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn promises_that_were_changed_or_deleted_come_back_from_memory() {
    let mut net = Net::start(4, VerifyMode::Incremental);
    net.grow(0, 2).await;
    for index in 1..4 {
        net.stop(index);
    }
    let mut promised = Vec::new();
    for _ in 0..3 {
        let jws = net.transaction();
        net.submit(0, &jws).await.unwrap();
        promised.push(jws);
    }
    let changed =
        by_hand(&net, 0, "UPDATE promises SET jws = replace(jws, 'e', 'f') WHERE seq % 2 = 1").await;
    let deleted = by_hand(&net, 0, "DELETE FROM promises WHERE seq % 2 = 0").await;
    assert_eq!(changed + deleted, 3);
    refused_write(&mut net, 0).await;
    let status = net.state(0, NodeState::Healthy).await;
    assert!(status.last_healing.unwrap().evidence.contains("promises"));
    // Not from memory any more.
    net.stop(0);
    for index in 0..4 {
        net.run(index);
    }
    for jws in &promised {
        net.finality(0, &txid(jws)).await;
    }
    is_whole(&mut net, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn two_of_four_that_are_damaged_at_once_both_heal() {
    let mut net = Net::start(4, VerifyMode::Incremental);
    let stored = net.grow(0, 4).await;
    net.one_tip(&[0, 1, 2, 3]).await;
    flip_stored(&net, 1, &stored[0]);
    flip_stored(&net, 2, &stored[2]);
    refused_write(&mut net, 1).await;
    refused_write(&mut net, 2).await;
    for index in [1, 2] {
        is_whole(&mut net, index).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_any_peer_it_says_so_and_heals_once_one_is_back() {
    let mut net = Net::start(4, VerifyMode::Incremental);
    let stored = net.grow(3, 3).await;
    for index in 0..3 {
        net.stop(index);
    }
    flip_stored(&net, 3, &stored[1]);
    refused_write(&mut net, 3).await;
    let started = Instant::now();
    loop {
        let status = net.status(3).await;
        let trouble = status.healing.and_then(|healing| healing.trouble);
        if status.state == NodeState::Healing && trouble.is_some_and(|trouble| trouble.contains("node-1")) {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "it does not say what it waits for");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Readiness follows within a second.
    while net.endpoint(3).get("/readyz").once().send().await.is_ok() {
        assert!(started.elapsed() < Duration::from_secs(60), "it says that it is ready");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for index in 0..3 {
        net.run(index);
    }
    is_whole(&mut net, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_new_file_that_cannot_be_written_is_tried_again() {
    let mut net = Net::start(4, VerifyMode::Incremental);
    let stored = net.grow(3, 2).await;
    let in_the_way = net.data(3).join("ledger.db.new");
    std::fs::create_dir(&in_the_way).unwrap();
    flip_stored(&net, 3, &stored[0]);
    refused_write(&mut net, 3).await;
    let started = Instant::now();
    while net.status(3).await.healing.is_none_or(|healing| healing.trouble.is_none()) {
        assert!(started.elapsed() < Duration::from_secs(60), "it does not say that it failed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    std::fs::remove_dir(&in_the_way).unwrap();
    is_whole(&mut net, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_node_that_heals_only_when_asked_is_healed_while_stopped() {
    let mut net = Net::start_healing(4, VerifyMode::Full, HealMode::Manual);
    let stored = net.grow(1, 3).await;
    flip_stored(&net, 1, &stored[0]);
    refused_write(&mut net, 1).await;
    let board = std::sync::Arc::new(hbc_ledger::node::heal::Board::default());
    net.stop(1);
    let heal = hbc_ledger::node::heal::stopped::heal;
    let clock = hbc_types::Clock::system();
    let healed = heal(&net.config(1), &clock, board.clone()).await.unwrap();
    assert_eq!(healed.record.healed_blocks, 1);
    let tip = net.status(0).await;
    assert!(healed.height <= tip.height);
    let header = net.blocks(0, healed.height).await.blocks.remove(0).header;
    let header = hbc_chain::header::Header::from_bytes(header.as_slice()).unwrap();
    assert_eq!((healed.state_root, healed.log_root), (header.state_root, header.log_root));
    let root = hbc_types::hash::state(&healed.map, &healed.anchors, &healed.pages);
    assert_eq!(root, header.state_root);
    net.run(1);
    wait_for_event(&net, "node-2", "healed").await;
    is_whole(&mut net, 1).await;
    // A node that runs keeps its folder.
    let error = heal(&net.config(1), &clock, board).await.unwrap_err();
    assert!(format!("{error:#}").contains("running"), "{error:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_node_that_reaches_nobody_is_told_of_by_those_who_hear_it() {
    let mut net = Net::new(4, VerifyMode::Incremental);
    net.heal = HealMode::Manual;
    net.mute.insert(1);
    for index in 0..4 {
        net.run(index);
    }
    let stored = net.grow(0, 2).await;
    net.one_tip(&[0, 2, 3]).await;
    // It hears votes and proposals, and decides by what it hears.
    net.finality(1, &txid(&stored[1])).await;
    flip_stored(&net, 1, &stored[0]);
    refused_write(&mut net, 1).await;
    let status = net.status(1).await;
    let digest = status.evidence_digest.unwrap();
    for index in [0, 2, 3] {
        net.told_of(index, "node-2", "attacked", &digest).await;
    }
    let told = net.status(0).await.events;
    let told: Vec<_> = told.iter().filter(|told| told.event == "attacked").collect();
    assert_eq!(told.len(), 1, "once: {told:?}");
    assert_eq!(Some(told[0].height), status.first_bad_height);
    // Enough of them keep the document to show it when the node itself is gone.
    net.stop(1);
    let mut kept = 0;
    for index in [0, 2, 3] {
        let path = format!("/v1/evidence/{digest}");
        kept += usize::from(net.endpoint(index).get(&path).once().send().await.is_ok());
    }
    assert!(kept >= 2, "{kept} of three have it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_same_fault_a_second_time_is_told_a_second_time() {
    let mut net = Net::start(4, VerifyMode::Incremental);
    let stored = net.grow(1, 2).await;
    net.one_tip(&[0, 1, 2, 3]).await;
    let mut told = std::collections::BTreeSet::new();
    for _ in 0..2 {
        flip_stored(&net, 1, &stored[0]);
        refused_write(&mut net, 1).await;
        is_whole(&mut net, 1).await;
        let healed = net.status(1).await.last_healing.unwrap();
        net.until("both are told", async || {
            let events = net.status(0).await.events;
            let count = |kind| events.iter().filter(|told| told.event == kind).count();
            count("attacked") == told.len() + 1 && count("healed") == told.len() + 1
        })
        .await;
        for event in net.status(0).await.events {
            // Each names a document that the node itself shows, healed or not.
            let document = net.document(1, &event.evidence).await;
            assert!(String::from_utf8(document).unwrap().contains(&healed.evidence));
            if event.event == "attacked" {
                told.insert(event.evidence);
            }
        }
    }
    assert_eq!(told.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nothing_is_healed_before_the_mark_is_on_disk() {
    let mut net = Net::start(4, VerifyMode::Incremental);
    let stored = net.grow(1, 2).await;
    net.one_tip(&[0, 1, 2, 3]).await;
    let in_the_way = net.data(1).join("attacked.new");
    std::fs::create_dir(&in_the_way).unwrap();
    flip_stored(&net, 1, &stored[0]);
    refused_write(&mut net, 1).await;
    net.grow(0, 3).await;
    assert_eq!(net.status(1).await.state, NodeState::Attacked);
    assert!(!net.data(1).join("attacked").exists() && !net.data(1).join("ledger.db.new").exists());
    std::fs::remove_dir(&in_the_way).unwrap();
    is_whole(&mut net, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_arrive_while_a_node_heals_are_final_everywhere() {
    let mut net = Net::new(4, VerifyMode::Incremental);
    net.prefill(&[0, 1, 2, 3], 600).await;
    (0..4).for_each(|index| net.run(index));
    let stored = net.grow(2, 2).await;
    net.one_tip(&[0, 1, 2, 3]).await;
    flip_stored(&net, 2, &stored[0]);
    refused_write(&mut net, 2).await;
    let (mut promised, mut refused, started) = (Vec::new(), 0, Instant::now());
    loop {
        for index in 0..4 {
            let jws = net.transaction();
            match net.submit(index, &jws).await {
                Ok(promise) => promised.push(promise.txid),
                Err(error) => {
                    assert_eq!((index, error.slug()), (2, Some(Slug::NodeAttacked)), "{error}");
                    refused += 1;
                }
            }
        }
        if net.status(2).await.state == NodeState::Healthy {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "it does not heal under writes");
    }
    assert!(refused > 0 && promised.len() > 6, "{refused} refused, {} promised", promised.len());
    for txid in &promised {
        for index in 0..4 {
            net.finality(index, txid).await;
        }
    }
    is_whole(&mut net, 2).await;
}
