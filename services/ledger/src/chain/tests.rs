//! Proofs out of a chain whose members, keys and services come and go, each checked as a stranger would check it.

use hbc_types::account::{Custody, ServiceRole};
use hbc_types::chain::checkpoint::{Certificate, Checkpoint};
use hbc_types::chain::entry::grant_id;
use hbc_types::chain::keys::{SignatureBytes, possession_text};
use hbc_types::chain::payload::{
    Consent, ConsentKey, KeyStatus, MemberVote, Payload, Receipts, ServiceKeyChange,
};
use hbc_types::chain::proof::{self, Content, Document, Trust, Verdict};
use hbc_types::chain::rtree::Query;

use super::*;
use crate::domain::tests::{START_MS, genesis, grant, kid, public, secret, signed};

/// A chain, and what a store keeps of it.
pub struct Course {
    pub chain: Chain,
    pub blocks: Vec<(Block, String)>,
    /// Names of the keys that sign for the members now.
    members: Vec<&'static str>,
    /// Every transaction, with its height.
    pub transactions: Vec<(Arc<Tx>, u64)>,
    iat: u64,
}

impl Course {
    pub fn new() -> Self {
        let chain = Chain::found(genesis()).unwrap();
        let block = Block { header: *chain.tip(), transactions: Vec::new() };
        let members = vec!["m1", "m2", "m3", "m4"];
        Self { chain, blocks: vec![(block, String::new())], members, transactions: Vec::new(), iat: START_MS }
    }

    fn iat(&mut self) -> u64 {
        self.iat += 1;
        self.iat
    }

    /// Makes these final, certified by the members of this height.
    pub fn seal(&mut self, txs: &[Arc<Tx>]) {
        let now = self.chain.tip().time_ms + 1_000;
        let now = Timestamp::from_ms(i64::try_from(now).unwrap());
        let draft = self.chain.draft(txs, now, &kid(self.members[0]));
        let next = draft.mine(&AtomicBool::new(false)).unwrap();
        assert_eq!(next.txids().count(), txs.len(), "all fit");
        let header = next.block.header;
        let note = self.sign(&header, &self.members, self.chain.state().members());
        self.blocks.push((next.block.clone(), note.clone()));
        self.transactions.extend(txs.iter().map(|tx| (Arc::clone(tx), header.height)));
        assert!(self.chain.extend(next, note));
    }

    fn sign(&self, header: &Header, signers: &[&str], members: &[Named]) -> String {
        let checkpoint = Checkpoint {
            origin: self.chain.origin().to_owned(),
            log_size: header.log_size,
            log_root: header.log_root,
            height: header.height,
            round: 0,
            block: header.hash(),
        };
        let votes: Vec<_> = signers.iter().map(|name| (kid(name), checkpoint.sign(&secret(name)))).collect();
        Certificate::assemble(checkpoint, &votes, members).to_note()
    }

    /// The note of a height by these signers, each under its own name, members or not.
    pub fn note_by(&self, height: usize, signers: &[&str]) -> String {
        let members: Vec<Named> =
            signers.iter().map(|name| Named { key: public(name), name: (*name).to_owned() }).collect();
        self.sign(&self.blocks[height].0.header, signers, &members)
    }

    fn vote(&mut self, voters: &[&str], name: &str, key: Option<&str>) {
        let subject = format!("member:{name}");
        let (nonce, chain) = (self.chain.state().changes(&subject), self.chain.id());
        let value = key.map_or_else(|| "none".to_owned(), |key| public(key).to_string());
        let votes: Vec<Arc<Tx>> = voters
            .iter()
            .map(|voter| {
                let (subject, value) = (subject.clone(), value.clone());
                signed(
                    voter,
                    &Payload::MemberVote(MemberVote { chain, iat: self.iat(), nonce, subject, value }),
                )
            })
            .collect();
        self.seal(&votes);
    }

    pub fn receipts(&mut self, by: &str, root: &str) -> Arc<Tx> {
        let (chain, root) = (self.chain.id(), Digest::of(root.as_bytes()));
        signed(by, &Payload::Receipts(Receipts { chain, count: 1, iat: self.iat(), root }))
    }

    fn key(&mut self, status: KeyStatus) -> Arc<Tx> {
        let (chain, key) = (self.chain.id(), kid("consent"));
        let active = status == KeyStatus::Active;
        let pop = SignatureBytes::sign(&secret("consent"), &possession_text(&chain, &key));
        let pop = active.then_some(pop);
        let public = active.then(|| public("consent"));
        let payload = ConsentKey { chain, iat: self.iat(), key, pop, public, status };
        signed(if active { "auth" } else { "consent" }, &Payload::ConsentKey(payload))
    }

    fn grant(&mut self) -> Arc<Tx> {
        let consent = Consent {
            chain: self.chain.id(),
            commitment: Digest::of(b"body"),
            custody: Custody::Client,
            grant: grant(1),
            iat: self.iat(),
            key: kid("consent"),
            prev: None,
            seq: 1,
        };
        signed("consent", &Payload::Grant(consent))
    }

    fn service(&mut self, voters: &[&str], name: &str, status: KeyStatus) {
        let nonce = self.chain.state().changes(&format!("service:{}", kid(name)));
        let (chain, role) = (self.chain.id(), ServiceRole::AccessPolicy);
        let votes: Vec<Arc<Tx>> = voters
            .iter()
            .map(|voter| {
                let (key, public, iat) = (kid(name), public(name), self.iat());
                let change = ServiceKeyChange { chain, iat, key, nonce, public, role, status };
                signed(voter, &Payload::ServiceKey(change))
            })
            .collect();
        self.seal(&votes);
    }

    /// A grant, then member 4 leaves, member 5 comes, member 3 has a new key, the service has a new key and the consent
    /// key is revoked: with something of everybody's in between.
    pub fn eventful() -> Self {
        let mut course = Self::new();
        let (key, grant, receipts) =
            (course.key(KeyStatus::Active), course.grant(), course.receipts("access-policy", "old"));
        course.seal(&[key, grant, receipts]);
        course.vote(&["m1", "m2", "m4"], "m4", None);
        course.members = vec!["m1", "m2", "m3"];
        course.seal(&[]);
        course.vote(&["m1", "m2", "m3"], "m5", Some("m5"));
        course.members = vec!["m1", "m2", "m3", "m5"];
        course.vote(&["m1", "m3", "m5"], "m3", Some("m3 anew"));
        course.members = vec!["m1", "m2", "m3 anew", "m5"];
        course.service(&["m1", "m2", "m5"], "policy anew", KeyStatus::Active);
        course.service(&["m2", "m3 anew", "m5"], "access-policy", KeyStatus::Revoked);
        let receipts = course.receipts("policy anew", "new");
        let revoked = course.key(KeyStatus::Revoked);
        course.seal(&[receipts, revoked]);
        course.seal(&[]);
        course
    }

    fn certified(&self, height: u64) -> CertifiedHeader {
        let (block, note) = &self.blocks[usize::try_from(height).unwrap()];
        CertifiedHeader { header: block.header, note: note.clone() }
    }

    /// The state after a block, as it is made anew.
    fn state_at(&self, height: u64) -> State {
        let mut state = State::genesis(self.chain.genesis()).unwrap();
        for (block, _) in self.blocks.iter().skip(1).take(usize::try_from(height).unwrap()) {
            replay_block(&mut state, block).unwrap();
        }
        state
    }

    fn check(&self, document: &Document) -> proof::Verified {
        let bytes = document.to_bytes().unwrap();
        for trust in
            [Trust::Genesis(Box::new((**self.chain.genesis()).clone())), Trust::Chain(self.chain.id())]
        {
            assert!(proof::verify(&bytes, &trust).unwrap().pinned);
        }
        proof::verify(&bytes, &Trust::Nothing).unwrap()
    }
}

#[test]
fn what_keys_signed_that_are_gone_now_is_still_proved() {
    let course = Course::eventful();
    let mut signers = std::collections::BTreeSet::new();
    for (tx, height) in &course.transactions {
        let place = course.chain.state().place(&tx.txid()).unwrap();
        assert_eq!(place.height, *height);
        let parent = course.certified(*height - 1).header;
        let proof = course.chain.prove(&place, tx.text().to_owned(), course.certified(*height), parent);
        let verified = course.check(&Document::Transaction(proof.unwrap())).transaction.unwrap();
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
        let state = course.state_at(height);
        let certified = course.certified(height);
        let prove = |entries: &[EntryName]| {
            let proof = course.chain.prove_state(&state, certified.clone(), entries).unwrap();
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
        assert_eq!(course.chain.prove_state(&state, other_height, &[]), None);
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
