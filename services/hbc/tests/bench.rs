//! `hbc bench` measures everything that it says, on real processes. Its figures are looked at only for being there: how
//! large they are is the machine's business.

use std::process::Command;

fn assert_measured(figures: &[serde_json::Value], name: &str) {
    let figure = figures.iter().find(|figure| figure["name"] == name);
    let value = figure.and_then(|figure| figure["value"].as_f64());
    assert!(value.is_some_and(|value| value > 0.0), "{name}: {figure:?}");
}

#[test]
fn every_figure_of_auth_is_measured_and_written() {
    let folder = tempfile::tempdir().unwrap();
    // With a folder `target` at hand it works inside it.
    std::fs::create_dir(folder.path().join("target")).unwrap();
    let file = folder.path().join("figures.json");
    let output = Command::new(env!("CARGO_BIN_EXE_hbc"))
        .args(["bench", "auth", "--clients", "2", "--seconds", "1", "--json"])
        .arg(&file)
        .current_dir(folder.path())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("no IPFS daemon") {
        hbc_testkit::skip(errors.trim());
        return;
    }
    assert!(output.status.success(), "{errors}");
    let written: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let figures = written["figures"].as_array().unwrap();
    for name in [
        "Argon2id, 19 MiB, 2 passes",
        "logins",
        "token checks",
        "refreshes",
        "client credentials",
        "introspections",
        "introspections, p99",
    ] {
        assert_measured(figures, name);
    }
    let left: Vec<_> = std::fs::read_dir(folder.path().join("target")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn every_figure_of_the_ledger_is_measured_and_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("figures.json");
    let output = Command::new(env!("CARGO_BIN_EXE_hbc"))
        .args(["bench", "ledger", "--members", "4", "--transactions", "300", "--batch", "50"])
        .args(["--single", "10", "--stored", "300", "--blocks", "20", "--zero-bits", "4", "--json"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    for said in ["this machine, one core", "4 members, incremental verification, 4 bits of work", "≥ 15,000"]
    {
        assert!(text.contains(said), "{text}");
    }
    let written: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let figures = written["figures"].as_array().unwrap();
    for name in [
        "Ed25519 verifications",
        "accepted, durable, in batches",
        "promise, idle, p99",
        "final, idle, p99",
        "final on every member, sustained",
        "full verification from SQLite",
        "appended by a node in mode `full`",
    ] {
        assert_measured(figures, name);
    }
    let goals = figures.iter().filter(|figure| !figure["goal"].is_null()).count();
    assert!(goals >= 5, "{goals} figures have goals");
}
