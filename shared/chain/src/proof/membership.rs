//! That somebody acts for an organisation: three entries of one state, and what they commit to.

use serde::{Deserialize, Serialize};

use super::certified::{CertifiedState, StateEvidence};
use super::founding::{Ground, SetChange};
use super::opening::Opened;
use super::state::EntryProof;
use super::{Content, Opening, ProofError};
use crate::bodies::{Body, MemberBody};
use crate::entry::{AffiliationEntry, Kind, StaffEntry};
use crate::genesis::Genesis;
use crate::json;
use crate::payload::{AffiliationStatus, StaffStatus};
use hbc_types::digest::Digest;
use hbc_types::hash;
use hbc_types::wire::access::StaffBody;

/// Who acts for an organisation, by the state after a block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MembershipProof {
    /// The chain.
    pub chain: Digest,
    /// The affiliation, the person's profile, the organisation's profile.
    pub entries: Vec<EntryProof>,
    /// The founding document; needed when only a chain id is trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis: Option<Genesis>,
    /// What the affiliation commits to.
    pub member: Opening,
    /// What the organisation's profile commits to.
    pub organisation: Opening,
    /// What the person's profile commits to.
    pub person: Opening,
    /// Changes of the members up to the block, each certified by the set before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<SetChange>,
    /// The block after which the state says so.
    pub state: StateEvidence,
}

/// What a membership proof says.
#[derive(Debug, Clone, PartialEq)]
pub struct MembershipFacts {
    /// The block.
    pub at: CertifiedState,
    /// As what they act.
    pub function: String,
    /// Who.
    pub person: StaffBody,
    /// For whom.
    pub organisation: StaffBody,
    /// Why they do not act for it after this block; none if they do.
    pub not_in_force: Option<&'static str>,
}

impl MembershipProof {
    pub(super) fn verify(&self, ground: &Ground<'_>) -> Result<Content, ProofError> {
        let at = self.state.verify(ground, &ground.members(&self.sets)?)?;
        let [affiliation, of_person, of_organisation] = self.entries.as_slice() else {
            return Err(ProofError::Contradiction("not an affiliation and two profiles"));
        };
        for entry in &self.entries {
            entry.verify(&self.state.map)?;
        }
        let of_these = affiliation.id.split_once('/') == Some((&of_organisation.id, &of_person.id))
            && (affiliation.kind, of_person.kind, of_organisation.kind)
                == (Kind::Affiliation, Kind::Staff, Kind::Staff);
        if !of_these {
            return Err(ProofError::Contradiction("the profiles are not those of the affiliation"));
        }
        let entry: AffiliationEntry = affiliation.read()?;
        let (person, organisation): (StaffEntry, StaffEntry) = (of_person.read()?, of_organisation.read()?);
        let member: MemberBody = opened(&self.member, hash::member, entry.commitment)?;
        let person_body: StaffBody = opened(&self.person, hash::staff, person.commitment)?;
        let organisation_body: StaffBody = opened(&self.organisation, hash::staff, organisation.commitment)?;
        if (&member.agency, &member.organisation) != (&person_body.agency, &organisation_body.agency) {
            return Err(ProofError::Contradiction("the bodies are of other agencies"));
        }
        let not_in_force = match (entry.status, person.status, organisation.status) {
            (AffiliationStatus::Ended, ..) => Some("it was ended"),
            (_, StaffStatus::Suspended | StaffStatus::Revoked, _) => {
                Some("the person's profile is not active")
            }
            (_, _, StaffStatus::Suspended | StaffStatus::Revoked) => {
                Some("the organisation's profile is not active")
            }
            (AffiliationStatus::Active, StaffStatus::Active, StaffStatus::Active) => None,
        };
        Ok(Content::Membership(Box::new(MembershipFacts {
            at,
            function: member.function,
            person: person_body,
            organisation: organisation_body,
            not_in_force,
        })))
    }
}

fn opened<B: Body>(
    opening: &Opening,
    hash: fn(&hash::Salt, &[u8]) -> Digest,
    commitment: Digest,
) -> Result<B, ProofError> {
    let opened = Opened { body: opening.body.clone(), salt: Some(opening.salt) };
    opened.read(&json::encode(&opened.body)?, hash, commitment)
}

impl MembershipFacts {
    /// Who acts for whom, in one sentence without its end.
    pub(super) fn statement(&self) -> String {
        let (who, whom, function) = (&self.person.name, &self.organisation.name, &self.function);
        let height = self.at.certified.height;
        match self.not_in_force {
            None => format!("`{who}` acts for `{whom}` as `{function}` at height {height}"),
            Some(why) => format!("`{who}` DOES NOT ACT for `{whom}` at height {height}: {why}"),
        }
    }

    pub(super) fn facts(&self, facts: &mut Vec<(&'static str, String)>) {
        for (name, body) in [("person", &self.person), ("organisation", &self.organisation)] {
            facts.push((name, super::content::written(body)));
        }
        self.at.facts(facts);
    }
}
