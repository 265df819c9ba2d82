//! Membership: who joins, leaves and changes keys by votes; what the others notice, and what a removed member may do.

use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use hbc_chain::checkpoint::Certificate;
use hbc_chain::header::{Header, Target};
use hbc_chain::payload::{MemberVote, Payload};
use hbc_chain::proof::{self, Trust};
use hbc_chain::tx;
use hbc_consensus::MemberId;
use hbc_ledger::config::VerifyMode;
use hbc_ledger::node::boot::Running;
use hbc_ledger::peers::{Sender, send_envelope};
use hbc_testkit::chain::key;
use hbc_testkit::service::secret_file;
use hbc_types::Clock;
use hbc_types::keys::PublicKey;
use hbc_types::problem::Slug;
use hbc_types::wire::ledger::{MembersView, NodeRole, SubmitBatch};

use crate::healing::Beside;
use crate::net::{Net, txid};

fn public(key: &SigningKey) -> String {
    PublicKey::of(key).to_string()
}

fn id(key: &SigningKey) -> MemberId {
    MemberId(*PublicKey::of(key).kid().as_bytes())
}

impl Net {
    /// A node that is no founder: its own key and folder, one address.
    fn newcomer(&mut self) -> usize {
        let index = self.keys.len();
        let key = key(u8::try_from(index + 1).unwrap());
        let name = format!("node-{}.key", index + 1);
        secret_file(self.folder.path(), &name, &hex::encode(key.to_bytes()));
        self.keys.push(key);
        hbc_ledger::files::DataFolder::open(&self.data(index)).unwrap().note_unborn().unwrap();
        let fresh = hbc_testkit::free_ports::<8>();
        let port = fresh.into_iter().find(|port| !self.ports.contains(port)).unwrap();
        self.ports.push(port);
        self.running.push(None);
        self.run(index);
        index
    }

    fn vote(&self, signer: &SigningKey, subject: &str, value: &str, nonce: u64) -> String {
        let vote = MemberVote {
            chain: self.chain,
            iat: Clock::system().now().unsigned_ms(),
            nonce,
            subject: subject.to_owned(),
            value: value.to_owned(),
        };
        tx::sign(signer, &Payload::MemberVote(vote)).unwrap()
    }

    /// These vote, at node `at`; answers the height at which the change took effect.
    pub async fn change(
        &self,
        at: usize,
        signers: &[&SigningKey],
        subject: &str,
        value: &str,
        nonce: u64,
    ) -> u64 {
        let mut last = 0;
        for signer in signers {
            let jws = self.vote(signer, subject, value, nonce);
            self.submit(at, &jws).await.unwrap();
            last = self.finality(at, &txid(&jws)).await;
        }
        last
    }

    /// The same by the first `count` members with the keys they began with.
    pub async fn change_by(&self, at: usize, count: usize, subject: &str, value: &str, nonce: u64) -> u64 {
        let signers: Vec<&SigningKey> = self.keys.iter().take(count).collect();
        self.change(at, &signers, subject, value, nonce).await
    }

    async fn members(&self, index: usize) -> MembersView {
        self.endpoint(index).get("/v1/members").fetch().await.unwrap()
    }

    /// Waits until a node answers as this.
    async fn becomes(&self, index: usize, role: NodeRole) {
        self.until("a node's role", async || self.status(index).await.role == role).await;
    }

    pub async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let started = Instant::now();
        while !holds().await {
            assert!(started.elapsed() < Duration::from_secs(60), "waited too long for {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Writes one transaction at a node and waits until it is final on these.
    async fn write(&mut self, at: usize, on: &[usize]) -> u64 {
        let jws = self.transaction();
        self.submit(at, &jws).await.unwrap();
        let mut height = 0;
        for index in on {
            height = self.finality(*index, &txid(&jws)).await;
        }
        height
    }

    /// Names of the members that certified a block.
    async fn signers(&self, index: usize, height: u64) -> Vec<String> {
        let block = self.blocks(index, height).await.blocks.remove(0);
        let note = Certificate::parse(&block.certificate).unwrap();
        note.signatures.into_iter().map(|line| line.member).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_fifth_member_joins_from_an_empty_folder_and_an_old_one_may_stop() {
    let mut net = Net::start(4, VerifyMode::Incremental);
    for _ in 0..5 {
        net.write(0, &[0]).await;
    }
    // Nobody voted yet: it follows and serves what it verified, but takes nothing.
    let fifth = net.newcomer();
    assert_eq!(net.status(fifth).await.role, NodeRole::Observer);
    net.one_tip(&[0, 1, 2, 3, fifth]).await;
    let jws = net.transaction();
    let refused = net.submit(fifth, &jws).await.unwrap_err();
    assert_eq!(refused.slug(), Some(Slug::Unavailable), "{refused}");
    let subject = "member:node-5";
    let took_effect = net.change_by(1, 3, subject, &public(&net.keys[fifth]), 0).await;
    net.becomes(fifth, NodeRole::Member).await;
    // The others knew only four addresses: the fifth told one of them, and it went round.
    for index in 0..4 {
        net.until("the address of node-5", async || {
            let members = net.members(index).await.members;
            members.iter().any(|member| member.name == "node-5" && member.url.is_some())
        })
        .await;
    }
    assert!(
        !net.signers(0, took_effect).await.contains(&"node-5".to_owned()),
        "it certifies from the next height on"
    );
    net.write(2, &[0, 1, 2, 3, fifth]).await;
    // Four of five must sign: without node-4 the newcomer is needed.
    net.stop(3);
    let height = net.write(fifth, &[0, 1, 2, fifth]).await;
    assert!(net.signers(1, height).await.contains(&"node-5".to_owned()));
    // What was learned survives a restart.
    net.stop(1);
    net.run(1);
    let members = net.members(1).await.members;
    assert!(members.iter().any(|member| member.name == "node-5" && member.url.is_some()));
    net.write(1, &[0, 1, 2, fifth]).await;
    net.run(3);
    net.one_tip(&[0, 1, 2, 3, fifth]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_removed_member_observes_and_its_signatures_count_no_more() {
    let mut net = Net::start(4, VerifyMode::Incremental);
    net.write(3, &[0, 1, 2, 3]).await;
    let took_effect = net.change_by(0, 3, "member:node-4", "none", 0).await;
    net.becomes(3, NodeRole::Observer).await;
    let height = net.write(0, &[0, 1, 2, 3]).await;
    assert!(height > took_effect);
    assert_eq!(net.signers(3, height).await, ["node-1", "node-2", "node-3"]);
    assert_eq!(net.status(0).await.members, 3);
    // Its envelope, its promise and its vote are nobody's any more.
    let sender =
        Sender { me: id(&net.keys[3]), key: net.keys[3].clone(), chain: net.chain, clock: Clock::system() };
    let refused = send_envelope(&net.endpoint(0), &id(&net.keys[0]), &sender, Vec::new()).await.unwrap_err();
    assert_eq!(refused.slug(), Some(Slug::Unauthenticated));
    let jws = net.transaction();
    let hbc_client::ClientError::Problem(refused) = net.submit(3, &jws).await.unwrap_err() else { panic!() };
    assert_eq!(refused.document.references.len(), 3, "the members are named: {refused:?}");
    let vote = net.vote(&net.keys[3], "member:node-4", &public(&net.keys[3]), 1);
    assert_eq!(net.submit(0, &vote).await.unwrap_err().slug(), Some(Slug::Excluded));
    // All three are needed now, and node-4 makes up for none.
    net.stop(2);
    let waits = net.transaction();
    net.submit(0, &waits).await.unwrap();
    net.run(2);
    net.finality(3, &txid(&waits)).await;
    // A restart leaves it an observer.
    net.stop(3);
    net.run(3);
    assert_eq!(net.status(3).await.role, NodeRole::Observer);
    net.write(1, &[3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_changes_its_key_while_others_write() {
    let mut net = Net::start(4, VerifyMode::Incremental);
    let (old, new) = (net.keys[1].clone(), key(42));
    net.stop(1);
    let beside = Beside::put(&mut net, 1, &old).await;
    net.next_keys.insert(1, new.clone());
    net.run(1);
    assert_eq!(net.status(1).await.role, NodeRole::Member, "the old key is in the set");
    let all: Vec<String> = (0..40).map(|_| net.transaction()).collect();
    let endpoints = [net.endpoint(0), net.endpoint(2)];
    let written = all.clone();
    let writer = hbc_service::spawn("test", async move {
        for (turn, jws) in written.into_iter().enumerate() {
            let body = hbc_types::wire::ledger::SubmitTransaction { jws };
            endpoints[turn % 2].post("/v1/transactions").json(&body).done().await.unwrap();
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    });
    net.change_by(3, 3, "member:node-2", &public(&new), 0).await;
    net.until("the new key", async || {
        let members = net.members(1).await.members;
        members
            .iter()
            .any(|member| member.name == "node-2" && member.key.as_slice() == PublicKey::of(&new).as_bytes())
    })
    .await;
    writer.await.unwrap();
    for jws in &all {
        net.finality(1, &txid(jws)).await;
    }
    // With node-4 down the new key must sign; the old one is a stranger's.
    net.stop(3);
    let height = net.write(1, &[0, 1, 2]).await;
    assert!(net.signers(0, height).await.contains(&"node-2".to_owned()));
    let sender = Sender { me: id(&old), key: old, chain: net.chain, clock: Clock::system() };
    let refused = send_envelope(&net.endpoint(0), &id(&net.keys[0]), &sender, Vec::new()).await.unwrap_err();
    assert_eq!(refused.slug(), Some(Slug::Unauthenticated));
    // Back with the old key alone, it does not know its own rows; with the new one alone, it is a member, and has them.
    net.run(3);
    net.stop(1);
    net.next_keys.clear();
    let Err(error) = Running::start(&net.config(1), Clock::system()).await else { panic!("it starts") };
    assert!(format!("{error:#}").contains("start with both keys"), "{error:#}");
    secret_file(net.folder.path(), "node-2.key", &hex::encode(new.to_bytes()));
    net.run(1);
    assert_eq!(net.status(1).await.role, NodeRole::Member);
    net.write(1, &[0, 1, 2, 3]).await;
    beside.are_served(&net, 1).await;
    assert_eq!(net.status(1).await.last_healing, None, "a change of keys is no attack");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_target_is_raised_and_lowered_and_no_other_is_taken() {
    let mut net = Net::start(4, VerifyMode::Incremental);
    let header =
        |view: &hbc_types::wire::ledger::BlockView| Header::from_bytes(view.header.as_slice()).unwrap();
    for (nonce, bits) in [(0, 9), (1, 4)] {
        let value = Target::from_zero_bits(bits).unwrap().compact();
        let took_effect = net.change_by(0, 3, "parameter:target", &value.to_string(), nonce).await;
        let height = net.write(1, &[0, 1, 2, 3]).await;
        let (before, after) = (net.blocks(2, took_effect).await.blocks, net.blocks(2, height).await.blocks);
        assert_ne!(header(&before[0]).target.compact(), value, "the block of the change has the old one");
        assert_eq!(header(&after[0]).target.compact(), value);
        // A block with the target of before is refused by the rule that every member applies.
        let chain = crate::adversary::chain_of(&net, 0).await;
        let draft = chain.draft(&[], Clock::system().now(), &PublicKey::of(&net.keys[0]).kid());
        let mut block = draft.mine(&std::sync::atomic::AtomicBool::new(false)).unwrap().block;
        block.header.target = header(&before[0]).target;
        let verdict = chain.examine(block, &|_| None);
        assert!(matches!(verdict, Err(hbc_chain::block::BlockError::Target)), "{verdict:?}");
    }
    net.stop(3);
    net.run(3);
    net.write(3, &[0, 1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_node_that_stops_at_the_block_of_the_change_comes_back_with_the_right_set() {
    let mut net = Net::start(4, VerifyMode::Incremental);
    let took_effect = net.change_by(0, 3, "member:node-4", "none", 0).await;
    for index in 0..4 {
        net.until("the block", async || net.status(index).await.height >= took_effect).await;
    }
    assert_eq!(net.status(0).await.height, took_effect, "nothing came after it");
    for index in 0..4 {
        net.stop(index);
    }
    for index in 0..4 {
        net.run(index);
    }
    let roles = [NodeRole::Member, NodeRole::Member, NodeRole::Member, NodeRole::Observer];
    for (index, role) in roles.into_iter().enumerate() {
        assert_eq!(net.status(index).await.role, role);
    }
    let height = net.write(2, &[0, 1, 2, 3]).await;
    assert_eq!(net.signers(3, height).await, ["node-1", "node-2", "node-3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn two_changes_in_one_block_act_together() {
    let mut net = Net::start(1, VerifyMode::Full);
    let second = net.newcomer();
    let join = net.vote(&net.keys[0], "member:node-2", &public(&net.keys[1]), 0);
    let pace = net.vote(&net.keys[0], "parameter:heartbeat_ms", "1000", 0);
    let batch = SubmitBatch { transactions: vec![join.clone(), pace.clone()] };
    net.endpoint(0).post("/v1/transactions/batch").json(&batch).done().await.unwrap();
    let heights = (net.finality(0, &txid(&join)).await, net.finality(0, &txid(&pace)).await);
    assert_eq!(heights.0, heights.1);
    net.becomes(second, NodeRole::Member).await;
    // A block a second by itself, and both must sign it.
    net.until("a heartbeat", async || net.status(second).await.height > heights.0 + 1).await;
    assert_eq!(net.signers(0, heights.0 + 2).await, ["node-1", "node-2"]);
}

/// Its genesis names it alone, and a heartbeat has long been due: only its peers know that it is not alone any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_founder_that_lost_its_folder_does_not_found_the_chain_a_second_time() {
    let mut net = Net::with(1, VerifyMode::Incremental, |genesis| genesis.time_ms -= 3_600_000);
    net.run(0);
    let second = net.newcomer();
    net.change_by(0, 1, "member:node-2", &public(&net.keys[second]), 0).await;
    net.becomes(second, NodeRole::Member).await;
    let tip = net.one_tip(&[0, second]).await;
    net.stop(0);
    net.stop(second);
    std::fs::remove_dir_all(net.data(0)).unwrap();
    net.acquainted.insert(0, vec![second]);
    net.run(0);
    // Long enough for a block of its own; nobody says anything yet.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(net.status(0).await.height, 0);
    net.run(second);
    assert_eq!(net.one_tip(&[0, second]).await.tip, tip.tip);
    assert!(net.data(0).join("abstaining").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn as_members_leave_fewer_must_sign() {
    let mut net = Net::start(4, VerifyMode::Incremental);
    net.change_by(0, 3, "member:node-4", "none", 0).await;
    net.change_by(0, 3, "member:node-3", "none", 0).await;
    net.becomes(2, NodeRole::Observer).await;
    net.stop(3);
    net.stop(2);
    let height = net.write(1, &[0, 1]).await;
    assert_eq!(net.signers(0, height).await, ["node-1", "node-2"]);
    net.change_by(0, 2, "member:node-2", "none", 0).await;
    net.becomes(1, NodeRole::Observer).await;
    net.stop(1);
    let height = net.write(0, &[0]).await;
    assert_eq!(net.signers(0, height).await, ["node-1"]);
    let last = net.vote(&net.keys[0], "member:node-1", "none", 0);
    assert_eq!(
        net.submit(0, &last).await.unwrap_err().slug(),
        Some(Slug::RuleViolation),
        "the last one stays"
    );
    net.run(1);
    net.run(2);
    net.one_tip(&[0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_proof_spans_a_member_added_one_removed_and_a_key_changed() {
    let mut net = Net::start(3, VerifyMode::Incremental);
    let early = net.transaction();
    net.submit(0, &early).await.unwrap();
    net.finality(0, &txid(&early)).await;
    let fourth = net.newcomer();
    net.change_by(0, 3, "member:node-4", &public(&net.keys[fourth]), 0).await;
    net.becomes(fourth, NodeRole::Member).await;
    net.stop(1);
    net.next_keys.insert(1, key(77));
    net.run(1);
    net.change_by(0, 3, "member:node-2", &public(&key(77)), 0).await;
    let signers = [net.keys[0].clone(), key(77), net.keys[fourth].clone()];
    net.change(0, &signers.each_ref(), "member:node-3", "none", 0).await;
    let late = net.transaction();
    net.submit(1, &late).await.unwrap();
    let height = net.finality(2, &txid(&late)).await;
    assert_eq!(net.signers(2, height).await, ["node-1", "node-2", "node-4"]);
    let trust = Trust::Genesis(Box::new(net.genesis.clone()));
    for jws in [&early, &late] {
        // From the observer: what it serves needs no trust in it.
        let path = format!("/v1/transactions/{}/proof", txid(jws));
        let answer = net.endpoint(2).get(&path).send().await.unwrap();
        let document = String::from_utf8(answer.body.to_vec()).unwrap();
        let verified = proof::verify(document.as_bytes(), &trust).unwrap();
        assert_eq!(verified.transaction.unwrap().txid, txid(jws));
        let document: serde_json::Value = serde_json::from_str(&document).unwrap();
        assert_eq!(document["sets"].as_array().map_or(0, Vec::len), 3, "the tip certifies both");
    }
}
