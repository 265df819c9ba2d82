//! The read path: nothing leaves before everything verified.
//!
//! row (its authentication tag binds every label) → access-policy (decision, receipt, keys) → bytes from IPFS → hash of
//! the slice → decryption (key, record, version, patient, labels, number) → layout → hash of the received bytes →
//! commitment.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use cid::Cid;
use futures_util::future::try_join_all;
use futures_util::stream::{self, Stream};
use hbc_chain::merkle;
use hbc_service::Problem;
use hbc_types::hash::{self, RecordFacts};
use hbc_types::ids::{AccountId, PatientId, RecordId};
use hbc_types::purpose::{Action, Purpose};
use hbc_types::secret::{Bytes as PublicBytes, Key32, SecretText};
use hbc_types::wire::access::{DecisionAnswer, DecisionRequest, Labels, UnwrapItem, UnwrapRequest};
use hbc_types::{Digest, Timestamp};

use crate::app::{App, blocking};
use crate::domain::days;
use crate::domain::index::Token;
use crate::domain::moment::Span;
use crate::domain::overlay::Overlay;
use crate::domain::readable::{Readable, every_sensitivity};
use crate::domain::resource::{fhir_id, is_json, mended};
use crate::domain::{encryption, plaintext};
use crate::error::Error;
use crate::flows::reindex;
use crate::store::{Filter, TrustedRow};
use hbc_types::labels::{Category, Sensitivity};

/// Records opened by one request at most, beside one alone: what fits in memory, and into an answer.
pub const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Who reads, and why.
#[derive(Clone, Debug)]
pub struct RecordReader {
    /// The account.
    pub account: AccountId,
    /// The caller's token.
    pub token: SecretText,
    /// Why.
    pub purpose: Purpose,
}

/// An opened record.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Its row.
    pub trusted: TrustedRow,
    /// What is laid over the received bytes.
    pub overlay: Overlay,
    /// The bytes as they were received.
    pub received: Bytes,
    /// The patient's consent version when the key was released.
    pub consent_version: u64,
}

impl Opened {
    /// When what it tells of happened, by what it says itself.
    #[must_use]
    pub fn when(&self) -> Option<Span> {
        days::span(&serde_json::from_slice(&self.received).ok()?)
    }

    /// The overlay, in which the account's Patient was called by its record once.
    fn in_one_name(&self) -> Overlay {
        let (row, patient) = (&self.trusted.row, &self.trusted.secret.patient);
        if patient.is_directory() {
            return self.overlay.clone();
        }
        let record = row.id.as_str();
        self.overlay.with_texts(|text| {
            let named = text.trim_matches('"').strip_prefix("Patient/");
            if let Some(id) = named.filter(|id| RecordId::parse(id).is_ok()) {
                return Some(text.replace(id, patient.as_str()));
            }
            (row.kind == "Patient" && text.contains(record)).then(|| text.replace(record, patient.as_str()))
        })
    }

    /// The form that `/fhir` serves: always JSON, whatever was once taken.
    pub fn applied(&self) -> Result<Vec<u8>, Error> {
        let (row, patient) = (&self.trusted.row, &self.trusted.secret.patient);
        let overlay = self.in_one_name();
        let applied = overlay.apply(&self.received).ok().filter(|applied| is_json(applied));
        let id = fhir_id(&row.kind, &row.id, patient);
        applied
            .or_else(|| mended(&self.received, &overlay, id, row.version, row.created_at))
            .ok_or_else(|| Error::integrity("an overlay", row.id.as_str()))
    }
}

/// A record's row, or 404.
pub async fn find(app: &App, id: &RecordId, version: Option<u32>) -> Result<TrustedRow, Error> {
    let row = app.store.record(id, version).await?.ok_or(Error::NotFound)?;
    TrustedRow::open(&app.index, row)
}

/// Asks whether labels may be read; both verdicts leave a receipt.
pub async fn decide(
    app: &App,
    reader: &RecordReader,
    patient: &PatientId,
    labels: Vec<Labels>,
) -> Result<DecisionAnswer, Error> {
    let request =
        DecisionRequest { patient: patient.clone(), purpose: reader.purpose, action: Action::Read, labels };
    let answer = app.policy.decide(&reader.token, &request).await?;
    if !answer.allowed.is_empty() {
        Ok(answer)
    } else if answer.known {
        Err(Error::Denied { rule: answer.rule })
    } else {
        Err(Error::NotFound)
    }
}

/// What is told who asks for something that is not there: first how the caller stands, as with what is there.
pub async fn absent(app: &App, reader: &RecordReader) -> Error {
    let public = Labels { category: Category::Directory, sensitivity: Sensitivity::Normal };
    match decide(app, reader, &PatientId::directory(), vec![public]).await {
        Ok(_in_good_standing) => Error::NotFound,
        Err(refused) => refused,
    }
}

/// A page of a listing.
#[derive(Debug)]
pub struct Listing {
    /// The rows that the reader may see. Of one that is indexed in an earlier way it is not known yet whether it was then
    /// when it was asked for.
    pub rows: Vec<TrustedRow>,
    /// The last row that was looked at, if there may be more.
    pub next: Option<(Timestamp, String)>,
    /// How many there are in all, if that was asked and is known.
    pub total: Option<u64>,
    /// Categories that were asked for and that the reader may see nothing of.
    pub left_out: Vec<Category>,
}

/// Rows that one search by date looks at, at most.
const MOST_CANDIDATES: usize = 1_000;

/// What a listing runs over.
struct Range<'r> {
    patient: &'r PatientId,
    token: Token,
    sets: Vec<(Category, Token)>,
    readable: Readable,
}

/// A page of the rows that the reader may see, and how many there are if they are `counted`. What is asked of access-policy
/// follows from the filter alone, and the chart is looked at only after the answer: refusals and what is left out are the same for
/// every patient. A filter of no rows counts alone.
pub async fn list(
    app: &App,
    reader: &RecordReader,
    patient: &PatientId,
    filter: &Filter,
    counted: bool,
) -> Result<Listing, Error> {
    let categories = filter.categories();
    let asked = every_sensitivity(categories.iter().copied());
    let answer = decide(app, reader, patient, asked.clone()).await?;
    let readable = Readable::of(&asked, answer.allowed);
    let open: HashSet<Category> = readable.labels().map(|labels| labels.category).collect();
    let left_out = categories.into_iter().filter(|category| !open.contains(category)).collect();
    let token = app.index.patient(patient);
    let sensitivities: HashMap<Token, Sensitivity> =
        Sensitivity::ALL.iter().map(|found| (app.index.sensitivity(patient, *found), *found)).collect();
    let allowed: HashSet<Labels> = readable.labels().collect();
    let (mut sets, mut total) = (Vec::new(), 0);
    for (category, set) in app.store.label_sets(&token).await? {
        let found = sensitivities.get(&set);
        let sensitivity = *found.ok_or_else(|| Error::integrity("a sensitivity", category.code()))?;
        let labels = Labels { category, sensitivity };
        if !allowed.contains(&labels) {
            continue;
        }
        if counted && filter.dates.is_empty() && filter.categories().contains(&category) {
            let before = readable.before(labels).unwrap_or(Timestamp::from_ms(i64::MAX));
            total += app.store.count(&token, (category, &set), before, filter).await?;
        }
        sets.push((category, set));
    }
    let range = Range { patient, token, sets, readable };
    let (rows, next) = page(app, &range, filter).await?;
    let total = match counted {
        false => None,
        true if filter.dates.is_empty() => Some(total),
        true => count_dated(app, &range, filter).await?,
    };
    Ok(Listing { rows, next, total, left_out })
}

/// The next rows of a range, looking at no more than a search may.
async fn page(
    app: &App,
    range: &Range<'_>,
    filter: &Filter,
) -> Result<(Vec<TrustedRow>, Option<(Timestamp, String)>), Error> {
    let (mut shown, mut looked_at) = (Vec::new(), 0);
    let limit = filter.limit as usize;
    // One more tells whether there is more.
    let mut filter = Filter { limit: filter.limit.saturating_add(1), ..filter.clone() };
    while shown.len() < limit && looked_at < MOST_CANDIDATES {
        let rows = app.store.list(&range.token, &range.sets, &filter).await?;
        let ended = rows.len() <= limit;
        looked_at += rows.len();
        let mut rows = rows.into_iter();
        for row in rows.by_ref() {
            let trusted = TrustedRow::open(&app.index, row)?;
            if trusted.secret.patient != *range.patient {
                return Err(Error::integrity("a record's owner", trusted.row.id.as_str()));
            }
            filter.after = Some((trusted.row.created_at, trusted.row.id.as_str().to_owned()));
            let then = trusted.is_outdated() || filter.dates.hold(trusted.secret.when);
            if then && range.readable.covers(trusted.labels(), trusted.row.created_at) {
                shown.push(trusted);
                if shown.len() == limit {
                    break;
                }
            }
        }
        if ended && rows.len() == 0 {
            return Ok((shown, None));
        }
    }
    Ok((shown, filter.after.filter(|_| limit > 0)))
}

/// How many rows happened when it is asked; nothing if that is too much to look at, or not known yet of one.
async fn count_dated(app: &App, range: &Range<'_>, filter: &Filter) -> Result<Option<u64>, Error> {
    let limit = u32::try_from(MOST_CANDIDATES).unwrap_or(u32::MAX);
    let filter = Filter { after: None, limit, ..filter.clone() };
    let (rows, next) = page(app, range, &filter).await?;
    let known = next.is_none() && !rows.iter().any(TrustedRow::is_outdated);
    Ok(known.then_some(rows.len() as u64))
}

/// What was opened, and what access-policy said.
#[derive(Debug)]
pub struct OpenedAll {
    /// The records that the reader may read, in the order asked for.
    pub records: Vec<Opened>,
    /// Whether the reader may know of the patient at all.
    pub known: bool,
    /// The rule of a denial.
    pub rule: Option<String>,
}

/// Opens records of one patient. What the reader may not read is absent from the answer.
pub async fn open(
    app: &App,
    reader: &RecordReader,
    patient: &PatientId,
    rows: Vec<TrustedRow>,
) -> Result<OpenedAll, Error> {
    if rows.is_empty() {
        return Ok(OpenedAll { records: Vec::new(), known: true, rule: None });
    }
    let bytes = rows.iter().map(|row| row.row.length).sum::<u64>();
    if bytes > MAX_BYTES && rows.len() > 1 {
        return Err(Error::invalid("_count", "the records are too large to be read at once"));
    }
    let _turn = app.opening.turn(Some(&reader.account), bytes).await;
    let items = rows.iter().map(|row| UnwrapItem {
        record: row.row.id.clone(),
        version: row.row.version,
        labels: row.labels(),
        n: row.row.n,
        created_at: row.row.created_at,
        wrapped: PublicBytes::from(row.row.wrapped.as_slice()),
        kek_epoch: row.row.kek_epoch,
    });
    let request = UnwrapRequest {
        patient: patient.clone(),
        purpose: reader.purpose,
        items: items.collect(),
        statement: false,
    };
    let unwrapped = app.policy.unwrap(&reader.token, &request).await?;
    let mut keys: HashMap<(RecordId, u32), Key32> =
        unwrapped.keys.into_iter().map(|key| ((key.record, key.version), key.dek)).collect();
    let mut allowed = Vec::with_capacity(keys.len());
    for row in rows {
        if let Some(key) = keys.remove(&(row.row.id.clone(), row.row.version)) {
            allowed.push((row, key));
        }
    }
    let slices = fetch(app, &allowed).await?;
    let version = unwrapped.consent_version;
    let opened = blocking(move || {
        let pairs = allowed.into_iter().zip(slices);
        pairs.map(|((row, key), slice)| decrypt(row, &key, &slice, version)).collect::<Result<_, Error>>()
    });
    let records: Vec<Opened> = opened.await?;
    reindex::bring_up_to_date(app, &records).await;
    Ok(OpenedAll { records, known: unwrapped.known, rule: unwrapped.rule })
}

/// Opens one record. Who may not read it is told so, or that there is nothing; a wrap that opens for nobody was moved
/// or changed.
pub async fn open_one(app: &App, reader: &RecordReader, row: TrustedRow) -> Result<Opened, Error> {
    let (patient, id) = (row.secret.patient.clone(), row.row.id.clone());
    let opened = open(app, reader, &patient, vec![row]).await?;
    match (opened.records.into_iter().next(), opened.known, opened.rule) {
        (Some(record), _, _) => Ok(record),
        (None, false, _) => Err(Error::NotFound),
        (None, true, Some(rule)) => Err(Error::Denied { rule }),
        (None, true, None) => Err(Error::integrity("a wrapped key", id.as_str())),
    }
}

/// Bytes of an opened record that leave between two looks at the patient's consent.
const STEP: usize = 1024 * 1024;

/// The bytes of an opened record, a MiB at a time. Before each further one it is asked whether anything about the
/// patient's consent changed, and if so, decided anew: a revocation stops a download that is under way.
pub fn stream(
    app: App,
    reader: RecordReader,
    opened: &Opened,
    bytes: Bytes,
) -> impl Stream<Item = Result<Bytes, Problem>> + use<> {
    let (row, version) = (opened.trusted.clone(), opened.consent_version);
    let state = (app, reader, row, version, bytes);
    stream::try_unfold((state, true), |((app, reader, row, version, mut rest), first)| async move {
        if rest.is_empty() {
            return Ok(None);
        }
        let version = if first { version } else { still_allowed(&app, &reader, &row, version).await? };
        let step = rest.split_to(rest.len().min(STEP));
        Ok(Some((step, ((app, reader, row, version, rest), false))))
    })
}

async fn still_allowed(
    app: &App,
    reader: &RecordReader,
    row: &TrustedRow,
    version: u64,
) -> Result<u64, Error> {
    let patient = &row.secret.patient;
    if patient.is_directory() {
        return Ok(version);
    }
    let now = app.policy.consent_version(patient).await?;
    if now != version {
        decide(app, reader, patient, vec![row.labels()]).await?;
    }
    Ok(now)
}

/// The encrypted slices of rows, in their order. Records that lie close together in one object are fetched as one
/// range.
async fn fetch(app: &App, rows: &[(TrustedRow, Key32)]) -> Result<Vec<Bytes>, Error> {
    let mut objects: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, (row, _)) in rows.iter().enumerate() {
        objects.entry(&row.row.cid).or_default().push(index);
    }
    let mut ranges: Vec<(&str, u64, u64, Vec<usize>)> = Vec::new();
    for (cid, mut indices) in objects {
        let of = |index: &usize| rows.get(*index).map_or((0, 0), |(row, _)| (row.row.offset, row.row.length));
        indices.sort_by_key(|index| of(index).0);
        for index in indices {
            let (offset, length) = of(&index);
            let end = offset.checked_add(length).ok_or_else(|| Error::integrity("a slice", cid))?;
            match ranges.last_mut() {
                // A gap of up to 64 KiB is cheaper read than asked around.
                Some((same, _, to, members)) if *same == cid && offset <= *to + 64 * 1024 => {
                    *to = (*to).max(end);
                    members.push(index);
                }
                _ => ranges.push((cid, offset, end, vec![index])),
            }
        }
    }
    let read = ranges.iter().map(|(cid, from, to, _)| async move {
        let parsed = Cid::try_from(*cid).map_err(|_cid| Error::integrity("a CID", *cid))?;
        Ok::<Bytes, Error>(app.blobs.read(parsed, *from, to - from).await?)
    });
    let parts = try_join_all(read).await?;
    let mut slices = vec![Bytes::new(); rows.len()];
    for ((cid, from, _, members), part) in ranges.iter().zip(parts) {
        for index in members {
            let (Some((row, _)), Some(slot)) = (rows.get(*index), slices.get_mut(*index)) else { continue };
            let start = usize::try_from(row.row.offset - from).unwrap_or(usize::MAX);
            let end = start.saturating_add(usize::try_from(row.row.length).unwrap_or(usize::MAX));
            if end > part.len() {
                return Err(Error::integrity("a slice", *cid));
            }
            *slot = part.slice(start..end);
        }
    }
    Ok(slices)
}

/// Checks and opens one encrypted slice.
fn decrypt(trusted: TrustedRow, key: &Key32, slice: &[u8], consent_version: u64) -> Result<Opened, Error> {
    let (row, secret) = (&trusted.row, &trusted.secret);
    let wrong = |what| Error::integrity(what, row.id.as_str());
    let encrypted = merkle::slice_digest(slice);
    if encrypted != secret.encrypted {
        return Err(wrong("an encrypted record"));
    }
    let context = encryption::Context {
        record: &row.id,
        version: row.version,
        patient: &secret.patient,
        labels: trusted.labels(),
        n: row.n,
    };
    let plain = encryption::open(key, context, slice)
        .map_err(|_encryption| wrong("a record's authentication tag"))?;
    let decoded = plaintext::decode(&plain).map_err(|_layout| wrong("a record's layout"))?;
    let received = Digest::of(decoded.received);
    let facts = RecordFacts {
        id: row.id.as_str(),
        version: row.version,
        received,
        encrypted,
        offset: row.offset,
        length: row.length,
    };
    if received != secret.received || hash::record(&trusted.salt()?, &facts) != row.commitment {
        return Err(wrong("a record's commitment"));
    }
    let received = Bytes::copy_from_slice(decoded.received);
    Ok(Opened { overlay: decoded.overlay, received, consent_version, trusted })
}
