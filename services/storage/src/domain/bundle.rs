//! FHIR bundles: what is to be created, what exists already, and where references point.
//!
//! Reading ([`Bundle::read`]) and planning ([`plan`]) are pure; between the two the store is asked for what the
//! bundle's conditions and conditional references name ([`Bundle::criteria`]).
//!
//! One bundle is for one account. Its Patient becomes that account's; a record of another subject is refused.
//!
//! Why: decision 0061.

mod plan;

use std::collections::{BTreeMap, BTreeSet};

use hbc_types::Digest;
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

pub use plan::{Draft, Known, NOT_YOURS, Outcome, Plan, Present, Setting, check_form, plan};

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

/// One entry that wants something done.
#[derive(Debug)]
pub struct Entry {
    /// Where it stands, as FHIRPath.
    pub place: String,
    /// The name under which other entries refer to it, in one spelling.
    pub full_url: Option<String>,
    /// What is to be done, or what is wrong with the entry.
    pub content: Result<Content, Vec<Issue>>,
}

/// What an entry wants done.
#[derive(Debug)]
pub enum Content {
    /// A resource is created; under a condition, only if nothing meets it.
    Create(Box<Resource>, Option<Criteria>),
    /// A resource takes the place of what is there.
    Update(Box<Resource>, Aim),
    /// What is there is deleted.
    Delete(Aim),
    /// Something is read: the URL, and whether what it holds is wanted.
    Read(String, bool),
}

impl Content {
    /// A resource of `body` in the place of what is there: whether it is that already, its digest tells.
    fn update(mut resource: Resource, aim: Aim, body: &[u8]) -> Self {
        resource.digest = body.get(resource.received.clone()).map(Digest::of);
        Self::Update(Box::new(resource), aim)
    }
}

/// What an entry changes.
#[derive(Clone, Debug)]
pub struct Aim {
    /// Its type.
    pub kind: String,
    /// Which of that type.
    pub which: Which,
    /// The version that it must have (`If-Match`).
    pub version: Option<u32>,
}

impl Aim {
    /// The condition by which it is found, if it is found by one.
    #[must_use]
    pub const fn criteria(&self) -> Option<&Criteria> {
        match &self.which {
            Which::Meeting(criteria) => Some(criteria),
            Which::Id(_) => None,
        }
    }
}

/// How an entry names what it changes.
#[derive(Clone, Debug)]
pub enum Which {
    /// By the id under which FHIR knows it.
    Id(String),
    /// By what it meets.
    Meeting(Criteria),
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
        Self::alone(kind, resource.map(|resource| Content::Create(Box::new(resource), condition)))
    }

    /// One resource in the place of what is there, as a bundle of one entry.
    pub fn update(body: &[u8], node: &Node<'_>, aim: Aim, bases: &Bases) -> Result<Self, BundleError> {
        let place = aim.kind.clone();
        let resource = read_resource(body, node, bases, &place)?;
        Self::alone(&place, resource.map(|resource| Content::update(resource, aim, body)))
    }

    /// A deletion, as a bundle of one entry.
    pub fn delete(aim: Aim) -> Result<Self, BundleError> {
        let place = aim.kind.clone();
        Self::alone(&place, Ok(Content::Delete(aim)))
    }

    fn alone(place: &str, content: Result<Content, Vec<Issue>>) -> Result<Self, BundleError> {
        let entry = Entry { place: place.to_owned(), full_url: None, content };
        Self::of(BundleKind::Transaction, vec![entry])
    }
}

impl Bundle {
    /// The one account of which its resources are, where all that name a Patient of an account name the same; the directory, where
    /// all are of its types.
    #[must_use]
    pub fn account(&self) -> Option<PatientId> {
        let resources = self.entries.iter().filter_map(Entry::resource);
        let subjects = resources.flat_map(|resource| &resource.references.all).filter(|found| found.subject);
        let accounts: BTreeSet<PatientId> = subjects
            .filter_map(|found| match &found.target {
                Target::Own { kind: "Patient", id } => PatientId::parse(id).ok(),
                _ => None,
            })
            .collect();
        let mut accounts = accounts.into_iter().filter(|account| !account.is_directory());
        match accounts.next() {
            Some(account) => accounts.next().is_none().then_some(account),
            None => self.is_of_directory().then(PatientId::directory),
        }
    }

    /// What its entries read, by their places.
    #[must_use]
    pub fn reads(&self) -> BTreeMap<usize, (String, bool)> {
        let reads = self.entries.iter().enumerate().filter_map(|(index, entry)| {
            entry.read_url().map(|(url, whole)| (index, (url.to_owned(), whole)))
        });
        reads.collect()
    }

    fn is_of_directory(&self) -> bool {
        let mut resources = self.entries.iter().filter_map(Entry::resource).peekable();
        resources.peek().is_some()
            && resources.all(|resource| resource.labels.category == Category::Directory)
    }
}

/// Whether a bundle only creates resources of types that `may` be created, or reads, where anything may be `read`: seen before
/// it is read, so that entries that are not valid count too. Whether it may read a type is asked of each entry.
pub fn only_creates(node: &Node<'_>, may: impl Fn(&str) -> bool, read: bool) -> bool {
    let entries = node.get("entry").map(Node::items).unwrap_or_default();
    entries.iter().all(|entry| {
        let text = |part: &str, field: &str| entry.get(part).and_then(|part| part.get_text(field));
        match text("request", "method") {
            Some("POST") => text("resource", "resourceType").is_some_and(&may),
            method => read && matches!(method, Some("GET" | "HEAD")),
        }
    })
}

fn criteria(entries: &[Entry]) -> BTreeSet<Criteria> {
    let mut wanted = BTreeSet::new();
    for entry in entries {
        wanted.extend(entry.condition().cloned());
        let Some(resource) = entry.resource() else { continue };
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
    /// Categories of what conditions, identifiers and references may meet, and of what is changed.
    pub looked_up: BTreeSet<Category>,
    /// Whether anything that is there is changed.
    pub changes: bool,
}

impl Asks {
    /// Of a bundle for a patient's account (or for the directory): from the body alone.
    #[must_use]
    pub fn of(bundle: &Bundle) -> Self {
        let mut asks = Self { looked_up: BTreeSet::from([Category::Demographics]), ..Self::default() };
        let mut public = BTreeSet::new();
        for entry in &bundle.entries {
            if let Some(aim) = entry.aim() {
                asks.changes = true;
                asks.looked_up.extend(classify::type_categories(&aim.kind));
            }
            match &entry.content {
                Ok(Content::Create(resource, condition)) => {
                    match (condition, resource.labels.category) {
                        // What anybody in good standing may read; if it must be created, the data keys decide.
                        (Some(_), Category::Directory) => &mut public,
                        (None, _) if resource.kind != "Patient" => &mut asks.writes,
                        _ => &mut asks.meets,
                    }
                    .insert(resource.labels);
                }
                Ok(Content::Update(resource, _)) => {
                    asks.writes.insert(resource.labels);
                }
                // Of which labels that is which goes is known only when it is found: the data keys decide.
                Ok(Content::Delete(_) | Content::Read(..)) | Err(_) => {}
            }
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
    /// The resource in it, if there is one and it is valid.
    #[must_use]
    pub fn resource(&self) -> Option<&Resource> {
        match &self.content {
            Ok(Content::Create(resource, _) | Content::Update(resource, _)) => Some(resource),
            Ok(Content::Delete(_) | Content::Read(..)) | Err(_) => None,
        }
    }

    /// What it changes, if it changes what is there.
    #[must_use]
    pub fn aim(&self) -> Option<&Aim> {
        match &self.content {
            Ok(Content::Update(_, aim) | Content::Delete(aim)) => Some(aim),
            Ok(Content::Create(..) | Content::Read(..)) | Err(_) => None,
        }
    }

    /// What it reads: the URL, and whether what it holds is wanted.
    #[must_use]
    pub fn read_url(&self) -> Option<(&str, bool)> {
        match &self.content {
            Ok(Content::Read(url, whole)) => Some((url, *whole)),
            _ => None,
        }
    }

    /// The condition by which it finds what is there.
    #[must_use]
    pub fn condition(&self) -> Option<&Criteria> {
        match &self.content {
            Ok(Content::Create(_, condition)) => condition.as_ref(),
            Ok(Content::Update(_, aim) | Content::Delete(aim)) => aim.criteria(),
            Ok(Content::Read(..)) | Err(_) => None,
        }
    }

    /// Reads an entry, which stands at `place`.
    fn read(body: &[u8], node: &Node<'_>, bases: &Bases, place: &str) -> Result<Self, BundleError> {
        let full_url = node.get_text("fullUrl").map(|url| {
            // Whatever it is, it is a name: one that is no reference stands for itself.
            Target::parse(url, bases).key().unwrap_or_else(|| url.to_owned())
        });
        let content = match Request::read(node, place) {
            Ok(request) => request.content(body, node, bases, place)?,
            Err(issues) => Err(issues),
        };
        Ok(Self { place: place.to_owned(), full_url, content })
    }
}

/// What an entry's `request` asks for.
enum Request {
    Create(Option<Criteria>),
    Update(Aim),
    Delete(Aim),
    Read(String, bool),
}

impl Request {
    fn read(node: &Node<'_>, place: &str) -> Result<Self, Vec<Issue>> {
        let refused =
            |expression: &str, message: &str| one_issue(format!("{place}.{expression}"), message.to_owned());
        let request = node.get("request").ok_or_else(|| refused("request", "is required"))?;
        let kind = node.get("resource").and_then(|resource| resource.get_text("resourceType"));
        let url = request.get_text("url").unwrap_or_default();
        match request.get_text("method") {
            Some("POST") => {
                let kind = kind.ok_or_else(|| refused("resource", "is required"))?;
                if url != kind {
                    return Err(refused("request.url", "must be the type of the resource"));
                }
                let condition = request.get_text("ifNoneExist").map(|query| {
                    let form = || refused("request.ifNoneExist", criteria::FORM);
                    Criteria::parse(kind, query).ok_or_else(form)
                });
                Ok(Self::Create(condition.transpose()?))
            }
            Some("PUT") => {
                let aim = aim(url, request, refused)?;
                if kind != Some(aim.kind.as_str()) {
                    return Err(refused("request.url", "must name a resource of the type that is sent"));
                }
                Ok(Self::Update(aim))
            }
            Some("DELETE") => Ok(Self::Delete(aim(url, request, refused)?)),
            Some(method @ ("GET" | "HEAD")) => Ok(Self::Read(url.to_owned(), method == "GET")),
            Some("PATCH") => Err(refused("request.method", "a patch is sent alone, not in a bundle")),
            _ => Err(refused("request.method", "must be `GET`, `HEAD`, `POST`, `PUT` or `DELETE`")),
        }
    }

    fn content(
        self,
        body: &[u8],
        node: &Node<'_>,
        bases: &Bases,
        place: &str,
    ) -> Result<Result<Content, Vec<Issue>>, BundleError> {
        let place = format!("{place}.resource");
        let resource = match (node.get("resource"), &self) {
            (_, Self::Delete(aim)) => return Ok(Ok(Content::Delete(aim.clone()))),
            (_, Self::Read(url, whole)) => return Ok(Ok(Content::Read(url.clone(), *whole))),
            (None, _) => return Ok(Err(one_issue(place, "is required"))),
            (Some(resource), _) => read_resource(body, resource, bases, &place)?,
        };
        Ok(resource.map(|resource| match self {
            Self::Create(condition) => Content::Create(Box::new(resource), condition),
            Self::Update(aim) | Self::Delete(aim) => Content::update(resource, aim, body),
            Self::Read(url, whole) => Content::Read(url, whole),
        }))
    }
}

/// What `Type/id` or `Type?identifier=…` names.
fn aim(url: &str, request: &Node<'_>, refused: impl Fn(&str, &str) -> Vec<Issue>) -> Result<Aim, Vec<Issue>> {
    let known = |kind: &str| classify::type_category(kind).is_some();
    let version = match request.get_text("ifMatch") {
        None => None,
        Some(tag) => {
            let form = || refused("request.ifMatch", "must be a version as `W/\"1\"`");
            Some(version_of(tag).ok_or_else(form)?)
        }
    };
    if let Some((kind, query)) = url.split_once('?') {
        let criteria = Criteria::parse(kind, query).ok_or_else(|| refused("request.url", criteria::FORM))?;
        return Ok(Aim { kind: kind.to_owned(), which: Which::Meeting(criteria), version });
    }
    match url.split_once('/') {
        Some((kind, id)) if known(kind) && !id.is_empty() && !id.contains('/') => {
            Ok(Aim { kind: kind.to_owned(), which: Which::Id(id.to_owned()), version })
        }
        _ => Err(refused("request.url", "must be `Type/id` or `Type?identifier=…`")),
    }
}

/// The version that an entity tag of FHIR names: `W/"1"`.
#[must_use]
pub fn version_of(tag: &str) -> Option<u32> {
    let tag = tag.trim();
    let quoted = tag.strip_prefix("W/").unwrap_or(tag);
    quoted.strip_prefix('"')?.strip_suffix('"')?.parse().ok().filter(|version| *version > 0)
}

#[cfg(test)]
mod tests;
