//! What a bad member may cost: counted, not timed. And what a chain does by the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hbc_chain::genesis::log_origin;
use hbc_chain::header::Header;
use hbc_chain::payload::{Payload, Receipts};
use hbc_client::{ClientError, ServiceCaller};
use hbc_consensus::sign_bytes::{SignBytes, sign};
use hbc_consensus::{Member, MemberId, Message};
use hbc_ledger::config::VerifyMode;
use hbc_ledger::peers::{
    Heard, Item, MEMBER_HEADER, SIGNATURE_HEADER, Sender, envelope_text, pack, send_envelope,
};
use hbc_types::account::ServiceRole;
use hbc_types::wire::ledger::{BlockView, BlocksView};
use hbc_types::wire::token::{Audience, READER_HEADER};
use hbc_types::{Clock, Random, Timestamp};
use tokio::io::AsyncReadExt as _;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use crate::adversary::{self, Adversary};
use crate::net::{Net, service_key, txid};

/// A server that takes every connection, reads what comes and never says a word; counts requests for blocks.
async fn abstaining(port: u16) -> Arc<AtomicUsize> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    hbc_service::spawn("test", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counter = counter.clone();
            hbc_service::spawn("test", async move {
                let mut buffer = vec![0; 65_536];
                while let Ok(read) = stream.read(&mut buffer).await {
                    if read == 0 {
                        return;
                    }
                    let blocks = buffer[..read].starts_with(b"GET /v1/blocks");
                    counter.fetch_add(usize::from(blocks), Ordering::Relaxed);
                }
            });
        }
    });
    asked
}

fn sender(net: &Net, index: usize) -> Sender {
    let me = Member::new(net.keys[index].verifying_key().to_bytes()).id;
    Sender { me, key: net.keys[index].clone(), chain: net.chain, clock: Clock::system() }
}

/// Node-4 speaks of heights that nobody has, to a node that is behind, and gives no blocks when asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_member_that_speaks_of_blocks_and_never_gives_any_does_not_keep_a_node_behind() {
    let mut net = Net::new(4, VerifyMode::Incremental);
    for index in [0, 1, 2] {
        net.run(index);
    }
    let mut last = None;
    for _ in 0..3 {
        let jws = net.transaction();
        net.submit(0, &jws).await.unwrap();
        net.finality(0, &txid(&jws)).await;
        last = Some(txid(&jws));
    }
    net.stop(2);
    let asked = abstaining(net.ports[3]).await;
    // Nothing is decided while node-3 is away: it is behind with an empty folder, and hears the liar first.
    std::fs::remove_dir_all(net.data(2)).unwrap();
    net.run(2);
    let liar = sender(&net, 3);
    let sign_bytes = SignBytes { chain: net.chain, origin: log_origin("hbc.test", &net.chain) };
    let receiver: MemberId = sender(&net, 2).me;
    let (mut told, started) = (0, Instant::now());
    while net.view(2, &last.unwrap()).await.is_none() {
        let vote = Message::vote(&sign_bytes, &liar.key, (1_000_000 + told, 0), true, None);
        let mut body = Vec::new();
        pack(&mut body, &Item::Consensus(vote.height(), vote.encode().into()));
        send_envelope(&net.endpoint(2), &receiver, &liar, body).await.unwrap();
        told += 1;
        assert!(started.elapsed() < Duration::from_secs(90), "kept behind");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked <= 3, "asked {asked} times after {told} lies");
}

/// Votes for far heights and rounds, junk and unknown keys' transactions, a thousand of each: nothing of it stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_flood_of_junk_from_a_member_leaves_nothing_behind() {
    let mut net = Net::new(4, VerifyMode::Incremental);
    for index in [0, 1, 2] {
        net.run(index);
    }
    let first = net.transaction();
    net.submit(0, &first).await.unwrap();
    net.finality(0, &txid(&first)).await;
    let liar = sender(&net, 3);
    let sign_bytes = SignBytes { chain: net.chain, origin: log_origin("hbc.test", &net.chain) };
    let receiver = sender(&net, 0).me;
    let stranger = ed25519_dalek::SigningKey::from_bytes(&[99; 32]);
    let height = net.status(0).await.height + 1;
    for envelope in 0..50_u32 {
        let mut body = Vec::new();
        for number in (envelope * 20)..(envelope * 20 + 20) {
            let far = Message::vote(&sign_bytes, &liar.key, (height + 5 + u64::from(number), 0), true, None);
            let junk_round = Message::vote(&sign_bytes, &liar.key, (height, 100 + number), false, None);
            for vote in [far, junk_round] {
                pack(&mut body, &Item::Consensus(vote.height(), vote.encode().into()));
            }
            let unknown = Payload::Receipts(Receipts {
                chain: net.chain,
                count: u64::from(number),
                iat: Clock::system().now().unsigned_ms(),
                rights: None,
                root: hbc_types::Digest::of(&number.to_be_bytes()),
            });
            let unknown = hbc_chain::tx::sign(&stranger, &unknown).unwrap();
            pack(&mut body, &Item::Transactions([Arc::from(unknown.into_bytes())].into()));
        }
        // What does not fit any more is refused with 503: that is the bound at work.
        let _full = send_envelope(&net.endpoint(0), &receiver, &liar, body).await;
    }
    let jws = net.transaction();
    net.submit(0, &jws).await.unwrap();
    for index in [0, 1, 2] {
        net.finality(index, &txid(&jws)).await;
    }
    let status = net.status(0).await;
    assert_eq!(status.pending, 0, "a stranger's transactions wait nowhere");
    let log = std::fs::metadata(net.data(0).join("wal")).unwrap().len();
    assert!(log < 64 << 10, "the log of votes has {log} bytes");
    let evidence = net.evidence(0).await;
    assert!(evidence < 20, "{evidence} rows of evidence");
}

/// A heartbeat when nothing happens, by the node's clock; nothing before it is due.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_idle_chain_is_silent_until_its_heartbeat_is_due() {
    let mut net = Net::new(1, VerifyMode::Incremental);
    let heartbeat = Duration::from_millis(net.genesis.parameters.heartbeat_ms);
    assert_eq!(heartbeat, Duration::from_secs(600), "the default");
    let start = i64::try_from(net.genesis.time_ms).unwrap();
    let clock = Clock::fixed(Timestamp::from_ms(start));
    net.run_by(0, clock.clone());
    for beat in 1..=3_u64 {
        clock.advance(heartbeat.checked_sub(Duration::from_millis(1)).unwrap());
        // Two looks of the loop, which come every half second, find nothing to do.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        assert_eq!(net.status(0).await.height, beat - 1, "too early");
        clock.advance(Duration::from_millis(1));
        let started = Instant::now();
        while net.status(0).await.height < beat {
            assert!(started.elapsed() < Duration::from_secs(60), "no heartbeat");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let blocks = net.blocks(0, 1).await.blocks;
    let times: Vec<u64> =
        blocks.iter().map(|block| Header::from_bytes(block.header.as_slice()).unwrap().time_ms).collect();
    assert_eq!(times, (1..=3).map(|beat| net.genesis.time_ms + beat * 600_000).collect::<Vec<_>>());
    assert!(blocks.iter().all(|block| block.transactions.is_empty()));
}

/// However much waits, two blocks have the time between them that the parameters ask, and are not dated ahead for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn blocks_keep_their_distance_under_load() {
    let spacing_ms = 1_500;
    let mut net = Net::with(4, VerifyMode::Incremental, |genesis| {
        genesis.parameters.min_spacing_ms = spacing_ms;
    });
    for index in 0..4 {
        net.run(index);
    }
    let mut last = None;
    for turn in 0..6 {
        let jws = net.transaction();
        net.submit(turn % 4, &jws).await.unwrap();
        net.finality(turn % 4, &txid(&jws)).await;
        last = Some(txid(&jws));
    }
    let tip = net.finality(0, &last.unwrap()).await;
    let now = Clock::system().now().unsigned_ms();
    let blocks = net.blocks(0, 1).await.blocks;
    let times: Vec<u64> =
        blocks.iter().map(|block| Header::from_bytes(block.header.as_slice()).unwrap().time_ms).collect();
    assert!(times.windows(2).all(|two| two[1] - two[0] >= spacing_ms), "{times:?}");
    assert!(tip >= 6 && times.iter().all(|time| *time <= now), "dated ahead: {times:?} at {now}");
}

/// The round that would have waited is spoiled by its proposer at once: the next one waits as long.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn blocks_keep_their_distance_in_later_rounds_too() {
    let spacing_ms = 4_000;
    let net = Net::with(4, VerifyMode::Incremental, |genesis| {
        genesis.parameters.min_spacing_ms = spacing_ms;
    });
    let mut net = adversary::three_of(net);
    let liar = Adversary::at_its_turn(&mut net).await;
    let mut lazy = liar.block(&[], 0).block;
    while lazy.header.check_work().is_ok() {
        lazy.header.nonce += 1;
    }
    for index in 0..3 {
        liar.tell(&net, index, &liar.propose(&lazy, 0)).await;
    }
    let (height, started) = (liar.chain.height() + 1, Instant::now());
    while net.status(0).await.height < height {
        assert!(started.elapsed() < Duration::from_secs(60), "no block");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let now = Clock::system().now().unsigned_ms();
    let block = net.blocks(0, height).await.blocks.remove(0);
    let time = Header::from_bytes(block.header.as_slice()).unwrap().time_ms;
    assert!(time >= liar.chain.tip().time_ms + spacing_ms && time <= now, "dated {time} at {now}");
}

/// Answers every question for blocks with one genuine block, half a second later, and says that it is far ahead.
struct Miser {
    blocks: Vec<BlockView>,
    asked: Arc<AtomicUsize>,
}

impl Respond for Miser {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let from: u64 =
            request.url.query_pairs().find(|(name, _)| name == "from").unwrap().1.parse().unwrap();
        let blocks = self.blocks.iter().filter(|block| block.height == from).cloned().collect();
        let tip = self.blocks.len() as u64;
        ResponseTemplate::new(200)
            .set_body_json(BlocksView { blocks, tip })
            .set_delay(Duration::from_millis(500))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_member_that_gives_its_blocks_one_by_one_does_not_keep_a_node_behind() {
    let mut net = Net::new(4, VerifyMode::Incremental);
    let height = 300;
    net.prefill(&[0, 1], height).await;
    net.run(0);
    net.run(1);
    let mut blocks = Vec::new();
    while (blocks.len() as u64) < height {
        blocks.extend(net.blocks(0, blocks.len() as u64 + 1).await.blocks);
    }
    let asked = Arc::new(AtomicUsize::new(0));
    let listener = std::net::TcpListener::bind(("127.0.0.1", net.ports[3])).unwrap();
    let miser = MockServer::builder().listener(listener).start().await;
    let answer = ResponseTemplate::new(200).set_body_json(Heard { height, attacked: false });
    let envelopes = hbc_client::operations::ledger::receive_envelope().path;
    Mock::given(method("POST")).and(path(envelopes)).respond_with(answer).mount(&miser).await;
    let miserly = Miser { blocks, asked: asked.clone() };
    Mock::given(method("GET")).and(path("/v1/blocks")).respond_with(miserly).mount(&miser).await;
    net.run(2);
    let started = Instant::now();
    while net.status(2).await.height < height {
        assert!(started.elapsed() < Duration::from_secs(100), "kept behind");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked <= 4, "asked {asked} times for one block each");
}

/// Six hundred blocks behind, six pieces; the member that gives them goes away on the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_node_hundreds_of_blocks_behind_catches_up_though_a_giver_dies() {
    let mut net = Net::new(4, VerifyMode::Incremental);
    let height = 600;
    net.prefill(&[0, 1, 2], height).await;
    for index in [0, 1, 2, 3] {
        net.run(index);
    }
    let (started, mut stopped) = (Instant::now(), false);
    loop {
        let status = net.status(3).await;
        if status.height > 150 && !stopped {
            net.stop(0);
            stopped = true;
        }
        if status.height >= height {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(180), "stays behind: {status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(stopped, "it went away on the way");
    let own = net.blocks(3, height).await.blocks.remove(0).hash;
    assert_eq!(own, net.blocks(1, height).await.blocks.remove(0).hash);
}

/// Everybody reads so much a second; members and the deployment's services read on, and who is behind catches up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_readers_keeps_neither_members_nor_services_from_reading() {
    let mut net = Net::new(4, VerifyMode::Incremental);
    net.block_bytes_per_second = 16 << 10;
    net.prefill(&[0, 1, 2], 60).await;
    for index in [0, 1, 2] {
        net.run(index);
    }
    const PATH: &str = "/v1/blocks?from=1&limit=60";
    let get = async |headers: &[(&str, String)]| {
        let call = net.endpoint(0).get(PATH).once();
        let call = headers.iter().fold(call, |call, (name, value)| call.header(name, value));
        call.fetch::<BlocksView>().await.map(|view| view.blocks.len())
    };
    let is_refused = |answer: Result<usize, ClientError>| answer.unwrap_err().status() == Some(429);
    // Eight seconds' worth is 128 KiB; the blocks count more than 240 KiB.
    assert_eq!(get(&[]).await.unwrap(), 60);
    let Err(ClientError::Problem(refused)) = get(&[]).await else { panic!("served") };
    let wait = refused.retry_after.unwrap();
    assert!(refused.status == 429 && wait <= Duration::from_secs(30), "{wait:?}");
    let receiver = sender(&net, 0).me;
    let member = |index: usize, path: &str| {
        let sender = sender(&net, index);
        let text = envelope_text(&net.chain, &sender.me, &receiver, path.as_bytes());
        let signature = STANDARD.encode(sign(&sender.key, &text));
        [(MEMBER_HEADER, sender.me.to_string()), (SIGNATURE_HEADER, signature)]
    };
    let service = |role: ServiceRole, key: ServiceRole, path: &str| {
        let caller = ServiceCaller::new(role, service_key(key), Clock::system(), Random::system());
        [(READER_HEADER, caller.assertion(Audience::LEDGER, "GET", path, b"").unwrap())]
    };
    let (auth, storage) = (ServiceRole::Auth, ServiceRole::Storage);
    for _again in 0..3 {
        assert_eq!(get(&member(3, PATH)).await.unwrap(), 60);
        assert_eq!(get(&service(auth, auth, PATH)).await.unwrap(), 60);
        assert!(is_refused(get(&member(3, "/v1/blocks")).await), "signed for another path");
        assert!(is_refused(get(&service(auth, storage, PATH)).await), "another service's key");
        assert!(is_refused(get(&service(auth, auth, "/v1/blocks")).await));
    }
    let once = service(auth, auth, PATH);
    assert_eq!(get(&once).await.unwrap(), 60);
    assert!(is_refused(get(&once).await));
    // A member that has nothing yet, at the same address.
    net.run(3);
    let height = net.status(0).await.height;
    let started = Instant::now();
    while net.status(3).await.height < height {
        assert!(started.elapsed() < Duration::from_secs(60), "kept behind");
        let _served_or_not = net.endpoint(0).get(PATH).once().fetch::<BlocksView>().await;
    }
}
