//! Changing what is there under `/fhir`: update, patch, delete, each also by a condition.
//!
//! Source: <https://hl7.org/fhir/R4/http.html#update>. Why: decision 0138.

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse, delete, patch, put, web};
use bytes::Bytes;
use hbc_service::idempotency::{IdempotencyKey, Slot};
use hbc_service::openapi::StoreProblems;
use hbc_service::{Body, Caller, Problem};
use hbc_types::Digest;
use hbc_types::classify;
use hbc_types::ids::{AccountId, RecordId};
use hbc_types::problem::Slug;
use hbc_types::wire::storage::AnchorState;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::app::{App, blocking};
use crate::domain::author::Author;
use crate::domain::bundle::{Aim, Bundle, BundleError, NOT_YOURS, Which};
use crate::domain::criteria::{self, Criteria};
use crate::domain::issue::{Fault, Issue};
use crate::domain::patch;
use crate::error::Error;
use crate::flows::opened::Opened;
use crate::flows::read::RecordReader;
use crate::flows::{create, read};
use crate::routes::context::{author_by_head, author_of, bases, if_match, purpose};
use crate::routes::fhir::create_single;
use crate::routes::fhir_answer::{FhirCaller, FhirProblem, is_fhir_json};
use crate::routes::records_read::{find, record_named};
use crate::store::TrustedRow;

/// How often a patch is applied anew because somebody else changed the resource meanwhile.
const PATCHES: usize = 3;

/// Puts a resource in the place of the one with this id. Ids are given by the server: nothing is created. Only who wrote it may;
/// a patient's correction of what another wrote is a record of its own.
#[utoipa::path(tag = "fhir", operation_id = "fhir_update", security(("user" = [])),
    request_body(content = serde_json::Value, content_type = "application/fhir+json"),
    params(("type" = String, Path, description = "FHIR R4 resource type"),
        ("id" = String, Path, description = "The record, or for Patient the account"),
        ("If-Match" = Option<String>, Header, description = "The version that it must have: `W/\"1\"`"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`, `return=minimal`, `return=OperationOutcome`"),
        IdempotencyKey),
    responses(
        (status = 200, description = "The resource as it is now", content_type = "application/fhir+json",
            headers(("ETag" = String, description = "Its version"),
                ("Last-Modified" = String, description = "When this version was written"),
                ("HBC-Anchor" = AnchorState, description = "Where its anchor stands"))),
        (status = 405, description = "No record has this id, as far as the caller may know"),
        (status = 406, description = "The client takes no JSON of FHIR 4.0"),
        (status = 409, description = "Others changed it at the same time, again and again"),
        (status = 412, description = "It has another version"),
        (status = 429, description = "The account has written as much as it may on one day"),
        (status = 503),
    ))]
#[put("/fhir/{type}/{id}")]
pub async fn update_resource(
    caller: FhirCaller,
    key: IdempotencyKey,
    path: web::Path<(String, String)>,
    request: HttpRequest,
    body: Body,
    app: web::Data<App>,
) -> Result<HttpResponse, FhirProblem> {
    let (kind, id) = path.into_inner();
    is_fhir_json(&request)?;
    let aim = Aim { kind: known(kind)?, which: Which::Id(id), version: if_match(&request)? };
    let bundle = create::read_update(&app, body.clone(), bases(&app, &request), aim.clone()).await?;
    let done = change(&app, &request, &caller.0, &key, (&aim, bundle, &body)).await;
    done.map_err(|FhirProblem(problem)| match problem.slug() {
        Slug::NotFound => {
            let why = "no record has this id: the server gives ids, send it to the type by POST";
            Problem::new(Slug::MethodNotAllowed).detail(why).into()
        }
        _ => problem.into(),
    })
}

/// Puts a resource in the place of the one that meets a condition; where none does, it is created.
#[utoipa::path(tag = "fhir", operation_id = "fhir_conditional_update", security(("user" = [])),
    request_body(content = serde_json::Value, content_type = "application/fhir+json"),
    params(("type" = String, Path, description = "FHIR R4 resource type"),
        ("identifier" = String, Query, description = "FHIR's token search"),
        ("If-Match" = Option<String>, Header, description = "The version that it must have: `W/\"1\"`"),
        ("HBC-Patient" = Option<String>, Header, description = "The account the record is for"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`, `return=minimal`, `return=OperationOutcome`"),
        IdempotencyKey),
    responses(
        (status = 200, description = "The resource as it is now", content_type = "application/fhir+json",
            headers(("ETag" = String, description = "Its version"))),
        (status = 201, description = "The resource as created", content_type = "application/fhir+json",
            headers(("Location" = String, description = "Where it is read"))),
        (status = 404),
        (status = 406, description = "The client takes no JSON of FHIR 4.0"),
        (status = 409, description = "Others changed it at the same time, again and again"),
        (status = 412, description = "Several records meet the condition, or it has another version"),
        (status = 429, description = "The account has written as much as it may on one day"),
        (status = 503),
    ))]
#[put("/fhir/{type}")]
pub async fn update_meeting(
    caller: FhirCaller,
    key: IdempotencyKey,
    kind: web::Path<String>,
    request: HttpRequest,
    body: Body,
    app: web::Data<App>,
) -> Result<HttpResponse, FhirProblem> {
    is_fhir_json(&request)?;
    let aim = meeting(known(kind.into_inner())?, &request)?;
    let bundle = create::read_update(&app, body.clone(), bases(&app, &request), aim.clone()).await?;
    change(&app, &request, &caller.0, &key, (&aim, bundle, &body)).await
}

/// Applies a JSON Patch (RFC 6902) to a resource as `/fhir` shows it. Numbers stay as they are written.
#[utoipa::path(tag = "fhir", operation_id = "fhir_patch", security(("user" = [])),
    request_body(content = serde_json::Value, content_type = "application/json-patch+json"),
    params(("type" = String, Path, description = "FHIR R4 resource type"),
        ("id" = String, Path, description = "The record, or for Patient the account"),
        ("If-Match" = Option<String>, Header, description = "The version that it must have: `W/\"1\"`"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`, `return=minimal`, `return=OperationOutcome`"),
        IdempotencyKey),
    responses(
        (status = 200, description = "The resource as it is now", content_type = "application/fhir+json",
            headers(("ETag" = String, description = "Its version"))),
        (status = 406, description = "The client takes no JSON of FHIR 4.0"),
        (status = 409, description = "Others changed it at the same time, again and again"),
        (status = 412, description = "It has another version"),
        (status = 429, description = "The account has written as much as it may on one day"),
        StoreProblems,
    ))]
#[patch("/fhir/{type}/{id}")]
pub async fn patch_resource(
    caller: FhirCaller,
    key: IdempotencyKey,
    path: web::Path<(String, String)>,
    request: HttpRequest,
    body: Body,
    app: web::Data<App>,
) -> Result<HttpResponse, FhirProblem> {
    let (kind, id) = path.into_inner();
    let kind = known(kind)?;
    check_patch(&request)?;
    let wanted = if_match(&request)?;
    // Who may not change it has nothing patched.
    let aim = Aim { kind: kind.clone(), which: Which::Id(id.clone()), version: None };
    let author = author_of_change(&app, &request, &caller.0, &aim).await?;
    let (reader, opened) = opened(&app, &request, &caller.0, (&kind, &id)).await?;
    let digest = Digest::of(&body);
    let work = async |slot: Slot| {
        let (mut current, mut attempt) = (opened, 1);
        loop {
            let TrustedRow { row, .. } = &current.trusted;
            let (record, version) = (row.id.clone(), row.version);
            let aim = Aim { kind: kind.clone(), which: Which::Id(id.clone()), version: Some(version) };
            if wanted.is_some_and(|wanted| wanted != version) {
                return Err(stale(&kind, version));
            }
            let patched = patched(&app, &current, &body).await?;
            let bundle = create::read_update(&app, patched.clone(), bases(&app, &request), aim).await?;
            let leave = create::admit(&app, &author, &bundle).await?;
            match create_single(&app, &author, &request, &patched, (bundle, leave), slot).await {
                Err(error) if error.is_stale() && wanted.is_none() && attempt < PATCHES => attempt += 1,
                answer => return answer,
            }
            current = read::open_one(&app, &reader, read::find(&app, &record, None).await?).await?;
        }
    };
    key.once(app.get_ref(), caller.0.account.as_str(), digest, work).await
}

/// That a resource has another version than was said.
fn stale(kind: &str, version: u32) -> Error {
    let message = format!("is version {version} now");
    let issue = Issue { expression: kind.to_owned(), message, fault: Fault::Stale };
    Error::Bundle(BundleError::Invalid(vec![issue]))
}

/// Deletes a resource: later reads answer 410, its earlier versions stay in its history. Its author may, and the patient.
#[utoipa::path(tag = "fhir", operation_id = "fhir_delete", security(("user" = [])),
    params(("type" = String, Path, description = "FHIR R4 resource type"),
        ("id" = String, Path, description = "The record"),
        ("If-Match" = Option<String>, Header, description = "The version that it must have: `W/\"1\"`"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)"),
        IdempotencyKey),
    responses(
        (status = 204, description = "It is deleted"),
        (status = 200, description = "It is deleted, told as was preferred", content_type = "application/fhir+json"),
        (status = 406, description = "The client takes no JSON of FHIR 4.0"),
        (status = 409, description = "The account's Patient stays as long as the account"),
        (status = 412, description = "It has another version"),
        (status = 429, description = "The account has written as much as it may on one day"),
        StoreProblems,
    ))]
#[delete("/fhir/{type}/{id}")]
pub async fn delete_resource(
    caller: FhirCaller,
    key: IdempotencyKey,
    path: web::Path<(String, String)>,
    request: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, FhirProblem> {
    let (kind, id) = path.into_inner();
    let aim = Aim { kind: known(kind)?, which: Which::Id(id), version: if_match(&request)? };
    let bundle = Bundle::delete(aim.clone()).map_err(Error::from)?;
    change(&app, &request, &caller.0, &key, (&aim, bundle, &Bytes::new())).await
}

/// Deletes the resource that meets a condition, if one does.
#[utoipa::path(tag = "fhir", operation_id = "fhir_conditional_delete", security(("user" = [])),
    params(("type" = String, Path, description = "FHIR R4 resource type"),
        ("identifier" = String, Query, description = "FHIR's token search"),
        ("HBC-Patient" = Option<String>, Header, description = "The account the record is of"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)"),
        IdempotencyKey),
    responses(
        (status = 204, description = "Nothing meets the condition any more"),
        (status = 200, description = "It is deleted, told as was preferred", content_type = "application/fhir+json"),
        (status = 404),
        (status = 406, description = "The client takes no JSON of FHIR 4.0"),
        (status = 409, description = "The account's Patient stays as long as the account"),
        (status = 412, description = "Several records meet the condition"),
        (status = 429, description = "The account has written as much as it may on one day"),
        (status = 503),
    ))]
#[delete("/fhir/{type}")]
pub async fn delete_meeting(
    caller: FhirCaller,
    key: IdempotencyKey,
    kind: web::Path<String>,
    request: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, FhirProblem> {
    let aim = meeting(known(kind.into_inner())?, &request)?;
    let bundle = Bundle::delete(aim.clone()).map_err(Error::from)?;
    change(&app, &request, &caller.0, &key, (&aim, bundle, &Bytes::new())).await
}

/// A type that is kept here.
fn known(kind: String) -> Result<String, Problem> {
    let known = classify::type_category(&kind).is_some();
    if known { Ok(kind) } else { Err(Problem::new(Slug::NotFound)) }
}

/// What the query of a request names.
fn meeting(kind: String, request: &HttpRequest) -> Result<Aim, Problem> {
    let refuse = || Problem::new(Slug::MalformedRequest).field("identifier", criteria::FORM);
    let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
    let pairs = pairs.map_err(|_query| refuse())?.into_inner();
    let mut said = pairs.into_iter().filter(|(name, _)| !matches!(name.as_str(), "_format" | "_pretty"));
    let criteria = match (said.next(), said.next()) {
        (Some((name, value)), None) if name == "identifier" => {
            let escaped = utf8_percent_encode(&value, NON_ALPHANUMERIC);
            Criteria::parse(&kind, &format!("identifier={escaped}"))
        }
        _ => None,
    };
    let which = Which::Meeting(criteria.ok_or_else(refuse)?);
    Ok(Aim { kind, which, version: if_match(request)? })
}

fn check_patch(request: &HttpRequest) -> Result<(), Problem> {
    let given = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json-patch+json") {
        Ok(())
    } else {
        Err(Problem::new(Slug::UnsupportedMediaType).detail("send application/json-patch+json"))
    }
}

/// Changes what a bundle of one entry names.
async fn change(
    app: &web::Data<App>,
    request: &HttpRequest,
    caller: &Caller,
    key: &IdempotencyKey,
    (aim, bundle, body): (&Aim, Bundle, &Bytes),
) -> Result<HttpResponse, FhirProblem> {
    let author = match &aim.which {
        Which::Id(_) => author_of_change(app, request, caller, aim).await?,
        Which::Meeting(_) => {
            author_by_head(request, caller)?.map_or_else(|| author_of(request, caller, &bundle), Ok)?
        }
    };
    let leave = create::admit(app, &author, &bundle).await?;
    let work = async |slot| create_single(app, &author, request, body, (bundle, leave), slot).await;
    key.once(app.get_ref(), caller.account.as_str(), Digest::of(body), work).await
}

/// Who changes something, in which account: that of the record that is named.
async fn author_of_change(
    app: &App,
    request: &HttpRequest,
    caller: &Caller,
    aim: &Aim,
) -> Result<Author, FhirProblem> {
    let Which::Id(id) = &aim.which else { return Err(Problem::new(Slug::NotFound).into()) };
    let record = record_named(app, request, caller, (&aim.kind, id)).await?;
    let newest = match &record {
        Some(id) => read::find(app, id, None).await.map(Some),
        None => Ok(None),
    };
    let own = match newest {
        Ok(newest) => newest.filter(|row| row.row.kind == aim.kind && is_own(caller, row)),
        Err(Error::NotFound) => None,
        Err(error) => return Err(error.into()),
    };
    let Some(row) = own else {
        // To others it is told as when they read it: who may not know of it hears what they hear of what is not there.
        let id = record.as_ref().map_or(id.as_str(), RecordId::as_str);
        let (reader, row) = find(app, request, caller, id, None).await?;
        read::decide_for(app, &reader, &row).await?;
        return Err(match row.row.kind == aim.kind {
            true => Problem::new(Slug::Forbidden).detail(NOT_YOURS).into(),
            false => Problem::new(Slug::NotFound).into(),
        });
    };
    let account = row.secret.patient;
    let purpose = purpose(request, caller, Some(&account))?;
    let token = caller.token.clone();
    Ok(Author { caller: caller.account.clone(), account, token, purpose })
}

/// Whether it is the caller's to change, as far as the newest version says: the patient deletes whatever it is.
fn is_own(caller: &Caller, row: &TrustedRow) -> bool {
    let account = &row.secret.patient;
    match &caller.account {
        AccountId::Patient(own) => own == account,
        AccountId::Operator(_) => account.is_directory(),
        other => row.secret.author == *other,
    }
}

/// The resource that is to be patched, as the caller may read it.
async fn opened(
    app: &App,
    request: &HttpRequest,
    caller: &Caller,
    (kind, id): (&str, &str),
) -> Result<(RecordReader, Opened), FhirProblem> {
    let record = record_named(app, request, caller, (kind, id)).await?;
    let id = record.as_ref().map_or(id, RecordId::as_str);
    let (reader, row) = find(app, request, caller, id, None).await?;
    let is_other = row.row.kind != kind;
    let opened = read::open_one(app, &reader, row).await?;
    if is_other { Err(Problem::new(Slug::NotFound).into()) } else { Ok((reader, opened)) }
}

/// A resource as it is after a patch.
async fn patched(app: &App, opened: &Opened, patch: &Bytes) -> Result<Bytes, Error> {
    let (applied, patch) = (opened.applied()?, patch.clone());
    let _turn = app.parsing.turn(None, (applied.len() + patch.len()) as u64).await;
    blocking(move || patch::apply(&applied, &patch).map(Bytes::from)).await
}
