//! What becomes of a bundle's entries: which are created, which exist, where their references point.
//!
//! Why: decision 0120.

use std::collections::{HashMap, HashSet};

use hbc_types::Timestamp;
use hbc_types::ids::{PatientId, RecordId};
use hbc_types::labels::Category;
use hbc_types::wire::access::Labels;

use super::{Bundle, BundleError, BundleKind, Criteria, Entry, one_issue};
use crate::domain::days::Days;
use crate::domain::index::Identifier;
use crate::domain::issue::{Issue, MAX_ISSUES};
use crate::domain::overlay::{Overlay, OverlayError};
use crate::domain::reference::Target;
use crate::domain::resource::Resource;
use crate::domain::subjects::{Inner, Logical, Reference, References};

/// What the store knows of a bundle's criteria.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Records by criteria, of the account and of the directory: those that the caller may read or wrote.
    pub matches: HashMap<Criteria, Vec<RecordId>>,
    /// The account's Patient, if the caller may read it or wrote it.
    pub patient: Option<RecordId>,
    /// Whether the caller may not: then neither an identifier nor a reference is compared with it, whether there is one or
    /// not.
    pub patient_hidden: bool,
}

/// A record that is to be written.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Its id.
    pub id: RecordId,
    /// FHIR type, or `Document`.
    pub kind: String,
    /// Media type of the received bytes.
    pub media_type: String,
    /// Its bytes in the request's body.
    pub received: std::ops::Range<usize>,
    /// What is laid over them.
    pub overlay: Overlay,
    /// Its labels.
    pub labels: Labels,
    /// Its clinical days.
    pub days: Option<Days>,
    /// Its codes.
    pub codes: Vec<(String, String)>,
    /// Its identifiers.
    pub identifiers: Vec<Identifier>,
    /// The condition under which it was created: unique per account.
    pub condition: Option<Criteria>,
}

/// What becomes of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is created: index into the plan's drafts.
    Created(usize),
    /// It exists already.
    Existing {
        /// Its type.
        kind: String,
        /// Which record it is.
        id: RecordId,
    },
    /// It is refused.
    Refused(Vec<Issue>),
}

/// What is to be done for a bundle.
#[derive(Debug)]
pub struct Plan {
    /// What is to be written.
    pub drafts: Vec<Draft>,
    /// One per entry.
    pub outcomes: Vec<Outcome>,
}

/// Who a bundle is for and when it came.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The account, or the directory.
    pub account: PatientId,
    /// Whether an operator writes.
    pub by_operator: bool,
    /// When the records are created.
    pub now: Timestamp,
}

/// Refuses a transaction of which an entry is not valid by itself: from the body alone.
pub fn check_form(bundle: &Bundle) -> Result<(), BundleError> {
    if bundle.kind == BundleKind::Batch {
        return Ok(());
    }
    let form = |entry: &Entry| match &entry.resource {
        Ok(_) => Outcome::Created(0),
        Err(issues) => Outcome::Refused(issues.clone()),
    };
    refuse_whole(bundle, &bundle.entries.iter().map(form).collect::<Vec<_>>())
}

/// Decides what becomes of every entry. A transaction with one refused entry is refused whole.
pub fn plan(
    bundle: &Bundle,
    known: &Known,
    setting: &Setting,
    mut fresh: impl FnMut() -> RecordId,
) -> Result<Plan, BundleError> {
    let mut planner = Planner::new(known, setting);
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(bundle.entries.len());
    let mut created: Vec<(usize, RecordId)> = Vec::new();
    for (index, entry) in bundle.entries.iter().enumerate() {
        let outcome = match planner.identify(entry, &mut fresh) {
            Ok(Identity::New(id)) => {
                created.push((index, id));
                Outcome::Created(created.len() - 1)
            }
            Ok(Identity::Existing(kind, id)) => Outcome::Existing { kind, id },
            Err(issues) => Outcome::Refused(issues),
        };
        outcomes.push(outcome);
    }
    let mut drafts = Vec::with_capacity(created.len());
    for (index, id) in created {
        let Some(entry) = bundle.entries.get(index) else { continue };
        let Ok(resource) = &entry.resource else { continue };
        let outcome = match planner.draft(resource, id, entry.condition.clone())? {
            Ok(draft) => {
                drafts.push(draft);
                Outcome::Created(drafts.len() - 1)
            }
            Err(issues) => Outcome::Refused(issues),
        };
        if let Some(slot) = outcomes.get_mut(index) {
            *slot = outcome;
        }
    }
    if bundle.kind == BundleKind::Transaction {
        refuse_whole(bundle, &outcomes)?;
    }
    Ok(Plan { drafts, outcomes })
}

fn refuse_whole(bundle: &Bundle, outcomes: &[Outcome]) -> Result<(), BundleError> {
    let single = bundle.entries.len() == 1 && bundle.entries.iter().all(|entry| entry.full_url.is_none());
    let mut all = Vec::new();
    for (index, outcome) in outcomes.iter().enumerate() {
        let Outcome::Refused(issues) = outcome else { continue };
        for issue in issues {
            let mut issue = issue.clone();
            if !single {
                issue.expression = format!("Bundle.entry[{index}].{}", in_entry(&issue.expression));
            }
            all.push(issue);
        }
    }
    all.truncate(MAX_ISSUES);
    if all.is_empty() { Ok(()) } else { Err(BundleError::Invalid(all)) }
}

/// Where in an entry a fault is: those of its resource are told from the resource's type on.
fn in_entry(expression: &str) -> String {
    match expression.split_once('.') {
        _ if expression == "resourceType" => format!("resource.{expression}"),
        _ if expression.starts_with(|c: char| c.is_ascii_lowercase()) => expression.to_owned(),
        Some((_kind, inner)) => format!("resource.{inner}"),
        None => "resource".to_owned(),
    }
}

enum Identity {
    New(RecordId),
    Existing(String, RecordId),
}

struct Planner<'p> {
    known: &'p Known,
    setting: &'p Setting,
    /// `fullUrl` and `Type/id` of entries → their records.
    targets: HashMap<String, Named>,
    full_urls: HashSet<String>,
    /// What entries of this bundle are identified by.
    identified: HashMap<Criteria, RecordId>,
    /// The bundle's Patient.
    patient: Option<RecordId>,
}

/// A record that a reference names.
#[derive(Clone, Debug)]
struct Named {
    kind: String,
    id: RecordId,
}

impl Named {
    fn text(&self) -> String {
        format!("{}/{}", self.kind, self.id)
    }
}

impl<'p> Planner<'p> {
    fn new(known: &'p Known, setting: &'p Setting) -> Self {
        Self {
            known,
            setting,
            targets: HashMap::new(),
            full_urls: HashSet::new(),
            identified: HashMap::new(),
            patient: None,
        }
    }

    fn identify(
        &mut self,
        entry: &Entry,
        fresh: &mut impl FnMut() -> RecordId,
    ) -> Result<Identity, Vec<Issue>> {
        let resource = entry.resource.as_ref().map_err(Clone::clone)?;
        if self.setting.account.is_directory() && resource.labels.category != Category::Directory {
            return Err(one_issue(resource.kind.clone(), "does not belong in the directory"));
        }
        // By an identifier everybody's references find a record: whoever writes one there speaks for whom it names.
        let identified = !resource.identifiers.is_empty() || entry.condition.is_some();
        if self.setting.account.is_directory() && identified && !self.setting.by_operator {
            let place = format!("{}.identifier", resource.kind);
            return Err(one_issue(place, "only operators write what has an identifier into the directory"));
        }
        let existing = self.existing(entry, resource)?;
        let id = existing.clone().unwrap_or_else(fresh);
        let target = Named { kind: resource.kind.clone(), id: id.clone() };
        if let Some(url) = &entry.full_url {
            if !self.full_urls.insert(url.clone()) {
                return Err(one_issue(resource.kind.clone(), "another entry has the same fullUrl"));
            }
            self.targets.insert(url.clone(), target.clone());
        }
        if let Some(logical) = &resource.logical_id {
            self.targets.entry(format!("{}/{logical}", resource.kind)).or_insert_with(|| target.clone());
        }
        for identifier in &resource.identifiers {
            let criteria = Criteria { kind: resource.kind.clone(), identifier: identifier.clone() };
            self.identified.entry(criteria).or_insert_with(|| id.clone());
        }
        if let Some(criteria) = &entry.condition {
            self.identified.entry(criteria.clone()).or_insert_with(|| id.clone());
        }
        if resource.kind == "Patient" {
            self.patient.get_or_insert(target.id);
        }
        Ok(match existing {
            Some(id) => Identity::Existing(resource.kind.clone(), id),
            None => Identity::New(id),
        })
    }

    /// The record that an entry stands for already.
    fn existing(&self, entry: &Entry, resource: &Resource) -> Result<Option<RecordId>, Vec<Issue>> {
        if let Some(criteria) = &entry.condition {
            match self.known.matches.get(criteria).map(Vec::as_slice) {
                Some([]) | None => {}
                Some([only]) => return Ok(Some(only.clone())),
                Some(_) => {
                    return Err(one_issue(resource.kind.clone(), "several records meet its condition"));
                }
            }
            if let Some(id) = self.identified.get(criteria) {
                return Ok(Some(id.clone()));
            }
        }
        if resource.kind != "Patient" {
            return Ok(None);
        }
        if self.patient.is_some() {
            return Err(one_issue("Patient", "a bundle is for one patient"));
        }
        if self.known.patient_hidden {
            return Err(one_issue("Patient", HIDDEN_PATIENT));
        }
        let Some(patient) = &self.known.patient else { return Ok(None) };
        // The account has its Patient: this one must be the same person, told by an identifier.
        if resource.identifiers.iter().any(|identifier| self.is_known_patient(identifier)) {
            Ok(Some(patient.clone()))
        } else {
            Err(one_issue("Patient.identifier", "the account has another Patient already"))
        }
    }

    fn draft(
        &self,
        resource: &Resource,
        id: RecordId,
        condition: Option<Criteria>,
    ) -> Result<Result<Draft, Vec<Issue>>, OverlayError> {
        let mut issues = Vec::new();
        let references = &resource.references;
        let overlay = resource.overlay(&id, 1, self.setting.now, |reference| {
            match self.resolve(references, reference) {
                Ok(target) => target,
                Err(message) => {
                    issues.push(Issue { expression: reference.path.clone(), message });
                    None
                }
            }
        })?;
        issues.extend(self.strangers(references));
        if !issues.is_empty() {
            return Ok(Err(issues));
        }
        let mut identifiers = resource.identifiers.clone();
        identifiers.extend(condition.as_ref().map(|criteria| criteria.identifier.clone()));
        identifiers.sort();
        identifiers.dedup();
        Ok(Ok(Draft {
            id,
            kind: resource.kind.clone(),
            media_type: "application/fhir+json".to_owned(),
            received: resource.received.clone(),
            overlay,
            labels: resource.labels,
            days: resource.days,
            codes: resource.codes.clone(),
            identifiers,
            condition,
        }))
    }

    /// The target of a reference if it must be re-written; nothing if it stays as it is.
    fn resolve(&self, references: &References, reference: &Reference) -> Result<Option<String>, String> {
        let entry = reference.target.key().and_then(|key| self.targets.get(&key));
        if let Some(entry) = entry {
            return self.check_subject(reference, &entry.kind, &entry.id).map(|()| Some(entry.text()));
        }
        if reference.url {
            return Ok(None);
        }
        if let Some(inner) = references.inside(reference) {
            return if reference.subject { self.check_inner(inner).map(|()| None) } else { Ok(None) };
        }
        match &reference.target {
            Target::Own { kind: "Patient", id } if id == self.setting.account.as_str() => {
                Ok(self.account_patient().map(|id| format!("Patient/{id}")))
            }
            Target::Own { kind, id } => match RecordId::parse(id) {
                Ok(_) if self.known.patient_hidden && reference.subject && *kind == "Patient" => {
                    Err(HIDDEN_PATIENT.to_owned())
                }
                Ok(id) => self.check_subject(reference, kind, &id).map(|()| None),
                Err(_foreign) => check_stranger(reference).map(|()| None),
            },
            Target::Search { .. } => {
                let found = self.conditional(&reference.target)?;
                self.check_subject(reference, &found.kind, &found.id).map(|()| Some(found.text()))
            }
            Target::Urn(_) => Err("names no entry of this bundle".to_owned()),
            Target::Fragment(_) | Target::Foreign { .. } | Target::Unknown => {
                check_stranger(reference).map(|()| None)
            }
        }
    }

    fn conditional(&self, target: &Target) -> Result<Named, String> {
        let criteria = Criteria::of_reference(target)
            .ok_or_else(|| "is not of the form `Type?identifier=system|value`".to_owned())?;
        let found = self.known.matches.get(&criteria).map(Vec::as_slice).unwrap_or_default();
        match (found, self.identified.get(&criteria)) {
            ([only], _) | ([], Some(only)) => Ok(Named { kind: criteria.kind, id: only.clone() }),
            ([], None) => Err("no record is known that meets this condition".to_owned()),
            _ => Err("several records meet this condition".to_owned()),
        }
    }

    fn account_patient(&self) -> Option<&RecordId> {
        self.patient.as_ref().or(self.known.patient.as_ref())
    }

    /// Whether the account's Patient, as it is stored, has this identifier.
    fn is_known_patient(&self, identifier: &Identifier) -> bool {
        let found = self.known.matches.get(&Criteria::of_patient(identifier));
        let patient = self.known.patient.as_ref();
        found.zip(patient).is_some_and(|(found, patient)| found.contains(patient))
    }

    /// Whether somebody with one of these identifiers is the account's Patient, stored or in this bundle.
    fn is_own(&self, identifiers: &[Identifier]) -> bool {
        identifiers.iter().any(|identifier| {
            self.is_known_patient(identifier)
                || self.identified.contains_key(&Criteria::of_patient(identifier))
        })
    }

    /// A record whose subject is a Patient must be the account's.
    fn check_subject(&self, reference: &Reference, kind: &str, id: &RecordId) -> Result<(), String> {
        let own = kind != "Patient" || self.account_patient() == Some(id);
        if own || !reference.subject { Ok(()) } else { Err(ANOTHER_PATIENT.to_owned()) }
    }

    /// A Patient inside the record is the account's only if an identifier says so.
    fn check_inner(&self, inner: &Inner) -> Result<(), String> {
        if inner.kind != "Patient" || self.is_own(&inner.identifiers) {
            Ok(())
        } else {
            Err(ANOTHER_PATIENT.to_owned())
        }
    }

    /// Subjects that are told by an identifier alone, and Patients in the entries of a bundle that is one record.
    fn strangers(&self, references: &References) -> Vec<Issue> {
        let logical = references.logical.iter().filter(|logical| {
            let Logical { path: _, kind, identifier } = logical;
            kind.is_none_or(|kind| kind == "Patient") && !self.is_own(std::slice::from_ref(identifier))
        });
        let entries = references.inner.iter().filter(|inner| !inner.contained);
        let entries = entries.filter(|inner| self.check_inner(inner).is_err());
        let places = logical.map(|logical| &logical.path).chain(entries.map(|inner| &inner.path));
        places.map(|path| Issue { expression: path.clone(), message: ANOTHER_PATIENT.to_owned() }).collect()
    }
}

/// A subject that is no record here must say that it is no Patient.
fn check_stranger(reference: &Reference) -> Result<(), String> {
    let other = |kind: &str| kind != "Patient";
    match (reference.subject, reference.target.kind()) {
        (false, _) => Ok(()),
        (true, Some(kind)) if other(kind) => Ok(()),
        (true, Some(_)) => Err(ANOTHER_PATIENT.to_owned()),
        (true, None) => Err(NO_PATIENT.to_owned()),
    }
}

const ANOTHER_PATIENT: &str = "is another patient than the account this is for";
const HIDDEN_PATIENT: &str =
    "is not compared for a caller who may not read it: name the account's Patient as `Patient/pat-…`";
const NO_PATIENT: &str = "is not understood: name the account's Patient as `Patient/id`";
