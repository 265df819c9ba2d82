//! Everybody by name, where a test tells a story: the same name, the same key.

use ed25519_dalek::SigningKey;

use crate::genesis::{Genesis, Named, ServiceKey};
use hbc_types::account::ServiceRole;
use hbc_types::digest::Digest;
use hbc_types::keys::{Kid, PublicKey};

/// The key of this name.
#[must_use]
pub fn secret(name: &str) -> SigningKey {
    SigningKey::from_bytes(Digest::of(name.as_bytes()).as_bytes())
}

/// Its public half.
#[must_use]
pub fn public(name: &str) -> PublicKey {
    PublicKey::of(&secret(name))
}

/// Its fingerprint.
#[must_use]
pub fn kid(name: &str) -> Kid {
    public(name).kid()
}

/// Names with their keys, as members and operators stand in a founding document.
#[must_use]
pub fn named(names: &[&str]) -> Vec<Named> {
    names.iter().map(|name| Named { key: public(name), name: (*name).to_owned() }).collect()
}

/// A founding document by these members and operators, and by `access-policy`, `auth` and `storage`.
#[must_use]
pub fn genesis(members: &[&str], operators: &[&str]) -> Genesis {
    let services = [ServiceRole::AccessPolicy, ServiceRole::Auth, ServiceRole::Storage];
    let service = |role: ServiceRole| ServiceKey { key: public(role.code()), role };
    Genesis {
        members: named(members),
        operators: named(operators),
        services: services.map(service).to_vec(),
        time_ms: 1_800_000_000_000,
        ..super::genesis(1)
    }
}
