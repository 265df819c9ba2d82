//! Evidence against a member, which anybody can check offline: two signed texts that contradict each other, or a signed
//! answer about a stored block that is not true. The document's SHA-256 is what a `node.event` carries as `evidence`.
//!
//! A document is one JCS object, so that every member that holds the same two signatures makes the same bytes.
//!
//! Why: decision 0074.

use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoint;
use super::json::{self, JsonError};
use hbc_types::digest::Digest;
use hbc_types::hash;
use hbc_types::keys::{KeyError, Kid, PublicKey, SignatureBytes, signed_text};

/// Bytes of a document at most.
pub const MAX_EVIDENCE_BYTES: usize = 8 * 1024;
/// The `event` of a `node.event` about two contradicting signatures.
pub const EQUIVOCATION: &str = "equivocation";
/// The `event` of a `node.event` about a wrong answer to a challenge.
pub const CHALLENGE_FAILED: &str = "challenge-failed";
/// The domain of a signed answer to a challenge.
const ANSWER_DOMAIN: &str = "hbc/challenge-answer/v1";

/// Why evidence proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// Not a document of this kind.
    #[error("not evidence: {0}")]
    Form(#[from] JsonError),
    /// Too large.
    #[error("{0} bytes are too many")]
    TooLarge(usize),
    /// A text is none that members sign.
    #[error("a text is none that members sign for consensus")]
    Text,
    /// It is about another chain.
    #[error("it is for another chain")]
    OtherChain,
    /// The texts do not contradict each other.
    #[error("the texts do not contradict each other")]
    NoContradiction,
    /// The texts are not in order.
    #[error("the texts are not in the order of their bytes")]
    Order,
    /// The document names another height than the texts.
    #[error("the texts are about another height")]
    Height,
    /// A signature is not the member's.
    #[error("a signature does not fit: {0}")]
    Signature(#[from] KeyError),
}

/// A text with its signature.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The Ed25519 signature.
    pub signature: SignatureBytes,
    /// What is signed.
    pub text: String,
}

/// A member signed two texts for one height, round and step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DoubleVote {
    /// The chain.
    pub chain: Digest,
    /// The text that sorts first.
    pub first: Signed,
    /// The height.
    pub height: u64,
    /// The member's key.
    #[serde(rename = "pub")]
    pub public: PublicKey,
    /// The other text.
    pub second: Signed,
}

/// A member's signed answer to the question which bytes it stores for a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// [`answer`] over its bytes; zero when it has no such row.
    pub answer: Digest,
    /// The chain.
    pub chain: Digest,
    /// Height of the block.
    pub height: u64,
    /// What the asker drew at random.
    pub nonce: Digest,
    /// The member's key.
    #[serde(rename = "pub")]
    pub public: PublicKey,
    /// Its signature over [`Answer::text`].
    pub signature: SignatureBytes,
}

/// Evidence against a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", deny_unknown_fields)]
pub enum Evidence {
    /// Two contradicting signatures.
    #[serde(rename = "equivocation")]
    DoubleVote(DoubleVote),
    /// A signed answer, which is evidence where the block's bytes give another one.
    #[serde(rename = "challenge-failed")]
    Answer(Answer),
}

/// What a document says about whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accused {
    /// The member.
    pub member: Kid,
    /// The height.
    pub height: u64,
}

/// The answer to a challenge: `H("hbc/challenge/v1", nonce, header, body)` over the row's bytes as they lie on disk.
#[must_use]
pub fn answer(nonce: &Digest, header: &[u8], body: &[u8]) -> Digest {
    hash::domain_hash("hbc/challenge/v1", &[nonce.as_bytes(), header, body])
}

/// What a signed text is for: no honest member signs two of one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    step: u8,
    height: u64,
    round: u32,
}

/// Reads the slot of a text of consensus, of this chain.
fn slot(text: &str, chain: &Digest) -> Result<Slot, EvidenceError> {
    let mut lines = text.strip_suffix('\n').ok_or(EvidenceError::Text)?.split('\n');
    let step = match lines.next() {
        Some("hbc/proposal/v1") => 0,
        Some("hbc/prevote/v1") => 1,
        Some("hbc/precommit-nil/v1") => 2,
        _ => return checkpoint_slot(text, chain),
    };
    let named = lines.next().and_then(|line| Digest::parse(line).ok()).ok_or(EvidenceError::Text)?;
    if named != *chain {
        return Err(EvidenceError::OtherChain);
    }
    let mut number = || lines.next().and_then(plain).ok_or(EvidenceError::Text);
    let (height, round) = (number()?, number()?);
    let round = u32::try_from(round).map_err(|_too_large| EvidenceError::Text)?;
    Ok(Slot { step, height, round })
}

/// A precommit for a block is the block's checkpoint; its origin ends with the beginning of the chain's id.
fn checkpoint_slot(text: &str, chain: &Digest) -> Result<Slot, EvidenceError> {
    let checkpoint = Checkpoint::parse(text).map_err(|_form| EvidenceError::Text)?;
    let id = chain.to_string();
    let named = checkpoint.origin.rsplit_once("/hbc/").map(|(_, id)| id);
    if named.is_none() || named != id.get(..16) {
        return Err(EvidenceError::OtherChain);
    }
    Ok(Slot { step: 2, height: checkpoint.height, round: checkpoint.round })
}

fn plain(text: &str) -> Option<u64> {
    text.parse::<u64>().ok().filter(|number| number.to_string() == text)
}

impl DoubleVote {
    /// The document of two signed texts, in either order.
    #[must_use]
    pub fn new(chain: Digest, public: PublicKey, height: u64, one: Signed, other: Signed) -> Self {
        let (first, second) = if one <= other { (one, other) } else { (other, one) };
        let (first, second) = if first.text <= second.text { (first, second) } else { (second, first) };
        Self { chain, first, height, public, second }
    }

    fn verify(&self, chain: &Digest) -> Result<(), EvidenceError> {
        if self.chain != *chain {
            return Err(EvidenceError::OtherChain);
        }
        if self.first.text > self.second.text {
            return Err(EvidenceError::Order);
        }
        let (one, other) = (slot(&self.first.text, chain)?, slot(&self.second.text, chain)?);
        if one != other || self.first.text == self.second.text {
            return Err(EvidenceError::NoContradiction);
        }
        if one.height != self.height {
            return Err(EvidenceError::Height);
        }
        for signed in [&self.first, &self.second] {
            self.public.verify(signed.text.as_bytes(), &signed.signature)?;
        }
        Ok(())
    }
}

impl Answer {
    /// The text that the member signs.
    #[must_use]
    pub fn text(chain: &Digest, height: u64, nonce: &Digest, answer: &Digest) -> Vec<u8> {
        signed_text(ANSWER_DOMAIN, chain, &[&height.to_string(), &nonce.to_string(), &answer.to_string()])
    }

    /// True if the member signed it, for this chain. Whether it is *wrong* is for [`Answer::contradicts`].
    ///
    /// # Errors
    /// Another chain, or a signature that does not fit.
    pub fn verify(&self, chain: &Digest) -> Result<(), EvidenceError> {
        if self.chain != *chain {
            return Err(EvidenceError::OtherChain);
        }
        let text = Self::text(chain, self.height, &self.nonce, &self.answer);
        Ok(self.public.verify(&text, &self.signature)?)
    }

    /// True if the block with these bytes gives another answer: the proof that the member's row is not that block.
    #[must_use]
    pub fn contradicts(&self, header: &[u8], body: &[u8]) -> bool {
        self.answer != answer(&self.nonce, header, body)
    }
}

impl Evidence {
    /// The document.
    ///
    /// # Errors
    /// A number without a canonical form.
    pub fn to_bytes(&self) -> Result<Vec<u8>, EvidenceError> {
        Ok(json::encode(self)?)
    }

    /// Reads a document in its one form. It proves nothing before [`Evidence::verify`].
    ///
    /// # Errors
    /// [`EvidenceError::Form`] or [`EvidenceError::TooLarge`].
    pub fn parse(bytes: &[u8]) -> Result<Self, EvidenceError> {
        if bytes.len() > MAX_EVIDENCE_BYTES {
            return Err(EvidenceError::TooLarge(bytes.len()));
        }
        Ok(json::decode(bytes)?)
    }

    /// Checks both signatures and that they contradict each other; for an answer, that the member gave it. Whether that
    /// key was a member's is for the reader, who has the members of the height.
    ///
    /// # Errors
    /// Why it proves nothing.
    pub fn verify(&self, chain: &Digest) -> Result<Accused, EvidenceError> {
        match self {
            Self::DoubleVote(votes) => votes.verify(chain)?,
            Self::Answer(answer) => answer.verify(chain)?,
        }
        Ok(self.accused())
    }

    /// Whom it is about.
    #[must_use]
    pub fn accused(&self) -> Accused {
        match self {
            Self::DoubleVote(votes) => Accused { member: votes.public.kid(), height: votes.height },
            Self::Answer(answer) => Accused { member: answer.public.kid(), height: answer.height },
        }
    }

    /// The `event` of the `node.event` that tells of it.
    #[must_use]
    pub const fn event(&self) -> &'static str {
        match self {
            Self::DoubleVote(_) => EQUIVOCATION,
            Self::Answer(_) => CHALLENGE_FAILED,
        }
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[4; 32])
    }

    fn chain() -> Digest {
        Digest::of(b"chain")
    }

    fn signed(text: &str) -> Signed {
        Signed { signature: SignatureBytes::sign(&key(), text.as_bytes()), text: text.to_owned() }
    }

    fn prevote(height: u64, round: u32, value: &str) -> Signed {
        signed(&format!("hbc/prevote/v1\n{}\n{height}\n{round}\n{value}\n", chain()))
    }

    fn double(one: Signed, other: Signed) -> Evidence {
        Evidence::DoubleVote(DoubleVote::new(chain(), PublicKey::of(&key()), 7, one, other))
    }

    fn precommit(block: &[u8], height: u64) -> Signed {
        let checkpoint = Checkpoint {
            origin: crate::genesis::log_origin("hbc.test", &chain()),
            log_size: 3,
            log_root: Digest::of(block),
            height,
            round: 1,
            block: Digest::of(block),
        };
        signed(&checkpoint.body())
    }

    #[test]
    fn two_texts_make_one_document_in_whichever_order_they_came() {
        let (one, other) = (prevote(7, 1, "nil"), prevote(7, 1, "aa 1 bb"));
        let document = double(one.clone(), other.clone()).to_bytes().unwrap();
        assert_eq!(document, double(other, one).to_bytes().unwrap());
        let evidence = Evidence::parse(&document).unwrap();
        let accused = Accused { member: PublicKey::of(&key()).kid(), height: 7 };
        assert_eq!(evidence.verify(&chain()), Ok(accused));
        assert_eq!(evidence.event(), "equivocation");
    }

    #[test]
    fn a_block_and_nil_or_two_blocks_contradict_each_other_at_the_precommit() {
        let nil = signed(&format!("hbc/precommit-nil/v1\n{}\n7\n1\nnil\n", chain()));
        assert!(double(precommit(b"one", 7), precommit(b"two", 7)).verify(&chain()).is_ok());
        assert!(double(precommit(b"one", 7), nil.clone()).verify(&chain()).is_ok());
        assert_eq!(double(nil, prevote(7, 1, "nil")).verify(&chain()), Err(EvidenceError::NoContradiction));
    }

    #[test]
    fn what_contradicts_nothing_proves_nothing() {
        let vote = || prevote(7, 1, "nil");
        let refused = |one, other| double(one, other).verify(&chain()).unwrap_err();
        assert_eq!(refused(vote(), vote()), EvidenceError::NoContradiction);
        assert_eq!(refused(vote(), prevote(7, 2, "x")), EvidenceError::NoContradiction);
        assert_eq!(refused(vote(), prevote(8, 1, "x")), EvidenceError::NoContradiction);
        assert_eq!(refused(prevote(8, 1, "x"), prevote(8, 1, "y")), EvidenceError::Height);
        assert_eq!(refused(vote(), signed("hello\n")), EvidenceError::Text);
        assert_eq!(refused(vote(), precommit(b"one", 7)), EvidenceError::NoContradiction);
        let evidence = double(vote(), prevote(7, 1, "x"));
        assert_eq!(evidence.verify(&Digest::of(b"other")), Err(EvidenceError::OtherChain));
        assert_eq!(
            checkpoint_slot(&precommit(b"one", 7).text, &Digest::of(b"o")),
            Err(EvidenceError::OtherChain)
        );
    }

    #[test]
    fn every_flipped_bit_of_a_document_makes_it_worthless() {
        let document = double(prevote(7, 1, "nil"), prevote(7, 1, "aa 1 bb")).to_bytes().unwrap();
        for bit in 0..document.len() * 8 {
            let mut bytes = document.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let verdict = Evidence::parse(&bytes).and_then(|evidence| evidence.verify(&chain()));
            assert!(verdict.is_err(), "bit {bit}");
        }
        assert!(Evidence::parse(&vec![b' '; MAX_EVIDENCE_BYTES + 1]).is_err());
    }

    #[test]
    fn a_signed_answer_is_evidence_where_the_block_gives_another() {
        let (nonce, header, body) = (Digest::of(b"nonce"), [1; 180], [2; 40]);
        let give = |answer: Digest| {
            let text = Answer::text(&chain(), 3, &nonce, &answer);
            let (public, signature) = (PublicKey::of(&key()), SignatureBytes::sign(&key(), &text));
            Answer { answer, chain: chain(), height: 3, nonce, public, signature }
        };
        let right = give(answer(&nonce, &header, &body));
        assert_eq!(right.verify(&chain()), Ok(()));
        assert!(!right.contradicts(&header, &body));
        assert!(right.contradicts(&header, &[3; 40]));
        assert!(give(Digest::ZERO).contradicts(&header, &body));
        let unsigned = Answer { answer: Digest::ZERO, ..right.clone() };
        assert!(unsigned.verify(&chain()).is_err());
        let document = Evidence::Answer(give(Digest::ZERO)).to_bytes().unwrap();
        assert_eq!(Evidence::parse(&document).unwrap().verify(&chain()).unwrap().height, 3);
        // The same bytes cut at another place are another answer.
        assert_ne!(answer(&nonce, &[1, 2], &[3]), answer(&nonce, &[1], &[2, 3]));
    }
}
