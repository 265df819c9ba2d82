//! A ledger for tests: one HTTP node in front of a chain that four members certify, each transaction final at once.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use hbc_chain::certificate::PromiseClaims;
use hbc_chain::checkpoint::{Certificate, Checkpoint};
use hbc_chain::genesis::{Genesis, log_origin};
use hbc_chain::header::{Header, miner_id};
use hbc_chain::merkle::{self, Tree};
use hbc_chain::proof::{BlockEvidence, Certification, Document, MembersProof, TransactionProof};
use hbc_chain::tx::{self, Tx};
use hbc_types::keys::PublicKey;
use hbc_types::secret::Bytes;
use hbc_types::wire::ledger::{BatchAnswer, BatchResult, BlockView, BlocksView, Promise, SubmitBatch};
use hbc_types::{Clock, Digest};
use serde::Serialize;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

/// Seeds of the members' keys, in the order of their names.
pub const MEMBERS: [u8; 4] = [101, 102, 103, 104];

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

struct Chain {
    genesis: Genesis,
    clock: Clock,
    headers: Vec<Header>,
    leaves: Vec<Digest>,
    blocks: Vec<BlockView>,
}

struct Node(Arc<Mutex<Chain>>);

/// Starts a node of the chain that `genesis` founds.
pub async fn start(genesis: Genesis, clock: Clock) -> MockServer {
    let headers = vec![genesis.header().unwrap()];
    let chain = Chain { genesis, clock, headers, leaves: Vec::new(), blocks: Vec::new() };
    let server = MockServer::start().await;
    let node = Node(Arc::new(Mutex::new(chain)));
    Mock::given(wiremock::matchers::any()).respond_with(node).mount(&server).await;
    server
}

fn json<T: Serialize>(body: &T) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(body)
}

impl Respond for Node {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut chain = self.0.lock().unwrap();
        let path = request.url.path();
        if path == "/v1/transactions/batch" {
            let batch: SubmitBatch = serde_json::from_slice(&request.body).unwrap();
            let results = batch.transactions.iter().map(|jws| chain.promise(jws)).collect();
            chain.append(&batch.transactions);
            return json(&BatchAnswer { results });
        }
        if path == "/v1/blocks" {
            let from =
                request.url.query_pairs().find(|(name, _)| name == "from").unwrap().1.parse::<u64>().unwrap();
            let blocks = chain.blocks.iter().filter(|block| block.height >= from).take(100).cloned();
            return json(&BlocksView { blocks: blocks.collect(), tip: chain.blocks.len() as u64 });
        }
        let proof = path.strip_prefix("/v1/transactions/").and_then(|rest| rest.strip_suffix("/proof"));
        match (path, chain.blocks.last(), proof) {
            ("/v1/checkpoint", Some(block), _) => {
                ResponseTemplate::new(200).set_body_string(block.certificate.clone())
            }
            (_, _, Some(txid)) => chain.proof(Digest::parse(txid).unwrap()),
            _ => ResponseTemplate::new(404),
        }
    }
}

impl Chain {
    fn promise(&self, jws: &str) -> BatchResult {
        let include_by = self.clock.now().plus(Duration::from_secs(5));
        let claims = PromiseClaims {
            chain: self.genesis.chain_id().unwrap(),
            iat: self.clock.now().unsigned_ms(),
            include_by: include_by.unsigned_ms(),
            node: "node-1".to_owned(),
            txid: tx::txid(jws.as_bytes()),
        };
        BatchResult::Promise(Promise {
            txid: claims.txid,
            node: claims.node.clone(),
            include_by,
            quorum: true,
            signature: claims.sign(&key(MEMBERS[0])).unwrap(),
            height: None,
        })
    }

    fn append(&mut self, transactions: &[String]) {
        let fresh: Vec<String> = transactions
            .iter()
            .filter(|jws| !self.leaves.contains(&tx::txid(jws.as_bytes())))
            .cloned()
            .collect();
        if fresh.is_empty() {
            return;
        }
        let parent = *self.headers.last().unwrap();
        let ids: Vec<Digest> = fresh.iter().map(|jws| tx::txid(jws.as_bytes())).collect();
        self.leaves.push(parent.leaf_hash());
        self.leaves.extend(&ids);
        let header = Header {
            height: parent.height + 1,
            prev_hash: parent.hash(),
            tx_root: merkle::root(&ids),
            log_root: merkle::root(&self.leaves),
            log_size: self.leaves.len() as u64,
            state_root: parent.state_root,
            time_ms: parent.time_ms + 1000,
            target: parent.target,
            miner: miner_id(&PublicKey::of(&key(MEMBERS[0])).kid()),
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
        // Three of four are more than two thirds.
        let votes: Vec<_> = MEMBERS[..3]
            .iter()
            .map(|seed| (PublicKey::of(&key(*seed)).kid(), checkpoint.sign(&key(*seed))))
            .collect();
        let certificate = Certificate::assemble(checkpoint, &votes, &self.genesis.members).to_note();
        self.headers.push(header);
        self.blocks.push(BlockView {
            height: header.height,
            hash: header.hash(),
            header: Bytes::new(header.to_bytes().to_vec()),
            transactions: fresh,
            certificate,
        });
    }

    fn proof(&self, txid: Digest) -> ResponseTemplate {
        let of = |block: &&BlockView| block.transactions.iter().any(|jws| tx::txid(jws.as_bytes()) == txid);
        let Some(block) = self.blocks.iter().find(of) else { return ResponseTemplate::new(404) };
        let jws = block.transactions.iter().find(|jws| tx::txid(jws.as_bytes()) == txid).unwrap();
        let height = usize::try_from(block.height).unwrap();
        let (header, parent) = (self.headers[height], self.headers[height - 1]);
        let size = header.log_size;
        let tree = Tree::of(&self.leaves[..usize::try_from(size).unwrap()]);
        let index = self.leaves.iter().position(|leaf| *leaf == txid).unwrap() as u64;
        let kid = Tx::parse(jws.as_bytes()).unwrap().kid();
        let author = self.genesis.services.iter().find(|service| service.key.kid() == kid).unwrap().key;
        let document = Document::Transaction(TransactionProof {
            author,
            block: BlockEvidence { header, parent, path: Vec::new() },
            certified: Certification {
                before: parent,
                checkpoint: block.certificate.clone(),
                header,
                // No block of this chain changes the state.
                named: MembersProof::of_genesis(&self.genesis).unwrap(),
            },
            chain: self.genesis.chain_id().unwrap(),
            genesis: None,
            index,
            path: tree.inclusion(index, size).unwrap(),
            sets: Vec::new(),
            transaction: jws.clone(),
        });
        ResponseTemplate::new(200).set_body_bytes(document.to_bytes().unwrap())
    }
}
