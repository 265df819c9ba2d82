//! `hbc init` from outside: what it makes fits together, what it finds it leaves alone, and what it shows once it keeps
//! nowhere.

#![expect(clippy::unwrap_used, reason = "what a test helper cannot do fails the test")]

use std::path::{Path, PathBuf};
use std::process::Command;

use ed25519_dalek::SigningKey;
use hbc_chain::genesis::Genesis;
use hbc_types::keys::PublicKey;

fn hbc(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_hbc")).args(args).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said)
}

/// A deployment and what its making said; none where there is no IPFS daemon.
fn init(dir: &Path, options: &[&str]) -> Option<String> {
    let mut args = vec!["init", "--ports", "auto"];
    args.extend(options);
    args.push(dir.to_str().unwrap());
    let (code, said) = hbc(&args);
    if said.contains("no IPFS daemon") {
        hbc_testkit::skip(said.trim());
        return None;
    }
    assert_eq!(code, Some(0), "{said}");
    Some(said)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn every_service_accepts_the_configuration_that_is_made_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("site");
    if init(&dir, &["--dev"]).is_none() {
        return;
    }
    let settings: toml::Table = std::fs::read_to_string(dir.join("hbc.toml")).unwrap().parse().unwrap();
    let services = settings["service"].as_array().unwrap();
    assert_eq!(services.len(), 7);
    for service in services {
        let (name, role) = (service["name"].as_str().unwrap(), service["role"].as_str().unwrap());
        let config = dir.join(format!("config/{name}.toml"));
        let (code, said) = hbc(&["migrate", role, "--config", config.to_str().unwrap()]);
        assert_eq!(code, Some(0), "{name}: {said}");
    }
}

#[test]
fn the_founding_document_names_the_keys_in_the_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("site");
    if init(&dir, &["--dev"]).is_none() {
        return;
    }
    let genesis = Genesis::parse(&std::fs::read(dir.join("genesis.json")).unwrap()).unwrap();
    let public = |name: &str| {
        let text = std::fs::read_to_string(dir.join(format!("secrets/{name}.key"))).unwrap();
        let seed: [u8; 32] = hex::decode(text.trim()).unwrap().try_into().unwrap();
        PublicKey::of(&SigningKey::from_bytes(&seed))
    };
    for member in &genesis.members {
        assert_eq!(member.key, public(&member.name), "{}", member.name);
    }
    for service in &genesis.services {
        assert_eq!(service.key, public(service.role.code()), "{}", service.role);
    }
    let operators = std::fs::read(dir.join("secrets/operators.json")).unwrap();
    let operators: serde_json::Value = serde_json::from_slice(&operators).unwrap();
    let listed = operators["operators"].as_array().unwrap();
    assert_eq!(listed.len(), genesis.operators.len());
    for (operator, entry) in genesis.operators.iter().zip(listed) {
        assert_eq!(entry["username"], operator.name.as_str());
        assert_eq!(entry["public_key"], hex::encode(operator.key.as_bytes()));
    }
}

#[test]
fn a_folder_with_anything_in_it_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("site");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("hbc.toml"), "mine").unwrap();
    for options in [&["--dev"][..], &[]] {
        let args = [&["init"], options, &[dir.to_str().unwrap()]].concat();
        let (code, said) = hbc(&args);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("exists and is not empty"), "{said}");
    }
    assert_eq!(files(folder.path()), [dir.join("hbc.toml")]);
    assert_eq!(std::fs::read_to_string(dir.join("hbc.toml")).unwrap(), "mine");
}

#[test]
fn the_operators_passwords_are_shown_and_kept_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("site");
    let Some(said) = init(&dir, &[]) else { return };
    let lines = said.lines().filter_map(|line| line.trim().strip_prefix("operator-"));
    let passwords: Vec<&str> = lines.filter_map(|line| line.split_once("  ").map(|(_, word)| word)).collect();
    assert_eq!(passwords.len(), 2, "{said}");
    assert!(passwords.iter().all(|password| password.len() >= 32) && passwords[0] != passwords[1], "{said}");
    for path in files(&dir) {
        let bytes = std::fs::read(&path).unwrap();
        for password in &passwords {
            let kept = bytes.windows(password.len()).any(|window| window == password.as_bytes());
            assert!(!kept, "a password stands in {}", path.display());
        }
    }
}
