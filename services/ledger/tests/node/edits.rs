//! What somebody with the database file in hand may do to a node, while it runs or while it is stopped. Whatever it is: it is
//! found at the promised time, the node says what and where, the client's write lands elsewhere, the node heals, and
//! what it had from before is there, and so is the damaged file.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use hbc_chain::genesis::log_origin;
use hbc_chain::header::{Header, Target};
use hbc_chain::merkle::Frontier;
use hbc_client::ledger::LedgerClient;
use hbc_ledger::config::{HealMode, VerifyMode};
use hbc_ledger::files::AttackMark;
use hbc_ledger::node::heal::Board;
use hbc_ledger::node::heal::stopped::heal;
use hbc_testkit::chain::certify;
use hbc_types::Clock;
use hbc_types::account::ServiceRole;
use hbc_types::keys::{Kid, PublicKey};
use hbc_types::problem::Slug;
use hbc_types::wire::ledger::{BlockView, NodeState};

use crate::healing::{Beside, by_hand, flip_stored, is_whole};
use crate::healing_boot::without_triggers;
use crate::net::{Net, service_key, txid};

/// What a write or a start may take until the edit is found: reading everything once, on a machine that does much else.
const AT_ONCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug)]
enum Edit {
    /// A byte of a payload.
    Byte,
    /// The same, and the file's times as they were.
    TimesPutBack,
    /// A block's body, through SQL on a connection of one's own, the trigger dropped for it and put back.
    SecondConnection,
    /// A trigger dropped.
    DroppedTrigger,
    /// An older copy of the file renamed over it.
    OlderCopy,
    /// The last two blocks deleted.
    LastBlocks,
    /// The whole chain mined anew with the easiest work there is, and signed by one member.
    MinedAnew,
    /// All certificates replaced by ones that only one member signed.
    SignedByOne,
}

const ALL: [Edit; 8] = [
    Edit::Byte,
    Edit::TimesPutBack,
    Edit::SecondConnection,
    Edit::DroppedTrigger,
    Edit::OlderCopy,
    Edit::LastBlocks,
    Edit::MinedAnew,
    Edit::SignedByOne,
];

/// Four nodes that heal when they are asked, and a client.
struct Scene {
    net: Net,
    client: LedgerClient,
    author: Kid,
    beside: Vec<Beside>,
}

/// A node before its file is changed.
struct Victim {
    index: usize,
    stored: Vec<String>,
    older: Vec<u8>,
    /// Of the older file.
    older_tip: u64,
    tip: u64,
    blocks: Vec<BlockView>,
}

impl Scene {
    async fn new(verify: VerifyMode) -> Self {
        let mut net = Net::new(4, verify);
        net.heal = HealMode::Manual;
        let mut beside = Vec::new();
        for index in 0..4 {
            net.run(index);
            net.stop(index);
            let key = net.keys[index].clone();
            beside.push(Beside::put(&mut net, index, &key).await);
        }
        (0..4).for_each(|index| net.run(index));
        let urls: Vec<String> = net.ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
        let client = LedgerClient::new(Arc::new(net.genesis.clone()), &urls).unwrap();
        let author = PublicKey::of(&service_key(ServiceRole::AccessPolicy)).kid();
        Self { net, client, author, beside }
    }

    /// A write of the client; answers whose promise it got.
    async fn write(&mut self) -> usize {
        let jws = self.net.transaction();
        let promise = self.client.submit(self.author, &jws).await.unwrap();
        let members = &self.net.genesis.members;
        let index = members.iter().position(|member| member.name == promise.node).unwrap();
        self.net.finality(index, &txid(&jws)).await;
        index
    }

    /// The node that the client writes to, with some blocks more.
    async fn victim(&mut self) -> Victim {
        let index = self.write().await;
        let mut stored = self.net.grow(index, 2).await;
        self.net.one_tip(&[0, 1, 2, 3]).await;
        let older = std::fs::read(self.net.data(index).join("ledger.db")).unwrap();
        let older_tip = self.net.status(index).await.height;
        stored.extend(self.net.grow(index, 3).await);
        let tip = self.net.one_tip(&[0, 1, 2, 3]).await.height;
        let mut blocks = Vec::new();
        while blocks.len() < usize::try_from(tip).unwrap() {
            blocks.extend(self.net.blocks(index, blocks.len() as u64 + 1).await.blocks);
        }
        Victim { index, stored, older, older_tip, tip, blocks }
    }

    async fn is_found_told_bypassed_and_healed(&mut self, edit: Edit, running: bool) {
        let victim = self.victim().await;
        let (index, name) = (victim.index, format!("node-{}", victim.index + 1));
        if !running {
            self.net.stop(index);
        }
        let first_bad = edit.make(&self.net, &victim, running).await;
        let began = Instant::now();
        if !running {
            self.net.run(index);
        }
        // The client's very next write lands elsewhere.
        let next = self.net.transaction();
        let promise = self.client.submit(self.author, &next).await.unwrap();
        assert_ne!(promise.node, name, "{edit:?}");
        let status = self.net.status(index).await;
        let took = began.elapsed();
        println!("{edit:?}, running {running}: found after {took:?}: {:?}", status.evidence);
        assert!(took < AT_ONCE, "{edit:?}: {took:?}");
        let found = (status.state, status.first_bad_height);
        assert_eq!(found, (NodeState::Attacked, Some(first_bad)), "{edit:?}: {status:?}");
        assert_eq!(self.net.submit(index, &next).await.unwrap_err().slug(), Some(Slug::NodeAttacked));
        self.net.finality(usize::from(index == 0), &txid(&next)).await;
        let mark = self.net.document(index, &status.evidence_digest.unwrap()).await;
        let mark: AttackMark = serde_json::from_slice(&mark).unwrap();
        self.net.told_of(usize::from(index == 0), &name, "attacked", &mark.digest()).await;
        self.heal(index, running).await;
        self.is_healed(edit, index, &mark).await;
    }

    /// By itself, or by an operator's hand.
    async fn heal(&mut self, index: usize, by_itself: bool) {
        self.net.stop(index);
        if by_itself {
            self.net.heal = HealMode::Auto;
            self.net.run(index);
            self.net.state(index, NodeState::Healthy).await;
            self.net.stop(index);
            self.net.heal = HealMode::Manual;
        } else {
            let board = Arc::new(Board::default());
            heal(&self.net.config(index), &Clock::system(), board).await.unwrap();
        }
        self.net.run(index);
    }

    async fn is_healed(&mut self, edit: Edit, index: usize, mark: &AttackMark) {
        is_whole(&mut self.net, index).await;
        let healed = self.net.status(index).await.last_healing.unwrap();
        assert_eq!(healed.first_bad_height, mark.first_bad_height, "{edit:?}");
        self.beside[index].are_served(&self.net, index).await;
        assert_eq!(self.net.document(index, &mark.digest()).await, mark.document(), "{edit:?}");
        let kept = self.net.data(index).join("damaged").join(format!("{:015}", mark.found_at_ms));
        assert_eq!(std::fs::read(kept.join("mark")).unwrap(), mark.document(), "{edit:?}");
        assert!(std::fs::metadata(kept.join("ledger.db")).unwrap().len() > 0, "{edit:?}");
    }
}

impl Edit {
    /// Makes it; answers the first height that is wrong.
    async fn make(self, net: &Net, victim: &Victim, running: bool) -> u64 {
        let index = victim.index;
        let path = net.data(index).join("ledger.db");
        match self {
            Self::Byte => {
                flip_stored(net, index, &victim.stored[1]);
                height_of(victim, &victim.stored[1])
            }
            Self::TimesPutBack => {
                let before = std::fs::metadata(&path).unwrap();
                flip_stored(net, index, &victim.stored[2]);
                let times = std::fs::FileTimes::new()
                    .set_accessed(before.accessed().unwrap())
                    .set_modified(before.modified().unwrap());
                std::fs::File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
                height_of(victim, &victim.stored[2])
            }
            Self::SecondConnection => {
                let change =
                    "UPDATE blocks SET body = CAST(replace(CAST(body AS TEXT), 'eyJ', 'eyK') AS BLOB)
                     WHERE height = 2";
                without_triggers(net, index, &[change]).await;
                2
            }
            Self::DroppedTrigger => {
                by_hand(net, index, "DROP TRIGGER blocks_keep").await;
                // No block is wrong: the height is that of the tip, or none yet at a start.
                if running { victim.tip } else { 0 }
            }
            Self::OlderCopy => {
                let copy = net.folder.path().join("older");
                std::fs::write(&copy, &victim.older).unwrap();
                std::fs::rename(&copy, &path).unwrap();
                victim.older_tip + 1
            }
            Self::LastBlocks => {
                let change = format!("DELETE FROM blocks WHERE height > {}", victim.tip - 2);
                without_triggers(net, index, &[change]).await;
                victim.tip - 1
            }
            Self::MinedAnew => {
                without_triggers(net, index, &mined_anew(net, victim)).await;
                1
            }
            Self::SignedByOne => {
                let changes = victim.blocks.iter().map(|block| {
                    let header = Header::from_bytes(block.header.as_slice()).unwrap();
                    replaced(
                        block.height,
                        "certificate",
                        &format!("'{}'", signed_by_one(net, index, &header)),
                    )
                });
                without_triggers(net, index, &changes.collect::<Vec<_>>()).await;
                1
            }
        }
    }
}

fn height_of(victim: &Victim, jws: &str) -> u64 {
    let block = victim.blocks.iter().find(|block| block.transactions.iter().any(|other| other == jws));
    block.unwrap().height
}

fn replaced(height: u64, column: &str, value: &str) -> String {
    format!("UPDATE blocks SET {column} = {value} WHERE height = {height}")
}

/// A certificate of the right form that only this node signed.
fn signed_by_one(net: &Net, index: usize, header: &Header) -> String {
    let origin = log_origin(&net.genesis.origin, &net.chain);
    certify(&origin, header, &net.keys[index..=index], &net.genesis.members)
}

/// The same transactions in headers that follow on each other, with work that anybody does at once.
fn mined_anew(net: &Net, victim: &Victim) -> Vec<String> {
    let mut previous = net.genesis.header().unwrap();
    let mut log = Frontier::new();
    let mut changes = Vec::new();
    for block in &victim.blocks {
        log.push(previous.leaf_hash());
        block.transactions.iter().for_each(|jws| log.push(txid(jws)));
        let header = Header {
            prev_hash: previous.hash(),
            log_root: log.root(),
            target: Target::from_zero_bits(0).unwrap(),
            nonce: 0,
            ..Header::from_bytes(block.header.as_slice()).unwrap()
        };
        let header = header.mine(&AtomicBool::new(false)).unwrap();
        let bytes = format!("x'{}'", hex::encode(header.to_bytes()));
        changes.push(replaced(block.height, "header", &bytes));
        let note = format!("'{}'", signed_by_one(net, victim.index, &header));
        changes.push(replaced(block.height, "certificate", &note));
        previous = header;
    }
    changes
}

async fn every_edit(verify: VerifyMode, running: bool, edits: &[Edit]) {
    let mut scene = Scene::new(verify).await;
    for edit in edits {
        scene.is_found_told_bypassed_and_healed(*edit, running).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whatever_is_done_to_the_file_of_a_running_node_is_found_by_the_next_write_and_healed() {
    every_edit(VerifyMode::Incremental, true, &ALL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whatever_is_done_to_the_file_of_a_stopped_node_is_found_at_its_start_and_healed() {
    every_edit(VerifyMode::Incremental, false, &ALL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn it_is_found_and_healed_as_well_where_everything_is_verified_each_time() {
    every_edit(VerifyMode::Full, true, &[Edit::TimesPutBack, Edit::LastBlocks, Edit::SignedByOne]).await;
    every_edit(VerifyMode::Full, false, &[Edit::SecondConnection, Edit::MinedAnew]).await;
}
