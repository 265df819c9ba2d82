//! What becomes of a bundle's entries: which are created, which exist, where their references point.
//!
//! Why: decision 0120.

mod drafts;
mod references;

use std::collections::{HashMap, HashSet};

use hbc_types::ids::{PatientId, RecordId};
use hbc_types::labels::Category;
use hbc_types::wire::access::Labels;
use hbc_types::{Digest, Timestamp};

use drafts::tombstone;

use super::{Aim, Bundle, BundleError, BundleKind, Content, Entry, Which, one_issue};
use crate::domain::criteria::Criteria;
use crate::domain::days::Days;
use crate::domain::index::{Identifier, Sought};
use crate::domain::issue::{Fault, Issue, MAX_ISSUES};
use crate::domain::moment::Span;
use crate::domain::overlay::Overlay;
use crate::domain::reference::Target;
use crate::domain::resource::{Resource, fhir_id};

/// What the store knows of a bundle's criteria.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Records by criteria, of the account and of the directory: those that the caller may read or wrote.
    pub matches: HashMap<Criteria, Vec<RecordId>>,
    /// What more records of the account meet than are looked at.
    pub crowded: HashSet<Criteria>,
    /// The account's Patient, if the caller may read it or wrote it.
    pub patient: Option<RecordId>,
    /// SHA-256 of that Patient as it was received, where the bundle has one.
    pub patient_received: Option<Digest>,
    /// Whether the caller may not: then neither an identifier nor a reference is compared with it, whether there is one or
    /// not.
    pub patient_hidden: bool,
    /// What entries change, by the names that they give it and by its record: `Type/id`.
    pub present: HashMap<String, Present>,
}

/// The newest version of a record that a caller may know of.
#[derive(Clone, Debug)]
pub struct Present {
    /// The record.
    pub id: RecordId,
    /// Its version.
    pub version: u32,
    /// Its labels.
    pub labels: Labels,
    /// Whether it is deleted.
    pub deleted: bool,
    /// SHA-256 of its received bytes.
    pub received: Digest,
    /// Whether the caller wrote it: others put nothing in its place.
    pub own: bool,
    /// Whether the caller may delete it: its author, and the patient.
    pub deletable: bool,
    /// Whether a version of it was sensitive.
    pub was_sensitive: bool,
}

/// A record that is to be written.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Its id.
    pub id: RecordId,
    /// Its version, from 1.
    pub version: u32,
    /// Whether this version says that it is deleted: then it has no content.
    pub deleted: bool,
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
    /// When what it tells of happened, to the instant.
    pub when: Option<Span>,
    /// Its codes.
    pub codes: Vec<(String, String)>,
    /// Its identifiers.
    pub identifiers: Vec<Identifier>,
    /// The condition under which it was created, unique per account, or which it met when it was changed.
    pub condition: Option<Criteria>,
}

/// What becomes of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is created, changed or deleted: index into the plan's drafts.
    Created(usize),
    /// It exists already.
    Existing {
        /// Its type.
        kind: String,
        /// Which record it is.
        id: RecordId,
    },
    /// There is nothing to be deleted any more.
    Gone,
    /// It is read, after everything was written.
    Read,
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
    let form = |entry: &Entry| match &entry.content {
        Ok(_) => Outcome::Created(0),
        Err(issues) => Outcome::Refused(issues.clone()),
    };
    refuse_whole(&bundle.entries.iter().map(form).collect::<Vec<_>>())
}

/// Decides what becomes of every entry. A transaction with one refused entry is refused whole. What is deleted is so before
/// anything else (<https://hl7.org/fhir/R4/http.html#trules>).
pub fn plan(
    bundle: &Bundle,
    known: &Known,
    setting: &Setting,
    mut fresh: impl FnMut() -> RecordId,
) -> Result<Plan, BundleError> {
    let mut planner = Planner::new(known, setting, bundle.entries.len() == 1);
    let deletions: Vec<_> = bundle.entries.iter().map(|entry| planner.removal(entry)).collect();
    let mut identities = Vec::with_capacity(bundle.entries.len());
    for (entry, deletion) in bundle.entries.iter().zip(deletions) {
        identities.push(deletion.unwrap_or_else(|| planner.identify(entry, &mut fresh)));
    }
    if bundle.kind == BundleKind::Transaction {
        refuse_by_state(&identities)?;
    }
    let (mut drafts, mut outcomes) = (Vec::new(), Vec::with_capacity(identities.len()));
    for (entry, identity) in bundle.entries.iter().zip(identities) {
        let outcome = match identity {
            Err(issues) => Outcome::Refused(issues),
            Ok(Identity::Existing(kind, id)) => Outcome::Existing { kind, id },
            Ok(Identity::Gone) => Outcome::Gone,
            Ok(Identity::Read) => Outcome::Read,
            Ok(Identity::Removed(kind, present)) => {
                drafts.push(tombstone(kind, &present));
                Outcome::Created(drafts.len() - 1)
            }
            Ok(Identity::New(id, replaced)) => match planner.draft(entry, id, replaced)? {
                Ok(written) => {
                    drafts.extend(written);
                    Outcome::Created(drafts.len() - 1)
                }
                Err(issues) => Outcome::Refused(issues),
            },
        };
        outcomes.push(outcome);
    }
    if bundle.kind == BundleKind::Transaction {
        refuse_whole(&outcomes)?;
    }
    Ok(Plan { drafts, outcomes })
}

/// Refuses a transaction for what is there: what other entries then refer to in vain is not told.
fn refuse_by_state(identities: &[Result<Identity, Vec<Issue>>]) -> Result<(), BundleError> {
    let refused = identities.iter().filter_map(|identity| identity.as_ref().err()).flatten();
    let by_state = refused.filter(|issue| issue.fault != Fault::Form).take(MAX_ISSUES);
    let all: Vec<Issue> = by_state.cloned().collect();
    if all.is_empty() { Ok(()) } else { Err(BundleError::Invalid(all)) }
}

fn refuse_whole(outcomes: &[Outcome]) -> Result<(), BundleError> {
    let refused = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Refused(issues) => Some(issues),
        Outcome::Created(_) | Outcome::Existing { .. } | Outcome::Gone | Outcome::Read => None,
    });
    let all: Vec<Issue> = refused.flatten().take(MAX_ISSUES).cloned().collect();
    if all.is_empty() { Ok(()) } else { Err(BundleError::Invalid(all)) }
}

enum Identity {
    /// Written, in the place of what is there.
    New(RecordId, Option<Present>),
    Existing(String, RecordId),
    Removed(String, Present),
    Gone,
    Read,
}

/// What is wrong with something, wherever it stands.
struct Wrong {
    fault: Fault,
    message: String,
}

impl Wrong {
    fn at(self, place: &str) -> Issue {
        Issue { expression: place.to_owned(), message: self.message, fault: self.fault }
    }
}

impl From<&str> for Wrong {
    fn from(message: &str) -> Self {
        Self { fault: Fault::Form, message: message.to_owned() }
    }
}

struct Planner<'p> {
    known: &'p Known,
    setting: &'p Setting,
    /// `fullUrl` and `Type/id` of entries → their records.
    targets: HashMap<String, Named>,
    full_urls: HashSet<String>,
    /// What entries of this bundle are identified by, of each type.
    identified: HashMap<(String, Sought), Vec<RecordId>>,
    /// The conditions of entries before.
    conditions: HashMap<Criteria, RecordId>,
    /// The bundle's Patient.
    patient: Option<RecordId>,
    /// Whether the bundle has one entry alone.
    alone: bool,
    /// What entries before change: each once.
    changed: HashSet<RecordId>,
    /// What is deleted.
    removed: HashSet<RecordId>,
}

/// A record that a reference names.
#[derive(Clone, Debug)]
struct Named {
    kind: String,
    id: RecordId,
}

impl Named {
    /// How it is referred to in an account.
    fn text(&self, account: &PatientId) -> String {
        format!("{}/{}", self.kind, fhir_id(&self.kind, &self.id, account))
    }
}

impl<'p> Planner<'p> {
    fn new(known: &'p Known, setting: &'p Setting, alone: bool) -> Self {
        Self {
            known,
            setting,
            targets: HashMap::new(),
            full_urls: HashSet::new(),
            identified: HashMap::new(),
            conditions: HashMap::new(),
            patient: None,
            alone,
            changed: HashSet::new(),
            removed: HashSet::new(),
        }
    }

    /// What becomes of an entry that deletes. What it takes away meets no condition any more.
    fn removal(&mut self, entry: &Entry) -> Option<Result<Identity, Vec<Issue>>> {
        let Ok(Content::Delete(aim)) = &entry.content else { return None };
        let removed = self.deletion(aim);
        if let Ok(Identity::Removed(_, present)) = &removed {
            self.removed.insert(present.id.clone());
        }
        Some(removed.map_err(|wrong| vec![wrong.at(&entry.place)]))
    }

    fn identify(
        &mut self,
        entry: &Entry,
        fresh: &mut impl FnMut() -> RecordId,
    ) -> Result<Identity, Vec<Issue>> {
        let wrong = |wrong: Wrong| vec![wrong.at(&entry.place)];
        match entry.content.as_ref().map_err(Clone::clone)? {
            Content::Delete(_) => Ok(Identity::Gone),
            Content::Read(..) => Ok(Identity::Read),
            Content::Create(resource, _) => {
                self.check_place(entry, resource)?;
                match self.existing(entry, resource)? {
                    Some(id) => {
                        self.name(entry, resource, &id)?;
                        Ok(Identity::Existing(resource.kind.clone(), id))
                    }
                    None => self.creation(entry, resource, fresh()),
                }
            }
            Content::Update(resource, aim) => {
                self.check_place(entry, resource)?;
                match self.replaced(resource, aim).map_err(wrong)? {
                    None => self.creation(entry, resource, fresh()),
                    Some(present) => {
                        self.name(entry, resource, &present.id)?;
                        // Of several entries, what is referred to may have become another.
                        let same = self.alone
                            && resource.digest.is_some_and(|digest| digest == present.received)
                            && resource.references.all.iter().all(|found| stays(&found.target));
                        match same && !present.deleted {
                            true => Ok(Identity::Existing(resource.kind.clone(), present.id)),
                            false => Ok(Identity::New(present.id.clone(), Some(present))),
                        }
                    }
                }
            }
        }
    }

    fn creation(&mut self, entry: &Entry, resource: &Resource, id: RecordId) -> Result<Identity, Vec<Issue>> {
        self.name(entry, resource, &id)?;
        Ok(Identity::New(id, None))
    }

    /// Whether a resource may stand in the account or the directory at all.
    fn check_place(&self, entry: &Entry, resource: &Resource) -> Result<(), Vec<Issue>> {
        if self.setting.account.is_directory() && resource.labels.category != Category::Directory {
            return Err(one_issue(resource.place.clone(), "does not belong in the directory"));
        }
        // By an identifier everybody's references find a record: whoever writes one there speaks for whom it names.
        let identified = !resource.identifiers.is_empty() || entry.condition().is_some();
        if self.setting.account.is_directory() && identified && !self.setting.by_operator {
            let place = format!("{}.identifier", resource.place);
            return Err(one_issue(place, "only operators write what has an identifier into the directory"));
        }
        Ok(())
    }

    /// An entry stands for a record: references find it there.
    fn name(&mut self, entry: &Entry, resource: &Resource, id: &RecordId) -> Result<(), Vec<Issue>> {
        let target = Named { kind: resource.kind.clone(), id: id.clone() };
        if let Some(url) = &entry.full_url {
            if !self.full_urls.insert(url.clone()) {
                return Err(one_issue(resource.place.clone(), "another entry has the same fullUrl"));
            }
            self.targets.insert(url.clone(), target.clone());
        }
        if let Some(logical) = &resource.logical_id {
            self.targets.entry(format!("{}/{logical}", resource.kind)).or_insert_with(|| target.clone());
        }
        for sought in resource.identifiers.iter().flat_map(Sought::all) {
            let known = self.identified.entry((resource.kind.clone(), sought)).or_default();
            // One entry's identifiers come together.
            if known.last() != Some(id) {
                known.push(id.clone());
            }
        }
        if let Some(criteria) = entry.condition() {
            self.conditions.entry(criteria.clone()).or_insert_with(|| id.clone());
        }
        if resource.kind == "Patient" {
            self.patient.get_or_insert(target.id);
        }
        Ok(())
    }

    /// What an entry changes, as far as the caller may know of it; nothing if no record meets its condition.
    fn aimed_at(&self, aim: &Aim) -> Result<Option<Present>, Wrong> {
        let name = match &aim.which {
            Which::Id(id) => format!("{}/{id}", aim.kind),
            Which::Meeting(criteria) => match self.meeting(criteria)? {
                Some(id) => format!("{}/{id}", aim.kind),
                None => return Ok(None),
            },
        };
        match self.known.present.get(&name) {
            Some(present) if aim.version.is_some_and(|version| version != present.version) => {
                let message = format!("is version {} now", present.version);
                Err(Wrong { fault: Fault::Stale, message })
            }
            Some(present) => Ok(Some(present.clone())),
            None => Err(Wrong { fault: Fault::Missing, message: "names no record".to_owned() }),
        }
    }

    /// The record in whose place a resource comes; nothing if no record meets the condition and it is created.
    fn replaced(&mut self, resource: &Resource, aim: &Aim) -> Result<Option<Present>, Wrong> {
        // "If any resource identities … overlap … the transaction SHALL fail": what is deleted here is not created anew.
        if let Which::Meeting(criteria) = &aim.which
            && self.known.matches.get(criteria).into_iter().flatten().any(|id| self.removed.contains(id))
        {
            return Err("is deleted by another entry".into());
        }
        let Some(present) = self.aimed_at(aim)? else {
            return match (&resource.logical_id, resource.kind.as_str()) {
                (Some(_), _) => Err("no record meets the condition, and ids are given by the server".into()),
                (None, "Patient") if self.account_patient().is_some() || self.known.patient_hidden => {
                    Err(ANOTHER_PATIENT.into())
                }
                (None, _) => Ok(None),
            };
        };
        let shown = fhir_id(&resource.kind, &present.id, &self.setting.account);
        let named = resource.logical_id.as_deref();
        // R4: "The request body SHALL be a Resource with an id element that has an identical value to the [id] in the URL."
        let is_same = named.is_some_and(|named| named == shown || named == present.id.as_str());
        let by_condition = named.is_none() && matches!(aim.which, Which::Meeting(_));
        if !(is_same || by_condition) {
            return Err(Wrong { fault: Fault::Another, message: format!("must have the id `{shown}`") });
        }
        if !present.own {
            return Err(Wrong { fault: Fault::NotYours, message: NOT_YOURS.to_owned() });
        }
        if present.was_sensitive && !resource.labels.sensitivity.is_sensitive() {
            // Whoever may read the new one would learn by its id and version that there was a sensitive one.
            return Err("was sensitive: create it anew, and delete this one".into());
        }
        self.once(&present)?;
        Ok(Some(present))
    }

    fn deletion(&mut self, aim: &Aim) -> Result<Identity, Wrong> {
        let Some(present) = self.aimed_at(aim)? else { return Ok(Identity::Gone) };
        if !present.deletable {
            return Err(Wrong { fault: Fault::NotYours, message: NOT_YOURS.to_owned() });
        }
        if present.deleted {
            return Ok(Identity::Gone);
        }
        if aim.kind == "Patient" && !self.setting.account.is_directory() {
            let message = "stays as long as the account: close the account".to_owned();
            return Err(Wrong { fault: Fault::Stays, message });
        }
        self.once(&present)?;
        Ok(Identity::Removed(aim.kind.clone(), present))
    }

    /// One request changes a record once.
    fn once(&mut self, present: &Present) -> Result<(), Wrong> {
        let first = self.changed.insert(present.id.clone());
        if first { Ok(()) } else { Err("is changed by another entry".into()) }
    }

    /// The record that an entry stands for already.
    fn existing(&self, entry: &Entry, resource: &Resource) -> Result<Option<RecordId>, Vec<Issue>> {
        if let Some(criteria) = entry.condition()
            && let Some(id) = self.meeting(criteria).map_err(|wrong| vec![wrong.at(&resource.place)])?
        {
            return Ok(Some(id));
        }
        if resource.kind != "Patient" {
            return Ok(None);
        }
        if self.patient.is_some() {
            return Err(one_issue(resource.place.clone(), "a bundle is for one patient"));
        }
        if self.known.patient_hidden {
            return Err(one_issue(resource.place.clone(), HIDDEN_PATIENT));
        }
        let Some(patient) = &self.known.patient else { return Ok(None) };
        // The account has its Patient: this must be the same one, or at least the same person, told by an identifier.
        if resource.digest.is_some() && resource.digest == self.known.patient_received {
            return Ok(Some(patient.clone()));
        }
        if resource.identifiers.iter().any(|identifier| self.is_known_patient(identifier)) {
            let wrong = Wrong { fault: Fault::Stays, message: STAYS.to_owned() };
            Err(vec![wrong.at(&resource.place)])
        } else {
            let place = format!("{}.identifier", resource.place);
            Err(one_issue(place, "the account has another Patient already"))
        }
    }

    /// The one record that meets a condition, of those that were there or of this bundle.
    fn meeting(&self, criteria: &Criteria) -> Result<Option<RecordId>, Wrong> {
        let several =
            || Wrong { fault: Fault::Several, message: "several records meet this condition".to_owned() };
        if self.known.crowded.contains(criteria) {
            return Err(several());
        }
        let known = self.known.matches.get(criteria).into_iter().flatten();
        let mut known = known.filter(|id| !self.removed.contains(*id)).peekable();
        match known.peek() {
            Some(_) => one_of(known),
            None => {
                let here = criteria
                    .any
                    .iter()
                    .filter_map(|sought| self.identified.get(&(criteria.kind.clone(), sought.clone())));
                one_of(self.conditions.get(criteria).into_iter().chain(here.flatten()))
            }
        }
        .map_err(|_several| several())
    }
}

/// There are different ones among what should be one.
struct Several;

/// The one record among some. No more of them are looked at than tell that there are two.
fn one_of<'r>(mut records: impl Iterator<Item = &'r RecordId>) -> Result<Option<RecordId>, Several> {
    let Some(first) = records.next() else { return Ok(None) };
    if records.any(|record| record != first) { Err(Several) } else { Ok(Some(first.clone())) }
}

/// Whether a reference means the same whenever it is read.
const fn stays(target: &Target) -> bool {
    matches!(target, Target::Own { .. } | Target::Fragment(_) | Target::Foreign { .. })
}

const ANOTHER_PATIENT: &str = "is another patient than the account this is for";
const STAYS: &str = "the account has this Patient already, with other content: nothing was changed";
const HIDDEN_PATIENT: &str =
    "is not compared for a caller who may not read it: name the account's Patient as `Patient/pat-…`";
/// What is told who may read a record and changes what another wrote.
pub const NOT_YOURS: &str = "is changed by who wrote it, and deleted by them or by the patient: a correction is a record of its own beside it";
