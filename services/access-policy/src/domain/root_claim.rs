//! Keys that are claimed for a patient who has none of the pinned ones.
//!
//! Why: decision 0136.

use hbc_types::hash::{self, Salt};
use hbc_types::ids::PatientId;
use hbc_types::keys::PublicKey;
use hbc_types::wire::custody::ROOT_CLAIM_WAIT;
use hbc_types::{Digest, Timestamp};

/// Keys that are claimed for a patient who has none of the pinned ones: they act after [`ROOT_CLAIM_WAIT`], by this service's own
/// clock, once operators ordered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Whose.
    pub patient: PatientId,
    /// The root key.
    pub root: PublicKey,
    /// The recovery key beside it.
    pub recovery: Option<PublicKey>,
    /// What is this claim's alone.
    pub nonce: Salt,
    /// Since when.
    pub claimed_at: Timestamp,
}

impl Claim {
    /// When it may act at the earliest.
    #[must_use]
    pub fn acts_from(&self) -> Timestamp {
        self.claimed_at.plus(ROOT_CLAIM_WAIT)
    }

    /// The subject of operators' orders about it.
    #[must_use]
    pub fn subject(&self) -> Digest {
        let recovery = self.recovery.as_ref().map(PublicKey::as_bytes);
        hash::root_claim(self.patient.as_str(), self.root.as_bytes(), recovery, &self.nonce)
    }

    /// What its row's MAC covers.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        let Self { patient: _, root: _, recovery: _, nonce: _, claimed_at } = self;
        hash::aad("hbc/root-claim-row/v1", &[self.subject().as_bytes(), &claimed_at.ms().to_be_bytes()])
    }
}
