//! A chain of one node with everybody's keys at hand, and what a store keeps of it.

use hbc_chain::checkpoint::{Certificate, Checkpoint};
use hbc_chain::payload::{
    Anchor, Consent, ConsentKey, Erase, KeyStatus, MemberVote, NodeEvent, Payload, Receipts, Release, Revoke,
    ServiceKeyChange, Staff, StaffStatus,
};
use hbc_chain::proof::{self, Document, Trust};
use hbc_types::account::{Custody, ServiceRole};
use hbc_types::keys::{SignatureBytes, possession_text};

use super::super::*;
use crate::domain::tests::{START_MS, genesis, grant, kid, public, secret, segments, signed};

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
        let key = course.key_of("consent", "auth", true);
        let (grant, receipts) = (course.grant(), course.receipts("access-policy", "old"));
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
        let revoked = course.key_of("consent", "consent", false);
        course.seal(&[receipts, revoked]);
        course.seal(&[]);
        course
    }

    /// The eventful one and, after it, something of every type that it lacks, with voices that complete a change, that
    /// are taken back, and that are left over.
    pub fn complete() -> Self {
        let mut course = Self::eventful();
        let (first, second) = (course.anchor(&["a", "b"]), course.staff("auth", StaffStatus::Active));
        let third = course.staff("o1", StaffStatus::Active);
        course.seal(&[first, second, third]);
        let (last, one) =
            (course.staff("o2", StaffStatus::Active), course.ballot("m1", "parameter:min_spacing_ms", "5"));
        let other = course.ballot("m2", "parameter:min_spacing_ms", "5");
        course.seal(&[last, one, other]);
        let mut txs = vec![course.ballot("m5", "parameter:min_spacing_ms", "5"), course.release("2027-01")];
        let key = public("o4").to_string();
        txs.extend(["m1", "m2", "m3 anew"].map(|member| course.ballot(member, "operator:o4", &key)));
        course.seal(&txs);
        course.consents();
        course.events();
        let (suspended, erased) =
            (course.staff("o4", StaffStatus::Suspended), course.erase(&["a", "c"], &[]));
        course.seal(&[suspended, erased]);
        let (ended, revoked) =
            (course.staff("o1", StaffStatus::Revoked), course.key_of("second", "auth", false));
        course.seal(&[ended, revoked]);
        course
    }

    /// A key that gives, alters and revokes, all it can in one block.
    fn consents(&mut self) {
        let registration = self.key_of("second", "auth", true);
        let mut prev = None;
        let mut txs = vec![registration, self.revocation(3)];
        for (seq, (number, alters)) in (1..).zip([(1, false), (1, true), (2, false)]) {
            let consent = Consent {
                chain: self.chain.id(),
                commitment: Digest::of(&[number]),
                custody: Custody::Server,
                grant: grant(number),
                iat: self.iat(),
                key: kid("second"),
                prev,
                seq,
            };
            let payload = if alters { Payload::Alter(consent) } else { Payload::Grant(consent) };
            let tx = signed("second", &payload);
            prev = Some(tx.txid());
            txs.push(tx);
        }
        self.seal(&txs);
        let (revoked, erased) = (self.revocation(1), self.erase(&["a"], &["record"]));
        self.seal(&[revoked, erased]);
    }

    /// A node's word about itself, two about another, and voices without company.
    fn events(&mut self) {
        let txs = [self.event("m1", "m5", "attacked"), self.ballot("m1", "parameter:heartbeat_ms", "5000")];
        self.seal(&txs);
        let txs = [
            self.event("m2", "m5", "attacked"),
            self.event("m5", "m5", "healed"),
            self.event("m1", "m2", "equivocation"),
            self.ballot("m1", "parameter:heartbeat_ms", "6000"),
            self.ballot("m5", "parameter:heartbeat_ms", "7000"),
        ];
        self.seal(&txs);
    }

    fn ballot(&mut self, by: &str, subject: &str, value: &str) -> Arc<Tx> {
        let (chain, nonce) = (self.chain.id(), self.chain.state().changes(subject));
        let (iat, subject, value) = (self.iat(), subject.to_owned(), value.to_owned());
        signed(by, &Payload::MemberVote(MemberVote { chain, iat, nonce, subject, value }))
    }

    fn event(&mut self, by: &str, node: &str, event: &str) -> Arc<Tx> {
        let (chain, iat, evidence) = (self.chain.id(), self.iat(), Digest::of(event.as_bytes()));
        let (node, event) = (node.to_owned(), event.to_owned());
        signed(by, &Payload::NodeEvent(NodeEvent { chain, event, evidence, height: 3, iat, node }))
    }

    fn anchor(&mut self, roots: &[&str]) -> Arc<Tx> {
        self.anchor_of(20_000, 20_031, roots)
    }

    pub fn anchor_of(&mut self, day0: i32, day1: i32, roots: &[&str]) -> Arc<Tx> {
        let segments = segments(roots);
        let (chain, iat) = (self.chain.id(), self.iat());
        signed("storage", &Payload::Anchor(Anchor { chain, day0, day1, iat, segments }))
    }

    fn erase(&mut self, roots: &[&str], records: &[&str]) -> Arc<Tx> {
        let digests = |names: &[&str]| names.iter().map(|name| Digest::of(name.as_bytes())).collect();
        let (chain, iat, commitment) = (self.chain.id(), self.iat(), Digest::of(b"erasure"));
        let (roots, records) = (digests(roots), digests(records));
        signed("policy anew", &Payload::Erase(Erase { chain, commitment, iat, records, roots }))
    }

    fn release(&mut self, period: &str) -> Arc<Tx> {
        let (chain, iat, digest) = (self.chain.id(), self.iat(), Digest::of(period.as_bytes()));
        signed("storage", &Payload::Release(Release { chain, digest, iat, period: period.to_owned() }))
    }

    fn staff(&mut self, by: &str, status: StaffStatus) -> Arc<Tx> {
        let nonce = self.chain.state().changes(&format!("staff:{}", kid("person")));
        let staff = Staff {
            chain: self.chain.id(),
            commitment: Digest::of(b"person"),
            iat: self.iat(),
            key: kid("person"),
            nonce,
            organisation: "Spital Süd".to_owned(),
            public: public("person"),
            role: "doctor".to_owned(),
            status,
        };
        signed(by, &Payload::Staff(staff))
    }

    fn revocation(&mut self, number: u8) -> Arc<Tx> {
        let (chain, iat) = (self.chain.id(), self.iat());
        signed("second", &Payload::Revoke(Revoke { chain, grant: grant(number), iat, key: kid("second") }))
    }

    /// A consent key is registered or revoked.
    fn key_of(&mut self, name: &str, by: &str, active: bool) -> Arc<Tx> {
        let (chain, key, iat) = (self.chain.id(), kid(name), self.iat());
        let pop = active.then(|| SignatureBytes::sign(&secret(name), &possession_text(&chain, &key)));
        let status = if active { KeyStatus::Active } else { KeyStatus::Revoked };
        let public = active.then(|| public(name));
        signed(by, &Payload::ConsentKey(ConsentKey { chain, iat, key, pop, public, status }))
    }

    pub fn certified(&self, height: u64) -> CertifiedHeader {
        let (block, note) = &self.blocks[usize::try_from(height).unwrap()];
        CertifiedHeader { header: block.header, note: note.clone() }
    }

    /// The state after a block, as it is made anew.
    pub fn state_at(&self, height: u64) -> (State, Before) {
        let mut state = State::genesis(self.chain.genesis()).unwrap();
        let mut before = Before::of(&state);
        for (block, _) in self.blocks.iter().skip(1).take(usize::try_from(height).unwrap()) {
            before = Before::of(&state);
            replay_block(&mut state, block).unwrap();
        }
        (state, before)
    }

    pub fn check(&self, document: &Document) -> proof::Verified {
        let bytes = document.to_bytes().unwrap();
        for trust in
            [Trust::Genesis(Box::new((**self.chain.genesis()).clone())), Trust::Chain(self.chain.id())]
        {
            assert!(proof::verify(&bytes, &trust).unwrap().pinned);
        }
        proof::verify(&bytes, &Trust::Nothing).unwrap()
    }
}
