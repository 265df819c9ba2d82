//! A small chain, the same in every process: four members, one transaction of nearly every type, six blocks, of which
//! the chain in memory knows the first ones.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};

use ed25519_dalek::SigningKey;
use hbc_chain::checkpoint::BlockId;
use hbc_chain::genesis::{Genesis, Parameters};
use hbc_chain::header::{Block, Header};
use hbc_chain::memory::Chain;
use hbc_chain::merkle;
use hbc_chain::payload::{
    Anchor, Consent, ConsentKey, Erase, KeyStatus, MemberVote, NodeEvent, Payload, Receipts, Release, Revoke,
    Segment,
};
use hbc_chain::proof::TransactionProof;
use hbc_chain::testing::named::{public, secret};
use hbc_chain::testing::{certify, named};
use hbc_chain::tx::{self, Tx};
use hbc_types::account::Custody;
use hbc_types::ids::GrantId;
use hbc_types::keys::{PublicKey, SignatureBytes, Tag, possession_text};
use hbc_types::wire::ledger::BlockView;
use hbc_types::{Digest, Timestamp};

/// When the chain begins.
const START_MS: u64 = 1_800_000_000_000;
/// Blocks that the chain in memory has; the rest is what a peer may send.
pub const KNOWN_HEIGHT: usize = 4;

/// The members' and everybody's names; a name is a key.
pub const MEMBERS: [&str; 4] = ["m1", "m2", "m3", "m4"];
const OTHERS: [&str; 6] = ["access-policy", "auth", "operator", "patient", "storage", "successor"];

/// The secret of a key in [`Fixture::keys`].
pub fn secret_of(key: &PublicKey) -> SigningKey {
    let names = MEMBERS.iter().chain(&OTHERS);
    names.map(|name| secret(name)).find(|secret| PublicKey::of(secret) == *key).unwrap()
}

/// The chain and what is around it.
pub struct Fixture {
    pub genesis: Genesis,
    /// At [`KNOWN_HEIGHT`].
    pub chain: Chain,
    /// All blocks, block 0 first.
    pub blocks: Vec<BlockView>,
    /// Keys of everybody.
    pub keys: Vec<PublicKey>,
    /// Proofs of each block's transactions.
    proofs: Vec<Vec<TransactionProof>>,
}

/// The one fixture.
pub fn fixture() -> &'static Fixture {
    static FIXTURE: LazyLock<Fixture> = LazyLock::new(Fixture::make);
    &FIXTURE
}

pub fn genesis() -> Genesis {
    Genesis {
        origin: "hbc.fuzz".to_owned(),
        parameters: Parameters::with_zero_bits(4, 1).unwrap(),
        ..named::genesis(&MEMBERS, &["operator"])
    }
}

/// What each block says, by whom.
fn story(chain: Digest) -> Vec<Vec<(&'static str, Payload)>> {
    let iat = START_MS + 10;
    let key = public("patient").kid();
    let grant = GrantId::parse("grt-00000000000000000000000000000001").unwrap();
    let registration = Payload::ConsentKey(ConsentKey {
        chain,
        iat,
        key,
        pop: Some(SignatureBytes::sign(&secret("patient"), &possession_text(&chain, &key))),
        public: Some(public("patient")),
        status: KeyStatus::Active,
    });
    let root = Digest::of(b"records");
    let segment = Segment {
        bytes: 1024,
        cid: "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy".to_owned(),
        day0: 20_000,
        day1: 20_001,
        digest: root,
        records: 1,
        root,
        tag: Tag::from_bytes([1; 16]),
    };
    let anchor = Anchor { chain, iat, segments: vec![segment] };
    let consent = Consent {
        chain,
        commitment: Digest::of(b"consent"),
        custody: Custody::Client,
        grant: grant.clone(),
        iat,
        key,
        prev: None,
        seq: 1,
    };
    let granted = Payload::Grant(consent.clone());
    let first = tx::txid(tx::sign(&secret("patient"), &granted).unwrap().as_bytes());
    let altered = Consent { prev: Some(first), seq: 2, ..consent };
    let receipts = Receipts { chain, count: 1, iat, rights: None, root: Digest::of(b"receipts") };
    let release = Release { chain, digest: Digest::of(b"release"), iat, period: "2027-01".to_owned() };
    let erase = Erase { chain, commitment: Digest::of(b"erase"), iat, records: vec![], roots: vec![root] };
    let event = NodeEvent {
        chain,
        event: "attacked".to_owned(),
        evidence: Digest::of(b"evidence"),
        height: 1,
        iat,
        node: "m1".to_owned(),
    };
    let vote = |value: &str| {
        let subject = "parameter:heartbeat_ms".to_owned();
        Payload::MemberVote(MemberVote { chain, iat, nonce: 0, subject, value: value.to_owned() })
    };
    vec![
        vec![("auth", registration), ("storage", Payload::Anchor(anchor))],
        vec![("patient", granted), ("access-policy", Payload::Receipts(receipts))],
        vec![("patient", Payload::Alter(altered)), ("storage", Payload::Release(release))],
        vec![("m1", vote("60000")), ("m2", vote("60000")), ("m3", vote("60000"))],
        vec![
            ("patient", Payload::Revoke(Revoke { chain, grant, iat, key })),
            ("m1", Payload::NodeEvent(event)),
        ],
        vec![("access-policy", Payload::Erase(erase))],
    ]
}

impl Fixture {
    fn make() -> Self {
        let genesis = genesis();
        let mut chain = Chain::found(genesis.clone()).unwrap();
        let keys = MEMBERS.iter().chain(&OTHERS).map(|name| public(name)).collect();
        let zero = genesis.header().unwrap();
        let mut blocks = vec![view(&Block { header: zero, transactions: vec![] }, String::new())];
        let mut proofs = vec![vec![]];
        for said in story(chain.id()) {
            let txs: Vec<Arc<Tx>> = said
                .iter()
                .map(|(signer, payload)| tx::sign(&secret(signer), payload).unwrap())
                .map(|jws| Arc::new(Tx::parse(jws.as_bytes()).unwrap()))
                .collect();
            let now = Timestamp::from_ms((chain.tip().time_ms + 1_000).cast_signed());
            let next =
                chain.draft(&txs, now, &genesis.members[0].kid()).mine(&AtomicBool::new(false)).unwrap();
            assert_eq!(next.block.transactions.len(), txs.len(), "all fit");
            let signers: Vec<_> = MEMBERS[1..].iter().map(|name| secret(name)).collect();
            let note = certify(chain.origin(), &next.block.header, &signers, &genesis.members);
            let parent = *chain.tip();
            let (block, header) = (next.block.clone(), next.block.header);
            assert!(chain.extend(next, note.clone()));
            blocks.push(view(&block, note.clone()));
            proofs.push(
                block
                    .transactions
                    .iter()
                    .map(|jws| {
                        let place = chain.state().place(&tx::txid(jws)).unwrap();
                        let jws = String::from_utf8(jws.clone()).unwrap();
                        chain.prove(&place, jws, header, parent).unwrap()
                    })
                    .collect(),
            );
        }
        let mut known = Chain::found(genesis.clone()).unwrap();
        for view in &blocks[1..=KNOWN_HEIGHT] {
            known.replay(&block_of(view), view.certificate.clone()).unwrap();
        }
        Self { genesis, chain: known, blocks, keys, proofs }
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_ms((self.chain.tip().time_ms + 1_000).cast_signed())
    }

    pub fn prove(&self, height: u64, place: usize) -> TransactionProof {
        self.proofs[height as usize][place].clone()
    }

    /// Makes a block follow on the tip, its roots fit its transactions, and finds its work.
    pub fn make_fit(&self, block: &mut Block) {
        let (tip, header) = (self.chain.tip(), &mut block.header);
        header.height = tip.height + 1;
        header.prev_hash = tip.hash();
        header.target = tip.target;
        header.time_ms = header.time_ms.max(tip.time_ms + 1);
        header.miner = hbc_chain::header::miner_id(&self.genesis.members[0].kid());
        header.nonce = 0;
        let txids: Vec<Digest> = block.transactions.iter().map(|jws| tx::txid(jws)).collect();
        let mut log = self.chain.log().frontier().clone();
        log.push(tip.leaf_hash());
        txids.iter().for_each(|txid| log.push(*txid));
        header.tx_root = merkle::root(&txids);
        (header.log_size, header.log_root) = (log.size(), log.root());
        block.header = block.header.mine(&AtomicBool::new(false)).unwrap();
        let _same = BlockId::of(&block.header);
    }
}

fn view(block: &Block, certificate: String) -> BlockView {
    BlockView {
        height: block.header.height,
        hash: block.header.hash(),
        header: block.header.to_bytes().as_slice().into(),
        transactions: block.transactions.iter().map(|jws| String::from_utf8(jws.clone()).unwrap()).collect(),
        certificate,
    }
}

pub fn block_of(view: &BlockView) -> Block {
    let transactions = view.transactions.iter().map(|jws| jws.clone().into_bytes()).collect();
    Block { header: Header::from_bytes(view.header.as_slice()).unwrap(), transactions }
}
