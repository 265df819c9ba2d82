//! A member that lies: two blocks for one height, a consent nobody signed, too little work, a replayed vote.
//! The test speaks for node-4, which does not run; the other three must stay one chain and go on.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hbc_chain::block::BlockError;
use hbc_chain::checkpoint::BlockId;
use hbc_chain::evidence::Evidence;
use hbc_chain::genesis::log_origin;
use hbc_chain::header::{Block, Header};
use hbc_chain::memory::{Chain, NextBlock};
use hbc_chain::merkle;
use hbc_chain::payload::{Consent, NodeEvent, Payload};
use hbc_chain::tx::{self, Tx};
use hbc_consensus::sign_bytes::SignBytes;
use hbc_consensus::{BlockBytes, Member, MemberId, MemberSet, Message};
use hbc_ledger::config::VerifyMode;
use hbc_ledger::peers::{Item, Sender, pack, send_envelope};
use hbc_types::account::Custody;
use hbc_types::ids::GrantId;
use hbc_types::keys::PublicKey;
use hbc_types::{Clock, Digest};

use crate::clocks::WrongClock;
use crate::net::{Net, txid};

const LIAR: usize = 3;
const HONEST: [usize; 3] = [0, 1, 2];

pub struct Adversary {
    pub chain: Chain,
    sign_bytes: SignBytes,
    sender: Sender,
}

impl Adversary {
    /// Brings the chain to a height at which node-4 is the first to propose, and learns it.
    pub async fn at_its_turn(net: &mut Net) -> Self {
        let id = |key: &ed25519_dalek::SigningKey| Member::new(key.verifying_key().to_bytes()).id;
        loop {
            let status = net.one_tip(&HONEST).await;
            let chain = Chain::found(net.genesis.clone()).unwrap();
            let turn = MemberSet::of(chain.state().members()).proposer(status.height + 1, 0).unwrap().id;
            if status.height > 0 && turn == id(&net.keys[LIAR]) {
                break;
            }
            let jws = net.transaction();
            net.submit(0, &jws).await.unwrap();
            net.finality(0, &txid(&jws)).await;
        }
        let chain = chain_of(net, 0).await;
        let sign_bytes = SignBytes { chain: net.chain, origin: log_origin("hbc.test", &net.chain) };
        let sender = Sender {
            me: id(&net.keys[LIAR]),
            key: net.keys[LIAR].clone(),
            chain: net.chain,
            clock: Clock::system(),
        };
        Self { chain, sign_bytes, sender }
    }

    pub fn block(&self, transactions: &[&str], dated_ms: i64) -> NextBlock {
        let txs: Vec<_> =
            transactions.iter().map(|jws| Arc::new(Tx::parse(jws.as_bytes()).unwrap())).collect();
        let kid = PublicKey::of(&self.sender.key).kid();
        let now = Clock::system().now();
        let now = hbc_types::Timestamp::from_ms(now.ms() + dated_ms);
        self.chain.draft(&txs, now, &kid).mine(&AtomicBool::new(false)).unwrap()
    }

    /// The same block with other transactions, roots made to fit, and its work found.
    fn forge(&self, transactions: Vec<Vec<u8>>) -> Block {
        let mut block = self.block(&[], 0).block;
        block.transactions = transactions;
        let txids = block.txids();
        let mut log = self.chain.log().frontier().clone();
        log.push(self.chain.tip().leaf_hash());
        txids.iter().for_each(|txid| log.push(*txid));
        block.header.tx_root = merkle::root(&txids);
        (block.header.log_size, block.header.log_root) = (log.size(), log.root());
        block.header.nonce = 0;
        block.header = block.header.mine(&AtomicBool::new(false)).unwrap();
        block
    }

    pub async fn tell(&self, net: &Net, index: usize, message: &Message) {
        let receiver = MemberId(*PublicKey::of(&net.keys[index]).kid().as_bytes());
        let mut body = Vec::new();
        pack(&mut body, &Item::Consensus(message.height(), message.encode().into()));
        send_envelope(&net.endpoint(index), &receiver, &self.sender, body).await.unwrap();
    }

    pub fn propose(&self, block: &Block, round: u32) -> Message {
        let bytes = BlockBytes::from(block.to_bytes());
        let height = block.header.height;
        Message::proposal(
            &self.sign_bytes,
            &self.sender.key,
            (height, round),
            BlockId::of(&block.header),
            bytes,
        )
    }

    /// What the honest nodes decided at the adversary's height, after a transaction went through.
    async fn outcome(&self, net: &mut Net) -> (Digest, Vec<String>) {
        let jws = net.transaction();
        net.submit(0, &jws).await.unwrap();
        for index in HONEST {
            net.finality(index, &txid(&jws)).await;
        }
        net.one_tip(&HONEST).await;
        let height = self.chain.height() + 1;
        let mut decided = Vec::new();
        for index in HONEST {
            decided.push(net.blocks(index, height).await.blocks.remove(0));
        }
        assert!(decided.windows(2).all(|two| two[0].hash == two[1].hash), "one chain");
        let block = decided.remove(0);
        (block.hash, block.transactions)
    }
}

/// The chain as a node serves it, replayed.
pub async fn chain_of(net: &Net, index: usize) -> Chain {
    let mut chain = Chain::found(net.genesis.clone()).unwrap();
    for view in net.blocks(index, 1).await.blocks {
        let header = Header::from_bytes(view.header.as_slice()).unwrap();
        let transactions = view.transactions.into_iter().map(String::into_bytes).collect();
        chain.replay(&Block { header, transactions }, view.certificate).unwrap();
    }
    chain
}

/// A grant in the name of a key, over a signature that the key made for other words.
fn unsigned_consent(chain: Digest) -> String {
    let key = ed25519_dalek::SigningKey::from_bytes(&[55; 32]);
    let sign = |iat| {
        let grant = Payload::Grant(Consent {
            chain,
            commitment: Digest::of(b"everything for everybody"),
            custody: Custody::Client,
            grant: GrantId::parse("grt-00000000000000000000000000000001").unwrap(),
            iat,
            key: PublicKey::of(&key).kid(),
            prev: None,
            seq: 1,
        });
        tx::sign(&key, &grant).unwrap()
    };
    let now = Clock::system().now().unsigned_ms();
    let (wanted, signed) = (sign(now), sign(now + 1));
    format!("{}.{}", wanted.rsplit_once('.').unwrap().0, signed.rsplit_once('.').unwrap().1)
}

pub fn three_of_four() -> Net {
    three_of(Net::new(4, VerifyMode::Incremental))
}

/// All run but the one that the test speaks for.
pub fn three_of(mut net: Net) -> Net {
    for index in HONEST {
        net.run(index);
    }
    net
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn of_two_blocks_for_one_height_at_most_one_is_decided_and_the_liar_is_known() {
    let mut net = three_of_four();
    let liar = Adversary::at_its_turn(&mut net).await;
    let (one, two) = (liar.block(&[], 0), liar.block(&[], 5));
    assert_ne!(one.value, two.value);
    for (index, first, second) in [(0, &one, &two), (1, &two, &one), (2, &one, &two)] {
        liar.tell(&net, index, &liar.propose(&first.block, 0)).await;
        liar.tell(&net, index, &liar.propose(&second.block, 0)).await;
        let at = (liar.chain.height() + 1, 0);
        for precommit in [false, true] {
            for value in [Some(one.value), Some(two.value), None] {
                let vote = Message::vote(&liar.sign_bytes, &liar.sender.key, at, precommit, value);
                liar.tell(&net, index, &vote).await;
            }
        }
    }
    liar.outcome(&mut net).await;
    // What the honest three saw is final, the same document on each, and anybody can check it.
    let event = net.told(0, "node-4", "equivocation").await;
    let kid = PublicKey::of(&net.keys[LIAR]).kid();
    for index in HONEST {
        assert_eq!(net.told(index, "node-4", "equivocation").await, event);
        let document = net.document(index, &event.evidence).await;
        assert_eq!(Digest::of(&document), event.evidence);
        let accused = Evidence::parse(&document).unwrap().verify(&net.chain).unwrap();
        assert_eq!((accused.member, accused.height), (kid, liar.chain.height() + 1));
        assert!(net.evidence(index).await < 20, "bounded however much it signs");
    }
    // It lies on at the next heights, and is told of no second time.
    for _ in 0..3 {
        liar.outcome(&mut net).await;
    }
    let again = net.status(0).await.events;
    let told: Vec<_> = again.iter().filter(|event| event.event == "equivocation").collect();
    assert!(told.iter().all(|later| later.height == event.height), "{again:?}");
    assert!(
        told.len() <= HONEST.len(),
        "one document of each that saw it, if they meet in one block: {again:?}"
    );
}

/// Each member hears one story, so that none is told a contradiction; at the latest the certificate of the block that the
/// others decided shows the first member that it was told another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_liar_that_tells_one_member_another_story_than_the_rest_is_known_by_the_certificate() {
    let mut net = three_of_four();
    let mut lied = Vec::new();
    // On a slow machine a round may end before the liar's story is told: it has its turn again.
    while lied.len() < 10 && net.status(0).await.events.is_empty() {
        let liar = Adversary::at_its_turn(&mut net).await;
        let (one, two) = (liar.block(&[], 0), liar.block(&[], 5));
        let at = (liar.chain.height() + 1, 0);
        for (index, told) in [(0, &one), (1, &two), (2, &two)] {
            liar.tell(&net, index, &liar.propose(&told.block, 0)).await;
            for precommit in [false, true] {
                let vote = Message::vote(&liar.sign_bytes, &liar.sender.key, at, precommit, Some(told.value));
                liar.tell(&net, index, &vote).await;
            }
        }
        lied.push(at.0);
        liar.outcome(&mut net).await;
    }
    let event = net.told(0, "node-4", "equivocation").await;
    for index in HONEST {
        let document = net.document(index, &event.evidence).await;
        let accused = Evidence::parse(&document).unwrap().verify(&net.chain).unwrap();
        assert_eq!(accused.member, PublicKey::of(&net.keys[LIAR]).kid());
        assert!(lied.contains(&accused.height), "{} of {lied:?}", accused.height);
    }
}

/// It is good for two members and three seconds early for the third, which the liar's vote does not reach; then the liar
/// is gone. The two are locked on the block: the chain goes on by it or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_block_that_is_early_for_one_member_and_locked_by_two_is_decided() {
    let slow = WrongClock::off_by(-4_000);
    let mut net = Net::new(4, VerifyMode::Incremental);
    net.run(0);
    net.run(1);
    net.run_by(2, slow.clock.clone());
    let liar = Adversary::at_its_turn(&mut net).await;
    let ahead = liar.block(&[], 29_000);
    let at = (liar.chain.height() + 1, 0);
    for index in HONEST {
        liar.tell(&net, index, &liar.propose(&ahead.block, 0)).await;
    }
    for index in [0, 1] {
        let vote = Message::vote(&liar.sign_bytes, &liar.sender.key, at, false, Some(ahead.value));
        liar.tell(&net, index, &vote).await;
    }
    let (hash, _) = liar.outcome(&mut net).await;
    assert_eq!(hash, ahead.value.hash);
}

/// A member tells of what it cannot show, of what proves nothing, and in another's name: no other vote joins it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_false_accusation_finds_no_second_vote() {
    let mut net = three_of_four();
    let liar = Adversary::at_its_turn(&mut net).await;
    let mut told = Vec::new();
    for number in 0..50_u64 {
        let event = Payload::NodeEvent(NodeEvent {
            chain: net.chain,
            event: ["equivocation", "challenge-failed"][number as usize % 2].to_owned(),
            evidence: Digest::of(&number.to_be_bytes()),
            height: 1,
            iat: Clock::system().now().unsigned_ms(),
            node: "node-1".to_owned(),
        });
        let jws = tx::sign(&liar.sender.key, &event).unwrap();
        net.submit(1, &jws).await.unwrap();
        told.push(txid(&jws));
    }
    for txid in &told {
        net.finality(1, txid).await;
    }
    liar.outcome(&mut net).await;
    for index in HONEST {
        let status = net.status(index).await;
        assert!(status.events.is_empty(), "{:?}", status.events);
        assert_eq!(net.evidence(index).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_block_with_an_unsigned_consent_is_accepted_by_nobody() {
    let mut net = three_of_four();
    let liar = Adversary::at_its_turn(&mut net).await;
    let unsigned = unsigned_consent(net.chain);
    let block = liar.forge(vec![unsigned.clone().into_bytes()]);
    let verdict = liar.chain.examine(block.clone(), &|_| None);
    assert!(matches!(verdict, Err(BlockError::Signature { index: 0 })), "{verdict:?}");
    for index in HONEST {
        liar.tell(&net, index, &liar.propose(&block, 0)).await;
    }
    let (hash, transactions) = liar.outcome(&mut net).await;
    assert_ne!(hash, block.header.hash());
    assert!(!transactions.contains(&unsigned));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_header_with_too_little_work_is_accepted_by_nobody() {
    let mut net = three_of_four();
    let liar = Adversary::at_its_turn(&mut net).await;
    let mut block = liar.block(&[], 0).block;
    while block.header.check_work().is_ok() {
        block.header.nonce += 1;
    }
    let verdict = liar.chain.examine(block.clone(), &|_| None);
    assert!(matches!(verdict, Err(BlockError::Work)), "{verdict:?}");
    for index in HONEST {
        liar.tell(&net, index, &liar.propose(&block, 0)).await;
    }
    let (hash, _) = liar.outcome(&mut net).await;
    assert_ne!(hash, block.header.hash());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_replayed_vote_and_a_strangers_envelope_change_nothing() {
    let mut net = three_of_four();
    let liar = Adversary::at_its_turn(&mut net).await;
    let block = liar.block(&[], 0);
    let at = (liar.chain.height() + 1, 0);
    // Votes in the name of the others, signed by the liar; then its own genuine vote many times.
    let vote = Message::vote(&liar.sign_bytes, &liar.sender.key, at, true, Some(block.value));
    let honest = Member::new(net.keys[0].verifying_key().to_bytes()).id;
    let mut bytes = vote.encode();
    let place = bytes.windows(32).position(|window| window == liar.sender.me.0).unwrap();
    bytes[place..place + 32].copy_from_slice(&honest.0);
    let stolen = Message::decode(&bytes).unwrap();
    for index in HONEST {
        for _ in 0..3 {
            liar.tell(&net, index, &stolen).await;
            liar.tell(&net, index, &vote).await;
        }
    }
    let stranger = Sender {
        key: ed25519_dalek::SigningKey::from_bytes(&[77; 32]),
        me: MemberId([7; 32]),
        ..liar.sender.clone()
    };
    let receiver = MemberId(*PublicKey::of(&net.keys[0]).kid().as_bytes());
    let refused = send_envelope(&net.endpoint(0), &receiver, &stranger, Vec::new()).await.unwrap_err();
    assert_eq!(refused.slug(), Some(hbc_types::problem::Slug::Unauthenticated));
    let (hash, _) = liar.outcome(&mut net).await;
    assert_ne!(hash, block.value.hash);
}
