//! What anybody may look at: blocks, transactions, votes, nodes, and the stream of new blocks.

use std::time::Duration;

use hbc_chain::checkpoint::Certificate;
use hbc_chain::genesis::log_origin;
use hbc_ledger::config::VerifyMode;
use hbc_types::keys::PublicKey;
use hbc_types::problem::Slug;
use hbc_types::wire::Page;
use hbc_types::wire::explorer::{
    BlockDetails, BlockSummary, ChangeView, NetworkView, NodesView, TransactionSummary, VotesView,
    WaitingSummary,
};
use hbc_types::wire::ledger::NodeRole;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::net::{Net, service_key, txid};

impl Net {
    async fn look<T: DeserializeOwned>(&self, index: usize, path: &str) -> T {
        self.endpoint(index).get(path).fetch().await.unwrap()
    }

    /// Every page of a listing, one after the other.
    async fn pages<T: DeserializeOwned>(&self, path: &str) -> Vec<T> {
        let (mut all, mut query) = (Vec::new(), String::new());
        loop {
            let page: Page<T> = self.look(0, &format!("{path}{query}")).await;
            all.extend(page.items);
            let Some(next) = page.next else { return all };
            query = format!("&cursor={next}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn blocks_and_transactions_are_listed_newest_first_and_page_by_page() {
    let mut net = Net::start(1, VerifyMode::Full);
    let mut sent = Vec::new();
    for turn in 0..7 {
        let jws = net.transaction();
        net.submit(0, &jws).await.unwrap();
        net.finality(0, &txid(&jws)).await;
        sent.push(txid(&jws));
        if turn == 3 {
            net.change_by(0, 1, "parameter:heartbeat_ms", "86400000", 0).await;
        }
    }
    let tip = net.status(0).await;
    let blocks: Vec<BlockSummary> = net.pages("/v1/explorer/blocks?limit=3").await;
    assert_eq!(
        blocks.iter().map(|b| b.height).collect::<Vec<_>>(),
        (0..=tip.height).rev().collect::<Vec<_>>()
    );
    assert_eq!((blocks[0].hash, blocks[0].miner.as_deref()), (tip.tip, Some("node-1")));
    assert_eq!(blocks.iter().map(|block| block.transactions).sum::<u64>(), 8);
    assert_eq!((blocks.last().unwrap().transactions, blocks.last().unwrap().miner.as_deref()), (0, None));
    let served = net.blocks(0, tip.height).await.blocks.remove(0);
    let bytes = 180 + 4 + served.transactions.iter().map(|jws| 4 + jws.len()).sum::<usize>();
    assert_eq!(blocks[0].bytes as usize, bytes);

    let details: BlockDetails = net.look(0, &format!("/v1/explorer/blocks/{}", tip.height)).await;
    assert_eq!((details.summary, details.previous), (blocks[0].clone(), blocks[1].hash));
    assert_eq!(details.signers, ["node-1"]);
    let inside: Vec<TransactionSummary> =
        net.pages(&format!("/v1/explorer/blocks/{}/transactions?limit=1", tip.height)).await;
    assert_eq!(inside[0].txid, sent[6]);
    assert_eq!(
        (inside[0].kind.as_str(), inside[0].author_name.as_deref()),
        ("access.receipts", Some("access-policy"))
    );
    assert_eq!(inside[0].fields["count"], 1);

    let all: Vec<TransactionSummary> = net.pages("/v1/explorer/transactions?limit=3").await;
    assert_eq!(all.len(), 8);
    assert!(all.is_sorted_by(|one, next| (one.height, one.index) > (next.height, next.index)));
    let policy = PublicKey::of(&service_key(hbc_types::account::ServiceRole::AccessPolicy)).kid();
    let member = PublicKey::of(&net.keys[0]).kid();
    for (search, count) in [
        (format!("author={policy}"), 7),
        (format!("author={member}"), 1),
        ("type=member.vote".to_owned(), 1),
        (format!("author={policy}&type=access.receipts"), 7),
        (format!("author={policy}&type=member.vote"), 0),
        ("type=consent.grant".to_owned(), 0),
    ] {
        let found: Vec<TransactionSummary> =
            net.pages(&format!("/v1/explorer/transactions?limit=2&{search}")).await;
        assert_eq!(found.len(), count, "{search}");
    }
    let note = net.endpoint(0).get("/v1/checkpoints/2").send().await.unwrap();
    let note = Certificate::parse(std::str::from_utf8(&note.body).unwrap()).unwrap();
    note.check(&log_origin("hbc.test", &net.chain), &net.genesis.members).unwrap();
    assert_eq!(note.checkpoint.height, 2);
    let by_hash: BlockDetails = net.look(0, &format!("/v1/explorer/blocks/{}", tip.tip)).await;
    assert_eq!(by_hash.summary, blocks[0]);
    let one: TransactionSummary = net.look(0, &format!("/v1/explorer/transactions/{}", sent[6])).await;
    assert_eq!((one.txid, one.height, &one.fields), (sent[6], tip.height, &inside[0].fields));
    let unknown = txid("no such transaction");
    for (path, expected) in [
        (format!("/v1/explorer/transactions/{unknown}").as_str(), Slug::NotFound),
        (&format!("/v1/explorer/blocks/{unknown}"), Slug::NotFound),
        ("/v1/explorer/blocks/x", Slug::NotFound),
        ("/v1/explorer/transactions?type=consent", Slug::InvalidInput),
        ("/v1/explorer/waiting?limit=0", Slug::InvalidInput),
        ("/v1/votes?limit=0", Slug::InvalidInput),
        ("/v1/explorer/blocks/999", Slug::NotFound),
        ("/v1/explorer/blocks/999/transactions", Slug::NotFound),
        ("/v1/explorer/blocks?limit=0", Slug::InvalidInput),
        ("/v1/explorer/blocks?cursor=x", Slug::InvalidInput),
        ("/v1/explorer/transactions?author=x", Slug::InvalidInput),
        ("/v1/checkpoints/0", Slug::NotFound),
        ("/v1/checkpoints/999", Slug::NotFound),
    ] {
        let refused = net.endpoint(0).get(path).once().send().await.unwrap_err();
        assert_eq!(refused.slug(), Some(expected), "{path}");
    }
    // The secondary index is made anew from the blocks.
    net.stop(0);
    net.run(0);
    let again: Vec<BlockSummary> = net.pages("/v1/explorer/blocks?limit=200").await;
    assert_eq!(again, blocks);
    let changes: Page<ChangeView> = net.look(0, "/v1/members/history").await;
    assert_eq!((changes.items[0].subject.as_str(), changes.items.len()), ("parameter:heartbeat_ms", 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_waits_is_listed_oldest_first_and_any_page_may_read_it() {
    let mut net = Net::start(4, VerifyMode::Incremental);
    net.one_tip(&[0, 1, 2, 3]).await;
    for index in [1, 2, 3] {
        net.stop(index);
    }
    let mut sent = Vec::new();
    for _ in 0..5 {
        let jws = net.transaction();
        net.submit(0, &jws).await.unwrap();
        sent.push((txid(&jws), jws.len() as u64));
    }
    let waiting: Vec<WaitingSummary> = net.pages("/v1/explorer/waiting?limit=2").await;
    assert_eq!(waiting.iter().map(|one| (one.txid, one.bytes)).collect::<Vec<_>>(), sent);
    assert!(waiting.iter().all(|one| one.promised && one.kind == "access.receipts"));
    assert_eq!(waiting[0].author_name.as_deref(), Some("access-policy"));
    let answer = net.endpoint(0).get("/v1/explorer/waiting").send().await.unwrap();
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    let metrics = net.endpoint(0).get("/metrics").send().await.unwrap();
    assert!(!metrics.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_network_is_shown_as_the_next_height_has_it() {
    let net = Net::start(4, VerifyMode::Incremental);
    let network: NetworkView = net.look(0, "/v1/network").await;
    assert_eq!((network.chain, network.origin.as_str()), (net.chain, &*log_origin("hbc.test", &net.chain)));
    assert_eq!((network.members.len(), network.operators.len()), (4, 1));
    assert_eq!((network.members[3].name.as_str(), network.parameters.zero_bits), ("node-4", 4));
    let roles: Vec<_> = network.services.iter().map(|one| (one.role.as_str(), one.status.as_str())).collect();
    assert_eq!(roles, [("access-policy", "active"), ("auth", "active"), ("storage", "active")]);
    net.change_by(0, 3, "parameter:heartbeat_ms", "5000", 0).await;
    let network: NetworkView = net.look(0, "/v1/network").await;
    assert_eq!(network.parameters.heartbeat_ms, 5_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn subjects_of_votes_come_page_by_page() {
    let net = Net::start(4, VerifyMode::Incremental);
    for subject in ["parameter:min_spacing_ms", "parameter:heartbeat_ms"] {
        net.change_by(0, 1, subject, "7777", 0).await;
    }
    let first: VotesView = net.look(0, "/v1/votes?limit=1").await;
    assert_eq!((first.subjects.len(), first.subjects[0].subject.as_str()), (1, "parameter:heartbeat_ms"));
    let rest = format!("/v1/votes?limit=1&cursor={}", first.next.unwrap());
    let second: VotesView = net.look(0, &rest).await;
    assert_eq!((second.subjects[0].subject.as_str(), second.next), ("parameter:min_spacing_ms", None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn votes_are_seen_until_the_change_takes_effect_and_then_it_is_history() {
    let net = Net::start(4, VerifyMode::Incremental);
    let subject = "parameter:min_spacing_ms";
    let path = format!("/v1/votes?subject={subject}");
    let before: VotesView = net.look(0, &path).await;
    assert_eq!((before.needed, before.subjects[0].nonce, before.subjects[0].votes.len()), (3, 0, 0));
    net.change_by(0, 2, subject, "2", 0).await;
    // One of them changes its mind: it has one vote.
    net.change(0, &[&net.keys[1]], subject, "3", 0).await;
    let open: VotesView = net.look(0, "/v1/votes").await;
    let votes = &open.subjects[0].votes;
    let mut said: Vec<_> = votes.iter().map(|v| (v.member.as_str(), v.value.as_str(), v.counts)).collect();
    said.sort_unstable();
    assert_eq!(said, [("node-1", "2", true), ("node-2", "3", true)]);
    net.change(0, &[&net.keys[2], &net.keys[3]], subject, "2", 0).await;
    let after: VotesView = net.look(0, &path).await;
    assert_eq!((after.subjects[0].nonce, after.subjects[0].votes.len()), (1, 0));
    let open: VotesView = net.look(0, "/v1/votes").await;
    assert!(open.subjects.is_empty());
    let history: Page<ChangeView> = net.look(0, "/v1/members/history").await;
    let change = &history.items[0];
    assert_eq!((change.subject.as_str(), change.value.as_str()), (subject, "2"));
    assert_eq!(change.votes, ["node-1", "node-3", "node-4"]);
    let long = format!("/v1/votes?subject={}", "a".repeat(200));
    let refused = net.endpoint(0).get(&long).once().send().await.unwrap_err();
    assert_eq!(refused.slug(), Some(Slug::InvalidInput));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nodes_are_shown_as_they_are_heard() {
    let mut net = Net::start(4, VerifyMode::Incremental);
    let jws = net.transaction();
    net.submit(0, &jws).await.unwrap();
    for index in 0..4 {
        net.finality(index, &txid(&jws)).await;
    }
    net.until("all to be heard", async || {
        let view: NodesView = net.look(0, "/v1/nodes").await;
        view.nodes.len() == 4 && view.nodes.iter().all(|node| node.reached && node.height > Some(0))
    })
    .await;
    net.stop(3);
    net.until("node-4 to be missed", async || {
        let view: NodesView = net.look(0, "/v1/nodes").await;
        let gone = view.nodes.iter().find(|node| node.name == "node-4").unwrap();
        !gone.reached && gone.role == NodeRole::Member && gone.event.is_none() && gone.seen.is_some()
    })
    .await;
    let view: NodesView = net.look(1, "/v1/nodes").await;
    let this: Vec<_> = view.nodes.iter().filter(|node| node.this).map(|node| node.name.as_str()).collect();
    assert_eq!(this, ["node-2"]);
}

struct Listener {
    stream: TcpStream,
    heard: String,
}

impl Listener {
    async fn open(net: &Net, last: Option<u64>) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", net.ports[0])).await.unwrap();
        let last = last.map(|height| format!("last-event-id: {height}\r\n")).unwrap_or_default();
        let request = format!("GET /v1/stream HTTP/1.1\r\nhost: x\r\naccept-encoding: gzip\r\n{last}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Self { stream, heard: String::new() }
    }

    /// Reads until this was heard; false if the stream ends before.
    async fn hears(&mut self, text: &str) -> bool {
        let mut bytes = [0; 4096];
        while !self.heard.contains(text) {
            let read = tokio::time::timeout(Duration::from_secs(60), self.stream.read(&mut bytes));
            match read.await.expect("something is heard or the stream ends") {
                Ok(0) | Err(_) => return false,
                Ok(count) => self.heard.push_str(&String::from_utf8_lossy(&bytes[..count])),
            }
        }
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn new_blocks_are_streamed_resumed_and_the_stream_ends_with_the_server() {
    let mut net = Net::start(1, VerifyMode::Full);
    let mut height = 0;
    let mut write = async |net: &mut Net| {
        let jws = net.transaction();
        net.submit(0, &jws).await.unwrap();
        height = net.finality(0, &txid(&jws)).await;
        height
    };
    for _ in 0..3 {
        write(&mut net).await;
    }
    let mut late = Listener::open(&net, None).await;
    assert!(late.hears("id: 3\n").await);
    assert!(late.heard.contains("text/event-stream") && !late.heard.contains("id: 2\n"));
    let mut resumed = Listener::open(&net, Some(1)).await;
    assert!(resumed.hears("id: 3\n").await);
    assert!(resumed.heard.contains("id: 2\n") && !resumed.heard.contains("id: 1\n"));
    write(&mut net).await;
    for listener in [&mut late, &mut resumed] {
        assert!(listener.hears("event: block\nid: 4\n").await);
        assert_eq!(listener.heard.matches("id: 4\n").count(), 1);
    }
    let wrong = net.endpoint(0).get("/v1/stream").header("last-event-id", "x").once().send().await;
    assert_eq!(wrong.unwrap_err().slug(), Some(Slug::InvalidInput));
    net.stop(0);
    assert!(!late.hears("id: 5\n").await, "it ends");
    // The chunks end as they should: a reader can tell the end from a broken connection.
    assert!(late.heard.ends_with("0\r\n\r\n"), "{:?}", late.heard);
}
