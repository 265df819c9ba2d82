//! Verifiers that share no code with the project agree with it: one written from docs/FORMATS.md, and the checkpoint reader
//! of the Go project's transparency log.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ed25519_dalek::SigningKey;
use hbc_types::Digest;
use hbc_types::chain::checkpoint::{Certificate, Checkpoint, verifier_key};
use hbc_types::chain::genesis::{Genesis, log_origin};
use hbc_types::chain::keys::PublicKey;

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

/// What the Go program says about a note: its exit code and the names whose signatures fit.
fn open(program: &Path, keys: &Path, note: &str) -> (i32, String) {
    use std::io::Write as _;
    let mut child = Command::new(program)
        .args([keys.to_str().unwrap(), "4"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(note.as_bytes()).unwrap();
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let said = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    (status.code().unwrap(), said)
}

#[test]
fn a_checkpoint_is_a_signed_note_to_somebody_elses_reader() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = go_note(folder.path()) else { return };
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/types/tests/data");
    let genesis = Genesis::parse(&std::fs::read(data.join("genesis.json")).unwrap()).unwrap();
    let origin = log_origin(&genesis.origin, &genesis.chain_id().unwrap());
    let keys = folder.path().join("keys");
    let lines: Vec<String> = genesis.members.iter().map(|member| verifier_key(&origin, member)).collect();
    std::fs::write(&keys, lines.join("\n")).unwrap();

    let checkpoint = Checkpoint {
        origin: origin.clone(),
        log_size: 7,
        log_root: Digest::of(b"log"),
        height: 3,
        round: 0,
        block: Digest::of(b"block"),
    };
    let note = |signers: &[u8]| {
        let key = |n: u8| SigningKey::from_bytes(&[n; 32]);
        let votes: Vec<_> =
            signers.iter().map(|n| (PublicKey::of(&key(*n)).kid(), checkpoint.sign(&key(*n)))).collect();
        Certificate::assemble(checkpoint.clone(), &votes, &genesis.members).to_note()
    };
    let three = note(&[1, 2, 4]);
    let (code, said) = open(&program, &keys, &three);
    assert_eq!(code, 0, "{said}");
    let names: Vec<_> = said.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, [format!("{origin}/node-1"), format!("{origin}/node-2"), format!("{origin}/node-4")]);
    // The same names with the same key ids as ours.
    for (member, line) in [0, 1, 3].into_iter().zip(said.lines()) {
        let key_id = lines[member].split('+').nth(1).unwrap();
        assert!(line.ends_with(key_id), "{line} has not the key id of {}", lines[member]);
    }
    let (code, said) = open(&program, &keys, &note(&[1, 2]));
    assert_eq!(code, 1, "two of four are told by counting: {said}");
    assert!(said.contains("2 of 4 signed"), "{said}");
    // One bit of the text or of a signature, and nothing is opened.
    for place in [3, three.find("\n7\n").unwrap() + 1, three.len() - 20] {
        let mut bytes = three.clone().into_bytes();
        bytes[place] ^= 1;
        let (code, said) = open(&program, &keys, &String::from_utf8(bytes).unwrap());
        assert_eq!(code, 2, "byte {place}: {said}");
    }
}
