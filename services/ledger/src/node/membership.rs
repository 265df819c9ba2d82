//! Who this node is at the next height. It holds one member key or, while its key is changed, two; whichever is in the
//! set under its name signs, and never both: one name has one key. Without one in the set the node is an observer.
//!
//! Why: decision 0079.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use hbc_chain::certificate::AddressClaims;
use hbc_chain::genesis::Named;
use hbc_chain::memory::Chain;
use hbc_consensus::sign_bytes::SignBytes;
use hbc_consensus::{Identity, MemberId};
use hbc_types::keys::PublicKey;
use hbc_types::{Clock, Digest};

use super::timing::timing;
use crate::peers::{Sender, This};

/// A node's name and keys.
pub struct Keyring {
    name: String,
    key: SigningKey,
    next: Option<SigningKey>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Keyring {
    /// The keys of the member `name`.
    #[must_use]
    pub const fn new(name: String, key: SigningKey, next: Option<SigningKey>) -> Self {
        Self { name, key, next }
    }

    fn keys(&self) -> impl Iterator<Item = &SigningKey> {
        std::iter::once(&self.key).chain(&self.next)
    }

    /// The key that is this member's in a set.
    #[must_use]
    pub fn membership(&self, members: &[Named]) -> Option<&SigningKey> {
        let member = members.iter().find(|member| member.name == self.name)?;
        self.keys().find(|key| PublicKey::of(key) == member.key)
    }

    /// The key that was made last.
    #[must_use]
    pub fn newest(&self) -> &SigningKey {
        self.next.as_ref().unwrap_or(&self.key)
    }

    /// Whether this node has the key with this fingerprint.
    #[must_use]
    pub fn holds(&self, id: &MemberId) -> bool {
        self.ids().any(|own| own == *id)
    }

    /// The fingerprints of its keys.
    pub fn ids(&self) -> impl Iterator<Item = MemberId> {
        self.keys().map(|key| MemberId::of(key.verifying_key().as_bytes()))
    }

    /// True if the member of this name has a key by now that this node does not hold.
    #[must_use]
    pub fn is_superseded(&self, members: &[Named]) -> bool {
        members.iter().any(|member| member.name == self.name) && self.membership(members).is_none()
    }

    /// A member of another name that has one of these keys: the configuration or the vote is wrong.
    #[must_use]
    pub fn mistaken_for<'a>(&self, members: &'a [Named]) -> Option<&'a Named> {
        let ours = |member: &&Named| self.keys().any(|key| PublicKey::of(key) == member.key);
        members.iter().find(|member| ours(member) && member.name != self.name)
    }
}

/// Who this node is among the members, and what it says of itself.
pub struct Membership {
    keyring: Keyring,
    address: Option<String>,
    sign_bytes: SignBytes,
    clock: Clock,
    this: This,
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership").field("keyring", &self.keyring).finish_non_exhaustive()
    }
}

impl Membership {
    /// In the set after the tip of `chain`. `address` is the node's own, as it announces it.
    #[must_use]
    pub fn new(keyring: Keyring, address: Option<String>, chain: &Chain, clock: Clock) -> Self {
        let sign_bytes = SignBytes { chain: chain.id(), origin: chain.origin().to_owned() };
        let membership = Self { keyring, address, sign_bytes, clock, this: This::default() };
        membership.set_membership(membership.keyring.membership(chain.state().members()));
        membership
    }

    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.keyring.name
    }

    /// Its keys.
    #[must_use]
    pub const fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Its own address, as it announces it.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// What signed texts name.
    #[must_use]
    pub const fn sign_bytes(&self) -> &SignBytes {
        &self.sign_bytes
    }

    /// What the peers' tasks follow: who it is in the present set, and what it announces.
    #[must_use]
    pub fn this(&self) -> This {
        self.this.clone()
    }

    /// Who it is in the present set; none for an observer.
    #[must_use]
    pub fn membership(&self) -> Option<Arc<Sender>> {
        self.this.membership()
    }

    /// Fingerprint of its key in the present set; none for an observer.
    #[must_use]
    pub fn kid(&self) -> Option<Digest> {
        self.membership().map(|membership| Digest::from_bytes(membership.me.0))
    }

    /// Who it is in consensus on the block after the tip of `chain`.
    #[must_use]
    pub fn identity(&self, chain: &Chain) -> Identity {
        // A key that is not in the set signs nothing.
        let membership = self.keyring.membership(chain.state().members());
        let key = membership.unwrap_or_else(|| self.keyring.newest()).clone();
        Identity { key, sign_bytes: self.sign_bytes.clone(), timing: timing(chain) }
    }

    /// Takes the place that a new set gives this node, and says so where it changed.
    pub(super) fn update_membership(&self, chain: &Chain) {
        let members = chain.state().members();
        let key = self.keyring.membership(members);
        let id = key.map(|key| MemberId::of(key.verifying_key().as_bytes()));
        if self.membership().map(|membership| membership.me) == id {
            return;
        }
        self.set_membership(key);
        tracing::info!(
            node.name = %self.name(), block.height = chain.height(), node.member = id.is_some(),
            "This node's place among the members changed"
        );
        if let Some(member) = self.keyring.mistaken_for(members) {
            tracing::error!(member.name = %member.name, "A key of this node was voted in under another name");
        }
    }

    /// Speaks with this key from now on, or, without one, as an observer.
    fn set_membership(&self, key: Option<&SigningKey>) {
        let membership = key.map(|key| Sender {
            me: MemberId::of(key.verifying_key().as_bytes()),
            key: key.clone(),
            chain: self.sign_bytes.chain,
            clock: self.clock.clone(),
        });
        self.this.change(membership, self.announcement(key));
    }

    /// What this node says of its address: signed by its key in the set, or, before it is in one, by its newest.
    fn announcement(&self, membership: Option<&SigningKey>) -> Option<String> {
        let url = self.address.clone()?;
        let key = membership.unwrap_or_else(|| self.keyring.newest());
        let claims = AddressClaims {
            chain: self.sign_bytes.chain,
            iat: self.clock.now().unsigned_ms(),
            node: self.name().to_owned(),
            url,
        };
        claims.sign(key).inspect_err(|error| tracing::error!(error = %error, "No address is announced")).ok()
    }
}
