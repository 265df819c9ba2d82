//! The first operators: the file `operators.json` that `hbc init` writes and auth reads at its start.
//!
//! The wrap of an operator's key is that of [`crate::domain::custody`] (domain `hbc/operator-key/v1`), so that the
//! file's entry becomes a row as it is and the password never stands anywhere.

use anyhow::{Context as _, anyhow};
use ed25519_dalek::SigningKey;
use hbc_types::Random;
use hbc_types::ids::OperatorId;
use hbc_types::secret::SecretText;
use serde::{Deserialize, Serialize};

use crate::domain::custody::{Cost, KeyOwner, KeyUse, Wrapped, public_key, wrap_with_password};
use crate::domain::input::Username;
use crate::domain::password;

/// `operators.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorsFile {
    /// The operators.
    pub operators: Vec<OperatorEntry>,
}

/// One operator.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorEntry {
    /// The account's id.
    pub id: OperatorId,
    /// Its username.
    pub username: String,
    /// Raw Ed25519 public key, 64 lowercase hex digits.
    pub public_key: String,
    /// Argon2id of the password, PHC text.
    pub password_hash: String,
    /// The signing key, wrapped under the password.
    pub signing_key: WrappedEntry,
}

/// A key wrapped under a password, in hex.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrappedEntry {
    /// Always `argon2id`.
    pub kdf: String,
    /// Memory in KiB.
    pub m_kib: u32,
    /// Passes.
    pub t: u32,
    /// Lanes.
    pub p: u32,
    /// 16 bytes.
    pub salt: String,
    /// 12 bytes.
    pub nonce: String,
    /// 48 bytes: seed and tag.
    pub ciphertext: String,
}

/// Makes the entry of an operator. Takes two Argon2id hashes of time.
pub fn operator(
    id: &OperatorId,
    username: &str,
    password: &SecretText,
    key: &SigningKey,
    random: &Random,
) -> anyhow::Result<OperatorEntry> {
    let username = Username::parse(username).ok_or_else(|| anyhow!("`{username}` is not a username"))?;
    password::check_new(password, username.as_str(), false).context("the operator's password")?;
    let public = public_key(key);
    let owner = KeyOwner { key_use: KeyUse::Operator, account: id.as_str(), public_key: &public };
    let cost = Cost::STANDARD;
    let wrapped = wrap_with_password(&key.clone().into(), owner, password, cost, random)?;
    Ok(OperatorEntry {
        id: id.clone(),
        username: username.as_str().to_owned(),
        public_key: hex::encode(public),
        password_hash: password::hash(password, cost, random)?,
        signing_key: WrappedEntry {
            kdf: "argon2id".to_owned(),
            m_kib: cost.m_kib,
            t: cost.t,
            p: cost.p,
            salt: hex::encode(wrapped.salt),
            nonce: hex::encode(wrapped.nonce),
            ciphertext: hex::encode(wrapped.ciphertext),
        },
    })
}

impl OperatorEntry {
    /// The raw public key.
    pub fn public_key(&self) -> anyhow::Result<[u8; 32]> {
        array(&self.public_key, "public_key")
    }
}

impl WrappedEntry {
    /// Cost and wrap, checked.
    pub fn parse(&self) -> anyhow::Result<(Cost, Wrapped)> {
        anyhow::ensure!(self.kdf == "argon2id", "the key derivation `{}` is not known", self.kdf);
        let cost = Cost { m_kib: self.m_kib, t: self.t, p: self.p };
        cost.argon2()?;
        let wrapped = Wrapped {
            salt: array(&self.salt, "salt")?,
            nonce: array(&self.nonce, "nonce")?,
            ciphertext: array::<48>(&self.ciphertext, "ciphertext")?.to_vec(),
        };
        Ok((cost, wrapped))
    }
}

fn array<const N: usize>(text: &str, field: &str) -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).with_context(|| format!("`{field}` is not {N} bytes of hex"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::custody::{new_key, open_with_password};

    #[test]
    fn an_entry_survives_json_and_opens_with_its_password() {
        let random = Random::seeded(1);
        let (id, key) = (OperatorId::random(&random), new_key(&random));
        let password = SecretText::new("seven herons stand still".to_owned());
        let entry = operator(&id, "operator-1", &password, &key, &random).unwrap();
        let text = serde_json::to_string(&OperatorsFile { operators: vec![entry] }).unwrap();
        let read: OperatorsFile = serde_json::from_str(&text).unwrap();
        let entry = &read.operators[0];
        assert!(password::matches(&password, &entry.password_hash));
        let (cost, wrapped) = entry.signing_key.parse().unwrap();
        let public = entry.public_key().unwrap();
        let owner = KeyOwner { key_use: KeyUse::Operator, account: id.as_str(), public_key: &public };
        let opened = open_with_password(&wrapped, owner, &password, cost).unwrap();
        assert_eq!(opened.key.to_bytes(), key.to_bytes());
        let short = SecretText::new("short".to_owned());
        assert!(operator(&id, "operator-1", &short, &key, &random).is_err());
    }
}
