//! What requests say beside path and body: for whom (`HBC-Patient`), why (`HBC-Purpose`), how long to wait (`Prefer`).

use std::time::{Duration, SystemTime};

use actix_web::HttpRequest;
use actix_web::http::Method;
use actix_web::http::header::HttpDate;
use hbc_client::ledger::Settlement;
use hbc_service::{Caller, Problem, base_url};
use hbc_types::Timestamp;
use hbc_types::account::Role;
use hbc_types::ids::{AccountId, PatientId};
use hbc_types::outbox::TransactionState;
use hbc_types::problem::Slug;
use hbc_types::purpose::Purpose;
use hbc_types::wire::storage::AnchorState;

use crate::app::App;
use crate::domain::author::Author;
use crate::domain::bundle::{Bundle, version_of};
use crate::domain::reference::Bases;
use crate::flows::read::RecordReader;
use crate::store::SegmentRow;

/// Longest wait for a block.
const LONGEST_WAIT_SECONDS: u64 = 30;

/// A header's text.
pub fn header<'r>(request: &'r HttpRequest, name: &str) -> Result<Option<&'r str>, Problem> {
    let Some(value) = request.headers().get(name) else { return Ok(None) };
    value.to_str().map(Some).map_err(|_not_ascii| Problem::invalid(name, "must be visible ASCII"))
}

/// The URLs under which `/fhir` is reached: those that are configured, and the one that this request came by.
pub fn bases(app: &App, request: &HttpRequest) -> Bases {
    app.bases.and(&format!("{}/fhir", base_url(request)))
}

/// The account that a request is for: the one that `HBC-Patient` names, or the caller's own.
pub fn account(request: &HttpRequest, caller: &Caller) -> Result<PatientId, Problem> {
    match (header(request, "HBC-Patient")?, own_patient(caller)) {
        (Some(text), _) => {
            PatientId::parse(text).map_err(|error| Problem::invalid("HBC-Patient", error.to_string()))
        }
        (None, Some(own)) => Ok(own.clone()),
        (None, None) => Err(Problem::invalid("HBC-Patient", "names the account that this is for")),
    }
}

/// Whom a request is about that names nobody: the patient who calls, or who let the app in that does.
pub fn own_patient(caller: &Caller) -> Option<&PatientId> {
    match &caller.account {
        AccountId::Patient(own) => Some(own),
        _ => caller.client.as_ref().and_then(|client| client.patient.as_ref()),
    }
}

/// Why: `HBC-Purpose`. Patients need not say it, nobody who reads or writes the directory, no agency whose type has a usual
/// purpose, and no client: its token does, and the header may say nothing else.
pub fn purpose(
    request: &HttpRequest,
    caller: &Caller,
    patient: Option<&PatientId>,
) -> Result<Purpose, Problem> {
    let registered = caller.client.as_ref().and_then(|client| client.purpose);
    match (header(request, "HBC-Purpose")?, registered) {
        (Some(code), registered) => {
            let unknown =
                || Problem::invalid("HBC-Purpose", "must be an HL7 v3 PurposeOfUse code that is known here");
            let purpose = Purpose::parse(code).ok_or_else(unknown)?;
            match registered {
                Some(registered) if registered != purpose => {
                    Err(Problem::invalid("HBC-Purpose", format!("this client asks for {registered} alone")))
                }
                _ => Ok(purpose),
            }
        }
        (None, Some(registered)) => Ok(registered),
        (None, None) if caller.role == Role::Patient => Ok(Purpose::PatientRequest),
        (None, None) if patient.is_some_and(PatientId::is_directory) => Ok(Purpose::Treatment),
        (None, None) => caller.usual_purpose.ok_or_else(|| Problem::new(Slug::PurposeRequired)),
    }
}

/// Who reads a patient's records, and why.
pub fn reader(
    request: &HttpRequest,
    caller: &Caller,
    patient: Option<&PatientId>,
) -> Result<RecordReader, Problem> {
    let purpose = purpose(request, caller, patient)?;
    Ok(RecordReader { account: caller.account.clone(), token: caller.token.clone(), purpose })
}

/// Who writes, for whom and why.
pub fn author(request: &HttpRequest, caller: &Caller) -> Result<Author, Problem> {
    let account = account(request, caller)?;
    let purpose = purpose(request, caller, Some(&account))?;
    Ok(Author { caller: caller.account.clone(), account, token: caller.token.clone(), purpose })
}

/// Who writes, as far as the head of the request says it: of others than a patient who name no account the body tells
/// ([`author_of`]).
pub fn author_by_head(request: &HttpRequest, caller: &Caller) -> Result<Option<Author>, Problem> {
    let for_another = caller.client.is_some() || own_patient(caller).is_none();
    let told_by_body = for_another && header(request, "HBC-Patient")?.is_none();
    if told_by_body { Ok(None) } else { author(request, caller).map(Some) }
}

/// Who writes, where the head of the request does not say for whom: for the one Patient, `Patient/pat-…`, that the bundle's
/// resources are of; for the directory, where all are of its types.
pub fn author_of(request: &HttpRequest, caller: &Caller, bundle: &Bundle) -> Result<Author, Problem> {
    let account = bundle.account().ok_or_else(|| {
        Problem::invalid(
            "subject",
            "name one account: all as `Patient/pat-…`, or in the header `HBC-Patient`",
        )
    })?;
    let purpose = purpose(request, caller, Some(&account))?;
    Ok(Author { caller: caller.account.clone(), account, token: caller.token.clone(), purpose })
}

/// `Prefer: wait=N`, and `return=…`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prefer {
    /// How long to wait for the block.
    pub wait: Duration,
    /// What is wanted as the body.
    pub returns: Returns,
}

/// What a writing request wants as the body of its answer (<https://hl7.org/fhir/R4/http.html#ops>).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Returns {
    /// The resource.
    #[default]
    Representation,
    /// Nothing.
    Minimal,
    /// An OperationOutcome.
    Outcome,
}

/// The preferences of a request; unknown ones are ignored, as RFC 7240 wants it.
pub fn prefer(request: &HttpRequest) -> Prefer {
    let mut found = Prefer::default();
    let values = request.headers().get_all("prefer").filter_map(|value| value.to_str().ok());
    for preference in values.flat_map(|value| value.split([',', ';'])) {
        match preference.trim().split_once('=') {
            Some(("wait", seconds)) => {
                let seconds: u64 = seconds.trim_matches('"').parse().unwrap_or(0);
                found.wait = Duration::from_secs(seconds.min(LONGEST_WAIT_SECONDS));
            }
            Some(("return", "minimal")) => found.returns = Returns::Minimal,
            Some(("return", "OperationOutcome")) => found.returns = Returns::Outcome,
            _ => {}
        }
    }
    found
}

/// The version that a resource must have (`If-Match`), if one is said.
pub fn if_match(request: &HttpRequest) -> Result<Option<u32>, Problem> {
    let Some(text) = header(request, "If-Match")? else { return Ok(None) };
    if text.trim() == "*" {
        return Ok(None);
    }
    let form = || Problem::new(Slug::MalformedRequest).field("If-Match", "must be a version as `W/\"1\"`");
    version_of(text).map(Some).ok_or_else(form)
}

/// Whether the client has this version already (`If-None-Match`, and without it `If-Modified-Since`).
///
/// Source: RFC 9110 §13.1, <https://hl7.org/fhir/R4/http.html#cread>.
#[must_use]
pub fn is_known(request: &HttpRequest, version: u32, updated: Timestamp) -> bool {
    // What a bundle's entries read has no conditions of the bundle.
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return false;
    }
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    if let Some(tags) = text("If-None-Match") {
        return tags.split(',').any(|tag| tag.trim() == "*" || version_of(tag) == Some(version));
    }
    let since = text("If-Modified-Since").and_then(|text| text.parse::<HttpDate>().ok());
    let second = |since: HttpDate| {
        let since = SystemTime::from(since).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        since.as_secs() >= updated.unsigned_ms() / 1_000
    };
    since.is_some_and(second)
}

/// Waits until the anchor of a segment is final or refused, at most as long as was asked for. For one that waits for its
/// anchor nobody waits.
pub async fn wait_for(app: &App, cid: &str, wait: Duration) -> AnchorState {
    if wait.is_zero() {
        return AnchorState::Pending;
    }
    let Ok(Some(SegmentRow { txid: Some(txid), .. })) = app.store.segment(cid).await else {
        return AnchorState::Pending;
    };
    let waiter = app.finality.register(txid);
    match hbc_db::outbox::state(app.db.reads(), txid).await {
        Ok(Some(TransactionState::Final { .. })) => return AnchorState::Final,
        Ok(Some(TransactionState::Refused { .. })) => return AnchorState::Refused,
        Ok(Some(TransactionState::Waiting | TransactionState::Submitted) | None) | Err(_) => {}
    }
    match waiter.settled(wait).await {
        Some(Settlement::Final { .. }) => AnchorState::Final,
        Some(Settlement::Refused { .. }) => AnchorState::Refused,
        None => AnchorState::Pending,
    }
}
