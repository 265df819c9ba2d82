//! A chain in a file: `chain.hbc`, from genesis.json to the last block, read and written as a stream.
//!
//! `"HBCCHAIN" ‖ u16 version 1 ‖ u32 length ‖ genesis.json`, then for each block from height 1 on `u32 length ‖ block ‖ u32
//! length ‖ certificate`, at the end `u32 0 ‖ u64 height of the last block`, and nothing after it. Reading checks form and
//! limits only; what the blocks say is for [`crate::audit`].
//!
//! Why: decision 0078.

use std::io::{self, Read, Write};

use crate::audit::AuditedBlock;
use crate::checkpoint::MAX_NOTE_BYTES;
use crate::genesis::{Genesis, GenesisError};
use crate::header::{Block, HeaderError, MAX_BLOCK_BYTES};
use crate::proof::CHAIN_MAGIC;

/// The version that this code writes and reads.
const VERSION: u16 = 1;
/// Bytes of genesis.json at most.
const MAX_GENESIS_BYTES: usize = 1024 * 1024;

/// Why a file is no chain.
#[derive(Debug, thiserror::Error)]
pub enum ChainFileError {
    /// It cannot be read.
    #[error("the file cannot be read: {0}")]
    Io(io::Error),
    /// It ends too early.
    #[error("the file is cut off")]
    Cut,
    /// It is something else.
    #[error("not an exported chain of version {VERSION}")]
    Version,
    /// Its genesis.json founds no chain.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// Its genesis.json is not as it is hashed.
    #[error("genesis.json in it has more than its canonical bytes")]
    GenesisForm,
    /// A part is longer than it may be.
    #[error("a length is beyond its limit")]
    Length,
    /// A block has another form.
    #[error("{0}")]
    Block(#[from] HeaderError),
    /// A certificate is not text.
    #[error("the certificate is not text")]
    Certificate,
    /// The end names another number of blocks than there are.
    #[error("the end of the file names height {named}, but the last block is {last}")]
    End {
        /// What the end says.
        named: u64,
        /// The blocks that there are.
        last: u64,
    },
    /// There is something after the end.
    #[error("there are bytes after the end")]
    Trailing,
}

impl From<io::Error> for ChainFileError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Cut } else { Self::Io(error) }
    }
}

/// Writes a chain.
#[derive(Debug)]
pub struct ChainWriter<W> {
    out: W,
    last: u64,
}

impl<W: Write> ChainWriter<W> {
    /// Begins with genesis.json as it is hashed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(mut out: W, genesis: &[u8]) -> io::Result<Self> {
        out.write_all(CHAIN_MAGIC)?;
        out.write_all(&VERSION.to_be_bytes())?;
        write_part(&mut out, &[genesis])?;
        Ok(Self { out, last: 0 })
    }

    /// The height of the last block written.
    #[must_use]
    pub const fn height(&self) -> u64 {
        self.last
    }

    /// Adds the next block: its header, its transactions as in the block, its certificate.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn block(&mut self, header: &[u8], body: &[u8], certificate: &str) -> io::Result<()> {
        write_part(&mut self.out, &[header, body])?;
        write_part(&mut self.out, &[certificate.as_bytes()])?;
        self.last = self.last.saturating_add(1);
        Ok(())
    }

    /// Writes the end.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 4])?;
        self.out.write_all(&self.last.to_be_bytes())?;
        self.out.flush()?;
        Ok(self.out)
    }
}

fn write_part(out: &mut impl Write, parts: &[&[u8]]) -> io::Result<()> {
    let length = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
    let length = u32::try_from(length).map_err(io::Error::other)?;
    out.write_all(&length.to_be_bytes())?;
    parts.iter().try_for_each(|part| out.write_all(part))
}

/// Reads a chain.
#[derive(Debug)]
pub struct ChainReader<R> {
    input: R,
    genesis: Genesis,
    read: u64,
    ended: bool,
}

impl<R: Read> ChainReader<R> {
    /// Reads what stands before the first block.
    ///
    /// # Errors
    /// When it is not the beginning of a chain.
    pub fn open(mut input: R) -> Result<Self, ChainFileError> {
        let mut start = [0; 10];
        input.read_exact(&mut start)?;
        let (magic, version) = start.split_at(CHAIN_MAGIC.len());
        if magic != CHAIN_MAGIC || version != VERSION.to_be_bytes() {
            return Err(ChainFileError::Version);
        }
        let length = read_length(&mut input)?;
        let bytes = read_bytes(&mut input, length, MAX_GENESIS_BYTES)?;
        let genesis = Genesis::parse(&bytes)?;
        if genesis.to_bytes()? != bytes {
            return Err(ChainFileError::GenesisForm);
        }
        Ok(Self { input, genesis, read: 0, ended: false })
    }

    /// The founding document.
    #[must_use]
    pub const fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// What it reads from.
    #[must_use]
    pub const fn input(&self) -> &R {
        &self.input
    }

    /// The height that comes next.
    #[must_use]
    pub const fn next_height(&self) -> u64 {
        self.read.saturating_add(1)
    }

    /// The next block with its certificate; none at the end, which is checked.
    ///
    /// # Errors
    /// When the file is not what it should be at [`Self::next_height`].
    pub fn block(&mut self) -> Result<Option<AuditedBlock>, ChainFileError> {
        if self.ended {
            return Ok(None);
        }
        let length = read_length(&mut self.input)?;
        if length == 0 {
            self.end()?;
            return Ok(None);
        }
        let block = Block::from_bytes(&read_bytes(&mut self.input, length, MAX_BLOCK_BYTES)?)?;
        let length = read_length(&mut self.input)?;
        let note = read_bytes(&mut self.input, length, MAX_NOTE_BYTES)?;
        let note = String::from_utf8(note).map_err(|_not_utf8| ChainFileError::Certificate)?;
        self.read = self.next_height();
        Ok(Some((block, note)))
    }

    fn end(&mut self) -> Result<(), ChainFileError> {
        let mut named = [0; 8];
        self.input.read_exact(&mut named)?;
        let (named, last) = (u64::from_be_bytes(named), self.read);
        if named != last {
            return Err(ChainFileError::End { named, last });
        }
        if self.input.read(&mut [0])? != 0 {
            return Err(ChainFileError::Trailing);
        }
        self.ended = true;
        Ok(())
    }
}

fn read_length(input: &mut impl Read) -> Result<usize, ChainFileError> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    usize::try_from(u32::from_be_bytes(length)).map_err(|_too_large| ChainFileError::Length)
}

/// Reads a part of a length that may be a lie: memory grows with what is there, not with what is claimed.
fn read_bytes(input: &mut impl Read, length: usize, limit: usize) -> Result<Vec<u8>, ChainFileError> {
    if length > limit {
        return Err(ChainFileError::Length);
    }
    let mut bytes = Vec::new();
    input.take(u64::try_from(length).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
    if bytes.len() == length { Ok(bytes) } else { Err(ChainFileError::Cut) }
}
