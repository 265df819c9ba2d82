//! Who the members of a height are cannot be chosen by whoever makes a document: neither by leaving out changes nor by
//! signing with keys of members who left. What colluding former members can do all the same, another file finds.

use super::views::{Ledger, QUERY, kid};
use super::*;

/// Takes the changes of members out of a document.
fn take_sets(document: &mut Document) -> Vec<SetChange> {
    let sets = match document {
        Document::Transaction(proof) => &mut proof.sets,
        Document::Receipt(proof) => &mut proof.anchor.sets,
        Document::Record(proof) => &mut proof.anchor.sets,
        Document::Consent(proof) => &mut proof.anchor.sets,
        Document::Consistency(proof) => &mut proof.sets,
        Document::State(proof) => &mut proof.sets,
        Document::Anchors(proof) => &mut proof.sets,
        Document::Opening(proof) => &mut proof.anchor.sets,
        Document::Bundle(proof) => &mut proof.sets,
        Document::Membership(proof) => &mut proof.sets,
        Document::Numbers(proof) => &mut proof.sets,
    };
    std::mem::take(sets)
}

fn refusal(document: &Document, chain: &Chain) -> String {
    verify(&document.to_bytes().unwrap(), &chain.trust()).unwrap_err().to_string()
}

#[test]
fn no_kind_of_document_holds_without_the_changes_of_members_before_it() {
    // At height 4, node-1, node-2 and node-3 signed: three of the four founding members as well as of the present ones.
    let ledger = Ledger::new();
    let chain = &ledger.chain;
    let receipts = receipts_tx(chain, Digest::of(b"root"), 1);
    let transaction = chain.prove(202, &receipts, 1, 1, 4);
    let staff = ledger.entry(4, Kind::Staff, &kid().to_string());
    for mut document in [
        Document::Transaction(transaction),
        Document::Consistency(ledger.consistency(1, 2, 4)),
        Document::State(ledger.state(4, vec![staff])),
        Document::Anchors(ledger.anchors(4, QUERY)),
    ] {
        assert!(verify(&document.to_bytes().unwrap(), &chain.trust()).is_ok());
        assert_eq!(take_sets(&mut document).len(), 1);
        let refusal = refusal(&document, chain);
        assert!(refusal.starts_with("members: the state does not name these"), "{refusal}");
    }
}

#[test]
fn no_change_of_members_can_be_left_out_between_others() {
    // Each change is signed by three who were members from the first.
    let mut chain = Chain::new(4);
    for seed in [5, 6, 7] {
        chain.change(chain.with_member(3, seed));
    }
    let transaction = receipts_tx(&chain, Digest::of(b"root"), 1);
    let places = chain.append(std::slice::from_ref(&transaction));
    let mut good = chain.prove(202, &transaction, places[0], 4, 4);
    for (height, set) in (1..).zip(&mut good.sets) {
        set.certified.checkpoint = chain.note(height, 3);
    }
    good.certified.checkpoint = chain.note(4, 3);
    let check = |proof: &TransactionProof| {
        verify(&Document::Transaction(proof.clone()).to_bytes().unwrap(), &chain.trust())
    };
    assert!(check(&good).is_ok());
    for left_out in [vec![0], vec![1], vec![2], vec![0, 1], vec![1, 2], vec![0, 1, 2]] {
        let mut bad = good.clone();
        let mut place = 0;
        bad.sets.retain(|_| {
            place += 1;
            !left_out.contains(&(place - 1))
        });
        let refusal = check(&bad).unwrap_err().to_string();
        assert!(refusal.starts_with("members: the state does not name these"), "{left_out:?}: {refusal}");
    }
    let twice = TransactionProof { sets: [&good.sets[..1], &good.sets[..]].concat(), ..good };
    assert_eq!(check(&twice), Err(ProofError::Members("the changes are not in order")));
}

/// A chain founded by so many that has grown to so many, one in each block, and one more block.
fn grown(from: u8, to: u8) -> Chain {
    let mut chain = Chain::new(from);
    for seed in from + 1..=to {
        let mut members = chain.members.last().unwrap().clone();
        let named = Named { key: PublicKey::of(&key(seed)), name: format!("node-{seed}") };
        members.push((seed, named));
        members.sort_by(|(_, one), (_, next)| one.name.cmp(&next.name));
        chain.change(members);
    }
    chain.append(&[]);
    chain
}

#[test]
fn founders_alone_certify_no_block_of_a_chain_that_has_grown() {
    for (from, to) in [(1, 4), (4, 10)] {
        let chain = grown(from, to);
        let (tip, founders) = (chain.headers.len() - 1, chain.members[1].clone());
        let entry = chain.entry(tip, Kind::Staff, &kid().to_string());
        let genesis = Some(chain.genesis.clone());
        let sets = chain.sets_before(tip);
        let honest =
            StateProof { chain: chain.id, entries: vec![entry], genesis, sets, state: chain.evidence(tip) };
        assert!(verify(&Document::State(honest.clone()).to_bytes().unwrap(), &chain.trust()).is_ok());

        // The true header, signed by a quorum of the founders.
        let mut forged = honest;
        forged.state.certified.checkpoint = chain.note_by(tip, &founders, founders.len());
        let without = Document::State(StateProof { sets: Vec::new(), ..forged.clone() });
        assert!(refusal(&without, &chain).starts_with("members: the state does not name these"));
        let with = refusal(&Document::State(forged), &chain);
        assert!(with.contains(&format!("{from} of {to} members signed")), "{with}");
    }
}

/// Another past from block 1 on, in which nobody joined: for that the keys of a quorum of founders are enough.
fn made_up(chain: &Chain) -> (Chain, Vec<u8>) {
    let mut other = Chain::new(u8::try_from(chain.genesis.members.len()).unwrap());
    (1..chain.headers.len()).for_each(|_| drop(other.append(&[])));
    let tip = other.headers.len() - 1;
    let document = Document::State(StateProof {
        chain: other.id,
        entries: vec![other.entry(tip, Kind::Staff, &kid().to_string())],
        genesis: None,
        sets: Vec::new(),
        state: other.evidence(tip),
    });
    (other, document.to_bytes().unwrap())
}

#[test]
fn another_past_made_up_by_founders_is_found_by_whatever_was_kept() {
    let chain = grown(1, 4);
    let (other, forged) = made_up(&chain);
    let trust = chain.trust();
    let forged = verify(&forged, &trust).expect("alone it is convincing").known;

    // A document of any later height knows the changes; a checkpoint knows its own block.
    let honest = |height: usize| {
        let genesis = Some(chain.genesis.clone());
        let (sets, state) = (chain.sets_before(height), chain.evidence(height));
        let entries = vec![chain.entry(height, Kind::Parameters, "")];
        let proof = StateProof { chain: chain.id, entries, genesis, sets, state };
        verify(&Document::State(proof).to_bytes().unwrap(), &trust).unwrap().known
    };
    let (early, late) = (honest(2), honest(4));
    assert_eq!(early.agrees_with(&late), Ok(()));
    assert_eq!(forged.agrees_with(&late), Err(ProofError::Fork { height: 3 }));
    assert_eq!(early.agrees_with(&forged), Err(ProofError::OtherMembers { height: 2 }));
    assert_eq!(forged.agrees_with(&forged), Ok(()));
    let note = |chain: &Chain, height: usize| {
        verify_note(&chain.note_by(height, &chain.members[1], 1), &trust).unwrap().known()
    };
    assert_eq!(note(&other, 4).agrees_with(&late), Err(ProofError::Fork { height: 4 }));
    assert_eq!(note(&chain, 4).agrees_with(&late), Ok(()));
    assert_eq!(note(&chain, 2).agrees_with(&note(&other, 4)), Ok(()), "nothing in common");
}

/// A document with a change of members after which the same members are named.
pub(super) fn idle_change() -> Document {
    let mut chain = Chain::new(4);
    chain.append(&[]);
    let transaction = receipts_tx(&chain, Digest::of(b"root"), 1);
    let places = chain.append(std::slice::from_ref(&transaction));
    let good = chain.prove(202, &transaction, places[0], 2, 2);
    let idle = SetChange { certified: chain.certification(1), members: chain.list(1), named: chain.named(1) };
    Document::Transaction(TransactionProof { sets: vec![idle], ..good })
}

#[test]
fn a_change_that_changes_nothing_is_refused() {
    assert_eq!(refusal(&idle_change(), &Chain::new(4)), "members: a change that changes nothing");
}

/// A state proof at a height with these changes of members.
fn at(chain: &Chain, height: usize, sets: Vec<SetChange>) -> Known {
    let entries = vec![chain.entry(height, Kind::Parameters, "")];
    let (genesis, state) = (Some(chain.genesis.clone()), chain.evidence(height));
    let proof = StateProof { chain: chain.id, entries, genesis, sets, state };
    verify(&Document::State(proof).to_bytes().unwrap(), &chain.trust()).unwrap().known
}

#[test]
fn a_file_without_its_changes_discredits_no_honest_one() {
    // A member goes and comes back: of that a document shows nothing but what it carries.
    let mut chain = Chain::new(4);
    let founders = chain.members[1].clone();
    chain.change(chain.with_member(3, 5));
    chain.append(&[]);
    chain.change(founders);
    (0..3).for_each(|_| drop(chain.append(&[])));
    let honest = |height: usize| at(&chain, height, chain.sets_before(height));
    let stripped = |height: usize| at(&chain, height, Vec::new());
    assert_eq!(honest(6).agrees_with(&stripped(6)), Ok(()), "a block of both settles what is below it");
    assert_eq!(stripped(5).agrees_with(&honest(6)), Ok(()));
    // Without such a block it cannot be told, which speaks against neither.
    let unclear = honest(3).agrees_with(&stripped(6)).unwrap_err();
    assert_eq!(unclear, ProofError::OtherMembers { height: 3 });
    assert!(unclear.tells_nothing());
    for (one, next) in [(1, 6), (2, 3), (3, 6), (4, 6)] {
        assert_eq!(honest(one).agrees_with(&honest(next)), Ok(()), "{one} {next}");
    }
}

/// A document with two blocks 1, each of which the founders certified and after each of which the same members follow.
pub(super) fn two_pasts() -> Document {
    let mut chain = Chain::new(4);
    let mut other = chain.clone();
    other.anchors = Digest::of(b"other");
    for chain in [&mut chain, &mut other] {
        chain.change(chain.with_member(3, 5));
    }
    let transaction = receipts_tx(&chain, Digest::of(b"root"), 1);
    let places = chain.append(std::slice::from_ref(&transaction));
    let good = chain.prove(202, &transaction, places[0], 2, 2);
    assert!(verify(&Document::Transaction(good.clone()).to_bytes().unwrap(), &chain.trust()).is_ok());
    Document::Transaction(TransactionProof { sets: other.sets, ..good })
}

#[test]
fn a_document_that_contradicts_itself_is_refused() {
    let refusal = verify(&two_pasts().to_bytes().unwrap(), &Chain::new(4).trust());
    assert_eq!(refusal, Err(ProofError::Fork { height: 1 }));
}

#[test]
fn no_key_has_a_second_encoding_in_a_list_of_members() {
    // The same point twice as two members: y is 3, and 3 + p.
    let (mut three, mut again) = ([0; 32], [0xff; 32]);
    three[0] = 3;
    (again[0], again[31]) = (0xf0, 0x7f);
    let named = |bytes, name: &str| Named { key: PublicKey::from_bytes(bytes), name: name.to_owned() };
    assert!(crate::genesis::check_named(&[named(three, "one")]).is_ok());
    assert!(crate::genesis::check_named(&[named(three, "one"), named(again, "two")]).is_err());
    let mut chain = Chain::new(4);
    let mut members = chain.members[1].clone();
    members[3].1.key = PublicKey::from_bytes(again);
    chain.change(members);
    let transaction = receipts_tx(&chain, Digest::of(b"root"), 1);
    let places = chain.append_by(std::slice::from_ref(&transaction), &[1, 2, 3]);
    let mut proof = chain.prove(202, &transaction, places[0], 2, 2);
    proof.certified.checkpoint = chain.note(2, 3);
    let refusal = refusal(&Document::Transaction(proof), &chain);
    assert_eq!(refusal, "members: not a list of members");
}

#[test]
fn logs_that_shrink_contradict_each_other() {
    let chain = grown(1, 1);
    let (small, mut large) = (chain.headers[1], chain.headers[1]);
    (large.height, large.log_size) = (5, small.log_size);
    let mut known = [Known::default(), Known::default()];
    known[0].add_block(&small);
    known[1].add_block(&large);
    let [one, two] = known;
    assert!(matches!(one.agrees_with(&two), Err(ProofError::Contradiction(_))));
    assert_eq!(one.shared(&two).count(), 0);
    assert_eq!((one.height(), two.height()), (1, 5));
}

#[test]
fn two_hundred_changes_among_a_hundred_members_fit_into_a_document() {
    let mut chain = Chain::new(1);
    let named = |n: u8| Named { key: PublicKey::of(&key(n)), name: format!("node-{n:03}") };
    chain.change((1..=100).map(|n| (n, named(n))).collect());
    for number in 0..199_u8 {
        chain.change(chain.with_member(99, 110 + number % 2));
    }
    let transaction = receipts_tx(&chain, Digest::of(b"root"), 1);
    let places = chain.append(std::slice::from_ref(&transaction));
    let proof = chain.prove(202, &transaction, places[0], 201, 201);
    let bytes = Document::Transaction(proof).to_bytes().unwrap();
    // A thousand such changes would do.
    assert!((4 << 20..MAX_DOCUMENT_BYTES / 5).contains(&bytes.len()), "{} bytes", bytes.len());
    assert_eq!(verify(&bytes, &chain.trust()).unwrap().transaction.unwrap().certified.members, 100);
}
