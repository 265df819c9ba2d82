//! Folders that go away.

use std::path::{Path, PathBuf};

use anyhow::Result;
use hbc_types::Random;

use crate::secret_file;

/// A fresh folder, removed in the end.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes it inside `target`, where the program was built; else in the system's folder for temporary files.
    pub fn new(prefix: &str, random: &Random) -> Result<Self> {
        let built = Path::new("target");
        let base = if built.is_dir() { built.to_owned() } else { std::env::temp_dir() };
        let path = std::path::absolute(base.join(format!("{prefix}-{}", hex::encode(random.bytes::<4>()))))?;
        secret_file::make_folder(&path)?;
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _left = std::fs::remove_dir_all(&self.path);
    }
}
