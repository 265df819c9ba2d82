//! A ledger node for the tests of its clients: real formats in front of a certified chain, without a node behind it. It is
//! honest until a test says otherwise: it may serve any blocks, promise with a stranger's key, refuse, or be away.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hbc_chain::certificate::PromiseClaims;
use hbc_chain::genesis::Genesis;
use hbc_chain::payload::Payload;
use hbc_chain::proof::Document;
use hbc_chain::testing::{Chain, key};
use hbc_chain::tx::{self, Tx};
use hbc_client::ledger::{FinalBlock, FinalTransaction};
use hbc_types::outbox::FollowPosition;
use hbc_types::problem::{ProblemDocument, Slug, TYPE_PREFIX};
use hbc_types::wire::ledger::{
    BatchAnswer, BatchResult, BlockView, BlocksView, NodeRole, NodeState, NodeStatus, Promise, SubmitBatch,
};
use hbc_types::{Clock, Digest};
use serde::Serialize;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

/// Seed of a key that is nobody's.
const STRANGER: u8 = 99;
/// Blocks in one answer: few, so that clients ask for more.
const PAGE: usize = 2;

/// How a node behaves.
#[derive(Clone, Debug, PartialEq)]
pub enum Mood {
    /// Promises, as a member should.
    Promise,
    /// Promises with somebody else's signature.
    Forge,
    /// Answers this problem to each transaction.
    Refuse(Slug),
    /// Answers this problem to each anchor of several segments, and takes every other transaction.
    RefuseShared(Slug),
    /// Answers this problem to whoever submits; blocks are served.
    Down(Slug),
    /// Answers this problem to everything.
    Away(Slug),
}

/// A node whose blocks and mood the test changes at will.
#[derive(Debug)]
pub struct Node {
    /// Its name: `node-<seed>`.
    pub name: String,
    server: MockServer,
    shown: Shown,
}

/// What a node answers from.
#[derive(Debug)]
struct Face {
    name: String,
    seed: u8,
    clock: Clock,
    chain: Chain,
    /// What is shown instead of the chain's own blocks.
    instead: Option<Vec<BlockView>>,
    /// True if each submission is final at once.
    decides: bool,
    mood: Mood,
    received: Vec<String>,
}

type Shown = Arc<Mutex<Face>>;

struct Answers(Shown);

#[expect(clippy::unwrap_used, reason = "a test that panicked while it held the lock has failed already")]
fn lock(shown: &Shown) -> MutexGuard<'_, Face> {
    shown.lock().unwrap()
}

impl Node {
    /// The member of this seed in the chain that `genesis` founds: it shows no block until it is given some.
    pub async fn start(seed: u8, genesis: Genesis, clock: Clock) -> Self {
        Self::serving(seed, genesis, clock, false).await
    }

    /// The first member of a chain in which everything submitted is final at once, in a block that just enough members
    /// certify.
    pub async fn deciding(genesis: Genesis, clock: Clock) -> Self {
        Self::serving(1, genesis, clock, true).await
    }

    async fn serving(seed: u8, genesis: Genesis, clock: Clock, decides: bool) -> Self {
        let name = format!("node-{seed}");
        let face = Face {
            name: name.clone(),
            seed,
            clock,
            chain: Chain::of(genesis),
            instead: None,
            decides,
            mood: Mood::Promise,
            received: Vec::new(),
        };
        let (server, shown) = (MockServer::start().await, Arc::new(Mutex::new(face)));
        let answers = Answers(Arc::clone(&shown));
        Mock::given(wiremock::matchers::any()).respond_with(answers).mount(&server).await;
        Self { name, server, shown }
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.uri()
    }

    /// From now on it shows these blocks, whatever they are.
    pub fn serve(&self, blocks: &[BlockView]) {
        lock(&self.shown).instead = Some(blocks.to_vec());
    }

    /// From now on it behaves like this.
    pub fn feel(&self, mood: Mood) {
        lock(&self.shown).mood = mood;
    }

    /// Every transaction it took, in order, with each repetition.
    #[must_use]
    pub fn received(&self) -> Vec<String> {
        lock(&self.shown).received.clone()
    }
}

/// The four members of the chain that `genesis` founds.
pub async fn four(genesis: &Genesis, clock: &Clock) -> Vec<Node> {
    let mut nodes = Vec::new();
    for seed in 1..=4 {
        nodes.push(Node::start(seed, genesis.clone(), clock.clone()).await);
    }
    nodes
}

/// Base URLs of nodes.
#[must_use]
pub fn urls(nodes: &[Node]) -> Vec<String> {
    nodes.iter().map(Node::url).collect()
}

/// A problem as every service sends it.
#[must_use]
pub fn problem(slug: Slug) -> ProblemDocument {
    let rival = || Digest::of(b"rival").to_string();
    ProblemDocument {
        kind: format!("{TYPE_PREFIX}{}", slug.as_str()),
        title: slug.title().to_owned(),
        status: slug.status(),
        detail: None,
        instance: None,
        errors: Vec::new(),
        references: if slug == Slug::Excluded { vec![rival()] } else { Vec::new() },
    }
}

/// The answer that is a problem.
#[must_use]
pub fn refusal(slug: Slug) -> ResponseTemplate {
    ResponseTemplate::new(slug.status()).set_body_json(problem(slug))
}

fn json<T: Serialize>(status: u16, body: &T) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(body)
}

impl Respond for Answers {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut face = lock(&self.0);
        if let Mood::Away(slug) = face.mood {
            return refusal(slug);
        }
        match request.url.path() {
            "/v1/checkpoint" => match face.blocks().last() {
                Some(block) => ResponseTemplate::new(200).set_body_string(block.certificate.clone()),
                None => refusal(Slug::NotFound),
            },
            "/v1/blocks" => face.page(request),
            "/v1/status" => json(200, &face.status()),
            "/v1/transactions/batch" => face.submit(request),
            path => face.proof(path),
        }
    }
}

#[expect(clippy::unwrap_used, reason = "a request that no client of ours sends fails the test")]
impl Face {
    fn blocks(&self) -> &[BlockView] {
        self.instead.as_deref().unwrap_or(&self.chain.blocks)
    }

    fn page(&self, request: &Request) -> ResponseTemplate {
        let from = request.url.query_pairs().find(|(name, _)| name == "from").unwrap().1.parse().unwrap();
        let all = self.blocks();
        let blocks = all.iter().filter(|block| block.height >= from).take(PAGE).cloned().collect();
        json(200, &BlocksView { blocks, tip: all.last().map_or(0, |block| block.height) })
    }

    fn submit(&mut self, request: &Request) -> ResponseTemplate {
        if let Mood::Down(slug) = self.mood {
            return refusal(slug);
        }
        let SubmitBatch { transactions } = serde_json::from_slice(&request.body).unwrap();
        let answer = |jws: &String| match self.refused(jws) {
            Some(slug) => BatchResult::Problem(problem(slug)),
            None if self.mood == Mood::Forge => BatchResult::Promise(self.promise(jws, STRANGER)),
            None => BatchResult::Promise(self.promise(jws, self.seed)),
        };
        let results = transactions.iter().map(answer).collect();
        if self.decides {
            // What is refused is in no block.
            let taken = transactions.iter().filter(|jws| self.refused(jws).is_none()).cloned();
            let taken: Vec<String> = taken.collect();
            self.decide(&taken);
        }
        self.received.extend(transactions);
        json(202, &BatchAnswer { results })
    }

    /// The problem with a transaction, in this mood.
    fn refused(&self, jws: &str) -> Option<Slug> {
        let shared = || match Tx::parse(jws.as_bytes()).unwrap().payload() {
            Payload::Anchor(anchor) => anchor.segments.len() > 1,
            _ => false,
        };
        match self.mood {
            Mood::Refuse(slug) => Some(slug),
            Mood::RefuseShared(slug) => shared().then_some(slug),
            Mood::Promise | Mood::Forge | Mood::Down(_) | Mood::Away(_) => None,
        }
    }

    /// Makes what is new final.
    fn decide(&mut self, transactions: &[String]) {
        let new = |jws: &&String| !self.chain.has(&tx::txid(jws.as_bytes()));
        let fresh: Vec<String> = transactions.iter().filter(new).cloned().collect();
        if !fresh.is_empty() {
            let members = self.chain.members.last().unwrap();
            let enough = members.iter().take(members.len() * 2 / 3 + 1).map(|(seed, _)| *seed);
            let signers: Vec<u8> = enough.collect();
            self.chain.append_by(&fresh, &signers);
        }
    }

    fn promise(&self, jws: &str, signer: u8) -> Promise {
        let now = self.clock.now();
        let include_by = now.plus(Duration::from_secs(5));
        let claims = PromiseClaims {
            chain: self.chain.id,
            iat: now.unsigned_ms(),
            include_by: include_by.unsigned_ms(),
            node: self.name.clone(),
            txid: tx::txid(jws.as_bytes()),
        };
        let signature = claims.sign(&key(signer)).unwrap();
        Promise { txid: claims.txid, node: claims.node, include_by, quorum: true, signature, height: None }
    }

    fn proof(&self, path: &str) -> ResponseTemplate {
        let txid = path.strip_prefix("/v1/transactions/").and_then(|rest| rest.strip_suffix("/proof"));
        let proof = txid.and_then(|txid| self.chain.prove_transaction(&Digest::parse(txid).unwrap()));
        let Some(proof) = proof else { return refusal(Slug::NotFound) };
        ResponseTemplate::new(200).set_body_bytes(Document::Transaction(proof).to_bytes().unwrap())
    }

    fn status(&self) -> NodeStatus {
        let attacked = matches!(self.mood, Mood::Down(Slug::NodeAttacked));
        NodeStatus {
            node: self.name.clone(),
            chain: self.chain.id,
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
        }
    }
}

/// A final block with these transactions, for a test that applies it by hand where a follower would: nobody certified it.
#[must_use]
#[expect(clippy::unwrap_used, reason = "a founding document of a test keeps the rules")]
pub fn final_block(genesis: &Genesis, height: u64, transactions: &[Tx]) -> (FinalBlock, FollowPosition) {
    let mut header = genesis.header().unwrap();
    header.height = height;
    let hash = header.hash();
    let transactions = transactions.iter().zip(0_u32..).map(|(tx, index)| FinalTransaction {
        txid: tx.txid(),
        index,
        log_index: u64::from(index),
        jws: tx.text().to_owned(),
        tx: Some(tx.clone()),
    });
    let block = FinalBlock { hash, header, certificate: String::new(), transactions: transactions.collect() };
    (block, FollowPosition { height, block_hash: hash, state: "{}".to_owned() })
}
