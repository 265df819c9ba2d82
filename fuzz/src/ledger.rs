//! A chain to prove from, the same in every process: five blocks with a change of members and more anchors than a page has,
//! documents of every kind about it, and what is true of it.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};

use hbc_chain::bodies::MemberBody;
use hbc_chain::certificate::{ConsentCertificate, DelegateCertificate, Limits};
use hbc_chain::consent::ConsentBody;
use hbc_chain::entry::{Kind, grant_id};
use hbc_chain::header::Block;
use hbc_chain::json;
use hbc_chain::memory::{CertifiedHeader, Chain, EntryName};
use hbc_chain::merkle::{self, Tree};
use hbc_chain::numbers::{HeldNumbers, NumbersClaims};
use hbc_chain::payload::{
    Affiliation, AffiliationStatus, Anchor, Consent, ConsentKey, KeyStatus, MemberVote, Payload, Receipts,
    Revoke, Segment, Staff, StaffStatus,
};
use hbc_chain::proof::{
    BundleProof, BundledProof, BundledTransaction, ConsentProof, Content, Delegation, Document,
    MembershipProof, NumbersProof, Opened, OpenedBody, Opening, OpeningProof, ReceiptProof, RecordFacts,
    RecordProof, StateFacts, StateProof, TransactionProof, Verdict, Verified,
};
use hbc_chain::rtree::{AnchorLeaf, Query};
use hbc_chain::state::State;
use hbc_chain::testing::named::{public, secret};
use hbc_chain::testing::{certify, receipt_body};
use hbc_chain::tx::{self, Tx};
use hbc_types::account::{AgencyType, Custody};
use hbc_types::ids::{AgencyId, GrantId, PatientId, RecordId};
use hbc_types::keys::{SaltBytes, SignatureBytes, Tag, possession_text};
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::purpose::{Action, Purpose};
use hbc_types::ranges::Ranges;
use hbc_types::wire::access::{Labels, NumberSet, ReceiptBody, Scope, StaffBody};
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
    ConsentBody::to_agency(grant(), grantee, patient, scope)
}

fn agency(number: u8) -> AgencyId {
    AgencyId::parse(&format!("agy-{number:032x}")).unwrap()
}

/// The profile of a person, or of the organisation that they act for.
fn staff_body(number: u8) -> StaffBody {
    StaffBody {
        agency: agency(number),
        agency_type: AgencyType::Doctor,
        licence_number: format!("L-{number}"),
        name: format!("Name {number}"),
    }
}

fn member_body() -> MemberBody {
    MemberBody { agency: agency(1), function: "surgeon".to_owned(), organisation: agency(2) }
}

fn opening(body: serde_json::Value) -> Opening {
    Opening { body, salt: SaltBytes::from_bytes(SALT) }
}

/// Profiles of both, and that the one acts for the other.
fn memberships(chain: Digest, iat: u64) -> Vec<(&'static str, Payload)> {
    let (nonce, committed) = (0, |body: &StaffBody| hash::staff(&SALT, &json::encode(body).unwrap()));
    let profile = |name: &str, number: u8| Staff {
        chain,
        commitment: committed(&staff_body(number)),
        iat,
        key: public(name).kid(),
        nonce,
        organisation: "Spital".to_owned(),
        public: public(name),
        role: "doctor".to_owned(),
        status: StaffStatus::Active,
    };
    let mut said = Vec::new();
    for (name, number) in [("person", 1), ("hospital", 2)] {
        said.extend(["auth", "operator"].map(|by| (by, Payload::Staff(profile(name, number)))));
    }
    let affiliation = Affiliation {
        chain,
        commitment: hash::member(&SALT, &json::encode(&member_body()).unwrap()),
        iat,
        key: public("person").kid(),
        nonce,
        organisation: public("hospital").kid(),
        status: AffiliationStatus::Active,
    };
    said.push(("hospital", Payload::Affiliation(affiliation)));
    said
}

/// One number is missing.
fn numbers(chain: Digest) -> (NumbersClaims, Vec<HeldNumbers>) {
    let labels = Labels { category: Category::Laboratory, sensitivity: Sensitivity::Normal };
    let set = NumberSet {
        labels,
        n_max: 5,
        open: Ranges::of([[5, 5]]),
        voided: Ranges::of([[2, 2]]),
        erased: Ranges::default(),
    };
    let patient = PatientId::parse(&format!("pat-{:032x}", 1)).unwrap();
    let claims = NumbersClaims { chain, iat: 1, patient, sets: vec![set] };
    (claims, vec![HeldNumbers { labels, numbers: Ranges::of([[1, 1], [3, 3]]) }])
}

fn anchor(chain: Digest, iat: u64, days: (i32, i32), root: Digest, records: u32) -> Payload {
    let segment = Segment {
        bytes: 1024,
        cid: "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy".to_owned(),
        day0: days.0,
        day1: days.1,
        digest: root,
        records,
        root,
        tag: Tag::from_bytes([1; 16]),
    };
    Payload::Anchor(Anchor { chain, iat, segments: vec![segment] })
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
    let mut first = vec![
        ("auth", Payload::ConsentKey(registration)),
        ("patient", Payload::Grant(consent)),
        ("access-policy", Payload::Receipts(batch)),
        ("storage", anchor(chain, iat, (20_000, 20_031), records().root(), 3)),
    ];
    first.extend(memberships(chain, iat));
    vec![
        first,
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
            delegate: None,
            root: public("root"),
        }
    }

    /// The same by somebody who acts in the patient's place.
    fn delegated_consent(&self) -> ConsentProof {
        let (chain, delegate, root) = (self.tip().id(), public("delegate").kid(), public("root").kid());
        let grantee = format!("agy-{:032x}", 1);
        let (key, limits) = (public("patient").kid(), Limits::default());
        let certificate =
            ConsentCertificate { chain, grantee, iat: 1, key, limits: limits.clone(), root: delegate };
        let delegation =
            DelegateCertificate { chain, delegate, iat: 1, limits, root, until_ms: 1_900_000_000_000 };
        ConsentProof {
            certificate: certificate.sign(&secret("delegate")).unwrap(),
            delegate: Some(Delegation {
                certificate: delegation.sign(&secret("root")).unwrap(),
                root: public("delegate"),
            }),
            ..self.consent()
        }
    }

    /// A receipt, a record and a membership under one certified block.
    fn bundle(&self, receipt: ReceiptProof, record: RecordProof) -> BundleProof {
        let under = self.prove(5, 1, 2);
        let anchors = [2, 3, 8].map(|place| {
            let TransactionProof { author, block, index, path, transaction, .. } = self.prove(5, 1, place);
            BundledTransaction { author, block, index, path, transaction }
        });
        let ReceiptProof { anchor: _, index, path, receipt } = receipt;
        let first = BundledProof::Receipt(ReceiptProof { anchor: 0, index, path, receipt });
        let RecordProof { anchor: _, index, path, record, segment } = record;
        let second = BundledProof::Record(RecordProof { anchor: 1, index, path, record, segment });
        let body = serde_json::to_value(member_body()).unwrap();
        let opened = Opened { body, salt: Some(SaltBytes::from_bytes(SALT)) };
        let third = BundledProof::Opening(OpeningProof { anchor: 2, opened });
        let TransactionProof { certified, chain, genesis, sets, .. } = under;
        BundleProof {
            anchors: anchors.into(),
            certified,
            chain,
            genesis,
            proofs: vec![first, second, third],
            sets,
        }
    }

    fn membership(&self) -> MembershipProof {
        let (person, hospital) = (public("person").kid(), public("hospital").kid());
        let entries = [
            (Kind::Affiliation, format!("{hospital}/{person}")),
            (Kind::Staff, person.to_string()),
            (Kind::Staff, hospital.to_string()),
        ];
        let StateProof { chain, entries, genesis, sets, state } =
            self.chains[4].prove_present_state(&entries).unwrap();
        MembershipProof {
            chain,
            entries,
            genesis,
            member: opening(serde_json::to_value(member_body()).unwrap()),
            organisation: opening(serde_json::to_value(staff_body(2)).unwrap()),
            person: opening(serde_json::to_value(staff_body(1)).unwrap()),
            sets,
            state,
        }
    }

    fn numbers(&self) -> NumbersProof {
        let author = public("access-policy");
        let asked = [(Kind::Service, author.kid().to_string())];
        let StateProof { chain, mut entries, genesis, sets, state } =
            self.chains[3].prove_present_state(&asked).unwrap();
        let (claims, held) = numbers(chain);
        let statement = claims.sign(&secret("access-policy")).unwrap();
        let service = entries.pop().unwrap();
        NumbersProof { author, chain, genesis, held, service, sets, state, statement }
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
        let opened = Opened {
            body: serde_json::to_value(staff_body(1)).unwrap(),
            salt: Some(SaltBytes::from_bytes(SALT)),
        };
        vec![
            ("transaction", Document::Transaction(self.prove(5, 2, 1))),
            ("bundle", Document::Bundle(self.bundle(receipt.clone(), record.clone()))),
            ("receipt", Document::Receipt(receipt)),
            ("record", Document::Record(record)),
            ("consent", Document::Consent(self.consent())),
            ("delegated-consent", Document::Consent(self.delegated_consent())),
            ("opening", Document::Opening(OpeningProof { anchor: self.prove(5, 1, 5), opened })),
            ("membership", Document::Membership(self.membership())),
            ("numbers", Document::Numbers(self.numbers())),
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
        if matches!(verified.content, Content::Transaction) {
            assert!(payload.is_some());
        }
        self.check_content(&verified.content);
    }

    fn check_content(&self, content: &Content) {
        let block = |height: u64| &self.blocks[usize::try_from(height).unwrap()];
        match content {
            Content::Transaction => {}
            Content::Opening(body) => match &**body {
                OpenedBody::Profile(body) => assert!([1, 2].map(staff_body).contains(body)),
                OpenedBody::Membership(body) => assert_eq!(*body, member_body()),
                OpenedBody::Order(_) | OpenedBody::Erasure(_) | OpenedBody::Release(_) => {
                    panic!("there is none")
                }
            },
            Content::Bundle(bundle) => {
                for transaction in &bundle.transactions {
                    assert_eq!(block(transaction.height).header.hash(), transaction.block);
                }
                bundle.proofs.iter().for_each(|(_, content)| self.check_content(content));
            }
            Content::Membership(facts) => {
                assert_eq!((&facts.person, &facts.organisation), (&staff_body(1), &staff_body(2)));
                assert_eq!((facts.function.as_str(), facts.not_in_force), ("surgeon", None));
            }
            Content::Numbers(facts) => assert_eq!(facts.claims, numbers(self.tip().id()).0),
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
                    let leaves = AnchorLeaf::all_of(anchor, block.header.height, tx::txid(jws));
                    found.extend(leaves.filter(|leaf| query.matches(leaf)));
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
