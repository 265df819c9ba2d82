//! `kill -9` of a node that heals, at whatever moment, again and again: what it promised, refused and kept as evidence is
//! there at the end, and so is the node.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::process::Child;
use std::time::{Duration, Instant};

use hbc_chain::header::HEADER_BYTES;
use hbc_ledger::config::VerifyMode;
use hbc_ledger::store::{MacKey, Store, StoredEvidence, StoredRefusal};
use hbc_types::wire::ledger::{NodeState, NodeStatus, TransactionState};
use hbc_types::{Digest, Random};

use crate::net::{Net, txid};
use crate::{PATIENCE, spawn};

/// Kills that met a node whose store was changed.
const KILLS: u32 = 24;
/// Blocks of the chain: so many that healing takes a while.
const BLOCKS: u64 = 300;
/// The longest life of a node that is to be killed while it heals.
const LONGEST_MS: u64 = 900;
/// The node that is killed; the first stays up, the other two are down until the end, so that nothing becomes final.
const VICTIM: usize = 2;

struct Killed {
    net: Net,
    process: Option<Child>,
    random: Random,
}

impl Drop for Killed {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Killed {
    fn start(&mut self) {
        let path = self.net.folder.path().join("victim.json");
        self.process = Some(spawn(&self.net.config(VICTIM), &path));
    }

    fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    async fn status(&self) -> Option<NodeStatus> {
        self.net.endpoint(VICTIM).get("/v1/status").once().fetch().await.ok()
    }

    async fn until(&self, what: &str, holds: impl Fn(&NodeStatus) -> bool) {
        let started = Instant::now();
        while !self.status().await.is_some_and(|status| holds(&status)) {
            assert!(started.elapsed() < PATIENCE, "waited too long until it is {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Flips a byte in the header of some block, wherever that lies in the file.
    async fn damage(&self, round: u64) {
        let height = 1 + round * 7 % BLOCKS;
        let header = self.net.blocks(0, height).await.blocks.remove(0).header;
        let path = self.net.data(VICTIM).join("ledger.db");
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes.windows(HEADER_BYTES).position(|window| window == header.as_slice());
        // In the journal still, or damaged before and not healed yet.
        let Some(at) = found else { return };
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[bytes[at + 50] ^ 1], at as u64 + 50).unwrap();
    }

    /// Lets it live for a while after its start; answers what it did last, as far as it said so.
    async fn live_and_die(&mut self) -> Option<NodeState> {
        self.start();
        let life = Duration::from_millis(u64::from_be_bytes(self.random.bytes()) % LONGEST_MS);
        let (mut last, mut answers) = (None, None);
        let started = Instant::now();
        while answers.is_none_or(|since: Instant| since.elapsed() < life) {
            if let Some(status) = self.status().await {
                last = Some(status.state);
                answers.get_or_insert_with(Instant::now);
            }
            assert!(started.elapsed() < PATIENCE, "it does not start");
        }
        self.kill();
        last
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_it_heals_a_node_loses_nothing() {
    let mut net = Net::new(4, VerifyMode::Incremental);
    net.prefill(&[0, 1, 2, 3], BLOCKS).await;
    let refusal = StoredRefusal {
        txid: Digest::of(b"refused"),
        jws: b"refused".to_vec(),
        reason: "it came too late".to_owned(),
        excluded_by: None,
    };
    let evidence = StoredEvidence {
        kind: "equivocation".into(),
        member: None,
        height: 1,
        detail: b"a document".to_vec(),
    };
    let path = net.data(VICTIM).join("ledger.db");
    let store = Store::open(&path, false, MacKey::of(&net.keys[VICTIM])).await.unwrap();
    assert_eq!(store.take_inventory().await.unwrap(), None);
    store.refuse(std::slice::from_ref(&refusal), 5).await.unwrap();
    store.add_evidence(&evidence, 6).await.unwrap();
    store.close().await.unwrap();
    net.run(0);
    let mut killed = Killed { net, process: None, random: Random::seeded(7) };
    killed.start();
    killed.until("well", |status| status.state == NodeState::Healthy).await;
    let mut promised = Vec::new();
    for _ in 0..20 {
        let jws = killed.net.transaction();
        killed.net.submit(VICTIM, &jws).await.unwrap();
        promised.push(txid(&jws));
    }
    killed.kill();
    let (mut met, mut rounds) = (BTreeMap::<String, u32>::new(), 0);
    while met.values().sum::<u32>() < KILLS {
        killed.damage(rounds).await;
        let last = killed.live_and_die().await.expect("it answered");
        if killed.net.data(VICTIM).join("attacked").exists() {
            *met.entry(last.to_string()).or_default() += 1;
        }
        rounds += 1;
        assert!(rounds < 200, "too few kills meet healing: {met:?}");
    }
    println!("{rounds} lives; killed while {met:?}");
    killed.start();
    killed
        .until("healed", |status| status.state == NodeState::Healthy && status.last_healing.is_some())
        .await;
    for index in [1, 3] {
        killed.net.run(index);
    }
    for txid in &promised {
        for index in 0..4 {
            killed.net.finality(index, txid).await;
        }
    }
    let view = killed.net.view(VICTIM, &refusal.txid).await.expect("the refusal is there");
    assert_eq!(view.state, TransactionState::Refused);
    assert_eq!(killed.net.document(VICTIM, &Digest::of(&evidence.detail)).await, evidence.detail);
    killed.net.one_tip(&[0, 1, 2, 3]).await;
}
