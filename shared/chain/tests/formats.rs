//! The vectors of `docs/FORMATS.md`: computed here, compared with what the document says, line by line. Those of pages,
//! ciphertexts and tags, which stand in their sections, are compared where the code is.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a vector that cannot be made fails the test"
)]

use std::sync::atomic::AtomicBool;

use ed25519_dalek::SigningKey;
use hbc_chain::bodies::{Dimension, ErasureGround};
use hbc_chain::certificate::PromiseClaims;
use hbc_chain::checkpoint::verifier_key;
use hbc_chain::entry::Kind;
use hbc_chain::genesis::{Genesis, log_origin};
use hbc_chain::header::{Block, Header, Target};
use hbc_chain::map::Map;
use hbc_chain::merkle;
use hbc_chain::payload::{AffiliationStatus, KeyStatus, OrderKind, Payload, Receipts, StaffStatus};
use hbc_chain::rtree::AnchorLeaf;
use hbc_chain::tx::{self, Tx};
use hbc_types::Digest;
use hbc_types::account::{AgencyType, Custody, ServiceRole};
use hbc_types::hash;
use hbc_types::keys::{PublicKey, SignatureBytes, possession_text};
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::purpose::{Action, Purpose};
use hbc_types::wire::access::{AccessKind, Channel};

const SALT: [u8; 32] = [7; 32];

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn hashes(lines: &mut Vec<String>) {
    let mut put = |name: &str, digest: Digest| lines.push(format!("{name} = {digest}"));
    put("H(\"hbc/x/v1\", \"one\", \"\")", hash::domain_hash("hbc/x/v1", &[b"one", b""]));
    put("consent commitment of {}", hash::consent_body(&SALT, b"{}"));
    put("receipt commitment of {}", hash::receipt(&SALT, b"{}"));
    put("staff commitment of {}", hash::staff(&SALT, b"{}"));
    put("erasure commitment of {}", hash::erase(&SALT, b"{}"));
    let facts = hash::RecordFacts {
        id: "rec-000102030405060708090a0b0c0d0e0f",
        version: 1,
        received: Digest::of(b"received"),
        encrypted: Digest::of(b"sealed"),
        offset: 4096,
        length: 512,
    };
    put(
        "record commitment of rec-000102030405060708090a0b0c0d0e0f, 1, SHA-256(\"received\"), SHA-256(\"sealed\"), 4096, 512",
        hash::record(&SALT, &facts),
    );
    let place = hash::state_key("service", "auth");
    let leaf = hash::state_leaf(&place, &Digest::of(b"{}"));
    put("state key of service, auth", place);
    put("state leaf of that key and {}", leaf);
    put("state node of that leaf and zero", hash::state_node(&leaf, &Digest::ZERO));
    let empty = merkle::empty_root();
    put("state root of that leaf and two empty trees", hash::state(&leaf, &empty, &empty));
    let mut map = Map::new();
    for id in ["a", "b", "c"] {
        map.insert(hash::state_key("event", id), Digest::of(b"{}"));
    }
    put("map root of event a, event b, event c, each {}", map.root());
    let leaves: Vec<Digest> = (0..5_u8).map(|n| merkle::leaf_hash(&[n])).collect();
    put("Merkle root of the leaves 00, 01, 02, 03, 04", merkle::root(&leaves));
    let anchor = AnchorLeaf { day0: -100, day1: 20_000, height: 7, txid: Digest::of(b"tx"), segment: 2 };
    put("leaf hash of the anchor -100, 20000, 7, SHA-256(\"tx\"), 2", anchor.leaf_hash());
}

fn signed(lines: &mut Vec<String>) {
    let chain = Digest::of(b"chain");
    let payload = Payload::Receipts(Receipts {
        chain,
        count: 2,
        iat: 1_790_000_000_000,
        rights: None,
        root: Digest::of(b"root"),
    });
    let text = tx::sign(&key(1), &payload).unwrap();
    let parsed = Tx::parse(text.as_bytes()).unwrap();
    lines.push(format!("kid of key 1 = {}", PublicKey::of(&key(1)).kid()));
    lines.push(format!("transaction access.receipts of chain SHA-256(\"chain\") by key 1 = {text}"));
    lines.push(format!("its txid = {}", parsed.txid()));
    lines.push(format!("its ballot = {}", parsed.payload().ballot()));
    let text = possession_text(&chain, &PublicKey::of(&key(1)).kid());
    lines.push(format!(
        "pop of key 1 for chain SHA-256(\"chain\") = {}",
        SignatureBytes::sign(&key(1), &text)
    ));
    let txid = parsed.txid();
    let promise = PromiseClaims {
        chain,
        iat: 1_790_000_000_000,
        include_by: 1_790_000_005_000,
        node: "node-1".into(),
        txid,
    };
    lines.push(format!("promise of that txid by key 1 = {}", promise.sign(&key(1)).unwrap()));
}

fn blocks(lines: &mut Vec<String>) {
    for bits in [8, 20] {
        let target = Target::from_zero_bits(bits).unwrap();
        lines.push(format!("target of {bits} zero bits = {:08x}", target.compact()));
        lines.push(format!("as a number = {}", hex::encode(target.to_bytes())));
    }
    let header = Header {
        height: 1,
        prev_hash: Digest::of(b"prev"),
        tx_root: Digest::of(b"tx"),
        log_root: Digest::of(b"log"),
        log_size: 2,
        state_root: Digest::of(b"state"),
        time_ms: 1_790_000_000_000,
        target: Target::from_zero_bits(8).unwrap(),
        miner: [1, 2, 3, 4, 5, 6, 7, 8],
        nonce: 0,
    };
    let header = header.mine(&AtomicBool::new(false)).unwrap();
    lines.push(format!("header = {}", hex::encode(header.to_bytes())));
    lines.push(format!("its hash = {}", header.hash()));
    let block = Block { header, transactions: vec![b"one".to_vec(), b"three".to_vec()] };
    let bytes = block.to_bytes();
    lines.push(format!(
        "after the header of a block of \"one\" and \"three\" = {}",
        hex::encode(&bytes[180..])
    ));

    let genesis = Genesis::parse(include_bytes!("data/genesis.json")).unwrap();
    let chain = genesis.chain_id().unwrap();
    let origin = log_origin(&genesis.origin, &chain);
    lines.push(format!("SHA-256(genesis.json) = {}", Digest::of(&genesis.to_bytes().unwrap())));
    lines.push(format!("header 0 = {}", hex::encode(genesis.header().unwrap().to_bytes())));
    lines.push(format!("chain id = {chain}"));
    lines.push(format!("origin = {origin}"));
    lines.push(format!("verifier key of node-1 = {}", verifier_key(&origin, &genesis.members[0])));
}

#[test]
fn the_document_states_these_vectors_and_no_others() {
    let mut lines = Vec::new();
    hashes(&mut lines);
    signed(&mut lines);
    blocks(&mut lines);
    let document = include_str!("../../../docs/FORMATS.md");
    let stated = document.split("## 9. Vectors").nth(1).and_then(|rest| rest.split("```").nth(1)).unwrap();
    let stated: Vec<&str> = stated.trim().lines().collect();
    let computed: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_eq!(stated, computed, "\n{}\n", lines.join("\n"));
    let [eight, twenty] = [8, 20].map(|bits| Target::from_zero_bits(bits).unwrap().compact());
    let words = format!("20 leading zero bits: `{twenty:08x}`; 8: `{eight:08x}`.");
    let unwrapped = document.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(unwrapped.contains(&words), "section 6: {words}");
}

/// Rows of §13: the list's name and its codes.
fn codes() -> Vec<(&'static str, Vec<&'static str>)> {
    fn all<T: Copy>(list: &[T], code: impl Fn(T) -> &'static str) -> Vec<&'static str> {
        list.iter().map(|one| code(*one)).collect()
    }
    vec![
        ("action", all(Action::ALL, Action::code)),
        ("category", all(Category::ALL, Category::code)),
        ("sensitivity", all(Sensitivity::ALL, Sensitivity::code)),
        ("purpose", all(Purpose::ALL, Purpose::code)),
        ("kind of access", all(AccessKind::ALL, AccessKind::code)),
        ("channel", all(Channel::ALL, Channel::code)),
        ("custody", all(Custody::ALL, Custody::code)),
        ("status of a key", all(KeyStatus::ALL, KeyStatus::code)),
        ("status of a profile", all(StaffStatus::ALL, StaffStatus::code)),
        ("ground of an erasure", all(ErasureGround::ALL, ErasureGround::code)),
        ("dimension", all(Dimension::ALL, Dimension::code)),
        ("status of an affiliation", all(AffiliationStatus::ALL, AffiliationStatus::code)),
        ("order", all(OrderKind::ALL, OrderKind::code)),
        ("service", all(ServiceRole::ALL, ServiceRole::code)),
        ("agency type", all(AgencyType::ALL, AgencyType::code)),
        ("kind of entry", all(Kind::ALL, Kind::code)),
    ]
}

#[test]
fn the_document_lists_every_code_and_no_others() {
    let document = include_str!("../../../docs/FORMATS.md");
    let section =
        document.split("\n## 13. Codes").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    let stated: Vec<(&str, Vec<&str>)> = rows
        .map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            (cells[0], cells[2].split(", ").map(|code| code.trim_matches('`')).collect())
        })
        .collect();
    assert_eq!(stated, codes());
}
