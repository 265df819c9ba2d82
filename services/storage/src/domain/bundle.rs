//! FHIR bundles: what is to be created, what exists already, and where references point.
//!
//! Reading ([`Bundle::read`]) and planning ([`plan`]) are pure; between the two the store is asked for what the
//! bundle's conditions and conditional references name ([`Bundle::criteria`]).
//!
//! One bundle is for one account. Its Patient becomes that account's; a record of another subject is refused.
//!
//! Why: decision 0061.

mod plan;

use std::collections::BTreeSet;

use hbc_types::classify;
use hbc_types::ids::PatientId;
use hbc_types::labels::Category;
use hbc_types::wire::access::Labels;
use serde_json::{Map, Value};

use crate::domain::criteria::{self, Criteria};
use crate::domain::definitions::SchemaError;
use crate::domain::issue::Issue;
use crate::domain::overlay::OverlayError;
use crate::domain::reference::{Bases, Target};
use crate::domain::resource::{self, Resource, ResourceError};
use crate::domain::subjects::References;
use crate::domain::validation;
use hbc_types::json::{JsonError, Kind, Node};

pub use plan::{Draft, Known, Outcome, Plan, Setting, check_form, plan};

/// Entries of one bundle at most.
pub const MAX_ENTRIES: usize = 10_000;

/// Different conditions, conditional references and patients' identifiers of one bundle at most: each is looked up.
pub const MAX_CONDITIONS: usize = 10_000;

/// Why a body is no bundle that can be worked on.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Not JSON.
    #[error("the body is not acceptable JSON: {0}")]
    Json(#[from] JsonError),
    /// Not acceptable, as a whole.
    #[error("the bundle is not valid")]
    Invalid(Vec<Issue>),
    /// Too many entries.
    #[error("a bundle has at most {MAX_ENTRIES} entries")]
    TooLarge,
    /// Too much to look up.
    #[error("a bundle has at most {MAX_CONDITIONS} different conditions and conditional references")]
    TooManyConditions,
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
    /// The name under which other entries refer to it, in one spelling.
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
    /// Everything that must be looked up before the bundle can be planned.
    pub criteria: BTreeSet<Criteria>,
}

fn one_issue(expression: impl Into<String>, message: impl Into<String>) -> Vec<Issue> {
    vec![Issue::new(expression, message)]
}

impl Bundle {
    /// Reads a batch or transaction bundle and validates its resources.
    pub fn read(body: &[u8], node: &Node<'_>, bases: &Bases) -> Result<Self, BundleError> {
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
        let issues = validation::check_envelope(&envelope(body, node))?;
        if !issues.is_empty() {
            return Err(BundleError::Invalid(issues));
        }
        let mut entries = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            entries.push(Entry::read(body, item, bases, &format!("Bundle.entry[{index}]"))?);
        }
        Self::of(kind, entries)
    }

    fn of(kind: BundleKind, entries: Vec<Entry>) -> Result<Self, BundleError> {
        let criteria = criteria(&entries);
        if criteria.iter().map(|criteria| criteria.any.len()).sum::<usize>() > MAX_CONDITIONS {
            return Err(BundleError::TooManyConditions);
        }
        Ok(Self { kind, entries, criteria })
    }

    /// One resource on its own, as a bundle of one entry.
    pub fn single(
        body: &[u8],
        node: &Node<'_>,
        condition: Option<Criteria>,
        bases: &Bases,
    ) -> Result<Self, BundleError> {
        let kind = node.get_text("resourceType").unwrap_or("Resource");
        let resource = read_resource(body, node, bases, kind)?;
        let entry = Entry { full_url: None, resource, condition };
        Self::of(BundleKind::Transaction, vec![entry])
    }
}

impl Bundle {
    /// The one account of which its resources are, where all that name a Patient of an account name the same.
    #[must_use]
    pub fn account(&self) -> Option<PatientId> {
        let resources = self.entries.iter().filter_map(|entry| entry.resource.as_ref().ok());
        let subjects = resources.flat_map(|resource| &resource.references.all).filter(|found| found.subject);
        let accounts: BTreeSet<PatientId> = subjects
            .filter_map(|found| match &found.target {
                Target::Own { kind: "Patient", id } => PatientId::parse(id).ok(),
                _ => None,
            })
            .collect();
        let mut accounts = accounts.into_iter().filter(|account| !account.is_directory());
        accounts.next().filter(|_one| accounts.next().is_none())
    }
}

/// Whether a bundle only creates, and resources of types alone that `may` be created: seen before it is read, so that entries
/// that are not valid count too.
pub fn only_creates(node: &Node<'_>, may: impl Fn(&str) -> bool) -> bool {
    let entries = node.get("entry").map(Node::items).unwrap_or_default();
    entries.iter().all(|entry| {
        let text = |part: &str, field: &str| entry.get(part).and_then(|part| part.get_text(field));
        text("request", "method") == Some("POST") && text("resource", "resourceType").is_some_and(&may)
    })
}

fn criteria(entries: &[Entry]) -> BTreeSet<Criteria> {
    let mut wanted = BTreeSet::new();
    for entry in entries {
        wanted.extend(entry.condition.clone());
        let Ok(resource) = &entry.resource else { continue };
        let References { all, logical, inner, .. } = &resource.references;
        wanted.extend(all.iter().filter_map(|found| Criteria::of_reference(&found.target)));
        wanted.extend(logical.iter().map(|found| Criteria::of_patient(&found.identifier)));
        let patients = inner.iter().filter(|inner| inner.kind == "Patient");
        wanted.extend(patients.flat_map(|inner| &inner.identifiers).map(Criteria::of_patient));
        if resource.kind == "Patient" {
            wanted.extend(resource.identifiers.iter().map(Criteria::of_patient));
        }
    }
    wanted
}

/// What a bundle asks leave for, before anything is looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// Label sets that are written in any case.
    pub writes: BTreeSet<Labels>,
    /// Label sets of entries that may exist already.
    pub meets: BTreeSet<Labels>,
    /// Categories of what conditions, identifiers and references may meet.
    pub looked_up: BTreeSet<Category>,
}

impl Asks {
    /// Of a bundle for a patient's account (or for the directory): from the body alone.
    #[must_use]
    pub fn of(bundle: &Bundle) -> Self {
        let mut asks = Self { looked_up: BTreeSet::from([Category::Demographics]), ..Self::default() };
        let mut public = BTreeSet::new();
        for entry in &bundle.entries {
            let Ok(resource) = &entry.resource else { continue };
            match (&entry.condition, resource.labels.category) {
                // What anybody in good standing may read; if it must be created, the data keys decide.
                (Some(_), Category::Directory) => &mut public,
                (None, _) if resource.kind != "Patient" => &mut asks.writes,
                _ => &mut asks.meets,
            }
            .insert(resource.labels);
        }
        if asks.writes.is_empty() && asks.meets.is_empty() {
            asks.meets = public;
        }
        let kinds = bundle.criteria.iter().map(|criteria| criteria.kind.as_str()).collect::<BTreeSet<_>>();
        asks.looked_up.extend(kinds.iter().flat_map(|kind| classify::type_categories(kind)));
        asks
    }
}

/// The bundle with an empty object in place of each entry's resource.
fn envelope(body: &[u8], node: &Node<'_>) -> Value {
    match &node.kind {
        Kind::Object(members) => {
            let members = members.iter().map(|(name, member)| match (name.as_ref(), &member.kind) {
                ("resource", Kind::Object(_)) => (name.to_string(), Value::Object(Map::new())),
                _ => (name.to_string(), envelope(body, member)),
            });
            Value::Object(members.collect())
        }
        Kind::Array(items) => items.iter().map(|item| envelope(body, item)).collect(),
        Kind::Text(text) => Value::from(text.as_ref()),
        Kind::Plain => resource::value(body, node),
    }
}

fn read_resource(
    body: &[u8],
    node: &Node<'_>,
    bases: &Bases,
    place: &str,
) -> Result<Result<Resource, Vec<Issue>>, BundleError> {
    match Resource::read(body, node, bases, place) {
        Ok(resource) => Ok(Ok(resource)),
        Err(ResourceError::Invalid(issues)) => Ok(Err(issues)),
        Err(ResourceError::Schema(error)) => Err(error.into()),
    }
}

impl Entry {
    /// Reads an entry, which stands at `place`.
    fn read(body: &[u8], node: &Node<'_>, bases: &Bases, place: &str) -> Result<Self, BundleError> {
        let full_url = node.get_text("fullUrl").map(|url| {
            // Whatever it is, it is a name: one that is no reference stands for itself.
            Target::parse(url, bases).key().unwrap_or_else(|| url.to_owned())
        });
        let refused = |expression: &str, message: &str| Self {
            full_url: full_url.clone(),
            resource: Err(one_issue(format!("{place}.{expression}"), message)),
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
                    return Ok(refused("request.ifNoneExist", criteria::FORM));
                }
            },
            None => None,
        };
        Ok(Self {
            full_url,
            resource: read_resource(body, resource, bases, &format!("{place}.resource"))?,
            condition,
        })
    }
}

#[cfg(test)]
mod tests;
