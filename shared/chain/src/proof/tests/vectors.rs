//! The vectors in `tests/vectors`, one file for each subject: made here, checked by the verifier that was written from
//! docs/FORMATS.md alone. Each is first checked here.

mod off_chain;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::content::{consent_with, delegated_consent};
use super::forgery::{idle_change, two_pasts};
use super::views::{Ledger, kid};
use super::*;
use crate::certificate::{AddressClaims, PromiseClaims};
use crate::consent::UnfreezeOrder;
use crate::evidence::{Answer, DoubleVote, Evidence, Signed, answer};
use crate::fixtures::{Course, signed};
use crate::jws::Jws;
use crate::map::Map;
use crate::payload::MemberVote;
use crate::testing::vector_text;
use hbc_types::ids::PatientId;
use hbc_types::keys::{SignatureBytes, signed_text};
use hbc_types::labels::Category;
use hbc_types::purpose::Action;
use hbc_types::wire::access::ReceiptBody;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Encodings of points of small order, among them the second ones of y and of x = 0, then what is on no curve, then y + p.
const NO_KEYS: [&str; 14] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0202020202020202020202020202020202020202020202020202020202020202",
    "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

/// `S + L`, little-endian: the same scalar written in another way.
fn with_order_added(signature: &SignatureBytes) -> SignatureBytes {
    let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
    let mut bytes = *signature.as_bytes();
    let mut carry = 0;
    for (byte, add) in bytes[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
    }
    SignatureBytes::from_bytes(bytes)
}

fn keys() -> Value {
    let public = PublicKey::of(&key(1));
    let genuine = SignatureBytes::sign(&key(1), b"text");
    // The equation holds for it: R is the neutral point, and S is k times the secret scalar.
    let neutral = "0100000000000000000000000000000000000000000000000000000000000000fba97ef6bd87c30ebd9e29cb0328f74233b4412b33d87c48214d109967ca6209";
    let neutral = SignatureBytes::parse(neutral).unwrap();
    let larger = with_order_added(&genuine);
    assert_eq!(public.verify(b"text", &genuine), Ok(()));
    for refused in [&larger, &neutral] {
        assert!(public.verify(b"text", refused).is_err());
    }
    for none in NO_KEYS {
        assert!(PublicKey::parse(none).unwrap().check().is_err(), "{none}");
    }
    json!({"key": public, "text": "text", "accepted": [genuine], "no_keys": NO_KEYS, "refused": [
        {"signature": larger, "why": "S + L"},
        {"signature": neutral, "why": "R is of small order"},
    ]})
}

fn canonical_json() -> Value {
    let accepted = [
        "{}",
        "[]",
        "0",
        "-1",
        "9007199254740991",
        "\"\\\"\\\\\\b\\t\\n\\f\\r\\u0001é\"",
        "{\"prev\":null}",
        "{\"A\":1,\"a\":2}",
        "true",
    ];
    let refused = [
        ("null", "null outside of prev"),
        ("{\"a\":null}", "null outside of prev"),
        ("[null]", "null outside of prev"),
        ("{\"prev\":[null]}", "null inside of prev"),
        ("{\"b\":1,\"a\":2}", "keys that do not ascend"),
        ("{\"a\":1,\"a\":1}", "a key twice"),
        ("{\"é\":1}", "a key that is not ASCII"),
        ("{ }", "white space"),
        ("1.0", "a fraction"),
        ("1e2", "an exponent"),
        ("-0", "a negative zero"),
        ("01", "a leading zero"),
        ("9007199254740992", "an integer that is too large"),
        ("\"\\u0041\"", "an escape that is not needed"),
        ("\"\\u0000\"", "NUL"),
        ("\"\\/\"", "an escape that is not needed"),
        ("\"\\u00E9\"", "an escape that is not needed"),
        ("{}\n", "a line feed after the end"),
    ];
    for text in accepted {
        assert_eq!(json::check(text.as_bytes()), Ok(()), "{text}");
    }
    for (text, why) in refused {
        assert!(json::check(text.as_bytes()).is_err(), "{text}: {why}");
    }
    let refused: Vec<Value> = refused.iter().map(|(text, why)| json!({"text": text, "why": why})).collect();
    json!({"accepted": accepted, "refused": refused})
}

/// Bodies of receipts with every optional field, and each rule of FORMATS §2 broken.
fn receipt_bodies() -> Value {
    let plain = serde_json::to_value(crate::testing::receipt_body(2)).unwrap();
    let with = |changes: &[(&str, Value)]| {
        let mut body = plain.clone();
        for (name, value) in changes {
            match (body.as_object_mut().unwrap(), value) {
                (members, Value::Null) => drop(members.remove(*name)),
                (members, value) => drop(members.insert((*name).to_owned(), value.clone())),
            }
        }
        body
    };
    let sign_in = |changes: &[(&'static str, Value)]| {
        let mut all = vec![
            ("kind", json!("session")),
            ("records", json!([])),
            ("categories", json!([])),
            ("actor", plain["patient"].clone()),
            ("grant", Value::Null),
            ("rule", json!("")),
        ];
        all.extend_from_slice(changes);
        all
    };
    let closing = |name: &'static str, value: Value| sign_in(&[("kind", json!("closed")), (name, value)]);
    let emergency = json!(format!("emg-{:032x}", 1));
    let accepted = [
        plain.clone(),
        with(&[("kind", json!("search")), ("count", json!(40)), ("records", json!([]))]),
        with(&[("kind", json!("search")), ("count", json!(0)), ("records", json!([]))]),
        with(&[("kind", json!("denied")), ("folded", json!(4)), ("grant", Value::Null)]),
        with(&[("emergency", emergency.clone()), ("purpose", json!("ETREAT"))]),
        with(&[("on_behalf_of", json!(format!("pat-{:032x}", 1))), ("channel", json!("portal"))]),
        with(&[("case", json!("~C-2026/0001!")), ("channel", json!("api"))]),
        with(&[("n", json!(1)), ("prev", Value::Null)]),
        with(&sign_in(&[])),
        with(&sign_in(&[("kind", json!("closed")), ("purpose", json!("PATRQT"))])),
    ];
    let refused = [
        (with(&sign_in(&[("records", plain["records"].clone())])), "a sign-in that names records"),
        (with(&sign_in(&[("categories", json!(["laboratory"]))])), "a sign-in that names categories"),
        (with(&sign_in(&[("actor", json!(format!("agy-{:032x}", 1)))])), "somebody else's sign-in"),
        (with(&closing("records", plain["records"].clone())), "a closing that names records"),
        (with(&closing("categories", json!(["laboratory"]))), "a closing that names categories"),
        (with(&closing("actor", json!(format!("op-{:032x}", 1)))), "somebody else's closing"),
        (with(&[("kind", json!("search")), ("records", json!([]))]), "a search without a count"),
        (with(&[("count", json!(1))]), "a count that is of no search"),
        (with(&[("kind", json!("search")), ("count", json!(1))]), "a search that names records"),
        (with(&[("kind", json!("denied")), ("folded", json!(0))]), "folded not even once"),
        (with(&[("folded", json!(1))]), "folded, and no denial"),
        (with(&[("emergency", emergency)]), "an emergency that is for another purpose"),
        (with(&[("case", json!(""))]), "an empty case"),
        (with(&[("case", json!("a b"))]), "a space in a case"),
        (with(&[("case", json!("x".repeat(65)))]), "a case that is too long"),
        (with(&[("channel", json!("fax"))]), "a channel that is not in the list"),
        (with(&[("on_behalf_of", json!("somebody"))]), "on behalf of no account"),
        (with(&[("n", json!(0))]), "number 0"),
        (with(&[("n", json!(1))]), "the first, with one before it"),
        (with(&[("prev", Value::Null)]), "the second, with none before it"),
        (with(&[("more", json!(1))]), "a field that there is not"),
        (with(&[("rule", Value::Null)]), "no rule"),
    ];
    let fault = |body: &Value| match serde_json::from_value::<ReceiptBody>(body.clone()) {
        Ok(body) => body.fault().map(str::to_owned),
        Err(error) => Some(error.to_string()),
    };
    for body in &accepted {
        assert_eq!(fault(body), None, "{body}");
    }
    for (body, why) in &refused {
        assert!(fault(body).is_some(), "{why}");
    }
    let refused: Vec<Value> = refused.iter().map(|(body, why)| json!({"body": body, "why": why})).collect();
    json!({"accepted": accepted, "refused": refused})
}

fn signed_objects() -> Value {
    let (chain, iat) = (Digest::of(b"chain"), 1_790_000_000_000);
    let (root, txid, kid) = (PublicKey::of(&key(50)), Digest::of(b"tx"), PublicKey::of(&key(51)).kid());
    let limits = Limits {
        actions: Some(vec![Action::Read]),
        categories: Some(vec![Category::Laboratory]),
        until_ms: Some(iat + 1),
        ..Limits::default()
    };
    let grantee = format!("agy-{:032x}", 1);
    let certificate = ConsentCertificate { chain, grantee, iat, key: kid, limits, root: root.kid() };
    let certificate = certificate.sign(&key(50)).unwrap();
    let (node, url) = ("node-1".to_owned(), "https://node-1.example".to_owned());
    let address = AddressClaims { chain, iat, node: node.clone(), url }.sign(&key(1)).unwrap();
    let promise = PromiseClaims { chain, iat, include_by: iat + 5_000, node, txid }.sign(&key(1)).unwrap();
    let patient = PatientId::parse(&format!("pat-{:032x}", 1)).unwrap();
    let unfreeze = UnfreezeOrder { chain, grant: None, iat, patient }.sign(&key(50)).unwrap();
    let transaction = tx::sign(
        &key(202),
        &Payload::Receipts(Receipts { chain, count: 1, iat, rights: None, root: Digest::of(b"root") }),
    )
    .unwrap();
    let member = PublicKey::of(&key(1));
    let accepted: Vec<Value> = [
        ("hbc-consent-cert+jws", root, &certificate),
        ("hbc-address+jws", member, &address),
        ("hbc-promise+jws", member, &promise),
        ("hbc-unfreeze+jws", root, &unfreeze),
        ("hbc-tx+jws", PublicKey::of(&key(202)), &transaction),
    ]
    .into_iter()
    .map(|(typ, key, text)| {
        let jws = Jws::parse(text.as_bytes(), typ, 8192).unwrap();
        assert_eq!(jws.verify(text.as_bytes(), &key), Ok(()));
        json!({"typ": typ, "key": key, "text": text})
    })
    .collect();
    // The last character of a signature carries four bits that are not used.
    let mut bent = address.clone().into_bytes();
    *bent.last_mut().unwrap() += 1;
    let bent = String::from_utf8(bent).unwrap();
    let (_, rest) = address.split_once('.').unwrap();
    let other = format!("{}.{rest}", "eyJhbGciOiJub25lIn0");
    let refused = [
        (bent, "bits of base64url that are not used"),
        (format!("{address}="), "padding"),
        (format!("{address}\n"), "a line feed"),
        (other, "another header"),
        (address.replacen(".", "..", 1), "four parts"),
    ];
    for (text, why) in &refused {
        let parsed = Jws::parse(text.as_bytes(), "hbc-address+jws", 8192);
        assert!(parsed.is_err(), "{why}");
    }
    let refused: Vec<Value> = refused.iter().map(|(text, why)| json!({"text": text, "why": why})).collect();
    json!({"accepted": accepted, "refused": {"key": member, "typ": "hbc-address+jws", "texts": refused}})
}

fn map() -> Value {
    let mut map = Map::new();
    let value = |number: u64| json!({"count": number, "txid": Digest::of(&number.to_be_bytes())});
    let id = |number: u64| Digest::of(&number.to_le_bytes()).to_string();
    let digest = |value: &Value| Digest::of(&json::encode(value).unwrap());
    for number in 1..=5 {
        map.insert(Kind::Receipts.key(&id(number)), digest(&value(number)));
    }
    let mut proofs = Vec::new();
    let (mut empty, mut other) = (0, 0);
    for number in 1..=12 {
        let key = Kind::Receipts.key(&id(number));
        let proof = map.prove(&key);
        let mut entry = json!({"id": id(number), "kind": "receipts", "proof": proof});
        if number <= 5 {
            proof.verify_present(&map.root(), &key, &digest(&value(number))).unwrap();
            entry["value"] = value(number);
        } else {
            proof.verify_absent(&map.root(), &key).unwrap();
            let place = if proof.other.is_some() { &mut other } else { &mut empty };
            *place += 1;
        }
        proofs.push(entry);
    }
    assert!(empty > 0 && other > 0, "both kinds of absence");
    json!({"root": map.root(), "proofs": proofs})
}

fn trees() -> Value {
    let data: Vec<Vec<u8>> = (0..7_u8).map(|n| vec![n; usize::from(n)]).collect();
    let tree = Tree::of(&data.iter().map(|data| merkle::leaf_hash(data)).collect::<Vec<_>>());
    let inclusion: Vec<Value> =
        (0..7).map(|at| json!({"index": at, "path": tree.inclusion(at, 7).unwrap()})).collect();
    let consistency: Vec<Value> = (1..7)
        .map(|size| {
            let old = Tree::of(
                &data[..usize::try_from(size).unwrap()]
                    .iter()
                    .map(|data| merkle::leaf_hash(data))
                    .collect::<Vec<_>>(),
            );
            json!({"size": size, "root": old.root(), "path": tree.consistency(size, 7).unwrap()})
        })
        .collect();
    let data: Vec<String> = data.iter().map(hex::encode).collect();
    json!({"leaves": data, "root": tree.root(), "inclusion": inclusion, "consistency": consistency})
}

fn notes() -> Value {
    let chain = Chain::new(4);
    let mut chain = chain;
    chain.append(&[]);
    let (trust, note) = (chain.trust(), chain.note(1, 3));
    let (body, lines) = note.split_once("\n\n").unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    let with = |lines: &[&str]| format!("{body}\n\n{}\n", lines.join("\n"));
    let witness = "— witness.example/w1 AAAAAAAA";
    let accepted = [note.clone(), chain.note(1, 4), with(&[witness, lines[0], lines[1], lines[2]])];
    for note in &accepted {
        assert!(verify_note(note, &trust).is_ok(), "{note}");
    }
    let all = |extra: &str| with(&[lines[0], lines[1], lines[2], extra]);
    let cases = [
        (1, "signers that do not ascend", with(&[lines[1], lines[0], lines[2]])),
        (1, "a signer twice", with(&[lines[0], lines[0], lines[1], lines[2]])),
        (1, "another text under their signatures", note.replacen("hbc-block 1 0", "hbc-block 1 1", 1)),
        (2, "fewer than more than two thirds of the founders", with(&lines[..2])),
        (2, "nobody who is known", with(&[witness])),
        (2, "a plus in a name", all("— x+y AAAAAAAA")),
        (2, "a space of Unicode in a name", all("— x\u{a0}y AAAAAAAA")),
        (2, "no name", all("—  AAAAAAAA")),
        (2, "a key id and no signature", all("— x AAAAAA==")),
        (2, "a hyphen for the dash", all("- x AAAAAAAA")),
        (2, "a control character", all("— x\u{1}y AAAAAAAA")),
        (2, "an empty line at the end", format!("{note}\n")),
        (2, "carriage returns", note.replace('\n', "\r\n")),
        (2, "no line feed at the end", note.trim_end().to_owned()),
        (2, "a height with a leading zero", note.replacen("hbc-block 1", "hbc-block 01", 1)),
    ];
    let refused: Vec<Value> = cases
        .iter()
        .map(|(code, why, text)| {
            let error = verify_note(text, &trust).unwrap_err();
            let unclear = matches!(
                error,
                ProofError::Checkpoint(CheckpointError::Form(_) | CheckpointError::TooFew { .. })
            );
            assert_eq!(unclear, *code == 2, "{why}: {error}");
            json!({"code": code, "text": text, "why": why})
        })
        .collect();
    json!({"accepted": accepted, "genesis": chain.genesis, "refused": refused})
}

/// A member's leaving, vote by vote, each in a block of its own.
fn votes() -> Value {
    let mut course = Course::new();
    let chain = course.chain.id();
    let steps: Vec<Value> = ["m1", "m2", "m4"]
        .into_iter()
        .map(|voter| {
            let (subject, value, iat) =
                ("member:m4".to_owned(), "none".to_owned(), course.chain.tip().time_ms);
            let vote = MemberVote { chain, iat, nonce: 0, subject, value };
            course.append(&[signed(voter, &Payload::MemberVote(vote))]);
            let (block, _) = course.blocks.last().unwrap();
            let transactions: Vec<&str> =
                block.transactions.iter().map(|text| std::str::from_utf8(text).unwrap()).collect();
            let Header { state_root, time_ms, .. } = block.header;
            json!({"state_root": state_root, "time_ms": time_ms, "transactions": transactions})
        })
        .collect();
    assert_eq!(course.chain.state().members().len(), 3, "the last vote takes effect");
    json!({"genesis": **course.chain.genesis(), "steps": steps})
}

fn evidence() -> Value {
    let mut chain = Chain::new(4);
    chain.append(&[]);
    let public = PublicKey::of(&key(1));
    let by_member = |text: Vec<u8>| Signed {
        signature: SignatureBytes::sign(&key(1), &text),
        text: String::from_utf8(text).unwrap(),
    };
    let value = |n: u8| format!("{} 3 {}", Digest::of(&[n]), Digest::of(&[n, n]));
    let prevote = |n: u8| by_member(signed_text("hbc/prevote/v1", &chain.id, &["1", "0", &value(n)]));
    let nil = by_member(signed_text("hbc/precommit-nil/v1", &chain.id, &["1", "0", "nil"]));
    let (body, _) =
        chain.note(1, 4).split_once("\n\n").map(|(body, rest)| (format!("{body}\n"), rest.len())).unwrap();
    let precommit = by_member(body.into_bytes());
    let (header, rest) = (chain.headers[1].to_bytes(), vec![0; 4]);
    let nonce = Digest::of(b"nonce");
    let answered = |answer: Digest| {
        let signature = SignatureBytes::sign(&key(1), &Answer::text(&chain.id, 1, &nonce, &answer));
        Evidence::Answer(Answer { answer, chain: chain.id, height: 1, nonce, public, signature })
    };
    let of =
        |one: Signed, other: Signed| Evidence::DoubleVote(DoubleVote::new(chain.id, public, 1, one, other));
    let accepted = [of(prevote(1), prevote(2)), of(nil.clone(), precommit), answered(Digest::ZERO)];
    let mut unordered = DoubleVote::new(chain.id, public, 1, prevote(1), prevote(2));
    std::mem::swap(&mut unordered.first, &mut unordered.second);
    let refused = [
        ("two texts of two slots", of(prevote(1), nil)),
        ("one text twice", of(prevote(1), prevote(1))),
        ("texts that do not ascend", Evidence::DoubleVote(unordered)),
    ];
    for one in &accepted {
        assert!(one.verify(&chain.id).is_ok(), "{one:?}");
    }
    for (why, one) in &refused {
        assert!(one.verify(&chain.id).is_err(), "{why}");
    }
    let right = answer(&nonce, &header, &rest);
    let refused: Vec<Value> = refused.iter().map(|(why, one)| json!({"document": one, "why": why})).collect();
    json!({"accepted": accepted, "block": {"body": hex::encode(rest), "header": hex::encode(header)}, "chain": chain.id,
        "refused": refused, "right_answer": answered(right)})
}

/// Whole files with the code that a verifier ends with.
fn outcomes() -> Value {
    let good = |document: &Document| String::from_utf8(document.to_bytes().unwrap()).unwrap();
    let receipt_of = |body: Value| Document::Receipt(receipt_with(4, 1, body).1);
    let whole = serde_json::to_value(receipt_body(4)).unwrap();
    let mut no_number = whole.clone();
    no_number.as_object_mut().unwrap().remove("prev");
    let receipt = good(&receipt_of(whole));
    let consent = |spoil: &dyn Fn(&mut Value)| good(&Document::Consent(consent_with(spoil).1));
    let ledger = Ledger::new();
    let cases = [
        (0, "a receipt", receipt.clone()),
        (0, "a consent within its limits", good(&Document::Consent(delegated_consent().1))),
        (0, "a grant that is not in force", good(&Document::State(ledger.grant(3, &kid())))),
        (1, "a receipt's body that is a number", good(&receipt_of(json!(1)))),
        (1, "a receipt's body that is empty", good(&receipt_of(json!({})))),
        (1, "a fourth receipt without the one before it", good(&receipt_of(no_number))),
        (1, "a scope with an empty list", consent(&|body| body["scope"]["purposes"] = json!([]))),
        (
            1,
            "a scope with a code that is not known",
            consent(&|body| body["scope"]["purposes"] = json!(["BTG"])),
        ),
        (
            1,
            "a scope that ends before it begins",
            consent(&|body| {
                body["scope"]["until"] = body["scope"]["from"].clone();
            }),
        ),
        (1, "a change of members that changes nothing", good(&idle_change())),
        (1, "two certified blocks of one height", good(&two_pasts())),
        (1, "another salt", receipt.replacen("\"salt\":\"0707", "\"salt\":\"0708", 1)),
        (2, "spaces", receipt.replacen(':', ": ", 1)),
        (2, "a byte-order mark", format!("\u{feff}{receipt}")),
        (2, "no line feed at the end", receipt.trim_end().to_owned()),
        (2, "two line feeds at the end", format!("{receipt}\n")),
        (2, "cut off", receipt.chars().take(receipt.len() / 2).collect()),
        (2, "another format", receipt.replacen("hbc-proof-receipt/v1", "hbc-proof-receipt/v2", 1)),
        (2, "a field too many", receipt.replacen("{\"anchor\"", "{\"a\":1,\"anchor\"", 1)),
        (2, "no HBC file", "hello\n".to_owned()),
    ];
    let trust = Chain::new(4).trust();
    let files: Vec<Value> = cases
        .iter()
        .map(|(code, what, file)| {
            let found = match verify(file.as_bytes(), &trust) {
                Ok(_) => 0,
                Err(error) => {
                    if error.tells_nothing() {
                        2
                    } else {
                        1
                    }
                }
            };
            assert_eq!(found, *code, "{what}");
            json!({"code": code, "file": file, "what": what})
        })
        .collect();
    json!({"files": files, "genesis": Chain::new(4).genesis})
}

/// Every file by its name, and last the list of all hashes.
fn files() -> BTreeMap<String, Vec<u8>> {
    let subjects = [
        ("keys", keys()),
        ("json", canonical_json()),
        ("receipts", receipt_bodies()),
        ("bodies", off_chain::other_bodies()),
        ("certificates", off_chain::certificates()),
        ("numbers", off_chain::numbers()),
        ("jws", signed_objects()),
        ("map", map()),
        ("merkle", trees()),
        ("notes", notes()),
        ("votes", votes()),
        ("evidence", evidence()),
        ("outcomes", outcomes()),
    ];
    let named =
        |(name, value): &(&str, Value)| (format!("vectors/{name}.json"), vector_text(value).into_bytes());
    subjects.iter().map(named).collect()
}

/// `SHA256SUMS` over these, over every file of the documents, and over the vectors that services make.
fn sums(files: &BTreeMap<String, Vec<u8>>) -> String {
    let mut all: BTreeMap<String, Digest> = BTreeMap::new();
    for part in ["data", "vectors"] {
        for file in std::fs::read_dir(folder().join(part)).unwrap() {
            let file = file.unwrap();
            if file.file_type().unwrap().is_file() {
                let bytes = std::fs::read(file.path()).unwrap();
                all.insert(format!("{part}/{}", file.file_name().to_str().unwrap()), Digest::of(&bytes));
            }
        }
    }
    all.extend(files.iter().map(|(name, bytes)| (name.clone(), Digest::of(bytes))));
    all.iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect()
}

#[test]
fn the_vectors_are_these() {
    let files = files();
    for (name, bytes) in &files {
        let stored = std::fs::read(folder().join(name)).unwrap_or_default();
        assert!(stored == *bytes, "{name} is another than the code makes");
    }
    assert_eq!(std::fs::read_to_string(folder().join("SHA256SUMS")).unwrap(), sums(&files));
}

#[test]
#[ignore = "writes the vectors anew, after a change of the format"]
fn write_the_vectors() {
    let files = files();
    for (name, bytes) in &files {
        std::fs::write(folder().join(name), bytes).unwrap();
    }
    std::fs::write(folder().join("SHA256SUMS"), sums(&files)).unwrap();
}
