//! Members as processes of their own. Four, every pair of them joined by a wire of the test's own, which is cut for half a
//! minute under writes: three against one, two against two; afterwards there is one chain, and no promise is broken. And
//! one that heals and is killed while it does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "test code"
)]

mod killed;
#[path = "../node/net.rs"]
#[allow(dead_code, reason = "the helpers of another test")]
mod net;
mod proxy;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hbc_chain::certificate::PromiseClaims;
use hbc_chain::header::Header;
use hbc_ledger::Application;
use hbc_ledger::config::{Config, PeerAddress, VerifyMode};
use hbc_types::Digest;
use hbc_types::keys::PublicKey;
use hbc_types::wire::ledger::NodeStatus;

use net::{Net, txid};
use proxy::{Wire, Wires};

/// Where a node process finds its configuration.
const CONFIGURATION: &str = "HBC_TEST_NODE";
/// How long a cut lasts.
const CUT: Duration = Duration::from_secs(30);
/// How long anything may take on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);

/// One node. Ends when its input does.
#[test]
#[ignore = "one of the four processes, started by the tests beside it"]
fn node_process() {
    let Some(path) = std::env::var_os(CONFIGURATION) else { return };
    let config: Config = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let app = Application::build(config).await.expect("the node starts");
        let closed =
            tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        app.run_until_stopped(async {
            let _ = closed.await;
        })
        .await
        .expect("the node ends well");
    });
}

/// A node as a process; its configuration goes to this file.
fn spawn(config: &Config, path: &Path) -> Child {
    std::fs::write(path, serde_json::to_vec(config).unwrap()).unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "node_process", "--ignored", "--nocapture"])
        .env(CONFIGURATION, path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// The four, and what was promised so far.
struct Four {
    net: Net,
    wires: Wires,
    processes: Vec<Child>,
    promised: Vec<(usize, Digest)>,
}

impl Drop for Four {
    fn drop(&mut self) {
        for process in &mut self.processes {
            drop(process.stdin.take());
            let _ = process.wait();
        }
    }
}

impl Four {
    async fn start() -> Self {
        let net = Net::new(4, VerifyMode::Incremental);
        let wires = Wires::new(&net.ports).await;
        let mut four = Self { net, wires, processes: Vec::new(), promised: Vec::new() };
        for index in 0..4 {
            let peer = |to: usize| PeerAddress {
                name: format!("node-{}", to + 1),
                url: format!("http://127.0.0.1:{}", four.wires.port(index, to)),
            };
            let peers = (0..4).filter(|to| *to != index).map(peer).collect();
            // Announced to nobody: only the wires lead anywhere.
            let config = Config { peers, address: None, ..four.net.config(index) };
            let path = four.net.folder.path().join(format!("node-{}.json", index + 1));
            four.processes.push(spawn(&config, &path));
        }
        four.all_heights().await;
        four
    }

    async fn status(&self, index: usize) -> Option<NodeStatus> {
        self.net.endpoint(index).get("/v1/status").once().fetch().await.ok()
    }

    /// Each node's height, as soon as all answer.
    async fn all_heights(&self) -> Vec<u64> {
        let started = Instant::now();
        loop {
            let mut heights = Vec::new();
            for index in 0..4 {
                heights.extend(self.status(index).await.map(|status| status.height));
            }
            if heights.len() == 4 {
                return heights;
            }
            assert!(started.elapsed() < PATIENCE, "not all four answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// One write to a node; its promise, if it gives one, is noted and its signature checked.
    async fn write(&mut self, index: usize) {
        let jws = self.net.transaction();
        if let Ok(promise) = self.net.submit(index, &jws).await {
            let key = PublicKey::of(&self.net.keys[index]);
            let claims = PromiseClaims::verify(&promise.signature, &key, &self.net.chain).unwrap();
            assert_eq!(claims.txid, txid(&jws));
            self.promised.push((index, claims.txid));
        }
    }

    /// Writes to everybody in turn for so long.
    async fn write_for(&mut self, time: Duration) {
        let started = Instant::now();
        let mut turn = 0;
        while started.elapsed() < time {
            self.write(turn % 4).await;
            turn += 1;
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    }

    /// Every promise is kept at every node, and all nodes hold the same blocks, each transaction in one of them.
    async fn one_chain(&mut self) {
        let healed = Instant::now();
        for index in 0..4 {
            self.write(index).await;
        }
        let by_node: HashSet<usize> = self.promised.iter().rev().take(4).map(|(index, _)| *index).collect();
        assert_eq!(by_node.len(), 4, "every node takes writes again");
        for (_, txid) in &self.promised {
            self.net.finality(0, txid).await;
        }
        println!("all {} promises final after {:?}", self.promised.len(), healed.elapsed());
        let tip = self.net.one_tip(&[0, 1, 2, 3]).await.height;
        let mut where_final: HashMap<Digest, u64> = HashMap::new();
        let mut height = 1;
        while height <= tip {
            let mut answers = Vec::new();
            for index in 0..4 {
                answers.push(self.net.blocks(index, height).await.blocks);
            }
            let shared = answers.iter().map(Vec::len).min().unwrap();
            assert!(shared > 0, "no block {height}");
            for place in 0..shared {
                let block = &answers[0][place];
                let same = |other: &Vec<hbc_types::wire::ledger::BlockView>| {
                    (&other[place].header, &other[place].transactions) == (&block.header, &block.transactions)
                };
                assert!(answers.iter().all(same), "block {} differs", block.height);
                assert_eq!(Header::from_bytes(block.header.as_slice()).unwrap().height, block.height);
                for jws in &block.transactions {
                    assert_eq!(where_final.insert(txid(jws), block.height), None, "final twice");
                }
                height = block.height + 1;
            }
        }
        for (index, txid) in &self.promised {
            assert!(where_final.contains_key(txid), "a promise of node {} is lost", index + 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn three_against_one_go_on_and_the_one_comes_back() {
    let mut four = Four::start().await;
    four.write_for(Duration::from_secs(2)).await;
    four.wires.cut(&[3], Wire::Abstaining);
    let before = four.all_heights().await;
    four.write_for(CUT).await;
    let after = four.all_heights().await;
    println!("heights before the cut {before:?}, after it {after:?}");
    assert!((0..3).all(|index| after[index] > before[index]), "three of four decide");
    // One block may have been on its way when the cut came.
    assert!(after[3] <= before.iter().max().unwrap() + 1, "one of four decides nothing");
    four.wires.heal();
    four.one_chain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn two_against_two_decide_nothing_and_lose_nothing() {
    let mut four = Four::start().await;
    four.write_for(Duration::from_secs(2)).await;
    four.wires.cut(&[0, 2], Wire::Refused);
    let before = four.all_heights().await;
    four.write_for(CUT).await;
    let after = four.all_heights().await;
    println!("heights before the cut {before:?}, after it {after:?}");
    let highest = before.iter().max().unwrap();
    assert!(after.iter().all(|height| *height <= highest + 1), "no side has a quorum");
    assert!(four.promised.len() > 20, "without a quorum they still promise");
    four.wires.heal();
    four.one_chain().await;
}
