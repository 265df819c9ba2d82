//! SQLite's journal, looked at before SQLite opens the database. SQLite takes it up to the first frame whose checksum is
//! wrong and drops what follows without a word, which is right after a crash and loses acknowledged rows after an edit.
//! The two are told apart here (SQLite's file format, section 4).
//!
//! Each commit is on disk before it is acknowledged, and nothing of the next is written before. So a crash leaves a
//! file that ends early, or, after a power failure, blocks of zeros in the last transaction. Anything else is damage. The
//! checksum of each frame continues the one that the frame before it states, so that frames behind a damaged one are
//! still known.
//!
//! Why: decision 0095.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write};
use std::path::{Path, PathBuf};

use hbc_types::Digest;

use super::StoreError;
use hbc_db::disk::{beside, sync_folder_of};

const HEADER_BYTES: usize = 32;
const PAGE_BYTES: usize = 4_096;
const FRAME_BYTES: usize = 24 + PAGE_BYTES;
/// A file system writes blocks of this size whole or not at all.
const BLOCK_BYTES: usize = 4_096;
/// "WAL", version 3.7.0, 4,096 bytes a page. The lowest bit of the magic number says how words are read for checksums.
const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;
const PAGE: u32 = 4_096;

/// Refuses a journal that was changed, and one whose damage was found before and not healed yet.
pub(super) fn check(database: &Path) -> Result<(), StoreError> {
    if kept(database).try_exists()? {
        return Err(StoreError::Journal);
    }
    let sound = match File::open(beside(database, "-wal")) {
        Ok(file) => scan(buffered(file))?.is_explained(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(error.into()),
    };
    if sound { Ok(()) } else { Err(StoreError::Journal) }
}

/// Where a damaged journal is kept until healing puts it away.
pub(super) fn kept(database: &Path) -> PathBuf {
    beside(database, "-wal.damaged")
}

/// Makes a damaged journal readable, so that what lies behind the damage is not lost: the checksums are computed anew
/// over the bytes as they are. What they say is checked row by row, by the MACs. The journal as it was is kept. Nobody
/// may have the database open.
///
/// # Errors
/// When files cannot be read or written.
pub fn recover_checksums(database: &Path) -> io::Result<()> {
    let (journal, kept) = (beside(database, "-wal"), kept(database));
    if !kept.try_exists()? {
        std::fs::hard_link(&journal, kept)?;
        sync_folder_of(database)?;
    }
    let found = scan(buffered(File::open(&journal)?))?;
    if !found.is_explained() {
        let recovered = beside(database, "-wal.mended");
        let mut out = io::BufWriter::new(File::create(&recovered)?);
        found.write_readable(buffered(File::open(&journal)?), &mut out)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(recovered, journal)?;
    }
    sync_folder_of(database)
}

/// What this node wrote to the journal since it was last emptied, commit by commit: where each ends, and the hash of its
/// bytes. Nothing is known while somebody keeps the journal from being emptied: SQLite may then begin it anew in place.
#[derive(Debug, Default)]
pub(super) struct Written(Option<Vec<(u64, Digest)>>);

impl Written {
    /// The journal was emptied.
    pub(super) const fn nothing() -> Self {
        Self(Some(Vec::new()))
    }

    /// Before a commit: if that fails, what it leaves in the journal is not known.
    pub(super) const fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    /// After a commit.
    pub(super) fn and_what_follows(self, database: &Path) -> Self {
        let Some(mut pieces) = self.0 else { return Self(None) };
        let end = pieces.last().map_or(0, |(end, _)| *end);
        match piece(database, end, u64::MAX) {
            Ok(bytes) => {
                pieces.push((end + bytes.len() as u64, Digest::of(&bytes)));
                Self(Some(pieces))
            }
            Err(_unreadable) => Self(None),
        }
    }

    /// Whether the journal still has it.
    pub(super) fn is_there(&self, database: &Path) -> io::Result<bool> {
        let mut from = 0;
        for (end, digest) in self.0.iter().flatten() {
            match piece(database, from, end - from) {
                Ok(bytes) if Digest::of(&bytes) == *digest => from = *end,
                Ok(_) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

fn piece(database: &Path, from: u64, bytes: u64) -> io::Result<Vec<u8>> {
    let mut journal = File::open(beside(database, "-wal"))?;
    journal.seek(io::SeekFrom::Start(from))?;
    let mut piece = Vec::new();
    journal.take(bytes).read_to_end(&mut piece)?;
    Ok(piece)
}

fn buffered(file: File) -> impl Read {
    io::BufReader::with_capacity(1 << 20, file)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    /// Its checksum continues the one before.
    Good { commits: bool },
    /// It does not; `unwritten` where a block that was not written explains it. It may still say that it ends a transaction.
    Bad { unwritten: bool, commits: bool },
    /// Of another round of the journal: what lies there from before.
    Old { unwritten: bool },
}

/// What a journal consists of.
struct Scan {
    header: Header,
    /// Written into each frame of this round.
    salts: (u32, u32),
    frames: Vec<Frame>,
}

enum Header {
    Good(FrameChecksum),
    Bad,
    /// Not written yet, like all that follows.
    Zeros,
}

/// The running checksum: two words over pairs of words.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FrameChecksum {
    words: (u32, u32),
    big: bool,
}

impl FrameChecksum {
    const fn begin(big: bool) -> Self {
        Self { words: (0, 0), big }
    }

    fn over(mut self, bytes: &[u8]) -> Self {
        let word =
            |four: &[u8; 4]| if self.big { u32::from_be_bytes(*four) } else { u32::from_le_bytes(*four) };
        let (mut one, mut two) = self.words;
        for [first, second] in bytes.as_chunks::<4>().0.as_chunks::<2>().0 {
            one = one.wrapping_add(word(first)).wrapping_add(two);
            two = two.wrapping_add(word(second)).wrapping_add(one);
        }
        self.words = (one, two);
        self
    }

    /// Over a frame: the page's number, the size that a commit states, and the page.
    fn over_frame(self, frame: &[u8]) -> Self {
        let (head, page) = (frame.get(..8).unwrap_or_default(), frame.get(24..).unwrap_or_default());
        self.over(head).over(page)
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
    four.map_or(0, |four| u32::from_be_bytes(*four))
}

fn words(bytes: &[u8], at: usize) -> (u32, u32) {
    (word(bytes, at), word(bytes, at + 4))
}

fn put(bytes: &mut [u8], at: usize, (one, two): (u32, u32)) {
    let value = (u64::from(one) << 32 | u64::from(two)).to_be_bytes();
    if let Some(place) = bytes.get_mut(at..at + 8) {
        place.copy_from_slice(&value);
    }
}

/// Reads the next so many bytes; false at the end, and `into` has what is left.
fn read_piece(journal: &mut impl Read, into: &mut Vec<u8>, bytes: usize) -> io::Result<bool> {
    into.clear();
    journal.by_ref().take(u64::try_from(bytes).unwrap_or(u64::MAX)).read_to_end(into)?;
    Ok(into.len() == bytes)
}

fn scan(mut journal: impl Read) -> io::Result<Scan> {
    let mut piece = Vec::with_capacity(FRAME_BYTES);
    if !read_piece(&mut journal, &mut piece, HEADER_BYTES)? {
        return Ok(Scan { header: Header::Zeros, salts: (0, 0), frames: Vec::new() });
    }
    let mut blocks = Blocks::default();
    blocks.pass(&piece);
    let header = read_header(&piece);
    let mut sum = header.map_or(FrameChecksum::begin(false), |(sum, _)| sum);
    let mut salts = header.map(|(_, salts)| salts);
    let mut frames = Vec::new();
    while read_piece(&mut journal, &mut piece, FRAME_BYTES)? {
        blocks.pass(&piece);
        let stated = FrameChecksum { words: words(&piece, 16), ..sum };
        let (own, (one, two)) = (words(&piece, 8), *salts.get_or_insert(words(&piece, 8)));
        frames.push(if own.0 != one && own.1 != two {
            Frame::Old { unwritten: false }
        } else if own == (one, two) && sum.over_frame(&piece) == stated {
            Frame::Good { commits: word(&piece, 4) != 0 }
        } else {
            Frame::Bad { unwritten: false, commits: word(&piece, 4) != 0 }
        });
        sum = stated;
    }
    blocks.pass(&piece);
    let (mut begins, mut before) = (true, false);
    for (place, frame) in frames.iter_mut().enumerate() {
        let here = blocks.were_not_written(place, begins);
        begins = *frame == (Frame::Good { commits: true });
        if let Frame::Bad { unwritten, .. } | Frame::Old { unwritten } = frame {
            // The checksum of a frame that was not written says nothing of the next one.
            *unwritten = before || here;
        }
        before = here;
    }
    let header = match header {
        Some((sum, _)) => Header::Good(sum),
        None if blocks.are_all_zeros() => Header::Zeros,
        None => Header::Bad,
    };
    Ok(Scan { header, salts: salts.unwrap_or_default(), frames })
}

/// What the checksums of the frames begin with, and the salts of this round.
fn read_header(header: &[u8]) -> Option<(FrameChecksum, (u32, u32))> {
    let magic = word(header, 0);
    let sum = FrameChecksum::begin(magic & 1 == 1).over(header.get(..24)?);
    let form = (magic & !1, word(header, 4), word(header, 8)) == (MAGIC, VERSION, PAGE);
    (form && sum.words == words(header, 24)).then_some((sum, words(header, 16)))
}

/// The blocks of the file system, the last of which need not be full.
#[derive(Default)]
struct Blocks(Vec<Block>);

#[derive(Default)]
struct Block {
    bytes: usize,
    /// So many of them, the last ones, are zeros.
    zeros: usize,
}

impl Block {
    fn pass(&mut self, bytes: &[u8]) {
        match bytes.iter().rposition(|byte| *byte != 0) {
            None => self.zeros += bytes.len(),
            Some(last) => self.zeros = bytes.len() - last - 1,
        }
        self.bytes += bytes.len();
    }

    /// Whether there is nothing but zeros from this byte of it on.
    const fn is_zeros_from(&self, at: usize) -> bool {
        self.zeros + at >= self.bytes
    }
}

impl Blocks {
    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let filled = self.0.last().map_or(BLOCK_BYTES, |block| block.bytes);
            let (part, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - filled % BLOCK_BYTES));
            if filled == BLOCK_BYTES {
                self.0.push(Block::default());
            }
            self.0.iter_mut().next_back().into_iter().for_each(|block| block.pass(part));
            bytes = rest;
        }
    }

    fn are_all_zeros(&self) -> bool {
        self.0.iter().all(|block| block.is_zeros_from(0))
    }

    /// Whether this frame has a part in a block that was not written: it reads as zeros, all of it, or, where the first
    /// frame of a transaction `begins` in the block that has the end of the one before, all that is new.
    fn were_not_written(&self, frame: usize, begins: bool) -> bool {
        let from = HEADER_BYTES + frame * FRAME_BYTES;
        let (first, last) = (from / BLOCK_BYTES, (from + FRAME_BYTES - 1) / BLOCK_BYTES);
        let zeros = |block: usize, at| self.0.get(block).is_some_and(|block| block.is_zeros_from(at));
        (begins && zeros(first, from % BLOCK_BYTES)) || (first..=last).any(|block| zeros(block, 0))
    }
}

impl Scan {
    /// The frames of this round.
    fn current(&self) -> &[Frame] {
        let last = self.frames.iter().rposition(|frame| !matches!(frame, Frame::Old { .. }));
        last.and_then(|last| self.frames.get(..=last)).unwrap_or_default()
    }

    /// Whether a crash can have left this: all good up to the end, or up to a last transaction that was not written
    /// whole.
    fn is_explained(&self) -> bool {
        match self.header {
            // It is on disk before the first frame is written.
            Header::Bad => return false,
            Header::Zeros => return true,
            Header::Good(_) => {}
        }
        let current = self.current();
        let flaw = current.iter().position(|frame| !matches!(frame, Frame::Good { .. }));
        let rest = flaw.and_then(|flaw| current.get(flaw..)).and_then(<[Frame]>::split_last);
        let Some((last, torn)) = rest else { return true };
        let inner = |frame: &Frame| match frame {
            Frame::Good { commits } => !commits,
            Frame::Bad { unwritten, commits } => *unwritten && !commits,
            Frame::Old { unwritten } => *unwritten,
        };
        let end = |frame: &Frame| match frame {
            Frame::Good { .. } => true,
            Frame::Bad { unwritten, .. } | Frame::Old { unwritten } => *unwritten,
        };
        torn.iter().all(inner) && end(last)
    }

    /// Writes header and frames of this round with checksums that hold. A header that was changed is known but for its
    /// salts, and those stand in the frames.
    fn write_readable(&self, mut journal: impl Read, out: &mut impl Write) -> io::Result<()> {
        let mut piece = Vec::with_capacity(FRAME_BYTES);
        read_piece(&mut journal, &mut piece, HEADER_BYTES)?;
        let mut sum = if let Header::Good(sum) = self.header {
            sum
        } else {
            put(&mut piece, 0, (MAGIC, VERSION));
            put(&mut piece, 8, (PAGE, 0));
            put(&mut piece, 16, self.salts);
            let sum = FrameChecksum::begin(false).over(piece.get(..24).unwrap_or_default());
            put(&mut piece, 24, sum.words);
            sum
        };
        out.write_all(&piece)?;
        for _ in self.current() {
            if !read_piece(&mut journal, &mut piece, FRAME_BYTES)? {
                break;
            }
            put(&mut piece, 8, self.salts);
            sum = sum.over_frame(&piece);
            put(&mut piece, 16, sum.words);
            out.write_all(&piece)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hbc_chain::merkle::leaf_hash;
    use sqlx::{ConnectOptions as _, Connection as _};

    use super::super::{MacKey, Store, StoredPromise};
    use super::*;

    const COMMITS: usize = 5;

    fn promise(n: usize) -> StoredPromise {
        let jws = vec![u8::try_from(n).unwrap(); 6_000];
        StoredPromise { txid: leaf_hash(&jws), jws }
    }

    fn key() -> MacKey {
        MacKey::of(&ed25519_dalek::SigningKey::from_bytes(&[7; 32]))
    }

    /// A database whose five commits are all in its journal, as a process that is killed leaves it.
    async fn killed(folder: &tempfile::TempDir) -> (PathBuf, Vec<u8>) {
        let (here, there) = (folder.path().join("running.db"), folder.path().join("ledger.db"));
        let store = Store::open(&here, true, key()).await.unwrap();
        store.fold(&mut *store.writer.lock().await).await.unwrap();
        for n in 0..COMMITS {
            store.add_promises(&[promise(n)], 1).await.unwrap();
        }
        for suffix in ["", "-wal"] {
            std::fs::copy(beside(&here, suffix), beside(&there, suffix)).unwrap();
        }
        let journal = std::fs::read(beside(&there, "-wal")).unwrap();
        (there, journal)
    }

    fn is_explained(journal: &[u8]) -> bool {
        scan(journal).unwrap().is_explained()
    }

    /// Where each transaction's frames end.
    fn ends(journal: &[u8]) -> Vec<usize> {
        let frames = scan(journal).unwrap().frames;
        let commits = frames.iter().enumerate().filter(|(_, frame)| **frame == Frame::Good { commits: true });
        commits.map(|(place, _)| HEADER_BYTES + (place + 1) * FRAME_BYTES).collect()
    }

    #[tokio::test]
    async fn what_a_crash_leaves_is_no_damage() {
        let folder = tempfile::tempdir().unwrap();
        let (_, journal) = killed(&folder).await;
        assert_eq!(ends(&journal).len(), COMMITS);
        for length in (0..journal.len()).step_by(97).chain([journal.len()]) {
            assert!(is_explained(&journal[..length]), "cut at {length}");
        }
        let longer = [journal.as_slice(), &[0; 10_000]].concat();
        assert!(is_explained(&longer), "room that was made and not written");
        assert!(is_explained(&[0; 20_000]));
    }

    #[tokio::test]
    async fn every_changed_byte_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let (_, journal) = killed(&folder).await;
        let mut changed = journal.clone();
        for at in (0..HEADER_BYTES + FRAME_BYTES).chain((0..journal.len()).step_by(61)) {
            changed[at] ^= 1 << (at % 8);
            assert!(!is_explained(&changed), "byte {at}");
            changed[at] = journal[at];
        }
        for at in journal.len() - FRAME_BYTES..journal.len() {
            changed[at] ^= 0x80;
            assert!(!is_explained(&changed), "byte {at} of the last frame");
            changed[at] = journal[at];
        }
    }

    #[tokio::test]
    async fn blocks_that_a_power_failure_left_unwritten_are_told_from_an_edit() {
        let folder = tempfile::tempdir().unwrap();
        let (_, journal) = killed(&folder).await;
        let last_but_one = ends(&journal)[COMMITS - 2];
        for block in (0..journal.len() / BLOCK_BYTES).map(|block| block * BLOCK_BYTES) {
            let mut torn = journal.clone();
            torn[block..block + BLOCK_BYTES].fill(0);
            // A block of zeros over the very end of the last transaction but one makes it a part of the last.
            if block + BLOCK_BYTES <= last_but_one - FRAME_BYTES {
                assert!(!is_explained(&torn), "the block at {block}");
            } else if block >= last_but_one {
                assert!(is_explained(&torn), "the block at {block}");
            }
        }
    }

    /// The bytes that the last commit appended, whatever of their blocks was written: the first of them has the end of the
    /// commit before, and the last is not full.
    #[tokio::test]
    async fn whatever_blocks_of_the_last_commit_were_not_written_it_is_no_damage() {
        let folder = tempfile::tempdir().unwrap();
        let (_, journal) = killed(&folder).await;
        let ends = ends(&journal);
        for [begin, end] in ends.array_windows() {
            let blocks: Vec<usize> = (begin / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES)).collect();
            assert!(blocks.len() > 3);
            for unwritten in 0..1_u32 << blocks.len() {
                let mut torn = journal[..*end].to_vec();
                for (bit, block) in blocks.iter().enumerate() {
                    if unwritten >> bit & 1 == 1 {
                        let (from, to) = (block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
                        torn[from.max(*begin)..to.min(*end)].fill(0);
                    }
                }
                assert!(
                    is_explained(&torn),
                    "of the blocks {blocks:?} these were not written: {unwritten:b}"
                );
            }
        }
    }

    #[tokio::test]
    async fn what_an_earlier_round_of_the_journal_left_is_no_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let mut connection = Store::options(&path).create_if_missing(true).connect().await.unwrap();
        let run = async |connection: &mut _, sql: &'static str| {
            sqlx::raw_sql(sql).fetch_all(connection).await.unwrap();
        };
        run(&mut connection, "CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(90000))").await;
        run(&mut connection, "PRAGMA wal_checkpoint(PASSIVE)").await;
        run(&mut connection, "INSERT INTO t VALUES (1)").await;
        let journal = std::fs::read(beside(&path, "-wal")).unwrap();
        connection.close().await.unwrap();
        let found = scan(journal.as_slice()).unwrap();
        assert!(found.current().len() < found.frames.len(), "it begins anew over the frames of before");
        assert!(found.is_explained());
        let mut changed = journal.clone();
        changed[HEADER_BYTES + 30] ^= 1;
        assert!(!is_explained(&changed));
    }

    #[tokio::test]
    async fn a_changed_journal_is_kept_and_its_other_rows_are_not_lost() {
        // In the header, in the first page, in the checksum and in the page of a frame in the middle.
        let middle = HEADER_BYTES + 5 * FRAME_BYTES;
        for at in [17, 2_000, middle + 20, middle + 3_000] {
            let folder = tempfile::tempdir().unwrap();
            let (path, journal) = killed(&folder).await;
            let mut changed = journal.clone();
            changed[at] ^= 1;
            std::fs::write(beside(&path, "-wal"), &changed).unwrap();
            assert!(matches!(Store::open(&path, true, key()).await, Err(StoreError::Journal)), "byte {at}");
            for round in 0..3 {
                if round == 1 {
                    // Killed between keeping it and putting the other in its place.
                    std::fs::write(beside(&path, "-wal"), &changed).unwrap();
                }
                recover_checksums(&path).unwrap();
                assert_eq!(std::fs::read(kept(&path)).unwrap(), changed);
                let again = Store::open(&path, true, key()).await;
                assert!(matches!(again, Err(StoreError::Journal)), "it stays damaged until it is healed");
            }
            let store = Store::substitute(&path, key()).await.unwrap();
            let rows = store.carried().await.unwrap().promises;
            let sound = rows.iter().filter(|row| row.is_authentic(&key())).count();
            assert!(sound >= COMMITS - 2, "byte {at}: {sound} of {COMMITS} promises");
        }
    }
}
