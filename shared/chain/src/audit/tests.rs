//! A whole chain in a file: read back and checked; with one bit changed, cut or mixed up, refused at the right height.

use super::*;
use crate::file::{ChainFileError, ChainReader, ChainWriter};
use crate::fixtures::Course;
use crate::payload::Payload;

/// The chain as a file, and where each block begins in it (the last is the end).
fn file(course: &Course) -> (Vec<u8>, Vec<usize>) {
    let genesis = course.chain.genesis().to_bytes().unwrap();
    let mut writer = ChainWriter::begin(Vec::new(), &genesis).unwrap();
    let mut starts = vec![8 + 2 + 4 + genesis.len()];
    for (block, note) in course.blocks.iter().skip(1) {
        let mut header = block.to_bytes();
        let body = header.split_off(180);
        writer.block(&header, &body, note).unwrap();
        starts.push(starts.last().unwrap() + 4 + 180 + body.len() + 4 + note.len());
    }
    assert_eq!(writer.height(), course.chain.height());
    (writer.finish().unwrap(), starts)
}

#[derive(Debug)]
enum Refusal {
    File { height: u64, error: ChainFileError },
    Audit { height: u64, error: AuditError },
}

/// Audits a file in groups of so many blocks; answers the audit at the end.
fn audit(bytes: &[u8], group: usize) -> Result<Audit, Refusal> {
    let at_start = |error| Refusal::File { height: 0, error };
    let mut reader = ChainReader::open(bytes).map_err(at_start)?;
    let mut audit = Audit::begin(reader.genesis()).unwrap();
    loop {
        let mut blocks = Vec::new();
        let mut ended = None;
        while blocks.len() < group && ended.is_none() {
            match reader.block() {
                Ok(Some(block)) => blocks.push(block),
                Ok(None) => ended = Some(Ok(())),
                Err(error) => ended = Some(Err(Refusal::File { height: reader.next_height(), error })),
            }
        }
        audit.take(blocks).map_err(|(height, error)| Refusal::Audit { height, error })?;
        if let Some(ended) = ended {
            return ended.map(|()| audit);
        }
    }
}

#[test]
fn a_whole_chain_is_checked_however_it_is_grouped() {
    let course = Course::complete();
    let (bytes, _) = file(&course);
    for group in [1, 2, 3, 100] {
        let audit = audit(&bytes, group).unwrap();
        assert_eq!(audit.state().tip(), course.chain.tip_hash());
        assert_eq!(audit.transactions(), course.transactions.len() as u64);
        assert_eq!(audit.note(), course.chain.certificate());
    }
}

#[test]
fn any_flipped_bit_is_found_and_its_block_named() {
    let course = Course::complete();
    let (bytes, starts) = file(&course);
    let chain = course.chain.id();
    for bit in (0..bytes.len() * 8).step_by(211) {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let block = u64::try_from(starts.iter().filter(|start| **start <= bit / 8).count()).unwrap();
        match audit(&bad, 3) {
            // In genesis.json a bit makes another chain, under which nothing is certified.
            Ok(audit) => assert!(block == 0 && audit.state().chain() != chain, "bit {bit}"),
            Err(Refusal::File { height, error }) => {
                assert!(
                    height == block || block == 0,
                    "bit {bit} of block {block}, found at {height}: {error}"
                );
            }
            Err(Refusal::Audit { height, error }) => {
                assert!(
                    height == block || block == 0,
                    "bit {bit} of block {block}, found at {height}: {error}"
                );
            }
        }
    }
}

#[test]
fn a_file_that_is_cut_or_goes_on_is_refused() {
    let course = Course::eventful();
    let (bytes, starts) = file(&course);
    let places = (0..bytes.len()).step_by(97).chain(starts.iter().copied());
    for length in places.chain([bytes.len() - 1, bytes.len() - 8, bytes.len() - 12]) {
        let outcome = audit(&bytes[..length], 4);
        assert!(
            matches!(outcome, Err(Refusal::File { error: ChainFileError::Cut, .. })),
            "{length}: {outcome:?}"
        );
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(matches!(audit(&longer, 4), Err(Refusal::File { error: ChainFileError::Trailing, .. })));
    // Two blocks left out before the end.
    let shorter = [&bytes[..starts[6]], &bytes[*starts.last().unwrap()..]].concat();
    let outcome = audit(&shorter, 4);
    assert!(matches!(
        outcome,
        Err(Refusal::File { height: 7, error: ChainFileError::End { named: 9, last: 6 } })
    ));
    // genesis.json as a file, with its line feed: another file of the same chain.
    let mut ended = bytes.clone();
    let genesis = starts[0] - 14;
    ended[10..14].copy_from_slice(&u32::try_from(genesis + 1).unwrap().to_be_bytes());
    ended.insert(starts[0], b'\n');
    assert!(matches!(audit(&ended, 4), Err(Refusal::File { height: 0, error: ChainFileError::GenesisForm })));
    // A length that claims more than there may be takes no memory.
    let mut huge = bytes;
    huge[starts[0]..starts[0] + 4].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(matches!(audit(&huge, 4), Err(Refusal::File { height: 1, error: ChainFileError::Length })));
}

#[test]
fn blocks_left_out_swapped_or_certified_by_others_are_refused() {
    let course = Course::eventful();
    let blocks: Vec<_> = course.blocks.iter().skip(1).cloned().collect();
    let run = |blocks: Vec<AuditedBlock>| {
        let mut audit = Audit::begin(course.chain.genesis()).unwrap();
        audit.take(blocks)
    };
    let mut without = blocks.clone();
    without.remove(0);
    assert!(matches!(run(without), Err((1, AuditError::Block(BlockError::Height { .. })))));
    let mut swapped = blocks.clone();
    (swapped[0].1, swapped[1].1) = (swapped[1].1.clone(), swapped[0].1.clone());
    assert_eq!(run(swapped), Err((1, AuditError::OtherBlock)));
    // Member 4 left with block 2: its signature counts no more from height 3 on.
    let mut late = blocks.clone();
    late[2].1 = course.note_by(3, &["m1", "m2", "m4"]);
    assert!(
        matches!(run(late), Err((3, AuditError::Certificate(CheckpointError::Stranger(name)))) if name == "m4")
    );
    let mut few = blocks;
    few[4].1 = course.note_by(5, &["m1", "m2"]);
    let refusal = run(few).unwrap_err();
    assert_eq!(refusal, (5, AuditError::Certificate(CheckpointError::TooFew { signed: 2, members: 4 })));
}

/// `chain.hbc` of docs/FORMATS.md.
fn golden() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/chain.hbc")
}

#[test]
fn the_chain_of_the_format_has_transactions_of_every_type() {
    let course = Course::complete();
    assert_eq!(std::fs::read(golden()).unwrap(), file(&course).0);
    let kinds: std::collections::BTreeSet<_> =
        course.transactions.iter().map(|(tx, _)| tx.payload().kind()).collect();
    assert_eq!(kinds, Payload::KINDS.iter().copied().collect());
    let state = course.chain.state();
    assert_eq!(state.parameters().min_spacing_ms, 5);
    assert_eq!((state.operators().len(), state.votes("parameter:heartbeat_ms").len()), (4, 2));
}

#[test]
#[ignore = "writes the chain anew, after a change of the format"]
fn write_the_chain_of_the_format() {
    std::fs::write(golden(), file(&Course::complete()).0).unwrap();
}

/// Everything that a chain can have, and then 10,000 anchors of three segments.
#[test]
#[ignore = "writes a large chain into the file that HBC_LARGE_CHAIN names, for another verifier"]
fn write_a_chain_of_many_anchors() {
    let mut course = Course::complete();
    for block in 0..10_i32 {
        let txs: Vec<_> = (0..1_000_i32)
            .map(|number| {
                let roots = [0, 1, 2].map(|place| format!("{block} {number} {place}"));
                let day0 = 18_000 + (number * 7_919 + block * 104_729) % 4_000;
                course.anchor_of(day0, day0 + number % 31, &roots.each_ref().map(String::as_str))
            })
            .collect();
        course.append(&txs);
    }
    assert_eq!(course.chain.state().anchors().leaves().len(), 30_002);
    let (bytes, _) = file(&course);
    assert_eq!(audit(&bytes, 4).unwrap().state().tip(), course.chain.tip_hash());
    std::fs::write(std::env::var_os("HBC_LARGE_CHAIN").unwrap(), bytes).unwrap();
}
