//! The fuzz targets without a fuzzer: every kept input, every seed of real bytes, and a fixed number of mutations of
//! them, in the ordinary test run. What `cargo fuzz` finds is kept below `fuzz/kept` and tried here for ever.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "test code"
)]

#[path = "../../../fuzz/src/lib.rs"]
mod fuzz;

use std::path::Path;

use hbc_types::Random;

/// Mutations of each seed.
const MUTATIONS: u64 = 40;

fn below(random: &Random, limit: usize) -> usize {
    (u64::from_be_bytes(random.bytes()) % (limit.max(1) as u64)) as usize
}

/// One to four changes, each of a kind that parsers stumble over.
fn mutate(random: &Random, bytes: &mut Vec<u8>) {
    for _ in 0..=below(random, 4) {
        let place = below(random, bytes.len());
        match below(random, 6) {
            0 if !bytes.is_empty() => bytes[place] ^= 1 << below(random, 8),
            1 if !bytes.is_empty() => bytes[place] = random.bytes::<1>()[0],
            2 if !bytes.is_empty() => {
                bytes.remove(place);
            }
            3 => bytes.insert(place, b"0\x00\xff\n\"=-9"[below(random, 8)]),
            4 => bytes.truncate(place),
            _ => {
                let piece = bytes[place..(place + below(random, 64)).min(bytes.len())].to_vec();
                bytes.splice(place..place, piece);
            }
        }
    }
}

fn try_target((name, holds): fuzz::Target) {
    let seeds: Vec<Vec<u8>> =
        fuzz::seeds().into_iter().filter(|(target, ..)| *target == name).map(|(_, _, bytes)| bytes).collect();
    assert!(seeds.len() > 5, "{name} has seeds");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/kept").join(name);
    let kept: Vec<Vec<u8>> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(!kept.is_empty(), "{name} has kept inputs");
    let random = Random::seeded(7);
    for input in seeds.iter().cloned().chain(kept) {
        holds(&input);
        for _ in 0..MUTATIONS {
            let mut changed = input.clone();
            mutate(&random, &mut changed);
            holds(&changed);
        }
    }
}

/// Where `cargo fuzz` begins.
#[test]
#[ignore = "writes the seeds below fuzz/corpus, for a run of cargo fuzz"]
fn write_the_seeds() {
    for (target, name, bytes) in fuzz::seeds() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

#[test]
fn headers_blocks_and_founding_documents_have_one_form() {
    try_target(fuzz::TARGETS[0]);
}

#[test]
fn transactions_have_one_form_and_one_signer() {
    try_target(fuzz::TARGETS[1]);
}

#[test]
fn notes_and_tlog_proofs_certify_only_what_was_certified() {
    try_target(fuzz::TARGETS[2]);
}

#[test]
fn proof_documents_prove_only_what_is_in_the_chain() {
    try_target(fuzz::TARGETS[3]);
}

#[test]
fn messages_logs_and_scripts_leave_a_member_consistent() {
    try_target(fuzz::TARGETS[4]);
}

#[test]
fn answers_to_a_catch_up_are_taken_only_if_certified() {
    try_target(fuzz::TARGETS[5]);
}

#[test]
fn exported_chains_have_one_form_and_one_history() {
    try_target(fuzz::TARGETS[6]);
}

/// The documents are about something: each of the seeds is what it is meant to be.
#[test]
fn every_seed_of_a_proof_holds() {
    let genesis = hbc_chain::genesis::Genesis::parse;
    let founding = fuzz::seeds().into_iter().find(|(_, name, _)| name == "genesis").unwrap().2;
    let trust = hbc_chain::proof::Trust::Genesis(Box::new(genesis(&founding).unwrap()));
    for (target, name, bytes) in fuzz::seeds() {
        if target == "proof" {
            let verified = hbc_chain::proof::verify(&bytes, &trust);
            assert!(verified.is_ok_and(|verified| verified.pinned), "{name}");
        }
    }
}
