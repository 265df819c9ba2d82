//! What consensus speaks about, in our own words: members, the value agreed upon, certificates. No type
//! of the consensus library appears here, so that the rest of the service does not know which one is used.

use std::fmt;
use std::sync::Arc;

pub use hbc_chain::checkpoint::BlockId;
use hbc_chain::genesis::Named;
use hbc_types::Digest;

/// A member of the consensus: SHA-256 of its Ed25519 public key (its `kid`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub [u8; 32]);

impl MemberId {
    /// The id of a public key.
    #[must_use]
    pub fn of(public_key: &[u8; 32]) -> Self {
        Self(*Digest::of(public_key).as_bytes())
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.iter().take(4) {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// One member: its public key and the id derived from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// SHA-256 of the key.
    pub id: MemberId,
    /// Raw Ed25519 public key.
    pub public_key: [u8; 32],
}

impl Member {
    /// The member that holds `public_key`.
    #[must_use]
    pub fn new(public_key: [u8; 32]) -> Self {
        Self { id: MemberId::of(&public_key), public_key }
    }
}

/// The members of one height, sorted by id, without doubles. Each has one vote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberSet(Arc<[Member]>);

impl MemberSet {
    /// Sorts and removes doubles.
    #[must_use]
    pub fn new(mut members: Vec<Member>) -> Self {
        members.sort_by_key(|member| member.id);
        members.dedup_by_key(|member| member.id);
        Self(members.into())
    }

    /// The members that a state names.
    #[must_use]
    pub fn of(named: &[Named]) -> Self {
        Self::new(named.iter().map(|named| Member::new(*named.key.as_bytes())).collect())
    }

    /// The member with this id.
    #[must_use]
    pub fn get(&self, id: &MemberId) -> Option<&Member> {
        let position = self.0.binary_search_by_key(id, |member| member.id).ok()?;
        self.0.get(position)
    }

    /// The member at `index` of the sorted list.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<&Member> {
        self.0.get(index)
    }

    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without members: nothing can be agreed upon.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The members in order.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.0.iter()
    }

    /// Votes that are more than two thirds.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.0.len() * 2 / 3 + 1
    }

    /// Votes of which at least one is honest: more than one third.
    #[must_use]
    pub fn honest(&self) -> usize {
        self.0.len() / 3 + 1
    }

    /// Who proposes in `round` of `height`: the members take turns.
    #[must_use]
    pub fn proposer(&self, height: u64, round: u32) -> Option<&Member> {
        let count = u64::try_from(self.0.len()).ok().filter(|count| *count > 0)?;
        let turn = height.wrapping_add(u64::from(round)) % count;
        self.0.get(usize::try_from(turn).ok()?)
    }
}

/// The encoded bytes of a block, shared between the messages that carry it.
pub type BlockBytes = Arc<[u8]>;

/// Proof that a height is decided: more than two thirds of the members signed the block's checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// The height.
    pub height: u64,
    /// The round in which it was decided; part of the signed text.
    pub round: u32,
    /// What was decided.
    pub value: BlockId,
    /// Signatures in member order.
    pub signatures: Vec<(MemberId, [u8; 64])>,
}

/// A member signed two different things for one height, round and step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Equivocation {
    /// Who did.
    pub member: MemberId,
    /// At which height.
    pub height: u64,
    /// The two signed texts with their signatures.
    pub first: (Vec<u8>, [u8; 64]),
    /// The second of them.
    pub second: (Vec<u8>, [u8; 64]),
}

/// What the node found about a proposed block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Work, rules and roots hold, and the bytes are those of the value.
    Valid,
    /// The same, but its time is too far ahead of this node's clock. That is nothing about the block: another clock
    /// finds it good already.
    Early {
        /// How long until this node's clock gets there.
        wait_ms: u64,
    },
    /// The bytes are those of the value, and break a rule: nobody honest votes for it.
    Invalid,
    /// The bytes are not those of the value: damaged under way, not the proposer's word.
    Damaged,
}
