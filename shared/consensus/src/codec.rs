//! Bytes of what members send each other and of what the write-ahead log keeps. Big-endian, length-prefixed,
//! no optional trailing parts; a nil round, an unknown tag or a spare byte is refused. Internal format: the
//! signed texts of [`super::sign_bytes`] and the block itself are what outlives a version.

use ed25519_dalek::SigningKey;
use hbc_types::Digest;
use malachite_types::{NilOrVal, PolkaSignature, Round, RoundCertificateType, RoundSignature, VoteType};

use crate::context::{
    Height, PolkaCertificate, Proposal, RoundCertificate, SignedProposal, SignedVote, Value, Vote,
};
use crate::sign_bytes::{SignBytes, sign};
use crate::types::{BlockBytes, BlockId, Member, MemberId};

/// Signatures in one certificate message at most: far more members than a consortium has.
const MAX_SIGNATURES: usize = 256;

/// The bytes are not a message of this format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed consensus message")]
pub struct CodecError;

/// What one member tells another. Opaque outside consensus: encode, decode, height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message(pub(super) Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Vote(SignedVote),
    Proposal(SignedProposal, BlockBytes),
    Polka(PolkaCertificate),
    Round(RoundCertificate),
}

impl Message {
    /// The height that the message is about.
    #[must_use]
    pub fn height(&self) -> u64 {
        match &self.0 {
            Kind::Vote(vote) => vote.message.height.0,
            Kind::Proposal(proposal, _) => proposal.message.height.0,
            Kind::Polka(certificate) => certificate.height.0,
            Kind::Round(certificate) => certificate.height.0,
        }
    }

    /// True for the sender's own vote or proposal: what the store is verified for before it leaves.
    #[must_use]
    pub fn commits_the_sender(&self) -> bool {
        matches!(self.0, Kind::Vote(_) | Kind::Proposal(..))
    }

    /// A proposal as the holder of `key` would make it: for tests and tools that speak for a member.
    #[must_use]
    pub fn proposal(
        sign_bytes: &SignBytes,
        key: &SigningKey,
        (height, round): (u64, u32),
        value: BlockId,
        block: BlockBytes,
    ) -> Self {
        let proposer = Member::new(key.verifying_key().to_bytes()).id;
        let (height, round) = (Height(height), Round::new(round));
        let message = Proposal { height, round, value: Value(value), pol_round: Round::Nil, proposer };
        let signature = sign(key, &sign_bytes.proposal(&message));
        Self(Kind::Proposal(SignedProposal::new(message, signature), block))
    }

    /// A vote as the holder of `key` would cast it, or with a signature from elsewhere: for tests and tools
    /// that speak for a member.
    #[must_use]
    pub fn vote(
        sign_bytes: &SignBytes,
        key: &SigningKey,
        (height, round): (u64, u32),
        precommit: bool,
        value: Option<BlockId>,
    ) -> Self {
        let kind = if precommit { VoteType::Precommit } else { VoteType::Prevote };
        let voter = Member::new(key.verifying_key().to_bytes()).id;
        let value = value.map_or(NilOrVal::Nil, NilOrVal::Val);
        let message = Vote { kind, height: Height(height), round: Round::new(round), value, voter };
        let signature = sign(key, &sign_bytes.vote(&message));
        Self(Kind::Vote(SignedVote::new(message, signature)))
    }

    /// What the sender itself signed here, for whoever compares: (member, step and round, text). The step
    /// is 0 for proposals, 1 for prevotes, 2 for precommits.
    #[must_use]
    pub fn signed_text(&self, sign_bytes: &SignBytes) -> Option<(MemberId, (u8, u32), Vec<u8>)> {
        match &self.0 {
            Kind::Vote(vote) => {
                let step = if vote.message.kind == VoteType::Prevote { 1 } else { 2 };
                let round = vote.message.round.as_u32()?;
                Some((vote.message.voter, (step, round), sign_bytes.vote(&vote.message)))
            }
            Kind::Proposal(proposal, _) => {
                let round = proposal.message.round.as_u32()?;
                Some((proposal.message.proposer, (0, round), sign_bytes.proposal(&proposal.message)))
            }
            Kind::Polka(_) | Kind::Round(_) => None,
        }
    }

    /// Bytes that the message occupies, roughly: for bounding queues.
    #[must_use]
    pub fn weight(&self) -> usize {
        match &self.0 {
            Kind::Vote(_) => 256,
            Kind::Proposal(_, block) => 256 + block.len(),
            Kind::Polka(certificate) => 128 + 96 * certificate.polka_signatures.len(),
            Kind::Round(certificate) => 128 + 176 * certificate.round_signatures.len(),
        }
    }

    /// The message as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match &self.0 {
            Kind::Vote(vote) => {
                out.u8(1);
                out.vote(vote);
            }
            Kind::Proposal(proposal, block) => {
                out.u8(2);
                out.proposal(proposal);
                out.bytes(block);
            }
            Kind::Polka(certificate) => {
                out.u8(3);
                out.polka(certificate);
            }
            Kind::Round(certificate) => {
                out.u8(4);
                out.round_certificate(certificate);
            }
        }
        out.0
    }

    /// Reads exactly one message.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut input = Reader(bytes);
        let kind = match input.u8()? {
            1 => Kind::Vote(input.vote()?),
            2 => Kind::Proposal(input.proposal()?, input.bytes()?.into()),
            3 => Kind::Polka(input.polka()?),
            4 => Kind::Round(input.round_certificate()?),
            _ => return Err(CodecError),
        };
        input.end()?;
        Ok(Self(kind))
    }
}

/// Appends fields.
#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn array<const N: usize>(&mut self, value: &[u8; N]) {
        self.0.extend_from_slice(value);
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(value);
    }

    /// Nil is written as the largest number; only `pol_round` and timeouts may be nil.
    pub(super) fn round(&mut self, round: Round) {
        self.u32(round.as_u32().unwrap_or(u32::MAX));
    }

    pub(super) fn value(&mut self, value: &BlockId) {
        self.array(value.hash.as_bytes());
        self.u64(value.log_size);
        self.array(value.log_root.as_bytes());
    }

    fn nil_or_value(&mut self, value: &NilOrVal<BlockId>) {
        match value {
            NilOrVal::Nil => self.u8(0),
            NilOrVal::Val(value) => {
                self.u8(1);
                self.value(value);
            }
        }
    }

    fn vote_kind(&mut self, kind: VoteType) {
        self.u8(match kind {
            VoteType::Prevote => 1,
            VoteType::Precommit => 2,
        });
    }

    pub(super) fn vote(&mut self, vote: &SignedVote) {
        self.vote_kind(vote.message.kind);
        self.u64(vote.message.height.0);
        self.round(vote.message.round);
        self.nil_or_value(&vote.message.value);
        self.array(&vote.message.voter.0);
        self.array(&vote.signature);
    }

    pub(super) fn proposal(&mut self, proposal: &SignedProposal) {
        self.u64(proposal.message.height.0);
        self.round(proposal.message.round);
        self.value(&proposal.message.value.0);
        self.round(proposal.message.pol_round);
        self.array(&proposal.message.proposer.0);
        self.array(&proposal.signature);
    }

    pub(super) fn polka(&mut self, certificate: &PolkaCertificate) {
        self.u64(certificate.height.0);
        self.round(certificate.round);
        self.value(&certificate.value_id);
        self.u32(u32::try_from(certificate.polka_signatures.len()).unwrap_or(u32::MAX));
        for signature in &certificate.polka_signatures {
            self.array(&signature.address.0);
            self.array(&signature.signature);
        }
    }

    fn round_certificate(&mut self, certificate: &RoundCertificate) {
        self.u64(certificate.height.0);
        self.round(certificate.round);
        self.u8(match certificate.cert_type {
            RoundCertificateType::Skip => 1,
            RoundCertificateType::Precommit => 2,
        });
        self.u32(u32::try_from(certificate.round_signatures.len()).unwrap_or(u32::MAX));
        for signature in &certificate.round_signatures {
            self.vote_kind(signature.vote_type);
            self.nil_or_value(&signature.value_id);
            self.array(&signature.address.0);
            self.array(&signature.signature);
        }
    }
}

/// Reads fields, never past the end.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], CodecError> {
        let (head, tail) = self.0.split_at_checked(length).ok_or(CodecError)?;
        self.0 = tail;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        self.take(N)?.try_into().map_err(|_wrong_length| CodecError)
    }

    pub(super) fn u8(&mut self) -> Result<u8, CodecError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, CodecError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, CodecError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], CodecError> {
        let length = usize::try_from(self.u32()?).map_err(|_too_long| CodecError)?;
        self.take(length)
    }

    pub(super) fn end(&self) -> Result<(), CodecError> {
        if self.0.is_empty() { Ok(()) } else { Err(CodecError) }
    }

    /// A round that must not be nil.
    pub(super) fn round(&mut self) -> Result<Round, CodecError> {
        match self.u32()? {
            u32::MAX => Err(CodecError),
            round => Ok(Round::new(round)),
        }
    }

    /// A round that may be nil: the `pol_round` of a proposal.
    pub(super) fn round_or_nil(&mut self) -> Result<Round, CodecError> {
        match self.u32()? {
            u32::MAX => Ok(Round::Nil),
            round => Ok(Round::new(round)),
        }
    }

    pub(super) fn member(&mut self) -> Result<MemberId, CodecError> {
        Ok(MemberId(self.array()?))
    }

    pub(super) fn value(&mut self) -> Result<BlockId, CodecError> {
        Ok(BlockId {
            hash: Digest::from_bytes(self.array()?),
            log_size: self.u64()?,
            log_root: Digest::from_bytes(self.array()?),
        })
    }

    fn nil_or_value(&mut self) -> Result<NilOrVal<BlockId>, CodecError> {
        match self.u8()? {
            0 => Ok(NilOrVal::Nil),
            1 => Ok(NilOrVal::Val(self.value()?)),
            _ => Err(CodecError),
        }
    }

    fn vote_kind(&mut self) -> Result<VoteType, CodecError> {
        match self.u8()? {
            1 => Ok(VoteType::Prevote),
            2 => Ok(VoteType::Precommit),
            _ => Err(CodecError),
        }
    }

    pub(super) fn vote(&mut self) -> Result<SignedVote, CodecError> {
        let kind = self.vote_kind()?;
        let height = Height(self.u64()?);
        let round = self.round()?;
        let value = self.nil_or_value()?;
        let voter = self.member()?;
        Ok(SignedVote::new(Vote { kind, height, round, value, voter }, self.array()?))
    }

    pub(super) fn proposal(&mut self) -> Result<SignedProposal, CodecError> {
        let height = Height(self.u64()?);
        let round = self.round()?;
        let value = Value(self.value()?);
        let pol_round = self.round_or_nil()?;
        let proposer = self.member()?;
        Ok(SignedProposal::new(Proposal { height, round, value, pol_round, proposer }, self.array()?))
    }

    fn count(&mut self) -> Result<usize, CodecError> {
        usize::try_from(self.u32()?).ok().filter(|count| *count <= MAX_SIGNATURES).ok_or(CodecError)
    }

    pub(super) fn polka(&mut self) -> Result<PolkaCertificate, CodecError> {
        let height = Height(self.u64()?);
        let round = self.round()?;
        let value_id = self.value()?;
        let count = self.count()?;
        let polka_signatures = (0..count)
            .map(|_| Ok(PolkaSignature::new(self.member()?, self.array()?)))
            .collect::<Result<_, CodecError>>()?;
        Ok(PolkaCertificate { height, round, value_id, polka_signatures })
    }

    fn round_certificate(&mut self) -> Result<RoundCertificate, CodecError> {
        let height = Height(self.u64()?);
        let round = self.round()?;
        let cert_type = match self.u8()? {
            1 => RoundCertificateType::Skip,
            2 => RoundCertificateType::Precommit,
            _ => return Err(CodecError),
        };
        let count = self.count()?;
        let round_signatures = (0..count)
            .map(|_| {
                let kind = self.vote_kind()?;
                let value = self.nil_or_value()?;
                Ok(RoundSignature::new(kind, value, self.member()?, self.array()?))
            })
            .collect::<Result<_, CodecError>>()?;
        Ok(RoundCertificate { height, round, cert_type, round_signatures })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(n: u8) -> BlockId {
        BlockId { hash: Digest::of(&[n]), log_size: u64::from(n), log_root: Digest::of(&[n, n]) }
    }

    fn samples() -> Vec<Message> {
        let sign_bytes = SignBytes { chain: Digest::of(b"chain"), origin: "test/hbc/0".to_owned() };
        let key = SigningKey::from_bytes(&[3; 32]);
        let block = BlockBytes::from(b"a block".as_slice());
        let signature = [8; 64];
        let voter = MemberId([4; 32]);
        let polka = PolkaCertificate {
            height: Height(5),
            round: Round::new(1),
            value_id: value(2),
            polka_signatures: vec![PolkaSignature::new(voter, signature)],
        };
        let skip = RoundCertificate {
            height: Height(5),
            round: Round::new(2),
            cert_type: RoundCertificateType::Skip,
            round_signatures: vec![
                RoundSignature::new(VoteType::Prevote, NilOrVal::Nil, voter, signature),
                RoundSignature::new(VoteType::Precommit, NilOrVal::Val(value(1)), voter, signature),
            ],
        };
        vec![
            Message::vote(&sign_bytes, &key, (5, 0), false, None),
            Message::vote(&sign_bytes, &key, (5, 7), true, Some(value(1))),
            Message::proposal(&sign_bytes, &key, (5, 1), value(9), block),
            Message(Kind::Polka(polka)),
            Message(Kind::Round(skip)),
        ]
    }

    #[test]
    fn messages_read_back_and_cut_or_longer_ones_do_not() {
        for message in samples() {
            let bytes = message.encode();
            assert_eq!(Message::decode(&bytes), Ok(message.clone()));
            assert_eq!(message.height(), 5);
            for cut in 0..bytes.len() {
                assert_eq!(Message::decode(&bytes[..cut]), Err(CodecError), "{message:?} cut at {cut}");
            }
            let mut longer = bytes;
            longer.push(0);
            assert_eq!(Message::decode(&longer), Err(CodecError));
        }
    }

    #[test]
    fn a_vote_in_no_round_is_refused() {
        let mut bytes = samples()[0].encode();
        bytes[10..14].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(Message::decode(&bytes), Err(CodecError));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(message) = Message::decode(&bytes) {
                prop_assert_eq!(message.encode(), bytes);
            }
        }

        #[test]
        fn a_flipped_bit_never_reads_as_the_same(which in 0_usize..5, place in any::<prop::sample::Index>()) {
            let message = samples().remove(which);
            let mut bytes = message.encode();
            let bit = place.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_ne!(Message::decode(&bytes), Ok(message));
        }
    }
}
