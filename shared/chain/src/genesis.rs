//! `genesis.json`: who founds a chain and under which parameters; block 0 and the chain's id follow from its bytes.
//!
//! The file is one canonical JSON document, optionally ended by one line feed that is not part of it. Block 0 has no
//! transactions and no work: prev_hash = SHA-256(genesis.json), log_size 0, log_root and tx_root = SHA-256 of nothing,
//! miner and nonce zero. The chain's id is SHA-256 of header 0.

use serde::{Deserialize, Serialize};

use super::header::{Header, MAX_BLOCK_BYTES, Target};
use super::json::{self, JsonError, MAX_INTEGER};
use super::map::Map;
use super::merkle;
use super::names::is_name;
use super::payload::KeyStatus;
use hbc_types::account::ServiceRole;
use hbc_types::digest::Digest;
use hbc_types::hash;
use hbc_types::keys::{Kid, PublicKey};

/// Members of a chain at most.
pub const MAX_MEMBERS: usize = 100;
/// Operators at most.
pub const MAX_OPERATORS: usize = 1000;
/// Leading zero bits of a target at most: beyond them no consortium finds a block, and without a block no vote.
pub const MAX_TARGET_BITS: u32 = 40;

/// Why a file founds no chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// Not canonical, or of another shape.
    #[error("genesis.json: {0}")]
    Json(#[from] JsonError),
    /// A rule does not hold.
    #[error("genesis.json: {0}")]
    Rule(&'static str),
}

/// A member or operator: its name and key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// Its Ed25519 public key.
    pub key: PublicKey,
    /// Its name.
    pub name: String,
}

impl Named {
    /// Fingerprint of its key.
    #[must_use]
    pub fn kid(&self) -> Kid {
        self.key.kid()
    }
}

/// The first key of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceKey {
    /// Its Ed25519 public key.
    pub key: PublicKey,
    /// Which service.
    pub role: ServiceRole,
}

/// A service's key as the state map holds it, under kind `service` and the key's fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceEntry {
    /// The key.
    #[serde(rename = "pub")]
    pub public: PublicKey,
    /// Whose.
    pub role: ServiceRole,
    /// In use or not.
    pub status: KeyStatus,
    /// The transaction that took effect last; absent since genesis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txid: Option<Digest>,
}

/// An entry of the state map after block 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstEntry {
    /// Its kind.
    pub kind: &'static str,
    /// Its id within the kind.
    pub id: String,
    /// Its value, canonical JSON.
    pub value: Vec<u8>,
}

/// What the members may change by vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Operators that a staff profile needs.
    pub approvals: u64,
    /// An empty block is due after this long without one.
    pub heartbeat_ms: u64,
    /// Bytes of an encoded block at most.
    pub max_block_bytes: u64,
    /// A block is at least this much later than its parent (and always at least one millisecond).
    pub min_spacing_ms: u64,
    /// The proof-of-work target, compact form.
    pub target: u64,
}

impl Parameters {
    /// The usual ones with a target of so many leading zero bits.
    ///
    /// # Errors
    /// When no target has so many.
    pub fn with_zero_bits(bits: u32, approvals: u64) -> Result<Self, GenesisError> {
        let target = Target::from_zero_bits(bits).map_err(|_bits| GenesisError::Rule("no such target"))?;
        Ok(Self {
            approvals,
            heartbeat_ms: 600_000,
            max_block_bytes: MAX_BLOCK_BYTES as u64,
            min_spacing_ms: 1,
            target: u64::from(target.compact()),
        })
    }

    /// The target as a number to compare with.
    ///
    /// # Errors
    /// When it is not one in minimal compact form.
    pub fn target(&self) -> Result<Target, GenesisError> {
        u32::try_from(self.target)
            .ok()
            .and_then(|compact| Target::from_compact(compact).ok())
            .ok_or(GenesisError::Rule("`target` is not in minimal compact form"))
    }

    /// The same with one number changed, if the result holds.
    ///
    /// # Errors
    /// For an unknown name or a number outside its limits.
    pub fn with(&self, name: &str, value: u64) -> Result<Self, GenesisError> {
        let mut changed = *self;
        match name {
            "approvals" => changed.approvals = value,
            "heartbeat_ms" => changed.heartbeat_ms = value,
            "max_block_bytes" => changed.max_block_bytes = value,
            "min_spacing_ms" => changed.min_spacing_ms = value,
            "target" => changed.target = value,
            _ => return Err(GenesisError::Rule("unknown parameter")),
        }
        changed.check()?;
        Ok(changed)
    }

    /// That every number is inside its limits.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), GenesisError> {
        rule((1..=100).contains(&self.approvals), "`approvals` is 1 to 100")?;
        rule((1_000..=86_400_000).contains(&self.heartbeat_ms), "`heartbeat_ms` is one second to one day")?;
        rule(
            (300 * 1024..=MAX_BLOCK_BYTES as u64).contains(&self.max_block_bytes),
            "`max_block_bytes` is 300 KiB to 8 MiB",
        )?;
        rule(self.min_spacing_ms <= 60_000, "`min_spacing_ms` is at most one minute")?;
        rule(self.target()?.zero_bits() <= MAX_TARGET_BITS, "`target` has at most 40 leading zero bits")
    }
}

fn rule(holds: bool, text: &'static str) -> Result<(), GenesisError> {
    if holds { Ok(()) } else { Err(GenesisError::Rule(text)) }
}

/// That a list is sorted by name, its names and keys are distinct, and every key is one.
///
/// # Errors
/// The first rule that fails.
pub fn check_named(list: &[Named]) -> Result<(), GenesisError> {
    rule(list.iter().all(|named| is_name(&named.name)), "a name is 1 to 63 of a-z, 0-9 and `-`")?;
    rule(list.is_sorted_by(|one, next| one.name < next.name), "names ascend and are unique")?;
    let mut keys: Vec<&PublicKey> = list.iter().map(|named| &named.key).collect();
    keys.sort_unstable();
    rule(keys.is_sorted_by(|one, next| one < next), "keys are unique")?;
    rule(list.iter().all(|named| named.key.check().is_ok()), "a key is not an Ed25519 public key")
}

/// The founding document of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// 1 to 100 members, by name.
    pub members: Vec<Named>,
    /// At least as many operators as approvals are needed, by name.
    pub operators: Vec<Named>,
    /// The consortium: the first part of every checkpoint's origin, such as `hbc.example`.
    pub origin: String,
    /// The first parameters.
    pub parameters: Parameters,
    /// The first service keys, by role then key: at least one each of auth, access-policy and storage.
    pub services: Vec<ServiceKey>,
    /// Unix milliseconds of block 0.
    pub time_ms: u64,
}

impl Genesis {
    /// Reads a file: the canonical document, with or without one line feed at its end.
    ///
    /// # Errors
    /// What is not exact or breaks a rule.
    pub fn parse(file: &[u8]) -> Result<Self, GenesisError> {
        let genesis: Self = json::decode(file.strip_suffix(b"\n").unwrap_or(file))?;
        genesis.check()?;
        Ok(genesis)
    }

    /// The canonical document, without a line feed: what is hashed.
    ///
    /// # Errors
    /// When a number is too large.
    pub fn to_bytes(&self) -> Result<Vec<u8>, GenesisError> {
        Ok(json::encode(self)?)
    }

    /// That every rule holds.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), GenesisError> {
        let origin_fits = (1..=100).contains(&self.origin.len())
            && self.origin.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'));
        rule(origin_fits, "`origin` is 1 to 100 of a-z, 0-9, `-` and `.`")?;
        rule((1..=MAX_MEMBERS).contains(&self.members.len()), "1 to 100 members")?;
        check_named(&self.members)?;
        rule(self.operators.len() <= MAX_OPERATORS, "at most 1000 operators")?;
        check_named(&self.operators)?;
        self.parameters.check()?;
        let approvers = u64::try_from(self.operators.len()).unwrap_or(u64::MAX);
        rule(approvers >= self.parameters.approvals, "fewer operators than approvals")?;
        let order = |service: &ServiceKey| (service.role.code(), service.key);
        rule(
            self.services.is_sorted_by(|one, next| order(one) < order(next)),
            "services ascend by role and key",
        )?;
        let mut signers = ServiceRole::ALL.iter().filter(|role| role.signs_transactions());
        let has_key = |role: &ServiceRole| self.services.iter().any(|service| service.role == *role);
        rule(signers.all(has_key), "a service has no key")?;
        rule(self.services.iter().all(|service| service.key.check().is_ok()), "a service's key is not one")?;
        let mut keys: Vec<PublicKey> = self.services.iter().map(|service| service.key).collect();
        keys.extend(self.members.iter().chain(&self.operators).map(|named| named.key));
        keys.sort_unstable();
        rule(keys.is_sorted_by(|one, next| one < next), "one key serves one party")?;
        rule(self.time_ms <= MAX_INTEGER, "`time_ms` is too large")
    }

    /// Header 0.
    ///
    /// # Errors
    /// When the document breaks a rule.
    pub fn header(&self) -> Result<Header, GenesisError> {
        self.check()?;
        let empty = merkle::empty_root();
        Ok(Header {
            height: 0,
            prev_hash: Digest::of(&self.to_bytes()?),
            tx_root: empty,
            log_root: empty,
            log_size: 0,
            state_root: hash::state(&self.map()?.root(), &empty, &empty),
            time_ms: self.time_ms,
            target: self.parameters.target()?,
            miner: [0; 8],
            nonce: 0,
        })
    }

    /// The entries of the state map after block 0, in no particular order: `members`, `operators` and `parameters` under
    /// an empty id, and one `service` per key under its fingerprint.
    ///
    /// # Errors
    /// When a value has no canonical form.
    pub fn entries(&self) -> Result<Vec<FirstEntry>, GenesisError> {
        let mut entries = vec![
            FirstEntry { kind: "members", id: String::new(), value: json::encode(&self.members)? },
            FirstEntry { kind: "operators", id: String::new(), value: json::encode(&self.operators)? },
            FirstEntry { kind: "parameters", id: String::new(), value: json::encode(&self.parameters)? },
        ];
        for service in &self.services {
            let value = ServiceEntry {
                public: service.key,
                role: service.role,
                status: KeyStatus::Active,
                txid: None,
            };
            let id = service.key.kid().to_string();
            entries.push(FirstEntry { kind: "service", id, value: json::encode(&value)? });
        }
        Ok(entries)
    }

    /// The state map after block 0, by the digests of its values.
    ///
    /// # Errors
    /// When a value has no canonical form.
    pub(crate) fn map(&self) -> Result<Map<Digest>, GenesisError> {
        let mut map = Map::new();
        for entry in self.entries()? {
            map.insert(hash::state_key(entry.kind, &entry.id), Digest::of(&entry.value));
        }
        Ok(map)
    }

    /// The chain's id: SHA-256 of header 0.
    ///
    /// # Errors
    /// When the document breaks a rule.
    pub fn chain_id(&self) -> Result<Digest, GenesisError> {
        Ok(self.header()?.hash())
    }

    /// The keys of a service at the start.
    pub fn service_keys(&self, role: ServiceRole) -> impl Iterator<Item = PublicKey> {
        self.services.iter().filter(move |service| service.role == role).map(|service| service.key)
    }
}

/// The origin line of a chain's checkpoints: `<consortium>/hbc/<chain id[..16]>`.
#[must_use]
pub fn log_origin(consortium: &str, chain: &Digest) -> String {
    let chain = chain.to_string();
    format!("{consortium}/hbc/{}", chain.get(..16).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{genesis as sample, key};

    /// The vector of docs/FORMATS.md.
    #[test]
    fn golden_genesis() {
        let genesis = sample(4);
        let file = String::from_utf8(genesis.to_bytes().unwrap()).unwrap();
        assert_eq!(file, include_str!("../tests/data/genesis.json").trim_end());
        assert_eq!(
            hex::encode(genesis.header().unwrap().to_bytes()),
            "48424331000100000000000000000000da44a484f6058104b51cad5b815d96648b69d362225184652a0abab520e5f0bfe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85500000000000000009a111d4e4105a2cc54d13ea9c3de290bdbd4d35bb7bdadabdbb3ec2a3dc3b186000001a0c4506c002000ffff00000000000000000000000000000000"
        );
        assert_eq!(
            genesis.chain_id().unwrap().to_string(),
            "0341e8558097e9aaee03acac248537234220004b76186e9a25f74b1e925a324b"
        );
        assert_eq!(Genesis::parse(file.as_bytes()).unwrap(), genesis);
        assert_eq!(Genesis::parse(format!("{file}\n").as_bytes()).unwrap(), genesis);
        assert!(Genesis::parse(format!("{file}\n\n").as_bytes()).is_err());
        let origin = log_origin(&genesis.origin, &genesis.chain_id().unwrap());
        assert_eq!(origin, "hbc.example/hbc/0341e8558097e9aa");
    }

    /// A point with y + p in the place of y = 3.
    fn not_canonical() -> PublicKey {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (0xf0, 0x7f);
        PublicKey::from_bytes(bytes)
    }

    #[test]
    fn every_rule_bites() {
        let spoil: [fn(&mut Genesis); 18] = [
            |g| g.members.clear(),
            |g| g.members.swap(0, 1),
            |g| g.members[1].key = g.members[0].key,
            |g| g.members[0].name = "Node".into(),
            |g| g.members[0].key = PublicKey::from_bytes([2; 32]),
            |g| g.members[0].key = PublicKey::from_bytes([0; 32]),
            |g| g.members[0].key = not_canonical(),
            |g| g.operators[0].key = not_canonical(),
            |g| g.services[0].key = not_canonical(),
            |g| g.operators.truncate(1),
            |g| g.operators[0].key = g.members[0].key,
            |g| g.origin = "hbc example".into(),
            |g| g.services.truncate(2),
            |g| g.services.reverse(),
            |g| g.parameters.target = 0,
            |g| g.parameters.approvals = 0,
            |g| g.parameters.max_block_bytes = 1,
            |g| g.time_ms = MAX_INTEGER + 1,
        ];
        for (case, spoil) in spoil.into_iter().enumerate() {
            let mut genesis = sample(4);
            spoil(&mut genesis);
            assert!(genesis.header().is_err(), "case {case}");
        }
    }

    #[test]
    fn everything_in_the_file_counts_for_the_chain_id() {
        let chain = sample(4).chain_id().unwrap();
        let change: [fn(&mut Genesis); 5] = [
            |g| g.members[0].name = "node-0".into(),
            |g| g.origin = "other.example".into(),
            |g| g.parameters.heartbeat_ms = 5_000,
            |g| g.time_ms += 1,
            |g| g.operators[1].key = PublicKey::of(&key(99)),
        ];
        for change in change {
            let mut genesis = sample(4);
            change(&mut genesis);
            assert_ne!(genesis.chain_id().unwrap(), chain);
        }
    }
}
