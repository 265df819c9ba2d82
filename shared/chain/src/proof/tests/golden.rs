//! The documents of docs/FORMATS.md.

use std::path::{Path, PathBuf};

use super::content::{delegated_consent, record, wards_consent};
use super::documents::{bundle, membership, numbers, opening};
use super::views::{Ledger, QUERY, kid};
use super::*;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// Every document by the name of its file.
fn documents() -> Vec<(&'static str, String)> {
    let ledger = Ledger::new();
    let (_, receipt) = receipt(4, 3);
    let absent = ledger.entry(4, Kind::Staff, &kid().to_string());
    let tlog = receipt.anchor.to_tlog_proof();
    let text = |document: Document| String::from_utf8(document.to_bytes().unwrap()).unwrap();
    vec![
        ("receipt-proof.json", text(Document::Receipt(receipt))),
        ("receipt.tlog-proof", tlog),
        ("record-proof.json", text(Document::Record(record().1))),
        ("consent-proof.json", text(Document::Consent(delegated_consent().1))),
        ("consistency-proof.json", text(Document::Consistency(ledger.consistency(1, 3, 4)))),
        ("state-proof.json", text(Document::State(ledger.grant(3, &kid())))),
        ("absence-proof.json", text(Document::State(ledger.state(4, vec![absent])))),
        ("delegated-consent-proof.json", text(Document::Consent(wards_consent().1))),
        ("opening-proof.json", text(Document::Opening(opening()))),
        ("bundle-proof.json", text(Document::Bundle(bundle().1))),
        ("membership-proof.json", text(Document::Membership(membership()))),
        ("numbers-proof.json", text(Document::Numbers(numbers().1))),
        ("anchors-proof.json", text(Document::Anchors(ledger.anchors(2, QUERY)))),
    ]
}

#[test]
fn the_documents_of_the_format_are_these() {
    let trust = Trust::Genesis(Box::new(sample(4)));
    for (name, text) in documents() {
        assert_eq!(std::fs::read_to_string(folder().join(name)).unwrap(), text, "{name}");
        if name.ends_with(".json") {
            assert!(verify(text.as_bytes(), &trust).is_ok(), "{name}");
        }
    }
}

#[test]
#[ignore = "writes the documents anew, after a change of the format"]
fn write_the_documents_of_the_format() {
    for (name, text) in documents() {
        std::fs::write(folder().join(name), text).unwrap();
    }
}
