//! `hbc key new|show FILE`: keys of members and services, in files that only their owner may read.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use ed25519_dalek::SigningKey;
use hbc_service::config::SecretFile;
use hbc_types::Random;
use hbc_types::keys::PublicKey;
use zeroize::Zeroizing;

use crate::init::keys::signing_key;
use crate::secret_file;

/// Makes a key and tells its public half.
pub fn make(path: &Path, random: &Random) -> Result<()> {
    ensure!(!path.try_exists()?, "`{}` is there already; a key is never overwritten", path.display());
    let key = signing_key(random);
    let text = Zeroizing::new(format!("{}\n", *Zeroizing::new(hex::encode(key.as_bytes()))));
    secret_file::write(path, text.as_bytes())?;
    tell(&key)
}

/// Tells a key's public half.
pub fn show(path: &Path) -> Result<()> {
    tell(&read(path)?)
}

/// Reads a key from its file.
pub fn read(path: &Path) -> Result<SigningKey> {
    SecretFile::new(path.to_owned()).signing_key().context("the key cannot be used")
}

fn tell(key: &SigningKey) -> Result<()> {
    let public = PublicKey::of(key);
    crate::say(&format!("public key   {public}"))?;
    crate::say(&format!("fingerprint  {}", public.kid()))?;
    Ok(())
}
