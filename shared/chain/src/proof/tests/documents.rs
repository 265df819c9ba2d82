//! Documents about what transactions commit to, about many proofs at once, memberships and numbers.

use serde_json::Value;

use super::content::{record, wards_consent};
use super::*;
use crate::bodies::{Body, ReleaseBody};
use crate::entry::{AffiliationEntry, StaffEntry};
use crate::numbers::{HeldNumbers, NumbersClaims};
use crate::payload::{Affiliation, AffiliationStatus, Erase, Order, OrderKind, Release, Staff, StaffStatus};
use crate::testing::public;
use hbc_types::ids::PatientId;
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::ranges::Ranges;
use hbc_types::wire::access::{Labels, NumberSet};

/// Seeds of the staff keys of a person and of an organisation.
const PERSON: u8 = 61;
const ORGANISATION: u8 = 62;

pub(super) fn agency(n: u8) -> String {
    format!("agy-{n:032x}")
}

pub(super) fn staff_body(n: u8) -> Value {
    json!({"agency": agency(n), "agency_type": "doctor", "licence_number": format!("L-{n}"), "name": "Ada Example"})
}

pub(super) fn member_body() -> Value {
    json!({"agency": agency(1), "function": "surgeon", "organisation": agency(2)})
}

pub(super) fn order_body() -> Value {
    json!({"kind": "misuse-lifted", "reason": "It was a mistake.", "subject": Digest::of(b"suspension")})
}

pub(super) fn erasure_body() -> Value {
    let record = |n: u8, version: u8| json!({"record": format!("rec-{n:032x}"), "version": version});
    json!({"at": "2026-11-02T09:30:00.000Z", "by": format!("pat-{:032x}", 1), "ground": "patient-request",
        "patient": format!("pat-{:032x}", 1), "records": [record(1, 1), record(1, 2), record(2, 1)]})
}

pub(super) fn release_body(chain: Digest) -> Value {
    json!({"at": "2026-11-02T09:30:00.000Z", "chain": chain, "period": "2026-10", "rounding": 5, "threshold": 11,
    "cubes": [
        {"cells": [{"count": 40, "values": ["north"]}, {"count": 10, "values": ["south"]}],
            "dimensions": ["region"], "system": "-"},
        {"cells": [{"count": 15, "values": ["20-29", "E11"]}], "dimensions": ["age-band", "code"],
            "system": "http://hl7.org/fhir/sid/icd-10"},
    ]})
}

fn digest(hash: fn(&hash::Salt, &[u8]) -> Digest, body: &Value) -> Digest {
    hash(&SALT, &json::encode(body).unwrap())
}

/// A transaction of each kind that commits to a body, with the body, the signer's seed, and whether there is a salt.
fn committing(chain: Digest) -> Vec<(Payload, Value, u8, bool)> {
    let (iat, nonce) = (5, 0);
    let (key, organisation) = (public(PERSON).kid(), public(ORGANISATION).kid());
    let (staff, member, order) = (staff_body(1), member_body(), order_body());
    let (erasure, release) = (erasure_body(), release_body(chain));
    let profile = Staff {
        chain,
        commitment: digest(hash::staff, &staff),
        iat,
        key,
        nonce,
        organisation: "own practice".to_owned(),
        public: public(PERSON),
        role: "doctor".to_owned(),
        status: StaffStatus::Active,
    };
    let commitment = digest(hash::member, &member);
    let status = AffiliationStatus::Active;
    let affiliation = Affiliation { chain, commitment, iat, key, nonce, organisation, status };
    let (commitment, kind) = (digest(hash::order, &order), OrderKind::MisuseLifted);
    let subject = Digest::of(b"suspension");
    let ordered = Order { chain, commitment, iat, kind, nonce, subject };
    let commitment = digest(hash::erase, &erasure);
    let erased = Erase { chain, commitment, iat, records: vec![Digest::of(b"r")], roots: Vec::new() };
    let (released, period) = (Digest::of(&json::encode(&release).unwrap()), "2026-10".to_owned());
    vec![
        (Payload::Staff(profile), staff, 201, true),
        (Payload::Affiliation(affiliation), member, ORGANISATION, true),
        (Payload::Order(ordered), order, 101, true),
        (Payload::Erase(erased), erasure, 202, true),
        (Payload::Release(Release { chain, digest: released, iat, period }), release, 203, false),
    ]
}

/// A proof of each kind of opening, with its chain.
fn openings() -> Vec<(Chain, OpeningProof)> {
    let all = committing(Chain::new(4).id);
    let proofs = all.into_iter().map(|(payload, body, signer, salted)| {
        let mut chain = Chain::new(4);
        let transaction = tx::sign(&key(signer), &payload).unwrap();
        let places = chain.append(std::slice::from_ref(&transaction));
        let salt = salted.then(|| SaltBytes::from_bytes(SALT));
        let anchor = chain.prove(signer, &transaction, places[0], 1, 1);
        (chain, OpeningProof { anchor, opened: Opened { body, salt } })
    });
    proofs.collect()
}

/// The one of a membership.
pub(super) fn opening() -> OpeningProof {
    openings().remove(1).1
}

fn refusal(document: &Document, chain: &Chain) -> ProofError {
    verify(&document.to_bytes().unwrap(), &chain.trust()).unwrap_err()
}

#[test]
fn what_a_transaction_commits_to_is_opened_and_read_whole() {
    let begins = [
        "this profile was voted on: agy-00000000000000000000000000000001 is the doctor `Ada Example`, licence L-1; final",
        "this membership was stated: agy-00000000000000000000000000000001 and agy-00000000000000000000000000000002, as",
        "an operator voted for `misuse-lifted` about ",
        "3 record versions of pat-00000000000000000000000000000001 were erased by pat-",
        "these statistics of 2026-10 were released: 3 counts",
    ];
    for ((chain, good), begin) in openings().into_iter().zip(begins) {
        let verified = verify(&Document::Opening(good.clone()).to_bytes().unwrap(), &chain.trust()).unwrap();
        assert!(verified.statement().starts_with(begin), "{}", verified.statement());
        let mut changed = good.clone();
        changed.opened.body["x"] = json!(1);
        assert!(matches!(refusal(&Document::Opening(changed), &chain), ProofError::Commitment(_)), "{begin}");
        let mut salted = good.clone();
        salted.opened.salt = good.opened.salt.is_none().then(|| SaltBytes::from_bytes(SALT));
        assert!(matches!(refusal(&Document::Opening(salted), &chain), ProofError::Commitment(_)), "{begin}");
    }
    // What its transaction contradicts is no order of it, and what commits to nothing has no body.
    let (chain, anchor) = (receipt(4, 1).0, receipt(4, 1).1.anchor);
    let none = OpeningProof { anchor, opened: Opened { body: json!({}), salt: None } };
    assert!(matches!(refusal(&Document::Opening(none), &chain), ProofError::Kind { .. }));
}

#[test]
fn a_body_of_another_order_or_release_opens_nothing() {
    let id = Chain::new(4).id;
    let mut cases = Vec::new();
    for (payload, mut body, signer, salted) in committing(id) {
        let changed = match payload {
            Payload::Order(order) => {
                body["kind"] = json!("app-ended");
                Payload::Order(Order { commitment: digest(hash::order, &body), ..order })
            }
            Payload::Release(release) => {
                body["period"] = json!("2026-09");
                Payload::Release(Release { digest: Digest::of(&json::encode(&body).unwrap()), ..release })
            }
            _ => continue,
        };
        cases.push((changed, body, signer, salted));
    }
    assert_eq!(cases.len(), 2);
    for (payload, body, signer, salted) in cases {
        let mut chain = Chain::new(4);
        let transaction = tx::sign(&key(signer), &payload).unwrap();
        let places = chain.append(std::slice::from_ref(&transaction));
        let salt = salted.then(|| SaltBytes::from_bytes(SALT));
        let anchor = chain.prove(signer, &transaction, places[0], 1, 1);
        let document = Document::Opening(OpeningProof { anchor, opened: Opened { body, salt } });
        assert!(matches!(refusal(&document, &chain), ProofError::Contradiction(_)));
    }
}

/// Two receipts of one batch and a record, in blocks 1 and 2.
pub(super) fn bundle() -> (Chain, BundleProof) {
    let mut chain = Chain::new(4);
    let bodies: Vec<Value> = (1..=5).map(|n| serde_json::to_value(receipt_body(n)).unwrap()).collect();
    let leaves: Vec<Digest> =
        bodies.iter().map(|body| merkle::leaf_hash(digest(hash::receipt, body).as_bytes())).collect();
    let batch = Tree::of(&leaves);
    let receipts = receipts_tx(&chain, batch.root(), 5);
    let (_, of_record) = record();
    let anchored = of_record.anchor.transaction.clone();
    let first = chain.append(std::slice::from_ref(&receipts));
    let second = chain.append(std::slice::from_ref(&anchored));
    let bundled = |author, transaction: &str, index, height| {
        let TransactionProof { author, block, index, path, transaction, .. } =
            chain.prove(author, transaction, index, height, 2);
        BundledTransaction { author, block, index, path, transaction }
    };
    let receipt = |n: u64| {
        let body = bodies[usize::try_from(n).unwrap()].clone();
        BundledProof::Receipt(ReceiptProof {
            anchor: 0,
            index: n,
            path: batch.inclusion(n, 5).unwrap(),
            receipt: Opening { body, salt: SaltBytes::from_bytes(SALT) },
        })
    };
    let RecordProof { anchor: _, index, path, record, segment } = of_record;
    let proof = BundleProof {
        anchors: vec![bundled(202, &receipts, first[0], 1), bundled(203, &anchored, second[0], 2)],
        certified: chain.certification(2),
        chain: chain.id,
        genesis: Some(chain.genesis.clone()),
        proofs: vec![
            receipt(1),
            BundledProof::Record(RecordProof { anchor: 1, index, path, record, segment }),
            receipt(3),
        ],
        sets: Vec::new(),
    };
    (chain, proof)
}

#[test]
fn a_bundle_shows_what_its_proofs_show() {
    let (chain, good) = bundle();
    let verified = verify(&Document::Bundle(good.clone()).to_bytes().unwrap(), &chain.trust()).unwrap();
    assert_eq!(verified.statement(), "3 proofs about 2 transactions hold; as of height 2.");
    let facts = verified.facts();
    assert_eq!(facts.iter().filter(|(name, _)| *name == "proved").count(), 3, "{facts:?}");
    let Content::Bundle(bundle) = verified.content else { panic!("a bundle") };
    assert_eq!(bundle.proofs[0].1, Content::Receipt(Box::new(receipt_body(2))));
    assert_eq!((bundle.proofs[1].0, bundle.transactions[1].height), (1, 2));

    type Spoiling = (fn(&mut BundleProof), &'static str);
    let cases: [Spoiling; 9] = [
        (|proof| proof.anchors.reverse(), "the bundle's transactions do not ascend"),
        (|proof| proof.anchors.push(proof.anchors[1].clone()), "the bundle's transactions do not ascend"),
        (|proof| proof.anchors.clear(), "the bundle is empty"),
        (|proof| proof.proofs.clear(), "the bundle is empty"),
        (|proof| drop(proof.proofs.remove(1)), "the bundle has a transaction without a proof"),
        (|proof| proof.proofs.push(proof.proofs[0].clone()), "the bundle has a proof twice"),
        (|proof| drop(proof.anchors.pop()), "the bundle has no such transaction"),
        (|proof| proof.anchors[0].path.clear(), "the transaction is not in the certified log"),
        (
            |proof| {
                if let BundledProof::Receipt(receipt) = &mut proof.proofs[0] {
                    receipt.index = 2;
                }
            },
            "the receipt is not under the root",
        ),
    ];
    for (spoil, reason) in cases {
        let mut bad = good.clone();
        spoil(&mut bad);
        let error = refusal(&Document::Bundle(bad), &chain).to_string();
        assert!(error.starts_with(reason), "{reason}: {error}");
    }
}

/// A chain in whose state a person is a member of an organisation, all three with these statuses.
fn member_chain(member: AffiliationStatus, person: StaffStatus, organisation: StaffStatus) -> Chain {
    let mut chain = Chain::new(4);
    let txid = Digest::of(b"tx");
    let mut profile = |seed: u8, n: u8, status| {
        let entry = StaffEntry {
            commitment: digest(hash::staff, &staff_body(n)),
            organisation: "General Hospital".to_owned(),
            public: public(seed),
            role: "doctor".to_owned(),
            status,
            txid,
        };
        chain.map.insert(Kind::Staff.digest_key(&public(seed).kid()), Entry::Staff(Box::new(entry)));
    };
    profile(PERSON, 1, person);
    profile(ORGANISATION, 2, organisation);
    let commitment = digest(hash::member, &member_body());
    let entry = AffiliationEntry { commitment, count: 1, status: member, txid };
    chain.map.insert(Kind::Affiliation.key(&pair()), Entry::Affiliation(Box::new(entry)));
    chain.append(&[]);
    chain
}

fn pair() -> String {
    format!("{}/{}", public(ORGANISATION).kid(), public(PERSON).kid())
}

fn membership_in(chain: &Chain) -> MembershipProof {
    let opening = |body| Opening { body, salt: SaltBytes::from_bytes(SALT) };
    MembershipProof {
        chain: chain.id,
        entries: vec![
            chain.entry(1, Kind::Affiliation, &pair()),
            chain.entry(1, Kind::Staff, &public(PERSON).kid().to_string()),
            chain.entry(1, Kind::Staff, &public(ORGANISATION).kid().to_string()),
        ],
        genesis: Some(chain.genesis.clone()),
        member: opening(member_body()),
        organisation: opening(staff_body(2)),
        person: opening(staff_body(1)),
        sets: Vec::new(),
        state: chain.evidence(1),
    }
}

pub(super) fn membership() -> MembershipProof {
    let active = StaffStatus::Active;
    membership_in(&member_chain(AffiliationStatus::Active, active, active))
}

#[test]
fn a_membership_holds_while_all_three_do() {
    use AffiliationStatus as Member;
    use StaffStatus as Staff;
    let cases = [
        (Member::Active, Staff::Active, Staff::Active, "`Ada Example` acts for `Ada Example` as `surgeon`"),
        (Member::Ended, Staff::Active, Staff::Active, "`Ada Example` DOES NOT ACT for"),
        (Member::Active, Staff::Suspended, Staff::Active, "`Ada Example` DOES NOT ACT for"),
        (Member::Active, Staff::Active, Staff::Revoked, "`Ada Example` DOES NOT ACT for"),
    ];
    for (member, person, organisation, begin) in cases {
        let chain = member_chain(member, person, organisation);
        let file = Document::Membership(membership_in(&chain)).to_bytes().unwrap();
        let said = verify(&file, &chain.trust()).unwrap().statement();
        assert!(said.starts_with(begin), "{said}");
    }
    let chain = member_chain(Member::Active, Staff::Active, Staff::Active);
    let good = membership_in(&chain);
    let spoilings: [fn(&mut MembershipProof); 6] = [
        |proof| proof.entries.swap(1, 2),
        |proof| drop(proof.entries.pop()),
        |proof| std::mem::swap(&mut proof.person, &mut proof.organisation),
        |proof| proof.member.body["function"] = json!("porter"),
        |proof| proof.person.salt = SaltBytes::from_bytes([8; 32]),
        |proof| proof.entries[0].value = None,
    ];
    for (case, spoil) in spoilings.into_iter().enumerate() {
        let mut bad = good.clone();
        spoil(&mut bad);
        assert!(!refusal(&Document::Membership(bad), &chain).tells_nothing(), "case {case}");
    }
}

pub(super) fn labels(category: Category) -> Labels {
    Labels { category, sensitivity: Sensitivity::Normal }
}

pub(super) fn number_set(
    category: Category,
    n_max: u64,
    open: &[[u64; 2]],
    voided: &[[u64; 2]],
) -> NumberSet {
    let ranges = |pairs: &[[u64; 2]]| Ranges::of(pairs.iter().copied());
    let (open, voided, erased) = (ranges(open), ranges(voided), Ranges::default());
    NumberSet { labels: labels(category), n_max, open, voided, erased }
}

pub(super) fn held_numbers(category: Category, pairs: &[[u64; 2]]) -> HeldNumbers {
    HeldNumbers { labels: labels(category), numbers: Ranges::of(pairs.iter().copied()) }
}

pub(super) fn numbers_claims(chain: Digest, sets: Vec<NumberSet>) -> NumbersClaims {
    let patient = PatientId::parse(&format!("pat-{:032x}", 1)).unwrap();
    NumbersClaims { chain, iat: 1_790_000_000_600, patient, sets }
}

fn numbers_by(seed: u8, held: Vec<HeldNumbers>) -> (Chain, NumbersProof) {
    let mut chain = Chain::new(4);
    chain.append(&[]);
    let sets = vec![
        number_set(Category::Laboratory, 9, &[[9, 9]], &[[3, 4]]),
        number_set(Category::Imaging, 1, &[], &[]),
    ];
    let proof = NumbersProof {
        author: public(seed),
        chain: chain.id,
        genesis: Some(chain.genesis.clone()),
        held,
        service: chain.entry(1, Kind::Service, &public(seed).kid().to_string()),
        sets: Vec::new(),
        state: chain.evidence(1),
        statement: numbers_claims(chain.id, sets).sign(&key(seed)).unwrap(),
    };
    (chain, proof)
}

/// Number 7 of the laboratory results is missing.
pub(super) fn numbers() -> (Chain, NumbersProof) {
    let held = vec![
        held_numbers(Category::Laboratory, &[[1, 2], [5, 6], [8, 8]]),
        held_numbers(Category::Imaging, &[[1, 1]]),
    ];
    numbers_by(202, held)
}

#[test]
fn a_missing_number_shows() {
    let (chain, proof) = numbers();
    let verified = verify(&Document::Numbers(proof.clone()).to_bytes().unwrap(), &chain.trust()).unwrap();
    let said = verified.statement();
    assert!(
        said.starts_with("1 NUMBERS of records of pat-00000000000000000000000000000001 ARE MISSING; as"),
        "{said}"
    );
    assert!(verified.facts().contains(&("missing", "normal/laboratory 7".to_owned())));
    let whole = vec![
        held_numbers(Category::Laboratory, &[[1, 2], [5, 8]]),
        held_numbers(Category::Imaging, &[[1, 1]]),
    ];
    let whole = Document::Numbers(NumbersProof { held: whole, ..proof.clone() });
    let said = verify(&whole.to_bytes().unwrap(), &chain.trust()).unwrap().statement();
    assert!(said.starts_with("no number of a record of pat-"), "{said}");

    let (_, by_storage) = numbers_by(203, Vec::new());
    let expected = ProofError::Contradiction("the author is not access-policy");
    assert_eq!(refusal(&Document::Numbers(by_storage), &chain), expected);
    let other = NumbersProof { author: public(203), ..proof.clone() };
    let expected = ProofError::Contradiction("the entry is not that of the author's key");
    assert_eq!(refusal(&Document::Numbers(other), &chain), expected);
    let above = NumbersProof { held: vec![held_numbers(Category::Imaging, &[[2, 2]])], ..proof };
    let expected = ProofError::Contradiction("a held number is above the highest");
    assert_eq!(refusal(&Document::Numbers(above), &chain), expected);
}

#[test]
fn a_delegates_consent_needs_both_certificates() {
    let (chain, good) = wards_consent();
    let check =
        |proof: &ConsentProof| verify(&Document::Consent(proof.clone()).to_bytes().unwrap(), &chain.trust());
    let verified = check(&good).unwrap();
    assert!(verified.facts().iter().any(|(name, _)| *name == "given by"));
    let alone = ConsentProof { delegate: None, ..good.clone() };
    assert!(matches!(check(&alone), Err(ProofError::Certificate(_))));
    let mut other = good.clone();
    other.delegate.as_mut().unwrap().root = public(63);
    assert!(check(&other).is_err());
    let mut own = good;
    own.root = own.delegate.as_ref().unwrap().root;
    assert!(matches!(check(&own), Err(ProofError::Certificate(_))));
}

/// Every kind of body but a receipt's and a consent's is read with the same rules wherever it stands.
#[test]
fn bodies_break_their_rules_by_name() {
    let mut body = release_body(Digest::ZERO);
    body["cubes"][0]["cells"][1]["count"] = json!(5);
    let read = ReleaseBody::read(&json::encode(&body).unwrap());
    assert_eq!(read.err(), Some("a count is rounded, and not small"));
    assert_eq!(ReleaseBody::read(b"{}").err(), Some(ReleaseBody::WHAT));
}
