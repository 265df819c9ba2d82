//! The texts that members sign, and their signatures. Every text begins with its own domain line, so that no
//! signature means two things; the precommit for a block *is* the C2SP checkpoint body of that block, whose
//! domain is its origin line. Only this file signs for consensus.

use std::fmt::Write as _;

use ed25519_dalek::{Signer as _, SigningKey};
use hbc_chain::checkpoint::Checkpoint;
use hbc_types::Digest;
use hbc_types::keys::{PublicKey, SignatureBytes};
use malachite_types::{NilOrVal, Round, VoteType};

use crate::context::{Proposal, Vote};
use crate::types::{BlockId, Certificate, Equivocation, Member, MemberSet};

/// What every signed text names: the chain, and the log's origin.
#[derive(Clone, Debug)]
pub struct SignBytes {
    /// SHA-256 of block 0's header.
    pub chain: Digest,
    /// `<consortium>/hbc/<chain id[..16]>`: the first line of every checkpoint.
    pub origin: String,
}

/// Why a certificate is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// A signer is not a member at this height.
    #[error("signed by `{0}`, who is no member at this height")]
    Stranger(String),
    /// A member signs twice.
    #[error("signed twice by `{0}`")]
    Twice(String),
    /// A signature does not fit the text.
    #[error("the signature of `{0}` does not fit")]
    BadSignature(String),
    /// Not more than two thirds.
    #[error("{signed} of {members} members signed, {needed} are needed")]
    TooFew {
        /// Valid signatures.
        signed: usize,
        /// Members at this height.
        members: usize,
        /// Votes that are more than two thirds.
        needed: usize,
    },
}

impl SignBytes {
    /// The checkpoint body of a block: what a precommit for it signs.
    #[must_use]
    pub fn checkpoint(&self, height: u64, round: u32, value: &BlockId) -> Vec<u8> {
        self.statement(height, round, value).body().into_bytes()
    }

    /// The checkpoint of a block.
    #[must_use]
    pub fn statement(&self, height: u64, round: u32, value: &BlockId) -> Checkpoint {
        Checkpoint {
            origin: self.origin.clone(),
            log_size: value.log_size,
            log_root: value.log_root,
            height,
            round,
            block: value.hash,
        }
    }

    /// The text of a vote. Nil precommits and all prevotes have domains of their own.
    #[must_use]
    pub fn vote(&self, vote: &Vote) -> Vec<u8> {
        let (height, round) = (vote.height.0, number(vote.round));
        let domain = match (vote.kind, &vote.value) {
            (VoteType::Precommit, NilOrVal::Val(value)) => return self.checkpoint(height, round, value),
            (VoteType::Precommit, NilOrVal::Nil) => "hbc/precommit-nil/v1",
            (VoteType::Prevote, _) => "hbc/prevote/v1",
        };
        let mut text = format!("{domain}\n{}\n{height}\n{round}\n", self.chain);
        match &vote.value {
            NilOrVal::Nil => text.push_str("nil\n"),
            NilOrVal::Val(value) => {
                let _infallible = writeln!(text, "{value}");
            }
        }
        text.into_bytes()
    }

    /// The text of a proposal; `-` stands for no earlier round.
    #[must_use]
    pub fn proposal(&self, proposal: &Proposal) -> Vec<u8> {
        let pol = proposal.pol_round.as_u32().map_or_else(|| "-".to_owned(), |round| round.to_string());
        format!(
            "hbc/proposal/v1\n{}\n{}\n{}\n{pol}\n{}\n",
            self.chain,
            proposal.height.0,
            number(proposal.round),
            proposal.value.0
        )
        .into_bytes()
    }

    /// Checks membership, doubles, every signature and the quorum.
    pub fn verify(&self, certificate: &Certificate, members: &MemberSet) -> Result<(), CertificateError> {
        let text = self.checkpoint(certificate.height, certificate.round, &certificate.value);
        let mut seen = Vec::with_capacity(certificate.signatures.len());
        for (id, signature) in &certificate.signatures {
            let member = members.get(id).ok_or_else(|| CertificateError::Stranger(id.to_string()))?;
            if seen.contains(id) {
                return Err(CertificateError::Twice(id.to_string()));
            }
            if !fits(member, &text, signature) {
                return Err(CertificateError::BadSignature(id.to_string()));
            }
            seen.push(*id);
        }
        let (signed, needed) = (seen.len(), members.quorum());
        if signed < needed {
            return Err(CertificateError::TooFew { signed, members: members.len(), needed });
        }
        Ok(())
    }

    /// True if both signatures of an equivocation are the member's and the texts differ.
    #[must_use]
    pub fn proves(&self, evidence: &Equivocation, member: &Member) -> bool {
        evidence.member == member.id
            && evidence.first.0 != evidence.second.0
            && fits(member, &evidence.first.0, &evidence.first.1)
            && fits(member, &evidence.second.0, &evidence.second.1)
    }
}

/// The number of a round that cannot be nil: decoding refuses nil rounds and the library starts at zero.
fn number(round: Round) -> u32 {
    round.as_u32().unwrap_or(u32::MAX)
}

/// True if `signature` is `member`'s over `text`. Strict: one key, one text, one signature.
#[must_use]
pub fn fits(member: &Member, text: &[u8], signature: &[u8; 64]) -> bool {
    PublicKey::from_bytes(member.public_key).verify(text, &SignatureBytes::from_bytes(*signature)).is_ok()
}

/// Signs `text` with the member's key.
#[must_use]
pub fn sign(key: &SigningKey, text: &[u8]) -> [u8; 64] {
    key.sign(text).to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::{Height, Value};

    fn key(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    fn member(n: u8) -> Member {
        Member::new(key(n).verifying_key().to_bytes())
    }

    fn sign_bytes() -> SignBytes {
        SignBytes { chain: Digest::of(b"chain"), origin: "hbc.test/hbc/0123456789abcdef".to_owned() }
    }

    fn value() -> BlockId {
        BlockId { hash: Digest::of(b"block"), log_size: 7, log_root: Digest::of(b"log") }
    }

    fn certificate(signers: &[u8]) -> Certificate {
        let text = sign_bytes().checkpoint(3, 0, &value());
        let signatures = signers.iter().map(|n| (member(*n).id, sign(&key(*n), &text))).collect();
        Certificate { height: 3, round: 0, value: value(), signatures }
    }

    #[test]
    fn a_certificate_needs_more_than_two_thirds_of_the_members_each_once() {
        let members = MemberSet::new((1..=4).map(member).collect());
        let verify = |certificate: &Certificate| sign_bytes().verify(certificate, &members);
        assert_eq!(verify(&certificate(&[1, 2, 3])), Ok(()));
        assert!(matches!(verify(&certificate(&[1, 2])), Err(CertificateError::TooFew { signed: 2, .. })));
        assert!(matches!(verify(&certificate(&[1, 2, 2])), Err(CertificateError::Twice(_))));
        assert!(matches!(verify(&certificate(&[1, 2, 9])), Err(CertificateError::Stranger(_))));
        let mut bent = certificate(&[1, 2, 3]);
        bent.signatures[1].1[5] ^= 1;
        assert!(matches!(verify(&bent), Err(CertificateError::BadSignature(_))));
        let moved = Certificate { round: 1, ..certificate(&[1, 2, 3]) };
        assert!(matches!(verify(&moved), Err(CertificateError::BadSignature(_))));
    }

    #[test]
    fn no_two_steps_rounds_or_values_share_a_text() {
        let mut all = std::collections::BTreeSet::new();
        let mut count = 0;
        for kind in [VoteType::Prevote, VoteType::Precommit] {
            for (height, round) in [(1, 0), (1, 1), (2, 0)] {
                for value in [NilOrVal::Nil, NilOrVal::Val(value())] {
                    let (height, round) = (Height(height), Round::new(round));
                    all.insert(sign_bytes().vote(&Vote { kind, height, round, value, voter: member(1).id }));
                    count += 1;
                }
            }
        }
        for pol_round in [Round::Nil, Round::new(0)] {
            let (height, round, proposer) = (Height(1), Round::new(1), member(1).id);
            all.insert(sign_bytes().proposal(&Proposal {
                height,
                round,
                value: Value(value()),
                pol_round,
                proposer,
            }));
            count += 1;
        }
        assert_eq!(all.len(), count);
    }

    #[test]
    fn what_a_precommit_signs_is_the_checkpoint() {
        let text = String::from_utf8(sign_bytes().checkpoint(3, 2, &value())).unwrap();
        let checkpoint = Checkpoint::parse(&text).unwrap();
        assert_eq!((checkpoint.height, checkpoint.round, checkpoint.log_size), (3, 2, 7));
    }
}
