//! The rules of consents and their keys.

use super::*;
use crate::entry::Kind;
use crate::payload::Payload;

fn with_key(name: &str) -> Ground {
    let mut ground = Ground::new();
    let registration = ground.registration(name);
    ground.make_final("auth", &registration);
    ground
}

#[test]
fn only_auth_registers_a_consent_key_and_once() {
    let mut ground = Ground::new();
    let registration = ground.registration("k");
    for foreign in ["access-policy", "storage", "m1", "o1", "k"] {
        assert_eq!(ground.verdict(foreign, &registration), never(Rule::Signer), "{foreign}");
    }
    let txid = ground.make_final("auth", &registration);
    assert_eq!(ground.state.public_key(&kid("k")), Some(public("k")));
    let again = ground.registration("k");
    assert_eq!(ground.verdict("auth", &again), excluded(Rule::KeyKnown, txid));
}

#[test]
fn a_revoked_key_never_comes_back() {
    let mut ground = with_key("k");
    let revocation = ground.key_revocation("k");
    let txid = ground.make_final("k", &revocation);
    let again = ground.registration("k");
    assert_eq!(ground.verdict("auth", &again), excluded(Rule::KeyRevoked, txid));
    let twice = ground.key_revocation("k");
    assert_eq!(ground.verdict("auth", &twice), excluded(Rule::KeyRevoked, txid));
}

#[test]
fn a_key_is_revoked_by_auth_or_by_itself() {
    let mut ground = with_key("k");
    let revocation = ground.key_revocation("k");
    for foreign in ["access-policy", "storage", "m1", "o1", "another"] {
        assert_eq!(ground.verdict(foreign, &revocation), no_right(&ground, foreign), "{foreign}");
    }
    assert_eq!(ground.verdict("auth", &revocation), Ok(()));
    assert_eq!(ground.verdict("k", &revocation), Ok(()));
    let unknown = ground.key_revocation("unknown");
    assert_eq!(ground.verdict("auth", &unknown), not_yet(Rule::KeyUnknown));
}

#[test]
fn a_revoked_key_kills_its_grants_and_gives_no_more() {
    let mut ground = with_key("k");
    let granted = ground.grant("k", 1);
    ground.make_final("k", &granted);
    assert!(ground.in_force("k", 1));
    let (next, alteration) = (ground.grant("k", 2), ground.alteration("k", 1));
    let revocation = ground.key_revocation("k");
    let txid = ground.make_final("auth", &revocation);
    assert!(!ground.in_force("k", 1));
    assert_eq!(ground.verdict("k", &next), excluded(Rule::KeyRevoked, txid));
    assert_eq!(ground.verdict("k", &alteration), excluded(Rule::KeyRevoked, txid));
}

#[test]
fn nobody_but_the_key_grants_alters_or_revokes() {
    let mut ground = with_key("k");
    let granted = ground.grant("k", 1);
    for foreign in ["auth", "access-policy", "storage", "m1", "o1", "another"] {
        assert_eq!(ground.verdict(foreign, &granted), never(Rule::Signer), "{foreign}");
    }
    ground.make_final("k", &granted);
    let (alteration, revocation) = (ground.alteration("k", 1), ground.revocation("k", 1));
    for foreign in ["auth", "access-policy", "storage", "m1", "o1", "another"] {
        assert_eq!(ground.verdict(foreign, &alteration), never(Rule::Signer), "{foreign}");
        assert_eq!(ground.verdict(foreign, &revocation), never(Rule::Signer), "{foreign}");
    }
}

#[test]
fn an_unregistered_key_waits() {
    let mut ground = Ground::new();
    let (granted, revocation) = (ground.grant("k", 1), ground.revocation("k", 1));
    assert_eq!(ground.verdict("k", &granted), not_yet(Rule::KeyUnknown));
    assert_eq!(ground.verdict("k", &revocation), not_yet(Rule::KeyUnknown));
}

#[test]
fn events_come_in_the_order_of_their_numbers() {
    let mut ground = with_key("k");
    let first = ground.consent("k", 1);
    let fork = Consent { grant: grant(9), ..ground.consent("k", 9) };
    let txid = ground.make_final("k", &Payload::Grant(first));
    assert_eq!(ground.verdict("k", &Payload::Grant(fork)), excluded(Rule::SequenceTaken, txid));

    let next = ground.consent("k", 2);
    assert_eq!((next.seq, next.prev), (2, Some(txid)));
    let ahead = Consent { seq: 3, ..next.clone() };
    assert_eq!(ground.verdict("k", &Payload::Grant(ahead)), not_yet(Rule::SequenceAhead));
    let elsewhere = Consent { prev: Some(Digest::of(b"else")), ..next.clone() };
    assert_eq!(ground.verdict("k", &Payload::Grant(elsewhere)), excluded(Rule::Previous, txid));
    assert_eq!(ground.verdict("k", &Payload::Grant(next)), Ok(()));
}

#[test]
fn a_grant_begins_once_and_is_altered_only_after() {
    let mut ground = with_key("k");
    let early = ground.alteration("k", 1);
    assert_eq!(ground.verdict("k", &early), never(Rule::GrantUnknown));
    let granted = ground.grant("k", 1);
    let txid = ground.make_final("k", &granted);
    let again = ground.grant("k", 1);
    assert_eq!(ground.verdict("k", &again), excluded(Rule::GrantKnown, txid));
    let alteration = ground.alteration("k", 1);
    let altered = ground.make_final("k", &alteration);
    let entry = ground.state.grant(&kid("k"), &grant(1)).unwrap();
    assert_eq!((entry.seq, entry.txid), (2, altered));
    assert!(ground.in_force("k", 1));
}

#[test]
fn a_revocation_takes_effect_once_and_for_ever() {
    let mut ground = with_key("k");
    let granted = ground.grant("k", 1);
    ground.make_final("k", &granted);
    let revocation = ground.revocation("k", 1);
    let txid = ground.make_final("k", &revocation);
    assert!(!ground.in_force("k", 1));
    let again = ground.revocation("k", 1);
    assert_eq!(ground.verdict("k", &again), excluded(Rule::GrantRevoked, txid));
    let (alteration, anew) = (ground.alteration("k", 1), ground.grant("k", 1));
    assert_eq!(ground.verdict("k", &alteration), excluded(Rule::GrantRevoked, txid));
    assert_eq!(ground.verdict("k", &anew), excluded(Rule::GrantRevoked, txid));
    let other = ground.grant("k", 2);
    assert_eq!(ground.verdict("k", &other), Ok(()), "the key goes on");
}

#[test]
fn a_revocation_before_its_grant_keeps_the_grant_out() {
    let mut ground = with_key("k");
    let (granted, revocation) = (ground.grant("k", 1), ground.revocation("k", 1));
    let txid = ground.make_final("k", &revocation);
    assert_eq!(ground.verdict("k", &granted), excluded(Rule::GrantRevoked, txid));
    let key = ground.state.key(&kid("k")).unwrap();
    assert_eq!((key.seq, key.prev), (0, None), "a revocation takes no number");
}

#[test]
fn a_key_revokes_64_grants_that_were_never_seen_and_any_that_was() {
    let mut ground = with_key("k");
    let granted = ground.grant("k", 1);
    ground.make_final("k", &granted);
    for unseen in 0..64_u8 {
        let revocation = ground.revocation("k", 100 + unseen);
        ground.make_final("k", &revocation);
    }
    let one_more = ground.revocation("k", 200);
    assert_eq!(ground.verdict("k", &one_more), never(Rule::UnseenGrants));
    let seen = ground.revocation("k", 1);
    ground.make_final("k", &seen);
    assert!(!ground.in_force("k", 1));
    assert_eq!(ground.state.key(&kid("k")).unwrap().unseen, 64);
}

#[test]
fn a_revoked_key_may_still_revoke() {
    let mut ground = with_key("k");
    let granted = ground.grant("k", 1);
    ground.make_final("k", &granted);
    let revocation = ground.key_revocation("k");
    ground.make_final("k", &revocation);
    let revocation = ground.revocation("k", 1);
    assert_eq!(ground.verdict("k", &revocation), Ok(()));
}

#[test]
fn grants_of_two_keys_do_not_meet() {
    let mut ground = with_key("k");
    let registration = ground.registration("l");
    ground.make_final("auth", &registration);
    for name in ["k", "l"] {
        let granted = ground.grant(name, 1);
        ground.make_final(name, &granted);
    }
    let revocation = ground.revocation("l", 1);
    ground.make_final("l", &revocation);
    assert!(ground.in_force("k", 1));
    assert!(!ground.in_force("l", 1));
}

#[test]
fn the_state_root_proves_force_and_its_end() {
    let mut ground = with_key("k");
    let id = crate::entry::grant_id(&kid("k"), &grant(1));
    let place = Kind::Grant.key(&id);
    let absent = ground.state.prove(Kind::Grant, &id);
    let map = ground.state.roots().map;
    assert_eq!((absent.value, absent.proof.verify_absent(&map, &place)), (None, Ok(())));

    let granted = ground.grant("k", 1);
    ground.make_final("k", &granted);
    let roots = ground.state.roots();
    assert_eq!(roots.root(), ground.state.header().state_root);
    let present = ground.state.prove(Kind::Grant, &id);
    let value = present.value.unwrap();
    assert!(String::from_utf8(value.clone()).unwrap().contains(r#""status":"active""#));
    assert_eq!(present.proof.verify_present(&roots.map, &place, &Digest::of(&value)), Ok(()));
}
