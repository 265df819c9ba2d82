//! The beginning of every operation that depends on rights: who calls, what rights stand there, what the policies say;
//! and the receipts that come of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hbc_db::{JobFuture, Tx};
use hbc_types::account::Standing;
use hbc_types::ids::{AccountId, PatientId, ReceiptId};
use hbc_types::labels::Category;
use hbc_types::purpose::{Action, Purpose};
use hbc_types::wire::access::{
    AccessKind, AllowedLabels, ConsentVersion, DecisionAnswer, DecisionRequest, Labels,
};
use hbc_types::{Digest, Timestamp};

use crate::app::{App, Who};
use crate::domain::decision::{Situation, Verdict, decide};
use crate::domain::grant::Grant;
use crate::domain::policy::{Principal, SessionState};
use crate::domain::receipts::{Fold, Occurrence, issue};
use crate::domain::rights::Rights;
use crate::error::{Error, INTEGRITY_RULE};
use crate::store;

/// Equal denials within this time share one receipt.
const FOLD: Duration = Duration::from_secs(60);
/// Label sets in one question at most: more do not exist.
pub const MOST_SETS: usize = 200;

/// Who asks about whom.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The caller.
    pub principal: Principal,
    /// The patient's rights; none if nobody with this id was pinned.
    pub rights: Option<Rights>,
    /// The grants that may cover the caller.
    pub candidates: Vec<Grant>,
}

impl Asked {
    /// Whether the caller has any relation to the patient: without one the patient's existence is not told.
    #[must_use]
    pub fn is_known(&self) -> bool {
        let Some(rights) = &self.rights else { return false };
        let own = match &self.principal.account {
            AccountId::Patient(id) => *id == rights.pin.patient,
            AccountId::Agency(_) | AccountId::Operator(_) | AccountId::App(_) | AccountId::Device(_) => false,
        };
        own || rights.pin.patient.is_directory() || !self.candidates.is_empty()
    }

    /// Whether the caller may be told why records with these labels are not shown: a sensitivity that no grant names is
    /// passed over in silence, as if there were no such records.
    #[must_use]
    pub fn may_be_told(&self, mut labels: impl Iterator<Item = Labels>) -> bool {
        let named = |found: Labels| {
            self.candidates.iter().any(|grant| grant.scope.sensitivities.contains(&found.sensitivity))
        };
        self.is_known() && (self.candidates.is_empty() || labels.any(named))
    }

    /// Why this account may do nothing at all, if that is so.
    #[must_use]
    pub fn refusal(&self) -> Option<Error> {
        refusal(&self.principal)
    }
}

/// What an answer became: done, or refused with the receipt of the refusal committed.
#[derive(Debug)]
pub enum Outcome<T> {
    /// Done.
    Done(T),
    /// Refused.
    Refused(Error),
}

impl<T> Outcome<T> {
    /// The result for the caller.
    pub fn into_result(self) -> Result<T, Error> {
        match self {
            Self::Done(value) => Ok(value),
            Self::Refused(error) => Err(error),
        }
    }
}

/// Reads caller and rights.
pub async fn ask(
    app: &App,
    tx: &mut Tx,
    who: &Who,
    patient: &PatientId,
    now: Timestamp,
) -> Result<Asked, Error> {
    let principal = store::accounts::principal(
        tx,
        &app.protection,
        (&who.account, &who.session),
        who.bound.as_ref(),
        now,
    )
    .await?;
    let rights = store::rights::rights(tx, &app.protection, patient).await?;
    // Of a closed account nothing is read or written under any grant, whatever the rows say.
    let counting = rights.as_ref().filter(|_| !app.protection.is_closed(patient.as_str()));
    let candidates = counting.map(|rights| rights.candidates(&principal)).unwrap_or_default();
    Ok(Asked { principal, rights, candidates })
}

/// The verdict of each distinct label set.
#[must_use]
pub fn verdicts(
    app: &App,
    asked: &Asked,
    patient: &PatientId,
    action: Action,
    purpose: Purpose,
    labels: impl Iterator<Item = Labels>,
    now: Timestamp,
) -> BTreeMap<Labels, Verdict> {
    let candidates = &asked.candidates;
    let situation = Situation { principal: &asked.principal, patient, candidates, action, purpose, now };
    decide(&app.engine, &situation, labels)
}

/// What is the same in all receipts of one request.
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    /// Whose records.
    pub patient: &'a PatientId,
    /// Who.
    pub principal: &'a Principal,
    /// Why.
    pub purpose: Purpose,
    /// When.
    pub now: Timestamp,
}

impl Frame<'_> {
    /// An occurrence without records.
    #[must_use]
    pub fn occurrence(&self, kind: AccessKind, rule: &str, categories: BTreeSet<Category>) -> Occurrence {
        Occurrence {
            patient: self.patient.clone(),
            kind,
            actor: self.principal.account.clone(),
            organisation: self.principal.organisation.clone(),
            purpose: self.purpose,
            grant: None,
            rule: rule.to_owned(),
            records: Vec::new(),
            categories: categories.into_iter().collect(),
            folded: None,
            at: self.now,
        }
    }
}

/// Writes a receipt; the directory has none.
pub async fn receipt(app: &App, tx: &mut Tx, occurrence: &Occurrence) -> Result<Option<ReceiptId>, Error> {
    if occurrence.patient.is_directory() {
        return Ok(None);
    }
    let head = store::receipts::head(tx, &occurrence.patient).await?;
    let receipt = issue(occurrence, head, &app.random)?;
    store::receipts::append(tx, &receipt).await?;
    Ok(Some(receipt.body.id))
}

/// Writes the receipt of a denial, or counts it to an equal one of the last minute.
pub async fn denial(app: &App, tx: &mut Tx, occurrence: &Occurrence) -> Result<Option<ReceiptId>, Error> {
    if occurrence.patient.is_directory() {
        return Ok(None);
    }
    let fingerprint = occurrence.fold_fingerprint();
    if let Some(earlier) = store::receipts::folded(tx, fingerprint, occurrence.at).await? {
        return Ok(Some(earlier));
    }
    close_fold(app, tx, fingerprint, occurrence.at).await?;
    let id = receipt(app, tx, occurrence).await?;
    if let Some(id) = &id {
        store::receipts::begin_fold(tx, fingerprint, id, occurrence, occurrence.at.plus(FOLD)).await?;
    }
    Ok(id)
}

/// Ends the folding of equal denials: if there were more than the one that has a receipt, another says how many.
pub async fn close_fold(app: &App, tx: &mut Tx, fingerprint: Digest, now: Timestamp) -> Result<(), Error> {
    let Some(fold) = store::receipts::take_fold(tx, fingerprint).await? else { return Ok(()) };
    let Fold { patient, actor, organisation, purpose, rule, more } = fold;
    if more == 0 {
        return Ok(());
    }
    let closing = Occurrence {
        patient,
        kind: AccessKind::Denied,
        actor,
        organisation,
        purpose,
        grant: None,
        rule,
        records: Vec::new(),
        categories: Vec::new(),
        folded: Some(more),
        at: now,
    };
    receipt(app, tx, &closing).await?;
    Ok(())
}

/// Refuses who may do nothing at all, whether there is such a patient or not; the patient's log has it.
pub async fn refuse(
    app: &App,
    tx: &mut Tx,
    asked: &Asked,
    frame: &Frame<'_>,
    categories: &BTreeSet<Category>,
) -> Result<Option<Error>, Error> {
    let Some(error) = asked.refusal() else { return Ok(None) };
    if asked.rights.is_some() {
        let rule = refusal_rule(&error);
        denial(app, tx, &frame.occurrence(AccessKind::Denied, rule, categories.clone())).await?;
    }
    Ok(Some(error))
}

/// Whether an account may act at all: the refusal that every operation of the public API answers first.
#[must_use]
pub fn refusal(principal: &Principal) -> Option<Error> {
    let is_agency = matches!(principal.account, AccountId::Agency(_));
    match (principal.session, principal.standing) {
        (SessionState::Ended, _) => Some(Error::Suspended),
        (SessionState::Unknown, _) => Some(Error::UnknownSession),
        (SessionState::Open, Standing::Active) => None,
        (SessionState::Open, Standing::Pending) if is_agency => Some(Error::AgencyUnverified),
        (SessionState::Open, Standing::Pending | Standing::Suspended | Standing::Closed) => {
            Some(Error::Suspended)
        }
    }
}

/// The rule that the receipt names when an account may do nothing at all.
#[must_use]
pub fn refusal_rule(error: &Error) -> &'static str {
    match error {
        Error::AgencyUnverified => "agency-unverified",
        Error::UnknownSession => "session-not-open",
        _ => "account-not-active",
    }
}

/// After an operation failed because a row was changed by hand: a receipt of the denial, so that the patient sees it.
/// It rests on nothing but the chain of receipts itself.
pub async fn note_tampering<T>(
    app: &App,
    who: &Who,
    patient: &PatientId,
    purpose: Purpose,
    result: Result<T, Error>,
) -> Result<T, Error> {
    if !result.as_ref().is_err_and(Error::is_tampering) {
        return result;
    }
    let occurrence = Occurrence {
        patient: patient.clone(),
        kind: AccessKind::Denied,
        actor: who.account.clone(),
        organisation: None,
        purpose,
        grant: None,
        rule: INTEGRITY_RULE.to_owned(),
        records: Vec::new(),
        categories: Vec::new(),
        folded: None,
        at: app.clock.now(),
    };
    let this = app.clone();
    let noted: Result<_, Error> = app
        .db
        .write_locked(who.locks(patient), move |tx| {
            Box::pin(async move { denial(&this, tx, &occurrence).await })
        })
        .await;
    if let Err(error) = noted {
        tracing::error!(error = &error as &dyn std::error::Error, "A denial could not be receipted");
    }
    result
}

/// Runs a job that decides for a caller about a patient and leaves receipts, under the locks of that.
pub async fn with_receipts<T, F>(
    app: &App,
    who: &Who,
    (patient, purpose): (&PatientId, Purpose),
    job: F,
) -> Result<T, Error>
where
    F: for<'c> FnOnce(&'c mut Tx) -> JobFuture<'c, Outcome<T>, Error> + Clone + Send + 'static,
    T: Send + 'static,
{
    let outcome = app.write(who.locks(patient), job).await;
    note_tampering(app, who, patient, purpose, outcome).await?.into_result()
}

/// `POST /internal/v1/decisions`: which label sets may the caller list?
pub async fn decisions(app: &App, who: Who, request: DecisionRequest) -> Result<DecisionAnswer, Error> {
    if request.labels.len() > MOST_SETS {
        return Err(Error::invalid("labels", "too many"));
    }
    let (this, caller, patient, purpose) =
        (app.clone(), who.clone(), request.patient.clone(), request.purpose);
    let now = app.clock.now();
    if patient.is_directory() {
        // Nothing is receipted, so nobody waits for the lock.
        let read = app.read(async |tx| decisions_in(app, tx, &who, &request, now).await);
        return read.await?.into_result();
    }
    with_receipts(app, &who, (&patient, purpose), move |tx| {
        Box::pin(async move { decisions_in(&this, tx, &caller, &request, now).await })
    })
    .await
}

async fn decisions_in(
    app: &App,
    tx: &mut Tx,
    who: &Who,
    request: &DecisionRequest,
    now: Timestamp,
) -> Result<Outcome<DecisionAnswer>, Error> {
    let asked = ask(app, tx, who, &request.patient, now).await?;
    let frame =
        Frame { patient: &request.patient, principal: &asked.principal, purpose: request.purpose, now };
    let categories: BTreeSet<Category> = request.labels.iter().map(|labels| labels.category).collect();
    if let Some(error) = refuse(app, tx, &asked, &frame, &categories).await? {
        return Ok(Outcome::Refused(error));
    }
    let Some(rights) = &asked.rights else { return Ok(Outcome::Done(unknown_patient())) };
    let labels = request.labels.iter().copied();
    let verdicts = verdicts(app, &asked, &request.patient, request.action, request.purpose, labels, now);
    let allowed = allowed_labels(&verdicts);
    let answer = |rule: &str, receipt| DecisionAnswer {
        allowed: allowed.clone(),
        receipt,
        rule: rule.to_owned(),
        known: asked.may_be_told(request.labels.iter().copied()),
        consent_version: rights.pin.consent_version,
    };
    let best = verdicts.values().find(|verdict| verdict.is_allowed());
    let receipt = match best {
        Some(verdict) => {
            let shown = allowed.iter().map(|allowed| allowed.labels.category).collect();
            let mut occurrence = frame.occurrence(AccessKind::List, verdict.rule(), shown);
            occurrence.grant = verdict.grant().cloned();
            receipt(app, tx, &occurrence).await?
        }
        None => {
            let rule = common_rule(&verdicts);
            denial(app, tx, &frame.occurrence(AccessKind::Denied, &rule, categories)).await?
        }
    };
    let rule = best.map_or_else(|| common_rule(&verdicts), |verdict| verdict.rule().to_owned());
    Ok(Outcome::Done(answer(&rule, receipt)))
}

fn unknown_patient() -> DecisionAnswer {
    DecisionAnswer {
        allowed: Vec::new(),
        receipt: None,
        rule: crate::domain::policy::NO_GRANT.to_owned(),
        known: false,
        consent_version: 0,
    }
}

/// What is allowed, with its limits.
#[must_use]
pub fn allowed_labels(verdicts: &BTreeMap<Labels, Verdict>) -> Vec<AllowedLabels> {
    let allowed = verdicts.iter().filter_map(|(labels, verdict)| match verdict {
        Verdict::Allowed { limit, .. } => Some(AllowedLabels {
            labels: *labels,
            created_before: limit.as_ref().map(|limit| limit.created_before),
        }),
        Verdict::Denied { .. } => None,
    });
    allowed.collect()
}

/// The rule that denied most of the label sets: what a refused caller is told. Where normal records were asked about, it is
/// the one that denied those.
#[must_use]
pub fn common_rule(verdicts: &BTreeMap<Labels, Verdict>) -> String {
    let denied = verdicts.iter().filter(|(_, verdict)| !verdict.is_allowed());
    let (sensitive, normal): (Vec<_>, Vec<_>) =
        denied.partition(|(labels, _)| labels.sensitivity.is_sensitive());
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, verdict) in if normal.is_empty() { sensitive } else { normal } {
        *counts.entry(verdict.rule()).or_insert(0) += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.map_or_else(|| crate::domain::policy::NO_GRANT.to_owned(), |(rule, _)| rule.to_owned())
}

/// The patient's consent version.
pub async fn consent_version(app: &App, patient: &PatientId) -> Result<ConsentVersion, Error> {
    let read = app.read(async |tx| store::rights::rights(tx, &app.protection, patient).await);
    let rights = read.await?.ok_or(Error::NotFound)?;
    Ok(ConsentVersion { consent_version: rights.pin.consent_version })
}
