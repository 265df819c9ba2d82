//! Documents about the ledger itself: that it only grew, what its state said, which anchors it has; checkpoints and
//! `tlog-proof` texts alone.

use super::*;
use crate::chain::entry::{Entry, GrantEntry, KeyEntry, Kind, grant_id};
use crate::chain::payload::KeyStatus;
use crate::chain::rtree::{AnchorLeaf, Child, Completeness, Node, PAGE_ANCHORS, Page, Query};
use crate::hash::state as state_hash;

const GRANT: &str = "grt-00000000000000000000000000000001";

/// Block 1 holds a key and its grant, block 2 puts node-5 in the place of node-4, block 3 revokes the key, and every
/// block has the same 4,101 anchors.
struct Ledger {
    chain: Chain,
    maps: Vec<Map<Entry>>,
    notes: Vec<String>,
    run: Vec<AnchorLeaf>,
    anchors: Digest,
    pages: Digest,
}

fn grant_of(kid: &Kid) -> String {
    grant_id(kid, &GrantId::parse(GRANT).unwrap())
}

fn kid() -> Kid {
    PublicKey::of(&key(51)).kid()
}

fn key_entry(status: KeyStatus) -> Entry {
    let prev = Some(Digest::of(b"grant"));
    let txid = Digest::of(b"registration");
    Entry::Key(Box::new(KeyEntry { prev, public: PublicKey::of(&key(51)), seq: 1, status, txid }))
}

fn grant_entry(status: KeyStatus) -> Entry {
    let (commitment, custody) = (Some(Digest::of(b"body")), Some(Custody::Client));
    Entry::Grant(Box::new(GrantEntry { commitment, custody, seq: 1, status, txid: Digest::of(b"grant") }))
}

impl Ledger {
    fn new() -> Self {
        let mut chain = Chain::new(4);
        let run: Vec<AnchorLeaf> = (0..4101_u32)
            .map(|number| {
                let day0 = i32::try_from(number % 900).unwrap();
                let txid = Digest::of(&number.to_be_bytes());
                AnchorLeaf { day0, day1: day0 + 3, height: 1, txid }
            })
            .collect();
        let leaves: Vec<Digest> = run.iter().map(AnchorLeaf::leaf_hash).collect();
        let page = Page::seal(&run[..PAGE_ANCHORS]).unwrap();
        let (anchors, pages) = (merkle::root(&leaves), merkle::root(&[page.leaf_hash()]));

        let mut ledger =
            Self { maps: Vec::new(), notes: Vec::new(), run, anchors, pages, chain: Chain::new(4) };
        let members = |list: Vec<Named>| Entry::Members(std::sync::Arc::new(list));
        let mut map = Map::new();
        map.insert(Kind::Members.key(""), members(chain.list()));
        ledger.maps.push(map.clone());
        map.insert(Kind::Key.digest_key(&kid()), key_entry(KeyStatus::Active));
        map.insert(Kind::Grant.key(&format!("{}/{GRANT}", kid())), grant_entry(KeyStatus::Active));
        let receipts = receipts_tx(&chain, Digest::of(b"root"), 1);
        ledger.block(&mut chain, &map, &[receipts]);

        let mut list = chain.list();
        list[3] = Named { key: PublicKey::of(&key(5)), name: "node-5".into() };
        map.insert(Kind::Members.key(""), members(list.clone()));
        ledger.block(&mut chain, &map, &[]);
        chain.sets.push(SetChange {
            anchors,
            checkpoint: ledger.notes[2].clone(),
            header: chain.headers[2],
            map: map.root(),
            members: list.clone(),
            pages,
            proof: map.prove(&Kind::Members.key("")),
        });
        chain.members[3] = (5, list[3].clone());

        map.insert(Kind::Key.digest_key(&kid()), key_entry(KeyStatus::Revoked));
        ledger.block(&mut chain, &map, &[]);
        ledger.block(&mut chain, &map, &[]);
        ledger.chain = chain;
        ledger
    }

    fn block(&mut self, chain: &mut Chain, map: &Map<Entry>, transactions: &[String]) {
        chain.append(transactions, state_hash(&map.root(), &self.anchors, &self.pages));
        if self.notes.is_empty() {
            self.notes.push(String::new());
        }
        self.notes.push(chain.note(chain.headers.len() - 1, 3 + self.notes.len() % 2));
        self.maps.push(map.clone());
    }

    fn sets_before(&self, height: usize) -> Vec<SetChange> {
        let height = u64::try_from(height).unwrap();
        self.chain.sets.iter().filter(|set| set.header.height < height).cloned().collect()
    }

    fn consistency(&self, from: usize, to: usize) -> ConsistencyProof {
        let size = |height: usize| self.chain.headers[height].log_size;
        ConsistencyProof {
            chain: self.chain.id,
            from: self.notes[from].clone(),
            genesis: Some(self.chain.genesis.clone()),
            path: self.chain.log.consistency(size(from), size(to)).unwrap(),
            sets: self.sets_before(to),
            to: self.notes[to].clone(),
        }
    }

    fn evidence(&self, height: usize) -> StateEvidence {
        StateEvidence {
            anchors: self.anchors,
            checkpoint: self.notes[height].clone(),
            header: self.chain.headers[height],
            map: self.maps[height].root(),
            pages: self.pages,
        }
    }

    fn entry(&self, height: usize, kind: Kind, id: &str) -> EntryProof {
        let (map, key) = (&self.maps[height], kind.key(id));
        let value = map.get(&key).map(|entry| serde_json::from_slice(&entry.to_bytes()).unwrap());
        EntryProof { id: id.to_owned(), kind, proof: map.prove(&key), value }
    }

    fn state(&self, height: usize, entries: Vec<EntryProof>) -> StateProof {
        StateProof {
            chain: self.chain.id,
            entries,
            genesis: Some(self.chain.genesis.clone()),
            sets: self.sets_before(height),
            state: self.evidence(height),
        }
    }

    fn grant(&self, height: usize, kid: &Kid) -> StateProof {
        let entries = vec![
            self.entry(height, Kind::Grant, &grant_of(kid)),
            self.entry(height, Kind::Key, &kid.to_string()),
        ];
        self.state(height, entries)
    }

    fn anchors(&self, height: usize, query: Query) -> AnchorsProof {
        let page = Page::seal(&self.run[..PAGE_ANCHORS]).unwrap();
        AnchorsProof {
            answer: Completeness::prove([&page], &self.run[PAGE_ANCHORS..], &query, usize::MAX).unwrap(),
            chain: self.chain.id,
            genesis: Some(self.chain.genesis.clone()),
            query,
            sets: self.sets_before(height),
            state: self.evidence(height),
        }
    }

    fn verify(&self, document: &Document) -> Result<Content, ProofError> {
        let bytes = document.to_bytes().unwrap();
        verify(&bytes, &self.chain.trust()).map(|verified| verified.content)
    }
}

/// One way to spoil a document, and how the refusal begins.
type Spoiling<T> = (fn(&mut T, &Ledger), &'static str);

#[test]
fn any_two_checkpoints_are_consistent_across_a_change_of_members() {
    let ledger = Ledger::new();
    for from in 1..=4 {
        for to in from..=4 {
            let proof = ledger.consistency(from, to);
            let content = ledger.verify(&Document::Consistency(proof)).unwrap();
            let Content::Consistency { from: earlier, to: later } = content else { panic!("{content:?}") };
            assert_eq!((earlier.height, later.height), (from as u64, to as u64));
            assert_eq!(later.signers.contains(&"node-5".to_owned()), to == 3, "{to}");
        }
    }
}

#[test]
fn a_consistency_proof_needs_every_change_and_no_later_one() {
    let ledger = Ledger::new();
    let cases: [Spoiling<ConsistencyProof>; 8] = [
        (|p, _| p.sets.clear(), "signed by `node-5`, who is no member at this height"),
        (|p, l| p.to = l.notes[2].clone(), "change of members: the checkpoint is not after the last change"),
        (|p, l| *p = swapped(l), "the checkpoints are not in the order"),
        (|p, _| p.path[0] = Digest::ZERO, "the later log does not begin with the earlier one"),
        (|p, _| p.path.push(Digest::ZERO), "the later log does not begin with the earlier one"),
        (|p, l| p.from = l.chain.note(1, 2), "2 of 4 members signed"),
        (|p, _| p.sets[0].members[0].name = "node-0".into(), "change of members"),
        (|p, _| p.chain = Digest::ZERO, "the proof is for the chain"),
    ];
    for (case, (spoil, reason)) in cases.into_iter().enumerate() {
        let mut proof = ledger.consistency(1, 3);
        spoil(&mut proof, &ledger);
        let refusal = ledger.verify(&Document::Consistency(proof)).unwrap_err().to_string();
        assert!(refusal.starts_with(reason), "case {case}: {refusal}");
    }
}

/// The later checkpoint as the earlier one.
fn swapped(ledger: &Ledger) -> ConsistencyProof {
    let proof = ledger.consistency(1, 2);
    ConsistencyProof { from: proof.to, to: proof.from, ..proof }
}

/// Another block at height 3, certified by the same members.
fn fork(ledger: &mut Ledger) -> String {
    let honest = ledger.chain.headers[3];
    let other = Header { time_ms: honest.time_ms + 1, ..honest }.mine(&AtomicBool::new(false)).unwrap();
    ledger.chain.headers[3] = other;
    let note = ledger.chain.note(3, 4);
    ledger.chain.headers[3] = honest;
    note
}

#[test]
fn two_blocks_of_one_height_are_called_what_they_are() {
    let mut ledger = Ledger::new();
    let other = fork(&mut ledger);
    let proof = ConsistencyProof { to: other, path: Vec::new(), ..ledger.consistency(3, 3) };
    assert_eq!(ledger.verify(&Document::Consistency(proof)), Err(ProofError::Fork { height: 3 }));
}

#[test]
fn a_checkpoint_is_checked_alone_and_against_another() {
    let mut ledger = Ledger::new();
    // Without the change of members, so that genesis.json names all who sign.
    ledger.chain.members[3] = (4, ledger.chain.genesis.members[3].clone());
    let trust = ledger.chain.trust();
    let note = |height: usize| verify_note(&ledger.chain.note(height, 3), &trust);
    assert_eq!(note(4).unwrap().certified.height, 4);
    assert_eq!(note(1).unwrap().agrees_with(&note(4).unwrap()), Ok(()));
    assert_eq!(note(4).unwrap().agrees_with(&note(4).unwrap()), Ok(()));
    let few = verify_note(&ledger.chain.note(4, 2), &trust);
    assert!(matches!(few, Err(ProofError::Checkpoint(CheckpointError::TooFew { signed: 2, members: 4 }))));
    assert_eq!(verify_note(&ledger.chain.note(1, 3), &Trust::Nothing), Err(ProofError::GenesisNeeded));
    let id = Trust::Chain(ledger.chain.id);
    assert_eq!(verify_note(&ledger.chain.note(1, 3), &id), Err(ProofError::GenesisNeeded));

    let honest = note(3).unwrap();
    let shrunk = CertifiedBlock { log_size: honest.certified.log_size, ..note(4).unwrap().certified };
    let shrunk = VerifiedNote { certified: shrunk, ..honest.clone() };
    assert!(matches!(honest.agrees_with(&shrunk), Err(ProofError::Contradiction(_))));
    let forked = fork(&mut ledger);
    let forked = verify_note(&forked, &ledger.chain.trust()).unwrap();
    assert_eq!(forked.agrees_with(&honest), Err(ProofError::Fork { height: 3 }));
}

#[test]
fn a_tlog_proof_is_checked_with_a_transaction_or_its_id() {
    let (chain, proof) = receipt(4, 3);
    let (text, txid) = (proof.anchor.to_tlog_proof(), tx::txid(proof.anchor.transaction.as_bytes()));
    let verified = verify_tlog(&text, &txid, &chain.trust()).unwrap();
    assert_eq!(verified.transaction, Some((txid, proof.anchor.index)));
    assert!(matches!(verify_tlog(&text, &Digest::ZERO, &chain.trust()), Err(ProofError::NotInLog(_))));
    let other = Trust::Genesis(Box::new(sample(3)));
    assert!(matches!(verify_tlog(&text, &txid, &other), Err(ProofError::Checkpoint(_))));
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
        (|p, l| p.state.map = l.maps[2].root(), "block header: the header has another state root"),
        (|p, l| p.state = l.evidence(2), "change of members: the checkpoint is not after"),
        (|p, l| p.state.checkpoint = l.notes[4].clone(), "block header: the checkpoint is of another block"),
        (|p, _| p.state.anchors = Digest::ZERO, "block header: the header has another state root"),
    ];
    for (case, (spoil, reason)) in cases.into_iter().enumerate() {
        let mut proof = ledger.grant(3, &kid());
        spoil(&mut proof, &ledger);
        let refusal = ledger.verify(&Document::State(proof)).unwrap_err().to_string();
        assert!(refusal.starts_with(reason), "case {case}: {refusal}");
    }
    // A value that is there but is no grant's, in a state that a quorum certified: never in force.
    let mut bad = Ledger::new();
    let id = format!("{}/{GRANT}", kid());
    for map in &mut bad.maps {
        map.insert(Kind::Grant.key(&id), key_entry(KeyStatus::Active));
    }
    bad.chain.headers[3].state_root = state_hash(&bad.maps[3].root(), &bad.anchors, &bad.pages);
    bad.chain.headers[3] = bad.chain.headers[3].mine(&AtomicBool::new(false)).unwrap();
    bad.notes[3] = bad.chain.note(3, 4);
    assert!(matches!(bad.verify(&Document::State(bad.grant(3, &kid()))), Err(ProofError::Form(_))));
}

const QUERY: Query = Query { from: 100, to: 101, as_of: 2 };

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
        (|p, l| p.state = l.evidence(1), ""),
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
        (Document::Consistency(ledger.consistency(1, 3)), 29),
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

/// The documents of docs/FORMATS.md.
#[test]
fn golden_documents() {
    let ledger = Ledger::new();
    for (document, golden) in [
        (
            Document::Consistency(ledger.consistency(1, 3)),
            include_str!("../../../../tests/data/consistency-proof.json"),
        ),
        (Document::State(ledger.grant(3, &kid())), include_str!("../../../../tests/data/state-proof.json")),
        (
            Document::State(ledger.state(4, vec![ledger.entry(4, Kind::Staff, &kid().to_string())])),
            include_str!("../../../../tests/data/absence-proof.json"),
        ),
        (
            Document::Anchors(ledger.anchors(2, QUERY)),
            include_str!("../../../../tests/data/anchors-proof.json"),
        ),
    ] {
        let text = String::from_utf8(document.to_bytes().unwrap()).unwrap();
        assert_eq!(text, golden);
    }
}
