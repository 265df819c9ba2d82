//! What must hold whatever bytes come in: one function per kind of input, each of them run by `cargo fuzz` and, over the
//! kept inputs, by the ordinary tests. Nothing here may panic but an assertion, and every assertion is a promise.
//!
//! Why: decision 0083.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "test code"
)]

mod fixture;
mod ledger;
mod script;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hbc_chain::audit::Audit;
use hbc_chain::checkpoint::Certificate as Note;
use hbc_chain::file::{ChainReader, ChainWriter};
use hbc_chain::genesis::Genesis;
use hbc_chain::header::{Block, HEADER_BYTES, Header};
use hbc_chain::json;
use hbc_chain::merkle;
use hbc_chain::payload::Payload;
use hbc_chain::proof::tlog::TlogProof;
use hbc_chain::proof::{self, Document, Trust};
use hbc_chain::tx::{self, Tx};
use hbc_consensus::{Message, wal};
use hbc_ledger::node::catch_up::examine_fetched;
use hbc_types::wire::ledger::BlocksView;

use fixture::{KNOWN_HEIGHT, fixture};
use ledger::ledger;

/// A kind of input: its name and what must hold for it.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 7] = [
    ("header", header),
    ("transaction", transaction),
    ("note", note),
    ("proof", proof),
    ("message", message),
    ("sync", sync),
    ("chain", chain),
];

/// The line of somebody who is no member: a witness may sign below a note.
const WITNESS: &str = "— witness.example/w1 BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBw==\n";

/// Headers, blocks and founding documents: what parses is the one way to write it.
pub fn header(data: &[u8]) {
    if let Ok(header) = Header::from_bytes(data) {
        assert_eq!(header.to_bytes(), data);
        let work = header.check_work().is_ok();
        assert_eq!(work, header.hash().as_bytes() <= &header.target.to_bytes());
        assert_eq!(header.leaf_hash(), merkle::leaf_hash(data));
    }
    if let Ok(block) = Block::from_bytes(data) {
        assert_eq!(block.to_bytes(), data);
        assert_eq!(block.encoded_len(), data.len());
    }
    if let Ok(genesis) = Genesis::parse(data) {
        assert_eq!(genesis.to_bytes().unwrap(), data.strip_suffix(b"\n").unwrap_or(data));
        assert_eq!(genesis.header().unwrap().hash(), genesis.chain_id().unwrap());
    }
}

/// Transactions: one form each, whatever a lenient reader would also take; and a foreign signature never fits.
pub fn transaction(data: &[u8]) {
    if json::check(data).is_ok() {
        let value: serde_json::Value = serde_json::from_slice(data).unwrap();
        assert_eq!(json::encode(&value).unwrap(), data, "canonical is what encodes back");
    }
    let Ok(tx) = Tx::parse(data) else { return };
    assert_eq!((tx.bytes(), tx.txid()), (data, tx::txid(data)));
    assert_eq!(Tx::read_final(data).as_ref(), Ok(&tx));
    for key in &fixture().keys {
        if tx.verify_signature(key).is_ok() {
            let again = tx::sign(&fixture::secret_of(key), tx.payload()).unwrap();
            assert_eq!(again.as_bytes(), data, "nobody but the key's holder makes this");
        }
    }
}

/// Signed notes and tlog-proofs: one form each; a quorum's signatures are over what was certified and nothing else.
pub fn note(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let fixture = fixture();
    if let Ok(note) = Note::parse(text) {
        assert_eq!(note.to_note(), text);
        if note.check(fixture.chain.origin(), &fixture.genesis.members).is_ok() {
            let checkpoint = &note.checkpoint;
            let known = &fixture.blocks[usize::try_from(checkpoint.height).unwrap()];
            assert_eq!(checkpoint.block, known.hash);
            assert_eq!(Note::parse(&known.certificate).unwrap().checkpoint, *checkpoint);
        }
    }
    // With signatures of others below it a note still says only what was certified.
    if let Ok(note) = proof::verify_note(text, &Trust::Genesis(Box::new(fixture.genesis.clone()))) {
        let certified = &note.certified;
        assert_eq!(certified.block, fixture.blocks[usize::try_from(certified.height).unwrap()].hash);
    }
    if let Ok(proof) = TlogProof::parse(text) {
        assert_eq!(proof::tlog::encode(proof.index, &proof.path, &proof.certificate.to_note()), text);
        for block in &fixture.blocks {
            for (place, jws) in block.transactions.iter().enumerate() {
                let covered =
                    proof.verify(jws.as_bytes(), fixture.chain.origin(), &fixture.genesis.members).is_ok();
                let index = fixture.prove(block.height, place).index;
                assert!(!covered || proof.index == index, "covers a transaction at a wrong place");
            }
        }
    }
}

/// Proof documents: one form each, and with the chain pinned they say only what is so.
pub fn proof(data: &[u8]) {
    let (genesis, ledger) = (&fixture().genesis, ledger());
    if let Ok(document) = Document::parse(data) {
        assert_eq!(document.to_bytes().unwrap(), data);
    }
    let chain = ledger.chains[0].id();
    for trust in [Trust::Genesis(Box::new(genesis.clone())), Trust::Chain(chain)] {
        if let Ok(verified) = proof::verify(data, &trust) {
            assert!(verified.pinned && verified.chain == chain);
            ledger.check(&verified);
        }
    }
    if let Ok(verified) = proof::verify(data, &Trust::Nothing) {
        assert!(!verified.pinned, "trusted nothing, so nothing is pinned");
    }
}

/// Exported chains: one form, and one that holds is the chain up to some height, or another's.
pub fn chain(data: &[u8]) {
    let fixture = fixture();
    let Ok(mut reader) = ChainReader::open(data) else { return };
    let mut audit = Audit::begin(reader.genesis()).unwrap();
    let (mut writer, mut holds) =
        (ChainWriter::begin(Vec::new(), &reader.genesis().to_bytes().unwrap()).unwrap(), true);
    loop {
        match reader.block() {
            Ok(Some((block, note))) => {
                let mut header = block.to_bytes();
                let body = header.split_off(HEADER_BYTES);
                writer.block(&header, &body, &note).unwrap();
                holds = holds && audit.take(vec![(block, note)]).is_ok();
            }
            Ok(None) => break,
            Err(_other_form) => return,
        }
    }
    assert_eq!(writer.finish().unwrap(), data);
    if holds && audit.state().chain() == fixture.chain.id() {
        let height = usize::try_from(audit.state().height()).unwrap();
        assert_eq!(audit.state().tip(), fixture.blocks[height].hash, "one chain");
        assert_eq!(audit.known().height(), height as u64);
    }
}

/// The fixture's chain up to a height, as a file.
fn exported(height: usize) -> Vec<u8> {
    let fixture = fixture();
    let mut writer = ChainWriter::begin(Vec::new(), &fixture.genesis.to_bytes().unwrap()).unwrap();
    for view in fixture.blocks.iter().take(height + 1).skip(1) {
        let mut header = fixture::block_of(view).to_bytes();
        let body = header.split_off(HEADER_BYTES);
        writer.block(&header, &body, &view.certificate).unwrap();
    }
    writer.finish().unwrap()
}

/// What members send each other and what the log keeps: by itself, and as a script against a running member.
pub fn message(data: &[u8]) {
    match data.split_first() {
        Some((0, rest)) => {
            if let Ok(message) = Message::decode(rest) {
                assert_eq!(message.encode(), rest);
                assert!(message.weight() + 1_024 >= rest.len() / 2, "weighs about what it holds");
            }
        }
        Some((1, rest)) => {
            let found = wal::scan(rest);
            let again = wal::scan(&rest[..usize::try_from(found.kept).unwrap()]);
            assert_eq!((again.records, again.floor, again.kept), (found.records, found.floor, found.kept));
        }
        Some((_, rest)) => script::run(rest),
        None => {}
    }
}

/// Blocks that a member answers with: taken only if certified; and with every root made to fit, only if all rules hold.
pub fn sync(data: &[u8]) {
    let fixture = fixture();
    let nobody = |_: &_| None;
    match data.split_first() {
        Some((0, rest)) => {
            let Ok(view) = serde_json::from_slice::<BlocksView>(rest) else { return };
            for view in view.blocks.iter().take(4) {
                if let Ok(next) = examine_fetched(&fixture.chain, view, &nobody) {
                    assert_eq!(next.value.hash, fixture.blocks[KNOWN_HEIGHT + 1].hash, "one chain");
                }
            }
        }
        Some((1, rest)) => {
            let Ok(mut block) = Block::from_bytes(rest) else { return };
            let _refused = fixture.chain.examine(block.clone(), &nobody);
            fixture.make_fit(&mut block);
            let _verdict = fixture.chain.examine(block, &nobody);
        }
        // Payloads, one a line behind its signer's number: whatever a builder builds of them its peers accept.
        Some((_, rest)) => {
            let mut txs = Vec::new();
            for line in rest.split(|byte| *byte == b'\n').take(16) {
                let Some((signer, payload)) = line.split_first() else { continue };
                let Ok(payload) = json::decode::<Payload>(payload) else { continue };
                let key = &fixture.keys[usize::from(*signer) % fixture.keys.len()];
                let jws = tx::sign(&fixture::secret_of(key), &payload).unwrap();
                if let Ok(tx) = Tx::parse(jws.as_bytes()) {
                    txs.push(Arc::new(tx));
                }
            }
            let now = fixture.now();
            let draft = fixture.chain.draft(&txs, now, &fixture.genesis.members[0].kid());
            let built = draft.mine(&AtomicBool::new(false)).unwrap();
            let verdict = fixture.chain.examine(built.block, &nobody);
            assert!(verdict.is_ok(), "{:?}", verdict.err());
        }
        None => {}
    }
}

/// Real bytes of every kind: (target, name, bytes).
pub fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let fixture = fixture();
    let mut seeds = Vec::new();
    let mut add = |target, name: String, bytes: Vec<u8>| seeds.push((target, name, bytes));
    add("header", "genesis".to_owned(), fixture.genesis.to_bytes().unwrap());
    for view in &fixture.blocks {
        let height = view.height;
        let block = fixture::block_of(view);
        add("header", format!("header-{height}"), view.header.as_slice().to_vec());
        add("header", format!("block-{height}"), block.to_bytes());
        add("sync", format!("block-{height}"), [&[1], block.to_bytes().as_slice()].concat());
        if height == 0 {
            continue;
        }
        add("note", format!("note-{height}"), view.certificate.clone().into_bytes());
        add("note", format!("cosigned-{height}"), format!("{}{WITNESS}", view.certificate).into_bytes());
        let answer = BlocksView { blocks: vec![view.clone()], tip: 9 };
        add(
            "sync",
            format!("answer-{height}"),
            [&[0], serde_json::to_vec(&answer).unwrap().as_slice()].concat(),
        );
        let mut lines = vec![2_u8];
        for (place, jws) in view.transactions.iter().enumerate() {
            let tx = Tx::parse(jws.as_bytes()).unwrap();
            add("transaction", format!("tx-{height}-{place}"), jws.clone().into_bytes());
            add("transaction", format!("payload-{height}-{place}"), json::encode(tx.payload()).unwrap());
            let signer = fixture.keys.iter().position(|key| key.kid() == tx.kid()).unwrap();
            lines.push(signer as u8);
            lines.extend(json::encode(tx.payload()).unwrap());
            lines.push(b'\n');
            let proof = fixture.prove(height, place);
            add("note", format!("tlog-{height}-{place}"), proof.to_tlog_proof().into_bytes());
        }
        add("sync", format!("payloads-{height}"), lines);
    }
    for (name, document) in ledger().documents() {
        add("proof", name.to_owned(), document.to_bytes().unwrap());
    }
    for height in 0..fixture.blocks.len() {
        add("chain", format!("height-{height}"), exported(height));
    }
    for (number, bytes) in script::seeds().into_iter().enumerate() {
        add("message", format!("seed-{number}"), bytes);
    }
    seeds
}
