//! Verifiers that share no code with the project agree with it: one written from docs/FORMATS.md, and the readers of
//! checkpoints and inclusion proofs of the Go project's transparency log.

use hbc_client::operations::ledger;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::Result;
use ed25519_dalek::SigningKey;
use hbc_chain::checkpoint::{Checkpoint, verifier_key};
use hbc_chain::genesis::{Genesis, log_origin};
use hbc_chain::payload::{Payload, Receipts};
use hbc_chain::proof::Document;
use hbc_chain::tx;
use hbc_tests::TestApp;
use hbc_types::Digest;
use hbc_types::wire::ledger::SubmitTransaction;

fn independent(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("independent").join(name)
}

#[test]
fn a_verifier_written_from_the_document_agrees() {
    if Command::new("python3").arg("--version").output().is_err() {
        hbc_testkit::skip("the independent verifier: python3 is not installed");
        return;
    }
    let output = Command::new("python3").arg(independent("verify.py")).arg("--self-test").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// `go`, where it is found.
fn go() -> Option<&'static str> {
    ["go", "/usr/local/go/bin/go"].into_iter().find(|go| Command::new(go).arg("version").output().is_ok())
}

/// Builds the Go program; None where there is no Go or its module cannot be had.
fn go_note(folder: &Path) -> Option<PathBuf> {
    let Some(go) = go() else {
        hbc_testkit::skip("checkpoints under golang.org/x/mod/sumdb/note: Go is not installed");
        return None;
    };
    let command =
        |args: &[&str]| Command::new(go).args(args).current_dir(independent("note")).output().unwrap();
    let fetched = command(&["mod", "download"]);
    if !fetched.status.success() {
        let why = String::from_utf8_lossy(&fetched.stderr);
        hbc_testkit::skip("checkpoints under golang.org/x/mod/sumdb/note: the module cannot be had");
        eprintln!("{why}");
        return None;
    }
    let program = folder.join("note");
    let built = command(&["build", "-mod=readonly", "-o", program.to_str().unwrap(), "."]);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some(program)
}

/// What the Go program says about a note, or about the proof of a transaction: its exit code and the names whose signatures
/// fit.
fn open(program: &Path, keys: &Path, text: &str, transaction: Option<&Path>) -> (i32, String) {
    use std::io::Write as _;
    let mut child = Command::new(program)
        .args([keys.to_str().unwrap(), "4"])
        .args(transaction)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let said = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    (status.code().unwrap(), said)
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/chain/tests/data").join(name)
}

/// Writes the members' verifier keys into a file; answers them, and the log's origin.
fn write_keys(genesis: &Genesis, file: &Path) -> (String, Vec<String>) {
    let origin = log_origin(&genesis.origin, &genesis.chain_id().unwrap());
    let lines: Vec<String> = genesis.members.iter().map(|member| verifier_key(&origin, member)).collect();
    std::fs::write(file, lines.join("\n")).unwrap();
    (origin, lines)
}

#[test]
fn a_checkpoint_is_a_signed_note_to_somebody_elses_reader() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = go_note(folder.path()) else { return };
    let genesis = Genesis::parse(&std::fs::read(data("genesis.json")).unwrap()).unwrap();
    let keys = folder.path().join("keys");
    let (origin, lines) = write_keys(&genesis, &keys);

    let checkpoint = Checkpoint {
        origin: origin.clone(),
        log_size: 7,
        log_root: Digest::of(b"log"),
        height: 3,
        round: 0,
        block: Digest::of(b"block"),
    };
    let note = |signers: &[u8]| {
        let signers: Vec<_> = signers.iter().copied().map(hbc_testkit::chain::key).collect();
        hbc_testkit::chain::note(checkpoint.clone(), &signers, &genesis.members)
    };
    let three = note(&[1, 2, 4]);
    let (code, said) = open(&program, &keys, &three, None);
    assert_eq!(code, 0, "{said}");
    let names: Vec<_> = said.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, [format!("{origin}/node-1"), format!("{origin}/node-2"), format!("{origin}/node-4")]);
    // The same names with the same key ids as ours.
    for (member, line) in [0, 1, 3].into_iter().zip(said.lines()) {
        let key_id = lines[member].split('+').nth(1).unwrap();
        assert!(line.ends_with(key_id), "{line} has not the key id of {}", lines[member]);
    }
    let (code, said) = open(&program, &keys, &note(&[1, 2]), None);
    assert_eq!(code, 1, "two of four are told by counting: {said}");
    assert!(said.contains("2 of 4 signed"), "{said}");
    // One bit of the text or of a signature, and nothing is opened.
    for place in [3, three.find("\n7\n").unwrap() + 1, three.len() - 20] {
        let mut bytes = three.clone().into_bytes();
        bytes[place] ^= 1;
        let (code, said) = open(&program, &keys, &String::from_utf8(bytes).unwrap(), None);
        assert_eq!(code, 2, "byte {place}: {said}");
    }
}

#[test]
fn a_transactions_proof_is_one_of_inclusion_to_somebody_elses_reader() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = go_note(folder.path()) else { return };
    let genesis = Genesis::parse(&std::fs::read(data("genesis.json")).unwrap()).unwrap();
    let (keys, transaction) = (folder.path().join("keys"), folder.path().join("transaction"));
    write_keys(&genesis, &keys);
    let proof = std::fs::read_to_string(data("receipt.tlog-proof")).unwrap();
    let document = std::fs::read(data("receipt-proof.json")).unwrap();
    let Ok(Document::Receipt(document)) = Document::parse(&document) else { panic!("a receipt's proof") };
    std::fs::write(&transaction, &document.anchor.transaction).unwrap();
    let (code, said) = open(&program, &keys, &proof, Some(&transaction));
    assert_eq!(code, 0, "{said}");
    std::fs::write(&transaction, "another").unwrap();
    assert_eq!(open(&program, &keys, &proof, Some(&transaction)).0, 1);
    std::fs::write(&transaction, &document.anchor.transaction).unwrap();
    let moved = proof.replacen("index 2", "index 1", 1);
    assert_ne!(moved, proof);
    assert_eq!(open(&program, &keys, &moved, Some(&transaction)).0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_running_node_serves_is_read_by_somebody_elses_reader() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(program) = go_note(folder.path()) else { return Ok(()) };
    let Some(app) = TestApp::shared().await? else { return Ok(()) };
    let genesis = Genesis::parse(&std::fs::read(app.dir().join("genesis.json"))?)?;
    let (keys, transaction) = (folder.path().join("keys"), folder.path().join("transaction"));
    write_keys(&genesis, &keys);

    let seed: [u8; 32] = hex::decode(app.secret("access-policy.key")?)?.try_into().expect("32 bytes");
    let (chain, iat) = (genesis.chain_id()?, app.clock.now().unsigned_ms());
    let root = Digest::from_bytes(app.random.bytes());
    let receipts = Payload::Receipts(Receipts { chain, count: 1, iat, rights: None, root });
    let jws = tx::sign(&SigningKey::from_bytes(&seed), &receipts)?;
    let node = app.node("node-1")?;
    node.to(ledger::submit_transaction()).json(&SubmitTransaction { jws: jws.clone() }).done().await?;
    let route = ledger::prove_transaction(tx::txid(jws.as_bytes()));
    let proof = hbc_tests::wait::until("the transaction is final", || async {
        Ok(node.to(route.clone()).header("accept", "text/plain").once().send().await.ok())
    })
    .await?;

    std::fs::write(&transaction, &jws)?;
    let (code, said) = open(&program, &keys, std::str::from_utf8(&proof.body)?, Some(&transaction));
    assert_eq!(code, 0, "{said}");
    let checkpoint = node.to(ledger::read_checkpoint()).send().await?.body;
    let (code, said) = open(&program, &keys, std::str::from_utf8(&checkpoint)?, None);
    assert_eq!(code, 0, "{said}");
    Ok(())
}
