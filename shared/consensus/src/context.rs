//! The consensus library's view of our types: heights, votes, proposals, the member set. Internal.

use std::fmt;

use malachite_types as mt;
use mt::{NilOrVal, Round, SignedExtension, VoteType};

use crate::types::{BlockId, Member, MemberId, MemberSet};

/// The library's type parameter; it carries nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context;

/// A block height.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Height(pub u64);

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl mt::Height for Height {
    const ZERO: Self = Self(0);
    const INITIAL: Self = Self(1);
    fn increment_by(&self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }
    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Self)
    }
    fn as_u64(&self) -> u64 {
        self.0
    }
}

impl mt::Address for MemberId {}

/// What a proposal proposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value(pub BlockId);

impl mt::Value for Value {
    type Id = BlockId;
    fn id(&self) -> BlockId {
        self.0
    }
}

/// Blocks travel beside the proposal, never as parts of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoPart;

impl mt::ProposalPart<Context> for NoPart {
    fn is_first(&self) -> bool {
        true
    }
    fn is_last(&self) -> bool {
        true
    }
}

impl mt::Validator<Context> for Member {
    fn address(&self) -> &MemberId {
        &self.id
    }
    fn public_key(&self) -> &[u8; 32] {
        &self.public_key
    }
    fn voting_power(&self) -> mt::VotingPower {
        1
    }
}

impl mt::ValidatorSet<Context> for MemberSet {
    fn count(&self) -> usize {
        self.len()
    }
    fn total_voting_power(&self) -> mt::VotingPower {
        u64::try_from(self.len()).unwrap_or(u64::MAX)
    }
    fn get_by_address(&self, address: &MemberId) -> Option<&Member> {
        self.get(address)
    }
    fn get_by_index(&self, index: usize) -> Option<&Member> {
        self.at(index)
    }
}

/// A prevote or a precommit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Prevote or precommit.
    pub kind: VoteType,
    /// The height voted on.
    pub height: Height,
    /// The round voted in; never nil.
    pub round: Round,
    /// The value, or nil.
    pub value: NilOrVal<BlockId>,
    /// Who votes.
    pub voter: MemberId,
}

impl mt::Vote<Context> for Vote {
    fn height(&self) -> Height {
        self.height
    }
    fn round(&self) -> Round {
        self.round
    }
    fn value(&self) -> &NilOrVal<BlockId> {
        &self.value
    }
    fn take_value(self) -> NilOrVal<BlockId> {
        self.value
    }
    fn vote_type(&self) -> VoteType {
        self.kind
    }
    fn validator_address(&self) -> &MemberId {
        &self.voter
    }
    fn extension(&self) -> Option<&SignedExtension<Context>> {
        None
    }
    fn take_extension(&mut self) -> Option<SignedExtension<Context>> {
        None
    }
    fn extend(self, _extension: SignedExtension<Context>) -> Self {
        self
    }
}

/// A proposer's word that `value` is what it offers in this round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The height.
    pub height: Height,
    /// The round; never nil.
    pub round: Round,
    /// What is offered.
    pub value: Value,
    /// The earlier round in which the value had two thirds of the prevotes, if it is offered again.
    pub pol_round: Round,
    /// Who proposes.
    pub proposer: MemberId,
}

impl mt::Proposal<Context> for Proposal {
    fn height(&self) -> Height {
        self.height
    }
    fn round(&self) -> Round {
        self.round
    }
    fn value(&self) -> &Value {
        &self.value
    }
    fn take_value(self) -> Value {
        self.value
    }
    fn pol_round(&self) -> Round {
        self.pol_round
    }
    fn validator_address(&self) -> &MemberId {
        &self.proposer
    }
}

/// Ed25519 over texts of our own; the library only carries the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ed25519;

impl mt::SigningScheme for Ed25519 {
    type DecodingError = &'static str;
    type Signature = [u8; 64];
    type PublicKey = [u8; 32];
    type PrivateKey = ();
    fn decode_signature(bytes: &[u8]) -> Result<[u8; 64], &'static str> {
        bytes.try_into().map_err(|_not_64_bytes| "a signature has 64 bytes")
    }
    fn encode_signature(signature: &[u8; 64]) -> Vec<u8> {
        signature.to_vec()
    }
    fn decode_public_key(bytes: &[u8]) -> Result<[u8; 32], &'static str> {
        bytes.try_into().map_err(|_not_32_bytes| "a public key has 32 bytes")
    }
    fn encode_public_key(public_key: &[u8; 32]) -> Vec<u8> {
        public_key.to_vec()
    }
}

impl mt::Context for Context {
    type Address = MemberId;
    type Height = Height;
    type ProposalPart = NoPart;
    type Proposal = Proposal;
    type Validator = Member;
    type ValidatorSet = MemberSet;
    type Timeouts = mt::LinearTimeouts;
    type Value = Value;
    type Vote = Vote;
    type Extension = ();
    type SigningScheme = Ed25519;

    #[expect(clippy::expect_used, reason = "a height is started only with at least one member")]
    fn select_proposer<'a>(&self, members: &'a MemberSet, height: Height, round: Round) -> &'a Member {
        members.proposer(height.0, round.as_u32().unwrap_or(0)).expect("the member set is not empty")
    }

    fn new_proposal(
        &self,
        height: Height,
        round: Round,
        value: Value,
        pol_round: Round,
        proposer: MemberId,
    ) -> Proposal {
        Proposal { height, round, value, pol_round, proposer }
    }

    fn new_prevote(&self, height: Height, round: Round, value: NilOrVal<BlockId>, voter: MemberId) -> Vote {
        Vote { kind: VoteType::Prevote, height, round, value, voter }
    }

    fn new_precommit(&self, height: Height, round: Round, value: NilOrVal<BlockId>, voter: MemberId) -> Vote {
        Vote { kind: VoteType::Precommit, height, round, value, voter }
    }
}

/// A signed vote.
pub type SignedVote = mt::SignedVote<Context>;
/// A signed proposal.
pub type SignedProposal = mt::SignedProposal<Context>;
/// Two thirds of the prevotes of a round.
pub type PolkaCertificate = mt::PolkaCertificate<Context>;
/// Votes that justify entering a round.
pub type RoundCertificate = mt::RoundCertificate<Context>;
