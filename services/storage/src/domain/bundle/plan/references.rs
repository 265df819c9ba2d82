//! Where the references of a bundle's resources point, and whether a subject is the account's Patient.

use std::collections::HashSet;

use hbc_types::ids::RecordId;

use super::{ANOTHER_PATIENT, HIDDEN_PATIENT, Named, Planner, Wrong};
use crate::domain::criteria::{self, Criteria};
use crate::domain::index::{Identifier, Sought};
use crate::domain::issue::Issue;
use crate::domain::reference::Target;
use crate::domain::subjects::{Form, Logical, Reference, References};

impl Planner<'_> {
    /// The target of a reference if it must be re-written; nothing if it stays as it is.
    pub(super) fn resolve(
        &self,
        references: &References,
        strangers: &HashSet<&str>,
        reference: &Reference,
    ) -> Result<Option<String>, Wrong> {
        let entry = reference.target.key().and_then(|key| self.targets.get(&key));
        if let Some(entry) = entry {
            return self
                .check_subject(reference, &entry.kind, &entry.id)
                .map(|()| Some(entry.text(&self.setting.account)));
        }
        if reference.form != Form::Reference {
            return Ok(None);
        }
        if let Some(inner) = references.inside(reference) {
            let other = reference.subject && strangers.contains(inner.path.as_str());
            return if other { Err(ANOTHER_PATIENT.into()) } else { Ok(None) };
        }
        match &reference.target {
            Target::Own { kind: "Patient", id } if id == self.setting.account.as_str() => {
                Ok(Some(format!("Patient/{id}")))
            }
            Target::Own { kind, id } => match RecordId::parse(id) {
                Ok(_) if self.known.patient_hidden && reference.subject && *kind == "Patient" => {
                    Err(HIDDEN_PATIENT.into())
                }
                // The Patient's record is called by the account.
                Ok(id) if *kind == "Patient" && self.account_patient() == Some(&id) => {
                    Ok(Some(format!("Patient/{}", self.setting.account)))
                }
                Ok(id) => self.check_subject(reference, kind, &id).map(|()| None),
                Err(_foreign) => check_stranger(reference).map(|()| None),
            },
            Target::Search { .. } => {
                let found = self.conditional(&reference.target)?;
                self.check_subject(reference, &found.kind, &found.id)
                    .map(|()| Some(found.text(&self.setting.account)))
            }
            Target::Urn(_) => Err("names no entry of this bundle".into()),
            Target::Fragment(_) | Target::Foreign { .. } | Target::Unknown => {
                check_stranger(reference).map(|()| None)
            }
        }
    }

    fn conditional(&self, target: &Target) -> Result<Named, Wrong> {
        let criteria = Criteria::of_reference(target).ok_or(criteria::FORM)?;
        let found = self.meeting(&criteria)?;
        let id = found.ok_or("no record is known that meets this condition")?;
        Ok(Named { kind: criteria.kind, id })
    }

    pub(super) fn account_patient(&self) -> Option<&RecordId> {
        self.patient.as_ref().or(self.known.patient.as_ref())
    }

    /// Whether the account's Patient, as it is stored, has this identifier.
    pub(super) fn is_known_patient(&self, identifier: &Identifier) -> bool {
        let found = self.known.matches.get(&Criteria::of_patient(identifier));
        let patient = self.known.patient.as_ref();
        found.zip(patient).is_some_and(|(found, patient)| found.contains(patient))
    }

    /// Whether somebody with one of these identifiers is the account's Patient, stored or in this bundle.
    fn is_own(&self, identifiers: &[Identifier]) -> bool {
        identifiers.iter().any(|identifier| {
            let named = ("Patient".to_owned(), Sought::Exact(identifier.clone()));
            self.is_known_patient(identifier) || self.identified.contains_key(&named)
        })
    }

    /// A record whose subject is a Patient must be the account's.
    fn check_subject(&self, reference: &Reference, kind: &str, id: &RecordId) -> Result<(), Wrong> {
        let own = kind != "Patient" || self.account_patient() == Some(id);
        if own || !reference.subject { Ok(()) } else { Err(ANOTHER_PATIENT.into()) }
    }

    /// The places of Patients inside the record that are not the account's: one is only if an identifier says so; or, in a
    /// bundle that is one record, if it is the only one there and the account has none that it could be told from.
    pub(super) fn strangers_inside<'r>(&self, references: &'r References) -> HashSet<&'r str> {
        let patients = || references.inner.iter().filter(|inner| inner.kind == "Patient");
        let unknown = self.account_patient().is_none() && !self.known.patient_hidden;
        let alone = unknown && patients().filter(|inner| !inner.contained).count() == 1;
        let others =
            patients().filter(|inner| !self.is_own(&inner.identifiers) && (inner.contained || !alone));
        others.map(|inner| inner.path.as_str()).collect()
    }

    /// Subjects that are told by an identifier alone, and Patients in the entries of a bundle that is one record.
    pub(super) fn strangers(&self, references: &References, inside: &HashSet<&str>) -> Vec<Issue> {
        let logical = references.logical.iter().filter(|logical| {
            let Logical { path: _, kind, identifier } = logical;
            kind.is_none_or(|kind| kind == "Patient") && !self.is_own(std::slice::from_ref(identifier))
        });
        let entries = references.inner.iter().filter(|inner| !inner.contained);
        let entries = entries.filter(|inner| inside.contains(inner.path.as_str()));
        let places = logical.map(|logical| &logical.path).chain(entries.map(|inner| &inner.path));
        places.map(|path| Issue::new(path.clone(), ANOTHER_PATIENT)).collect()
    }
}

/// A subject that is no record here must say that it is no Patient.
fn check_stranger(reference: &Reference) -> Result<(), Wrong> {
    let other = |kind: &str| kind != "Patient";
    match (reference.subject, reference.target.kind()) {
        (false, _) => Ok(()),
        (true, Some(kind)) if other(kind) => Ok(()),
        (true, Some(_)) => Err(ANOTHER_PATIENT.into()),
        (true, None) => Err(NO_PATIENT.into()),
    }
}

const NO_PATIENT: &str = "is not understood: name the account's Patient as `Patient/id`";
