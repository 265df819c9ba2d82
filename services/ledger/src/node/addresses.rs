//! What nodes announce of their addresses. An announcement counts when it is signed by the present key of the member that
//! it names, or by one that is being voted in under that name; the latest of a name wins.
//!
//! Why: decision 0080.

use std::collections::BTreeMap;

use hbc_chain::certificate::{AddressClaims, CertificateError};
use hbc_chain::genesis::Named;
use hbc_client::Endpoint;
use hbc_types::Digest;
use hbc_types::keys::Kid;

use hbc_chain::rules::MAX_AHEAD_MS;

/// Bytes of an address at most.
const MAX_URL_BYTES: usize = 200;

/// Why an announcement is not taken.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// Not one, or not signed by who it says.
    #[error("{0}")]
    Signature(#[from] CertificateError),
    /// By nobody who is a member or becomes one.
    #[error("its signer is no member and nobody votes for it")]
    Stranger,
    /// It is dated more than 30 s ahead.
    #[error("it is dated more than 30 s ahead")]
    Ahead,
    /// The address is not one.
    #[error("the address must be http://host:port or https://host:port and nothing more")]
    Address,
}

/// The latest announcements, by name.
#[derive(Debug, Default)]
pub struct AddressBook {
    entries: BTreeMap<String, (AddressClaims, String)>,
}

impl AddressBook {
    /// Takes an announcement of one of `parties`. Answers the name if this is news.
    pub fn take(
        &mut self,
        text: &str,
        chain: &Digest,
        parties: &[Named],
        now_ms: u64,
    ) -> Result<Option<String>, AddressError> {
        let signer: Kid = AddressClaims::signer(text)?;
        let party = parties.iter().find(|party| party.kid() == signer).ok_or(AddressError::Stranger)?;
        let claims = AddressClaims::verify(text, party, chain)?;
        if claims.iat > now_ms.saturating_add(MAX_AHEAD_MS) {
            return Err(AddressError::Ahead);
        }
        if endpoint(&claims.url).is_none() {
            return Err(AddressError::Address);
        }
        let known = self.entries.get(&claims.node);
        if known.is_some_and(|(known, _)| known.iat >= claims.iat) {
            return Ok(None);
        }
        let moved = known.is_none_or(|(known, _)| known.url != claims.url);
        let name = claims.node.clone();
        self.entries.insert(name.clone(), (claims, text.to_owned()));
        Ok(moved.then_some(name))
    }

    /// Forgets whoever is none of `parties`.
    pub fn keep(&mut self, parties: &[Named]) {
        self.entries.retain(|name, _| parties.iter().any(|party| party.name == *name));
    }

    /// What a name announced.
    #[must_use]
    pub fn url(&self, name: &str) -> Option<&str> {
        self.entries.get(name).map(|(claims, _)| claims.url.as_str())
    }

    /// Who announced an address.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    /// The announcements as they were signed.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        self.entries.values().map(|(_, text)| text.clone()).collect()
    }
}

/// The endpoint of an address that somebody else chose: http or https, a host, perhaps a port, nothing more.
#[must_use]
pub fn endpoint(url: &str) -> Option<Endpoint> {
    if url.len() > MAX_URL_BYTES {
        return None;
    }
    let endpoint = Endpoint::new(url).ok()?;
    let base = endpoint.base();
    let bare = base.username().is_empty() && base.password().is_none() && base.fragment().is_none();
    (bare && base.has_host()).then_some(endpoint)
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use hbc_types::keys::PublicKey;

    use super::*;

    const NOW: u64 = 1_000_000;

    fn key(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    fn announce(n: u8, name: &str, url: &str, iat: u64) -> String {
        let claims = AddressClaims { chain: Digest::ZERO, iat, node: name.into(), url: url.into() };
        claims.sign(&key(n)).unwrap()
    }

    fn parties() -> Vec<Named> {
        [1, 2].map(|n| Named { key: PublicKey::of(&key(n)), name: format!("node-{n}") }).to_vec()
    }

    #[test]
    fn the_latest_announcement_of_a_party_counts_and_nobody_elses() {
        let mut book = AddressBook::default();
        let mut take = |text: &str| book.take(text, &Digest::ZERO, &parties(), NOW);
        let first = announce(1, "node-1", "http://one:1", 5);
        assert_eq!(take(&first).unwrap().as_deref(), Some("node-1"));
        assert_eq!(take(&first).unwrap(), None, "known");
        assert_eq!(take(&announce(1, "node-1", "http://old:1", 4)).unwrap(), None, "an older one, replayed");
        assert_eq!(
            take(&announce(1, "node-1", "http://one:1", 6)).unwrap(),
            None,
            "newer, but it did not move"
        );
        assert!(take(&announce(1, "node-1", "http://new:1", 7)).unwrap().is_some());
        assert!(matches!(take(&announce(3, "node-1", "http://x:1", 9)), Err(AddressError::Stranger)));
        let for_another = announce(2, "node-1", "http://x:1", 9);
        assert!(matches!(take(&for_another), Err(AddressError::Signature(_))));
        let ahead = announce(2, "node-2", "http://x:1", NOW + MAX_AHEAD_MS + 1);
        assert!(matches!(take(&ahead), Err(AddressError::Ahead)));
        assert!(take("a.b.c").is_err());
        assert_eq!(book.url("node-1"), Some("http://new:1"));
        book.keep(&parties()[1..]);
        assert!(book.texts().is_empty());
    }

    #[test]
    fn an_address_is_a_host_and_nothing_more() {
        for good in ["http://127.0.0.1:7103", "https://ledger.example", "http://[::1]:9"] {
            assert!(endpoint(good).is_some(), "{good}");
        }
        let long = format!("http://{}.example", "a".repeat(MAX_URL_BYTES));
        for bad in [
            "ftp://host",
            "http://user:word@host",
            "http://user@host",
            "http://host/path",
            "http://host?q=1",
            "http://host#part",
            "file:///etc",
            "host:7103",
            "",
            &long,
        ] {
            assert!(endpoint(bad).is_none(), "{bad}");
        }
        let mut book = AddressBook::default();
        let with_path = announce(1, "node-1", "http://host/path", 5);
        let refused = book.take(&with_path, &Digest::ZERO, &parties(), NOW);
        assert!(matches!(refused, Err(AddressError::Address)));
    }
}
