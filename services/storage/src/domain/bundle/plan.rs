//! What becomes of a bundle's entries: which are created, which exist, where their references point.

use std::collections::HashMap;

use hbc_types::Timestamp;
use hbc_types::ids::{PatientId, RecordId};
use hbc_types::labels::Category;
use hbc_types::wire::access::Labels;

use super::{Bundle, BundleError, BundleKind, Criteria, Entry, one_issue};
use crate::domain::days::Days;
use crate::domain::index::Identifier;
use crate::domain::overlay::{Overlay, OverlayError};
use crate::domain::resource::{Reference, Resource};
use crate::domain::validation::Issue;

/// What the store knows of a bundle's criteria.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Records by criteria, of the account and of the directory.
    pub matches: HashMap<Criteria, Vec<RecordId>>,
    /// The account's Patient.
    pub patient: Option<RecordId>,
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
    /// When the records are created.
    pub now: Timestamp,
}

/// Decides what becomes of every entry. A transaction with one refused entry is refused whole.
pub fn plan(
    bundle: &Bundle,
    known: &Known,
    setting: &Setting,
    mut fresh: impl FnMut() -> RecordId,
) -> Result<Plan, BundleError> {
    let mut planner = Planner { known, setting, targets: HashMap::new(), identified: HashMap::new() };
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
    all.truncate(20);
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
    /// `fullUrl` and `Type/id` of entries → `Type/rec-…`.
    targets: HashMap<String, String>,
    /// What entries of this bundle are identified by.
    identified: HashMap<Criteria, RecordId>,
}

impl Planner<'_> {
    fn identify(
        &mut self,
        entry: &Entry,
        fresh: &mut impl FnMut() -> RecordId,
    ) -> Result<Identity, Vec<Issue>> {
        let resource = entry.resource.as_ref().map_err(Clone::clone)?;
        if self.setting.account.is_directory() && resource.labels.category != Category::Directory {
            return Err(one_issue(resource.kind.clone(), "does not belong in the directory"));
        }
        let existing = self.existing(entry, resource)?;
        let id = existing.clone().unwrap_or_else(fresh);
        let target = format!("{}/{id}", resource.kind);
        if let Some(url) = &entry.full_url
            && self.targets.insert(url.clone(), target.clone()).is_some()
        {
            return Err(one_issue(resource.kind.clone(), "another entry has the same fullUrl"));
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
            self.targets.entry(PATIENT_OF_BUNDLE.to_owned()).or_insert(target);
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
        if self.targets.contains_key(PATIENT_OF_BUNDLE) {
            return Err(one_issue("Patient", "a bundle is for one patient"));
        }
        let Some(patient) = &self.known.patient else { return Ok(None) };
        // The account has its Patient: this one must be the same person, told by an identifier.
        let same = resource.identifiers.iter().any(|identifier| {
            let criteria = Criteria { kind: "Patient".to_owned(), identifier: identifier.clone() };
            self.known.matches.get(&criteria).is_some_and(|found| found.contains(patient))
        });
        if same {
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
        let overlay =
            resource.overlay(&id, 1, self.setting.now, |reference| match self.resolve(reference) {
                Ok(target) => target,
                Err(message) => {
                    issues.push(Issue { expression: reference.path.clone(), message });
                    None
                }
            })?;
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
    fn resolve(&self, reference: &Reference) -> Result<Option<String>, String> {
        let text = reference.text.as_str();
        let target = self.targets.get(text).filter(|_| text != PATIENT_OF_BUNDLE);
        if let Some(target) = target {
            return self.check_subject(reference, target).map(|()| Some(target.clone()));
        }
        if reference.url || text.starts_with('#') {
            return Ok(None);
        }
        if text.starts_with("urn:") {
            return Err("names no entry of this bundle".to_owned());
        }
        if text.contains('?') {
            let target = self.conditional(text)?;
            return self.check_subject(reference, &target).map(|()| Some(target));
        }
        if text == format!("Patient/{}", self.setting.account) {
            return Ok(self.account_patient());
        }
        self.check_subject(reference, text).map(|()| None)
    }

    fn conditional(&self, text: &str) -> Result<String, String> {
        let criteria = Criteria::of_reference(text)
            .ok_or_else(|| "is not of the form `Type?identifier=system|value`".to_owned())?;
        let found = self.known.matches.get(&criteria).map(Vec::as_slice).unwrap_or_default();
        match (found, self.identified.get(&criteria)) {
            ([only], _) | ([], Some(only)) => Ok(format!("{}/{only}", criteria.kind)),
            ([], None) => Err("no record is known that meets this condition".to_owned()),
            _ => Err("several records meet this condition".to_owned()),
        }
    }

    fn account_patient(&self) -> Option<String> {
        let known = || self.known.patient.as_ref().map(|id| format!("Patient/{id}"));
        self.targets.get(PATIENT_OF_BUNDLE).cloned().or_else(known)
    }

    /// A record whose subject is a Patient must be the account's.
    fn check_subject(&self, reference: &Reference, target: &str) -> Result<(), String> {
        if !reference.subject {
            return Ok(());
        }
        let mut steps = target.rsplit('/');
        let (id, kind) = (steps.next().unwrap_or_default(), steps.next().unwrap_or_default());
        let own = self.account_patient().is_some_and(|own| own.strip_prefix("Patient/") == Some(id));
        if kind != "Patient" || own {
            Ok(())
        } else {
            Err("is another patient than the account this is for".to_owned())
        }
    }
}

/// The key under which the bundle's Patient is remembered: no fullUrl looks like it.
const PATIENT_OF_BUNDLE: &str = "\u{1}patient";
