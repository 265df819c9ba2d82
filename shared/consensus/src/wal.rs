//! The write-ahead log of the running height: every input that consensus acted on and every text it
//! signed, on disk before anything is sent. A crash loses a tail that nobody saw; what is left replays to the
//! same votes. One file per height, put in the place of the last one when that height is committed to the store. Here is
//! what its bytes mean; whoever runs the machine has the file.
//!
//! The file: a magic, a record that says which height is the first one not committed, then what happened. A record:
//! payload length u32, height u64, the first 4 bytes of the SHA-256 of these two, payload, the first 8 bytes of the
//! SHA-256 of all before. The file is made whole under another name, so one that does not begin so was changed.
//!
//! Why: decision 0091.

use hbc_types::Digest;
use malachite_core::ProposedValue;
use malachite_types::{Timeout, TimeoutKind, Validity};

use crate::codec::{CodecError, Reader, Writer};
use crate::context::{Context, Height, PolkaCertificate, SignedProposal, SignedVote, Value};
use crate::types::{BlockBytes, BlockId};

const MAGIC: &[u8; 8] = b"HBCWAL2\n";
/// Length, height and their check.
const HEAD_BYTES: usize = 4 + 8 + HEAD_CHECK_BYTES;
const HEAD_CHECK_BYTES: usize = 4;
const CHECK_BYTES: usize = 8;
/// A file system writes blocks of this size whole or not at all.
const BLOCK_BYTES: usize = 4_096;
/// The payload of the first record.
const FLOOR: &[u8] = &[0];

/// One line of the log. Opaque outside consensus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The height it belongs to.
    pub height: u64,
    /// Encoded entry.
    pub payload: Vec<u8>,
}

/// What the log remembers.
pub(super) enum Entry {
    Vote(SignedVote),
    Proposal(SignedProposal),
    Timeout(Timeout),
    Value(ProposedValue<Context>),
    Polka(PolkaCertificate),
    /// The bytes of a value, written before the value itself.
    Block(BlockId, BlockBytes),
    /// The guard: the one text signed for (height, step, round).
    Signed {
        step: u8,
        round: u32,
        text: Vec<u8>,
    },
}

impl Entry {
    pub(super) fn record(&self, height: u64) -> Record {
        let mut out = Writer::default();
        match self {
            Self::Vote(vote) => {
                out.u8(1);
                out.vote(vote);
            }
            Self::Proposal(proposal) => {
                out.u8(2);
                out.proposal(proposal);
            }
            Self::Timeout(timeout) => {
                out.u8(3);
                out.u8(timeout_code(timeout.kind));
                out.round(timeout.round);
            }
            Self::Value(value) => {
                out.u8(4);
                out.u64(value.height.0);
                out.round(value.round);
                out.round(value.valid_round);
                out.array(&value.proposer.0);
                out.value(&value.value.0);
                out.u8(u8::from(value.validity.is_valid()));
            }
            Self::Polka(certificate) => {
                out.u8(5);
                out.polka(certificate);
            }
            Self::Block(value, bytes) => {
                out.u8(6);
                out.value(value);
                out.bytes(bytes);
            }
            Self::Signed { step, round, text } => {
                out.u8(7);
                out.u8(*step);
                out.u32(*round);
                out.bytes(text);
            }
        }
        Record { height, payload: out.0 }
    }

    pub(super) fn read(record: &Record) -> Result<Self, CodecError> {
        let mut input = Reader(&record.payload);
        let entry = match input.u8()? {
            1 => Self::Vote(input.vote()?),
            2 => Self::Proposal(input.proposal()?),
            3 => {
                let kind = timeout_kind(input.u8()?)?;
                Self::Timeout(Timeout::new(input.round()?, kind))
            }
            4 => Self::Value(ProposedValue {
                height: Height(input.u64()?),
                round: input.round()?,
                valid_round: input.round_or_nil()?,
                proposer: input.member()?,
                value: Value(input.value()?),
                validity: Validity::from_bool(input.u8()? == 1),
            }),
            5 => Self::Polka(input.polka()?),
            6 => Self::Block(input.value()?, input.bytes()?.into()),
            7 => Self::Signed { step: input.u8()?, round: input.u32()?, text: input.bytes()?.to_vec() },
            _ => return Err(CodecError),
        };
        input.end()?;
        Ok(entry)
    }
}

fn timeout_code(kind: TimeoutKind) -> u8 {
    match kind {
        TimeoutKind::Propose => 1,
        TimeoutKind::Prevote => 2,
        TimeoutKind::Precommit => 3,
        TimeoutKind::Rebroadcast => 4,
        TimeoutKind::FinalizeHeight(_) => 5,
    }
}

fn timeout_kind(code: u8) -> Result<TimeoutKind, CodecError> {
    match code {
        1 => Ok(TimeoutKind::Propose),
        2 => Ok(TimeoutKind::Prevote),
        3 => Ok(TimeoutKind::Precommit),
        4 => Ok(TimeoutKind::Rebroadcast),
        _ => Err(CodecError),
    }
}

/// What is found in a log.
#[derive(Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The records up to the first that is incomplete or damaged.
    pub records: Vec<Record>,
    /// What came after them.
    pub tail: Tail,
    /// The first height that was not committed when the log was begun: a store that is further back has lost blocks.
    /// Zero if the log does not say so.
    pub floor: u64,
    /// Bytes of the file up to there.
    pub kept: u64,
}

/// The end of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// The file does not exist.
    New,
    /// It ends with a whole record.
    Whole,
    /// The last record was being written when the process died or the power failed; it was never relied upon.
    Torn,
    /// Bytes that were synced are not what they were: somebody or the disk changed them.
    Damaged,
}

impl Recovered {
    /// There is no log.
    #[must_use]
    pub const fn none() -> Self {
        Self { records: Vec::new(), tail: Tail::New, floor: 0, kept: 0 }
    }

    /// True if the log does not have all that was signed: it is gone or damaged, or another one than the store's, whose
    /// tip this is. It is begun anew after the block was stored.
    #[must_use]
    pub fn is_lost(&self, tip: Option<u64>) -> bool {
        let fits = |tip: u64| self.floor == tip || self.floor == tip.saturating_add(1);
        match self.tail {
            Tail::New | Tail::Damaged => true,
            Tail::Whole | Tail::Torn => !tip.is_none_or(fits),
        }
    }
}

/// What a log begins with: all heights below `floor` are committed.
#[must_use]
pub fn opening(floor: u64) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(frame(&Record { height: floor, payload: FLOOR.to_vec() }));
    out
}

/// The bytes of one record on disk.
#[must_use]
pub fn frame(record: &Record) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES + record.payload.len() + CHECK_BYTES);
    out.extend_from_slice(&u32::try_from(record.payload.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&record.height.to_be_bytes());
    let check = Digest::of(&out);
    out.extend(check.as_bytes().iter().take(HEAD_CHECK_BYTES));
    out.extend_from_slice(&record.payload);
    let check = Digest::of(&out);
    out.extend(check.as_bytes().iter().take(CHECK_BYTES));
    out
}

/// Reads one record from the front of `bytes`, or says what is there instead.
fn unframe(bytes: &[u8]) -> Result<(Record, usize), Tail> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Err(Tail::Torn);
    }
    let Some((head, rest)) = bytes.split_at_checked(HEAD_BYTES) else { return Err(Tail::Torn) };
    let mut fields = Reader(head);
    let (Ok(length), Ok(height), Ok(said)) = (fields.u32(), fields.u64(), fields.array::<HEAD_CHECK_BYTES>())
    else {
        return Err(Tail::Damaged);
    };
    let covered = head.get(..HEAD_BYTES - HEAD_CHECK_BYTES).unwrap_or_default();
    if !Digest::of(covered).as_bytes().starts_with(&said) {
        return Err(Tail::Damaged);
    }
    let length = usize::try_from(length).map_err(|_too_long| Tail::Damaged)?;
    let whole = HEAD_BYTES.saturating_add(length);
    let (Some(covered), Some(said)) =
        (bytes.get(..whole), bytes.get(whole..whole.saturating_add(CHECK_BYTES)))
    else {
        // The head is what was written, so the rest of the record never was.
        return Err(Tail::Torn);
    };
    if !Digest::of(covered).as_bytes().starts_with(said) {
        return Err(Tail::Damaged);
    }
    let payload = rest.get(..length).unwrap_or_default().to_vec();
    Ok((Record { height, payload }, whole + CHECK_BYTES))
}

/// The bytes up to the last block that was written: a power cut may leave a file with its size and not yet with the bytes.
/// Whole blocks of zeros at the end are what a file has that was cut off there.
fn written(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.get(..end.next_multiple_of(BLOCK_BYTES)).unwrap_or(bytes)
}

/// What the bytes of a log file hold.
#[must_use]
pub fn scan(bytes: &[u8]) -> Recovered {
    let bytes = written(bytes);
    let mut found = Recovered { records: Vec::new(), tail: Tail::Damaged, floor: 0, kept: 0 };
    let Some(rest) = bytes.strip_prefix(MAGIC) else { return found };
    let Ok((first, length)) = unframe(rest) else { return found };
    if first.payload != FLOOR {
        return found;
    }
    found.floor = first.height;
    let mut rest = rest.get(length..).unwrap_or_default();
    found.tail = loop {
        if rest.is_empty() {
            break Tail::Whole;
        }
        match unframe(rest) {
            Ok((record, length)) => {
                found.records.push(record);
                rest = rest.get(length..).unwrap_or_default();
            }
            Err(tail) => break tail,
        }
    };
    found.kept = u64::try_from(bytes.len() - rest.len()).unwrap_or(u64::MAX);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(height: u64, payload: &[u8]) -> Record {
        Record { height, payload: payload.to_vec() }
    }

    /// A log of height 7 with these records.
    fn log(records: &[Record]) -> Vec<u8> {
        let mut bytes = opening(7);
        records.iter().for_each(|record| bytes.extend(frame(record)));
        bytes
    }

    /// A block in the log may have 8 MiB: however far the record reaches, a changed byte in it is no torn tail.
    #[test]
    fn a_changed_bit_anywhere_is_damage_in_the_last_record_too() {
        let large = vec![7; 100 << 10];
        let bytes = log(&[record(7, b"first"), record(7, &large), record(7, b"last")]);
        assert_eq!(scan(&bytes).tail, Tail::Whole);
        let last = bytes.len() - frame(&record(7, b"last")).len();
        let places = (0..400).chain((400..last).step_by(4_001)).chain(last..bytes.len());
        for place in places {
            for bit in 0..8 {
                let mut bent = bytes.clone();
                bent[place] ^= 1 << bit;
                let found = scan(&bent);
                assert_eq!(found.tail, Tail::Damaged, "bit {bit} of byte {place}");
                assert!(found.is_lost(Some(6)));
            }
        }
    }

    /// The size of a file may be on disk before the bytes are. What is missing then is whole blocks, and zeros are read.
    #[test]
    fn blocks_that_were_not_written_at_the_end_are_a_torn_tail() {
        for length in [10, 3_000, 4_096, 9_000] {
            let synced = log(&[record(7, b"first"), record(7, &vec![8; 1_500])]);
            let whole =
                [synced.as_slice(), &frame(&record(7, &vec![7; length])), &frame(&record(7, b"last"))]
                    .concat();
            for written in (0..=whole.len() / BLOCK_BYTES).map(|blocks| blocks * BLOCK_BYTES) {
                let mut torn = whole.clone();
                torn[written.max(synced.len())..].fill(0);
                let found = scan(&torn);
                assert_eq!(found.tail, Tail::Torn, "{length} bytes, {written} written");
                assert!(found.records.len() >= 2);
                assert_eq!(scan(&torn[..usize::try_from(found.kept).unwrap()]).tail, Tail::Whole);
            }
        }
    }

    #[test]
    fn an_emptied_a_headless_and_an_older_log_are_lost() {
        for bytes in [&b""[..], MAGIC, &log(&[])[..20], &[0; 64], b"HBCWAL1\n"] {
            assert_eq!((scan(bytes).tail, scan(bytes).floor), (Tail::Damaged, 0), "{bytes:?}");
        }
        let headless = [MAGIC.as_slice(), &frame(&record(7, b"first"))].concat();
        assert_eq!(scan(&headless).tail, Tail::Damaged);
        let found = scan(&log(&[record(7, b"first")]));
        assert!(!found.is_lost(Some(6)) && !found.is_lost(Some(7)) && !found.is_lost(None));
        assert!(found.is_lost(Some(8)), "the store is further: this log is an old one");
        assert!(found.is_lost(Some(5)));
    }
}
