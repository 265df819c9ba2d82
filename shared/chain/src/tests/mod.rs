//! The rules, tried one by one: each test here fails when its rule is dropped.

mod affiliation;
mod block;
mod consent;
mod facts;
mod read_set;
mod schedules;
mod votes;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hbc_types::account::{Custody, ServiceRole};
use hbc_types::keys::{PublicKey, SignatureBytes, possession_text};
use hbc_types::{Digest, Timestamp};

use crate::block::{Built, build_block};
use crate::fixtures::{START_MS, genesis, grant, kid, named, public, secret, segments, signed};
use crate::genesis::{Genesis, Parameters};
use crate::header::Block;
use crate::payload::{Anchor, Consent, ConsentKey, KeyStatus, MemberVote, Payload, Revoke};
use crate::rules::{Refusal, Rule};
use crate::state::{Checked, State};
use crate::tx::Tx;

/// A chain of one node, with everybody's keys at hand.
pub struct Ground {
    pub state: State,
    pub chain: Digest,
    pub blocks: Vec<Block>,
    iat: u64,
}

impl Ground {
    pub fn new() -> Self {
        Self::of(&genesis())
    }

    pub fn of(genesis: &Genesis) -> Self {
        let state = State::genesis(genesis).unwrap();
        Self { chain: state.chain(), state, blocks: Vec::new(), iat: START_MS }
    }

    /// The clock: a second per block.
    pub fn now(&self) -> Timestamp {
        let ms = self.state.header().time_ms + 1000;
        Timestamp::from_ms(i64::try_from(ms).unwrap())
    }

    /// A time of signing that no other transaction has.
    pub fn iat(&mut self) -> u64 {
        self.iat += 1;
        self.iat
    }

    /// What the rules say about a transaction in the next block, alone.
    pub fn verdict(&self, signer: &str, payload: &Payload) -> Result<(), Refusal> {
        self.state.draft(self.now().unsigned_ms()).apply(&signed(signer, payload))
    }

    pub fn build(&self, txs: &[Arc<Tx>]) -> Built {
        build_block(&self.state, txs, self.now(), &kid("m1"))
    }

    pub fn mined(&self, txs: &[Arc<Tx>]) -> (Block, Checked) {
        let built = self.build(txs);
        let mined = built.header.mine(&AtomicBool::new(false)).unwrap();
        built.finish(mined)
    }

    /// Makes these final, all of them, in one block.
    pub fn block(&mut self, txs: &[Arc<Tx>]) {
        let (block, checked) = self.mined(txs);
        assert_eq!(checked.txs.len(), txs.len(), "all fit");
        self.state.commit(checked).unwrap();
        self.blocks.push(block);
    }

    /// Makes one transaction final.
    pub fn make_final(&mut self, signer: &str, payload: &Payload) -> Digest {
        let tx = signed(signer, payload);
        self.block(&[Arc::clone(&tx)]);
        tx.txid()
    }

    pub fn registration(&mut self, name: &str) -> Payload {
        let text = possession_text(&self.chain, &kid(name));
        Payload::ConsentKey(ConsentKey {
            chain: self.chain,
            iat: self.iat(),
            key: kid(name),
            pop: Some(SignatureBytes::sign(&secret(name), &text)),
            public: Some(public(name)),
            status: KeyStatus::Active,
        })
    }

    pub fn key_revocation(&mut self, name: &str) -> Payload {
        Payload::ConsentKey(ConsentKey {
            chain: self.chain,
            iat: self.iat(),
            key: kid(name),
            pop: None,
            public: None,
            status: KeyStatus::Revoked,
        })
    }

    /// The key's next event, as the state stands.
    pub fn consent(&mut self, name: &str, number: u8) -> Consent {
        let (seq, prev) = self.state.key(&kid(name)).map_or((0, None), |key| (key.seq, key.prev));
        Consent {
            chain: self.chain,
            commitment: Digest::of(&[number]),
            custody: Custody::Server,
            grant: grant(number),
            iat: self.iat(),
            key: kid(name),
            prev,
            seq: seq + 1,
        }
    }

    pub fn grant(&mut self, name: &str, number: u8) -> Payload {
        Payload::Grant(self.consent(name, number))
    }

    pub fn alteration(&mut self, name: &str, number: u8) -> Payload {
        Payload::Alter(self.consent(name, number))
    }

    pub fn revocation(&mut self, name: &str, number: u8) -> Payload {
        let iat = self.iat();
        Payload::Revoke(Revoke { chain: self.chain, grant: grant(number), iat, key: kid(name) })
    }

    pub fn anchor(&mut self, roots: &[&str]) -> Payload {
        let segments = segments((20_000, 20_001), roots);
        Payload::Anchor(Anchor { chain: self.chain, iat: self.iat(), segments })
    }

    pub fn vote(&mut self, subject: &str, value: &str) -> Payload {
        let nonce = self.state.changes(subject);
        Payload::MemberVote(MemberVote {
            chain: self.chain,
            iat: self.iat(),
            nonce,
            subject: subject.to_owned(),
            value: value.to_owned(),
        })
    }

    /// Votes by these members, in one block.
    pub fn votes(&mut self, members: &[&str], subject: &str, value: &str) {
        let txs: Vec<Arc<Tx>> = members
            .iter()
            .map(|member| {
                let vote = self.vote(subject, value);
                signed(member, &vote)
            })
            .collect();
        self.block(&txs);
    }

    pub fn in_force(&self, name: &str, number: u8) -> bool {
        self.state.in_force(&kid(name), &grant(number))
    }
}

pub fn never(rule: Rule) -> Result<(), Refusal> {
    Err(Refusal::Never { rule, excluded_by: None })
}

/// What somebody without the right hears: a key that nobody introduced may still be given it.
pub fn no_right(ground: &Ground, signer: &str) -> Result<(), Refusal> {
    let known = ground.state.public_key(&kid(signer)).is_some();
    if known { never(Rule::Signer) } else { not_yet(Rule::Signer) }
}

pub fn excluded(rule: Rule, by: Digest) -> Result<(), Refusal> {
    Err(Refusal::Never { rule, excluded_by: Some(by) })
}

pub fn not_yet(rule: Rule) -> Result<(), Refusal> {
    Err(Refusal::NotYet(rule))
}

#[test]
fn the_first_state_has_the_root_of_header_0() {
    let ground = Ground::new();
    assert_eq!(ground.state.roots().root(), ground.state.header().state_root);
    assert_eq!(ground.state.chain(), genesis().chain_id().unwrap());
}

#[test]
fn another_chains_transaction_is_refused() {
    let mut ground = Ground::new();
    let mut vote = ground.vote("parameter:approvals", "1");
    if let Payload::MemberVote(vote) = &mut vote {
        vote.chain = Digest::of(b"another");
    }
    assert_eq!(ground.verdict("m1", &vote), never(Rule::OtherChain));
}

#[test]
fn a_transaction_may_be_signed_30_seconds_ahead_and_no_more() {
    let mut ground = Ground::new();
    let time = ground.now().unsigned_ms();
    for (ahead, verdict) in [(30_000, Ok(())), (30_001, not_yet(Rule::Ahead))] {
        let mut payload = ground.anchor(&["a"]);
        if let Payload::Anchor(anchor) = &mut payload {
            anchor.iat = time + ahead;
        }
        assert_eq!(ground.verdict("storage", &payload), verdict);
    }
}

#[test]
fn a_transaction_is_final_once() {
    let mut ground = Ground::new();
    let payload = Payload::Erase(crate::payload::Erase {
        chain: ground.chain,
        commitment: Digest::of(b"certificate"),
        iat: ground.iat(),
        records: vec![Digest::of(b"record")],
        roots: vec![],
    });
    let txid = ground.make_final("access-policy", &payload);
    assert_eq!(ground.verdict("access-policy", &payload), excluded(Rule::Final, txid));
    let place = ground.state.place(&txid).unwrap();
    // Leaf 0 is the header of block 0, which opens block 1.
    assert_eq!((place.height, place.index, place.leaf), (1, 0, 1));
    assert_eq!(ground.state.place(&Digest::ZERO), None);

    let tx = signed("access-policy", &payload);
    let mut draft = ground.state.draft(ground.now().unsigned_ms());
    let mut other = payload.clone();
    if let Payload::Erase(erase) = &mut other {
        erase.iat += 1;
    }
    let other = signed("access-policy", &other);
    assert_eq!(draft.apply(&other), Ok(()));
    assert_eq!(draft.apply(&other), excluded(Rule::Final, other.txid()), "nor twice in one block");
    assert_eq!(draft.apply(&tx), excluded(Rule::Final, txid));
}
