//! What transactions rely on is found in the blocks that made it.

use std::collections::BTreeSet;

use super::*;
use crate::read_set::heights;

fn read_set(ground: &Ground, signer: &str, payload: &Payload) -> BTreeSet<u64> {
    heights(&ground.state, std::iter::once(signed(signer, payload).as_ref()))
}

#[test]
fn a_consent_relies_on_its_keys_registration_on_the_last_event_and_on_its_grant() {
    let mut ground = Ground::new();
    let registration = ground.registration("k");
    assert!(read_set(&ground, "auth", &registration).is_empty(), "the genesis lies in no block");
    ground.make_final("auth", &registration);
    let first = ground.grant("k", 1);
    assert_eq!(read_set(&ground, "k", &first), BTreeSet::from([1]));
    ground.make_final("k", &first);
    let second = ground.grant("k", 2);
    ground.make_final("k", &second);
    ground.block(&[]);
    let altered = ground.alteration("k", 1);
    assert_eq!(read_set(&ground, "k", &altered), BTreeSet::from([1, 2, 3]));
    let revoked = ground.key_revocation("k");
    assert_eq!(read_set(&ground, "auth", &revoked), BTreeSet::from([1, 3]));
    // A group relies on what each of it relies on.
    let other = ground.registration("other");
    ground.make_final("auth", &other);
    let group = [signed("k", &altered), signed("other", &ground.grant("other", 3))];
    let read_set = heights(&ground.state, group.iter().map(AsRef::as_ref));
    assert_eq!(read_set, BTreeSet::from([1, 2, 3, 5]));
}
