//! What the tests of every crate begin with: keys by number or name, a founding document, and a chain that its members
//! certify. Compiled for tests alone: here, and elsewhere through `hbc-testkit`, which asks for the feature `testing`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "what tests are made of fails the test that uses it wrongly"
)]

mod chain;
pub mod named;

use std::collections::BTreeMap;
use std::path::Path;

use ed25519_dalek::SigningKey;
use serde_json::Value;

use crate::checkpoint::{Certificate, Checkpoint};
use crate::genesis::{Genesis, Named, Parameters, ServiceKey};
use crate::header::Header;
use hbc_types::account::ServiceRole;
use hbc_types::digest::Digest;
use hbc_types::ids::{AccountId, GrantId, PatientId, ReceiptId, RecordId};
use hbc_types::keys::PublicKey;
use hbc_types::labels::Category;
use hbc_types::purpose::Purpose;
use hbc_types::time::Timestamp;
use hbc_types::wire::access::{AccessKind, ReceiptBody, ReceiptRecord};

pub use chain::Chain;

/// Seed of the first operator's key; the next one's is one more. The members' are 1 and up.
pub const OPERATOR: u8 = 101;
/// Seed of auth's key.
pub const AUTH: u8 = 201;
/// Seed of access-policy's key.
pub const ACCESS_POLICY: u8 = 202;
/// Seed of storage's key.
pub const STORAGE: u8 = 203;

/// The key whose seed is this byte, 32 times.
#[must_use]
pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// The public half of [`key`].
#[must_use]
pub fn public(seed: u8) -> PublicKey {
    PublicKey::of(&key(seed))
}

/// Seed of a service's key.
#[must_use]
pub const fn service(role: ServiceRole) -> u8 {
    match role {
        ServiceRole::Auth => AUTH,
        ServiceRole::AccessPolicy => ACCESS_POLICY,
        ServiceRole::Storage => STORAGE,
    }
}

/// The members `node-1`, `node-2` and so on with the keys of these seeds.
#[must_use]
pub fn members(seeds: &[u8]) -> Vec<Named> {
    seeds.iter().map(|seed| Named { key: public(*seed), name: format!("node-{seed}") }).collect()
}

/// A founding document of so many members, two operators and the services. That of four members is the vector of
/// `docs/FORMATS.md`; a test that wants something else changes the fields.
#[must_use]
pub fn genesis(count: u8) -> Genesis {
    let operator = |n: u8| Named { key: public(OPERATOR - 1 + n), name: format!("operator-{n}") };
    let service = |role| ServiceKey { key: public(service(role)), role };
    Genesis {
        members: members(&(1..=count).collect::<Vec<_>>()),
        operators: vec![operator(1), operator(2)],
        origin: "hbc.example".to_owned(),
        parameters: Parameters::with_zero_bits(8, 2).unwrap(),
        services: vec![
            service(ServiceRole::AccessPolicy),
            service(ServiceRole::Auth),
            service(ServiceRole::Storage),
        ],
        time_ms: 1_790_000_000_000,
    }
}

/// The same with work that takes no time and one operator's word that is enough.
#[must_use]
pub fn quick_genesis(count: u8) -> Genesis {
    Genesis { parameters: Parameters::with_zero_bits(0, 1).unwrap(), ..genesis(count) }
}

/// A checkpoint signed by these keys. Who is none of `members` is left out.
#[must_use]
pub fn note(checkpoint: Checkpoint, signers: &[SigningKey], members: &[Named]) -> String {
    let votes: Vec<_> = signers.iter().map(|key| (PublicKey::of(key).kid(), checkpoint.sign(key))).collect();
    Certificate::assemble(checkpoint, &votes, members).to_note()
}

/// The body of a patient's receipt of this number, from 1 on: one record was read.
#[must_use]
pub fn receipt_body(number: u64) -> ReceiptBody {
    let record = RecordId::parse(&format!("rec-{number:032x}")).unwrap();
    ReceiptBody {
        id: ReceiptId::parse(&format!("rcp-{number:032x}")).unwrap(),
        patient: PatientId::parse(&format!("pat-{:032x}", 1)).unwrap(),
        n: number,
        prev: (number > 1).then(|| Digest::of(&number.to_be_bytes())),
        kind: AccessKind::Read,
        actor: AccountId::parse(&format!("agy-{:032x}", 1)).unwrap(),
        on_behalf_of: None,
        organisation: None,
        emergency: None,
        count: None,
        folded: None,
        channel: None,
        case: None,
        purpose: Purpose::Treatment,
        grant: Some(GrantId::parse(&format!("grt-{:032x}", 1)).unwrap()),
        rule: "consent".to_owned(),
        records: vec![ReceiptRecord { record, version: 1 }],
        categories: vec![Category::Laboratory],
        at: Timestamp::from_ms(1_790_000_000_400),
    }
}

/// A vector as its file has it: the members of each object in the order of their names, because whether `serde_json` keeps
/// another order is for whoever else is built along to say.
#[must_use]
pub fn vector_text(value: &Value) -> String {
    format!("{}\n", serde_json::to_string_pretty(&sorted(value)).unwrap())
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let ordered: BTreeMap<&String, Value> =
                members.iter().map(|(name, value)| (name, sorted(value))).collect();
            ordered.into_iter().map(|(name, value)| (name.clone(), value)).collect()
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        _ => value.clone(),
    }
}

/// Compares a vector with the file of this name in the folder of vectors, after writing it there if `HBC_WRITE_VECTORS` is
/// set.
pub fn check_vector(name: &str, value: &Value) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(format!("{name}.json"));
    let text = vector_text(value);
    if std::env::var_os("HBC_WRITE_VECTORS").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let stored = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        stored == text,
        "vectors/{name}.json is another than the code makes (HBC_WRITE_VECTORS=1 writes it)"
    );
}

/// The certificate of a block, signed by these keys.
#[must_use]
pub fn certify(origin: &str, header: &Header, signers: &[SigningKey], members: &[Named]) -> String {
    note(Checkpoint::of(origin, header, 0), signers, members)
}
