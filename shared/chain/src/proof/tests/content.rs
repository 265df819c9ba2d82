//! What a final transaction covers: records and consents.

use super::*;
use crate::certificate::DelegateCertificate;
use crate::certificate::LimitError;
use crate::consent::ConsentBody;
use hbc_types::ids::{AgencyId, PatientId};
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::purpose::{Action, Purpose};
use hbc_types::time::Timestamp;
use hbc_types::wire::access::Scope;

fn record_facts(n: u8) -> RecordFacts {
    RecordFacts {
        id: RecordId::parse(&format!("rec-{n:032x}")).unwrap(),
        length: 100,
        offset: 100 * u64::from(n),
        received: Digest::of(&[n]),
        salt: SaltBytes::from_bytes([n; 32]),
        encrypted: Digest::of(&[n, n]),
        version: 1,
    }
}

/// The third record of the second segment of an anchor.
pub(super) fn record() -> (Chain, RecordProof) {
    let mut chain = Chain::new(4);
    let leaves: Vec<Digest> =
        (0..3).map(|n| merkle::leaf_hash(record_facts(n).commitment().as_bytes())).collect();
    let segment = |root, records| Segment {
        bytes: 300,
        cid: "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e".into(),
        day0: 20_000,
        day1: 20_031,
        digest: Digest::of(b"segment"),
        records,
        root,
        tag: Tag::from_bytes([1; 16]),
    };
    let tree = Tree::of(&leaves);
    let segments = vec![segment(Digest::ZERO, 1), segment(tree.root(), 3)];
    let payload = Payload::Anchor(Anchor { chain: chain.id, iat: 5, segments });
    let transaction = tx::sign(&key(203), &payload).unwrap();
    let places = chain.append(std::slice::from_ref(&transaction));
    let proof = RecordProof {
        anchor: chain.prove(203, &transaction, places[0], 1, 1),
        index: 2,
        path: tree.inclusion(2, 3).unwrap(),
        record: record_facts(2),
        segment: 1,
    };
    (chain, proof)
}

#[test]
fn a_record_is_proved_by_its_anchor() {
    let (chain, good) = record();
    let check = |proof: &RecordProof| {
        verify(&Document::Record(proof.clone()).to_bytes().unwrap(), &chain.trust())
            .map(|verified| verified.content)
    };
    assert_eq!(check(&good), Ok(Content::Record(record_facts(2))));
    let wrong_segment = RecordProof { segment: 0, ..good.clone() };
    assert!(matches!(check(&wrong_segment), Err(ProofError::NotUnderRoot { what: "record", .. })));
    let no_segment = RecordProof { segment: 2, ..good.clone() };
    assert!(matches!(check(&no_segment), Err(ProofError::Contradiction(_))));
    let mut longer = good.clone();
    longer.record.length = 101;
    assert!(matches!(check(&longer), Err(ProofError::Contradiction(_))));
    let mut other = good;
    other.record.received = Digest::ZERO;
    assert!(matches!(check(&other), Err(ProofError::NotUnderRoot { what: "record", .. })));
}

/// The root key's and the consent key's seeds.
const ROOT: u8 = 50;
const CONSENT: u8 = 51;

fn grantee(n: u8) -> AgencyId {
    AgencyId::parse(&format!("agy-{n:032x}")).unwrap()
}

pub(super) fn consent_body(scope: Scope) -> serde_json::Value {
    let body = ConsentBody::to_agency(
        GrantId::parse(&format!("grt-{:032x}", 1)).unwrap(),
        grantee(1),
        PatientId::parse(&format!("pat-{:032x}", 1)).unwrap(),
        scope,
    );
    serde_json::to_value(body).unwrap()
}

pub(super) fn scope(actions: &[Action], categories: &[Category]) -> Scope {
    Scope {
        actions: actions.to_vec(),
        categories: categories.to_vec(),
        sensitivities: vec![Sensitivity::Normal],
        purposes: vec![Purpose::Treatment],
        from: Timestamp::from_ms(1_790_000_000_000),
        until: Timestamp::from_ms(1_800_000_000_000),
        future_records: true,
    }
}

fn certificate(chain: &Chain, grantee: &AgencyId, of: u8, limits: Limits) -> String {
    let certificate = ConsentCertificate {
        chain: chain.id,
        grantee: grantee.to_string(),
        iat: 4,
        key: PublicKey::of(&key(of)).kid(),
        limits,
        root: PublicKey::of(&key(ROOT)).kid(),
    };
    certificate.sign(&key(ROOT)).unwrap()
}

/// A consent to this body, by a key with these limits; final in block 1, whose time is [`BLOCK_MS`].
fn consent(body: serde_json::Value, limits: Limits) -> (Chain, ConsentProof) {
    let mut chain = Chain::new(4);
    let payload = Payload::Grant(Consent {
        chain: chain.id,
        commitment: hash::consent_body(&SALT, &json::encode(&body).unwrap()),
        custody: Custody::Client,
        grant: GrantId::parse(&format!("grt-{:032x}", 1)).unwrap(),
        iat: 5,
        key: PublicKey::of(&key(CONSENT)).kid(),
        prev: None,
        seq: 1,
    });
    let transaction = tx::sign(&key(CONSENT), &payload).unwrap();
    let places = chain.append(std::slice::from_ref(&transaction));
    let proof = ConsentProof {
        anchor: chain.prove(CONSENT, &transaction, places[0], 1, 1),
        certificate: certificate(&chain, &grantee(1), CONSENT, limits),
        consent: Opening { body, salt: SaltBytes::from_bytes(SALT) },
        delegate: None,
        root: PublicKey::of(&key(ROOT)),
    };
    (chain, proof)
}

const BLOCK_MS: u64 = 1_790_000_001_000;
/// When the scopes here begin and end.
const SCOPE_FROM_MS: u64 = 1_790_000_000_000;
const SCOPE_UNTIL_MS: u64 = 1_800_000_000_000;

/// A delegate may read laboratory results and vital signs for a while.
fn delegate() -> Limits {
    Limits {
        actions: Some(vec![Action::Read]),
        categories: Some(vec![Category::Laboratory, Category::VitalSigns]),
        until_ms: Some(SCOPE_UNTIL_MS),
        ..Limits::default()
    }
}

pub(super) fn delegated_consent() -> (Chain, ConsentProof) {
    consent(consent_body(scope(&[Action::Read], &[Category::Laboratory])), delegate())
}

/// A consent that somebody gave in the patient's place.
pub(super) fn wards_consent() -> (Chain, ConsentProof) {
    const DELEGATE: u8 = 52;
    let (chain, mut proof) = delegated_consent();
    let (root, delegate) = (PublicKey::of(&key(ROOT)), PublicKey::of(&key(DELEGATE)));
    let certificate = ConsentCertificate {
        chain: chain.id,
        grantee: grantee(1).to_string(),
        iat: 4,
        key: PublicKey::of(&key(CONSENT)).kid(),
        limits: Limits::default(),
        root: delegate.kid(),
    };
    let delegation = DelegateCertificate {
        chain: chain.id,
        delegate: delegate.kid(),
        iat: 3,
        limits: self::delegate(),
        root: root.kid(),
        until_ms: SCOPE_UNTIL_MS,
    };
    proof.certificate = certificate.sign(&key(DELEGATE)).unwrap();
    proof.delegate = Some(Delegation { certificate: delegation.sign(&key(ROOT)).unwrap(), root: delegate });
    (chain, proof)
}

/// A whole consent with something in its body spoiled.
pub(super) fn consent_with(spoil: &dyn Fn(&mut serde_json::Value)) -> (Chain, ConsentProof) {
    let mut body = consent_body(scope(&[Action::Read], &[Category::Laboratory]));
    spoil(&mut body);
    consent(body, Limits::default())
}

fn check(chain: &Chain, proof: &ConsentProof) -> Result<Verified, ProofError> {
    verify(&Document::Consent(proof.clone()).to_bytes().unwrap(), &chain.trust())
}

#[test]
fn a_consent_is_proved_with_its_certificate() {
    let everything = scope(&[Action::Read, Action::Write], &[Category::Laboratory, Category::Financial]);
    let (chain, good) = consent(consent_body(everything), Limits::default());
    let verified = check(&chain, &good).unwrap();
    assert_eq!(verified.transaction.as_ref().unwrap().author, Author::Registered);
    assert!(verified.facts().contains(&("key may sign", "everything, for this grantee".to_owned())));
    let root_kid = PublicKey::of(&key(ROOT)).kid();
    assert!(matches!(verified.content, Content::Consent { root, .. } if root == root_kid));
    let with = |grantee: &AgencyId, of: u8| ConsentProof {
        certificate: certificate(&chain, grantee, of, Limits::default()),
        ..good.clone()
    };
    assert!(matches!(check(&chain, &with(&grantee(2), CONSENT)), Err(ProofError::Contradiction(_))));
    assert!(matches!(check(&chain, &with(&grantee(1), 52)), Err(ProofError::Contradiction(_))));
    let other_root = ConsentProof { root: PublicKey::of(&key(60)), ..good.clone() };
    assert!(matches!(check(&chain, &other_root), Err(ProofError::Certificate(_))));
    let mut other_body = good;
    other_body.consent.body["patient"] = format!("pat-{:032x}", 2).into();
    assert_eq!(check(&chain, &other_body), Err(ProofError::Commitment("consent")));
}

#[test]
fn a_body_that_is_no_consents_proves_nothing() {
    let full = consent_body(scope(&[Action::Read], &[Category::Laboratory]));
    for field in ["grant", "grantee", "patient", "scope"] {
        let mut body = full.clone();
        body.as_object_mut().unwrap().remove(field);
        let (chain, proof) = consent(body, Limits::default());
        let expected = ProofError::Contradiction("the body is not that of a consent");
        assert_eq!(check(&chain, &proof), Err(expected), "{field}");
    }
    let mut other_grant = full;
    other_grant["grant"] = format!("grt-{:032x}", 2).into();
    let (chain, proof) = consent(other_grant, Limits::default());
    assert_eq!(check(&chain, &proof), Err(ProofError::Contradiction("the body is of another grant")));
}

#[test]
fn a_scope_that_gives_nothing_proves_nothing() {
    let whole = scope(&[Action::Read], &[Category::Laboratory]);
    let empty = "a list of the consent's scope is empty";
    type Spoiling = (fn(&mut Scope), &'static str);
    let cases: [Spoiling; 6] = [
        (|scope| scope.actions.clear(), empty),
        (|scope| scope.categories.clear(), empty),
        (|scope| scope.sensitivities.clear(), empty),
        (|scope| scope.purposes.clear(), empty),
        (|scope| scope.until = scope.from, "the consent ends before it begins"),
        (|scope| scope.from = Timestamp::from_ms(1_900_000_000_000), "the consent ends before it begins"),
    ];
    for (spoil, reason) in cases {
        let mut scope = whole.clone();
        spoil(&mut scope);
        let (chain, proof) = consent(consent_body(scope), Limits::default());
        assert_eq!(check(&chain, &proof), Err(ProofError::Contradiction(reason)));
    }
    // What HL7 v3 has and HBC does not know is no purpose of a consent.
    for purpose in ["BTG", "HOPERAT", "FAMRQT", "PWATRNY"] {
        let mut body = consent_body(whole.clone());
        body["scope"]["purposes"] = json!([purpose]);
        let (chain, proof) = consent(body, Limits::default());
        let expected = ProofError::Contradiction("the body is not that of a consent");
        assert_eq!(check(&chain, &proof), Err(expected), "{purpose}");
    }
}

#[test]
fn a_delegates_consent_counts_within_the_limits_of_its_certificate() {
    let (chain, proof) = delegated_consent();
    let facts = check(&chain, &proof).unwrap().facts();
    let limits = "only actions read; categories laboratory, vital-signs; before 2027-01-15T08:00:00.000Z";
    assert!(facts.contains(&("key may sign", limits.to_owned())), "{facts:?}");

    let within = scope(&[Action::Read], &[Category::Laboratory]);
    let cases = [
        (scope(&[Action::Read, Action::Write], &[Category::Laboratory]), delegate(), LimitError::Beyond),
        (
            scope(&[Action::Read], &[Category::Laboratory, Category::Financial]),
            delegate(),
            LimitError::Beyond,
        ),
        (within.clone(), Limits { until_ms: Some(BLOCK_MS), ..delegate() }, LimitError::Over),
        (within.clone(), Limits { actions: Some(Vec::new()), ..delegate() }, LimitError::Beyond),
        (within.clone(), Limits { until_ms: Some(SCOPE_UNTIL_MS - 1), ..delegate() }, LimitError::Beyond),
        (within.clone(), Limits { from_ms: Some(SCOPE_FROM_MS + 1), ..delegate() }, LimitError::Beyond),
        (within.clone(), Limits { future_records: Some(false), ..delegate() }, LimitError::Beyond),
        (
            within.clone(),
            Limits { purposes: Some(vec![Purpose::Research]), ..delegate() },
            LimitError::Beyond,
        ),
        (within, Limits { sensitivities: Some(vec![Sensitivity::Hiv]), ..delegate() }, LimitError::Beyond),
    ];
    for (scope, limits, expected) in cases {
        let (chain, proof) = consent(consent_body(scope), limits.clone());
        assert_eq!(check(&chain, &proof), Err(ProofError::Limits(expected)), "{limits:?}");
    }
}
