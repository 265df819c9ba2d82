//! Proof documents: whole ones pass, changed ones are refused with the reason.

mod content;
mod documents;
mod forgery;
mod golden;
mod vectors;
mod views;

use proptest::prelude::*;
use serde_json::json;

use super::tlog::TlogProof;
use super::*;
use crate::certificate::{ConsentCertificate, Limits};
use crate::checkpoint::Certificate;
use crate::entry::{Entry, Kind};
use crate::genesis::Named;
use crate::header::Header;
use crate::merkle::{self, Tree};
use crate::payload::{Anchor, Consent, KeyStatus, Payload, Receipts, Segment};
use crate::testing::{Chain, genesis as sample, key, receipt_body};
use crate::tx;
use hbc_types::account::Custody;
use hbc_types::hash;
use hbc_types::ids::{GrantId, RecordId};
use hbc_types::keys::{PublicKey, SaltBytes, Tag};

const SALT: [u8; 32] = [7; 32];

fn receipts_tx(chain: &Chain, root: Digest, count: u64) -> String {
    let iat = 1_790_000_000_500;
    tx::sign(&key(202), &Payload::Receipts(Receipts { chain: chain.id, count, iat, rights: None, root }))
        .unwrap()
}

/// A chain whose block 1 holds three transactions, the second of which covers five receipts; block 2 and 3 follow.
fn receipt(members: u8, under: usize) -> (Chain, ReceiptProof) {
    let body = |n| serde_json::to_value(receipt_body(n)).unwrap();
    receipt_with(members, under, body(4))
}

/// The same with this body for the fourth.
fn receipt_with(members: u8, under: usize, fourth: serde_json::Value) -> (Chain, ReceiptProof) {
    let mut chain = Chain::new(members);
    let mut bodies: Vec<_> = (1..=5).map(|n| serde_json::to_value(receipt_body(n)).unwrap()).collect();
    bodies[3] = fourth.clone();
    let commitments: Vec<Digest> =
        bodies.iter().map(|body| hash::receipt(&SALT, &json::encode(body).unwrap())).collect();
    let leaves: Vec<Digest> = commitments.iter().map(|c| merkle::leaf_hash(c.as_bytes())).collect();
    let batch = Tree::of(&leaves);
    let wanted = receipts_tx(&chain, batch.root(), 5);
    let before = receipts_tx(&chain, Digest::of(b"before"), 1);
    let after = receipts_tx(&chain, Digest::of(b"after"), 1);
    let places = chain.append(&[before, wanted.clone(), after.clone()]);
    chain.append(&[]);
    chain.append(&[receipts_tx(&chain, Digest::of(b"later"), 1)]);
    let proof = ReceiptProof {
        anchor: chain.prove(202, &wanted, places[1], 1, under),
        index: 3,
        path: batch.inclusion(3, 5).unwrap(),
        receipt: Opening { body: fourth, salt: SaltBytes::from_bytes(SALT) },
    };
    (chain, proof)
}

fn file(proof: &ReceiptProof) -> Vec<u8> {
    Document::Receipt(proof.clone()).to_bytes().unwrap()
}

#[test]
fn a_receipt_is_proved_under_its_own_and_under_later_checkpoints() {
    for under in 1..=3 {
        let (chain, proof) = receipt(4, under);
        let verified = verify(&file(&proof), &chain.trust()).unwrap();
        assert!(verified.pinned);
        assert_eq!(verified.chain, chain.id);
        assert_eq!(verified.content, Content::Receipt(Box::new(receipt_body(4))));
        let facts = verified.facts();
        let transaction = verified.transaction.unwrap();
        assert_eq!((transaction.height, transaction.certified.height), (1, under as u64));
        assert_eq!(transaction.author, Author::Service("access-policy"));
        assert_eq!(transaction.kind, "access.receipts");
        assert_eq!(transaction.certified.signers.len(), if under == 2 { 3 } else { 4 });
        assert!(transaction.zero_bits >= 8);
        assert!(facts.iter().all(|(_, value)| !value.contains("NOT PINNED")));
    }
}

#[test]
fn a_receipt_is_read_whole() {
    let whole = serde_json::to_value(receipt_body(4)).unwrap();
    let with = |change: &dyn Fn(&mut serde_json::Map<String, serde_json::Value>)| {
        let mut body = whole.clone();
        change(body.as_object_mut().unwrap());
        body
    };
    let mut bodies = vec![
        json!(1),
        json!({}),
        json!([]),
        json!("read"),
        with(&|body| drop(body.insert("x".into(), json!(1)))),
    ];
    for field in ["actor", "at", "categories", "id", "kind", "n", "patient", "purpose", "records", "rule"] {
        bodies.push(with(&|body| drop(body.remove(field))));
        bodies.push(with(&|body| drop(body.insert(field.into(), json!({})))));
    }
    bodies.push(with(&|body| drop(body.insert("purpose".into(), json!("BTG")))));
    bodies.push(with(&|body| drop(body.insert("at".into(), json!("2026-09-21T14:13:20Z")))));
    for body in bodies {
        let (chain, proof) = receipt_with(1, 1, body);
        let expected = ProofError::Contradiction("the body is not that of a receipt");
        assert_eq!(verify(&file(&proof), &chain.trust()), Err(expected), "{}", proof.receipt.body);
    }
    for body in [
        with(&|body| drop(body.insert("n".into(), json!(0)))),
        with(&|body| drop(body.insert("n".into(), json!(1)))),
        with(&|body| drop(body.remove("prev"))),
    ] {
        let (chain, proof) = receipt_with(1, 1, body);
        let expected = ProofError::Contradiction("the receipt's number does not fit the one before it");
        assert_eq!(verify(&file(&proof), &chain.trust()), Err(expected), "{}", proof.receipt.body);
    }
}

#[test]
fn a_verdict_is_one_sentence_of_what_about_what_and_as_of_when() {
    let (chain, proof) = receipt(4, 3);
    let said = verify(&file(&proof), &chain.trust()).unwrap().statement();
    assert_eq!(
        said,
        "this access was recorded: `read` by agy-00000000000000000000000000000001 to 1 records of \
         pat-00000000000000000000000000000001 at 2026-09-21T14:13:20.400Z for TREAT, the patient's receipt number 4; \
         final in block 1 of 2026-09-21T14:13:21.000Z."
    );
}

#[test]
fn a_proof_that_an_editor_laid_out_is_known_as_one() {
    let (_, proof) = receipt(1, 1);
    let good = file(&proof);
    let value: serde_json::Value = serde_json::from_slice(&good).unwrap();
    let pretty = serde_json::to_vec_pretty(&value).unwrap();
    let marked = [BYTE_ORDER_MARK, &good].concat();
    for altered in [pretty.clone(), marked, [BYTE_ORDER_MARK, b" \r\n", &pretty].concat()] {
        assert_eq!(FileKind::of(&altered), FileKind::Document);
        assert!(verify(&altered, &Trust::Nothing).unwrap_err().tells_nothing());
        assert_eq!(Document::laid_out_anew(&altered).as_deref(), Some("hbc-proof-receipt/v1"));
    }
    for other in [&b"{}"[..], b"{\"format\": \"hbc-proof-receipt/v1\"}", &pretty[..pretty.len() - 1], b"\xff"]
    {
        assert_eq!(Document::laid_out_anew(other), None);
    }
}

#[test]
fn what_is_trusted_decides_whether_the_chain_is_pinned() {
    let (chain, mut proof) = receipt(1, 1);
    assert!(verify(&file(&proof), &Trust::Chain(chain.id)).unwrap().pinned);
    let loose = verify(&file(&proof), &Trust::Nothing).unwrap();
    assert!(!loose.pinned);
    assert!(loose.facts()[0].1.contains("NOT PINNED"));
    let other = Trust::Chain(Digest::of(b"other"));
    assert!(matches!(verify(&file(&proof), &other), Err(ProofError::OtherChain { .. })));
    let other = Trust::Genesis(Box::new(sample(2)));
    assert!(matches!(verify(&file(&proof), &other), Err(ProofError::OtherChain { .. })));

    proof.anchor.genesis = Some(sample(3));
    assert!(matches!(verify(&file(&proof), &chain.trust()), Err(ProofError::GenesisMismatch { .. })));
    proof.anchor.genesis = None;
    assert!(verify(&file(&proof), &chain.trust()).unwrap().pinned);
    assert_eq!(verify(&file(&proof), &Trust::Chain(chain.id)), Err(ProofError::GenesisMissing));
    assert_eq!(verify(&file(&proof), &Trust::Nothing), Err(ProofError::GenesisMissing));
}

/// One way to spoil a proof, and how the refusal begins.
type Spoiling = (fn(&mut ReceiptProof, &Chain), &'static str);

#[test]
fn every_check_bites_and_says_why() {
    let cases: [Spoiling; 22] = [
        (|p, c| p.anchor.certified.checkpoint = c.note(3, 2), "2 of 4 members signed"),
        (|p, c| p.anchor.certified.checkpoint = c.note(2, 4), "block header: the checkpoint is of another"),
        (|p, c| p.anchor.certified = c.certification(2), "the transaction is not in the certified log"),
        (|p, c| p.anchor.certified.before = c.headers[1], "block header: the parent is another"),
        (
            |p, c| p.anchor.certified.named.map = Digest::of(c.id.as_bytes()),
            "members: the header has another",
        ),
        (|p, c| p.anchor.certified.named.anchors = c.id, "members: the header has another"),
        (|p, c| p.anchor.certified.named.proof = other_path(c), "members: the state does not name these"),
        (|p, _| p.anchor.index += 1, "the transaction is not in the certified log"),
        (|p, _| p.anchor.author = PublicKey::of(&key(201)), "the author of the transaction"),
        (|p, c| p.anchor.transaction = receipts_tx(c, Digest::ZERO, 5), "the transaction is not in"),
        (|p, c| p.anchor.block.parent = c.headers[1], "block header: the parent is another"),
        (|p, c| p.anchor.block.header = c.headers[2], "block header: the parent is another"),
        (
            |p, c| (p.anchor.block.header, p.anchor.block.parent) = (c.headers[2], c.headers[1]),
            "block header: the tr",
        ),
        (|p, _| p.anchor.block.header.nonce += 1, "block header: "),
        (|p, _| p.anchor.block.path.clear(), "the block header is not in"),
        (|p, _| p.index = 2, "the receipt is not under the root"),
        (|p, _| p.path[0] = Digest::ZERO, "the receipt is not under the root"),
        (|p, _| p.receipt.body["kind"] = "write".into(), "the receipt is not under the root"),
        (|p, _| p.receipt.salt = SaltBytes::from_bytes([8; 32]), "the receipt is not under the root"),
        (|p, _| p.anchor.chain = Digest::ZERO, "the proof is for the chain"),
        (|p, _| p.anchor.transaction.push('A'), "not a transaction"),
        (|p, c| p.anchor.sets = vec![fake_change(c)], "1 of 4 members signed"),
    ];
    for (case, (spoil, reason)) in cases.into_iter().enumerate() {
        let (chain, mut proof) = receipt(4, 3);
        spoil(&mut proof, &chain);
        let error = verify(&file(&proof), &chain.trust()).unwrap_err().to_string();
        assert!(error.starts_with(reason), "case {case}: {error}");
    }
}

/// The path of another entry.
fn other_path(chain: &Chain) -> crate::map::MapProof {
    chain.map.prove(&Kind::Parameters.key(""))
}

/// A change of members that a minority made up.
fn fake_change(chain: &Chain) -> SetChange {
    let certified = Certification { checkpoint: chain.note(1, 1), ..chain.certification(1) };
    SetChange { certified, members: sample(1).members, named: chain.named(1) }
}

#[test]
fn a_proof_of_another_kind_of_transaction_is_refused() {
    let (chain, proof) = receipt(1, 1);
    let record = RecordFacts {
        id: RecordId::parse("rec-00000000000000000000000000000001").unwrap(),
        length: 1,
        offset: 0,
        received: Digest::ZERO,
        salt: SaltBytes::from_bytes(SALT),
        encrypted: Digest::ZERO,
        version: 1,
    };
    let record = RecordProof { anchor: proof.anchor, index: 0, path: Vec::new(), record, segment: 0 };
    let bytes = Document::Record(record).to_bytes().unwrap();
    let expected = ProofError::Kind { expected: "record.anchor", found: "access.receipts" };
    assert_eq!(verify(&bytes, &chain.trust()), Err(expected));
}

#[test]
fn the_file_has_one_form() {
    let (chain, proof) = receipt(1, 1);
    let good = file(&proof);
    let text = String::from_utf8(good.clone()).unwrap();
    assert!(verify(&good, &chain.trust()).is_ok());
    for bad in [
        text.trim_end().to_owned(),
        format!("{text}\n"),
        format!(" {text}"),
        text.replacen(':', ": ", 1),
        text.replacen("hbc-proof-receipt/v1", "hbc-proof-receipt/v2", 1),
        text.replacen("{\"anchor\"", "{\"a\":1,\"anchor\"", 1),
        text.replacen("\"index\"", "\"Index\"", 1),
        text.replace('\n', "\r\n"),
    ] {
        assert!(verify(bad.as_bytes(), &chain.trust()).is_err(), "{bad}");
    }
    assert_eq!(verify(&vec![b' '; MAX_DOCUMENT_BYTES + 1], &Trust::Nothing), Err(ProofError::TooLarge));
}

/// Every single bit of a whole file, under a pinned chain and under none.
#[test]
fn every_flipped_bit_is_noticed() {
    let (chain, proof) = receipt(1, 2);
    let good = file(&proof);
    for (trust, step) in [(chain.trust(), 1), (Trust::Chain(chain.id), 7)] {
        for bit in (0..good.len() * 8).step_by(step) {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&bad, &trust).is_err(), "bit {bit}: {}", String::from_utf8_lossy(&bad));
        }
    }
}

#[test]
fn the_same_proof_as_tlog_text() {
    let (chain, proof) = receipt(4, 3);
    let text = proof.anchor.to_tlog_proof();
    let parsed = TlogProof::parse(&text).unwrap();
    let transaction = proof.anchor.transaction.as_bytes();
    let (origin, members) = (chain.origin(), chain.list(1));
    assert_eq!(parsed.verify(transaction, &origin, &members), Ok(()));
    assert!(parsed.verify(b"other", &origin, &members).is_err());
    for bit in (0..text.len() * 8).step_by(3) {
        let mut bad = text.clone().into_bytes();
        bad[bit / 8] ^= 1 << (bit % 8);
        let fits = String::from_utf8(bad).is_ok_and(|bad| {
            TlogProof::parse(&bad).is_ok_and(|proof| proof.verify(transaction, &origin, &members).is_ok())
        });
        assert!(!fits, "bit {bit}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(verify(&bytes, &Trust::Nothing).is_err());
    }
}
