//! Creating FHIR resources and documents: read, ask for leave, look up, plan, write; again when a conflicting request was
//! first. Nothing of the account is looked at before access-policy gave leave.
//!
//! Why: decision 0112.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use hbc_service::idempotency::WriteConflict as _;
use hbc_types::Timestamp;
use hbc_types::classify;
use hbc_types::ids::{AccountId, PatientId, RecordId};
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::saved::SavedAnswer;
use hbc_types::scope::{Interaction, Scopes};
use hbc_types::wire::access::{AdmissionRequest, Labels};

use crate::app::{App, blocking};
use crate::domain::author::Author;
use crate::domain::bundle::{
    Aim, Asks, Bundle, Draft, Entry, Known, Outcome, Plan, Present, Setting, Which, check_form, only_creates,
    plan,
};
use crate::domain::criteria::Criteria;
use crate::domain::readable::{Readable, every_sensitivity};
use crate::domain::reference::Bases;
use crate::domain::resource::fhir_id;
use crate::error::Error;
use crate::flows::upload::{self, Stored, Upload};
use crate::store::{StoredRecord, TrustedRow};
use hbc_types::json::{self, Node};

/// How often an upload is planned anew because a conflicting request created one of its conditional records first.
const ATTEMPTS: usize = 5;

/// Records of one identifier that are looked at, at most. Where there are as many, several meet it.
const MOST_MET: u32 = 1_000;

/// What became of a request.
#[derive(Clone, Debug)]
pub struct Created {
    /// One per entry.
    pub outcomes: Vec<Outcome>,
    /// The records that were written, in the order that [`Outcome::Created`] counts.
    pub stored: Vec<Stored>,
    /// Of which account.
    pub account: PatientId,
    /// When.
    pub now: Timestamp,
    /// When those that existed were written, and in which version.
    pub existing: HashMap<RecordId, (Timestamp, u32)>,
    /// The applied form, where one resource was written.
    pub applied: Option<Bytes>,
}

/// What became of an entry's record.
#[derive(Clone, Copy, Debug)]
pub struct Found<'c> {
    /// Its type.
    pub kind: &'c str,
    /// The id that FHIR knows it by.
    pub id: &'c str,
    /// Its version.
    pub version: u32,
    /// Whether this request wrote it.
    pub new: bool,
    /// Whether it is deleted.
    pub deleted: bool,
    /// When this version was written.
    pub at: Timestamp,
}

impl Created {
    /// The record of an outcome.
    #[must_use]
    pub fn record<'a>(&'a self, outcome: &'a Outcome) -> Option<Found<'a>> {
        let found = |kind: &'a str, id: &'a RecordId, version| Found {
            kind,
            id: fhir_id(kind, id, &self.account),
            version,
            new: false,
            deleted: false,
            at: self.now,
        };
        match outcome {
            Outcome::Created(index) => {
                let stored = self.stored.get(*index)?;
                let written = found(&stored.kind, &stored.id, stored.version);
                Some(Found { new: true, deleted: stored.deleted, ..written })
            }
            Outcome::Existing { kind, id } => {
                // One that stands for another entry of this request is written now.
                let (at, version) = self.existing.get(id).copied().unwrap_or((self.now, 1));
                Some(Found { at, ..found(kind, id, version) })
            }
            Outcome::Gone | Outcome::Read | Outcome::Refused(_) => None,
        }
    }
}

/// Reads a bundle and validates its resources; a client's must be within its `scope`. References below `bases` are own ones.
pub async fn read_bundle(
    app: &App,
    body: Bytes,
    bases: Bases,
    scope: Option<Scopes>,
) -> Result<Bundle, Error> {
    let _turn = app.parsing.turn(None, body.len() as u64).await;
    blocking(move || {
        let node = json::parse(&body)?;
        if let Some(scope) = scope
            && !is_within(&node, &scope)
        {
            return Err(Error::InsufficientScope);
        }
        let bundle = Bundle::read(&body, &node, &bases)?;
        check_form(&bundle)?;
        Ok::<Bundle, Error>(bundle)
    })
    .await
}

/// Whether a bundle asks for nothing beyond a scope. One that asks for nothing is for who may create.
fn is_within(node: &Node<'_>, scope: &Scopes) -> bool {
    let reads = [Interaction::Read, Interaction::Search].into_iter().any(|some| scope.allow_somewhere(some));
    let is_empty = node.get("entry").map(Node::items).unwrap_or_default().is_empty();
    only_creates(node, |kind| scope.allow(kind, Interaction::Create), reads)
        && (!is_empty || scope.allow_somewhere(Interaction::Create))
}

/// Reads one resource, of the type that the path names.
pub async fn read_single(
    app: &App,
    body: Bytes,
    bases: Bases,
    kind: String,
    condition: Option<Criteria>,
) -> Result<Bundle, Error> {
    let _turn = app.parsing.turn(None, body.len() as u64).await;
    blocking(move || {
        let node = json::parse(&body)?;
        if node.get_text("resourceType") != Some(kind.as_str()) {
            return Err(Error::invalid("resourceType", format!("must be `{kind}`")));
        }
        if kind == "Bundle" && matches!(node.get_text("type"), Some("batch" | "transaction")) {
            return Err(Error::invalid("Bundle.type", "is worked on, not kept: send it to `/fhir`"));
        }
        let bundle = Bundle::single(&body, &node, condition, &bases)?;
        check_form(&bundle)?;
        Ok(bundle)
    })
    .await
}

/// Reads one resource that takes the place of what is there.
pub async fn read_update(app: &App, body: Bytes, bases: Bases, aim: Aim) -> Result<Bundle, Error> {
    let _turn = app.parsing.turn(None, body.len() as u64).await;
    blocking(move || {
        let node = json::parse(&body)?;
        if node.get_text("resourceType") != Some(aim.kind.as_str()) {
            return Err(Error::invalid("resourceType", format!("must be `{}`", aim.kind)));
        }
        let bundle = Bundle::update(&body, &node, aim, &bases)?;
        check_form(&bundle)?;
        Ok(bundle)
    })
    .await
}

/// What access-policy gave leave for.
#[derive(Clone, Debug)]
pub struct Leave {
    asks: Asks,
    readable: Readable,
}

impl Leave {
    /// Whether the author may read a record: the account's patient, or whom it was said for what a condition may meet.
    #[must_use]
    pub fn reads(&self, author: &Author, row: &TrustedRow) -> bool {
        author.caller == AccountId::Patient(row.secret.patient.clone())
            || self.readable.covers(row.labels(), row.row.created_at)
    }

    /// Of nothing: no entry is valid, so there is nothing to look up.
    fn is_empty(&self) -> bool {
        self.asks.writes.is_empty() && self.asks.meets.is_empty() && !self.asks.changes
    }
}

/// Asks for leave to create what a bundle holds.
pub async fn admit(app: &App, author: &Author, bundle: &Bundle) -> Result<Leave, Error> {
    let leave = Leave { asks: Asks::of(bundle), readable: Readable::default() };
    if leave.is_empty() { Ok(leave) } else { ask(app, author, leave.asks, false).await }
}

/// Asks for leave to create a document.
pub async fn admit_document(app: &App, author: &Author, labels: Labels) -> Result<(), Error> {
    let asks = Asks { writes: [labels].into(), ..Asks::default() };
    ask(app, author, asks, false).await.map(|_leave| ())
}

async fn ask(app: &App, author: &Author, asks: Asks, nothing_left: bool) -> Result<Leave, Error> {
    let reads = every_sensitivity(asks.looked_up.iter().copied());
    let request = AdmissionRequest {
        patient: author.account.clone(),
        purpose: author.purpose,
        writes: asks.writes.iter().copied().collect(),
        meets: asks.meets.iter().copied().collect(),
        reads,
        nothing_left,
    };
    let admission = app.policy.admit(&author.token, &request).await?;
    Ok(Leave { readable: Readable::of(&request.reads, admission.readable), asks })
}

/// Creates what a bundle asks for, after [`admit`]. `save` makes the answer to be kept under the request's
/// `Idempotency-Key`.
pub async fn create(
    app: &App,
    author: &Author,
    body: &Bytes,
    bundle: Bundle,
    leave: Leave,
    save: impl Fn(&Created) -> Option<SavedAnswer>,
) -> Result<Created, Error> {
    let bundle = Arc::new(bundle);
    let mut attempt = 1;
    loop {
        let now = app.clock.now();
        let known = if leave.is_empty() {
            Known::default()
        } else {
            look_up(app, author, &bundle, &leave.readable).await?
        };
        let planned = {
            let (bundle, random) = (Arc::clone(&bundle), app.random.clone());
            let by_operator = matches!(author.caller, AccountId::Operator(_));
            let setting = Setting { account: author.account.clone(), by_operator, now };
            blocking(move || plan(&bundle, &known, &setting, || RecordId::random(&random))).await
        };
        if !leave.is_empty() && planned.as_ref().map_or(true, |plan| plan.drafts.is_empty()) {
            // Something was looked up and nothing will be written: no data keys leave a receipt of it.
            ask(app, author, leave.asks.clone(), true).await?;
        }
        let Plan { drafts, outcomes } = planned?;
        let applied = match (outcomes.as_slice(), drafts.last()) {
            ([_], Some(written)) if !written.deleted => applied(body, written),
            _ => None,
        };
        let existing = written_before(app, &outcomes).await?;
        let created = |stored: &[Stored]| Created {
            outcomes: outcomes.clone(),
            stored: stored.to_vec(),
            account: author.account.clone(),
            now,
            existing: existing.clone(),
            applied: applied.clone(),
        };
        if drafts.is_empty() {
            return Ok(created(&[]));
        }
        let upload = Upload {
            author: author.clone(),
            readable: leave.readable.clone(),
            body: body.clone(),
            drafts,
            now,
        };
        let written = upload::write(app, upload, |stored| save(&created(stored))).await;
        match written {
            Err(error) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
            outcome => return Ok(created(&outcome?)),
        }
    }
}

/// When the records that outcomes found were written.
async fn written_before(
    app: &App,
    outcomes: &[Outcome],
) -> Result<HashMap<RecordId, (Timestamp, u32)>, Error> {
    let existing = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Existing { id, .. } => Some(id.clone()),
        Outcome::Created(_) | Outcome::Gone | Outcome::Read | Outcome::Refused(_) => None,
    });
    let mut ids: Vec<RecordId> = existing.collect();
    ids.sort();
    ids.dedup();
    let stored = app.store.records(&ids).await?;
    let written = |stored: StoredRecord| (stored.row.id, (stored.row.created_at, stored.row.version));
    Ok(stored.into_iter().map(written).collect())
}

fn applied(body: &Bytes, draft: &Draft) -> Option<Bytes> {
    draft.overlay.apply(body.get(draft.received.clone())?).ok().map(Bytes::from)
}

/// Writes a document, after [`admit_document`].
pub async fn write_document(
    app: &App,
    author: &Author,
    body: &Bytes,
    draft: Draft,
    now: Timestamp,
    save: impl FnOnce(&[Stored]) -> Option<SavedAnswer>,
) -> Result<Stored, Error> {
    let (body, drafts) = (body.clone(), vec![draft]);
    let upload = Upload { author: author.clone(), readable: Readable::default(), body, drafts, now };
    let stored = upload::write(app, upload, save).await?;
    stored.into_iter().next().ok_or(Error::Fault("an upload stored nothing"))
}

/// What the store knows of a bundle's conditions and references: in the account, as far as the author may read it or
/// wrote it, and for the directory's types there.
async fn look_up(app: &App, author: &Author, bundle: &Bundle, readable: &Readable) -> Result<Known, Error> {
    let (account, directory) = (&author.account, PatientId::directory());
    // The Patient first: its identifiers were committed together with it, so the look-up after this one finds them.
    let patient = match account.is_directory() {
        true => None,
        false => app.store.patient_record(&app.index.patient(account)).await?,
    };
    let aims = bundle.entries.iter().filter_map(Entry::aim);
    let changed: HashSet<&Criteria> = aims.filter_map(Aim::criteria).collect();
    let mut tokens: HashMap<String, Vec<(bool, &Criteria)>> = HashMap::new();
    for criteria in &bundle.criteria {
        let text = criteria.text();
        let mut look_in = |scope: &PatientId| {
            let sought = criteria.any.iter().map(|sought| app.index.sought(scope, &criteria.kind, sought));
            // What was created under the same condition meets it, whatever it says of itself.
            let same =
                criteria.identifier().is_none().then(|| app.index.criteria(scope, &criteria.kind, &text));
            for token in sought.chain(same) {
                tokens.entry(token).or_default().push((scope.is_directory(), criteria));
            }
        };
        look_in(account);
        // What is changed is of the account.
        if classify::type_category(&criteria.kind) == Some(Category::Directory) && !changed.contains(criteria)
        {
            look_in(&directory);
        }
    }
    let wanted: Vec<String> = tokens.keys().cloned().collect();
    let found = app.store.find_identified(&wanted, MOST_MET).await?;
    let of_account =
        |token: &String| tokens.get(token).into_iter().flatten().any(|(directory, _)| !directory);
    let met = found.iter().filter(|(token, _)| of_account(token)).flat_map(|(_, records)| records);
    let open = open_to(app, author, readable, met.chain(&patient).cloned().collect()).await?;
    let mut matches: HashMap<Criteria, Vec<RecordId>> = HashMap::new();
    let mut listed: HashMap<Criteria, Vec<RecordId>> = HashMap::new();
    let mut crowded: HashSet<Criteria> = HashSet::new();
    for (token, records) in found {
        let is_full = records.len() >= MOST_MET as usize;
        for (directory, criteria) in tokens.get(&token).into_iter().flatten() {
            let (of, records): (_, Vec<&RecordId>) = match directory {
                // They come oldest first.
                true if names_one(criteria) => (&mut listed, records.first().into_iter().collect()),
                true => (&mut listed, records.iter().collect()),
                false => (&mut matches, records.iter().filter(|record| open.contains(record)).collect()),
            };
            let known = of.entry((*criteria).clone()).or_default();
            known.extend(records.into_iter().cloned());
            known.sort();
            known.dedup();
            if is_full && !directory {
                crowded.insert((*criteria).clone());
            }
        }
    }
    for (criteria, records) in listed {
        // What the account has of its own comes first.
        let own = matches.entry(criteria).or_default();
        if own.is_empty() {
            *own = records;
        }
    }
    let normal = Labels { category: Category::Demographics, sensitivity: Sensitivity::Normal };
    let patient_hidden = !account.is_directory()
        && patient.as_ref().map_or(!readable.covers_all(normal), |patient| !open.contains(patient));
    let patient = patient.filter(|_| !patient_hidden);
    let sent = bundle.entries.iter().filter_map(Entry::resource).any(|resource| resource.kind == "Patient");
    let patient_received = match patient.as_ref().filter(|_| sent) {
        Some(patient) => app.store.record(patient, None).await?,
        None => None,
    };
    let patient_received = match patient_received {
        Some(stored) => Some(TrustedRow::open(&app.index, stored)?.secret.received),
        None => None,
    };
    let present = present(app, author, bundle, readable, (&matches, patient.as_ref())).await?;
    Ok(Known { matches, crowded, patient, patient_received, patient_hidden, present })
}

/// What entries change, by the names that they give it, as far as the author may know of it.
async fn present(
    app: &App,
    author: &Author,
    bundle: &Bundle,
    readable: &Readable,
    (matches, patient): (&HashMap<Criteria, Vec<RecordId>>, Option<&RecordId>),
) -> Result<HashMap<String, Present>, Error> {
    let mut named: Vec<(String, RecordId)> = Vec::new();
    for aim in bundle.entries.iter().filter_map(Entry::aim) {
        match &aim.which {
            Which::Id(id) if aim.kind == "Patient" && id == author.account.as_str() => {
                named.extend(patient.map(|record| (format!("Patient/{id}"), record.clone())));
            }
            Which::Id(id) => {
                named.extend(RecordId::parse(id).ok().map(|record| (format!("{}/{id}", aim.kind), record)));
            }
            Which::Meeting(criteria) => {
                let met = matches.get(criteria).into_iter().flatten();
                named.extend(met.map(|record| (format!("{}/{record}", aim.kind), record.clone())));
            }
        }
    }
    let mut present = HashMap::new();
    for (name, id) in named {
        let versions = app.store.versions(&id).await?;
        let versions = versions.into_iter().map(|stored| TrustedRow::open(&app.index, stored));
        let versions = versions.collect::<Result<Vec<_>, Error>>()?;
        if let Some(found) = present_of(author, readable, &versions, &name) {
            present.insert(name, found);
        }
    }
    Ok(present)
}

/// What of a record's versions, the newest first, an author may know: who changes it the newest one, others the newest that they
/// may read.
fn present_of(author: &Author, readable: &Readable, versions: &[TrustedRow], name: &str) -> Option<Present> {
    let (newest, oldest) = (versions.first()?, versions.last()?);
    let TrustedRow { row, secret, .. } = newest;
    if secret.patient != author.account || !name.starts_with(&format!("{}/", row.kind)) {
        return None;
    }
    let by_operator = author.account.is_directory() && matches!(author.caller, AccountId::Operator(_));
    let is_author = oldest.secret.author == author.caller;
    // Who deletes what another wrote does not become its author; nor does its author undo that.
    let own = by_operator || (is_author && secret.author == author.caller);
    let by_patient = author.caller == AccountId::Patient(author.account.clone());
    let deletable = own || by_patient || is_author;
    let known = match deletable {
        true => newest,
        false => versions.iter().find(|version| readable.covers(version.labels(), version.row.created_at))?,
    };
    Some(Present {
        id: known.row.id.clone(),
        version: known.row.version,
        labels: known.labels(),
        deleted: known.secret.deleted,
        received: known.secret.received,
        own,
        deletable,
        was_sensitive: versions.iter().any(|version| version.secret.sensitivity.is_sensitive()),
    })
}

/// Whether a condition names one thing: an identifier of a system. Whoever writes such a one into the directory a second time
/// does not make it ambiguous for everybody: the oldest counts. What else a condition may say is met by different things.
fn names_one(criteria: &Criteria) -> bool {
    criteria.identifier().is_some_and(|identifier| !identifier.system.is_empty())
}

/// Which of an account's records the author may read, or wrote.
async fn open_to(
    app: &App,
    author: &Author,
    readable: &Readable,
    mut records: Vec<RecordId>,
) -> Result<HashSet<RecordId>, Error> {
    if readable.is_everything() {
        return Ok(records.into_iter().collect());
    }
    records.sort();
    records.dedup();
    let mut open = HashSet::new();
    for stored in app.store.records(&records).await? {
        let trusted = TrustedRow::open(&app.index, stored)?;
        if trusted.secret.patient != author.account {
            return Err(Error::integrity("a record's owner", trusted.row.id.as_str()));
        }
        let (labels, created_at) = (trusted.labels(), trusted.row.created_at);
        if readable.covers(labels, created_at) || trusted.secret.author == author.caller {
            open.insert(trusted.row.id);
        }
    }
    Ok(open)
}
