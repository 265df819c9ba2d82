//! A chain to prove from, the same in every process: five blocks with a change of members and more anchors than a page has,
//! documents of every kind about it, and what is true of it.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};

use hbc_chain::certificate::{ConsentCertificate, Limits};
use hbc_chain::consent::ConsentBody;
use hbc_chain::entry::{Kind, grant_id};
use hbc_chain::header::Block;
use hbc_chain::json;
use hbc_chain::memory::{CertifiedHeader, Chain, EntryName};
use hbc_chain::merkle::{self, Tree};
use hbc_chain::payload::{
    Anchor, Consent, ConsentKey, KeyStatus, MemberVote, Payload, Receipts, Revoke, Segment,
};
use hbc_chain::proof::{
    ConsentProof, Content, Document, Opening, ReceiptProof, RecordFacts, RecordProof, StateFacts,
    TransactionProof, Verdict, Verified,
};
use hbc_chain::rtree::{AnchorLeaf, Query};
use hbc_chain::state::State;
use hbc_chain::testing::named::{public, secret};
use hbc_chain::testing::{certify, receipt_body};
use hbc_chain::tx::{self, Tx};
use hbc_types::account::Custody;
use hbc_types::ids::{AgencyId, GrantId, PatientId, RecordId};
use hbc_types::keys::{SaltBytes, SignatureBytes, Tag, possession_text};
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::purpose::{Action, Purpose};
use hbc_types::wire::access::{ReceiptBody, Scope};
use hbc_types::{Digest, Timestamp, hash};

use super::fixture::{MEMBERS, genesis};

const SALT: [u8; 32] = [7; 32];
/// Anchors of each of the last two blocks.
const ANCHORS: i32 = 2_100;

pub struct Ledger {
    /// The chain as it was after each block, block 0 first.
    pub chains: Vec<Chain>,
    blocks: Vec<Block>,
}

/// The one ledger.
pub fn ledger() -> &'static Ledger {
    static LEDGER: LazyLock<Ledger> = LazyLock::new(Ledger::make);
    &LEDGER
}

/// The receipts of a batch, from 0 on.
fn receipt(place: u64) -> ReceiptBody {
    receipt_body(place + 1)
}

fn receipts() -> Tree {
    let commitment = |number| hash::receipt(&SALT, &json::encode(&receipt(number)).unwrap());
    Tree::of(&(0..3).map(|number| merkle::leaf_hash(commitment(number).as_bytes())).collect::<Vec<_>>())
}

fn record(number: u8) -> RecordFacts {
    RecordFacts {
        id: RecordId::parse(&format!("rec-{number:032x}")).unwrap(),
        length: 100,
        offset: 100 * u64::from(number),
        received: Digest::of(&[number]),
        salt: SaltBytes::from_bytes(SALT),
        encrypted: Digest::of(&[number, number]),
        version: 1,
    }
}

fn records() -> Tree {
    Tree::of(
        &(0..3).map(|number| merkle::leaf_hash(record(number).commitment().as_bytes())).collect::<Vec<_>>(),
    )
}

fn grant() -> GrantId {
    GrantId::parse(&format!("grt-{:032x}", 1)).unwrap()
}

fn consent_body() -> ConsentBody {
    let scope = Scope {
        actions: vec![Action::Read],
        categories: vec![Category::Laboratory],
        sensitivities: vec![Sensitivity::Normal],
        purposes: vec![Purpose::Treatment],
        from: Timestamp::from_ms(1_800_000_000_000),
        until: Timestamp::from_ms(1_900_000_000_000),
        future_records: true,
    };
    let (grantee, patient) = (format!("agy-{:032x}", 1), format!("pat-{:032x}", 1));
    let (grantee, patient) = (AgencyId::parse(&grantee).unwrap(), PatientId::parse(&patient).unwrap());
    ConsentBody { grant: grant(), grantee, patient, scope }
}

fn anchor(chain: Digest, iat: u64, days: (i32, i32), root: Digest, records: u32) -> Payload {
    let segment = Segment {
        bytes: 1024,
        cid: "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy".to_owned(),
        digest: root,
        records,
        root,
        tag: Tag::from_bytes([1; 16]),
    };
    Payload::Anchor(Anchor { chain, day0: days.0, day1: days.1, iat, segments: vec![segment] })
}

/// What each block says, by whom.
fn story(chain: Digest) -> Vec<Vec<(&'static str, Payload)>> {
    let (iat, key) = (1_800_000_000_010, public("patient").kid());
    let pop = SignatureBytes::sign(&secret("patient"), &possession_text(&chain, &key));
    let (pop, public_key, status) = (Some(pop), Some(public("patient")), KeyStatus::Active);
    let registration = ConsentKey { chain, iat, key, pop, public: public_key, status };
    let commitment = hash::consent_body(&SALT, &json::encode(&consent_body()).unwrap());
    let (custody, prev, seq) = (Custody::Client, None, 1);
    let consent = Consent { chain, commitment, custody, grant: grant(), iat, key, prev, seq };
    let batch = Receipts { chain, count: 3, iat, rights: None, root: receipts().root() };
    let vote = |member: &'static str| {
        let (subject, value) = ("member:m4".to_owned(), public("successor").to_string());
        (member, Payload::MemberVote(MemberVote { chain, iat, nonce: 0, subject, value }))
    };
    let many = |block: i32| {
        let days = move |number: i32| (20_000 + number * 7_919 % 900, 20_003 + number * 7_919 % 900);
        let root = move |number: i32| Digest::of(&(block * ANCHORS + number).to_be_bytes());
        (0..ANCHORS)
            .map(move |number| ("storage", anchor(chain, iat, days(number), root(number), 1)))
            .collect()
    };
    vec![
        vec![
            ("auth", Payload::ConsentKey(registration)),
            ("patient", Payload::Grant(consent)),
            ("access-policy", Payload::Receipts(batch)),
            ("storage", anchor(chain, iat, (20_000, 20_031), records().root(), 3)),
        ],
        vec![vote("m1"), vote("m2"), vote("m3")],
        vec![("patient", Payload::Revoke(Revoke { chain, grant: grant(), iat, key }))],
        many(1),
        many(2),
    ]
}

impl Ledger {
    fn make() -> Self {
        let genesis = genesis();
        let mut chain = Chain::found(genesis.clone()).unwrap();
        let mut blocks = vec![Block { header: *chain.tip(), transactions: vec![] }];
        let mut notes = vec![String::new()];
        for said in story(chain.id()) {
            let txs: Vec<Arc<Tx>> = said
                .iter()
                .map(|(signer, payload)| tx::sign(&secret(signer), payload).unwrap())
                .map(|jws| Arc::new(Tx::parse(jws.as_bytes()).unwrap()))
                .collect();
            let now = Timestamp::from_ms((chain.tip().time_ms + 1_000).cast_signed());
            let draft = chain.draft(&txs, now, &public("m1").kid());
            let next = draft.mine(&AtomicBool::new(false)).unwrap();
            assert_eq!(next.block.transactions.len(), txs.len(), "all fit");
            let signers: Vec<_> = MEMBERS.iter().chain(&["successor"]).map(|name| secret(name)).collect();
            let note = certify(chain.origin(), &next.block.header, &signers, chain.state().members());
            blocks.push(next.block.clone());
            notes.push(note.clone());
            assert!(chain.extend(next, note));
        }
        let chains = (0..blocks.len()).map(|height| {
            let mut chain = Chain::found(genesis.clone()).unwrap();
            for (block, note) in blocks.iter().zip(&notes).take(height + 1).skip(1) {
                chain.replay(block, note.clone()).unwrap();
            }
            chain
        });
        Self { chains: chains.collect(), blocks }
    }

    fn tip(&self) -> &Chain {
        self.chains.last().unwrap()
    }

    fn certified(&self, height: usize) -> CertifiedHeader {
        let note = self.chains[height].certificate().to_owned();
        CertifiedHeader { header: self.blocks[height].header, note }
    }

    /// The proof of a transaction under the checkpoint of a height.
    fn prove(&self, under: usize, height: usize, place: usize) -> TransactionProof {
        let jws = self.blocks[height].transactions[place].clone();
        let at = self.chains[under].state().place(&tx::txid(&jws)).unwrap();
        let (header, parent) = (self.blocks[height].header, self.blocks[height - 1].header);
        self.chains[under].prove(&at, String::from_utf8(jws).unwrap(), header, parent).unwrap()
    }

    fn state(&self, height: usize, entries: &[EntryName]) -> Document {
        Document::State(self.chains[height].prove_present_state(entries).unwrap())
    }

    fn anchors(&self, query: Query) -> Document {
        let view = self.chains[usize::try_from(query.as_of).unwrap().max(1)].anchors_view().unwrap();
        Document::Anchors(view.prove(query, usize::MAX).unwrap())
    }

    fn consent(&self) -> ConsentProof {
        let certificate = ConsentCertificate {
            chain: self.tip().id(),
            grantee: format!("agy-{:032x}", 1),
            iat: 1,
            key: public("patient").kid(),
            limits: Limits { actions: Some(vec![Action::Read]), ..Limits::default() },
            root: public("root").kid(),
        };
        ConsentProof {
            anchor: self.prove(5, 1, 1),
            certificate: certificate.sign(&secret("root")).unwrap(),
            consent: Opening {
                body: serde_json::to_value(consent_body()).unwrap(),
                salt: SaltBytes::from_bytes(SALT),
            },
            root: public("root"),
        }
    }

    /// A document of each kind, and more of those that say different things.
    pub fn documents(&self) -> Vec<(&'static str, Document)> {
        let key = public("patient").kid();
        let of_grant = [(Kind::Grant, grant_id(&key, &grant())), (Kind::Key, key.to_string())];
        let receipt = ReceiptProof {
            anchor: self.prove(5, 1, 2),
            index: 1,
            path: receipts().inclusion(1, 3).unwrap(),
            receipt: Opening {
                body: serde_json::to_value(receipt(1)).unwrap(),
                salt: SaltBytes::from_bytes(SALT),
            },
        };
        let path = records().inclusion(2, 3).unwrap();
        let record =
            RecordProof { anchor: self.prove(3, 1, 3), index: 2, path, record: record(2), segment: 0 };
        let consistency = |from, to| {
            Document::Consistency(
                self.tip().prove_consistency(self.certified(from), self.certified(to)).unwrap(),
            )
        };
        vec![
            ("transaction", Document::Transaction(self.prove(5, 2, 1))),
            ("receipt", Document::Receipt(receipt)),
            ("record", Document::Record(record)),
            ("consent", Document::Consent(self.consent())),
            ("grown", consistency(1, 4)),
            ("grown-to-the-tip", consistency(3, 5)),
            ("in-force", self.state(2, &of_grant)),
            ("not-in-force", self.state(3, &of_grant)),
            ("absent", self.state(5, &[(Kind::Staff, key.to_string())])),
            ("members", self.state(4, &[(Kind::Members, String::new())])),
            ("changes", self.state(2, &[(Kind::Changes, "member:m4".to_owned())])),
            ("anchors", self.anchors(Query { from: 20_100, to: 20_101, as_of: 5 })),
            ("anchors-before", self.anchors(Query { from: 20_000, to: 20_900, as_of: 1 })),
        ]
    }

    /// That a document says what is so.
    pub fn check(&self, verified: &Verified) {
        let block = |height: u64| &self.blocks[usize::try_from(height).unwrap()];
        let jws = verified.transaction.as_ref().map(|transaction| {
            let all = &block(transaction.height).transactions;
            assert_eq!(block(transaction.height).header.hash(), transaction.block);
            all.iter().find(|jws| tx::txid(jws) == transaction.txid).expect("the block has the transaction")
        });
        let payload = jws.map(|jws| Tx::parse(jws).unwrap().payload().clone());
        match &verified.content {
            Content::Transaction => assert!(payload.is_some()),
            Content::Receipt(body) => assert!((0..3).any(|place| receipt(place) == **body)),
            Content::Record(facts) => assert!((0..3).any(|number| record(number) == *facts)),
            Content::Consent { body, root, .. } => {
                assert_eq!((&**body, *root), (&consent_body(), public("root").kid()));
            }
            Content::Consistency { from, to } => {
                assert_eq!([from, to].map(|one| block(one.height).header.hash()), [from.block, to.block]);
                assert!(from.height <= to.height);
            }
            Content::State(facts) => {
                assert_eq!(block(facts.at.certified.height).header.hash(), facts.at.certified.block);
                let chain = &self.chains[usize::try_from(facts.at.certified.height).unwrap()];
                assert_eq!(facts.verdict, verdict(chain.state(), facts), "{} {}", facts.kind, facts.id);
            }
            Content::Anchors(facts) => {
                assert_eq!(block(facts.at.certified.height).header.hash(), facts.at.certified.block);
                assert_eq!(facts.anchors, self.scan(&facts.query));
            }
        }
    }

    /// The anchors that answer a question, by looking at every transaction.
    fn scan(&self, query: &Query) -> Vec<AnchorLeaf> {
        let mut found = Vec::new();
        for block in &self.blocks {
            for jws in &block.transactions {
                if let Payload::Anchor(anchor) = Tx::read_final(jws).unwrap().payload() {
                    let (day0, day1, height) = (anchor.day0, anchor.day1, block.header.height);
                    if day0 <= query.to && day1 >= query.from && height <= query.as_of {
                        found.push(AnchorLeaf { day0, day1, height, txid: tx::txid(jws) });
                    }
                }
            }
        }
        found.sort_unstable();
        found
    }
}

/// What a state says, looked up without a proof.
fn verdict(state: &State, facts: &StateFacts) -> Verdict {
    if facts.kind == Kind::Grant {
        let (kid, grant) = facts.id.split_once('/').unwrap();
        let (kid, grant) = (Digest::parse(kid).unwrap(), GrantId::parse(grant).unwrap());
        return match (&facts.verdict, state.in_force(&kid, &grant)) {
            (_, true) => Verdict::InForce,
            (Verdict::NotInForce(why), false) => Verdict::NotInForce(why),
            (_, false) => Verdict::NotInForce("not so"),
        };
    }
    let value = state.prove(facts.kind, &facts.id).value;
    value.map_or(Verdict::Absent, |bytes| Verdict::Entry(serde_json::from_slice(&bytes).unwrap()))
}
