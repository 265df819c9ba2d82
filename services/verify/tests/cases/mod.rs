//! What checks proofs and chains, by its exit codes: 0 valid, 1 not, 2 not checked, 3 consistent but not pinned; with
//! the network out of reach.

#![expect(clippy::unwrap_used, reason = "what a test helper cannot do fails the test")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/chain/tests/data")
}

fn verify(args: &[&str]) -> (Option<i32>, String) {
    verify_with_input(args, b"")
}

/// The same with something on standard input.
fn verify_with_input(args: &[&str], input: &[u8]) -> (Option<i32>, String) {
    let (program, first) = crate::PROGRAM;
    // Where the system lets us, in a network of its own that has not even a loopback.
    let alone = ["-r", "-n"];
    let can =
        Command::new("unshare").args(alone).arg("true").output().is_ok_and(|tried| tried.status.success());
    let mut command = Command::new(if can { "unshare" } else { program });
    if can {
        command.args(alone).arg(program);
    }
    command.args(first).args(args).env_clear();
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Whoever needs no input may be gone already.
    let _gone = child.stdin.take().unwrap().write_all(input);
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

fn path(name: &str) -> String {
    vectors().join(name).to_str().unwrap().to_owned()
}

/// Every document of docs/FORMATS.md, and what it proves.
const DOCUMENTS: [(&str, &str); 7] = [
    ("receipt-proof.json", "this access was recorded"),
    ("record-proof.json", "this record existed when its block was made"),
    ("consent-proof.json", "this consent was given; that none revoked it is not shown"),
    ("consistency-proof.json", "the log only grew from height 1 to height 3"),
    ("state-proof.json", "is NOT IN FORCE at height 3: its key was revoked"),
    ("absence-proof.json", "IS NOT in the state at height 4"),
    ("anchors-proof.json", "up to height 2, there are 25 anchors and no others"),
];

#[test]
fn every_kind_of_document_says_what_it_proves() {
    for (name, proves) in DOCUMENTS {
        let (code, said) = verify(&["--trust", &path("genesis.json"), &path(name)]);
        assert_eq!(code, Some(0), "{name}: {said}");
        let sentence = said.lines().next().unwrap();
        assert!(sentence.starts_with("valid: ") && sentence.ends_with('.'), "{name}: {said}");
        assert!(sentence.contains(proves) && sentence.contains("; "), "{name}: {said}");
        assert_eq!(verify(&[&path(name)]).0, Some(3), "{name}");
    }
    let (_, said) = verify(&["--trust", &path("genesis.json"), &path("consent-proof.json")]);
    assert!(said.contains("only actions read; categories laboratory, vital-signs; before 2027-"), "{said}");
}

#[test]
fn an_anchor_withheld_from_a_page_or_from_the_tail_is_missed() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.json");
    let original = std::fs::read_to_string(vectors().join("anchors-proof.json")).unwrap();
    let without_first_of = |list: &str| {
        let (before, anchors) = original.split_once(list).unwrap();
        let (_first, rest) = anchors.split_once("},").unwrap();
        format!("{before}{list}{rest}")
    };
    for (list, reason) in [
        ("\"anchors\":[", "no page has a node like this"),
        ("\"tail\":[", "the anchors lead to another root"),
    ] {
        let file = without_first_of(list);
        std::fs::write(&copy, file).unwrap();
        let (code, said) = verify(&["--trust", &path("genesis.json"), copy.to_str().unwrap()]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("not shown to be all") && said.contains(reason), "{said}");
    }
}

#[test]
fn a_pipe_is_read_like_a_file() {
    let genesis = path("genesis.json");
    for name in ["receipt-proof.json", "anchors-proof.json"] {
        let bytes = std::fs::read(vectors().join(name)).unwrap();
        for input in ["/dev/stdin", "-"] {
            let (code, said) = verify_with_input(&["--trust", &genesis, input], &bytes);
            assert_eq!(code, Some(0), "{name}: {said}");
        }
    }
    let tlog = std::fs::read(vectors().join("receipt.tlog-proof")).unwrap();
    let receipt = std::fs::read_to_string(vectors().join("receipt-proof.json")).unwrap();
    let jws = receipt.split("\"transaction\":\"").nth(1).unwrap().split('"').next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let transaction = folder.path().join("transaction.jws");
    std::fs::write(&transaction, format!("{jws}\n")).unwrap();
    let args = ["--trust", &genesis, "--transaction", transaction.to_str().unwrap(), "/dev/stdin"];
    let (code, said) = verify_with_input(&args, &tlog);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("transaction access.receipts "), "{said}");
    assert!(said.contains("of the 4 founding members"), "{said}");
}

#[test]
fn an_exported_chain_is_checked_from_a_file_and_from_a_pipe() {
    let bytes = std::fs::read(vectors().join("chain.hbc")).unwrap();
    let length = usize::try_from(u32::from_be_bytes(bytes[10..14].try_into().unwrap())).unwrap();
    let genesis = hbc_chain::genesis::Genesis::parse(&bytes[14..14 + length]).unwrap();
    let chain = genesis.chain_id().unwrap().to_string();
    for (args, input) in
        [(["--trust", &chain, &path("chain.hbc")], &[][..]), (["--trust", &chain, "-"], &bytes)]
    {
        let (code, said) = verify_with_input(&args, input);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("21 after block 0"), "{said}");
    }
    assert_eq!(verify(&[&path("chain.hbc")]).0, Some(3));
    assert_eq!(
        verify(&["--trust", &path("genesis.json"), &path("chain.hbc")]).0,
        Some(1),
        "of another chain"
    );
}

#[test]
fn what_a_file_says_does_not_steer_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.json");
    for field in ["\\u001b[2Jvalid", "\u{202e}dilav"] {
        std::fs::write(&copy, format!("{{\"format\":\"{field}\"}}\n")).unwrap();
        let (code, said) = verify(&["--trust", &path("genesis.json"), copy.to_str().unwrap()]);
        assert_eq!(code, Some(2), "{said}");
        assert!(!said.contains('\u{1b}') && !said.contains('\u{202e}'), "{said:?}");
    }
}

#[test]
fn a_kept_file_of_the_same_past_contradicts_nothing() {
    let genesis = path("genesis.json");
    let against =
        |kept: &str, file: &str| verify(&["--trust", &genesis, "--against", &path(kept), &path(file)]);
    // These three are of one chain.
    for kept in ["state-proof.json", "absence-proof.json", "consistency-proof.json"] {
        for file in ["state-proof.json", "absence-proof.json", "consistency-proof.json"] {
            let (code, said) = against(kept, file);
            assert_eq!(code, Some(0), "{kept} {file}: {said}");
            assert!(said.contains("contradicts this nowhere"), "{said}");
        }
    }
    // The others are of other pasts of the same founders.
    let (code, said) = against("state-proof.json", "record-proof.json");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("two different blocks of height 1 are certified"), "{said}");
    let (code, said) = against("state-proof.json", "genesis.json");
    assert_eq!(code, Some(2), "a genesis.json is no proof: {said}");
    let (code, said) = against("genesis.json", "state-proof.json");
    assert_eq!(code, Some(2), "what was kept proves nothing itself: {said}");
    assert!(said.contains("genesis.json`"), "{said}");
    let (code, said) = verify(&["--against", &path("chain.hbc"), &path("state-proof.json")]);
    assert_eq!(code, Some(2), "nothing is pinned, and they are of two chains: {said}");
    assert!(said.contains("is of the chain"), "{said}");
}

const RECEIPT: &str = "valid: this access was recorded: `read` by agy-00000000000000000000000000000001 to 1 records of \
    pat-00000000000000000000000000000001 at 2026-09-21T14:13:20.400Z for TREAT, the patient's receipt number 4; final in \
    block 1 of 2026-09-21T14:13:21.000Z.";

#[test]
fn a_proof_is_valid_under_its_genesis_and_its_chain_id_and_unpinned_without() {
    let proof = vectors().join("receipt-proof.json");
    let genesis = vectors().join("genesis.json");
    let (code, said) = verify(&["--trust", genesis.to_str().unwrap(), proof.to_str().unwrap()]);
    assert_eq!((code, said.lines().next()), (Some(0), Some(RECEIPT)), "{said}");

    let founding = hbc_chain::genesis::Genesis::parse(&std::fs::read(genesis).unwrap()).unwrap();
    let chain = founding.chain_id().unwrap().to_string();
    assert_eq!(verify(&["--trust", &chain, proof.to_str().unwrap()]).0, Some(0));

    let (code, said) = verify(&[proof.to_str().unwrap()]);
    assert_eq!(code, Some(3));
    assert!(said.starts_with("consistent, chain not pinned"), "{said}");
}

#[test]
fn another_chain_and_a_changed_bit_are_refused_with_the_reason() {
    let proof = vectors().join("receipt-proof.json");
    let genesis = vectors().join("genesis.json");
    let (code, said) = verify(&["--trust", &"ab".repeat(32), proof.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(said.starts_with("not valid: the proof is for the chain "), "{said}");

    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.json");
    let original = std::fs::read(&proof).unwrap();
    for place in (0..original.len()).step_by(97) {
        let mut bytes = original.clone();
        bytes[place] ^= 1;
        std::fs::write(&copy, &bytes).unwrap();
        let (code, said) = verify(&["--trust", genesis.to_str().unwrap(), copy.to_str().unwrap()]);
        // What can still be read is false; what cannot says nothing.
        let readable = hbc_chain::proof::Document::parse(&bytes).is_ok();
        assert_eq!(code, Some(if readable { 1 } else { 2 }), "byte {place}: {said}");
        assert_eq!(said.starts_with("not valid: "), readable, "{said}");
        assert!(said.contains("not valid: ") || said.contains("not checked: "), "{said}");
    }
    // The signature of the last member, the root of a path and the salt.
    let text = String::from_utf8(original).unwrap();
    for part in ["\"path\":[\"", "\"salt\":\"", "\"author\":\""] {
        let (before, after) = text.split_once(part).unwrap();
        let mut after = after.chars();
        let other = if after.next() == Some('0') { "1" } else { "0" };
        std::fs::write(&copy, format!("{before}{part}{other}{}", after.as_str())).unwrap();
        let (code, said) = verify(&["--trust", genesis.to_str().unwrap(), copy.to_str().unwrap()]);
        assert_eq!(code, Some(1), "{part}: {said}");
    }
}

#[test]
fn a_proof_that_an_editor_saved_is_told_from_a_forged_one() {
    let folder = tempfile::tempdir().unwrap();
    let (copy, genesis) = (folder.path().join("copy"), path("genesis.json"));
    let check = |bytes: &[u8]| {
        std::fs::write(&copy, bytes).unwrap();
        verify(&["--trust", &genesis, copy.to_str().unwrap()])
    };
    let mark = "\u{feff}".as_bytes();
    for (name, _) in DOCUMENTS {
        let good = std::fs::read(vectors().join(name)).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&good).unwrap();
        let pretty = serde_json::to_vec_pretty(&value).unwrap();
        let without_end = good.strip_suffix(b"\n").unwrap();
        for altered in [&pretty, &[mark, &good].concat(), &[mark, &pretty].concat(), &without_end.to_vec()] {
            let (code, said) = check(altered);
            assert_eq!(code, Some(2), "{name}: {said}");
            let format = value["format"].as_str().unwrap();
            assert!(said.contains("laid out anew") && said.contains(format), "{name}: {said}");
            assert_eq!(said.contains("byte-order mark"), altered.starts_with(mark), "{said}");
        }
    }
    let checkpoint = std::fs::read(path("checkpoint.txt")).unwrap();
    let (code, said) = check(&[mark, &checkpoint].concat());
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("byte-order mark"), "{said}");
    // Nothing that HBC makes, and a chain that is not all there.
    let chain = std::fs::read(path("chain.hbc")).unwrap();
    for other in [&b""[..], b"hello\n", b"{\"a\":1}\n", b"\x89PNG\r\n", &chain[..6], b"{\"chain\":\"03"] {
        let (code, said) = check(other);
        assert_eq!(code, Some(2), "{said}");
        assert!(!said.contains("not valid"), "{said}");
    }
    std::fs::write(&copy, &chain[..chain.len() - 20]).unwrap();
    let (code, said) = verify(&[copy.to_str().unwrap()]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("cut off; the 20 blocks before it hold"), "{said}");
}

#[test]
fn a_checkpoint_is_false_or_by_others_than_the_founders() {
    let folder = tempfile::tempdir().unwrap();
    let (copy, genesis) = (folder.path().join("copy"), path("genesis.json"));
    let good = std::fs::read_to_string(path("checkpoint.txt")).unwrap();
    let check = |text: &str| {
        std::fs::write(&copy, text).unwrap();
        verify(&["--trust", &genesis, copy.to_str().unwrap()])
    };
    assert_eq!(check(&good).0, Some(0));
    // Another text under their names and key ids.
    let (code, said) = check(&good.replacen("\n7\n", "\n8\n", 1));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the signature of `node-1` does not fit"), "{said}");
    // As it looks after two of the four have gone: others sign, of whom nothing is known.
    let lines: Vec<&str> = good.split_inclusive('\n').collect();
    let (code, said) = check(&lines[..lines.len() - 1].concat());
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("2 of the 4 founding members") && said.contains("proof document"), "{said}");
    // Of another log.
    let (code, said) = check(&good.replace("hbc.example", "hbd.example"));
    assert!(matches!(code, Some(1 | 2)), "{said}");
}

#[test]
fn what_cannot_be_checked_is_not_called_invalid() {
    let (genesis, proof, checkpoint) =
        (path("genesis.json"), path("receipt-proof.json"), path("checkpoint.txt"));
    let tlog = path("receipt.tlog-proof");
    let calls: [&[&str]; 8] = [
        &["--trust", &genesis, "/no/such/file"],
        &["--trust", "/no/such/genesis.json", &proof],
        &["--trust", &proof, &proof],
        &["--trust", &genesis, "--against", "/no/such/file", &proof],
        &["--trust", &genesis, "--transaction", &tlog, &proof],
        &["--trust", &genesis, &tlog],
        &[&checkpoint],
        &["--no-such-option", &proof],
    ];
    for call in calls {
        let (code, said) = verify(call);
        assert_eq!(code, Some(2), "{call:?}: {said}");
        assert!(!said.contains("not valid"), "{call:?}: {said}");
    }
}
