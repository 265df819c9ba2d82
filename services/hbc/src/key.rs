//! `hbc key new|show FILE`, `hbc key rotate DIR`: keys of members and services, in files that only their owner may read.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use ed25519_dalek::SigningKey;
use hbc_service::config::SecretFile;
use hbc_types::Random;
use hbc_types::keys::PublicKey;
use zeroize::Zeroizing;

use crate::deployment::Deployment;
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

/// Makes a new key for access tokens and keeps the present one, of whose tokens some still live, in the place of the one
/// before it.
pub fn rotate(deployment: &Deployment, random: &Random) -> Result<()> {
    let (present, old) = (deployment.secret("token.key"), deployment.secret("token.old.key"));
    let text =
        Zeroizing::new(std::fs::read(&present).with_context(|| format!("no `{}`", present.display()))?);
    secret_file::write(&old, &text)?;
    let key = signing_key(random);
    let text = Zeroizing::new(format!("{}\n", *Zeroizing::new(hex::encode(key.as_bytes()))));
    secret_file::write(&present, text.as_bytes())?;
    tell(&key)?;
    crate::say(
        "Start auth again, and not a second time within an hour: `hbc node stop auth DIR; hbc node start auth DIR`",
    )?;
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_present_key_becomes_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let deployment = Deployment::at(folder.path()).unwrap();
        rotate(&deployment, &Random::seeded(1)).unwrap_err();
        secret_file::make_folder(&folder.path().join("secrets")).unwrap();
        make(&deployment.secret("token.key"), &Random::seeded(1)).unwrap();
        let key = |name: &str| read(&deployment.secret(name)).unwrap().to_bytes();
        let first = key("token.key");
        std::fs::write(deployment.secret("token.new"), "half of a").unwrap();
        rotate(&deployment, &Random::seeded(2)).unwrap();
        let second = key("token.key");
        assert!(first != second && key("token.old.key") == first);
        rotate(&deployment, &Random::seeded(3)).unwrap();
        assert!(key("token.key") != second && key("token.old.key") == second);
    }
}
