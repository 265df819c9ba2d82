//! A file that is opened once and read once, so that a pipe is as good as a file: `hbc verify <(curl …)`, and `-` for
//! standard input.

use std::fs::File;
use std::io::{Chain, Cursor, Read};
use std::path::Path;

use anyhow::{Context as _, Result};
use hbc_chain::proof::{FileKind, MAX_DOCUMENT_BYTES};

/// Bytes that tell what a file is.
const START_BYTES: u64 = 32;

/// The file from its first byte on.
pub type Bytes = Chain<Cursor<Vec<u8>>, Box<dyn Read>>;

/// A file, and what it is.
pub struct Input {
    /// Told by how it begins.
    pub kind: FileKind,
    /// Its bytes as the system counts them; 0 for a pipe.
    pub total: u64,
    bytes: Bytes,
    name: String,
}

impl Input {
    /// Opens a file, or standard input under the name `-`, and looks at its first bytes.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let failed = || format!("cannot read `{name}`");
        let (mut file, total): (Box<dyn Read>, u64) = if path == Path::new("-") {
            (Box::new(std::io::stdin()), 0)
        } else {
            let file = File::open(path).with_context(failed)?;
            let total = file.metadata().map_or(0, |metadata| metadata.len());
            (Box::new(file), total)
        };
        let mut start = Vec::new();
        file.by_ref().take(START_BYTES).read_to_end(&mut start).with_context(failed)?;
        Ok(Self { kind: FileKind::of(&start), total, bytes: Cursor::new(start).chain(file), name })
    }

    /// All of it, up to one byte more than any document has, so that a larger one is refused as too large.
    pub fn read(self) -> Result<Vec<u8>> {
        let limit = u64::try_from(MAX_DOCUMENT_BYTES).unwrap_or(u64::MAX).saturating_add(1);
        let mut bytes = Vec::new();
        let read = self.bytes.take(limit).read_to_end(&mut bytes);
        read.with_context(|| format!("cannot read `{}`", self.name))?;
        Ok(bytes)
    }

    /// Its bytes as a stream.
    pub fn stream(self) -> Bytes {
        self.bytes
    }
}
