//! What every document is checked against: the founding document, and the members that certify a height.

use serde::{Deserialize, Serialize};

use super::certified::{
    Certification, CertifiedBlock, CertifiedState, MembersProof, StateEvidence, check_follows, time,
};
use super::{ProofError, Trust};
use crate::checkpoint::Certificate;
use crate::genesis::{Genesis, Named, check_named, log_origin};
use crate::header::leading_zero_bits;
use hbc_types::digest::Digest;
use hbc_types::hash;

/// From the height after this one on, other members certify.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetChange {
    /// The block that changed them, certified by the members before.
    pub certified: Certification,
    /// The members from the next height on.
    pub members: Vec<Named>,
    /// That the state after this block names them.
    pub named: MembersProof,
}

impl SetChange {
    /// The height of the block that changed the members.
    #[must_use]
    pub const fn height(&self) -> u64 {
        self.certified.header.height
    }
}

/// The chain that a document is about, as far as it is trusted.
pub(super) struct Ground<'a> {
    pub genesis: &'a Genesis,
    pub chain: Digest,
    pub origin: String,
    pub pinned: bool,
}

impl<'a> Ground<'a> {
    /// The genesis to check with: the trusted one, or that of the document if it founds the chain that the document names.
    pub fn find(chain: Digest, carried: Option<&'a Genesis>, trust: &'a Trust) -> Result<Self, ProofError> {
        let pinned_id = match trust {
            Trust::Genesis(genesis) => Some(genesis.chain_id()?),
            Trust::Chain(id) => Some(*id),
            Trust::Nothing => None,
        };
        if let Some(pinned) = pinned_id.filter(|pinned| *pinned != chain) {
            return Err(ProofError::OtherChain { pinned, found: chain });
        }
        if let Some(genesis) = carried {
            let founds = genesis.chain_id()?;
            if founds != chain {
                return Err(ProofError::GenesisMismatch { founds, named: chain });
            }
        }
        let genesis = match (trust, carried) {
            (Trust::Genesis(genesis), _) => genesis,
            (_, Some(genesis)) => genesis,
            (_, None) => return Err(ProofError::GenesisMissing),
        };
        Ok(Self { genesis, chain, origin: log_origin(&genesis.origin, &chain), pinned: pinned_id.is_some() })
    }

    /// The members of every height, from those of genesis.json and the changes, each certified by the members before it.
    pub fn members(&self, changes: &'a [SetChange]) -> Result<Members<'a>, ProofError> {
        let mut members = Members { sets: vec![(0, self.genesis.members.as_slice())] };
        for change in changes {
            if members.last() >= change.height() {
                return Err(ProofError::Members("the changes are not in order"));
            }
            change.certified.verify(self, &members)?;
            if change.members.is_empty() || check_named(&change.members).is_err() {
                return Err(ProofError::Members("not a list of members"));
            }
            if members.at(change.height().saturating_add(1)) == change.members.as_slice() {
                return Err(ProofError::Members("a change that changes nothing"));
            }
            change.named.verify(&change.certified.header, &change.members)?;
            members.sets.push((change.height(), &change.members));
        }
        Ok(members)
    }

    /// The document's one certified block. All changes lie before it: a document carries none that it does not need.
    pub fn head(
        &self,
        certification: &Certification,
        members: &Members<'_>,
    ) -> Result<CertifiedBlock, ProofError> {
        if members.last() >= certification.header.height {
            return Err(ProofError::Members("the checkpoint is not after the last change"));
        }
        certification.verify(self, members)
    }

    /// A note that counts under these members.
    pub fn count(&self, note: &str, members: &[Named]) -> Result<CertifiedBlock, ProofError> {
        let certificate = Certificate::parse(note)?;
        certificate.check(&self.origin, members)?;
        Ok(CertifiedBlock::of(&certificate, members.len()))
    }
}

/// Members by the height after which they certify, the founding ones first.
pub(super) struct Members<'a> {
    sets: Vec<(u64, &'a [Named])>,
}

impl<'a> Members<'a> {
    /// Those who certify a height.
    pub fn at(&self, height: u64) -> &'a [Named] {
        let set = self.sets.iter().rev().find(|(after, _)| *after < height).or(self.sets.first());
        set.map(|(_, members)| *members).unwrap_or_default()
    }

    /// The height of the last change; 0 when there was none.
    fn last(&self) -> u64 {
        self.sets.last().map_or(0, |(after, _)| *after)
    }
}

impl Certification {
    /// That the members of its height certified it, and that they are its members by the state before.
    pub(super) fn verify(
        &self,
        ground: &Ground<'_>,
        members: &Members<'_>,
    ) -> Result<CertifiedBlock, ProofError> {
        let of_height = members.at(self.header.height);
        let certified = ground.count(&self.checkpoint, of_height)?;
        self.header.check_work()?;
        if !certified.is(&self.header) {
            return Err(ProofError::Block("the checkpoint is of another block"));
        }
        check_follows(&self.header, &self.before, &ground.chain)?;
        self.named.verify(&self.before, of_height)?;
        Ok(certified)
    }
}

impl StateEvidence {
    /// That the members of its height certified a block with these roots.
    pub(super) fn verify(
        &self,
        ground: &Ground<'_>,
        members: &Members<'_>,
    ) -> Result<CertifiedState, ProofError> {
        let certified = ground.head(&self.certified, members)?;
        let header = &self.certified.header;
        if header.state_root != hash::state(&self.map, &self.anchors, &self.pages) {
            return Err(ProofError::Block("the header has another state root"));
        }
        Ok(CertifiedState {
            certified,
            time: time(header.time_ms),
            zero_bits: leading_zero_bits(header.hash().as_bytes()),
        })
    }
}
