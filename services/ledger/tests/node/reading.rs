//! What it costs to read the store again before a vote: by hand, for the figures in decision 0073.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hbc_chain::payload::{Anchor, Payload, Segment};
use hbc_chain::tx::{self, Tx};
use hbc_ledger::config::VerifyMode;
use hbc_ledger::node::Node;
use hbc_ledger::node::boot::Running;
use hbc_ledger::node::guardian::Soundness;
use hbc_types::account::ServiceRole;
use hbc_types::keys::Tag;
use hbc_types::{Clock, Digest};

use crate::net::{Net, service_key};

/// Blocks of the chain, each as full as one may be.
const BLOCKS: u64 = 64;
/// Transactions that fill one.
const ANCHORS: u64 = 96;
/// How often each case is timed.
const ROUNDS: u32 = 10;

/// An anchor as large as one gets.
fn anchor(chain: Digest, iat: u64, n: u64) -> Arc<Tx> {
    let segment = |place: u64| Segment {
        bytes: 5_000,
        cid: "bafkreihwsnuregceqh263vgdathcprnbvatyat6h6mu7ipjhhodcdbyhoy".to_owned(),
        day0: 0,
        day1: 1,
        digest: Digest::of(b"sealed"),
        records: 3,
        root: Digest::of(&(n * 1_000 + place).to_be_bytes()),
        tag: Tag::from_bytes([5; 16]),
    };
    let mut segments: Vec<Segment> = (0..64).map(segment).collect();
    segments.sort_unstable_by_key(|segment| segment.root);
    let payload = Payload::Anchor(Anchor { chain, iat, segments });
    Arc::new(Tx::parse(tx::sign(&service_key(ServiceRole::Storage), &payload).unwrap().as_bytes()).unwrap())
}

async fn time(node: &Arc<Node>, read_set: &BTreeSet<u64>) -> Duration {
    let mut all = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        assert_eq!(node.guard.store_is_sound(read_set).await, Soundness::Sound);
        all.push(began.elapsed());
    }
    all.sort();
    all[all.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "writes half a gigabyte and prints times"]
async fn what_reading_again_before_a_vote_costs() {
    for (name, full) in [("small blocks", false), ("full blocks", true)] {
        let net = Net::new(1, VerifyMode::Incremental);
        let (chain, iat, mut n) = (net.chain, net.genesis.time_ms, 0);
        let fill = || {
            let count = if full { ANCHORS } else { 0 };
            n += count;
            (n - count..n).map(|n| anchor(chain, iat, n)).collect()
        };
        net.prefill_with(&[0], BLOCKS, fill).await;
        let began = Instant::now();
        let running = Running::start(&net.config(0), Clock::system()).await.unwrap();
        let node = running.node.clone();
        println!("{name}: {} bytes, started in {:?}", node.guard.store().main_file_bytes(), began.elapsed());
        let first = Instant::now();
        assert_eq!(node.guard.store_is_sound(&BTreeSet::new()).await, Soundness::Sound);
        println!("  the first time {:?}", first.elapsed());
        println!("  relying on nothing {:?}", time(&node, &BTreeSet::new()).await);
        println!("  relying on one block {:?}", time(&node, &BTreeSet::from([7])).await);
        println!("  relying on all {:?}", time(&node, &(1..=BLOCKS).collect()).await);
        running.stop().await;
    }
}
