//! Deciding: promises become final, with one member down, after a cut, after restarts.

use std::time::{Duration, Instant};

use hbc_chain::certificate::PromiseClaims;
use hbc_chain::checkpoint::Certificate;
use hbc_chain::proof::{self, Trust};
use hbc_ledger::config::VerifyMode;
use hbc_types::keys::PublicKey;
use hbc_types::wire::ledger::{BatchAnswer, BatchResult, SubmitBatch, TransactionState};

use crate::net::{Net, txid};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_promise_becomes_final_and_its_proof_holds_offline() {
    let mut net = Net::start(4, VerifyMode::Full);
    let jws = net.transaction();
    let promise = net.submit(0, &jws).await.unwrap();
    assert_eq!(promise.txid, txid(&jws));
    let claims = PromiseClaims::verify(&promise.signature, &PublicKey::of(&net.keys[0]), &net.chain).unwrap();
    assert_eq!((claims.txid, claims.node.as_str()), (promise.txid, "node-1"));
    for index in 0..4 {
        net.finality(index, &promise.txid).await;
    }
    let status = net.one_tip(&[0, 1, 2, 3]).await;
    assert!(status.quorum);
    let path = format!("/v1/transactions/{}/proof", promise.txid);
    let answer = net.endpoint(2).get(&path).send().await.unwrap();
    let verified = proof::verify(&answer.body, &Trust::Genesis(Box::new(net.genesis.clone()))).unwrap();
    let proven = verified.transaction.unwrap();
    assert_eq!(proven.txid, promise.txid);
    assert!(proven.certified.signers.len() >= 3);
    let text = net.endpoint(2).get(&path).header("accept", "text/plain").send().await.unwrap();
    let text = std::str::from_utf8(&text.body).unwrap();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\n"), "{text}");
    // The same transaction again is answered with its height, and makes no second block.
    let again = net.submit(3, &jws).await.unwrap();
    assert_eq!(again.height, Some(proven.height));
    let note = net.endpoint(1).get("/v1/checkpoint").send().await.unwrap();
    let note = Certificate::parse(std::str::from_utf8(&note.body).unwrap()).unwrap();
    note.check(&hbc_chain::genesis::log_origin("hbc.test", &net.chain), &net.genesis.members).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn batches_are_final_once_each_and_the_pace_is_told() {
    let mut net = Net::start(4, VerifyMode::Incremental);
    net.one_tip(&[0, 1, 2, 3]).await;
    let mut latencies = Vec::new();
    for turn in 0..20 {
        let jws = net.transaction();
        let started = Instant::now();
        net.submit(turn % 4, &jws).await.unwrap();
        net.finality(turn % 4, &txid(&jws)).await;
        latencies.push(started.elapsed());
    }
    latencies.sort();
    println!("final after: p50 {:?}, worst of 20 {:?}", latencies[10], latencies[19]);
    let started = Instant::now();
    let mut all = Vec::new();
    for _ in 0..4 {
        let transactions: Vec<String> = (0..500).map(|_| net.transaction()).collect();
        all.extend(transactions.iter().map(|jws| txid(jws)));
        let body = SubmitBatch { transactions };
        let answer: BatchAnswer =
            net.endpoint(0).post("/v1/transactions/batch").json(&body).fetch().await.unwrap();
        assert!(answer.results.iter().all(|result| matches!(result, BatchResult::Promise(_))));
    }
    println!("2,000 promises after {:?}", started.elapsed());
    for txid in all.iter().rev().step_by(400) {
        net.finality(1, txid).await;
    }
    println!("2,000 transactions final after {:?} (unoptimised)", started.elapsed());
    let tip = net.one_tip(&[0, 1, 2, 3]).await;
    let mut seen = std::collections::HashSet::new();
    let mut from = 1;
    while from <= tip.height {
        for block in net.blocks(3, from).await.blocks {
            assert!(block.transactions.iter().all(|jws| seen.insert(txid(jws))), "anchored twice");
            from = block.height + 1;
        }
    }
    assert!(all.iter().all(|txid| seen.contains(txid)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_member_down_does_not_stop_the_others_and_it_catches_up() {
    let mut net = Net::start(4, VerifyMode::Incremental);
    net.stop(3);
    let mut last = None;
    for turn in 0..6 {
        let jws = net.transaction();
        net.submit(turn % 3, &jws).await.unwrap();
        net.finality(turn % 3, &txid(&jws)).await;
        last = Some(txid(&jws));
    }
    net.run(3);
    net.finality(3, &last.unwrap()).await;
    net.one_tip(&[0, 1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_a_quorum_promises_wait_survive_a_restart_and_become_final() {
    let mut net = Net::start(4, VerifyMode::Full);
    let first = net.transaction();
    net.submit(0, &first).await.unwrap();
    net.finality(0, &txid(&first)).await;
    net.stop(2);
    net.stop(3);
    let jws = net.transaction();
    net.submit(0, &jws).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(net.view(0, &txid(&jws)).await.unwrap().state, TransactionState::Pending);
    assert!(!net.submit(0, &jws).await.unwrap().quorum);
    // The promise is durable: the node that gave it is restarted before anyone can decide.
    net.stop(0);
    net.run(0);
    net.run(2);
    net.run(3);
    for index in 0..4 {
        net.finality(index, &txid(&jws)).await;
    }
    net.one_tip(&[0, 1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_member_alone_works_and_restarts_from_its_store() {
    let mut net = Net::start(1, VerifyMode::Full);
    let mut all = Vec::new();
    for _ in 0..5 {
        let jws = net.transaction();
        net.submit(0, &jws).await.unwrap();
        net.finality(0, &txid(&jws)).await;
        all.push(txid(&jws));
    }
    let before = net.status(0).await;
    net.stop(0);
    net.run(0);
    let after = net.status(0).await;
    assert_eq!((before.height, before.tip), (after.height, after.tip));
    let jws = net.transaction();
    net.submit(0, &jws).await.unwrap();
    net.finality(0, &txid(&jws)).await;
    for txid in all {
        assert_eq!(net.view(0, &txid).await.unwrap().state, TransactionState::Final);
    }
}

/// 64 writers, each sure of its transaction only when it is final, while one node is stopped and another one
/// stopped and started again: every transaction is on the chain exactly once, on one chain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_writers_survive_a_stop_and_a_restart() {
    let mut net = Net::start(4, VerifyMode::Incremental);
    let all: Vec<String> = (0..64).map(|_| net.transaction()).collect();
    let endpoints: Vec<_> = (0..4).map(|index| net.endpoint(index)).collect();
    let writers: Vec<_> = all
        .iter()
        .cloned()
        .enumerate()
        .map(|(writer, jws)| hbc_service::spawn("test", write_until_final(endpoints.clone(), writer, jws)))
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    net.stop(3);
    net.stop(1);
    net.run(1);
    for writer in writers {
        writer.await.unwrap();
    }
    let tip = net.one_tip(&[0, 1, 2]).await;
    net.run(3);
    assert_eq!(net.one_tip(&[0, 1, 2, 3]).await.tip, tip.tip);
    let mut times = std::collections::HashMap::new();
    let mut from = 1;
    while from <= tip.height {
        for block in net.blocks(3, from).await.blocks {
            for jws in block.transactions {
                *times.entry(jws).or_insert(0) += 1;
            }
            from = block.height + 1;
        }
    }
    assert!(all.iter().all(|jws| times.get(jws) == Some(&1)), "each exactly once");
}

/// As an outbox does it: the same bytes to one node after the other until one says that they are final.
async fn write_until_final(nodes: Vec<hbc_client::Endpoint>, first: usize, jws: String) {
    let path = format!("/v1/transactions/{}", txid(&jws));
    for attempt in 0..600 {
        let node = &nodes[(first + attempt / 20) % nodes.len()];
        if attempt % 20 == 0 {
            let body = hbc_types::wire::ledger::SubmitTransaction { jws: jws.clone() };
            let _refused_or_gone = node.post("/v1/transactions").json(&body).done().await;
        }
        let view = node.get(&path).once().fetch::<hbc_types::wire::ledger::TransactionView>().await;
        if view.is_ok_and(|view| view.state == TransactionState::Final) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{jws} is not final");
}
