//! The rules of who acts for an organisation, and of operators' orders.

use super::*;
use crate::entry::Kind;
use crate::payload::{Affiliation, AffiliationStatus, Order, OrderKind, StaffStatus};

impl Ground {
    fn affiliation(&mut self, organisation: &str, name: &str, status: AffiliationStatus) -> Payload {
        let known = self.state.affiliation(&kid(organisation), &kid(name));
        let nonce = known.map_or(0, |entry| entry.count);
        Payload::Affiliation(Affiliation {
            chain: self.chain,
            commitment: Digest::of(b"salted function"),
            iat: self.iat(),
            key: kid(name),
            nonce,
            organisation: kid(organisation),
            status,
        })
    }

    fn acts_for(&self, organisation: &str, name: &str) -> bool {
        let entry = self.state.affiliation(&kid(organisation), &kid(name));
        entry.is_some_and(|entry| entry.status == AffiliationStatus::Active)
    }

    fn order(&mut self, kind: OrderKind) -> Payload {
        let mut order = Order {
            chain: self.chain,
            commitment: Digest::of(b"salted reason"),
            iat: self.iat(),
            kind,
            nonce: 0,
            subject: Digest::of(b"subject"),
        };
        order.nonce = self.state.changes(&order.about());
        Payload::Order(order)
    }
}

fn with_staff(names: &[&str]) -> Ground {
    let mut ground = Ground::new();
    for name in names {
        ground.staff_votes(&["auth", "o1", "o2"], name, StaffStatus::Active);
    }
    ground
}

#[test]
fn it_begins_with_the_organisations_word_and_ends_with_either_sides() {
    let mut ground = with_staff(&["hospital", "doctor"]);
    let begin = ground.affiliation("hospital", "doctor", AffiliationStatus::Active);
    for stranger in ["doctor", "auth", "o1", "m1", "nobody"] {
        assert_eq!(ground.verdict(stranger, &begin), never(Rule::Signer), "{stranger}");
    }
    for side in ["hospital", "doctor"] {
        let begin = ground.affiliation("hospital", "doctor", AffiliationStatus::Active);
        ground.make_final("hospital", &begin);
        assert!(ground.acts_for("hospital", "doctor"));
        let end = ground.affiliation("hospital", "doctor", AffiliationStatus::Ended);
        assert_eq!(ground.verdict("o1", &end), never(Rule::Signer));
        let ended = ground.make_final(side, &end);
        assert!(!ground.acts_for("hospital", "doctor"));
        let again = ground.affiliation("hospital", "doctor", AffiliationStatus::Ended);
        assert_eq!(ground.verdict(side, &again), never(Rule::NoChange));
        let mut late = ground.affiliation("hospital", "doctor", AffiliationStatus::Active);
        if let Payload::Affiliation(late) = &mut late {
            late.nonce -= 1;
        }
        assert_eq!(ground.verdict("hospital", &late), excluded(Rule::NonceTaken, ended));
    }
}

#[test]
fn both_sides_have_an_active_staff_profile() {
    let mut ground = with_staff(&["hospital", "doctor"]);
    let unknown = ground.affiliation("hospital", "somebody", AffiliationStatus::Active);
    assert_eq!(ground.verdict("hospital", &unknown), not_yet(Rule::StaffUnknown));
    let foreign = ground.affiliation("clinic", "doctor", AffiliationStatus::Active);
    assert_eq!(ground.verdict("clinic", &foreign), not_yet(Rule::StaffUnknown));
    ground.staff_votes(&["o1"], "hospital", StaffStatus::Suspended);
    let begin = ground.affiliation("hospital", "doctor", AffiliationStatus::Active);
    assert_eq!(ground.verdict("hospital", &begin), not_yet(Rule::StaffUnknown));
    ground.staff_votes(&["o1"], "doctor", StaffStatus::Revoked);
    ground.staff_votes(&["auth", "o1", "o2"], "hospital", StaffStatus::Active);
    let revoked = ground.state.staff(&kid("doctor")).unwrap().txid;
    let begin = ground.affiliation("hospital", "doctor", AffiliationStatus::Active);
    assert_eq!(ground.verdict("hospital", &begin), excluded(Rule::Ended, revoked));
}

#[test]
fn an_order_takes_as_many_operators_as_an_approval_and_nobody_else() {
    let mut ground = Ground::new();
    let order = ground.order(OrderKind::MisuseLifted);
    for stranger in ["auth", "m1", "storage"] {
        assert_eq!(ground.verdict(stranger, &order), never(Rule::Signer), "{stranger}");
    }
    let id = crate::entry::order_id(OrderKind::MisuseLifted, &Digest::of(b"subject"));
    let stands = |ground: &Ground| ground.state.prove(Kind::Order, &id).value.is_some();
    ground.make_final("o1", &order);
    assert!(!stands(&ground));
    let other = ground.order(OrderKind::AppRegistered);
    ground.make_final("o2", &other);
    assert!(!stands(&ground), "another kind is another order");
    let order = ground.order(OrderKind::MisuseLifted);
    ground.make_final("o2", &order);
    assert!(stands(&ground));
    assert!(ground.verdict("o1", &order).is_err(), "its nonce is taken");
    let next = ground.order(OrderKind::MisuseLifted);
    assert_eq!(ground.verdict("o1", &next), Ok(()));
}
