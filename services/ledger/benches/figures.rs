//! Figures of four members in one process over HTTP: `cargo bench -p hbc-ledger`, on a quiet machine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    dead_code,
    reason = "measuring code; the network is shared with the tests"
)]

#[path = "../tests/node/net.rs"]
mod net;

use std::time::{Duration, Instant};

use hbc_ledger::config::VerifyMode;
use hbc_types::wire::ledger::{BatchAnswer, SubmitBatch};

use net::{Net, txid};

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(figures());
}

async fn figures() {
    for verify in [VerifyMode::Incremental, VerifyMode::Full] {
        let mut net = Net::start(4, verify);
        latency(&mut net, verify).await;
        throughput(&mut net, verify).await;
        latency(&mut net, verify).await;
    }
}

async fn latency(net: &mut Net, verify: VerifyMode) {
    let height = net.one_tip(&[0, 1, 2, 3]).await.height;
    let (mut promised, mut finals) = (Vec::new(), Vec::new());
    for turn in 0..100 {
        let jws = net.transaction();
        let started = Instant::now();
        net.submit(turn % 4, &jws).await.unwrap();
        promised.push(started.elapsed());
        net.finality(turn % 4, &txid(&jws)).await;
        finals.push(started.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    promised.sort();
    finals.sort();
    println!(
        "{verify:?}, idle, from height {height}: promise p50 {:?} p99 {:?}; final p50 {:?} p99 {:?}",
        promised[50], promised[98], finals[50], finals[98]
    );
}

async fn throughput(net: &mut Net, verify: VerifyMode) {
    let batches: Vec<Vec<String>> = (0..16).map(|_| (0..500).map(|_| net.transaction()).collect()).collect();
    let last = txid(batches.last().unwrap().last().unwrap());
    let before = net.one_tip(&[0, 1, 2, 3]).await.height;
    let started = Instant::now();
    for transactions in batches {
        let body = SubmitBatch { transactions };
        let _answer: BatchAnswer =
            net.endpoint(0).post("/v1/transactions/batch").json(&body).fetch().await.unwrap();
    }
    let promised = started.elapsed();
    net.finality(1, &last).await;
    let all = started.elapsed();
    let blocks = net.one_tip(&[0, 1, 2, 3]).await.height - before;
    println!(
        "{verify:?}: 8,000 transactions promised in {promised:?} ({:.0}/s), final in {all:?} ({:.0}/s, {blocks} blocks)",
        8_000.0 / promised.as_secs_f64(),
        8_000.0 / all.as_secs_f64()
    );
}
