//! FHIR bundles: what is to be created, what exists already, and where references point.
//!
//! Reading ([`Bundle::read`]) and planning ([`plan`]) are pure; between the two the store is asked for what the
//! bundle's conditions and conditional references name ([`Bundle::criteria`]).
//!
//! One bundle is for one account. Its Patient becomes that account's; a record of another subject is refused.
//!
//! Why: decision 0061.

use std::collections::{BTreeSet, HashMap};

use hbc_types::Timestamp;
use hbc_types::classify;
use hbc_types::ids::{PatientId, RecordId};
use hbc_types::labels::Category;
use hbc_types::wire::access::Labels;

use crate::domain::days::Days;
use crate::domain::index::Identifier;
use crate::domain::json::{JsonError, Node};
use crate::domain::overlay::{Overlay, OverlayError};
use crate::domain::resource::{Reference, Resource, ResourceError};
use crate::domain::validation::{Issue, SchemaError};

/// Entries of one bundle at most.
pub const MAX_ENTRIES: usize = 10_000;

/// `Type?identifier=system|value`: the one kind of condition that is understood.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Criteria {
    /// The resource type.
    pub kind: String,
    /// The identifier that is looked for.
    pub identifier: Identifier,
}

impl Criteria {
    /// Parses `identifier=system|value` for a type.
    #[must_use]
    pub fn parse(kind: &str, query: &str) -> Option<Self> {
        classify::type_category(kind)?;
        let value = decode(query.strip_prefix("identifier=")?)?;
        if value.is_empty() || query.contains('&') {
            return None;
        }
        let (system, value) = value.split_once('|').unwrap_or(("", &value));
        let identifier = Identifier { system: system.to_owned(), value: value.to_owned() };
        Some(Self { kind: kind.to_owned(), identifier })
    }

    fn of_reference(text: &str) -> Option<Self> {
        let (kind, query) = text.split_once('?')?;
        Self::parse(kind, query)
    }
}

/// Percent-decoding of a query value; `+` stays as it is, because Synthea writes queries unescaped.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if *byte == b'%' {
            let (digits, tail) = rest.split_first_chunk::<2>()?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = tail;
        } else {
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Why a body is no bundle that can be worked on.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Not JSON.
    #[error("the body is not acceptable JSON: {0}")]
    Json(#[from] JsonError),
    /// Not valid, as a whole.
    #[error("the bundle is not valid")]
    Invalid(Vec<Issue>),
    /// Too many entries.
    #[error("a bundle has at most {MAX_ENTRIES} entries")]
    TooLarge,
    /// The schema could not be used.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// An overlay did not fit: a fault of the program.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
}

/// How a bundle's entries belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BundleKind {
    /// Each for itself.
    Batch,
    /// All or none.
    Transaction,
}

/// One entry that wants a resource created.
#[derive(Debug)]
pub struct Entry {
    /// The name under which other entries refer to it.
    pub full_url: Option<String>,
    /// The resource, or what is wrong with the entry.
    pub resource: Result<Resource, Vec<Issue>>,
    /// Create it only if nothing matches.
    pub condition: Option<Criteria>,
}

/// A bundle that was read.
#[derive(Debug)]
pub struct Bundle {
    /// Batch or transaction.
    pub kind: BundleKind,
    /// Its entries.
    pub entries: Vec<Entry>,
}

fn one_issue(expression: impl Into<String>, message: impl Into<String>) -> Vec<Issue> {
    vec![Issue { expression: expression.into(), message: message.into() }]
}

impl Bundle {
    /// Reads a batch or transaction bundle and validates its resources.
    pub fn read(body: &[u8], node: &Node<'_>) -> Result<Self, BundleError> {
        let kind = match (node.get_text("resourceType"), node.get_text("type")) {
            (Some("Bundle"), Some("batch")) => BundleKind::Batch,
            (Some("Bundle"), Some("transaction")) => BundleKind::Transaction,
            (Some("Bundle"), _) => {
                return Err(BundleError::Invalid(one_issue(
                    "Bundle.type",
                    "must be `batch` or `transaction`",
                )));
            }
            _ => return Err(BundleError::Invalid(one_issue("resourceType", "must be `Bundle`"))),
        };
        let items = node.get("entry").map(Node::items).unwrap_or_default();
        if items.len() > MAX_ENTRIES {
            return Err(BundleError::TooLarge);
        }
        let mut entries = Vec::with_capacity(items.len());
        for item in items {
            entries.push(Entry::read(body, item)?);
        }
        Ok(Self { kind, entries })
    }

    /// One resource on its own, as a bundle of one entry.
    pub fn single(body: &[u8], node: &Node<'_>, condition: Option<Criteria>) -> Result<Self, BundleError> {
        let resource = read_resource(body, node)?;
        let entry = Entry { full_url: None, resource, condition };
        Ok(Self { kind: BundleKind::Transaction, entries: vec![entry] })
    }

    /// Everything that must be looked up before the bundle can be planned.
    #[must_use]
    pub fn criteria(&self) -> BTreeSet<Criteria> {
        let mut wanted = BTreeSet::new();
        for entry in &self.entries {
            wanted.extend(entry.condition.clone());
            let Ok(resource) = &entry.resource else { continue };
            wanted.extend(resource.references.iter().filter_map(|found| Criteria::of_reference(&found.text)));
            if resource.kind == "Patient" {
                let of = |identifier: &Identifier| Criteria {
                    kind: "Patient".to_owned(),
                    identifier: identifier.clone(),
                };
                wanted.extend(resource.identifiers.iter().map(of));
            }
        }
        wanted
    }
}

fn read_resource(body: &[u8], node: &Node<'_>) -> Result<Result<Resource, Vec<Issue>>, BundleError> {
    match Resource::read(body, node) {
        Ok(resource) => Ok(Ok(resource)),
        Err(ResourceError::Invalid(issues)) => Ok(Err(issues)),
        Err(ResourceError::Schema(error)) => Err(error.into()),
    }
}

impl Entry {
    fn read(body: &[u8], node: &Node<'_>) -> Result<Self, BundleError> {
        let full_url = node.get_text("fullUrl").map(str::to_owned);
        let refused = |expression: &str, message: &str| Self {
            full_url: full_url.clone(),
            resource: Err(one_issue(expression, message)),
            condition: None,
        };
        let Some(request) = node.get("request") else { return Ok(refused("request", "is required")) };
        if request.get_text("method") != Some("POST") {
            return Ok(refused("request.method", "only `POST` is taken"));
        }
        let Some(resource) = node.get("resource") else { return Ok(refused("resource", "is required")) };
        let kind = resource.get_text("resourceType").unwrap_or_default();
        if request.get_text("url") != Some(kind) {
            return Ok(refused("request.url", "must be the type of the resource"));
        }
        let condition = match request.get_text("ifNoneExist") {
            Some(query) => match Criteria::parse(kind, query) {
                Some(criteria) => Some(criteria),
                None => {
                    return Ok(refused(
                        "request.ifNoneExist",
                        "only `identifier=system|value` is understood",
                    ));
                }
            },
            None => None,
        };
        Ok(Self { full_url, resource: read_resource(body, resource)?, condition })
    }
}

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
                let inner = issue.expression.split_once('.').map_or("", |(_, inner)| inner);
                issue.expression = format!("Bundle.entry[{index}].resource.{inner}");
            }
            all.push(issue);
        }
    }
    all.truncate(20);
    if all.is_empty() { Ok(()) } else { Err(BundleError::Invalid(all)) }
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

#[cfg(test)]
mod tests;
