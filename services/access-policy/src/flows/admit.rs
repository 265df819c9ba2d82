//! May the caller write such records? Storage asks before it looks anything of an account up, so that who may not write
//! learns nothing: not from a condition that matches, not from an identifier, not from a reference.
//!
//! Who may is decided on a snapshot: the data keys decide again, in the transaction that releases them, and leave the
//! receipt. A refusal, and a request that turned out to have nothing left to write, leave theirs here.
//!
//! Why: decision 0112.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hbc_db::Tx;
use hbc_types::Timestamp;
use hbc_types::labels::Category;
use hbc_types::purpose::Action;
use hbc_types::wire::access::{AccessKind, Admission, AdmissionRequest, AllowedLabels, Labels};

use crate::app::{App, Who};
use crate::domain::decision::Verdict;
use crate::error::Error;
use crate::flows::decide::{
    Asked, Frame, MOST_SETS, Outcome, allowed_labels, ask, common_rule, denial, note_tampering, receipt,
    refuse, verdicts, with_receipts,
};

/// `POST /internal/v1/admissions`.
pub async fn admit(app: &App, who: Who, request: AdmissionRequest) -> Result<Admission, Error> {
    for (field, labels) in [("writes", &request.writes), ("meets", &request.meets), ("reads", &request.reads)]
    {
        if labels.len() > MOST_SETS {
            return Err(Error::invalid(field, "too many"));
        }
    }
    if request.writes.is_empty() && request.meets.is_empty() && request.reads.is_empty() {
        return Err(Error::invalid("writes", "something must be asked for"));
    }
    let (patient, purpose, now) = (request.patient.clone(), request.purpose, app.clock.now());
    if !request.nothing_left {
        let seen = app.read(async |tx| look(app, tx, &who, &request, now).await).await;
        if let Some(admission) = note_tampering(app, &who, &patient, purpose, seen).await? {
            return Ok(admission);
        }
    }
    let (this, caller, asked) = (app.clone(), who.clone(), Arc::new(request));
    with_receipts(app, &who, (&patient, purpose), move |tx| {
        Box::pin(async move { admit_in(&this, tx, &caller, &asked, now).await })
    })
    .await
}

/// The verdict on a snapshot, if it admits.
async fn look(
    app: &App,
    tx: &mut Tx,
    who: &Who,
    request: &AdmissionRequest,
    now: Timestamp,
) -> Result<Option<Admission>, Error> {
    let asked = ask(app, tx, who, &request.patient, now).await?;
    if asked.rights.is_none() || asked.refusal().is_some() {
        return Ok(None);
    }
    let decided = decided(app, &asked, request, now);
    let admitted = decided.values().all(Verdict::is_allowed) && (!decided.is_empty() || asked.is_known());
    Ok(admitted.then(|| Admission { readable: readable(app, &asked, request, now), receipt: None }))
}

async fn admit_in(
    app: &App,
    tx: &mut Tx,
    who: &Who,
    request: &AdmissionRequest,
    now: Timestamp,
) -> Result<Outcome<Admission>, Error> {
    let asked = ask(app, tx, who, &request.patient, now).await?;
    let frame =
        Frame { patient: &request.patient, principal: &asked.principal, purpose: request.purpose, now };
    let categories: BTreeSet<Category> =
        request.writes.iter().chain(&request.meets).map(|labels| labels.category).collect();
    if let Some(error) = refuse(app, tx, &asked, &frame, &categories).await? {
        return Ok(Outcome::Refused(error));
    }
    if asked.rights.is_none() {
        return Err(Error::NotFound);
    }
    let decided = decided(app, &asked, request, now);
    if !decided.values().all(Verdict::is_allowed) {
        let rule = common_rule(&decided);
        denial(app, tx, &frame.occurrence(AccessKind::Denied, &rule, categories)).await?;
        let error = if asked.is_known() { Error::Denied { rule } } else { Error::NotFound };
        return Ok(Outcome::Refused(error));
    }
    // Nothing is written for certain: who has nothing to do with the patient learns nothing all the same.
    if decided.is_empty() && !asked.is_known() {
        return Ok(Outcome::Refused(Error::NotFound));
    }
    // Of what is only looked at, the leave to read is what a receipt rests on.
    let looked = decided.is_empty().then(|| {
        let reads = request.reads.iter().copied();
        verdicts(app, &asked, &request.patient, Action::Read, request.purpose, reads, now)
    });
    let categories = match &looked {
        Some(looked) => looked.keys().map(|labels| labels.category).collect(),
        None => categories,
    };
    let verdict = match &looked {
        Some(looked) => {
            looked.values().find(|verdict| verdict.is_allowed()).or_else(|| looked.values().next())
        }
        None => decided.values().next(),
    };
    let id = match verdict {
        Some(verdict) if request.nothing_left && !verdict.is_allowed() => {
            denial(app, tx, &frame.occurrence(AccessKind::Denied, verdict.rule(), categories)).await?
        }
        Some(verdict) if request.nothing_left => {
            // What exists already was looked at, and nothing was written.
            let mut occurrence = frame.occurrence(AccessKind::List, verdict.rule(), categories);
            occurrence.grant = verdict.grant().cloned();
            receipt(app, tx, &occurrence).await?
        }
        _ => None,
    };
    Ok(Outcome::Done(Admission { readable: readable(app, &asked, request, now), receipt: id }))
}

/// The verdicts that admit or refuse: what may exist already counts as allowed if the caller may read it.
fn decided(
    app: &App,
    asked: &Asked,
    request: &AdmissionRequest,
    now: Timestamp,
) -> BTreeMap<Labels, Verdict> {
    let verdict = |action, labels: &[Labels]| {
        verdicts(app, asked, &request.patient, action, request.purpose, labels.iter().copied(), now)
    };
    let mut decided = verdict(Action::Write, &request.writes);
    let mut readable = verdict(Action::Read, &request.meets);
    for (labels, written) in verdict(Action::Write, &request.meets) {
        let read = readable.remove(&labels).filter(|read| read.is_allowed() && !written.is_allowed());
        decided.entry(labels).or_insert_with(|| read.unwrap_or(written));
    }
    decided
}

fn readable(app: &App, asked: &Asked, request: &AdmissionRequest, now: Timestamp) -> Vec<AllowedLabels> {
    let labels = request.reads.iter().copied();
    allowed_labels(&verdicts(app, asked, &request.patient, Action::Read, request.purpose, labels, now))
}
