//! The keys and tokens of a fresh deployment, and the files they lie in.

use anyhow::Result;
use ed25519_dalek::SigningKey;
use hbc_types::Random;
use hbc_types::account::ServiceRole;
use hbc_types::secret::{Key32, SecretText};
use zeroize::Zeroizing;

use crate::deployment::Deployment;
use crate::{secret_file, services};

/// Everything secret, before it is written.
pub struct Keys {
    /// Keys of the services that sign, by role.
    pub services: Vec<(ServiceRole, SigningKey)>,
    /// Member keys by node name.
    pub nodes: Vec<(String, SigningKey)>,
    /// The token of Kubo's RPC.
    pub kubo_token: SecretText,
    plain: Vec<(&'static str, Key32)>,
}

impl Keys {
    /// Fresh keys for `nodes` members.
    pub fn generate(nodes: u16, random: &Random) -> Self {
        Self {
            services: services::ALL
                .iter()
                .filter_map(|service| service.signs_as)
                .map(|role| (role, signing_key(random)))
                .collect(),
            nodes: (1..=nodes).map(|number| (format!("node-{number}"), signing_key(random))).collect(),
            kubo_token: SecretText::new(hex::encode(*Zeroizing::new(random.bytes::<32>()))),
            plain: services::ALL
                .iter()
                .flat_map(|service| service.keys)
                .map(|name| (*name, Key32::new(random.bytes())))
                .collect(),
        }
    }

    /// Writes each into its file of mode 0600.
    pub fn write(&self, deployment: &Deployment) -> Result<()> {
        let hex_file = |name: &str, key: &[u8; 32]| {
            let text = Zeroizing::new(format!("{}\n", *Zeroizing::new(hex::encode(key))));
            secret_file::write(&deployment.secret(name), text.as_bytes())
        };
        for (role, key) in &self.services {
            hex_file(&format!("{role}.key"), key.as_bytes())?;
        }
        for (name, key) in &self.nodes {
            hex_file(&format!("{name}.key"), key.as_bytes())?;
        }
        for (name, key) in &self.plain {
            hex_file(name, key.expose())?;
        }
        secret_file::write(&deployment.secret("kubo.token"), self.kubo_token.expose().as_bytes())
    }
}

/// A fresh Ed25519 key.
pub fn signing_key(random: &Random) -> SigningKey {
    SigningKey::from_bytes(&Zeroizing::new(random.bytes::<32>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn every_secret_is_its_owners_alone_and_no_two_are_alike() {
        let folder = tempfile::tempdir().unwrap();
        let deployment = Deployment::at(folder.path()).unwrap();
        secret_file::make_folder(&folder.path().join("secrets")).unwrap();
        Keys::generate(4, &Random::system()).write(&deployment).unwrap();
        let mut texts = std::collections::BTreeSet::new();
        for entry in std::fs::read_dir(folder.path().join("secrets")).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
            assert!(texts.insert(std::fs::read_to_string(entry.path()).unwrap()));
        }
        let plain: usize = services::ALL.iter().map(|service| service.keys.len()).sum();
        let signing = services::ALL.iter().filter(|service| service.signs_as.is_some()).count();
        assert_eq!(texts.len(), signing + 4 + plain + 1);
    }
}
