//! A small chain with four members and nodes that serve it, honestly or not.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use hbc_chain::certificate::PromiseClaims;
use hbc_chain::checkpoint::{Certificate, Checkpoint};
use hbc_chain::genesis::{Genesis, Named, Parameters, ServiceKey, log_origin};
use hbc_chain::header::{Header, miner_id};
use hbc_chain::merkle::{self, Frontier};
use hbc_chain::payload::{MemberVote, Payload, Receipts};
use hbc_chain::tx;
use hbc_client::ledger::{FinalBlock, Journal, JournalError};
use hbc_types::account::ServiceRole;
use hbc_types::keys::PublicKey;
use hbc_types::outbox::{FollowPosition, OpenTransaction, SubmitOutcome, TransactionState};
use hbc_types::problem::{ProblemDocument, Slug, TYPE_PREFIX};
use hbc_types::secret::Bytes;
use hbc_types::wire::ledger::{
    BatchAnswer, BatchResult, BlockView, BlocksView, NodeRole, NodeState, NodeStatus, Promise, SubmitBatch,
};
use hbc_types::{Digest, Timestamp};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

pub const NOW_MS: i64 = 1_800_000_000_000;

pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn named(name: &str, seed: u8) -> Named {
    Named { key: PublicKey::of(&key(seed)), name: name.to_owned() }
}

pub fn genesis() -> Genesis {
    let mut services: Vec<ServiceKey> = [ServiceRole::AccessPolicy, ServiceRole::Auth, ServiceRole::Storage]
        .into_iter()
        .zip(21..)
        .map(|(role, seed)| ServiceKey { key: PublicKey::of(&key(seed)), role })
        .collect();
    services.sort_by_key(|service| service.role.code());
    Genesis {
        members: (1..=4).map(|n| named(&format!("node-{n}"), n)).collect(),
        operators: vec![named("operator-1", 11)],
        origin: "hbc.example".to_owned(),
        parameters: Parameters::with_zero_bits(0, 1).unwrap(),
        services,
        time_ms: u64::try_from(NOW_MS - 60_000).unwrap(),
    }
}

/// A transaction of storage-like simplicity: a receipts root signed by access-policy.
pub fn transaction(n: u64) -> String {
    let chain = genesis().chain_id().unwrap();
    let root = Digest::of(&n.to_be_bytes());
    let payload = Payload::Receipts(Receipts { chain, count: 1, iat: u64::try_from(NOW_MS).unwrap(), root });
    tx::sign(&key(21), &payload).unwrap()
}

/// A member's vote that `name` gets this key (by seed), or leaves.
pub fn vote(voter: u8, name: &str, seed: Option<u8>) -> String {
    let payload = Payload::MemberVote(MemberVote {
        chain: genesis().chain_id().unwrap(),
        iat: u64::try_from(NOW_MS).unwrap() + u64::from(voter),
        nonce: 0,
        subject: format!("member:{name}"),
        value: seed.map_or("none".to_owned(), |seed| PublicKey::of(&key(seed)).to_string()),
    });
    tx::sign(&key(voter), &payload).unwrap()
}

pub fn author() -> Digest {
    PublicKey::of(&key(21)).kid()
}

/// Builds blocks one after the other.
#[derive(Clone)]
pub struct Builder {
    pub genesis: Genesis,
    members: Vec<Named>,
    tip: Header,
    log: Frontier,
    pub blocks: Vec<BlockView>,
}

impl Builder {
    /// From now on these members, by seed, certify.
    pub fn members(&mut self, seeds: &[u8]) {
        self.members = seeds.iter().map(|n| named(&format!("node-{n}"), *n)).collect();
    }

    pub fn new() -> Self {
        let genesis = genesis();
        let tip = genesis.header().unwrap();
        let members = genesis.members.clone();
        Self { genesis, members, tip, log: Frontier::new(), blocks: Vec::new() }
    }

    /// Appends a block with these transactions, signed by the members with these seeds.
    pub fn push(&mut self, transactions: &[String], signers: &[u8]) {
        let txids: Vec<Digest> = transactions.iter().map(|jws| tx::txid(jws.as_bytes())).collect();
        self.log.push(self.tip.leaf_hash());
        for txid in &txids {
            self.log.push(*txid);
        }
        let header = Header {
            height: self.tip.height + 1,
            prev_hash: self.tip.hash(),
            tx_root: merkle::root(&txids),
            log_root: self.log.root(),
            log_size: self.log.size(),
            state_root: self.tip.state_root,
            time_ms: self.tip.time_ms + 1000,
            target: self.tip.target,
            miner: miner_id(&PublicKey::of(&key(1)).kid()),
            nonce: 0,
        };
        let header = header.mine(&AtomicBool::new(false)).unwrap();
        let checkpoint = Checkpoint {
            origin: log_origin(&self.genesis.origin, &self.genesis.chain_id().unwrap()),
            log_size: header.log_size,
            log_root: header.log_root,
            height: header.height,
            round: 0,
            block: header.hash(),
        };
        let votes: Vec<_> = signers
            .iter()
            .map(|seed| (PublicKey::of(&key(*seed)).kid(), checkpoint.sign(&key(*seed))))
            .collect();
        let certificate = Certificate::assemble(checkpoint, &votes, &self.members);
        self.blocks.push(BlockView {
            height: header.height,
            hash: header.hash(),
            header: Bytes::new(header.to_bytes().to_vec()),
            transactions: transactions.to_vec(),
            certificate: certificate.to_note(),
        });
        self.tip = header;
    }
}

/// What a node does with a submission.
#[derive(Clone, Debug, PartialEq)]
pub enum Mood {
    /// Promises, as a member should.
    Promise,
    /// Promises with somebody else's signature.
    Forge,
    /// Answers this problem to each transaction.
    Refuse(Slug),
    /// Answers the whole request with this problem.
    Down(Slug),
}

/// A node whose chain and mood the test changes at will.
pub struct Node {
    pub name: String,
    pub server: MockServer,
    pub blocks: Arc<Mutex<Vec<BlockView>>>,
    pub mood: Arc<Mutex<Mood>>,
    pub received: Arc<Mutex<Vec<String>>>,
}

struct Answers {
    name: String,
    seed: u8,
    blocks: Arc<Mutex<Vec<BlockView>>>,
    mood: Arc<Mutex<Mood>>,
    received: Arc<Mutex<Vec<String>>>,
}

fn problem(slug: Slug) -> ProblemDocument {
    ProblemDocument {
        kind: format!("{TYPE_PREFIX}{}", slug.as_str()),
        title: slug.title().to_owned(),
        status: slug.status(),
        detail: None,
        instance: None,
        errors: Vec::new(),
        references: if slug == Slug::Excluded { vec![Digest::of(b"rival").to_string()] } else { Vec::new() },
    }
}

impl Answers {
    fn blocks(&self, request: &Request) -> ResponseTemplate {
        let from: u64 = request.url.query_pairs().find(|(k, _)| k == "from").unwrap().1.parse().unwrap();
        let all = self.blocks.lock().unwrap();
        let blocks: Vec<BlockView> =
            all.iter().filter(|block| block.height >= from).take(2).cloned().collect();
        let tip = all.last().map_or(0, |block| block.height);
        ResponseTemplate::new(200).set_body_json(BlocksView { blocks, tip })
    }

    fn status(&self) -> ResponseTemplate {
        let attacked = *self.mood.lock().unwrap() == Mood::Down(Slug::NodeAttacked);
        ResponseTemplate::new(200).set_body_json(NodeStatus {
            node: self.name.clone(),
            chain: genesis().chain_id().unwrap(),
            role: NodeRole::Member,
            state: if attacked { NodeState::Attacked } else { NodeState::Healthy },
            height: 0,
            tip: Digest::ZERO,
            log_size: 0,
            pending: 0,
            members_seen: 4,
            members: 4,
            quorum: true,
            verify: "full".to_owned(),
            first_bad_height: None,
            evidence: None,
            evidence_digest: None,
            last_full_verification: None,
            scrub_period_s: 600,
            scrub_blocks: 0,
            last_full_scrub: None,
            attacked_peers: Vec::new(),
            events: Vec::new(),
            healing: None,
            last_healing: None,
        })
    }

    fn submit(&self, request: &Request) -> ResponseTemplate {
        let mood = self.mood.lock().unwrap().clone();
        if let Mood::Down(slug) = mood {
            return ResponseTemplate::new(slug.status()).set_body_json(problem(slug));
        }
        let batch: SubmitBatch = serde_json::from_slice(&request.body).unwrap();
        self.received.lock().unwrap().extend(batch.transactions.clone());
        let results = batch.transactions.iter().map(|jws| match &mood {
            Mood::Refuse(slug) => BatchResult::Problem(problem(*slug)),
            Mood::Forge => BatchResult::Promise(self.promise(jws, 99)),
            _ => BatchResult::Promise(self.promise(jws, self.seed)),
        });
        ResponseTemplate::new(202).set_body_json(BatchAnswer { results: results.collect() })
    }

    fn promise(&self, jws: &str, signer: u8) -> Promise {
        let include_by = Timestamp::from_ms(NOW_MS).plus(Duration::from_secs(5));
        let claims = PromiseClaims {
            chain: genesis().chain_id().unwrap(),
            iat: u64::try_from(NOW_MS).unwrap(),
            include_by: include_by.unsigned_ms(),
            node: self.name.clone(),
            txid: tx::txid(jws.as_bytes()),
        };
        let signature = claims.sign(&key(signer)).unwrap();
        Promise { txid: claims.txid, node: claims.node, include_by, quorum: true, signature, height: None }
    }
}

impl Respond for Answers {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        match request.url.path() {
            "/v1/checkpoint" => match self.blocks.lock().unwrap().last() {
                Some(block) => ResponseTemplate::new(200).set_body_string(block.certificate.clone()),
                None => ResponseTemplate::new(404),
            },
            "/v1/blocks" => self.blocks(request),
            "/v1/status" => self.status(),
            "/v1/transactions/batch" => self.submit(request),
            _ => ResponseTemplate::new(404),
        }
    }
}

impl Node {
    pub async fn start(seed: u8) -> Self {
        let name = format!("node-{seed}");
        let (blocks, mood, received) =
            (Arc::default(), Arc::new(Mutex::new(Mood::Promise)), Arc::<Mutex<Vec<String>>>::default());
        let server = MockServer::start().await;
        let answers = Answers {
            name: name.clone(),
            seed,
            blocks: Arc::clone(&blocks),
            mood: Arc::clone(&mood),
            received: Arc::clone(&received),
        };
        Mock::given(wiremock::matchers::any()).respond_with(answers).mount(&server).await;
        Self { name, server, blocks, mood, received }
    }

    pub fn serve(&self, blocks: &[BlockView]) {
        *self.blocks.lock().unwrap() = blocks.to_vec();
    }

    pub fn feel(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

pub async fn nodes() -> Vec<Node> {
    let mut nodes = Vec::new();
    for seed in 1..=4 {
        nodes.push(Node::start(seed).await);
    }
    nodes
}

pub fn urls(nodes: &[Node]) -> Vec<String> {
    nodes.iter().map(|node| node.server.uri()).collect()
}

#[derive(Default)]
struct Kept {
    position: Option<FollowPosition>,
    applied: Vec<u64>,
    open: Vec<OpenTransaction>,
    due_at: HashMap<Digest, Timestamp>,
    states: HashMap<Digest, TransactionState>,
    fail_applies: u32,
}

/// A journal in memory that behaves like the one over the database.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Kept>>);

impl Memory {
    pub fn enqueue(&self, jws: &str) -> Digest {
        let txid = tx::txid(jws.as_bytes());
        let mut kept = self.0.lock().unwrap();
        let seq = i64::try_from(kept.open.len()).unwrap();
        kept.open.push(OpenTransaction {
            seq,
            txid,
            author: author(),
            kind: "access.receipts".to_owned(),
            reference: String::new(),
            jws: jws.to_owned(),
            enqueued_at: Timestamp::from_ms(NOW_MS),
            attempts: 0,
            node: None,
            include_by: None,
        });
        kept.states.insert(txid, TransactionState::Waiting);
        txid
    }

    pub fn applied(&self) -> Vec<u64> {
        self.0.lock().unwrap().applied.clone()
    }

    pub fn state(&self, txid: Digest) -> TransactionState {
        self.0.lock().unwrap().states[&txid].clone()
    }

    pub fn node_of(&self, txid: Digest) -> Option<String> {
        self.0.lock().unwrap().open.iter().find(|open| open.txid == txid).and_then(|open| open.node.clone())
    }

    pub fn fail_next_applies(&self, count: u32) {
        self.0.lock().unwrap().fail_applies = count;
    }
}

impl Journal for Memory {
    async fn position(&self) -> Result<Option<FollowPosition>, JournalError> {
        Ok(self.0.lock().unwrap().position.clone())
    }

    async fn apply(&self, block: &FinalBlock, position: FollowPosition) -> Result<(), JournalError> {
        let mut kept = self.0.lock().unwrap();
        if kept.fail_applies > 0 {
            kept.fail_applies -= 1;
            return Err("disk full".into());
        }
        kept.applied.push(block.height());
        kept.position = Some(position);
        for transaction in &block.transactions {
            kept.open.retain(|open| open.txid != transaction.txid);
            let state = TransactionState::Final { height: block.height(), log_index: transaction.log_index };
            kept.states.insert(transaction.txid, state);
        }
        Ok(())
    }

    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<OpenTransaction>, JournalError> {
        let kept = self.0.lock().unwrap();
        let due = kept.open.iter().filter(|open| kept.due_at.get(&open.txid).is_none_or(|at| *at <= now));
        Ok(due.take(limit as usize).cloned().collect())
    }

    async fn record(&self, outcomes: Vec<SubmitOutcome>) -> Result<(), JournalError> {
        let mut kept = self.0.lock().unwrap();
        for outcome in outcomes {
            match outcome {
                SubmitOutcome::Submitted { txid, node, include_by, look_again } => {
                    kept.due_at.insert(txid, look_again);
                    kept.states.insert(txid, TransactionState::Submitted);
                    for open in kept.open.iter_mut().filter(|open| open.txid == txid) {
                        (open.node, open.include_by) = (Some(node.clone()), Some(include_by));
                        open.attempts += 1;
                    }
                }
                SubmitOutcome::Postponed { txid, again } => {
                    kept.due_at.insert(txid, again);
                    for open in kept.open.iter_mut().filter(|open| open.txid == txid) {
                        open.attempts += 1;
                    }
                }
                SubmitOutcome::Refused { txid, reason, excluded_by } => {
                    kept.open.retain(|open| open.txid != txid);
                    kept.states.insert(txid, TransactionState::Refused { reason, excluded_by });
                }
            }
        }
        Ok(())
    }
}
