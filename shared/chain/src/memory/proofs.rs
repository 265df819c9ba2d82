//! Proof documents out of the chain in memory. Headers and certificates of earlier blocks come from the store, checked by
//! the caller; whatever does not fit yields no proof.

use std::sync::Arc;

use hbc_types::Digest;

use super::Chain;
use crate::checkpoint::{BlockId, Certificate};
use crate::entry::Kind;
use crate::genesis::{Genesis, Named};
use crate::header::Header;
use crate::proof::{
    AnchorsProof, BlockEvidence, Certification, ConsistencyProof, EntryProof, MembersProof, PastCheckpoint,
    SetChange, StateEvidence, StateProof, TransactionProof, tlog,
};
use crate::rtree::{AnchorLeaf, Completeness, Page, Query};
use crate::state::{Place, State, StateRoots};
use crate::tx::Tx;

/// A block's header and its certificate, a signed note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertifiedHeader {
    /// The header.
    pub header: Header,
    /// The note.
    pub note: String,
}

/// A block of which the next one's certification tells who had to sign it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    header: Header,
    named: MembersProof,
}

impl Before {
    /// The block that left this state. Costs a path in the map.
    #[must_use]
    pub fn of(state: &State) -> Self {
        Self { header: *state.header(), named: named(state) }
    }

    /// The first leaf of the block that follows.
    pub(super) fn leaf_hash(&self) -> Digest {
        self.header.leaf_hash()
    }

    /// The certification of the block that follows.
    fn certify(&self, certified: CertifiedHeader) -> Certification {
        let CertifiedHeader { header, note } = certified;
        Certification { before: self.header, checkpoint: note, header, named: self.named.clone() }
    }
}

/// That a state names the members of the next height.
pub(super) fn named(state: &State) -> MembersProof {
    let StateRoots { map, anchors, pages } = state.roots();
    MembersProof { anchors, map, pages, proof: state.prove(Kind::Members, "").proof }
}

/// An entry of the state map by kind and id.
pub type EntryName = (Kind, String);

impl Chain {
    /// Those who certify a height.
    #[must_use]
    pub fn members_at(&self, height: u64) -> &[Named] {
        let last = self.sets.iter().rev().find(|set| set.height() < height);
        last.map_or(self.genesis.members.as_slice(), |set| set.members.as_slice())
    }

    /// True if a note certifies this very header, under the members of its height.
    #[must_use]
    pub fn is_certified(&self, certified: &CertifiedHeader) -> bool {
        let value = BlockId::of(&certified.header);
        Certificate::parse(&certified.note).is_ok_and(|note| {
            let said = (note.checkpoint.height, note.checkpoint.block);
            let roots = (note.checkpoint.log_size, note.checkpoint.log_root);
            said == (certified.header.height, value.hash)
                && roots == (value.log_size, value.log_root)
                && note.check(&self.origin, self.members_at(certified.header.height)).is_ok()
        })
    }

    /// The tip with its certificate, and where its members are named; none at block 0, which nobody certifies.
    #[must_use]
    pub fn certified_tip(&self) -> Option<Certification> {
        let (header, note) = (*self.tip(), self.certificate.clone());
        Some(self.before_tip.as_ref()?.certify(CertifiedHeader { header, note }))
    }

    /// The proof that the transaction at `place` is final: itself, its block's header and the one before, in the log that
    /// the tip certifies. None if they are not the chain's.
    #[must_use]
    pub fn prove(
        &self,
        place: &Place,
        transaction: String,
        header: Header,
        parent: Header,
    ) -> Option<TransactionProof> {
        let author = self.state.public_key(&Tx::parse(transaction.as_bytes()).ok()?.kid())?;
        let size = self.log.size();
        Some(TransactionProof {
            author,
            block: BlockEvidence { header, parent, path: self.header_path(&header)? },
            certified: self.certified_tip()?,
            chain: self.id(),
            genesis: Some((*self.genesis).clone()),
            index: place.leaf,
            path: self.log.inclusion(place.leaf, size)?,
            sets: self.sets_before(self.height()),
            transaction,
        })
    }

    /// The `tlog-proof` of the transaction at `place`, under its own block's checkpoint: whoever signed it then.
    #[must_use]
    pub fn prove_as_text(&self, place: &Place, block: &CertifiedHeader) -> Option<String> {
        let path = self.log.inclusion(place.leaf, block.header.log_size)?;
        Some(tlog::encode(place.leaf, &path, &block.note))
    }

    /// The proof that the log only grew between two blocks. None if the second is the earlier one.
    #[must_use]
    pub fn prove_consistency(&self, from: CertifiedHeader, to: CertifiedHeader) -> Option<ConsistencyProof> {
        if from.header.height > to.header.height {
            return None;
        }
        let path = self.log.consistency(from.header.log_size, to.header.log_size)?;
        Some(ConsistencyProof {
            certified: self.certified_tip()?,
            chain: self.id(),
            from: self.past(from)?,
            genesis: Some((*self.genesis).clone()),
            path,
            sets: self.sets_before(self.height()),
            to: self.past(to)?,
        })
    }

    fn past(&self, certified: CertifiedHeader) -> Option<PastCheckpoint> {
        let CertifiedHeader { header, note } = certified;
        Some(PastCheckpoint { checkpoint: note, header, path: self.header_path(&header)? })
    }

    /// The path of a block's header in the log as the tip leaves it; empty for the tip itself.
    fn header_path(&self, header: &Header) -> Option<Vec<Digest>> {
        let known = usize::try_from(header.height).ok().and_then(|height| self.hashes.get(height));
        match known {
            Some(hash) if *hash != header.hash() => None,
            Some(_) if header.height == self.height() => Some(Vec::new()),
            Some(_) => self.log.inclusion(header.log_size, self.log.size()),
            None => None,
        }
    }

    /// What the state after the tip says about some entries.
    #[must_use]
    pub fn prove_present_state(&self, entries: &[EntryName]) -> Option<StateProof> {
        self.prove_certified_state(&self.state, self.certified_tip()?, entries)
    }

    /// What `state`, this chain's after the certified block, says about some entries.
    #[must_use]
    pub fn prove_state(
        &self,
        state: &State,
        before: &Before,
        certified: CertifiedHeader,
        entries: &[EntryName],
    ) -> Option<StateProof> {
        self.prove_certified_state(state, before.certify(certified), entries)
    }

    fn prove_certified_state(
        &self,
        state: &State,
        certified: Certification,
        entries: &[EntryName],
    ) -> Option<StateProof> {
        if state.tip() != certified.header.hash() {
            return None;
        }
        let entries = entries.iter().map(|(kind, id)| {
            let proved = state.prove(*kind, id);
            let value = proved.value.map(|bytes| serde_json::from_slice(&bytes)).transpose().ok()?;
            Some(EntryProof { id: id.clone(), kind: *kind, proof: proved.proof, value })
        });
        let entries = entries.collect::<Option<_>>()?;
        Some(StateProof {
            chain: self.id(),
            entries,
            genesis: Some((*self.genesis).clone()),
            sets: self.sets_before(certified.header.height),
            state: evidence(&state.roots(), certified),
        })
    }

    /// What answers about anchors are made of, as the tip has it; none at block 0. Costs a pointer per page and a copy
    /// of the tail, so that the chain need not be held while an answer is made.
    #[must_use]
    pub fn anchors_view(&self) -> Option<AnchorsView> {
        let certified = self.certified_tip()?;
        let anchors = self.state.anchors();
        Some(AnchorsView {
            chain: self.id(),
            genesis: Arc::clone(&self.genesis),
            pages: anchors.pages().to_vec(),
            tail: anchors.tail().to_vec(),
            sets: self.sets_before(certified.header.height),
            state: evidence(&self.state.roots(), certified),
        })
    }

    /// The changes of members that a certificate of this height rests on.
    fn sets_before(&self, height: u64) -> Vec<SetChange> {
        self.sets.iter().filter(|set| set.height() < height).cloned().collect()
    }
}

/// The anchors of a certified block.
#[derive(Debug)]
pub struct AnchorsView {
    chain: Digest,
    genesis: Arc<Genesis>,
    pages: Vec<Arc<Page>>,
    tail: Vec<AnchorLeaf>,
    sets: Vec<SetChange>,
    state: StateEvidence,
}

impl AnchorsView {
    /// The block's height.
    #[must_use]
    pub const fn height(&self) -> u64 {
        self.state.certified.header.height
    }

    /// Answers a question with its proof; none when that would have more than `max_bytes` of text.
    #[must_use]
    pub fn prove(self, query: Query, max_bytes: usize) -> Option<AnchorsProof> {
        let pages = self.pages.iter().map(Arc::as_ref);
        Some(AnchorsProof {
            answer: Completeness::prove(pages, &self.tail, &query, max_bytes)?,
            chain: self.chain,
            genesis: Some((*self.genesis).clone()),
            query,
            sets: self.sets,
            state: self.state,
        })
    }
}

fn evidence(roots: &StateRoots, certified: Certification) -> StateEvidence {
    StateEvidence { anchors: roots.anchors, certified, map: roots.map, pages: roots.pages }
}
