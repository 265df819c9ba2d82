//! What the ledger's state says about a grant, a key, a profile, the members or the parameters at a height: that an entry
//! stands there with this value, or that there is none.
//!
//! Why: decision 0077.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::certified::{CertifiedState, StateEvidence};
use super::founding::{Ground, SetChange};
use super::{Content, ProofError};
use crate::entry::{GrantEntry, KeyEntry, Kind};
use crate::genesis::Genesis;
use crate::json;
use crate::map::MapProof;
use crate::payload::KeyStatus;
use hbc_types::digest::Digest;

/// What the state after a block says about an entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateProof {
    /// The chain.
    pub chain: Digest,
    /// The entry asked for, alone; after a grant's entry that of its key, because both decide.
    pub entries: Vec<EntryProof>,
    /// The founding document; needed when only a chain id is trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis: Option<Genesis>,
    /// Changes of the members up to the block, each certified by the set before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<SetChange>,
    /// The block after which the state says so.
    pub state: StateEvidence,
}

/// An entry of the state map, or that there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryProof {
    /// Its id, as its kind has them; empty for lists.
    pub id: String,
    /// Its kind.
    pub kind: Kind,
    /// The path in the map.
    pub proof: MapProof,
    /// Its value; absent when the map has no such entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

/// What a state proof says.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The grant is in force: its entry and its key's are active.
    InForce,
    /// The grant is not in force, and why.
    NotInForce(&'static str),
    /// The entry has this value.
    Entry(Value),
    /// There is no such entry.
    Absent,
}

/// What the state said about an entry after a block.
#[derive(Debug, Clone, PartialEq)]
pub struct StateFacts {
    /// The block.
    pub at: CertifiedState,
    /// The kind of the entry.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// What it says.
    pub verdict: Verdict,
}

impl StateProof {
    pub(super) fn verify(&self, ground: &Ground<'_>) -> Result<Content, ProofError> {
        let at = self.state.verify(ground, &ground.members(&self.sets)?)?;
        for entry in &self.entries {
            entry.verify(&self.state.map)?;
        }
        let (kind, id, verdict) = match self.entries.as_slice() {
            [grant, key] if grant.kind == Kind::Grant => {
                let of_key =
                    key.kind == Kind::Key && grant.id.split_once('/').is_some_and(|(kid, _)| kid == key.id);
                if !of_key {
                    return Err(ProofError::Contradiction("the second entry is not that of the grant's key"));
                }
                (grant.kind, &grant.id, grant_verdict(grant.value.as_ref(), key.value.as_ref())?)
            }
            [entry] if entry.kind != Kind::Grant => {
                let verdict = entry.value.clone().map_or(Verdict::Absent, Verdict::Entry);
                (entry.kind, &entry.id, verdict)
            }
            _ => return Err(ProofError::Contradiction("not one entry, or a grant's and its key's")),
        };
        Ok(Content::State(Box::new(StateFacts { at, kind, id: id.clone(), verdict })))
    }
}

impl EntryProof {
    /// The value that stands there.
    pub(super) fn read<T: Serialize + DeserializeOwned>(&self) -> Result<T, ProofError> {
        let value =
            self.value.as_ref().ok_or(ProofError::Contradiction("an entry that must be there is not"))?;
        json::decode(&json::encode(value)?).map_err(|_other| ProofError::Value { kind: self.kind.code() })
    }

    pub(super) fn verify(&self, map: &Digest) -> Result<(), ProofError> {
        if !self.kind.id_fits(&self.id) {
            return Err(ProofError::Id { kind: self.kind.code() });
        }
        let (kind, key) = (self.kind.code(), self.kind.key(&self.id));
        let not_there = |error| ProofError::NotInState { kind, error };
        let Some(value) = &self.value else {
            return self.proof.verify_absent(map, &key).map_err(not_there);
        };
        let value = json::encode(value)?;
        self.proof.verify_present(map, &key, &Digest::of(&value)).map_err(not_there)?;
        if self.kind.value_fits(&self.id, &value) { Ok(()) } else { Err(ProofError::Value { kind }) }
    }
}

/// "A grant is in force when its own entry and its key's entry say `active`."
fn grant_verdict(grant: Option<&Value>, key: Option<&Value>) -> Result<Verdict, ProofError> {
    let grant = grant.map(|value| json::decode::<GrantEntry>(&json::encode(value)?)).transpose()?;
    let key = key.map(|value| json::decode::<KeyEntry>(&json::encode(value)?)).transpose()?;
    Ok(match (grant.map(|entry| entry.status), key.map(|entry| entry.status)) {
        (None, _) => Verdict::NotInForce("it was never given"),
        (Some(KeyStatus::Revoked), _) => Verdict::NotInForce("it was revoked"),
        (_, None) => Verdict::NotInForce("its key is not registered"),
        (_, Some(KeyStatus::Revoked)) => Verdict::NotInForce("its key was revoked"),
        (Some(KeyStatus::Active), Some(KeyStatus::Active)) => Verdict::InForce,
    })
}

impl StateFacts {
    /// What the state said about which entry, in one sentence without its end.
    pub(super) fn statement(&self) -> String {
        let height = self.at.certified.height;
        let name = if self.id.is_empty() { String::new() } else { format!(" {}", self.id) };
        let kind = self.kind;
        match &self.verdict {
            Verdict::InForce => format!("grant{name} IS IN FORCE at height {height}"),
            Verdict::NotInForce(why) => format!("grant{name} is NOT IN FORCE at height {height}: {why}"),
            Verdict::Entry(value) => match value.get("status").and_then(Value::as_str) {
                Some(status) => format!("{kind}{name} is {status} at height {height}"),
                None => format!("the state holds {kind}{name} at height {height}"),
            },
            Verdict::Absent => format!("{kind}{name} IS NOT in the state at height {height}"),
        }
    }

    pub(super) fn facts(&self, facts: &mut Vec<(&'static str, String)>) {
        if let Verdict::Entry(value) = &self.verdict {
            facts.push(("value", value.to_string()));
        }
        self.at.facts(facts);
    }
}
