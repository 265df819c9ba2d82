//! Proofs out of a chain whose members, keys and services come and go, each checked as a stranger would check it.

mod anchors;

use super::*;
use crate::entry::{Kind, grant_id};
use crate::fixtures::{Course, genesis, grant, kid};
use crate::proof::tlog::TlogProof;
use crate::proof::{self, Content, Document, Verdict};
use crate::rtree::Query;

#[test]
fn what_keys_signed_that_are_gone_now_is_still_proved() {
    let course = Course::eventful();
    let mut signers = std::collections::BTreeSet::new();
    for (tx, height) in &course.transactions {
        let place = course.chain.state().place(&tx.txid()).unwrap();
        assert_eq!(place.height, *height);
        let [parent, block] = [*height - 1, *height].map(|height| course.certified(height));
        let proof = course.chain.prove(&place, tx.text().to_owned(), block.header, parent.header);
        let verified = course.check(&Document::Transaction(proof.unwrap())).transaction.unwrap();
        assert_eq!(verified.certified.height, course.chain.height());
        let text = TlogProof::parse(&course.chain.prove_as_text(&place, &block).unwrap()).unwrap();
        let members = course.chain.members_at(*height);
        assert_eq!(text.verify(tx.bytes(), course.chain.origin(), members), Ok(()));
        assert_eq!((verified.txid, verified.height), (tx.txid(), *height));
        signers.insert(verified.kid);
    }
    for gone in ["m4", "m3", "access-policy", "consent"] {
        assert!(signers.contains(&kid(gone)), "{gone} signed something");
    }
}

#[test]
fn every_two_heights_are_consistent_with_every_change_of_members_between() {
    let course = Course::eventful();
    let tip = course.chain.height();
    for to in 1..=tip {
        assert!(course.chain.is_certified(&course.certified(to)));
        for from in 1..=to {
            let proof = course.chain.prove_consistency(course.certified(from), course.certified(to)).unwrap();
            let content = course.check(&Document::Consistency(proof)).content;
            let Content::Consistency { from: earlier, to: later } = content else { panic!("{content:?}") };
            assert_eq!((earlier.height, later.height), (from, to));
            assert_eq!(later.members, course.chain.members_at(to).len());
        }
        let backwards = course.chain.prove_consistency(course.certified(to), course.certified(to - 1));
        assert_eq!(backwards, None);
    }
    let counts: Vec<usize> = (1..=tip).map(|height| course.chain.members_at(height).len()).collect();
    assert_eq!(counts, [4, 4, 3, 3, 4, 4, 4, 4, 4]);
    // A note under another height's members, or of another block, is none of this chain's.
    let mut mixed = course.certified(5);
    mixed.note = course.certified(4).note;
    assert!(!course.chain.is_certified(&mixed));
}

#[test]
fn the_state_is_proved_at_every_height() {
    let course = Course::eventful();
    let tip = course.chain.height();
    let id = grant_id(&kid("consent"), &grant(1));
    for height in 1..=tip {
        let (state, before) = course.state_at(height);
        let certified = course.certified(height);
        let prove = |entries: &[EntryName]| {
            let proof = course.chain.prove_state(&state, &before, certified.clone(), entries).unwrap();
            let content = course.check(&Document::State(proof)).content;
            let Content::State(facts) = content else { panic!("{content:?}") };
            assert_eq!(facts.at.certified.height, height);
            facts.verdict
        };
        let verdict = prove(&[(Kind::Grant, id.clone()), (Kind::Key, kid("consent").to_string())]);
        let revoked = Verdict::NotInForce("its key was revoked");
        assert_eq!(verdict, if height < 8 { Verdict::InForce } else { revoked });
        let Verdict::Entry(members) = prove(&[(Kind::Members, String::new())]) else { panic!("members") };
        let next = course.chain.members_at(height + 1);
        assert_eq!(members, serde_json::to_value(next).unwrap());
        let Verdict::Entry(service) = prove(&[(Kind::Service, kid("access-policy").to_string())]) else {
            panic!("a service")
        };
        assert_eq!(service["status"], if height < 7 { "active" } else { "revoked" });
        let Verdict::Entry(parameters) = prove(&[(Kind::Parameters, String::new())]) else {
            panic!("parameters")
        };
        assert_eq!(parameters["approvals"], 2);
        assert_eq!(prove(&[(Kind::Staff, kid("nobody").to_string())]), Verdict::Absent);
        let other_height = course.certified(if height == 1 { 2 } else { height - 1 });
        assert_eq!(course.chain.prove_state(&state, &before, other_height, &[]), None);
    }
}

#[test]
fn an_answer_about_anchors_stays_within_its_limit() {
    let course = Course::eventful();
    let query = Query { from: 0, to: 100, as_of: 3 };
    let proof = course.chain.anchors_view().unwrap().prove(query, 1_000).unwrap();
    let content = course.check(&Document::Anchors(proof)).content;
    assert!(matches!(content, Content::Anchors(facts) if facts.anchors.is_empty()));
    assert!(Chain::found(genesis()).unwrap().anchors_view().is_none(), "block 0 is certified by nobody");
}
