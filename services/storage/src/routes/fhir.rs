//! Creating under `/fhir`: single resources, batches and transactions.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, post, web};
use bytes::Bytes;
use hbc_service::idempotency::{IdempotencyKey, Slot};
use hbc_service::{Body, Problem};
use hbc_types::Digest;
use hbc_types::problem::Slug;
use hbc_types::wire::storage::AnchorState;

use serde_json::Value;

use crate::app::App;
use crate::domain::author::Author;
use crate::domain::bundle::{Bundle, Outcome};
use crate::domain::criteria::{self, Criteria};
use crate::error::Error;
use crate::flows::create::{self, Created, Found, Leave};
use crate::flows::read::{self, RecordReader};
use crate::routes::context::{Returns, author_by_head, author_of, bases, header, prefer, wait_for};
use crate::routes::fhir_answer::{
    FhirCaller, FhirProblem, Headers, done, entries, fhir_headers, is_fhir_json, resource_headers,
    response_bundle, saved, with_headers,
};
use crate::routes::fhir_batch;

/// Works on a batch or transaction bundle. One bundle is for one account: the caller's own, or the one that
/// `HBC-Patient` names (`dir` for the directory), or, for a device, the one that its resources name as `Patient/pat-…`.
#[utoipa::path(tag = "fhir", operation_id = "fhir_bundle", security(("user" = [])),
    request_body(content = serde_json::Value, content_type = "application/fhir+json"),
    params(("HBC-Patient" = Option<String>, Header, description = "The account the bundle is for"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: up to N seconds for the block"),
        IdempotencyKey),
    responses(
        (status = 200, description = "Response bundle", content_type = "application/fhir+json",
            headers(("HBC-Anchor" = AnchorState, description = "Where the new records' anchor stands"),
                ("HBC-Cid" = String, description = "The IPFS object of the first of them"))),
        (status = 404),
        (status = 406, description = "The client takes no JSON of FHIR 4.0"),
        (status = 409, description = "The account has this Patient already, with other content: nothing was changed"),
        (status = 412, description = "Several records meet a condition, or what a reference names"),
        (status = 429, description = "The account has written as much as it may on one day"),
        (status = 503),
    ))]
#[post("/fhir")]
pub async fn upload_bundle(
    caller: FhirCaller,
    key: IdempotencyKey,
    request: HttpRequest,
    body: Body,
    app: web::Data<App>,
) -> Result<HttpResponse, FhirProblem> {
    is_fhir_json(&request)?;
    let by_head = author_by_head(&request, &caller.0)?;
    let scope = caller.0.client.as_ref().map(|client| client.scope.clone());
    let bundle = create::read_bundle(&app, body.clone(), bases(&app, &request), scope).await?;
    let (kind, reads) = (bundle.kind, bundle.reads());
    if !reads.is_empty() && reads.len() == bundle.entries.len() {
        let entries = vec![Value::Null; reads.len()];
        let read = fhir_batch::read_all(&app, &request, &caller.0, &reads).await;
        return Ok(with_headers(StatusCode::OK, &fhir_headers(), response_bundle(kind, &entries, &read)));
    }
    let author = by_head.map_or_else(|| author_of(&request, &caller.0, &bundle), Ok)?;
    let leave = create::admit(&app, &author, &bundle).await?;
    let work = async |slot: Slot| {
        let headers = |created: &Created, state: AnchorState| {
            let mut headers = fhir_headers();
            if let Some(first) = created.stored.first() {
                headers.push(("hbc-anchor", state.code().to_owned()));
                headers.push(("hbc-cid", first.cid.clone()));
            }
            headers
        };
        let save = |created: &Created| {
            let headers = headers(created, AnchorState::Pending);
            let answer = response_bundle(kind, &entries(created), &BTreeMap::new());
            saved(&slot, StatusCode::OK, &headers, &String::from_utf8_lossy(&answer), created.now)
        };
        let created = create::create(&app, &author, &body, bundle, leave, save).await?;
        let state = anchor_state(&app, &created, prefer(&request).wait).await;
        let headers = headers(&created, state);
        let read = fhir_batch::read_all(&app, &request, &caller.0, &reads).await;
        let answer = response_bundle(kind, &entries(&created), &read);
        Ok::<_, Error>(with_headers(StatusCode::OK, &headers, answer))
    };
    key.once(app.get_ref(), caller.0.account.as_str(), Digest::of(&body), work).await
}

/// Creates a resource. A device need not name the account in `HBC-Patient`: the resource does, as `Patient/pat-…`.
#[utoipa::path(tag = "fhir", operation_id = "fhir_create", security(("user" = [])),
    request_body(content = serde_json::Value, content_type = "application/fhir+json"),
    params(("type" = String, Path, description = "FHIR R4 resource type"),
        ("If-None-Exist" = Option<String>, Header, description = "`identifier=…`: FHIR's token search"),
        ("HBC-Patient" = Option<String>, Header, description = "The account the record is for"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`, `return=minimal`"),
        IdempotencyKey),
    responses(
        (status = 201, description = "The resource as created", content_type = "application/fhir+json",
            headers(("Location" = String, description = "Where it is read"),
                ("ETag" = String, description = "Its version"),
                ("Last-Modified" = String, description = "When it was created"),
                ("HBC-Anchor" = AnchorState, description = "Where its anchor stands"))),
        (status = 200, description = "It exists already", content_type = "application/fhir+json",
            headers(("Location" = String, description = "Where it is read"))),
        (status = 406, description = "The client takes no JSON of FHIR 4.0"),
        (status = 409, description = "The account has this Patient already, with other content: nothing was changed"),
        (status = 412, description = "Several records meet the condition, or what a reference names"),
        (status = 429, description = "The account has written as much as it may on one day"),
        (status = 503),
    ))]
#[post("/fhir/{type}")]
pub async fn create_resource(
    caller: FhirCaller,
    key: IdempotencyKey,
    kind: web::Path<String>,
    request: HttpRequest,
    body: Body,
    app: web::Data<App>,
) -> Result<HttpResponse, FhirProblem> {
    let kind = kind.into_inner();
    if hbc_types::classify::type_category(&kind).is_none() {
        return Err(Problem::new(Slug::NotFound).into());
    }
    is_fhir_json(&request)?;
    check_no_query(&request)?;
    let by_head = author_by_head(&request, &caller.0)?;
    let condition = condition(&request, &kind)?;
    let bundle = create::read_single(&app, body.clone(), bases(&app, &request), kind, condition).await?;
    let author = by_head.map_or_else(|| author_of(&request, &caller.0, &bundle), Ok)?;
    let leave = create::admit(&app, &author, &bundle).await?;
    let work = async |slot| create_single(&app, &author, &request, &body, (bundle, leave), slot).await;
    key.once(app.get_ref(), caller.0.account.as_str(), Digest::of(&body), work).await
}

/// Writes what a bundle of one entry asks for, and answers it.
pub(super) async fn create_single(
    app: &App,
    author: &Author,
    request: &HttpRequest,
    body: &Bytes,
    (bundle, leave): (Bundle, Leave),
    slot: Slot,
) -> Result<HttpResponse, Error> {
    let save = |created: &Created| {
        // The saved answer has no body: nothing of a record lies in the database in clear.
        saved(&slot, status(created), &created_headers(created, AnchorState::Pending), "", created.now)
    };
    let created = create::create(app, author, body, bundle, leave.clone(), save).await?;
    let prefer = prefer(request);
    let state = anchor_state(app, &created, prefer.wait).await;
    let found = created.outcomes.first().and_then(|outcome| created.record(outcome));
    let told = matches!(found, Some(Found { deleted: true, .. })) && prefer.returns == Returns::Outcome;
    let status = if told { StatusCode::OK } else { status(&created) };
    let body = match prefer.returns {
        _ if told => done("deleted: nobody is shown it any more").to_string().into_bytes(),
        _ if status == StatusCode::NO_CONTENT => Vec::new(),
        Returns::Representation => match &created.applied {
            Some(applied) => applied.to_vec(),
            None => kept(app, author, &leave, &created).await.unwrap_or_default(),
        },
        Returns::Minimal => Vec::new(),
        Returns::Outcome => done("written, and encrypted for its patient").to_string().into_bytes(),
    };
    Ok(with_headers(status, &created_headers(&created, state), body))
}

/// The resource that was there and stays as it is, if its author may read it.
async fn kept(app: &App, author: &Author, leave: &Leave, created: &Created) -> Option<Vec<u8>> {
    let Some(Outcome::Existing { id, .. }) = created.outcomes.first() else { return None };
    let row = read::find(app, id, None).await.ok().filter(|row| leave.reads(author, row))?;
    let Author { caller, token, purpose, account: _ } = author.clone();
    let reader = RecordReader { account: caller, token, purpose };
    read::open_one(app, &reader, row).await.ok()?.applied().ok()
}

/// How what became of one resource is answered.
fn status(created: &Created) -> StatusCode {
    match created.outcomes.first().and_then(|outcome| created.record(outcome)) {
        Some(Found { deleted: true, .. }) | None => StatusCode::NO_CONTENT,
        Some(Found { new: true, version: 1, .. }) => StatusCode::CREATED,
        Some(_) => StatusCode::OK,
    }
}

/// The headers of one written resource.
fn created_headers(created: &Created, state: AnchorState) -> Headers {
    let Some(found) = created.outcomes.first().and_then(|outcome| created.record(outcome)) else {
        return vec![("cache-control", "no-store".to_owned())];
    };
    let mut headers = resource_headers(found.version, found.at);
    if !found.deleted {
        let place = format!("/fhir/{}/{}/_history/{}", found.kind, found.id, found.version);
        headers.push(("location", place));
    }
    headers.push(("hbc-anchor", state.code().to_owned()));
    headers.extend(created.stored.first().map(|stored| ("hbc-cid", stored.cid.clone())));
    headers
}

/// Waits until the anchor of what was written is final, at most as long as was asked for.
async fn anchor_state(app: &App, created: &Created, wait: Duration) -> AnchorState {
    match created.stored.first() {
        Some(stored) => wait_for(app, &stored.cid, wait).await,
        None => AnchorState::Pending,
    }
}

/// Refuses what a create does not know: some clients of other servers put a condition there, and without it they would make a
/// duplicate.
fn check_no_query(request: &HttpRequest) -> Result<(), Problem> {
    let names = request.query_string().split('&').map(|part| part.split('=').next().unwrap_or_default());
    match names.into_iter().find(|name| !matches!(*name, "" | "_format" | "_pretty")) {
        None => Ok(()),
        Some(name) => {
            let why = "is no parameter of a create: a condition stands in the header If-None-Exist";
            Err(Problem::new(Slug::MalformedRequest).field(name, why))
        }
    }
}

fn condition(request: &HttpRequest, kind: &str) -> Result<Option<Criteria>, FhirProblem> {
    let Some(query) = header(request, "If-None-Exist")? else { return Ok(None) };
    let criteria = Criteria::of_condition(kind, query);
    let refuse = || Error::invalid("If-None-Exist", criteria::FORM);
    Ok(Some(criteria.ok_or_else(refuse)?))
}
