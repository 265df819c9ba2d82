//! The write path: from drafts to records that are encrypted, pinned and committed, their anchor on its way.
//!
//! intent row → data keys (the decision) → encryption → spool, fsynced → pin → one transaction → answer. A crash at any
//! point leaves either nothing that counts, which a job cleans up, or everything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use futures_util::future::try_join_all;
use hbc_app::jobs::{cancel, enqueue};
use hbc_client::ClientError;
use hbc_db::Tx;
use hbc_types::ids::{AccountId, IntentId, RecordId};
use hbc_types::keys::Tag;
use hbc_types::labels::Sensitivity;
use hbc_types::saved::SavedAnswer;
use hbc_types::secret::Bytes as PublicBytes;
use hbc_types::wire::access::{DataKey, DataKeyItem, DataKeys, DataKeysRequest, TagKey};
use hbc_types::{Digest, Timestamp};

use crate::app::{App, blocking};
use crate::domain::anchoring::later;
use crate::domain::author::Author;
use crate::domain::bundle::Draft;
use crate::domain::criteria::Criteria;
use crate::domain::days::Days;
use crate::domain::index::{self, RowSecret};
use crate::domain::readable::Readable;
use crate::domain::resource::DOCUMENT;
use crate::domain::segment::{EncryptedRecord, Segment, tag};
use crate::domain::{encryption, plaintext, quota};
use crate::error::Error;
use crate::flows::indexing;
use crate::jobs::{Abort, AnchorWaiting, anchor_next};
use crate::store::{self, Commit, NewRecord, NewSegment, RecordRow, intents, pool, written};

/// What is to be written, and for whom.
#[derive(Debug)]
pub struct Upload {
    /// Who writes, for whom and why.
    pub author: Author,
    /// What the author may read: where that is not everything of a label set, a condition is the author's own.
    pub readable: Readable,
    /// The request's body.
    pub body: Bytes,
    /// The records in it.
    pub drafts: Vec<Draft>,
    /// When it came.
    pub now: Timestamp,
}

/// A record that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The record.
    pub id: RecordId,
    /// Its version.
    pub version: u32,
    /// Whether this version says that it is deleted.
    pub deleted: bool,
    /// FHIR type, or `Document`.
    pub kind: String,
    /// The IPFS object.
    pub cid: String,
    /// Its commitment.
    pub commitment: Digest,
}

/// One segment under construction.
struct Part {
    sensitivity: Sensitivity,
    /// Indices of its records among the drafts.
    drafts: Vec<usize>,
    records: Vec<EncryptedRecord>,
    segment: Segment,
}

/// Writes an upload. `answer` makes the answer to be saved in the same transaction.
pub async fn write(
    app: &App,
    upload: Upload,
    answer: impl FnOnce(&[Stored]) -> Option<SavedAnswer>,
) -> Result<Vec<Stored>, Error> {
    let intent = IntentId::random(&app.random);
    let working = app.under_way.begin(&intent);
    begin(app, &intent, &upload).await?;
    let outcome = write_under(app, &intent, upload, answer).await;
    drop(working);
    if outcome.is_err() {
        give_up(app, &intent).await;
    }
    outcome
}

/// With the intent its end is owed: unless it is committed in time, it is aborted. What surely does not fit does not begin.
async fn begin(app: &App, intent: &IntentId, upload: &Upload) -> Result<(), Error> {
    let bytes = upload.drafts.iter().map(|draft| draft.received.len() as u64).sum::<u64>();
    let spool = app.spool.clone();
    if blocking(move || spool.free().map_err(Error::Spool)).await? < app.room.free_bytes.saturating_add(bytes)
    {
        return Err(Error::NoRoom);
    }
    let (intent, author, now) = (intent.clone(), upload.author.caller.clone(), app.clock.now());
    let late = now.plus(Duration::from_secs(app.reconcile.intent_seconds));
    let (token, room) = (app.index.author(&author), app.room.clone());
    app.db
        .write(move |tx| {
            Box::pin(async move {
                let written = written::of(tx, &token, quota::day(now)).await?;
                quota::check(&room, &author, written.and(bytes), now)?;
                intents::begin(tx, &intent, now).await?;
                Ok::<_, Error>(enqueue::<Abort>(tx, &intent, late).await?)
            })
        })
        .await
}

/// An upload failed: a job takes back its pins and voids its numbers. Even a plain refusal is voided, since an earlier
/// attempt of the same call may have been granted.
async fn give_up(app: &App, intent: &IntentId) {
    let (intent, now) = (intent.clone(), app.clock.now());
    let given_up = app.db.write(move |tx| {
        Box::pin(async move {
            intents::kill(tx, &intent).await?;
            enqueue::<Abort>(tx, &intent, now).await
        })
    });
    if let Err(error) = given_up.await {
        // The intent stays open; the job finds it when it is old enough.
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "A failed upload could not be marked dead yet"
        );
    }
}

async fn write_under(
    app: &App,
    intent: &IntentId,
    upload: Upload,
    answer: impl FnOnce(&[Stored]) -> Option<SavedAnswer>,
) -> Result<Vec<Stored>, Error> {
    let keys = data_keys(app, intent, &upload).await?;
    let upload = Arc::new(upload);
    let (keys, parts) = {
        let (app, upload, intent) = (app.clone(), Arc::clone(&upload), intent.clone());
        blocking(move || encrypt_and_spool(&app, &upload, &intent, keys)).await?
    };
    let cids = try_join_all(parts.iter().map(|part| app.blobs.put(part.segment.bytes.clone()))).await?;
    let (commit, stored) = {
        let (app, upload, intent) = (app.clone(), Arc::clone(&upload), intent.clone());
        let cids = cids.clone();
        blocking(move || assemble(&app, &upload, &intent, &keys, &parts, &cids)).await?
    };
    match commit_upload(app, Arc::new(commit), upload.author.caller.clone(), answer(&stored)).await {
        Err(Error::IntentDead) => {
            // The job may have taken the pins away before they were made.
            try_join_all(cids.iter().map(|cid| app.blobs.unpin(*cid))).await?;
            return Err(Error::IntentDead);
        }
        outcome => outcome?,
    }
    app.finality.wake();
    Ok(stored)
}

/// The one transaction; what was owed in case it never came is owed no more. What may be anchored at once is; for what
/// waits, a job comes.
async fn commit_upload(
    app: &App,
    upload: Arc<Commit>,
    author: AccountId,
    saved: Option<SavedAnswer>,
) -> Result<(), Error> {
    let this = app.clone();
    app.db
        .write(move |tx| {
            Box::pin(async move {
                let (intent, now) = (&upload.intent, upload.now);
                store::commit(tx, &upload).await?;
                charge(&this, tx, &upload, &author).await?;
                anchor_next(&this, tx, Some(intent), now).await?;
                if let Some(due) = pool::next_due(tx, intent).await? {
                    enqueue::<AnchorWaiting>(tx, intent, due).await?;
                }
                if let Some(saved) = &saved {
                    let kept = this.index.hide_answer(saved, &this.random);
                    let kept = kept.map_err(|_never| Error::Fault("an answer could not be encrypted"))?;
                    hbc_db::idempotency::save(tx, &kept).await?;
                }
                Ok::<_, Error>(cancel::<Abort>(tx, intent).await?)
            })
        })
        .await
}

/// Many uploads may have begun at once: here they are counted one after the other.
async fn charge(app: &App, tx: &mut Tx, upload: &Commit, author: &AccountId) -> Result<(), Error> {
    let bytes = upload.segments.iter().map(|segment| segment.bytes).sum();
    let written = written::add(tx, &app.index.author(author), quota::day(upload.now), bytes).await?;
    Ok(quota::check(&app.room, author, written, upload.now)?)
}

async fn data_keys(app: &App, intent: &IntentId, upload: &Upload) -> Result<DataKeys, Error> {
    let items = upload.drafts.iter().map(|draft| DataKeyItem {
        record: draft.id.clone(),
        version: draft.version,
        labels: draft.labels,
    });
    let request = DataKeysRequest {
        intent: intent.clone(),
        patient: upload.author.account.clone(),
        purpose: upload.author.purpose,
        items: items.collect(),
    };
    let keys = app.policy.data_keys(&upload.author.token, &request).await?;
    if keys.keys.len() == upload.drafts.len() {
        Ok(keys)
    } else {
        Err(ClientError::BadAnswer("another number of keys than asked for".to_owned()).into())
    }
}

/// Encrypts every record under its key, concatenates the sensitivities' segments and writes them to the spool.
fn encrypt_and_spool(
    app: &App,
    upload: &Upload,
    intent: &IntentId,
    keys: DataKeys,
) -> Result<(DataKeys, Vec<Part>), Error> {
    let mut groups: BTreeMap<Sensitivity, Vec<usize>> = BTreeMap::new();
    for (index, draft) in upload.drafts.iter().enumerate() {
        groups.entry(draft.labels.sensitivity).or_default().push(index);
    }
    let mut parts = Vec::with_capacity(groups.len());
    for (sensitivity, drafts) in groups {
        let mut records = Vec::with_capacity(drafts.len());
        for index in &drafts {
            let (Some(draft), Some(key)) = (upload.drafts.get(*index), keys.keys.get(*index)) else {
                return Err(Error::Fault("a draft without a key"));
            };
            records.push(encrypt_record(app, upload, draft, key)?);
        }
        let segment = Segment::of(&mut records);
        parts.push(Part { sensitivity, drafts, records, segment });
    }
    // As the anchor names them: by their roots, which tell nothing.
    parts.sort_unstable_by_key(|part| part.segment.root);
    app.spool.write(intent, parts.iter().map(|part| part.segment.bytes.as_ref())).map_err(Error::Spool)?;
    Ok((keys, parts))
}

fn encrypt_record(
    app: &App,
    upload: &Upload,
    draft: &Draft,
    key: &DataKey,
) -> Result<EncryptedRecord, Error> {
    let received = upload.body.get(draft.received.clone()).ok_or(Error::Fault("a draft outside the body"))?;
    let context = encryption::Context {
        record: &draft.id,
        version: draft.version,
        patient: &upload.author.account,
        labels: draft.labels,
        n: key.n,
    };
    let plaintext = plaintext::encode(&draft.overlay, received);
    let encrypted = encryption::encrypt(&key.dek, context, &plaintext, &app.random)
        .map_err(|_never| Error::Fault("a record could not be encrypted"))?;
    Ok(EncryptedRecord {
        id: draft.id.clone(),
        version: draft.version,
        salt: app.random.bytes(),
        received: Digest::of(received),
        encrypted,
    })
}

/// The rows and the anchor of an upload whose segments are pinned.
fn assemble(
    app: &App,
    upload: &Upload,
    intent: &IntentId,
    keys: &DataKeys,
    parts: &[Part],
    cids: &[Cid],
) -> Result<(Commit, Vec<Stored>), Error> {
    let mut segments = Vec::with_capacity(parts.len());
    for (part, cid) in parts.iter().zip(cids) {
        let tag = tag(tag_key(keys, part)?, &part.segment.root);
        let (day0, day1) = days(upload, part)?.rounded().numbers();
        let delayed = part.sensitivity.is_sensitive();
        let longest = Duration::from_secs(app.anchors.sensitive_wait_seconds);
        segments.push(NewSegment {
            cid: cid.to_string(),
            digest: part.segment.digest,
            bytes: part.segment.bytes.len() as u64,
            records: part.drafts.len() as u64,
            root: part.segment.root,
            tag: Tag::from_bytes(tag),
            day0,
            day1,
            due_at: if delayed { later(upload.now, longest, &app.random) } else { upload.now },
            delayed,
        });
    }
    let mut records: Vec<Option<NewRecord>> = upload.drafts.iter().map(|_draft| None).collect();
    for (part, cid) in parts.iter().zip(cids) {
        for (position, index) in part.drafts.iter().enumerate() {
            let (Some(draft), Some(key), Some(slot)) =
                (upload.drafts.get(*index), keys.keys.get(*index), records.get_mut(*index))
            else {
                return Err(Error::Fault("a draft without a key"));
            };
            *slot = Some(row(app, upload, draft, key, part, position, &cid.to_string())?);
        }
    }
    let records: Vec<NewRecord> = records.into_iter().flatten().collect();
    let stored = records.iter().map(|NewRecord { row, .. }| Stored {
        id: row.id.clone(),
        version: row.version,
        deleted: row.deleted != 0,
        kind: row.kind.clone(),
        cid: row.cid.clone(),
        commitment: row.commitment,
    });
    let stored = stored.collect();
    let mut first = upload.drafts.iter().filter(|draft| draft.version == 1);
    let subject = first.find(|draft| draft.kind == "Patient").map(|draft| draft.id.clone());
    let commit = Commit {
        intent: intent.clone(),
        now: upload.now,
        patient: app.index.patient(&upload.author.account),
        segments,
        records,
        subject,
    };
    Ok((commit, stored))
}

/// What a draft says to searches, encrypted; nothing of a document.
fn facts(app: &App, upload: &Upload, draft: &Draft) -> Result<Option<Vec<u8>>, Error> {
    if draft.kind == DOCUMENT {
        return Ok(None);
    }
    let received = upload.body.get(draft.received.clone()).ok_or(Error::Fault("a draft outside the body"))?;
    let applied =
        draft.overlay.apply(received).map_err(|_never| Error::Fault("an overlay outside the draft"))?;
    indexing::facts(app, &draft.id, draft.version, &draft.kind, &applied).map(Some)
}

/// The tag key of a segment: that of its sensitivity, in the epoch of its records' keys.
fn tag_key<'k>(keys: &'k DataKeys, part: &Part) -> Result<&'k hbc_types::secret::Key32, Error> {
    let epoch = part.drafts.first().and_then(|index| keys.keys.get(*index)).map(|key| key.kek_epoch);
    let of = |key: &&TagKey| key.sensitivity == part.sensitivity && Some(key.kek_epoch) == epoch;
    let found = keys.tag_keys.iter().find(of);
    let missing = || ClientError::BadAnswer("a sensitivity without a tag key".to_owned());
    Ok(found.map(|key| &key.key).ok_or_else(missing)?)
}

/// The clinical days of a segment's records; today, where none says any.
fn days(upload: &Upload, part: &Part) -> Result<Days, Error> {
    let drafts = part.drafts.iter().filter_map(|index| upload.drafts.get(*index));
    let clinical = drafts.filter_map(|draft| draft.days).reduce(Days::and);
    clinical.or_else(|| Days::parse(&upload.now.to_string())).ok_or(Error::Fault("no day"))
}

fn row(
    app: &App,
    upload: &Upload,
    draft: &Draft,
    key: &DataKey,
    part: &Part,
    position: usize,
    cid: &str,
) -> Result<NewRecord, Error> {
    let (Some(place), Some(record)) = (part.segment.places.get(position), part.records.get(position)) else {
        return Err(Error::Fault("a record without a place"));
    };
    let (date0, date1) = draft.days.map(|days| days.indexed(draft.when)).unzip();
    let position = u32::try_from(position).map_err(|_range| Error::Fault("too many records"))?;
    let secret = RowSecret {
        patient: upload.author.account.clone(),
        sensitivity: draft.labels.sensitivity,
        author: upload.author.caller.clone(),
        salt: PublicBytes::from(record.salt.as_slice()),
        received: record.received,
        encrypted: place.encrypted,
        bytes: draft.received.len() as u64,
        media_type: draft.media_type.clone(),
        when: draft.when,
        deleted: draft.deleted,
    };
    let account = &upload.author.account;
    let mut row = RecordRow {
        id: draft.id.clone(),
        version: draft.version,
        kind: draft.kind.clone(),
        category: draft.labels.category,
        date0,
        date1,
        n: key.n,
        kek_epoch: key.kek_epoch,
        wrapped: key.wrapped.as_slice().to_vec(),
        cid: cid.to_owned(),
        position,
        offset: place.offset,
        length: place.length,
        commitment: place.commitment,
        created_at: upload.now,
        patient: app.index.patient(account),
        sensitivity: app.index.sensitivity(account, draft.labels.sensitivity),
        index_version: index::VERSION,
        deleted: u32::from(draft.deleted),
        encrypted: Vec::new(),
        facts: facts(app, upload, draft)?,
    };
    row.encrypted = app
        .index
        .encrypt_row(&row.bound(), &secret, &app.random)
        .map_err(|_never| Error::Fault("a row could not be encrypted"))?;
    let mut tokens = app.index.search(account, &draft.kind, &draft.identifiers, &draft.codes);
    let of = |criteria: &Criteria, text: &str, shared: bool| {
        let author = Some(&upload.author.caller).filter(|_| !shared);
        app.index.condition(account, &criteria.kind, criteria.unique(text), draft.labels, author)
    };
    let condition = draft.condition.as_ref().map(|criteria| (criteria, criteria.text()));
    let created = condition.as_ref().filter(|_| draft.version == 1);
    if let Some((criteria, text)) = created.filter(|(criteria, _)| criteria.identifier().is_none()) {
        tokens.push(app.index.criteria(account, &criteria.kind, text));
    }
    let shared = account.is_directory() || upload.readable.covers_all(draft.labels);
    let condition_token = created.map(|(criteria, text)| of(criteria, text, shared));
    let mut meets = Vec::new();
    if draft.version > 1 {
        let identified = draft.identifiers.iter().map(|found| Criteria::identified(&draft.kind, found));
        for criteria in identified.chain(draft.condition.clone()) {
            let text = criteria.text();
            meets.extend([true, false].map(|shared| of(&criteria, &text, shared)));
        }
    }
    Ok(NewRecord { row, tokens, condition: condition_token, meets })
}
