//! What every document is checked against: the founding document, and the members that certify a height.

use serde::{Deserialize, Serialize};

use super::{ProofError, Trust};
use crate::chain::checkpoint::Certificate;
use crate::chain::genesis::{Genesis, Named, check_named, log_origin};
use crate::chain::header::{Header, leading_zero_bits};
use crate::chain::json;
use crate::chain::state::MapProof;
use crate::digest::Digest;
use crate::hash;
use crate::time::Timestamp;

/// From the height after this one on, other members certify.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetChange {
    /// The second part of the state root.
    pub anchors: Digest,
    /// The note of this height, by the members before.
    pub checkpoint: String,
    /// The header of this height.
    pub header: Header,
    /// The state map's root, the first part of the state root.
    pub map: Digest,
    /// The members from the next height on.
    pub members: Vec<Named>,
    /// The third part of the state root.
    pub pages: Digest,
    /// That the map holds these members.
    pub proof: MapProof,
}

/// A block's header with its certificate, and the three roots that its state root is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateEvidence {
    /// RFC 6962 root over all anchors.
    pub anchors: Digest,
    /// The signed note of this block.
    pub checkpoint: String,
    /// The block's header.
    pub header: Header,
    /// Root of the state map.
    pub map: Digest,
    /// RFC 6962 root over the R-tree's pages.
    pub pages: Digest,
}

/// A block that more than two thirds of the members certified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertifiedBlock {
    /// Its height.
    pub height: u64,
    /// SHA-256 of its header.
    pub block: Digest,
    /// Leaves in the log with it.
    pub log_size: u64,
    /// Root over them.
    pub log_root: Digest,
    /// The members that signed.
    pub signers: Vec<String>,
    /// How many members there were.
    pub members: usize,
}

/// A block whose state is known by its roots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertifiedState {
    /// The block.
    pub certified: CertifiedBlock,
    /// Its time.
    pub time: Timestamp,
    /// Leading zero bits of its hash.
    pub zero_bits: u32,
}

impl CertifiedBlock {
    pub(super) fn of(certificate: &Certificate, members: usize) -> Self {
        let checkpoint = &certificate.checkpoint;
        Self {
            height: checkpoint.height,
            block: checkpoint.block,
            log_size: checkpoint.log_size,
            log_root: checkpoint.log_root,
            signers: certificate.signatures.iter().map(|line| line.member.clone()).collect(),
            members,
        }
    }

    /// Who certified it, in words.
    pub(super) fn certified_by(&self) -> String {
        let signers = self.signers.join(", ");
        format!("by {} of {} members at height {}: {signers}", self.signers.len(), self.members, self.height)
    }
}

/// The chain that a document is about, as far as it is trusted.
pub(super) struct Ground<'a> {
    pub genesis: &'a Genesis,
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
        Ok(Self { genesis, origin: log_origin(&genesis.origin, &chain), pinned: pinned_id.is_some() })
    }

    /// The members of every height, from those of genesis.json and the changes, each certified by the members before it.
    pub fn members(&self, changes: &'a [SetChange]) -> Result<Members<'a>, ProofError> {
        let mut sets = vec![(0, self.genesis.members.as_slice())];
        let (mut height, mut members) = (0, self.genesis.members.as_slice());
        for change in changes {
            if change.header.height <= height {
                return Err(ProofError::Members("the changes are not in order"));
            }
            change.verify(members, &self.origin)?;
            (height, members) = (change.header.height, change.members.as_slice());
            sets.push((height, members));
        }
        Ok(Members { sets })
    }

    /// A note that counts, under the members of its height.
    pub fn certify(
        &self,
        note: &str,
        members: &Members<'a>,
    ) -> Result<(Certificate, CertifiedBlock), ProofError> {
        let certificate = Certificate::parse(note)?;
        let of_height = members.at(certificate.checkpoint.height);
        certificate.check(&self.origin, of_height)?;
        let certified = CertifiedBlock::of(&certificate, of_height.len());
        Ok((certificate, certified))
    }
}

/// Members by the height after which they certify.
pub(super) struct Members<'a> {
    sets: Vec<(u64, &'a [Named])>,
}

impl<'a> Members<'a> {
    /// Those who certify a height.
    fn at(&self, height: u64) -> &'a [Named] {
        let set = self.sets.iter().rev().find(|(after, _)| *after < height).or(self.sets.first());
        set.map(|(_, members)| *members).unwrap_or_default()
    }

    /// That the last change lies before this height: a document carries none that it does not need.
    pub fn end_before(&self, height: u64) -> Result<(), ProofError> {
        match self.sets.last() {
            Some((after, _)) if *after > 0 && *after >= height => {
                Err(ProofError::Members("the checkpoint is not after the last change"))
            }
            _ => Ok(()),
        }
    }
}

impl SetChange {
    fn verify(&self, before: &[Named], origin: &str) -> Result<(), ProofError> {
        let certificate = Certificate::parse(&self.checkpoint)?;
        certificate.check(origin, before)?;
        if certificate.checkpoint.block != self.header.hash() {
            return Err(ProofError::Members("the checkpoint is of another block"));
        }
        if self.header.state_root != hash::state(&self.map, &self.anchors, &self.pages) {
            return Err(ProofError::Members("the header has another state root"));
        }
        if self.members.is_empty() || check_named(&self.members).is_err() {
            return Err(ProofError::Members("not a list of members"));
        }
        let key = hash::state_key("members", "");
        let value = Digest::of(&json::encode(&self.members)?);
        self.proof.verify_present(&self.map, &key, &value).map_err(ProofError::MembersState)
    }
}

impl StateEvidence {
    /// That the members of its height certified a block with these roots.
    pub(super) fn verify(
        &self,
        ground: &Ground<'_>,
        changes: &[SetChange],
    ) -> Result<CertifiedState, ProofError> {
        let members = ground.members(changes)?;
        let (_, certified) = ground.certify(&self.checkpoint, &members)?;
        members.end_before(certified.height)?;
        let header = &self.header;
        header.check_work()?;
        let said = (certified.height, certified.block, certified.log_size, certified.log_root);
        if said != (header.height, header.hash(), header.log_size, header.log_root) {
            return Err(ProofError::Block("the checkpoint is of another block"));
        }
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

impl CertifiedState {
    pub(super) fn facts(&self, facts: &mut Vec<(&'static str, String)>) {
        facts.push(("block", format!("height {}, hash {}", self.certified.height, self.certified.block)));
        facts.push(("block time", self.time.to_string()));
        facts.push(("proof of work", format!("{} leading zero bits", self.zero_bits)));
        facts.push(("certified", self.certified.certified_by()));
    }
}

pub(super) fn time(ms: u64) -> Timestamp {
    Timestamp::from_ms(i64::try_from(ms).unwrap_or(i64::MAX))
}
