//! Proof documents: whole ones pass, changed ones are refused with the reason.

mod views;

use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use serde_json::json;

use super::tlog::TlogProof;
use super::*;
use crate::account::Custody;
use crate::chain::certificate::{ConsentCertificate, Limits};
use crate::chain::checkpoint::{Certificate, Checkpoint};
use crate::chain::genesis::tests::{key, sample};
use crate::chain::genesis::{Named, log_origin};
use crate::chain::header::{Header, miner_id};
use crate::chain::keys::{PublicKey, SaltBytes, Tag};
use crate::chain::merkle::{self, Tree};
use crate::chain::payload::{Anchor, Consent, Payload, Receipts, Segment};
use crate::chain::state::Map;
use crate::chain::tx;
use crate::hash;
use crate::ids::{GrantId, RecordId};

const SALT: [u8; 32] = [7; 32];

/// A chain with everything that a node holds, made by hand.
struct Chain {
    genesis: Genesis,
    id: Digest,
    headers: Vec<Header>,
    log: Tree,
    /// Members' seeds and list from the next height on.
    members: Vec<(u8, Named)>,
    sets: Vec<SetChange>,
}

impl Chain {
    fn new(members: u8) -> Self {
        let genesis = sample(members);
        let header = genesis.header().unwrap();
        Self {
            id: header.hash(),
            members: genesis.members.iter().cloned().zip(1..).map(|(m, n)| (n, m)).collect(),
            genesis,
            headers: vec![header],
            log: Tree::default(),
            sets: Vec::new(),
        }
    }

    fn origin(&self) -> String {
        log_origin(&self.genesis.origin, &self.id)
    }

    fn list(&self) -> Vec<Named> {
        self.members.iter().map(|(_, member)| member.clone()).collect()
    }

    /// Appends a block and answers the places of its transactions.
    fn append(&mut self, transactions: &[String], state_root: Digest) -> Vec<u64> {
        let parent = *self.headers.last().unwrap();
        self.log.push(parent.leaf_hash());
        let ids: Vec<Digest> = transactions.iter().map(|tx| tx::txid(tx.as_bytes())).collect();
        let mut places = Vec::new();
        for id in &ids {
            places.push(self.log.size());
            self.log.push(*id);
        }
        let header = Header {
            height: parent.height + 1,
            prev_hash: parent.hash(),
            tx_root: merkle::root(&ids),
            log_root: self.log.root(),
            log_size: self.log.size(),
            state_root,
            time_ms: parent.time_ms + 1000,
            target: parent.target,
            miner: miner_id(&self.members[0].1.kid()),
            nonce: 0,
        };
        self.headers.push(header.mine(&AtomicBool::new(false)).unwrap());
        places
    }

    fn note(&self, height: usize, signers: usize) -> String {
        let header = self.headers[height];
        let checkpoint = Checkpoint {
            origin: self.origin(),
            log_size: header.log_size,
            log_root: header.log_root,
            height: header.height,
            round: 0,
            block: header.hash(),
        };
        let votes = self.members.iter().take(signers);
        let votes: Vec<_> = votes.map(|(n, m)| (m.kid(), checkpoint.sign(&key(*n)))).collect();
        Certificate::assemble(checkpoint, &votes, &self.list()).to_note()
    }

    /// The proof of the transaction at `index` of block `height`, under the checkpoint of height `under`.
    fn prove(
        &self,
        author: u8,
        transaction: &str,
        index: u64,
        height: usize,
        under: usize,
    ) -> TransactionProof {
        let (header, size) = (self.headers[height], self.headers[under].log_size);
        let path =
            if height == under { Vec::new() } else { self.log.inclusion(header.log_size, size).unwrap() };
        TransactionProof {
            author: PublicKey::of(&key(author)),
            block: BlockEvidence { header, parent: self.headers[height - 1], path },
            chain: self.id,
            checkpoint: self.note(under, self.members.len()),
            genesis: Some(self.genesis.clone()),
            index,
            path: self.log.inclusion(index, size).unwrap(),
            sets: self.sets.clone(),
            transaction: transaction.to_owned(),
        }
    }

    fn trust(&self) -> Trust {
        Trust::Genesis(Box::new(self.genesis.clone()))
    }
}

fn receipts_tx(chain: &Chain, root: Digest, count: u64) -> String {
    let iat = 1_790_000_000_500;
    tx::sign(&key(202), &Payload::Receipts(Receipts { chain: chain.id, count, iat, root })).unwrap()
}

/// A chain whose block 1 holds three transactions, the second of which covers five receipts; block 2 and 3 follow.
fn receipt(members: u8, under: usize) -> (Chain, ReceiptProof) {
    let mut chain = Chain::new(members);
    let body = |n: u64| json!({"id": format!("rcp-{n:032x}"), "kind": "read", "n": n});
    let commitments: Vec<Digest> =
        (0..5).map(|n| hash::receipt(&SALT, &json::encode(&body(n)).unwrap())).collect();
    let leaves: Vec<Digest> = commitments.iter().map(|c| merkle::leaf_hash(c.as_bytes())).collect();
    let batch = Tree::of(&leaves);
    let wanted = receipts_tx(&chain, batch.root(), 5);
    let before = receipts_tx(&chain, Digest::of(b"before"), 1);
    let after = receipts_tx(&chain, Digest::of(b"after"), 1);
    let places = chain.append(&[before, wanted.clone(), after.clone()], Digest::of(b"state"));
    chain.append(&[], Digest::of(b"state"));
    chain.append(&[receipts_tx(&chain, Digest::of(b"later"), 1)], Digest::of(b"state"));
    let proof = ReceiptProof {
        anchor: chain.prove(202, &wanted, places[1], 1, under),
        index: 3,
        path: batch.inclusion(3, 5).unwrap(),
        receipt: Opening { body: body(3), salt: SaltBytes::from_bytes(SALT) },
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
        assert_eq!(verified.content, Content::Receipt(proof.receipt.body.clone()));
        let facts = verified.facts();
        let transaction = verified.transaction.unwrap();
        assert_eq!((transaction.height, transaction.certified.height), (1, under as u64));
        assert_eq!(transaction.author, Author::Service("access-policy"));
        assert_eq!(transaction.kind, "access.receipts");
        assert_eq!(transaction.certified.signers, ["node-1", "node-2", "node-3", "node-4"]);
        assert!(transaction.zero_bits >= 8);
        assert!(facts.iter().all(|(_, value)| !value.contains("NOT PINNED")));
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
    let cases: [Spoiling; 17] = [
        (|p, c| p.anchor.checkpoint = c.note(3, 2), "2 of 4 members signed"),
        (|p, c| p.anchor.checkpoint = c.note(2, 4), "the transaction is not in the certified log"),
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

/// A change of members that a minority made up.
fn fake_change(chain: &Chain) -> SetChange {
    SetChange {
        anchors: Digest::ZERO,
        checkpoint: chain.note(1, 1),
        header: chain.headers[1],
        map: Digest::ZERO,
        members: sample(1).members,
        pages: Digest::ZERO,
        proof: crate::chain::state::MapProof { path: Vec::new(), other: None },
    }
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
        sealed: Digest::ZERO,
        version: 1,
    };
    let record = RecordProof { anchor: proof.anchor, index: 0, path: Vec::new(), record, segment: 0 };
    let bytes = Document::Record(record).to_bytes().unwrap();
    let expected = ProofError::Kind { expected: "record.anchor", found: "access.receipts" };
    assert_eq!(verify(&bytes, &chain.trust()), Err(expected));
}

#[test]
fn a_record_is_proved_by_its_anchor() {
    let mut chain = Chain::new(1);
    let facts = |n: u8| RecordFacts {
        id: RecordId::parse(&format!("rec-{n:032x}")).unwrap(),
        length: 100,
        offset: 100 * u64::from(n),
        received: Digest::of(&[n]),
        salt: SaltBytes::from_bytes([n; 32]),
        sealed: Digest::of(&[n, n]),
        version: 1,
    };
    let leaves: Vec<Digest> = (0..3).map(|n| merkle::leaf_hash(facts(n).commitment().as_bytes())).collect();
    let segment = |root, records| Segment {
        bytes: 300,
        cid: "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e".into(),
        digest: Digest::of(b"segment"),
        records,
        root,
        tag: Tag::from_bytes([1; 16]),
    };
    let tree = Tree::of(&leaves);
    let segments = vec![segment(Digest::of(b"other"), 1), segment(tree.root(), 3)];
    let payload = Payload::Anchor(Anchor { chain: chain.id, day0: 20_000, day1: 20_031, iat: 5, segments });
    let transaction = tx::sign(&key(203), &payload).unwrap();
    let places = chain.append(std::slice::from_ref(&transaction), Digest::of(b"state"));
    let good = RecordProof {
        anchor: chain.prove(203, &transaction, places[0], 1, 1),
        index: 2,
        path: tree.inclusion(2, 3).unwrap(),
        record: facts(2),
        segment: 1,
    };
    let check = |proof: &RecordProof| {
        verify(&Document::Record(proof.clone()).to_bytes().unwrap(), &chain.trust())
            .map(|verified| verified.content)
    };
    assert_eq!(check(&good), Ok(Content::Record(facts(2))));
    let wrong_segment = RecordProof { segment: 0, ..good.clone() };
    assert!(matches!(check(&wrong_segment), Err(ProofError::NotUnderRoot { what: "record", .. })));
    let no_segment = RecordProof { segment: 2, ..good.clone() };
    assert!(matches!(check(&no_segment), Err(ProofError::Contradiction(_))));
    let mut longer = good.clone();
    longer.record.length = 101;
    assert!(matches!(check(&longer), Err(ProofError::Contradiction(_))));
    let mut other = good;
    other.record.received = Digest::ZERO;
    assert!(matches!(check(&other), Err(ProofError::NotUnderRoot { what: "record", .. })));
}

#[test]
fn a_consent_is_proved_with_its_certificate() {
    let mut chain = Chain::new(1);
    let grant = GrantId::parse("grt-00000000000000000000000000000001").unwrap();
    let (root, consent_key) = (key(50), key(51));
    let body = json!({"grant": grant, "grantee": "agy-1", "patient": "pat-1"});
    let payload = Payload::Grant(Consent {
        chain: chain.id,
        commitment: hash::consent_body(&SALT, &json::encode(&body).unwrap()),
        custody: Custody::Client,
        grant,
        iat: 5,
        key: PublicKey::of(&consent_key).kid(),
        prev: None,
        seq: 1,
    });
    let transaction = tx::sign(&consent_key, &payload).unwrap();
    let places = chain.append(std::slice::from_ref(&transaction), Digest::of(b"state"));
    let certificate = |grantee: &str, of: u8| {
        let certificate = ConsentCertificate {
            chain: chain.id,
            grantee: grantee.into(),
            iat: 4,
            key: PublicKey::of(&key(of)).kid(),
            limits: Limits::default(),
            root: PublicKey::of(&root).kid(),
        };
        certificate.sign(&root).unwrap()
    };
    let good = ConsentProof {
        anchor: chain.prove(51, &transaction, places[0], 1, 1),
        certificate: certificate("agy-1", 51),
        consent: Opening { body, salt: SaltBytes::from_bytes(SALT) },
        root: PublicKey::of(&root),
    };
    let check =
        |proof: &ConsentProof| verify(&Document::Consent(proof.clone()).to_bytes().unwrap(), &chain.trust());
    let verified = check(&good).unwrap();
    assert_eq!(verified.transaction.as_ref().unwrap().author, Author::Registered);
    assert!(
        matches!(verified.content, Content::Consent { root: kid, .. } if kid == PublicKey::of(&root).kid())
    );
    let other_grantee = ConsentProof { certificate: certificate("agy-2", 51), ..good.clone() };
    assert!(matches!(check(&other_grantee), Err(ProofError::Contradiction(_))));
    let other_key = ConsentProof { certificate: certificate("agy-1", 52), ..good.clone() };
    assert!(matches!(check(&other_key), Err(ProofError::Contradiction(_))));
    let other_root = ConsentProof { root: PublicKey::of(&key(60)), ..good.clone() };
    assert!(matches!(check(&other_root), Err(ProofError::Certificate(_))));
    let mut other_body = good;
    other_body.consent.body["patient"] = "pat-2".into();
    assert_eq!(check(&other_body), Err(ProofError::Commitment("consent")));
}

#[test]
fn a_change_of_members_travels_in_the_proof() {
    let mut chain = Chain::new(4);
    // Block 1 puts node-5 in the place of node-4.
    let mut members = chain.list();
    members[3] = Named { key: PublicKey::of(&key(5)), name: "node-5".into() };
    let mut map = Map::new();
    map.insert(hash::state_key("members", ""), Digest::of(&json::encode(&members).unwrap()));
    map.insert(hash::state_key("parameters", ""), Digest::of(b"{}"));
    let empty = merkle::empty_root();
    chain.append(&[], hash::state(&map.root(), &empty, &empty));
    let change = SetChange {
        anchors: empty,
        checkpoint: chain.note(1, 4),
        header: chain.headers[1],
        map: map.root(),
        members: members.clone(),
        pages: empty,
        proof: map.prove(&hash::state_key("members", "")),
    };
    chain.members[3] = (5, members[3].clone());
    let transaction = receipts_tx(&chain, Digest::of(b"root"), 1);
    let places = chain.append(std::slice::from_ref(&transaction), Digest::of(b"state"));
    let without = chain.prove(202, &transaction, places[0], 2, 2);
    chain.sets.push(change.clone());
    let with = chain.prove(202, &transaction, places[0], 2, 2);
    let check = |proof: &TransactionProof| {
        verify(&Document::Transaction(proof.clone()).to_bytes().unwrap(), &chain.trust())
    };
    assert_eq!(
        check(&with).unwrap().transaction.unwrap().certified.signers,
        ["node-1", "node-2", "node-3", "node-5"]
    );
    assert_eq!(
        check(&without),
        Err(ProofError::Checkpoint(super::CheckpointError::Stranger("node-5".into())))
    );
    let spoil: [fn(&mut SetChange); 5] = [
        |c| c.members[0].name = "node-0".into(),
        |c| c.map = Digest::ZERO,
        |c| c.header.nonce += 1,
        |c| c.members.clear(),
        |c| c.proof.path[0] = Digest::of(b"x"),
    ];
    for (case, spoil) in spoil.into_iter().enumerate() {
        let mut bad = with.clone();
        spoil(&mut bad.sets[0]);
        assert!(check(&bad).is_err(), "case {case}");
    }
    let twice = TransactionProof { sets: vec![change.clone(), change], ..with };
    assert_eq!(check(&twice), Err(ProofError::Members("the changes are not in order")));
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
    let (origin, members) = (chain.origin(), chain.list());
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

/// The document of docs/FORMATS.md.
#[test]
fn golden_receipt_proof() {
    let (chain, proof) = receipt(4, 3);
    let text = String::from_utf8(file(&proof)).unwrap();
    assert_eq!(text, include_str!("../../../tests/data/receipt-proof.json"));
    assert!(verify(text.as_bytes(), &chain.trust()).is_ok());
    assert_eq!(proof.anchor.to_tlog_proof(), include_str!("../../../tests/data/receipt.tlog-proof"));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(verify(&bytes, &Trust::Nothing).is_err());
    }
}
