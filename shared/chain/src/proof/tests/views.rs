//! Documents about the ledger itself: that it only grew, what its state said, which anchors it has; checkpoints and
//! `tlog-proof` texts alone.

use super::*;
use crate::entry::{GrantEntry, KeyEntry, grant_id};
use crate::rtree::{AnchorLeaf, Child, Completeness, Node, PAGE_ANCHORS, Page, Query};

const GRANT: &str = "grt-00000000000000000000000000000001";

/// Block 1 holds a key and its grant, block 2 puts node-5 in the place of node-4, block 3 revokes the key, and every
/// block has the same 4,101 anchors.
pub(super) struct Ledger {
    pub chain: Chain,
    run: Vec<AnchorLeaf>,
}

fn grant_of(kid: &Kid) -> String {
    grant_id(kid, &GrantId::parse(GRANT).unwrap())
}

pub(super) fn kid() -> Kid {
    PublicKey::of(&key(51)).kid()
}

fn key_entry(status: KeyStatus) -> Entry {
    let prev = Some(Digest::of(b"grant"));
    let txid = Digest::of(b"registration");
    Entry::Key(Box::new(KeyEntry { prev, public: PublicKey::of(&key(51)), seq: 1, status, txid, unseen: 0 }))
}

fn grant_entry(status: KeyStatus) -> Entry {
    let (commitment, custody) = (Some(Digest::of(b"body")), Some(Custody::Client));
    Entry::Grant(Box::new(GrantEntry { commitment, custody, seq: 1, status, txid: Digest::of(b"grant") }))
}

impl Ledger {
    pub fn new() -> Self {
        Self::with_grant(grant_entry(KeyStatus::Active))
    }

    fn with_grant(grant: Entry) -> Self {
        let mut chain = Chain::new(4);
        let run: Vec<AnchorLeaf> = (0..4101_u32)
            .map(|number| {
                let day0 = i32::try_from(number % 900).unwrap();
                let txid = Digest::of(&number.to_be_bytes());
                AnchorLeaf { day0, day1: day0 + 3, height: 1, txid, segment: 0 }
            })
            .collect();
        let leaves: Vec<Digest> = run.iter().map(AnchorLeaf::leaf_hash).collect();
        let page = Page::complete(&run[..PAGE_ANCHORS]).unwrap();
        (chain.anchors, chain.pages) = (merkle::root(&leaves), merkle::root(&[page.leaf_hash()]));

        chain.map.insert(Kind::Key.digest_key(&kid()), key_entry(KeyStatus::Active));
        chain.map.insert(Kind::Grant.key(&grant_of(&kid())), grant);
        let receipts = receipts_tx(&chain, Digest::of(b"root"), 1);
        chain.append(&[receipts]);
        chain.change(chain.with_member(3, 5));
        chain.map.insert(Kind::Key.digest_key(&kid()), key_entry(KeyStatus::Revoked));
        chain.append(&[]);
        chain.append(&[]);
        Self { chain, run }
    }

    fn past(&self, height: usize, under: usize) -> PastCheckpoint {
        PastCheckpoint {
            checkpoint: self.chain.certification(height).checkpoint,
            header: self.chain.headers[height],
            path: self.chain.header_path(height, under),
        }
    }

    pub fn consistency(&self, from: usize, to: usize, under: usize) -> ConsistencyProof {
        let size = |height: usize| self.chain.headers[height].log_size;
        ConsistencyProof {
            certified: self.chain.certification(under),
            chain: self.chain.id,
            from: self.past(from, under),
            genesis: Some(self.chain.genesis.clone()),
            path: self.chain.log.consistency(size(from), size(to)).unwrap(),
            sets: self.chain.sets_before(under),
            to: self.past(to, under),
        }
    }

    pub fn state(&self, height: usize, entries: Vec<EntryProof>) -> StateProof {
        StateProof {
            chain: self.chain.id,
            entries,
            genesis: Some(self.chain.genesis.clone()),
            sets: self.chain.sets_before(height),
            state: self.chain.evidence(height),
        }
    }

    pub fn entry(&self, height: usize, kind: Kind, id: &str) -> EntryProof {
        self.chain.entry(height, kind, id)
    }

    pub fn grant(&self, height: usize, kid: &Kid) -> StateProof {
        let entries = vec![
            self.entry(height, Kind::Grant, &grant_of(kid)),
            self.entry(height, Kind::Key, &kid.to_string()),
        ];
        self.state(height, entries)
    }

    pub fn anchors(&self, height: usize, query: Query) -> AnchorsProof {
        let page = Page::complete(&self.run[..PAGE_ANCHORS]).unwrap();
        AnchorsProof {
            answer: Completeness::prove([&page], &self.run[PAGE_ANCHORS..], &query, usize::MAX).unwrap(),
            chain: self.chain.id,
            genesis: Some(self.chain.genesis.clone()),
            query,
            sets: self.chain.sets_before(height),
            state: self.chain.evidence(height),
        }
    }

    pub fn verify(&self, document: &Document) -> Result<Content, ProofError> {
        let bytes = document.to_bytes().unwrap();
        verify(&bytes, &self.chain.trust()).map(|verified| verified.content)
    }
}

/// One way to spoil a document, and how the refusal begins.
type Spoiling<T> = (fn(&mut T, &Ledger), &'static str);

#[test]
fn any_two_checkpoints_are_consistent_across_a_change_of_members() {
    let ledger = Ledger::new();
    for under in 1..=4 {
        for to in 1..=under {
            for from in 1..=to {
                let proof = ledger.consistency(from, to, under);
                let content = ledger.verify(&Document::Consistency(proof)).unwrap();
                let Content::Consistency { from: earlier, to: later } = content else {
                    panic!("{content:?}")
                };
                assert_eq!((earlier.height, later.height), (from as u64, to as u64));
                assert_eq!(later.signers.contains(&"node-5".to_owned()), to == 3, "{to}");
            }
        }
    }
}

#[test]
fn a_consistency_proof_needs_every_change_and_no_later_one() {
    let ledger = Ledger::new();
    let cases: [Spoiling<ConsistencyProof>; 12] = [
        (|p, _| p.sets.clear(), "signed by `node-5`, who is no member at this height"),
        (
            |p, l| p.certified = l.chain.certification(2),
            "members: the checkpoint is not after the last change",
        ),
        (|p, _| (p.from, p.to) = (p.to.clone(), p.from.clone()), "the checkpoints are not in the order"),
        (|p, _| p.path[0] = Digest::ZERO, "the later log does not begin with the earlier one"),
        (|p, _| p.path.push(Digest::ZERO), "the later log does not begin with the earlier one"),
        (|p, l| p.from.checkpoint = l.chain.note(1, 2), "2 of 4 members signed"),
        (|p, l| p.from.checkpoint = l.chain.note(2, 3), "block header: the checkpoint is of another block"),
        (|p, _| p.from.path[0] = Digest::ZERO, "the block header is not in the certified log"),
        (|p, l| p.to = l.past(4, 4), "block header: it is not before the checkpoint's"),
        (|p, _| p.to.path.push(Digest::ZERO), "block header: the checkpoint says otherwise"),
        (|p, _| p.sets[0].members[0].name = "node-0".into(), "members: the state does not name these"),
        (|p, _| p.chain = Digest::ZERO, "the proof is for the chain"),
    ];
    for (case, (spoil, reason)) in cases.into_iter().enumerate() {
        let mut proof = ledger.consistency(1, 3, 3);
        spoil(&mut proof, &ledger);
        let refusal = ledger.verify(&Document::Consistency(proof)).unwrap_err().to_string();
        assert!(refusal.starts_with(reason), "case {case}: {refusal}");
    }
}

#[test]
fn a_checkpoint_alone_counts_by_the_founding_members() {
    let mut chain = Chain::new(4);
    (0..4).for_each(|_| drop(chain.append(&[])));
    let trust = chain.trust();
    let note = verify_note(&chain.note(4, 3), &trust).unwrap();
    assert_eq!(note.certified.height, 4);
    let certified = note.facts().pop().unwrap().1;
    assert!(certified.starts_with("by 3 of the 4 founding members"), "{certified}");
    let few = verify_note(&chain.note(4, 2), &trust);
    assert!(matches!(few, Err(ProofError::Checkpoint(CheckpointError::TooFew { signed: 2, members: 4 }))));
    assert_eq!(verify_note(&chain.note(1, 3), &Trust::Nothing), Err(ProofError::GenesisNeeded));
    assert_eq!(verify_note(&chain.note(1, 3), &Trust::Chain(chain.id)), Err(ProofError::GenesisNeeded));
}

#[test]
fn signatures_of_unknown_keys_are_passed_over_and_count_for_nothing() {
    let (chain, proof) = receipt(4, 3);
    let trust = chain.trust();
    let note = chain.note(3, 3);
    let (body, lines) = note.split_once("\n\n").unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    let base64 = |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    // A witness's cosignature has its time before the signature; a member's earlier key has another id.
    let witness = format!("— witness.example/w1 {}", base64(&[7; 76]));
    let earlier = format!("— {}/node-2 {}", chain.origin(), base64(&[9; 68]));
    let with = |lines: &[&str]| format!("{body}\n\n{}\n", lines.join("\n"));
    let mixed = with(&[&witness, lines[0], &earlier, lines[1], lines[2], &witness]);
    assert_eq!(verify_note(&mixed, &trust), verify_note(&note, &trust));
    let few = Err(ProofError::Checkpoint(CheckpointError::TooFew { signed: 2, members: 4 }));
    assert_eq!(verify_note(&with(&[lines[0], &earlier, lines[2]]), &trust), few);
    let none = Err(ProofError::Checkpoint(CheckpointError::TooFew { signed: 0, members: 4 }));
    assert_eq!(verify_note(&with(&[&witness]), &trust), none);
    // What the grammar of C2SP signed-note forbids: spaces of any script and a plus in a name, no name, no signature behind
    // the key id, control characters.
    let forbidden = [
        "— x+y AAAAAAAA",
        "— x\u{a0}y AAAAAAAA",
        "— x\u{2003}y AAAAAAAA",
        "— x\u{85}y AAAAAAAA",
        "—  AAAAAAAA",
        "— x AAAAAA==",
        "— x\ty AAAAAAAA",
        "— x\u{1}y AAAAAAAA",
    ];
    for bad in ["— x y z", "- x AAAAAAAA", "— x !", "— x AAA=", ""].into_iter().chain(forbidden) {
        let note = with(&[lines[0], lines[1], lines[2], bad]);
        assert!(matches!(verify_note(&note, &trust), Err(ProofError::Checkpoint(CheckpointError::Form(_)))));
    }
    // Stored certificates have one form.
    assert!(Certificate::parse(&mixed).is_err());

    let text = proof.anchor.to_tlog_proof();
    let leaf = Leaf::Transaction(proof.anchor.transaction.as_bytes());
    let cosigned = format!("{text}{witness}\n");
    assert_eq!(verify_tlog(&cosigned, leaf, &trust), verify_tlog(&text, leaf, &trust));
    assert!(verify_tlog(&text, leaf, &trust).is_ok());
}

#[test]
fn a_tlog_proof_is_checked_with_a_transaction_or_a_leafs_hash() {
    let (chain, proof) = receipt(4, 3);
    let (text, transaction) = (proof.anchor.to_tlog_proof(), proof.anchor.transaction.as_bytes());
    let (hash, index) = (tx::txid(transaction), proof.anchor.index);
    let by_text = verify_tlog(&text, Leaf::Transaction(transaction), &chain.trust()).unwrap();
    let kind = Some("access.receipts");
    assert_eq!(by_text.leaf, Some(VerifiedLeaf { hash, index, transaction: kind }));
    let by_hash = verify_tlog(&text, Leaf::Hash(hash), &chain.trust()).unwrap();
    assert_eq!(by_hash.leaf, Some(VerifiedLeaf { hash, index, transaction: None }));
    let missing = verify_tlog(&text, Leaf::Hash(Digest::ZERO), &chain.trust());
    assert!(matches!(missing, Err(ProofError::NotInLog(_))));
    let other = Trust::Genesis(Box::new(sample(3)));
    assert!(matches!(verify_tlog(&text, Leaf::Hash(hash), &other), Err(ProofError::Checkpoint(_))));

    // A header is a leaf, and no transaction.
    let header = chain.headers[1];
    let path = chain.header_path(1, 3);
    let text = super::super::tlog::encode(header.log_size, &path, &chain.note(3, 4));
    let leaf = verify_tlog(&text, Leaf::Hash(header.leaf_hash()), &chain.trust()).unwrap();
    assert!(leaf.statement().starts_with("leaf "), "{}", leaf.statement());
    let as_transaction = verify_tlog(&text, Leaf::Transaction(&header.to_bytes()), &chain.trust());
    assert!(matches!(as_transaction, Err(ProofError::Transaction(_))));
}

#[test]
fn files_are_told_apart_by_how_they_begin() {
    let (chain, proof) = receipt(1, 1);
    assert_eq!(FileKind::of(&file(&proof)), FileKind::Document);
    assert_eq!(FileKind::of(proof.anchor.to_tlog_proof().as_bytes()), FileKind::TlogProof);
    assert_eq!(FileKind::of(chain.note(1, 1).as_bytes()), FileKind::Checkpoint);
    assert_eq!(FileKind::of(b"HBCCHAIN\0\x01"), FileKind::Chain);
    assert_eq!(FileKind::of(b""), FileKind::Checkpoint);
}

#[test]
fn a_grant_is_in_force_when_its_entry_and_its_keys_say_so() {
    let ledger = Ledger::new();
    let stranger = PublicKey::of(&key(60)).kid();
    for (height, kid, expected) in [
        (1, kid(), Verdict::InForce),
        (2, kid(), Verdict::InForce),
        (3, kid(), Verdict::NotInForce("its key was revoked")),
        (4, kid(), Verdict::NotInForce("its key was revoked")),
        (4, stranger, Verdict::NotInForce("it was never given")),
    ] {
        let content = ledger.verify(&Document::State(ledger.grant(height, &kid))).unwrap();
        let Content::State(facts) = content else { panic!("{content:?}") };
        assert_eq!((facts.verdict, facts.at.certified.height), (expected, height as u64));
    }
    let key = ledger.state(4, vec![ledger.entry(4, Kind::Key, &kid().to_string())]);
    let Content::State(facts) = ledger.verify(&Document::State(key)).unwrap() else { panic!("a state") };
    let Verdict::Entry(value) = facts.verdict else { panic!("there is a key") };
    assert_eq!(value["status"], "revoked");
    let nobody = ledger.state(4, vec![ledger.entry(4, Kind::Staff, &stranger.to_string())]);
    let Content::State(facts) = ledger.verify(&Document::State(nobody)).unwrap() else { panic!("a state") };
    assert_eq!(facts.verdict, Verdict::Absent);
}

/// That there is no grant of this id.
fn absent(ledger: &Ledger, id: &str) -> StateProof {
    let (key, _) = id.split_once('/').unwrap();
    ledger.state(3, vec![ledger.entry(3, Kind::Grant, id), ledger.entry(3, Kind::Key, key)])
}

#[test]
fn every_half_truth_about_a_grant_is_refused() {
    let ledger = Ledger::new();
    let cases: [Spoiling<StateProof>; 14] = [
        // True of the map, and of nobody's grant.
        (
            |p, l| *p = absent(l, &grant_of(&kid()).replace("grt", "GRT")),
            "no entry `grant` has an id like this",
        ),
        (
            |p, l| *p = absent(l, &format!("{}\x1b[2J", grant_of(&kid()))),
            "no entry `grant` has an id like this",
        ),
        (|p, _| p.entries.truncate(1), "not one entry, or a grant's and its key's"),
        (|p, _| p.entries.clear(), "not one entry, or a grant's and its key's"),
        (|p, _| p.entries.push(p.entries[1].clone()), "not one entry, or a grant's and its key's"),
        (|p, _| p.entries.swap(0, 1), "not one entry, or a grant's and its key's"),
        // The key as it was while it was active; another key than the grant's.
        (|p, l| p.entries[1] = l.entry(2, Kind::Key, &kid().to_string()), "the entry `key` is not what"),
        (
            |p, l| p.entries[1] = l.entry(3, Kind::Key, &Digest::ZERO.to_string()),
            "the second entry is not that",
        ),
        (|p, _| p.entries[0].value = None, "the entry `grant` is not what the certified state says"),
        (|p, _| p.entries[1].value.as_mut().unwrap()["status"] = "active".into(), "the entry `key` is not"),
        (|p, l| p.state.map = l.chain.evidence(2).map, "block header: the header has another state root"),
        (|p, l| p.state = l.chain.evidence(2), "members: the checkpoint is not after"),
        (
            |p, l| p.state.certified.checkpoint = l.chain.note(4, 3),
            "block header: the checkpoint is of another block",
        ),
        (|p, _| p.state.anchors = Digest::ZERO, "block header: the header has another state root"),
    ];
    for (case, (spoil, reason)) in cases.into_iter().enumerate() {
        let mut proof = ledger.grant(3, &kid());
        spoil(&mut proof, &ledger);
        let refusal = ledger.verify(&Document::State(proof)).unwrap_err().to_string();
        assert!(refusal.starts_with(reason), "case {case}: {refusal}");
    }
    // A value that is there but is no grant's, in a state that a quorum certified: never in force.
    let bad = Ledger::with_grant(key_entry(KeyStatus::Active));
    assert_eq!(bad.verify(&Document::State(bad.grant(3, &kid()))), Err(ProofError::Value { kind: "grant" }));
}

pub(super) const QUERY: Query = Query { from: 100, to: 101, as_of: 2 };

#[test]
fn anchors_are_answered_whole_under_a_certified_root() {
    let ledger = Ledger::new();
    let content = ledger.verify(&Document::Anchors(ledger.anchors(2, QUERY))).unwrap();
    let Content::Anchors(facts) = content else { panic!("{content:?}") };
    let mut expected: Vec<_> = ledger.run.iter().filter(|anchor| QUERY.matches(anchor)).copied().collect();
    expected.sort_unstable();
    assert_eq!(facts.anchors, expected);
    assert!(!expected.is_empty());

    let cases: [Spoiling<AnchorsProof>; 8] = [
        (
            |p, _| {
                p.answer.tail.pop();
            },
            "the anchors are not shown to be all: the anchors lead",
        ),
        (
            |p, _| {
                p.answer.pages.pop();
            },
            "the anchors are not shown to be all: the pages lead",
        ),
        (|p, _| withhold(p), "the anchors are not shown to be all: no page has a node"),
        (|p, _| p.query.to = 400, "the anchors are not shown to be all: the proof opens other nodes"),
        (|p, _| p.query.as_of = 0, "the anchors are not shown to be all: the proof opens other nodes"),
        (|p, _| p.query.as_of = 3, "the question is not one that this block can answer"),
        (|p, _| p.query.to = 99, "the question is not one that this block can answer"),
        (|p, l| p.state = l.chain.evidence(1), ""),
    ];
    for (case, (spoil, reason)) in cases.into_iter().enumerate() {
        let mut proof = ledger.anchors(2, QUERY);
        spoil(&mut proof, &ledger);
        let outcome = ledger.verify(&Document::Anchors(proof));
        let refusal = outcome.unwrap_err().to_string();
        assert!(refusal.starts_with(reason), "case {case}: {refusal}");
    }
}

/// Takes one anchor out of an opened bottom node.
fn withhold(proof: &mut AnchorsProof) {
    fn take(child: &mut Child) -> bool {
        match child {
            Child::Closed { .. } => false,
            Child::Open(Node::Anchors(anchors)) => anchors.pop().is_some(),
            Child::Open(Node::Children(children)) => children.iter_mut().any(take),
        }
    }
    assert!(proof.answer.pages.iter_mut().any(|page| take(&mut page.page)));
}

/// Bits all over a file: refused, or, where the name of what is absent or the question is changed, about something else.
#[test]
fn no_flipped_bit_of_any_kind_leaves_the_statement_as_it_was() {
    let ledger = Ledger::new();
    let trust = ledger.chain.trust();
    for (document, step) in [
        (Document::Consistency(ledger.consistency(1, 3, 4)), 29),
        (Document::State(ledger.grant(3, &kid())), 29),
        (Document::State(ledger.grant(1, &PublicKey::of(&key(60)).kid())), 29),
        (Document::Anchors(ledger.anchors(2, QUERY)), 101),
    ] {
        let good = document.to_bytes().unwrap();
        let meaning = verify(&good, &trust).unwrap();
        for bit in (0..good.len() * 8).step_by(step) {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let outcome = verify(&bad, &trust);
            assert_ne!(outcome.as_ref(), Ok(&meaning), "bit {bit}: {}", String::from_utf8_lossy(&bad));
            let about = |content: &Content| match content {
                Content::State(facts) => Some(facts.id.clone()),
                Content::Anchors(facts) => Some(format!("{:?}", facts.query)),
                _ => None,
            };
            if let Ok(other) = outcome {
                assert_ne!(about(&other.content), about(&meaning.content), "bit {bit}");
                if let Content::State(facts) = &other.content {
                    assert!(
                        facts.kind.id_fits(&facts.id),
                        "bit {bit}: nothing can have the id {:?}",
                        facts.id
                    );
                }
            }
        }
    }
}
