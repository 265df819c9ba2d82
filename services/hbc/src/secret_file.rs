//! Files that only their owner may read.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use hbc_db::disk;

/// Writes a file of mode 0600, made so from its first byte on, and durable when this returns.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    // Left over from an attempt that a power cut ended; it would be in the way for ever.
    let _absent = std::fs::remove_file(&temporary);
    let result = File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&temporary, path))
        .and_then(|()| disk::sync_folder_of(path));
    result.with_context(|| format!("cannot write `{}`", path.display()))
}

/// Makes a folder of mode 0700, with its parents.
pub fn make_folder(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make `{}`", path.display()))
}
