//! Which numbers a patient's records have, as access-policy states it: a number that is missing is a record withheld.

use serde::{Deserialize, Serialize};

use ed25519_dalek::SigningKey;

use crate::certificate::{CertificateError, open};
use crate::json::JsonError;
use crate::jws;
use hbc_types::digest::Digest;
use hbc_types::ids::PatientId;
use hbc_types::keys::PublicKey;
use hbc_types::ranges::Ranges;
use hbc_types::wire::access::{Labels, NumberSet};

/// The `typ` of a statement of numbers.
const NUMBERS_TYP: &str = "hbc-numbers+jws";

/// What a statement says: FORMATS §8, numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumbersClaims {
    /// The chain.
    pub chain: Digest,
    /// When, Unix milliseconds.
    pub iat: u64,
    /// Whose records.
    pub patient: PatientId,
    /// By labels.
    pub sets: Vec<NumberSet>,
}

/// The numbers of the records that somebody has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldNumbers {
    /// Of these labels.
    pub labels: Labels,
    /// Which.
    pub numbers: Ranges,
}

impl NumbersClaims {
    /// Signs it with access-policy's key.
    ///
    /// # Errors
    /// When a number has no canonical form.
    pub fn sign(&self, service: &SigningKey) -> Result<String, JsonError> {
        jws::sign(service, NUMBERS_TYP, self)
    }

    /// Reads a statement and verifies it under the service's key.
    ///
    /// # Errors
    /// When it is not exact, not signed by `service`, or for another chain.
    pub fn verify(text: &str, service: &PublicKey, chain: &Digest) -> Result<Self, CertificateError> {
        let claims: Self = open(text, NUMBERS_TYP, service)?;
        if claims.chain == *chain { Ok(claims) } else { Err(CertificateError::Other("chain")) }
    }

    /// The numbers of each set that are neither open, void, erased nor held.
    ///
    /// # Errors
    /// The rule that statement or list breaks.
    pub fn missing(&self, held: &[HeldNumbers]) -> Result<Vec<HeldNumbers>, &'static str> {
        let once = |labels: &Labels, all: &mut dyn Iterator<Item = &Labels>| {
            all.filter(|other| *other == labels).count() == 1
        };
        let stated = |labels: &Labels| once(labels, &mut self.sets.iter().map(|set| &set.labels));
        let has = |labels: &Labels| once(labels, &mut held.iter().map(|one| &one.labels));
        if !self.sets.iter().all(|set| stated(&set.labels)) {
            return Err("the statement has labels twice");
        }
        if !held.iter().all(|one| has(&one.labels) && stated(&one.labels)) {
            return Err("the held numbers have labels twice, or others than the statement");
        }
        let mut missing = Vec::new();
        for NumberSet { labels, n_max, open, voided, erased } in &self.sets {
            let settled = Ranges::disjoint_union(&[open, voided, erased])
                .filter(|settled| settled.are_within(*n_max))
                .ok_or("a number has two states, or is above the highest")?;
            let none = Ranges::default();
            let held = held.iter().find(|one| one.labels == *labels).map_or(&none, |one| &one.numbers);
            if !held.are_within(*n_max) {
                return Err("a held number is above the highest");
            }
            let known = Ranges::of(settled.pairs().iter().chain(held.pairs()).copied());
            let numbers = known.missing_up_to(*n_max);
            if !numbers.is_empty() {
                missing.push(HeldNumbers { labels: *labels, numbers });
            }
        }
        Ok(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::key;
    use hbc_types::labels::{Category, Sensitivity};

    const LAB: Labels = Labels { category: Category::Laboratory, sensitivity: Sensitivity::Normal };
    const IMAGING: Labels = Labels { category: Category::Imaging, sensitivity: Sensitivity::Normal };

    fn set(labels: Labels, n_max: u64, open: &[[u64; 2]], voided: &[[u64; 2]]) -> NumberSet {
        let ranges = |pairs: &[[u64; 2]]| Ranges::of(pairs.iter().copied());
        NumberSet { labels, n_max, open: ranges(open), voided: ranges(voided), erased: Ranges::default() }
    }

    fn claims(sets: Vec<NumberSet>) -> NumbersClaims {
        let patient = PatientId::parse(&format!("pat-{:032x}", 1)).unwrap();
        NumbersClaims { chain: Digest::of(b"chain"), iat: 5, patient, sets }
    }

    fn held(labels: Labels, pairs: &[[u64; 2]]) -> HeldNumbers {
        HeldNumbers { labels, numbers: Ranges::of(pairs.iter().copied()) }
    }

    #[test]
    fn what_is_neither_settled_nor_held_is_missing() {
        let claims = claims(vec![set(LAB, 9, &[[9, 9]], &[[3, 4]]), set(IMAGING, 2, &[], &[])]);
        let missing = claims.missing(&[held(LAB, &[[1, 1], [5, 6]])]);
        assert_eq!(missing, Ok(vec![held(LAB, &[[2, 2], [7, 8]]), held(IMAGING, &[[1, 2]])]));
        let all = [held(LAB, &[[1, 2], [5, 8]]), held(IMAGING, &[[1, 2]])];
        assert_eq!(claims.missing(&all), Ok(Vec::new()));
    }

    #[test]
    fn statements_that_contradict_themselves_say_nothing() {
        for (sets, held) in [
            (vec![set(LAB, 9, &[[3, 3]], &[[3, 4]])], vec![]),
            (vec![set(LAB, 3, &[], &[[3, 4]])], vec![]),
            (vec![set(LAB, 3, &[], &[]), set(LAB, 3, &[], &[])], vec![]),
            (vec![set(LAB, 3, &[], &[])], vec![held(LAB, &[[4, 4]])]),
            (vec![set(LAB, 3, &[], &[])], vec![held(IMAGING, &[[1, 1]])]),
            (vec![set(LAB, 3, &[], &[])], vec![held(LAB, &[[1, 1]]), held(LAB, &[[2, 2]])]),
        ] {
            claims(sets).missing(&held).unwrap_err();
        }
    }

    #[test]
    fn a_statement_is_its_services_word_on_its_chain() {
        let claims = claims(Vec::new());
        let text = claims.sign(&key(1)).unwrap();
        let (service, chain) = (PublicKey::of(&key(1)), Digest::of(b"chain"));
        assert_eq!(NumbersClaims::verify(&text, &service, &chain), Ok(claims));
        assert!(NumbersClaims::verify(&text, &service, &Digest::ZERO).is_err());
        assert!(NumbersClaims::verify(&text, &PublicKey::of(&key(2)), &chain).is_err());
    }
}
