//! The read path: nothing leaves before everything verified.
//!
//! row (its authentication tag binds every label) → access-policy (decision, receipt, keys) → bytes from IPFS → hash of
//! the slice → decryption (key, record, version, patient, labels, number) → layout → hash of the received bytes →
//! commitment.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use cid::Cid;
use futures_util::future::{join_all, try_join_all};
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
use crate::domain::index::Token;
use crate::domain::readable::{Readable, every_sensitivity};

use crate::domain::{encryption, plaintext};
use crate::error::Error;
use crate::flows::opened::Opened;
use crate::flows::reindex;
use crate::store::{Filter, LabelSet, StoredRecord, TrustedRow, Versions};
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

/// The newest version of a record that a reader may know of: where versions have different labels, not always the newest.
pub async fn newest_for(app: &App, reader: &RecordReader, newest: TrustedRow) -> Result<TrustedRow, Error> {
    if newest.row.version == 1 {
        return Ok(newest);
    }
    let versions = app.store.versions(&newest.row.id).await?;
    let versions = versions.into_iter().map(|row| TrustedRow::open(&app.index, row));
    let versions = versions.collect::<Result<Vec<_>, Error>>()?;
    let labels: HashSet<Labels> = versions.iter().map(TrustedRow::labels).collect();
    if labels.len() == 1 {
        return Ok(newest);
    }
    let answer = decide(app, reader, &newest.secret.patient, labels.into_iter().collect()).await?;
    let allowed: HashSet<Labels> = answer.allowed.iter().map(|allowed| allowed.labels).collect();
    versions.into_iter().find(|row| allowed.contains(&row.labels())).ok_or(Error::NotFound)
}

/// Decides whether a record may be known to a reader.
pub async fn decide_for(app: &App, reader: &RecordReader, row: &TrustedRow) -> Result<(), Error> {
    let answer = decide(app, reader, &row.secret.patient, vec![row.labels()]).await?;
    let before = answer.allowed.first().and_then(|allowed| allowed.created_before);
    // A record that came after the grant is as absent as one that does not exist.
    before.is_none_or(|before| row.row.created_at < before).then_some(()).ok_or(Error::NotFound)
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
    /// The rows that the reader may see.
    pub rows: Vec<TrustedRow>,
    /// The last of them, if there are more.
    pub next: Option<(Timestamp, String)>,
    /// Categories that were asked for and that the reader may see nothing of.
    pub left_out: Vec<Category>,
}

/// What a listing runs over: what a reader may read of some categories of a patient's.
#[derive(Clone, Debug)]
pub struct Range {
    /// Whose records.
    pub patient: PatientId,
    /// The account's token.
    pub token: Token,
    /// The label sets that there are and that may be read.
    pub sets: Vec<LabelSet>,
    /// What may be read.
    pub readable: Readable,
    /// Categories that were asked for and that the reader may see nothing of.
    pub left_out: Vec<Category>,
}

impl Range {
    /// Opens a row of the patient's.
    pub fn open(&self, app: &App, row: StoredRecord) -> Result<TrustedRow, Error> {
        let trusted = TrustedRow::open(&app.index, row)?;
        if trusted.secret.patient != self.patient {
            return Err(Error::integrity("a record's owner", trusted.row.id.as_str()));
        }
        Ok(trusted)
    }
}

/// Decides what a reader may read of some categories, and looks which label sets of them there are. What is asked of
/// access-policy follows from what is asked for alone, and the chart is looked at only after the answer: refusals and what is left
/// out are the same for every patient.
pub async fn range(
    app: &App,
    reader: &RecordReader,
    patient: &PatientId,
    categories: Vec<Category>,
) -> Result<Range, Error> {
    let asked = every_sensitivity(categories.iter().copied());
    let answer = decide(app, reader, patient, asked.clone()).await?;
    let readable = Readable::of(&asked, answer.allowed);
    let open: HashSet<Category> = readable.labels().map(|labels| labels.category).collect();
    let left_out = categories.into_iter().filter(|category| !open.contains(category)).collect();
    let token = app.index.patient(patient);
    let sensitivities: HashMap<Token, Sensitivity> =
        Sensitivity::ALL.iter().map(|found| (app.index.sensitivity(patient, *found), *found)).collect();
    let allowed: HashSet<Labels> = readable.labels().collect();
    let mut sets = Vec::new();
    for (category, set) in app.store.label_sets(&token).await? {
        let found = sensitivities.get(&set);
        let sensitivity = *found.ok_or_else(|| Error::integrity("a sensitivity", category.code()))?;
        let labels = Labels { category, sensitivity };
        if allowed.contains(&labels) {
            let before = readable.before(labels).unwrap_or(Timestamp::from_ms(i64::MAX));
            sets.push(LabelSet { category, sensitivity: set, before });
        }
    }
    Ok(Range { patient: patient.clone(), token, sets, readable, left_out })
}

/// A page of versions, and whether there are more.
#[derive(Debug)]
pub struct History {
    /// The versions, the newest first.
    pub rows: Vec<TrustedRow>,
    /// Whether older ones follow.
    pub more: bool,
    /// Categories of which the reader may see nothing.
    pub left_out: Vec<Category>,
}

/// Versions of some categories of a patient's records that the reader may see, the newest first.
pub async fn history(
    app: &App,
    reader: &RecordReader,
    patient: &PatientId,
    categories: Vec<Category>,
    versions: &Versions,
) -> Result<History, Error> {
    let range = range(app, reader, patient, categories).await?;
    // One more tells whether there is more.
    let asked = Versions { limit: versions.limit.saturating_add(1), ..versions.clone() };
    let found = app.store.history(&range.token, &range.sets, &asked).await?;
    let more = found.len() > versions.limit as usize;
    let kept = found.into_iter().take(versions.limit as usize);
    let rows = kept.map(|row| range.open(app, row)).collect::<Result<Vec<_>, Error>>()?;
    Ok(History { rows, more, left_out: range.left_out })
}

/// How many rows of a range a filter without dates means.
pub async fn count(app: &App, range: &Range, filter: &Filter) -> Result<u64, Error> {
    let (categories, mut total) = (filter.categories(), 0);
    for set in range.sets.iter().filter(|set| categories.contains(&set.category)) {
        total += app.store.count(&range.token, set, filter).await?;
    }
    Ok(total)
}

/// A page of the rows that the reader may see.
pub async fn list(
    app: &App,
    reader: &RecordReader,
    patient: &PatientId,
    filter: &Filter,
) -> Result<Listing, Error> {
    let range = range(app, reader, patient, filter.categories()).await?;
    let limit = filter.limit as usize;
    // One more tells whether there is more.
    let filter = Filter { limit: filter.limit.saturating_add(1), ..filter.clone() };
    let rows = app.store.list(&range.token, &range.sets, &filter).await?;
    let mut rows = rows.into_iter().map(|row| range.open(app, row)).collect::<Result<Vec<_>, _>>()?;
    rows.retain(|row| range.readable.covers(row.labels(), row.row.created_at));
    let more = rows.len() > limit;
    rows.truncate(limit);
    let last = rows.last().filter(|_| more);
    let next = last.map(|row| (row.row.created_at, row.row.id.as_str().to_owned()));
    Ok(Listing { rows, next, left_out: range.left_out })
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

/// Opens records of one patient. What the reader may not read is absent from the answer; and what is `spare` of that of which the
/// bytes are lost.
pub async fn open(
    app: &App,
    reader: &RecordReader,
    patient: &PatientId,
    rows: Vec<TrustedRow>,
    spare: impl Fn(&TrustedRow) -> bool,
) -> Result<OpenedAll, Error> {
    if rows.is_empty() {
        return Ok(OpenedAll { records: Vec::new(), known: true, rule: None });
    }
    let bytes = rows.iter().map(|row| row.row.length).sum::<u64>();
    if bytes > MAX_BYTES && rows.len() > 1 {
        return Err(Error::invalid("_count", "the records are too large to be read at once"));
    }
    let turn = app.opening.turn(Some(&reader.account), bytes).await;
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
    let version = unwrapped.consent_version;
    let records = match allowed.iter().any(|(row, _)| spare(row)) {
        true => decrypt_saved(app, allowed, version, spare).await?,
        false => decrypt_all(app, allowed, version).await?,
    };
    drop(turn);
    reindex::bring_up_to_date(app, &records).await;
    Ok(OpenedAll { records, known: unwrapped.known, rule: unwrapped.rule })
}

/// Fetches and opens rows, in their order.
async fn decrypt_all(
    app: &App,
    rows: Vec<(TrustedRow, Key32)>,
    consent_version: u64,
) -> Result<Vec<Opened>, Error> {
    let slices = fetch(app, &rows).await?;
    let opened = blocking(move || {
        let pairs = rows.into_iter().zip(slices);
        let opened = pairs.map(|((row, key), slice)| decrypt(row, &key, &slice, consent_version));
        opened.collect::<Result<Vec<_>, Error>>()
    });
    opened.await
}

/// As [`decrypt_all`]; if that cannot be done, without those that are `spare` and lost.
async fn decrypt_saved(
    app: &App,
    rows: Vec<(TrustedRow, Key32)>,
    consent_version: u64,
    spare: impl Fn(&TrustedRow) -> bool,
) -> Result<Vec<Opened>, Error> {
    match decrypt_all(app, rows.clone(), consent_version).await {
        Err(error) if error.is_loss() => {}
        outcome => return outcome,
    }
    let places: HashMap<RecordId, usize> =
        rows.iter().enumerate().map(|(place, (row, _))| (row.row.id.clone(), place)).collect();
    let (spared, needed): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(row, _)| spare(row));
    let mut opened = decrypt_all(app, needed, consent_version).await?;
    let each = spared.into_iter().map(|row| decrypt_all(app, vec![row], consent_version));
    for outcome in join_all(each).await {
        match outcome {
            Ok(found) => opened.extend(found),
            Err(error) if error.is_loss() => {
                tracing::error!(
                    alarm = "integrity",
                    error = &error as &dyn std::error::Error,
                    "A record is lost: a search that would look at it goes on without it"
                );
            }
            Err(error) => return Err(error),
        }
    }
    opened.sort_by_key(|opened| places.get(&opened.trusted.row.id).copied());
    Ok(opened)
}

/// Opens one record. Who may not read it is told so, or that there is nothing; a wrap that opens for nobody was moved
/// or changed.
pub async fn open_one(app: &App, reader: &RecordReader, row: TrustedRow) -> Result<Opened, Error> {
    let (patient, id) = (row.secret.patient.clone(), row.row.id.clone());
    if row.secret.deleted {
        // Who may read such records is told; who may not, as if it were there.
        decide_for(app, reader, &row).await?;
        return Err(Error::Deleted);
    }
    let opened = open(app, reader, &patient, vec![row], |_needed| false).await?;
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
