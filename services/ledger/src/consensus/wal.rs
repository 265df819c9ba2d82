//! The write-ahead log of the running height: every input that the agreement acted on and every text it
//! signed, on disk before anything is sent. A crash loses a tail that nobody saw; what is left replays to the
//! same votes. One file, emptied when the height is committed to the store.
//!
//! A record on disk: payload length u32, height u64, payload, first 8 bytes of the SHA-256 of all before.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use hbc_types::Digest;
use malachite_core::ProposedValue;
use malachite_types::{Timeout, TimeoutKind, Validity};

use super::codec::{CodecError, Reader, Writer};
use super::context::{Context, Height, PolkaCertificate, SignedProposal, SignedVote};
use super::types::{BlockBytes, BlockId};

const MAGIC: &[u8; 8] = b"HBCWAL1\n";
const FRAME_BYTES: usize = 4 + 8 + 8;
/// The payload of the first record of an emptied log.
const FLOOR: &[u8] = &[0];

/// One line of the log. Opaque outside the agreement.
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
                out.value(&value.value);
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
                value: input.value()?,
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

/// What was found when the log was opened.
#[derive(Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The records up to the first that is incomplete or damaged.
    pub records: Vec<Record>,
    /// What came after them.
    pub tail: Tail,
    /// The first height that was not committed when the log was last emptied: a store that is further back
    /// has lost blocks.
    pub floor: u64,
}

/// The end of a log that was just opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// The file did not exist.
    New,
    /// It ends with a whole record.
    Whole,
    /// The last record was being written when the process died; it was never relied upon.
    Torn,
    /// A damaged record is followed by whole ones: somebody or the disk changed bytes that were synced.
    Damaged,
}

/// The open log file.
#[derive(Debug)]
pub struct Wal {
    file: File,
}

impl Wal {
    /// Opens or creates the log and reads what it holds; a torn tail is cut off.
    pub fn open(path: &Path) -> io::Result<(Self, Recovered)> {
        let existed = path.try_exists()?;
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (mut recovered, kept) = scan(&bytes);
        if kept < MAGIC.len() {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(MAGIC)?;
        } else {
            let end = u64::try_from(kept).map_err(io::Error::other)?;
            file.set_len(end)?;
            file.seek(SeekFrom::Start(end))?;
        }
        file.sync_all()?;
        if !existed {
            recovered.tail = Tail::New;
            sync_folder(path)?;
        }
        Ok((Self { file }, recovered))
    }

    /// Adds a record; it is durable only after [`Self::sync`].
    pub fn append(&mut self, record: &Record) -> io::Result<()> {
        self.file.write_all(&frame(record))
    }

    /// Makes everything appended durable.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Forgets everything: all heights below `floor` are committed.
    pub fn reset(&mut self, floor: u64) -> io::Result<()> {
        let start = u64::try_from(MAGIC.len()).map_err(io::Error::other)?;
        self.file.set_len(start)?;
        self.file.seek(SeekFrom::Start(start))?;
        self.file.write_all(&frame(&Record { height: floor, payload: FLOOR.to_vec() }))?;
        self.file.sync_data()
    }
}

/// The bytes of one record on disk.
#[must_use]
pub fn frame(record: &Record) -> Vec<u8> {
    let mut out = Vec::with_capacity(record.payload.len() + FRAME_BYTES);
    out.extend_from_slice(&u32::try_from(record.payload.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&record.height.to_be_bytes());
    out.extend_from_slice(&record.payload);
    let check = Digest::of(&out);
    out.extend(check.as_bytes().iter().take(8));
    out
}

/// Reads one record from the front of `bytes`.
fn unframe(bytes: &[u8]) -> Option<(Record, usize)> {
    let mut input = Reader(bytes);
    let length = usize::try_from(input.u32().ok()?).ok()?;
    let height = input.u64().ok()?;
    let (payload, rest) = input.0.split_at_checked(length)?;
    let covered = bytes.get(..12 + length)?;
    let check = rest.get(..8)?;
    let whole = Digest::of(covered).as_bytes().starts_with(check);
    whole.then(|| (Record { height, payload: payload.to_vec() }, length + FRAME_BYTES))
}

/// The records of a log file and how many of its bytes they take.
#[must_use]
pub fn scan(bytes: &[u8]) -> (Recovered, usize) {
    let (mut records, mut floor) = (Vec::new(), 0);
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else {
        let tail = if bytes.len() < MAGIC.len() { Tail::Torn } else { Tail::Damaged };
        return (Recovered { records, tail, floor }, 0);
    };
    while !rest.is_empty() {
        let Some((record, length)) = unframe(rest) else {
            let tail = if whole_record_follows(rest) { Tail::Damaged } else { Tail::Torn };
            return (Recovered { records, tail, floor }, bytes.len() - rest.len());
        };
        if record.payload == FLOOR {
            floor = record.height;
        } else {
            records.push(record);
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    (Recovered { records, tail: Tail::Whole, floor }, bytes.len())
}

/// True if a whole record starts somewhere in the first 64 KiB behind a damaged one.
fn whole_record_follows(rest: &[u8]) -> bool {
    (1..rest.len().min(65_536)).any(|offset| rest.get(offset..).is_some_and(|tail| unframe(tail).is_some()))
}

/// Makes a newly created file's name durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(height: u64, payload: &[u8]) -> Record {
        Record { height, payload: payload.to_vec() }
    }

    #[test]
    fn what_was_synced_is_read_back_and_a_torn_tail_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wal");
        let (mut wal, recovered) = Wal::open(&path).unwrap();
        assert_eq!(recovered.tail, Tail::New);
        wal.append(&record(7, b"one")).unwrap();
        wal.append(&record(7, b"two")).unwrap();
        wal.sync().unwrap();
        drop(wal);
        let mut bytes = std::fs::read(&path).unwrap();
        let whole = bytes.clone();
        bytes.extend_from_slice(&frame(&record(7, b"three"))[..9]);
        std::fs::write(&path, &bytes).unwrap();
        let (_, recovered) = Wal::open(&path).unwrap();
        assert_eq!(recovered.tail, Tail::Torn);
        assert_eq!(recovered.records, [record(7, b"one"), record(7, b"two")]);
        assert_eq!(std::fs::read(&path).unwrap(), whole);
    }

    #[test]
    fn a_changed_byte_in_the_middle_is_damage_not_a_torn_tail() {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(frame(&record(1, b"first")));
        bytes.extend(frame(&record(1, b"second")));
        bytes[MAGIC.len() + 13] ^= 1;
        let (recovered, kept) = scan(&bytes);
        assert_eq!((recovered.tail, kept), (Tail::Damaged, MAGIC.len()));
    }

    #[test]
    fn a_reset_log_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wal");
        let (mut wal, _) = Wal::open(&path).unwrap();
        wal.append(&record(1, b"x")).unwrap();
        wal.reset(2).unwrap();
        wal.append(&record(2, b"y")).unwrap();
        wal.sync().unwrap();
        let (_, recovered) = Wal::open(&path).unwrap();
        assert_eq!(recovered, Recovered { records: vec![record(2, b"y")], tail: Tail::Whole, floor: 2 });
    }
}
