//! What a deployment begins with: genesis.json and the first operators.
//!
//! Why: decision 0087.

use anyhow::{Context as _, Result};
use ed25519_dalek::SigningKey;
use hbc_auth::{OperatorEntry, OperatorsFile};
use hbc_chain::genesis::{Genesis, Named, Parameters, ServiceKey};
use hbc_types::ids::OperatorId;
use hbc_types::keys::PublicKey;
use hbc_types::secret::SecretText;
use hbc_types::{Clock, Digest, Random};
use serde::Serialize;

use super::keys::{Keys, signing_key};
use crate::deployment::Deployment;
use crate::secret_file;

/// What a deployment is founded with.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Approvals that an agency needs, and so the first operators.
    pub approvals: u32,
    /// Leading zero bits of each block's hash.
    pub zero_bits: u32,
    /// Time between blocks at least. A block's work costs a core some 100 ms: with as much rest as work or more, a member
    /// under load has processors left for transactions, and each block takes more of them.
    pub min_spacing_ms: u64,
    /// Logins are kept in a file.
    pub dev: bool,
}

impl Terms {
    /// In development, and otherwise.
    pub const fn of(dev: bool) -> Self {
        if dev {
            Self { approvals: 1, zero_bits: 8, min_spacing_ms: 1, dev }
        } else {
            Self { approvals: 2, zero_bits: 20, min_spacing_ms: 250, dev }
        }
    }
}

/// The founding documents.
pub struct Founding {
    /// The chain's id.
    pub chain: Digest,
    /// The first operators' usernames and passwords, which stand nowhere else.
    pub logins: Vec<(String, SecretText)>,
    genesis: Genesis,
    operators: Vec<OperatorEntry>,
    /// For development.
    pub dev: bool,
}

#[derive(Serialize)]
struct Logins<'a> {
    operators: Vec<Login<'a>>,
}

#[derive(Serialize)]
struct Login<'a> {
    username: &'a str,
    password: &'a SecretText,
}

impl Founding {
    /// Founds a chain on `keys`.
    pub fn new(terms: Terms, keys: &Keys, clock: &Clock, random: &Random) -> Result<Self> {
        let Terms { approvals, zero_bits, min_spacing_ms, dev } = terms;
        let parameters = Parameters::with_zero_bits(zero_bits, u64::from(approvals))?;
        let mut logins = Vec::new();
        let mut operators = Vec::new();
        let mut named = Vec::new();
        for number in 1..=approvals {
            let username = format!("operator-{number}");
            let password = SecretText::new(hex::encode(random.bytes::<16>()));
            let key = signing_key(random);
            let id = OperatorId::random(random);
            operators.push(hbc_auth::operator(&id, &username, &password, &key, random)?);
            named.push(Named { key: public(&key), name: username.clone() });
            logins.push((username, password));
        }
        let genesis = Genesis {
            members: by_name(
                keys.nodes.iter().map(|(name, key)| Named { key: public(key), name: name.clone() }),
            ),
            operators: by_name(named.into_iter()),
            origin: "hbc.example".to_owned(),
            parameters: Parameters { min_spacing_ms, ..parameters },
            services: services(keys),
            time_ms: clock.now().unsigned_ms(),
        };
        let chain = genesis.chain_id().context("the genesis breaks a rule")?;
        Ok(Self { chain, logins, genesis, operators, dev })
    }

    /// Writes genesis.json, the operators' file and, in development, their logins.
    pub fn write(&self, place: &Deployment) -> Result<()> {
        let mut text = self.genesis.to_bytes()?;
        text.push(b'\n');
        std::fs::write(place.genesis(), text).context("cannot write genesis.json")?;
        let file = OperatorsFile { operators: self.operators.clone() };
        let text = serde_json::to_vec_pretty(&file).context("the operators cannot be written")?;
        secret_file::write(&place.secret("operators.json"), &text)?;
        if self.dev {
            let operators =
                self.logins.iter().map(|(username, password)| Login { username, password }).collect();
            let text =
                serde_json::to_vec_pretty(&Logins { operators }).context("the logins cannot be written")?;
            secret_file::write(&place.secret("logins.json"), &text)?;
        }
        Ok(())
    }
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey::of(key)
}

fn by_name(list: impl Iterator<Item = Named>) -> Vec<Named> {
    let mut list: Vec<Named> = list.collect();
    list.sort_by(|one, next| one.name.cmp(&next.name));
    list
}

fn services(keys: &Keys) -> Vec<ServiceKey> {
    let keys = keys.services.iter().map(|(role, key)| ServiceKey { key: public(key), role: *role });
    let mut services: Vec<ServiceKey> = keys.collect();
    services.sort_by(|one, next| (one.role.code(), one.key).cmp(&(next.role.code(), next.key)));
    services
}
