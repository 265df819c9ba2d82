//! Which numbers a patient's records have, by the word of a service whose key the ledger knows: a gap shows.

use serde::{Deserialize, Serialize};

use super::certified::{CertifiedState, StateEvidence};
use super::founding::{Ground, SetChange};
use super::state::EntryProof;
use super::{Content, ProofError};
use crate::entry::Kind;
use crate::genesis::{Genesis, ServiceEntry};
use crate::numbers::{HeldNumbers, NumbersClaims};
use crate::payload::KeyStatus;
use hbc_types::account::ServiceRole;
use hbc_types::digest::Digest;
use hbc_types::keys::PublicKey;

/// A statement of numbers, and that its signer is access-policy by the state after a block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumbersProof {
    /// The raw key that signed the statement.
    pub author: PublicKey,
    /// The chain.
    pub chain: Digest,
    /// The founding document; needed when only a chain id is trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis: Option<Genesis>,
    /// The numbers of the records that whoever made the document has: their word.
    pub held: Vec<HeldNumbers>,
    /// The entry of the author's key.
    pub service: EntryProof,
    /// Changes of the members up to the block, each certified by the set before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<SetChange>,
    /// The block after which the state has that entry.
    pub state: StateEvidence,
    /// The statement, compact JWS.
    pub statement: String,
}

/// What a numbers proof says.
#[derive(Debug, Clone, PartialEq)]
pub struct NumbersFacts {
    /// The block.
    pub at: CertifiedState,
    /// What was stated.
    pub claims: NumbersClaims,
    /// The numbers of records that are neither settled nor held.
    pub missing: Vec<HeldNumbers>,
}

impl NumbersProof {
    pub(super) fn verify(&self, ground: &Ground<'_>) -> Result<Content, ProofError> {
        let at = self.state.verify(ground, &ground.members(&self.sets)?)?;
        self.service.verify(&self.state.map)?;
        let of_author =
            self.service.kind == Kind::Service && self.service.id == self.author.kid().to_string();
        if !of_author {
            return Err(ProofError::Contradiction("the entry is not that of the author's key"));
        }
        let entry: ServiceEntry = self.service.read()?;
        if (entry.role, entry.status) != (ServiceRole::AccessPolicy, KeyStatus::Active) {
            return Err(ProofError::Contradiction("the author is not access-policy"));
        }
        let claims = NumbersClaims::verify(&self.statement, &self.author, &self.chain)?;
        let missing = claims.missing(&self.held).map_err(ProofError::Contradiction)?;
        Ok(Content::Numbers(Box::new(NumbersFacts { at, claims, missing })))
    }
}

impl NumbersFacts {
    /// What there is and what is missing, in one sentence without its end.
    pub(super) fn statement(&self) -> String {
        let patient = &self.claims.patient;
        let count = |of: &[HeldNumbers]| of.iter().map(|one| one.numbers.count()).sum::<u64>();
        match count(&self.missing) {
            0 => format!("no number of a record of {patient} is missing"),
            missing => format!("{missing} NUMBERS of records of {patient} ARE MISSING"),
        }
    }

    pub(super) fn facts(&self, facts: &mut Vec<(&'static str, String)>) {
        facts.push(("stated at", super::certified::time(self.claims.iat).to_string()));
        for set in &self.claims.sets {
            let said = format!(
                "{}/{} up to {}; open {}; void {}; erased {}",
                set.labels.sensitivity.code(),
                set.labels.category.code(),
                set.n_max,
                or_none(&set.open),
                or_none(&set.voided),
                or_none(&set.erased)
            );
            facts.push(("numbers", said));
        }
        for HeldNumbers { labels, numbers } in &self.missing {
            let labels = format!("{}/{}", labels.sensitivity.code(), labels.category.code());
            facts.push(("missing", format!("{labels} {numbers}")));
        }
        self.at.facts(facts);
    }
}

fn or_none(ranges: &hbc_types::ranges::Ranges) -> String {
    if ranges.is_empty() { "none".to_owned() } else { ranges.to_string() }
}
