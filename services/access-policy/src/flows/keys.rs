//! Data keys for writers, keys for readers, and what becomes of the numbers. Decision, receipt and numbers are one durable
//! transaction; a key leaves this module only after it committed.
//!
//! Why: decision 0050.

use std::collections::{BTreeMap, BTreeSet};

use hbc_chain::numbers::NumbersClaims;
use hbc_db::Tx;
use hbc_types::hash::domain_hash;
use hbc_types::ids::{GrantId, IntentId, PatientId, ReceiptId};
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::purpose::Action;
use hbc_types::wire::access::{
    AccessKind, AnchoredRequest, DataKey, DataKeys, DataKeysRequest, Labels, NumberSet, NumbersStatement,
    ReceiptRecord, ReleasedKey, TagKey, UnwrapItem, UnwrapRequest, Unwrapped, VoidRequest,
};
use hbc_types::{Digest, Timestamp};

use crate::app::{App, Who};
use crate::domain::decision::Verdict;
use crate::domain::keys::{Kek, KekId, RecordSlot, Seed, UnwrapError};
use crate::domain::numbers::{NumberRange, RangeState, assign, by_set, count_by_set, settle};
use crate::domain::receipts::Occurrence;
use crate::domain::rights::Pin;
use crate::error::Error;
use crate::flows::decide::{
    Asked, Frame, Outcome, ask, common_rule, denial, receipt, refuse, verdicts, with_receipts,
};
use crate::store;
use crate::store::keys::{Intent, IntentState};

/// Items in one request at most.
const MOST_ITEMS: usize = 10_000;

fn check_count(count: usize) -> Result<(), Error> {
    match count {
        0 => Err(Error::invalid("items", "at least one is needed")),
        count if count > MOST_ITEMS => Err(Error::invalid("items", "at most 10,000")),
        _ => Ok(()),
    }
}

/// Opens the KEK with this id; none if it was never made.
async fn open_kek(app: &App, tx: &mut Tx, pin: &Pin, id: &KekId) -> Result<Option<Kek>, Error> {
    let Some(wrapped) = store::keys::kek(tx, id).await? else { return Ok(None) };
    Ok(Some(app.master.open_kek(id, &pin.root_fingerprint, &wrapped)?))
}

/// The KEK for new keys of a sensitivity: the one of the present epoch, made if need be. Before a new one is made the
/// patient's first must open, which it does only under the root that was pinned together with it.
async fn kek_for_writing(
    app: &App,
    tx: &mut Tx,
    pin: &Pin,
    sensitivity: Sensitivity,
    now: Timestamp,
) -> Result<Kek, Error> {
    let id = KekId { patient: pin.patient.clone(), sensitivity, epoch: pin.kek_epoch };
    if let Some(kek) = open_kek(app, tx, pin, &id).await? {
        return Ok(kek);
    }
    let first = KekId { sensitivity: Sensitivity::Normal, epoch: 1, ..id.clone() };
    open_kek(app, tx, pin, &first).await?.ok_or(Error::Key(UnwrapError))?;
    let (kek, wrapped) = app.master.new_kek(&id, &pin.root_fingerprint, &app.random);
    store::keys::insert_kek(tx, &id, &wrapped, now).await?;
    Ok(kek)
}

// ---- writing ----

/// What a committed intent gives: from it the keys are computed outside the transaction.
struct Written {
    seed: Seed,
    keks: BTreeMap<Sensitivity, Kek>,
    numbers: Vec<u64>,
    epoch: u32,
    receipt: Option<ReceiptId>,
}

/// `POST /internal/v1/keys/data-keys`.
pub async fn data_keys(app: &App, who: Who, request: DataKeysRequest) -> Result<DataKeys, Error> {
    check_count(request.items.len())?;
    if request.items.iter().any(|item| item.version == 0) {
        return Err(Error::invalid("items", "versions begin at 1"));
    }
    let text = serde_json::to_vec(&request).map_err(|error| Error::invalid("items", error.to_string()))?;
    let fingerprint = domain_hash("hbc/data-keys-request/v1", &[&text]);
    let (this, caller, now) = (app.clone(), who.clone(), app.clock.now());
    let (patient, purpose) = (request.patient.clone(), request.purpose);
    let asked = std::sync::Arc::new(request);
    let request = std::sync::Arc::clone(&asked);
    let written = with_receipts(app, &who, (&patient, purpose), move |tx| {
        Box::pin(async move { data_keys_in(&this, tx, &caller, &asked, fingerprint, now).await })
    })
    .await?;
    Ok(derive(&request, &written))
}

fn derive(request: &DataKeysRequest, written: &Written) -> DataKeys {
    let mut keys = Vec::with_capacity(request.items.len());
    for (item, n) in request.items.iter().zip(&written.numbers) {
        let Some(kek) = written.keks.get(&item.labels.sensitivity) else { continue };
        let slot = RecordSlot {
            patient: &request.patient,
            record: &item.record,
            version: item.version,
            labels: item.labels,
            n: *n,
        };
        let (dek, wrapped) = kek.data_key(&written.seed, &slot);
        keys.push(DataKey { n: *n, dek, wrapped: wrapped.as_slice().into(), kek_epoch: written.epoch });
    }
    let tag_keys = written.keks.iter().map(|(sensitivity, kek)| TagKey {
        sensitivity: *sensitivity,
        kek_epoch: written.epoch,
        key: kek.tag_key().clone(),
    });
    DataKeys { keys, tag_keys: tag_keys.collect(), receipt: written.receipt.clone() }
}

async fn data_keys_in(
    app: &App,
    tx: &mut Tx,
    who: &Who,
    request: &DataKeysRequest,
    fingerprint: Digest,
    now: Timestamp,
) -> Result<Outcome<Written>, Error> {
    let asked = ask(app, tx, who, &request.patient, now).await?;
    let frame =
        Frame { patient: &request.patient, principal: &asked.principal, purpose: request.purpose, now };
    let labels = || request.items.iter().map(|item| item.labels);
    let categories: BTreeSet<Category> = labels().map(|labels| labels.category).collect();
    if let Some(error) = refuse(app, tx, &asked, &frame, &categories).await? {
        return Ok(Outcome::Refused(error));
    }
    let Some(rights) = &asked.rights else { return Err(Error::NotFound) };
    let verdicts = verdicts(app, &asked, &request.patient, Action::Write, request.purpose, labels(), now);
    if verdicts.values().any(|verdict| !verdict.is_allowed()) {
        let rule = common_rule(&verdicts);
        denial(app, tx, &frame.occurrence(AccessKind::Denied, &rule, categories)).await?;
        let error = if asked.is_known() { Error::Denied { rule } } else { Error::NotFound };
        return Ok(Outcome::Refused(error));
    }
    match store::keys::intent(tx, &request.intent).await? {
        Some(IntentState::Void) => Ok(Outcome::Refused(Error::Conflict("the intent is void"))),
        Some(IntentState::Anchored) => Ok(Outcome::Refused(Error::Conflict("the intent is anchored"))),
        Some(IntentState::Open(intent)) => {
            repeat_intent(app, tx, who, request, &rights.pin, *intent, fingerprint).await
        }
        None => {
            let mut occurrence = frame.occurrence(AccessKind::Write, "", categories);
            if let Some(verdict) = verdicts.values().next() {
                occurrence.rule = verdict.rule().to_owned();
                occurrence.grant = verdict.grant().cloned();
            }
            new_intent(app, tx, who, request, &rights.pin, occurrence, fingerprint).await
        }
    }
}

/// The same intent asks again: the same numbers and keys.
async fn repeat_intent(
    app: &App,
    tx: &mut Tx,
    who: &Who,
    request: &DataKeysRequest,
    pin: &Pin,
    intent: Intent,
    fingerprint: Digest,
) -> Result<Outcome<Written>, Error> {
    if intent.fingerprint != fingerprint || intent.actor != who.account {
        return Ok(Outcome::Refused(Error::Conflict("the intent asked for something else before")));
    }
    let ranges = store::keys::ranges(tx, &intent.id).await?;
    let labels: Vec<Labels> = request.items.iter().map(|item| item.labels).collect();
    let untouched = ranges.iter().all(|range| range.state == RangeState::Open);
    let Some(numbers) = assign(&labels, &ranges).filter(|_| untouched) else {
        return Ok(Outcome::Refused(Error::Conflict("the intent is partly anchored")));
    };
    let mut keks = BTreeMap::new();
    for sensitivity in labels.iter().map(|labels| labels.sensitivity).collect::<BTreeSet<_>>() {
        let id = KekId { patient: pin.patient.clone(), sensitivity, epoch: intent.kek_epoch };
        let kek = open_kek(app, tx, pin, &id).await?.ok_or(Error::Key(UnwrapError))?;
        keks.insert(sensitivity, kek);
    }
    let wrapped = intent.seed.ok_or(Error::Conflict("the intent is closed"))?;
    let kek = keks.get(&intent.sensitivity).ok_or(Error::Key(UnwrapError))?;
    let seed = kek.open_seed(&wrapped, &intent.id, &intent.patient)?;
    Ok(Outcome::Done(Written { seed, keks, numbers, epoch: intent.kek_epoch, receipt: intent.receipt }))
}

async fn new_intent(
    app: &App,
    tx: &mut Tx,
    who: &Who,
    request: &DataKeysRequest,
    pin: &Pin,
    mut occurrence: Occurrence,
    fingerprint: Digest,
) -> Result<Outcome<Written>, Error> {
    let now = occurrence.at;
    let labels: Vec<Labels> = request.items.iter().map(|item| item.labels).collect();
    let mut ranges = Vec::new();
    for (labels, count) in count_by_set(labels.iter().copied()) {
        ranges.push(store::keys::take_numbers(tx, &pin.patient, labels, count, &request.intent).await?);
    }
    let numbers = assign(&labels, &ranges).ok_or(Error::Conflict("numbers ran out"))?;
    let mut keks = BTreeMap::new();
    for sensitivity in labels.iter().map(|labels| labels.sensitivity).collect::<BTreeSet<_>>() {
        keks.insert(sensitivity, kek_for_writing(app, tx, pin, sensitivity, now).await?);
    }
    let (sensitivity, kek) = keks.first_key_value().ok_or(Error::Key(UnwrapError))?;
    let seed = Seed::random(&app.random);
    let wrapped = kek.wrap_seed(&seed, &request.intent, &pin.patient, &app.random);
    occurrence.records = request
        .items
        .iter()
        .map(|item| ReceiptRecord { record: item.record.clone(), version: item.version })
        .collect();
    let receipt = receipt(app, tx, &occurrence).await?;
    let intent = Intent {
        id: request.intent.clone(),
        patient: pin.patient.clone(),
        actor: who.account.clone(),
        purpose: request.purpose,
        fingerprint,
        sensitivity: *sensitivity,
        kek_epoch: pin.kek_epoch,
        seed: Some(wrapped),
        receipt: receipt.clone(),
    };
    store::keys::insert_intent(tx, &intent, now).await?;
    Ok(Outcome::Done(Written { seed, keks, numbers, epoch: pin.kek_epoch, receipt }))
}

// ---- reading ----

/// `POST /internal/v1/keys/unwrap`.
pub async fn unwrap(app: &App, who: Who, request: UnwrapRequest) -> Result<Unwrapped, Error> {
    check_count(request.items.len())?;
    let (this, caller, now) = (app.clone(), who.clone(), app.clock.now());
    let (patient, purpose) = (request.patient.clone(), request.purpose);
    let request = std::sync::Arc::new(request);
    let mut answer = with_receipts(app, &who, (&patient, purpose), move |tx| {
        Box::pin(async move { unwrap_in(&this, tx, &caller, &request, now).await })
    })
    .await?;
    if let Some(numbers) = &mut answer.numbers {
        numbers.jws = sign_numbers(app, patient, numbers.sets.clone(), now)?;
    }
    Ok(answer)
}

fn sign_numbers(
    app: &App,
    patient: PatientId,
    sets: Vec<NumberSet>,
    now: Timestamp,
) -> Result<String, Error> {
    let claims = NumbersClaims { chain: app.chain, iat: now.unsigned_ms(), patient, sets };
    Ok(claims.sign(&app.service_key)?)
}

async fn unwrap_in(
    app: &App,
    tx: &mut Tx,
    who: &Who,
    request: &UnwrapRequest,
    now: Timestamp,
) -> Result<Outcome<Unwrapped>, Error> {
    let asked = ask(app, tx, who, &request.patient, now).await?;
    let frame =
        Frame { patient: &request.patient, principal: &asked.principal, purpose: request.purpose, now };
    let labels = || request.items.iter().map(|item| item.labels);
    let categories = labels().map(|labels| labels.category).collect();
    if let Some(error) = refuse(app, tx, &asked, &frame, &categories).await? {
        return Ok(Outcome::Refused(error));
    }
    let Some(rights) = &asked.rights else { return Ok(Outcome::Done(nothing(&asked))) };
    let verdicts = verdicts(app, &asked, &request.patient, Action::Read, request.purpose, labels(), now);
    let kept = kept_numbers(tx, request, &verdicts).await?;
    let released = open_items(app, tx, &rights.pin, request, &verdicts, &kept).await?;
    let mut answer = Unwrapped {
        keys: released.keys,
        numbers: if request.statement { Some(numbers(tx, request, &verdicts).await?) } else { None },
        receipt: None,
        rule: None,
        // A record that came after the grant is as absent as one of a sensitivity that no grant names.
        known: released.rule.is_none() && asked.may_be_told(labels()),
        consent_version: rights.pin.consent_version,
    };
    for (grant, group) in released.groups {
        let mut occurrence = frame.occurrence(AccessKind::Read, &group.rule, group.categories);
        occurrence.grant = grant;
        occurrence.records = group.records;
        let id = receipt(app, tx, &occurrence).await?;
        answer.receipt = answer.receipt.or(id);
    }
    if !released.denied.is_empty() {
        let rule = released.rule.unwrap_or_else(|| common_rule(&verdicts));
        let categories = released.denied.iter().map(|item| item.labels.category).collect();
        let mut occurrence = frame.occurrence(AccessKind::Denied, &rule, categories);
        occurrence.records = records(released.denied.into_iter());
        let id = denial(app, tx, &occurrence).await?;
        if answer.keys.is_empty() {
            (answer.receipt, answer.rule) = (id, Some(rule));
        }
    }
    Ok(Outcome::Done(answer))
}

fn records<'a>(items: impl Iterator<Item = &'a UnwrapItem>) -> Vec<ReceiptRecord> {
    items.map(|item| ReceiptRecord { record: item.record.clone(), version: item.version }).collect()
}

fn nothing(asked: &Asked) -> Unwrapped {
    Unwrapped {
        keys: Vec::new(),
        numbers: None,
        receipt: None,
        rule: Some(crate::domain::policy::NO_GRANT.to_owned()),
        known: asked.is_known(),
        consent_version: 0,
    }
}

/// Of the numbers asked about, in the label sets that are allowed, those that were handed out and are not void.
async fn kept_numbers(
    tx: &mut Tx,
    request: &UnwrapRequest,
    verdicts: &BTreeMap<Labels, Verdict>,
) -> Result<BTreeMap<Labels, BTreeSet<u64>>, Error> {
    let mut asked: BTreeMap<Labels, BTreeSet<u64>> = BTreeMap::new();
    for item in &request.items {
        if verdicts.get(&item.labels).is_some_and(Verdict::is_allowed) {
            asked.entry(item.labels).or_default().insert(item.n);
        }
    }
    let mut kept = BTreeMap::new();
    for (labels, numbers) in asked {
        kept.insert(labels, store::keys::kept(tx, &request.patient, labels, &numbers).await?);
    }
    Ok(kept)
}

/// The state of the numbers of the label sets that are allowed; signed outside the transaction.
async fn numbers(
    tx: &mut Tx,
    request: &UnwrapRequest,
    verdicts: &BTreeMap<Labels, Verdict>,
) -> Result<NumbersStatement, Error> {
    let mut all = store::keys::sets(tx, &request.patient).await?;
    all.retain(|labels, _| verdicts.get(labels).is_some_and(Verdict::is_allowed));
    let sets = all.iter().map(|(labels, set)| set.view(*labels)).collect();
    Ok(NumbersStatement { sets, jws: String::new() })
}

/// What is released under one grant.
#[derive(Default)]
struct Group {
    rule: String,
    records: Vec<ReceiptRecord>,
    categories: BTreeSet<Category>,
}

/// What an unwrap comes to.
#[derive(Default)]
struct Released<'a> {
    keys: Vec<ReleasedKey>,
    groups: BTreeMap<Option<GrantId>, Group>,
    denied: Vec<&'a UnwrapItem>,
    /// The rule of a denial that no label set shows: the record is too new for the grant.
    rule: Option<String>,
}

async fn open_items<'a>(
    app: &App,
    tx: &mut Tx,
    pin: &Pin,
    request: &'a UnwrapRequest,
    verdicts: &BTreeMap<Labels, Verdict>,
    kept: &BTreeMap<Labels, BTreeSet<u64>>,
) -> Result<Released<'a>, Error> {
    let mut released = Released::default();
    let mut keks: BTreeMap<KekId, Option<Kek>> = BTreeMap::new();
    for item in &request.items {
        let Some(Verdict::Allowed { rule, grant, limit }) = verdicts.get(&item.labels) else {
            released.denied.push(item);
            continue;
        };
        if limit.as_ref().is_some_and(|limit| !limit.covers(item.labels, item.n, item.created_at)) {
            released.denied.push(item);
            released.rule = Some("later-record".to_owned());
            continue;
        }
        // A number that was voided or never handed out names no record; there is nothing to deny.
        if !kept.get(&item.labels).is_some_and(|numbers| numbers.contains(&item.n)) {
            continue;
        }
        let id = KekId {
            patient: pin.patient.clone(),
            sensitivity: item.labels.sensitivity,
            epoch: item.kek_epoch,
        };
        if !keks.contains_key(&id) {
            let kek = open_kek(app, tx, pin, &id).await?;
            keks.insert(id.clone(), kek);
        }
        let kek = keks.get(&id).and_then(Option::as_ref);
        let Some(dek) = kek.and_then(|kek| open_item(kek, pin, item)) else { continue };
        released.keys.push(ReleasedKey { record: item.record.clone(), version: item.version, dek });
        let group = released.groups.entry(grant.clone()).or_default();
        group.rule.clone_from(rule);
        group.records.push(ReceiptRecord { record: item.record.clone(), version: item.version });
        group.categories.insert(item.labels.category);
    }
    Ok(released)
}

/// Opens one wrap; one that does not open was moved or changed, labels included.
fn open_item(kek: &Kek, pin: &Pin, item: &UnwrapItem) -> Option<hbc_types::secret::Key32> {
    let slot = RecordSlot {
        patient: &pin.patient,
        record: &item.record,
        version: item.version,
        labels: item.labels,
        n: item.n,
    };
    match kek.open_data_key(&slot, item.wrapped.as_slice()) {
        Ok(dek) => Some(dek),
        Err(UnwrapError) => {
            tracing::error!(
                alarm = "wrap_does_not_open",
                record.id = item.record.as_str(),
                record.n = item.n,
                "A wrapped key does not fit the record it came with: its labels or its place were changed"
            );
            None
        }
    }
}

// ---- numbers ----

/// `POST /internal/v1/keys/void`.
pub async fn void(app: &App, request: VoidRequest) -> Result<(), Error> {
    let (this, now) = (app.clone(), app.clock.now());
    let outcome: Result<Outcome<()>, Error> =
        app.db.write(move |tx| Box::pin(async move { void_in(&this, tx, &request.intent, now).await })).await;
    outcome?.into_result()
}

async fn void_in(app: &App, tx: &mut Tx, id: &IntentId, now: Timestamp) -> Result<Outcome<()>, Error> {
    match store::keys::intent(tx, id).await? {
        Some(IntentState::Void) => {}
        Some(IntentState::Anchored) => {
            return Ok(Outcome::Refused(Error::Conflict("the intent is anchored")));
        }
        None => store::keys::insert_dead_intent(tx, id, now).await?,
        Some(IntentState::Open(intent)) => {
            let ranges = store::keys::ranges(tx, id).await?;
            let categories: BTreeSet<Category> = ranges.iter().map(|range| range.labels.category).collect();
            for range in ranges.iter().filter(|range| range.state == RangeState::Open) {
                store::keys::void_range(tx, &intent.patient, range).await?;
            }
            store::keys::close_intent(tx, id, "void", now).await?;
            let occurrence = Occurrence {
                patient: intent.patient.clone(),
                kind: AccessKind::Void,
                actor: intent.actor.clone(),
                organisation: None,
                purpose: intent.purpose,
                grant: None,
                rule: "intent-void".to_owned(),
                records: Vec::new(),
                categories: categories.into_iter().collect(),
                folded: None,
                at: now,
            };
            receipt(app, tx, &occurrence).await?;
        }
    }
    Ok(Outcome::Done(()))
}

/// `POST /internal/v1/keys/anchored`.
pub async fn anchored(app: &App, request: AnchoredRequest) -> Result<(), Error> {
    check_count(request.items.len())?;
    let (request, now) = (std::sync::Arc::new(request), app.clock.now());
    let outcome: Result<Outcome<()>, Error> =
        app.db.write(move |tx| Box::pin(async move { anchored_in(tx, &request, now).await })).await;
    outcome?.into_result()
}

async fn anchored_in(tx: &mut Tx, request: &AnchoredRequest, now: Timestamp) -> Result<Outcome<()>, Error> {
    let intent = match store::keys::intent(tx, &request.intent).await? {
        None => return Ok(Outcome::Refused(Error::NotFound)),
        Some(IntentState::Void) => return Ok(Outcome::Refused(Error::Conflict("the intent is void"))),
        Some(IntentState::Anchored) => return Ok(Outcome::Done(())),
        Some(IntentState::Open(intent)) => intent,
    };
    let ranges = store::keys::ranges(tx, &intent.id).await?;
    let mut reported = by_set(&request.items);
    let mut all_final = true;
    for range in &ranges {
        let numbers = reported.entry(range.labels).or_default();
        let (of_range, rest): (BTreeMap<u64, Digest>, BTreeMap<u64, Digest>) =
            std::mem::take(numbers).into_iter().partition(|(n, _)| (range.first..=range.last).contains(n));
        *numbers = rest;
        if range.state == RangeState::Final {
            continue;
        }
        all_final &= settle_one(tx, &intent, range, &of_range, request.txid).await?;
    }
    if reported.values().any(|rest| !rest.is_empty()) {
        return Err(Error::invalid("items", "a number was never handed out to this intent"));
    }
    if all_final {
        store::keys::close_intent(tx, &intent.id, "anchored", now).await?;
    }
    Ok(Outcome::Done(()))
}

/// Settles what was reported of one open range; says whether nothing of it stays open.
async fn settle_one(
    tx: &mut Tx,
    intent: &Intent,
    range: &NumberRange,
    reported: &BTreeMap<u64, Digest>,
    txid: Digest,
) -> Result<bool, Error> {
    if reported.is_empty() {
        return Ok(false);
    }
    let pieces = settle(range, reported);
    let all_final = pieces.iter().all(|piece| piece.commitments.is_some());
    store::keys::settle_range(tx, &intent.patient, range, pieces, txid).await?;
    Ok(all_final)
}
