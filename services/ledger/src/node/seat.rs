//! Who this node is at the next height. It holds one member key or, while its key is changed, two; whichever is in the
//! set under its name signs, and never both: one name has one key. Without one in the set the node is an observer.
//!
//! Why: decision 0079.

use ed25519_dalek::SigningKey;
use hbc_chain::certificate::AddressClaims;
use hbc_chain::genesis::Named;
use hbc_types::keys::PublicKey;

use super::Node;
use crate::chain::Chain;
use crate::consensus::MemberId;
use crate::peers::Sender;

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
    pub fn seat(&self, members: &[Named]) -> Option<&SigningKey> {
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
        members.iter().any(|member| member.name == self.name) && self.seat(members).is_none()
    }

    /// A member of another name that has one of these keys: the configuration or the vote is wrong.
    #[must_use]
    pub fn mistaken_for<'a>(&self, members: &'a [Named]) -> Option<&'a Named> {
        let ours = |member: &&Named| self.keys().any(|key| PublicKey::of(key) == member.key);
        members.iter().find(|member| ours(member) && member.name != self.name)
    }
}

impl Node {
    /// Takes the place that a new set gives this node and its peers, and says so where it changed.
    pub(super) fn take_seat(&self, chain: &Chain) {
        let members = chain.state().members();
        let key = self.keyring.seat(members);
        let id = key.map(|key| MemberId::of(key.verifying_key().as_bytes()));
        if self.seat().map(|seat| seat.me) != id {
            self.sit(key);
            tracing::info!(
                node.name = %self.name, block.height = chain.height(), node.member = id.is_some(),
                "This node's place among the members changed"
            );
            if let Some(member) = self.keyring.mistaken_for(members) {
                tracing::error!(member.name = %member.name, "A key of this node was voted in under another name");
            }
        }
        let candidates = chain.register().candidates();
        let wanted = |name: &str| {
            members.iter().any(|member| member.name == name)
                || candidates.iter().any(|candidate| candidate.name == name)
        };
        for peer in self.peers.all().iter() {
            let member = members.iter().find(|member| member.name == peer.name);
            peer.sits(member.map(|member| MemberId(*member.kid().as_bytes())));
        }
        self.peers.change(|peer| peer.configured || wanted(&peer.name), None);
    }

    /// Speaks with this key from now on, or, without one, as an observer.
    pub(super) fn sit(&self, key: Option<&SigningKey>) {
        let seat = key.map(|key| Sender {
            me: MemberId::of(key.verifying_key().as_bytes()),
            key: key.clone(),
            chain: self.chain_id,
            clock: self.clock.clone(),
        });
        self.this.change(seat, self.announcement(key));
    }

    /// What this node says of its address: signed by its key in the set, or, before it is in one, by its newest.
    fn announcement(&self, seat: Option<&SigningKey>) -> Option<String> {
        let url = self.address.clone()?;
        let key = seat.unwrap_or_else(|| self.keyring.newest());
        let claims = AddressClaims {
            chain: self.chain_id,
            iat: self.clock.now().unsigned_ms(),
            node: self.name.clone(),
            url,
        };
        claims.sign(key).inspect_err(|error| tracing::error!(error = %error, "No address is announced")).ok()
    }
}
