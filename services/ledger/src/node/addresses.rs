//! Where the others are: as configured, and as they announced it themselves. An announcement counts when it is signed by
//! the present key of the member that it names, or by one that is being voted in under that name; the latest of a name
//! wins, over the configuration too. What was taken is kept in a small file.
//!
//! Why: decision 0080.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use hbc_chain::certificate::{AddressClaims, CertificateError};
use hbc_chain::genesis::Named;
use hbc_client::Endpoint;
use hbc_types::Digest;
use hbc_types::keys::Kid;
use tokio::sync::mpsc;

use super::Node;
use super::agreement::Event;
use crate::consensus::MemberId;
use crate::domain::rules::MAX_AHEAD_MS;
use crate::peers::{self, Introduction, PeerNews};

/// Bytes of an address at most.
const MAX_URL_BYTES: usize = 200;
/// Announcements taken from one answer at most.
const MAX_ANNOUNCEMENTS: usize = 200;

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

impl Node {
    /// Everybody whose announcements count: the members, and who is being voted in.
    fn parties(&self) -> Vec<Named> {
        let chain = self.chain();
        let mut parties = chain.register().candidates();
        parties.extend(chain.state().members().iter().cloned());
        parties
    }

    /// Takes one announcement; the loop meets the node if it is new or moved.
    pub fn take_address(&self, text: &str) -> Result<(), AddressError> {
        let parties = self.parties();
        let mut book = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let news = book.take(text, &self.chain_id, &parties, self.clock.now().unsigned_ms())?;
        let Some(name) = news else { return Ok(()) };
        book.keep(&parties);
        if let Err(error) = self.data.write_addresses(&book.texts()) {
            tracing::warn!(error = %error, "Addresses cannot be stored; they will be announced again");
        }
        drop(book);
        if self.events.try_send(Event::Address(name)).is_err() {
            tracing::debug!("Too much waits; the address is taken up with the next announcement");
        }
        Ok(())
    }

    /// Takes what a peer knows of others.
    pub(super) fn take_addresses(&self, texts: &[String]) {
        for text in texts.iter().take(MAX_ANNOUNCEMENTS) {
            if let Err(error) = self.take_address(text) {
                tracing::debug!(error = %error, "An announcement is not taken");
            }
        }
    }

    /// The announcements that this node knows.
    #[must_use]
    pub fn announcements(&self) -> Vec<String> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).texts()
    }

    /// Where a node is, as far as this one knows: itself, as announced, or as configured.
    #[must_use]
    pub fn url_of(&self, name: &str) -> Option<String> {
        if name == self.name {
            return self.address.clone();
        }
        let book = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let announced = book.url(name).map(str::to_owned);
        drop(book);
        announced.or_else(|| self.peers.named(name).map(|peer| peer.url.clone()))
    }

    /// Begins to speak to a node at the address that it announced.
    pub(super) fn meet_announced(&self, name: &str) {
        let book = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(url) = book.url(name).map(str::to_owned) else { return };
        drop(book);
        let configured = self.peers.named(name).is_some_and(|peer| peer.configured);
        self.meet(name, url, configured);
    }

    /// Begins to speak to every node whose address is known from before.
    pub(super) fn meet_all_announced(&self) {
        let names: Vec<String> = {
            let book = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
            book.entries.keys().cloned().collect()
        };
        names.iter().for_each(|name| self.meet_announced(name));
    }

    /// Begins to speak to a node, in place of one of the same name.
    pub(super) fn meet(&self, name: &str, url: String, configured: bool) {
        if name == self.name || self.peers.named(name).is_some_and(|peer| peer.url == url) {
            return;
        }
        let Some(endpoint) = endpoint(&url) else { return };
        let introduction = Introduction { name: name.to_owned(), url, endpoint, configured };
        let news: mpsc::Sender<PeerNews> = self.news.clone();
        let (peer, task) = peers::connect(introduction, self.this.clone(), self.clock.clone(), news);
        {
            let chain = self.chain();
            let member = chain.state().members().iter().find(|member| member.name == name);
            peer.sits(member.map(|member| MemberId(*member.kid().as_bytes())));
            self.peers.change(|other| other.name != name, Some(Arc::clone(&peer)));
        }
        tokio::spawn(task);
    }
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
