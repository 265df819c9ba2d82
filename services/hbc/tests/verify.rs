//! `hbc verify` by its exit codes: 0 proven, 1 not, 3 consistent but not pinned; with the network out of reach.

#![expect(clippy::unwrap_used, reason = "what a test helper cannot do fails the test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/types/tests/data")
}

fn verify(args: &[&str]) -> (Option<i32>, String) {
    let program = env!("CARGO_BIN_EXE_hbc");
    // Where the system lets us, in a network of its own that has not even a loopback.
    let alone = ["-r", "-n"];
    let can =
        Command::new("unshare").args(alone).arg("true").output().is_ok_and(|tried| tried.status.success());
    let Output { status, stdout, .. } = if can {
        Command::new("unshare")
            .args(alone)
            .arg(program)
            .arg("verify")
            .args(args)
            .env_clear()
            .output()
            .unwrap()
    } else {
        Command::new(program).arg("verify").args(args).env_clear().output().unwrap()
    };
    (status.code(), String::from_utf8(stdout).unwrap())
}

#[test]
fn a_proof_is_valid_under_its_genesis_and_its_chain_id_and_unpinned_without() {
    let proof = vectors().join("receipt-proof.json");
    let genesis = vectors().join("genesis.json");
    let (code, said) = verify(&["--trust", genesis.to_str().unwrap(), proof.to_str().unwrap()]);
    assert_eq!((code, said.lines().next()), (Some(0), Some("valid")), "{said}");

    let founding = hbc_types::chain::genesis::Genesis::parse(&std::fs::read(genesis).unwrap()).unwrap();
    let chain = founding.chain_id().unwrap().to_string();
    assert_eq!(verify(&["--trust", &chain, proof.to_str().unwrap()]).0, Some(0));

    let (code, said) = verify(&[proof.to_str().unwrap()]);
    assert_eq!(code, Some(3));
    assert!(said.starts_with("consistent, chain not pinned"), "{said}");
}

#[test]
fn another_chain_a_changed_bit_and_a_missing_file_are_refused_with_the_reason() {
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
        assert_eq!(code, Some(1), "byte {place}: {said}");
        assert!(said.starts_with("not valid: "), "{said}");
    }
    assert_eq!(verify(&["--trust", genesis.to_str().unwrap(), "/no/such/file"]).0, Some(1));
}
