//! Whose word something is: signatures of single messages and of certificates, checked against the members of the
//! running height; and what was found authentic, compared with what its signer signed before.

use malachite_core::ConsensusMsg;
use malachite_types as mt;
use mt::{CertificateError, CommitCertificate, NilOrVal, Round, SignedMessage, VoteType};

use crate::codec::{Kind, Message};
use crate::context::{Context, Height, PolkaCertificate, RoundCertificate, SignedProposal, SignedVote, Vote};
use crate::host::{Host, PRECOMMIT, PREVOTE, PROPOSAL};
use crate::interface::Output;
use crate::sign_bytes::fits;
use crate::types::{Certificate, MemberId};

/// The library's error is large; it is unboxed only where the library takes it.
type Checked<T> = Result<T, Box<CertificateError<Context>>>;

fn power(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

impl Host {
    fn fits(&self, signer: &MemberId, text: &[u8], signature: &[u8; 64]) -> bool {
        self.members.get(signer).is_some_and(|member| fits(member, text, signature))
    }

    fn vote_fits(&self, vote: &SignedVote) -> bool {
        self.fits(&vote.message.voter, &self.sign_bytes.vote(&vote.message), &vote.signature)
    }

    fn proposal_fits(&self, proposal: &SignedProposal) -> bool {
        self.fits(
            &proposal.message.proposer,
            &self.sign_bytes.proposal(&proposal.message),
            &proposal.signature,
        )
    }

    /// True if members stand behind the message: what may start a height.
    pub(super) fn is_from_members(&self, message: &Message) -> bool {
        match &message.0 {
            Kind::Vote(vote) => self.vote_fits(vote),
            Kind::Proposal(proposal, _) => self.proposal_fits(proposal),
            Kind::Polka(polka) => self.check_polka(polka).is_ok(),
            Kind::Round(round) => self.check_round(round).is_ok(),
        }
    }

    /// Checks a message of the running height and, if it is authentic, remembers it.
    pub(super) fn is_authentic(&mut self, signed: &SignedMessage<Context, ConsensusMsg<Context>>) -> bool {
        match &signed.message {
            ConsensusMsg::Vote(vote) => {
                let vote = SignedVote::new(vote.clone(), signed.signature);
                let fits = self.vote_fits(&vote);
                if fits {
                    self.note_vote(&vote);
                }
                fits
            }
            ConsensusMsg::Proposal(proposal) => {
                self.proposal_is_authentic(&SignedProposal::new(proposal.clone(), signed.signature))
            }
        }
    }

    /// The same of a proposal, whatever its block is.
    pub(super) fn proposal_is_authentic(&mut self, proposal: &SignedProposal) -> bool {
        let fits = self.proposal_fits(proposal);
        if fits {
            let (message, text) = (&proposal.message, self.sign_bytes.proposal(&proposal.message));
            self.note(message.proposer, (PROPOSAL, message.round), text, proposal.signature);
        }
        fits
    }

    fn note_vote(&mut self, vote: &SignedVote) {
        let step = if vote.message.kind == VoteType::Prevote { PREVOTE } else { PRECOMMIT };
        let text = self.sign_bytes.vote(&vote.message);
        self.note(vote.message.voter, (step, vote.message.round), text, vote.signature);
    }

    /// Remembers an authentic text of the running height; what it contradicts is told.
    fn note(&mut self, signer: MemberId, (step, round): (u8, Round), text: Vec<u8>, signature: [u8; 64]) {
        let Some(round) = round.as_u32() else { return };
        let pair = self.contradictions.note((self.height, signer), (step, round), text, signature);
        self.out.extend(pair.map(|pair| Output::Evidence(Box::new(pair))));
    }

    /// Compares the certificate of a block that was decided elsewhere with what was heard here.
    pub(super) fn compare(&mut self, certificate: &Certificate) {
        for (voter, signature) in &certificate.signatures {
            let vote = Vote {
                kind: VoteType::Precommit,
                height: Height(certificate.height),
                round: Round::new(certificate.round),
                value: NilOrVal::Val(certificate.value),
                voter: *voter,
            };
            let vote = SignedVote::new(vote, *signature);
            if certificate.height == self.height && self.vote_fits(&vote) {
                self.note_vote(&vote);
            }
        }
    }

    /// What a certificate was found to hold. One that does not count shows nothing: its signers may be one liar, and
    /// its round any.
    pub(super) fn note_if_counted(&mut self, checked: Checked<Vec<SignedVote>>) -> Checked<()> {
        for vote in &checked? {
            self.note_vote(vote);
        }
        Ok(())
    }

    pub(super) fn check_commit(&self, commit: &CommitCertificate<Context>) -> Checked<Vec<SignedVote>> {
        let votes = commit.commit_signatures.iter().map(|signed| {
            let (kind, value) = (VoteType::Precommit, NilOrVal::Val(commit.value_id));
            let (height, round, voter) = (commit.height, commit.round, signed.address);
            SignedVote::new(Vote { kind, height, round, value, voter }, signed.signature)
        });
        self.check_votes(votes.collect(), self.members.quorum())
    }

    pub(super) fn check_polka(&self, polka: &PolkaCertificate) -> Checked<Vec<SignedVote>> {
        self.check_votes(polka.votes(&Context).collect(), self.members.quorum())
    }

    /// A skip needs one honest voter, of any kind of vote; leaving a round needs a quorum of precommits.
    pub(super) fn check_round(&self, certificate: &RoundCertificate) -> Checked<Vec<SignedVote>> {
        let votes: Vec<SignedVote> = certificate.votes(&Context).collect();
        let needed = match certificate.cert_type {
            mt::RoundCertificateType::Skip => self.members.honest(),
            mt::RoundCertificateType::Precommit => {
                if let Some(vote) = votes.iter().find(|vote| vote.message.kind == VoteType::Prevote) {
                    return Err(Box::new(CertificateError::InvalidVoteType(vote.message.voter)));
                }
                self.members.quorum()
            }
        };
        self.check_votes(votes, needed)
    }

    fn check_votes(&self, votes: Vec<SignedVote>, needed: usize) -> Checked<Vec<SignedVote>> {
        for (index, vote) in votes.iter().enumerate() {
            let voter = vote.message.voter;
            if self.members.get(&voter).is_none() {
                return Err(Box::new(CertificateError::UnknownValidator(voter)));
            }
            if votes.iter().take(index).any(|other| other.message.voter == voter) {
                return Err(Box::new(CertificateError::DuplicateVote(voter)));
            }
            if !self.vote_fits(vote) {
                let broken = mt::CommitSignature::new(voter, vote.signature);
                return Err(Box::new(CertificateError::InvalidCommitSignature(broken)));
            }
        }
        if votes.len() < needed {
            return Err(Box::new(CertificateError::NotEnoughVotingPower {
                signed: power(votes.len()),
                total: power(self.members.len()),
                expected: power(needed),
            }));
        }
        Ok(votes)
    }
}
