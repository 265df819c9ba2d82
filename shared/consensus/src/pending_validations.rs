//! The blocks of the running height that the node is asked to look at, or will be once their time has come. No
//! verdict stands here for good: what is valid or not is the library's to remember.
//!
//! Why: decision 0090.

use std::collections::BTreeMap;

use crate::context::SignedProposal;
use crate::types::{BlockBytes, BlockId, MemberId};

/// Distinct blocks looked at per round: an equivocating proposer gets two looks, not a thousand, and takes none from
/// the proposers of other rounds. As many of one proposer wait for their time.
const MAX_LOOKS: usize = 2;
/// Proposals of one block that wait for its verdict.
const MAX_PROPOSALS: usize = 16;

/// One block without a verdict.
pub(super) struct PendingValidation {
    pub(super) block: BlockBytes,
    /// Other bytes that came under the same value meanwhile: looked at if the first are damaged.
    other: Option<BlockBytes>,
    pub(super) proposals: Vec<SignedProposal>,
    /// When it is looked at again, its time having been too far ahead; none while the node looks at it.
    again_ms: Option<u64>,
}

impl PendingValidation {
    fn proposer(&self) -> Option<MemberId> {
        self.proposals.first().map(|proposal| proposal.message.proposer)
    }
}

/// The open looks of a height.
#[derive(Default)]
pub(super) struct PendingValidations {
    open: BTreeMap<BlockId, PendingValidation>,
    /// Looks begun, by round.
    begun: BTreeMap<u32, usize>,
}

impl PendingValidations {
    pub(super) fn clear(&mut self) {
        self.open.clear();
        self.begun.clear();
    }

    /// Takes a proposal whose value has no verdict. Answers the bytes if they are to be looked at now.
    pub(super) fn offer(
        &mut self,
        round: u32,
        proposal: SignedProposal,
        block: BlockBytes,
    ) -> Option<BlockBytes> {
        let value = proposal.message.value.0;
        if let Some(look) = self.open.get_mut(&value) {
            if look.block != block {
                look.other = Some(block);
            }
            let new = !look.proposals.contains(&proposal) && look.proposals.len() < MAX_PROPOSALS;
            if !new {
                return None;
            }
            look.proposals.push(proposal);
            return look.again_ms.take().map(|_not_yet| look.block.clone());
        }
        self.begin(round).then(|| {
            let (other, again_ms) = (None, None);
            self.open.insert(
                value,
                PendingValidation { block: block.clone(), other, proposals: vec![proposal], again_ms },
            );
            block
        })
    }

    /// Counts a look at a block of this round; false if there were enough.
    fn begin(&mut self, round: u32) -> bool {
        let begun = self.begun.entry(round).or_default();
        let free = *begun < MAX_LOOKS;
        *begun += usize::from(free);
        free
    }

    /// Ends a look: there is a verdict.
    pub(super) fn end(&mut self, value: &BlockId) -> Option<PendingValidation> {
        self.open.remove(value)
    }

    /// The bytes were not the value's. Answers later ones, if some came.
    pub(super) fn damaged(&mut self, value: &BlockId) -> Option<BlockBytes> {
        let mut look = self.open.remove(value)?;
        let other = look.other.take()?;
        let round = look.proposals.first()?.message.round.as_u32()?;
        self.begin(round).then(|| {
            look.block = other.clone();
            self.open.insert(*value, look);
            other
        })
    }

    /// The block's time is too far ahead: it waits. Of one proposer the nearest ones do.
    pub(super) fn postpone(&mut self, value: &BlockId, again_ms: u64) {
        let Some(look) = self.open.get_mut(value) else { return };
        look.again_ms = Some(again_ms);
        let proposer = look.proposer();
        let waiting =
            self.open.iter().filter(|(_, look)| look.again_ms.is_some() && look.proposer() == proposer);
        if waiting.clone().count() > MAX_LOOKS {
            let last = waiting.max_by_key(|(_, look)| look.again_ms).map(|(value, _)| *value);
            last.map(|value| self.open.remove(&value));
        }
    }

    /// The values that wait for their time.
    pub(super) fn postponed(&self) -> Vec<BlockId> {
        self.open.iter().filter(|(_, look)| look.again_ms.is_some()).map(|(value, _)| *value).collect()
    }

    /// The bytes of a value whose time has come, or that need not wait.
    pub(super) fn again(&mut self, value: &BlockId, now_ms: u64, at_once: bool) -> Option<BlockBytes> {
        let look = self.open.get_mut(value)?;
        let due = look.again_ms.is_some_and(|again_ms| at_once || again_ms <= now_ms);
        due.then(|| {
            look.again_ms = None;
            look.block.clone()
        })
    }

    /// When the next one is due.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.open.values().filter_map(|look| look.again_ms).min()
    }
}
