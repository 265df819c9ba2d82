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
use hbc_types::Digest;
use hbc_types::hash::{self, RecordFacts};
use hbc_types::ids::{AccountId, PatientId, RecordId};
use hbc_types::purpose::{Action, Purpose};
use hbc_types::secret::{Bytes as PublicBytes, Key32, SecretText};
use hbc_types::wire::access::{DecisionAnswer, DecisionRequest, Labels, UnwrapItem, UnwrapRequest};

use crate::app::{App, blocking};
use crate::domain::index::Token;
use crate::domain::overlay::Overlay;
use crate::domain::readable::{Readable, every_sensitivity};
use crate::domain::resource::{is_json, mended};
use crate::domain::{encryption, plaintext};
use crate::error::Error;
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
    /// The form that `/fhir` serves: always JSON, whatever was once taken.
    pub fn applied(&self) -> Result<Vec<u8>, Error> {
        let row = &self.trusted.row;
        let applied = self.overlay.apply(&self.received).ok().filter(|applied| is_json(applied));
        applied
            .or_else(|| mended(&self.received, &self.overlay, &row.id, row.version, row.created_at))
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
    /// The rows that the reader may see.
    pub rows: Vec<TrustedRow>,
    /// Whether there may be more.
    pub more: bool,
    /// Categories that were asked for and that the reader may see nothing of.
    pub left_out: Vec<Category>,
}

/// A page of the rows that the reader may see. What is asked of access-policy follows from the filter alone, and the chart
/// is looked at only after the answer: refusals and what is left out are the same for every patient.
pub async fn list(
    app: &App,
    reader: &RecordReader,
    patient: &PatientId,
    filter: &Filter,
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
    let mut sets = Vec::new();
    for (category, token) in app.store.label_sets(&token).await? {
        let found = sensitivities.get(&token);
        let sensitivity = *found.ok_or_else(|| Error::integrity("a sensitivity", category.code()))?;
        if allowed.contains(&Labels { category, sensitivity }) {
            sets.push((category, token));
        }
    }
    let rows = app.store.list(&token, &sets, filter).await?;
    let more = rows.len() == filter.limit as usize;
    let mut shown = Vec::with_capacity(rows.len());
    for row in rows {
        let trusted = TrustedRow::open(&app.index, row)?;
        if trusted.secret.patient != *patient {
            return Err(Error::integrity("a record's owner", trusted.row.id.as_str()));
        }
        if readable.covers(trusted.labels(), trusted.row.created_at) {
            shown.push(trusted);
        }
    }
    Ok(Listing { rows: shown, more, left_out })
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
    Ok(OpenedAll { records: opened.await?, known: unwrapped.known, rule: unwrapped.rule })
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
