//! Following the chain and emptying the outbox against nodes that are honest, down, attacked or lying.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, reason = "test code")]

mod memory;

use std::sync::Arc;
use std::time::Duration;

use hbc_chain::genesis::Genesis;
use hbc_chain::payload::{MemberVote, Payload, Receipts};
use hbc_chain::tx;
use hbc_client::ledger::{Finality, Follower, Health, LedgerClient, OutboxDriver, Settlement};
use hbc_testkit::chain::{ACCESS_POLICY, Chain, key, public, quick_genesis};
use hbc_testkit::ledger::{Mood, Node, four, urls};
use hbc_types::outbox::TransactionState;
use hbc_types::problem::Slug;
use hbc_types::{Clock, Digest, Timestamp};
use memory::Memory;
use tokio::task::JoinHandle;

const LONG: Duration = Duration::from_secs(20);
const ALL: &[u8] = &[1, 2, 3, 4];
const NOW_MS: i64 = 1_800_000_000_000;

fn genesis() -> Genesis {
    quick_genesis(4)
}

fn chain() -> Chain {
    Chain::of(genesis())
}

async fn nodes() -> Vec<Node> {
    four(&genesis(), &Clock::fixed(Timestamp::from_ms(NOW_MS))).await
}

fn author() -> Digest {
    public(ACCESS_POLICY).kid()
}

/// A transaction of storage-like simplicity: a receipts root signed by access-policy.
fn transaction(n: u64) -> String {
    let chain = genesis().chain_id().unwrap();
    let root = Digest::of(&n.to_be_bytes());
    let payload = Payload::Receipts(Receipts {
        chain,
        count: 1,
        iat: u64::try_from(NOW_MS).unwrap(),
        rights: None,
        root,
    });
    tx::sign(&key(ACCESS_POLICY), &payload).unwrap()
}

/// A member's vote that `name` gets this key (by seed), or leaves.
fn vote(voter: u8, name: &str, seed: Option<u8>) -> String {
    let payload = Payload::MemberVote(MemberVote {
        chain: genesis().chain_id().unwrap(),
        iat: u64::try_from(NOW_MS).unwrap() + u64::from(voter),
        nonce: 0,
        subject: format!("member:{name}"),
        value: seed.map_or("none".to_owned(), |seed| public(seed).to_string()),
    });
    tx::sign(&key(voter), &payload).unwrap()
}

struct Running {
    memory: Memory,
    finality: Finality,
    clock: Clock,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn ledger(nodes: &[Node]) -> LedgerClient {
    LedgerClient::new(Arc::new(genesis()), &urls(nodes)).unwrap()
}

fn follow(nodes: &[Node], memory: Memory) -> Running {
    let (finality, clock) = (Finality::default(), Clock::fixed(Timestamp::from_ms(NOW_MS)));
    let follower = Follower::new(ledger(nodes), memory.clone(), finality.clone());
    Running { memory, finality, clock, tasks: vec![hbc_tasks::spawn("follower", follower.run())] }
}

fn drive(nodes: &[Node], memory: Memory) -> Running {
    let mut running = follow(nodes, memory.clone());
    let driver = OutboxDriver::new(ledger(nodes), memory, running.finality.clone(), running.clock.clone());
    running.tasks.push(hbc_tasks::spawn("outbox", driver.run()));
    running
}

/// Waits until the health is as wished.
async fn until(running: &Running, what: impl FnMut(&Health) -> bool) -> Health {
    let mut watch = running.finality.watch_health();
    let found = tokio::time::timeout(LONG, watch.wait_for(what)).await;
    found.unwrap_or_else(|_| panic!("stands at {:?}", running.finality.health())).unwrap().clone()
}

/// Waits until something outside the watched values holds.
async fn eventually(what: impl Fn() -> bool) {
    let done = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, done).await.unwrap();
}

#[tokio::test]
async fn certified_blocks_are_applied_in_order_and_once_across_restarts() {
    let nodes = nodes().await;
    let mut chain = chain();
    for n in 0..5 {
        chain.append_by(&[transaction(n)], &[1, 2, 4]);
    }
    nodes.iter().for_each(|node| node.serve(&chain.blocks));
    let memory = Memory::default();
    let running = follow(&nodes, memory.clone());
    until(&running, |health| health.applied == 5).await;
    assert_eq!(memory.applied(), [1, 2, 3, 4, 5]);
    drop(running);
    chain.append_by(&[], ALL);
    nodes.iter().for_each(|node| node.serve(&chain.blocks));
    let again = follow(&nodes, memory.clone());
    let health = until(&again, |health| health.applied == 6).await;
    assert_eq!(memory.applied(), [1, 2, 3, 4, 5, 6]);
    assert_eq!((health.quorum, health.nodes_up, health.lag()), (true, 4, 0));
}

#[tokio::test]
async fn a_block_with_too_few_signatures_is_no_block() {
    let nodes = nodes().await;
    let mut chain = chain();
    chain.append_by(&[transaction(1)], ALL);
    let honest = chain.blocks.clone();
    chain.append_by(&[transaction(2)], &[1, 2]);
    nodes[0].serve(&chain.blocks);
    nodes[1].serve(&honest);
    let running = follow(&nodes, Memory::default());
    until(&running, |health| health.applied == 1).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(running.memory.applied(), [1]);
    assert_eq!(running.finality.health().certified, 1);
}

#[tokio::test]
async fn a_changed_transaction_is_taken_from_another_node_as_it_was() {
    let nodes = nodes().await;
    let mut chain = chain();
    let txs = [transaction(1), transaction(2)];
    chain.append_by(&txs, ALL);
    let mut changed = chain.blocks.clone();
    changed[0].transactions[1] = transaction(3);
    nodes[..3].iter().for_each(|node| node.serve(&changed));
    nodes[3].serve(&chain.blocks);
    let memory = Memory::default();
    let wanted = memory.enqueue(&txs[1]);
    let running = follow(&nodes, memory);
    until(&running, |health| health.applied == 1).await;
    let state = running.memory.state(wanted);
    // Leaf 0 is the parent's header, then the two transactions.
    assert_eq!(state, TransactionState::Final { height: 1, log_index: 2 });
}

#[tokio::test]
async fn two_certified_blocks_at_one_height_stop_everything() {
    let nodes = nodes().await;
    let (mut one, mut other) = (chain(), chain());
    one.append_by(&[transaction(1)], ALL);
    other.append_by(&[transaction(2)], ALL);
    nodes[0].serve(&one.blocks);
    nodes[1].serve(&other.blocks);
    let running = follow(&nodes, Memory::default());
    let health = until(&running, |health| health.alarm.is_some()).await;
    assert_eq!(health.applied, 0);
    // One of the two disappears: that does not make the other one true.
    nodes[1].serve(&[]);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(running.memory.applied().is_empty());
}

#[tokio::test]
async fn members_change_by_their_votes_and_across_restarts() {
    let nodes = nodes().await;
    let mut chain = chain();
    // Two votes, then a third that changed its mind and back: the fifth member joins from block 4 on.
    chain.append_by(&[vote(1, "node-5", Some(5)), vote(2, "node-5", Some(5))], ALL);
    chain.append_by(&[vote(3, "node-5", Some(6))], ALL);
    let early = chain.blocks.clone();
    chain.append_by(&[vote(3, "node-5", Some(5))], ALL);
    chain.certified_by(&[1, 2, 3, 4, 5]);
    chain.append_by(&[transaction(1)], &[2, 3, 4, 5]);
    // The first member leaves.
    chain.append_by(&(2..=5).map(|n| vote(n, "node-1", None)).collect::<Vec<_>>(), &[2, 3, 4, 5]);
    chain.certified_by(&[2, 3, 4, 5]);
    chain.append_by(&[transaction(2)], &[2, 4, 5]);
    nodes.iter().for_each(|node| node.serve(&early));
    let memory = Memory::default();
    let running = follow(&nodes, memory.clone());
    until(&running, |health| health.applied == 2).await;
    drop(running);
    nodes.iter().for_each(|node| node.serve(&chain.blocks));
    let again = follow(&nodes, memory.clone());
    until(&again, |health| health.applied == 6).await;
    // Three of those who founded the chain are no quorum of the members there are now.
    let mut stolen = chain.clone();
    stolen.certified_by(&[1, 2, 3, 4]);
    stolen.append_by(&[transaction(3)], &[1, 2, 3]);
    nodes.iter().for_each(|node| node.serve(&stolen.blocks));
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(memory.applied(), [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn a_journal_that_fails_gets_the_block_again() {
    let nodes = nodes().await;
    let mut chain = chain();
    chain.append_by(&[transaction(1)], ALL);
    nodes.iter().for_each(|node| node.serve(&chain.blocks));
    let memory = Memory::default();
    memory.fail_next_applies(2);
    let running = follow(&nodes, memory);
    until(&running, |health| health.applied == 1).await;
    assert_eq!(running.memory.applied(), [1]);
}

#[tokio::test]
async fn a_submitted_transaction_is_final_when_its_block_is() {
    let nodes = nodes().await;
    let memory = Memory::default();
    let running = drive(&nodes, memory.clone());
    let jws = transaction(7);
    let txid = memory.enqueue(&jws);
    running.finality.wake();
    let waiting = running.finality.register(txid);
    eventually(|| memory.state(txid) == TransactionState::Submitted).await;
    let promised = memory.node_of(txid).unwrap();
    let got: Vec<&Node> = nodes.iter().filter(|node| !node.received().is_empty()).collect();
    assert_eq!(got.len(), 1, "one node is enough");
    assert_eq!(got[0].name, promised);
    assert_eq!(got[0].received(), std::slice::from_ref(&jws), "the very bytes");
    let mut chain = chain();
    chain.append_by(&[jws], ALL);
    nodes.iter().for_each(|node| node.serve(&chain.blocks));
    let settled = waiting.settled(LONG).await;
    assert_eq!(settled, Some(Settlement::Final { height: 1, log_index: 1 }));
}

#[tokio::test]
async fn an_attacked_a_silent_and_a_forging_node_are_passed_over() {
    let mut nodes = nodes().await;
    let first = first_node(&nodes);
    nodes.rotate_left(first);
    // In the order in which this author's transactions are tried.
    nodes[0].feel(Mood::Down(Slug::NodeAttacked));
    nodes[1].feel(Mood::Forge);
    nodes[2].feel(Mood::Down(Slug::Unavailable));
    let honest = nodes[3].name.clone();
    nodes.rotate_right(first);
    let memory = Memory::default();
    let running = drive(&nodes, memory.clone());
    let txid = memory.enqueue(&transaction(8));
    running.finality.wake();
    eventually(|| memory.state(txid) == TransactionState::Submitted).await;
    assert_eq!(memory.node_of(txid), Some(honest));
    let health = until(&running, |health| !health.attacked.is_empty()).await;
    assert_eq!((health.attacked.len(), health.nodes_up), (1, 3));
}

/// The node that this author's transactions go to first.
fn first_node(nodes: &[Node]) -> usize {
    let [a, b, c, d, ..] = *author().as_bytes();
    u32::from_be_bytes([a, b, c, d]) as usize % nodes.len()
}

#[tokio::test]
async fn one_nodes_refusal_is_not_believed_and_two_are() {
    let nodes = nodes().await;
    let first = first_node(&nodes);
    nodes[first].feel(Mood::Refuse(Slug::Excluded));
    let memory = Memory::default();
    let running = drive(&nodes, memory.clone());
    let kept = memory.enqueue(&transaction(9));
    running.finality.wake();
    eventually(|| memory.state(kept) == TransactionState::Submitted).await;

    nodes.iter().for_each(|node| node.feel(Mood::Refuse(Slug::Excluded)));
    let refused = memory.enqueue(&transaction(10));
    let waiting = running.finality.register(refused);
    running.finality.wake();
    assert_eq!(waiting.settled(LONG).await, Some(Settlement::Refused { reason: "excluded".to_owned() }));
    let rival = Some(Digest::of(b"rival"));
    assert_eq!(
        memory.state(refused),
        TransactionState::Refused { reason: "excluded".to_owned(), excluded_by: rival }
    );
}

#[tokio::test]
async fn what_may_become_valid_is_tried_again() {
    let nodes = nodes().await;
    nodes.iter().for_each(|node| node.feel(Mood::Refuse(Slug::NotYet)));
    let memory = Memory::default();
    let running = drive(&nodes, memory.clone());
    let txid = memory.enqueue(&transaction(11));
    running.finality.wake();
    let received = || nodes.iter().map(|node| node.received().len()).sum::<usize>();
    eventually(|| received() == 1).await;
    assert_eq!(memory.state(txid), TransactionState::Waiting);
    nodes.iter().for_each(|node| node.feel(Mood::Promise));
    running.clock.advance(Duration::from_secs(1));
    eventually(|| memory.state(txid) == TransactionState::Submitted).await;
}

#[tokio::test]
async fn what_breaks_a_rule_for_good_is_not_tried_again() {
    let nodes = nodes().await;
    nodes.iter().for_each(|node| node.feel(Mood::Refuse(Slug::RuleViolation)));
    let memory = Memory::default();
    let running = drive(&nodes, memory.clone());
    let txid = memory.enqueue(&transaction(14));
    let waiting = running.finality.register(txid);
    running.finality.wake();
    let refused = Settlement::Refused { reason: "rule_violation".to_owned() };
    assert_eq!(waiting.settled(LONG).await, Some(refused));
}

#[tokio::test]
async fn past_the_include_by_time_the_next_node_gets_the_same_bytes() {
    let nodes = nodes().await;
    let memory = Memory::default();
    let running = drive(&nodes, memory.clone());
    let jws = transaction(12);
    let txid = memory.enqueue(&jws);
    running.finality.wake();
    eventually(|| memory.state(txid) == TransactionState::Submitted).await;
    let first = memory.node_of(txid).unwrap();
    running.clock.advance(Duration::from_secs(6));
    eventually(|| memory.node_of(txid).as_ref() != Some(&first)).await;
    for node in nodes.iter().filter(|node| !node.received().is_empty()) {
        assert!(node.received().iter().all(|got| *got == jws));
    }
}

#[tokio::test]
async fn one_authors_transactions_arrive_in_order_at_one_node() {
    let nodes = nodes().await;
    let memory = Memory::default();
    let running = drive(&nodes, memory.clone());
    let sent: Vec<String> = (100..160).map(transaction).collect();
    let txids: Vec<Digest> = sent.iter().map(|jws| memory.enqueue(jws)).collect();
    running.finality.wake();
    eventually(|| txids.iter().all(|txid| memory.state(*txid) == TransactionState::Submitted)).await;
    let got: Vec<&Node> = nodes.iter().filter(|node| !node.received().is_empty()).collect();
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].received(), sent);
}

#[tokio::test]
async fn without_nodes_there_is_no_quorum_and_nothing_is_lost() {
    let closed = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let urls: Vec<String> = (0..4).map(|_| closed()).collect();
    let memory = Memory::default();
    let txid = memory.enqueue(&transaction(13));
    let ledger = LedgerClient::new(Arc::new(genesis()), &urls).unwrap();
    let (finality, clock) = (Finality::default(), Clock::fixed(Timestamp::from_ms(NOW_MS)));
    let follower =
        hbc_tasks::spawn("follower", Follower::new(ledger.clone(), memory.clone(), finality.clone()).run());
    let driver =
        hbc_tasks::spawn("outbox", OutboxDriver::new(ledger, memory.clone(), finality.clone(), clock).run());
    let mut watch = finality.watch_health();
    tokio::time::timeout(LONG, watch.wait_for(|health| health.nodes == 4)).await.unwrap().unwrap();
    assert!(!finality.health().quorum);
    assert_eq!(memory.state(txid), TransactionState::Waiting);
    follower.abort();
    driver.abort();
}
