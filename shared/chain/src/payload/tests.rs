//! Payloads: their exact JSON and the limits of their fields.

use super::*;
use ed25519_dalek::SigningKey;

fn vote(subject: &str, value: &str) -> Result<Change, PayloadError> {
    MemberVote { chain: Digest::ZERO, iat: 1, nonce: 0, subject: subject.into(), value: value.into() }
        .change()
}

#[test]
fn votes_name_one_change_or_none() {
    let key = PublicKey::from_bytes([9; 32]);
    let name = || "node-5".to_owned();
    assert_eq!(vote("member:node-5", &key.to_string()), Ok(Change::Member { name: name(), key: Some(key) }));
    assert_eq!(vote("operator:node-5", "none"), Ok(Change::Operator { name: name(), key: None }));
    let target = Change::Parameter { name: "target".into(), value: 7 };
    assert_eq!(vote("parameter:target", "7"), Ok(target));
    for (subject, value) in [
        ("member:node 5", "none"),
        ("member:", "none"),
        ("member", "none"),
        ("robot:a", "none"),
        ("member:a", ""),
        ("parameter:colour", "1"),
        ("parameter:target", "07"),
        ("parameter:target", "+7"),
        ("parameter:target", "-1"),
        ("parameter:target", "9007199254740992"),
    ] {
        assert!(vote(subject, value).is_err(), "{subject} {value}");
    }
}

fn registration(chain: Digest) -> ConsentKey {
    let key = SigningKey::from_bytes(&[5; 32]);
    let public = PublicKey::of(&key);
    let pop = SignatureBytes::sign(&key, &possession_text(&chain, &public.kid()));
    let status = KeyStatus::Active;
    ConsentKey { chain, iat: 1, key: public.kid(), pop: Some(pop), public: Some(public), status }
}

#[test]
fn a_registration_proves_possession_for_this_chain() {
    let good = registration(Digest::ZERO);
    assert_eq!(Payload::ConsentKey(good.clone()).check(), Ok(()));
    let other_chain = ConsentKey { chain: Digest::of(b"other"), ..good.clone() };
    assert!(Payload::ConsentKey(other_chain).check().is_err());
    let other_key = ConsentKey { key: Digest::of(b"other"), ..good.clone() };
    assert!(Payload::ConsentKey(other_key).check().is_err());
    let without = ConsentKey { pop: None, ..good.clone() };
    assert!(Payload::ConsentKey(without).check().is_err());
    let revoked = ConsentKey { status: KeyStatus::Revoked, ..good.clone() };
    assert!(Payload::ConsentKey(revoked).check().is_err());
    let revoked = ConsentKey { status: KeyStatus::Revoked, pop: None, public: None, ..good };
    assert_eq!(Payload::ConsentKey(revoked).check(), Ok(()));
}

fn anchor() -> Anchor {
    let segment = |n: u8| Segment {
        bytes: 1000,
        cid: "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e".into(),
        day0: -100,
        day1: 20_000,
        digest: Digest::of(&[n]),
        records: 3,
        root: Digest::from_bytes([n; 32]),
        tag: Tag::from_bytes([n; 16]),
    };
    Anchor { chain: Digest::ZERO, iat: 1, segments: vec![segment(1), segment(2)] }
}

#[test]
fn anchors_stay_inside_their_limits() {
    assert_eq!(Payload::Anchor(anchor()).check(), Ok(()));
    let spoil: [fn(&mut Anchor); 9] = [
        |anchor| anchor.segments.clear(),
        |anchor| {
            let mut more =
                (1..=65).map(|n| Segment { root: Digest::from_bytes([n; 32]), ..anchor.segments[0].clone() });
            anchor.segments = more.by_ref().collect();
        },
        |anchor| anchor.segments.reverse(),
        |anchor| anchor.segments[1].root = anchor.segments[0].root,
        |anchor| anchor.segments[0].cid = "QmOld".into(),
        |anchor| anchor.segments[0].records = 0,
        |anchor| anchor.segments[0].bytes = 0,
        |anchor| anchor.segments[1].day0 = anchor.segments[1].day1 + 1,
        |anchor| anchor.segments[0].day0 = i32::MIN,
    ];
    for (case, spoil) in spoil.into_iter().enumerate() {
        let mut bad = anchor();
        spoil(&mut bad);
        assert!(Payload::Anchor(bad).check().is_err(), "case {case}");
    }
}

#[test]
fn ballots_differ_in_everything_but_the_time() {
    let one = Payload::Anchor(anchor());
    let later = Payload::Anchor(Anchor { iat: 99, ..anchor() });
    let mut other = anchor();
    other.segments[0].day1 += 1;
    let other = Payload::Anchor(other);
    assert_eq!(one.ballot(), later.ballot());
    assert_ne!(one.ballot(), other.ballot());
}

#[test]
fn consents_number_their_events() {
    let first = Consent {
        chain: Digest::ZERO,
        commitment: Digest::of(b"c"),
        custody: Custody::Client,
        grant: GrantId::parse("grt-00000000000000000000000000000001").unwrap(),
        iat: 1,
        key: Digest::of(b"k"),
        prev: None,
        seq: 1,
    };
    assert_eq!(Payload::Grant(first.clone()).check(), Ok(()));
    assert!(Payload::Grant(Consent { seq: 0, ..first.clone() }).check().is_err());
    assert!(Payload::Grant(Consent { seq: 2, ..first.clone() }).check().is_err());
    assert!(Payload::Grant(Consent { prev: Some(Digest::ZERO), ..first }).check().is_err());
}

fn checked(payload: &Payload) -> bool {
    payload.check().is_ok()
}

#[test]
fn a_key_that_is_introduced_has_the_fingerprint_that_is_said() {
    let public = PublicKey::of(&SigningKey::from_bytes(&[5; 32]));
    let service = |key| {
        Payload::ServiceKey(ServiceKeyChange {
            chain: Digest::ZERO,
            iat: 1,
            key,
            nonce: 0,
            public,
            role: ServiceRole::Storage,
            status: KeyStatus::Active,
        })
    };
    assert!(checked(&service(public.kid())) && !checked(&service(Digest::of(b"other"))));
    let staff = |key| Payload::Staff(Staff { key, ..profile() });
    assert!(checked(&staff(public.kid())) && !checked(&staff(Digest::of(b"other"))));
}

fn profile() -> Staff {
    let public = PublicKey::of(&SigningKey::from_bytes(&[5; 32]));
    Staff {
        chain: Digest::ZERO,
        commitment: Digest::of(b"c"),
        iat: 1,
        key: public.kid(),
        nonce: 0,
        organisation: "General Hospital".into(),
        public,
        role: "hospital".into(),
        status: StaffStatus::Active,
    }
}

#[test]
fn texts_are_short_and_without_controls() {
    let long = "a".repeat(201);
    for bad in ["", "a\nb", "a\u{7f}b", long.as_str()] {
        assert!(!checked(&Payload::Staff(Staff { organisation: bad.into(), ..profile() })), "{bad:?}");
        let release = Release { chain: Digest::ZERO, digest: Digest::ZERO, iat: 1, period: bad.into() };
        assert!(!checked(&Payload::Release(release)), "{bad:?}");
    }
    let long = "a".repeat(64);
    for bad in ["", "Hospital", "two words", long.as_str()] {
        assert!(!checked(&Payload::Staff(Staff { role: bad.into(), ..profile() })), "{bad:?}");
        let event = |event: &str, node: &str| {
            let (evidence, event, node) = (Digest::ZERO, event.into(), node.into());
            Payload::NodeEvent(NodeEvent { chain: Digest::ZERO, event, evidence, height: 1, iat: 1, node })
        };
        assert!(checked(&event("attacked", "node-1")));
        assert!(!checked(&event(bad, "node-1")) && !checked(&event("attacked", bad)), "{bad:?}");
    }
}

#[test]
fn an_erasure_names_something_and_nothing_twice() {
    let erase = |roots: &[u16], records: &[u16]| {
        let all = |list: &[u16]| list.iter().map(|n| Digest::of(&n.to_be_bytes())).collect();
        let (roots, records) = (all(roots), all(records));
        checked(&Payload::Erase(Erase {
            chain: Digest::ZERO,
            commitment: Digest::ZERO,
            iat: 1,
            records,
            roots,
        }))
    };
    assert!(erase(&[1], &[]) && erase(&[], &[1]) && erase(&[1, 2], &[1, 2]));
    assert!(!erase(&[], &[]) && !erase(&[1, 1], &[]) && !erase(&[], &[2, 2]));
    let many: Vec<u16> = (0..1_024).collect();
    assert!(erase(&many, &[]) && !erase(&many, &[1]));
}

#[test]
fn receipts_count_something_and_every_type_has_a_name_that_is_listed() {
    let receipts = |count| {
        Payload::Receipts(Receipts { chain: Digest::ZERO, count, iat: 1, rights: None, root: Digest::ZERO })
    };
    assert!(checked(&receipts(1)) && !checked(&receipts(0)));
    for payload in [receipts(1), Payload::Anchor(anchor()), Payload::Staff(profile())] {
        assert!(Payload::KINDS.contains(&payload.kind()));
    }
    assert!(Payload::KINDS.is_sorted());
}
