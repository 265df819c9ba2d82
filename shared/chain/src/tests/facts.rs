//! The rules of anchors, erasures, receipts and releases.

use super::*;
use crate::entry::Kind;
use crate::payload::{Erase, Receipts, Release};

impl Ground {
    fn receipts(&mut self, root: &str) -> Payload {
        let iat = self.iat();
        Payload::Receipts(Receipts {
            chain: self.chain,
            count: 3,
            iat,
            rights: None,
            root: Digest::of(root.as_bytes()),
        })
    }

    fn release(&mut self, digest: &str) -> Payload {
        Payload::Release(Release {
            chain: self.chain,
            digest: Digest::of(digest.as_bytes()),
            iat: self.iat(),
            period: "2026-W47".to_owned(),
        })
    }

    fn erasure(&mut self, certificate: &str, record: &str) -> Payload {
        Payload::Erase(Erase {
            chain: self.chain,
            commitment: Digest::of(certificate.as_bytes()),
            iat: self.iat(),
            records: vec![Digest::of(record.as_bytes())],
            roots: vec![Digest::of(b"root")],
        })
    }
}

#[test]
fn each_fact_has_one_service_that_may_state_it() {
    let mut ground = Ground::new();
    let facts = [
        ("storage", ground.anchor(&["a"])),
        ("storage", ground.release("r")),
        ("access-policy", ground.receipts("r")),
        ("access-policy", ground.erasure("c", "r")),
    ];
    for (rightful, payload) in &facts {
        for signer in ["auth", "access-policy", "storage", "m1", "o1", "nobody"] {
            let expected = if signer == *rightful { Ok(()) } else { no_right(&ground, signer) };
            assert_eq!(ground.verdict(signer, payload), expected, "{} by {signer}", payload.kind());
        }
    }
}

#[test]
fn a_revoked_service_key_states_nothing() {
    let mut ground = Ground::new();
    ground.service_votes(&["m1", "m2", "m3"], "storage", ServiceRole::Storage, KeyStatus::Revoked);
    let anchor = ground.anchor(&["a"]);
    let ended = ground.state.service(&kid("storage")).unwrap().txid.unwrap();
    assert_eq!(ground.verdict("storage", &anchor), excluded(Rule::Signer, ended));
}

#[test]
fn no_root_is_anchored_twice() {
    let mut ground = Ground::new();
    let anchor = ground.anchor(&["a", "b"]);
    let txid = ground.make_final("storage", &anchor);
    let overlapping = ground.anchor(&["c", "b"]);
    assert_eq!(ground.verdict("storage", &overlapping), excluded(Rule::Seen, txid));
    let proved = ground.state.prove(Kind::Segment, &Digest::of(b"c").to_string());
    assert_eq!(proved.value, None, "a refused transaction leaves nothing behind");
    let other = ground.anchor(&["c"]);
    ground.make_final("storage", &other);
    let leaves = ground.state.anchors().leaves();
    let places: Vec<_> = leaves.iter().map(|leaf| (leaf.height, leaf.segment)).collect();
    assert_eq!(places, [(1, 0), (1, 1), (2, 0)], "one for each segment");
    assert_eq!(leaves[0].txid, txid);
}

#[test]
fn anchors_change_the_state_root() {
    let mut ground = Ground::new();
    let before = ground.state.roots();
    let anchor = ground.anchor(&["a"]);
    ground.make_final("storage", &anchor);
    let leaf = ground.state.anchors().leaves()[0];
    assert_ne!(ground.state.roots().anchors, before.anchors);
    assert_eq!(ground.state.roots().anchors, leaf.leaf_hash());
    assert_eq!(ground.state.roots().root(), ground.state.header().state_root);
}

#[test]
fn receipts_and_releases_stand_once() {
    let mut ground = Ground::new();
    let first = ground.receipts("r");
    let txid = ground.make_final("access-policy", &first);
    let again = ground.receipts("r");
    assert_eq!(ground.verdict("access-policy", &again), excluded(Rule::Seen, txid));
    let first = ground.release("r");
    let txid = ground.make_final("storage", &first);
    let again = ground.release("r");
    assert_eq!(ground.verdict("storage", &again), excluded(Rule::Seen, txid));
}

#[test]
fn the_first_erasure_of_a_record_is_the_one_that_stays() {
    let mut ground = Ground::new();
    let first = ground.erasure("first", "x");
    let txid = ground.make_final("access-policy", &first);
    let second = ground.erasure("second", "y");
    ground.make_final("access-policy", &second);
    let value = |record: &str| {
        let id = Digest::of(record.as_bytes()).to_string();
        String::from_utf8(ground.state.prove(Kind::Erased, &id).value.unwrap()).unwrap()
    };
    assert!(value("root").contains(&txid.to_string()));
    assert!(value("x").contains(&txid.to_string()));
    assert!(!value("y").contains(&txid.to_string()));
}
