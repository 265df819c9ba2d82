//! Histories under `/fhir`: the versions of one resource, of a type, of all of a patient's, the newest first.
//!
//! Source: <https://hl7.org/fhir/R4/http.html#history>. Why: decision 0138.

use std::collections::HashMap;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, get, web};
use hbc_service::openapi::StoreProblems;
use hbc_service::{Caller, Problem, base_url, paging};
use hbc_types::Timestamp;
use hbc_types::classify;
use hbc_types::ids::{PatientId, RecordId};
use hbc_types::labels::Category;
use hbc_types::problem::Slug;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::App;
use crate::domain::moment::Moment;
use crate::domain::resource::{DOCUMENT, fhir_id};
use crate::domain::search::values::{DEFAULT_COUNT, QueryError, count};
use crate::flows::opened::Opened;
use crate::flows::read::{self, History};
use crate::flows::search::fitting;
use crate::routes::context::{own_patient, reader};
use crate::routes::fhir_answer::{FHIR_JSON, FhirCaller, FhirProblem, bundle_of, name_of};
use crate::routes::fhir_search::account_of;
use crate::routes::records_read::{find, record_named};
use crate::routes::searchset::Notices;
use crate::store::{TrustedRow, Versions};

/// Where a page of a history ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct After {
    /// When the last version was written.
    at: i64,
    /// Its record.
    id: String,
    /// Its number.
    version: u32,
}

/// The versions of a resource that the caller may see, the newest first. A deletion is an entry without a resource.
#[utoipa::path(tag = "fhir", operation_id = "fhir_instance_history", security(("user" = [])),
    params(("type" = String, Path, description = "FHIR R4 resource type"),
        ("id" = String, Path, description = "The record, or for Patient the account"),
        ("_count" = Option<u32>, Query, description = "On a page, 500 at most, 50 unless given"),
        ("_since" = Option<String>, Query, description = "Only versions written at this instant or later"),
        ("_cursor" = Option<String>, Query, description = "From the link `next`"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)")),
    responses(
        (status = 200, description = "Bundle of type history", content_type = "application/fhir+json"),
        (status = 406, description = "The client takes no JSON of FHIR 4.0"),
        StoreProblems,
    ))]
#[get("/fhir/{type}/{id}/_history")]
pub async fn instance_history(
    caller: FhirCaller,
    path: web::Path<(String, String)>,
    query: web::Query<Vec<(String, String)>>,
    request: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, FhirProblem> {
    let (kind, id) = path.into_inner();
    let mut versions = parse(&query)?.0;
    let record = record_named(&app, &request, &caller.0, (&kind, &id)).await?;
    let id = record.as_ref().map_or(id.as_str(), RecordId::as_str);
    let (reader, newest) = find(&app, &request, &caller.0, id, None).await?;
    read::decide_for(&app, &reader, &newest).await?;
    if newest.row.kind != kind || kind == DOCUMENT {
        return Err(Problem::new(Slug::NotFound).into());
    }
    versions.record = Some(newest.row.id);
    page(&app, &request, &caller.0, &newest.secret.patient, classify::type_categories(&kind), &versions).await
}

/// The versions of a patient's resources of a type, the newest first.
#[utoipa::path(tag = "fhir", operation_id = "fhir_type_history", security(("user" = [])),
    params(("type" = String, Path, description = "FHIR R4 resource type"),
        ("patient" = Option<String>, Query, description = "Account or Patient; if absent the caller's own, or whose app calls"),
        ("_count" = Option<u32>, Query, description = "On a page, 500 at most, 50 unless given"),
        ("_since" = Option<String>, Query, description = "Only versions written at this instant or later"),
        ("_cursor" = Option<String>, Query, description = "From the link `next`"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)")),
    responses(
        (status = 200, description = "Bundle of type history", content_type = "application/fhir+json"),
        (status = 406, description = "The client takes no JSON of FHIR 4.0"),
        StoreProblems,
    ))]
#[get("/fhir/{type}/_history")]
pub async fn type_history(
    caller: FhirCaller,
    kind: web::Path<String>,
    query: web::Query<Vec<(String, String)>>,
    request: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, FhirProblem> {
    let kind = kind.into_inner();
    let category = classify::type_category(&kind).ok_or_else(|| Problem::new(Slug::NotFound))?;
    let (mut versions, subject) = parse(&query)?;
    let of_all = category == Category::Directory;
    let patient = whose(&app, &request, &caller.0, subject, of_all).await?;
    let categories = classify::type_categories(&kind);
    versions.kind = Some(kind);
    page(&app, &request, &caller.0, &patient, categories, &versions).await
}

/// The versions of all of a patient's resources, the newest first.
#[utoipa::path(tag = "fhir", operation_id = "fhir_system_history", security(("user" = [])),
    params(("patient" = Option<String>, Query, description = "Account or Patient; if absent the caller's own, or whose app calls"),
        ("_count" = Option<u32>, Query, description = "On a page, 500 at most, 50 unless given"),
        ("_since" = Option<String>, Query, description = "Only versions written at this instant or later"),
        ("_cursor" = Option<String>, Query, description = "From the link `next`"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)")),
    responses(
        (status = 200, description = "Bundle of type history", content_type = "application/fhir+json"),
        (status = 404),
        (status = 406, description = "The client takes no JSON of FHIR 4.0"),
        StoreProblems,
    ))]
#[get("/fhir/_history")]
pub async fn system_history(
    caller: FhirCaller,
    query: web::Query<Vec<(String, String)>>,
    request: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, FhirProblem> {
    let (versions, subject) = parse(&query)?;
    let patient = whose(&app, &request, &caller.0, subject, false).await?;
    page(&app, &request, &caller.0, &patient, Category::ALL.to_vec(), &versions).await
}

/// The account whose versions are asked for.
async fn whose(
    app: &App,
    request: &HttpRequest,
    caller: &Caller,
    subject: Option<String>,
    of_all: bool,
) -> Result<PatientId, FhirProblem> {
    match (subject, own_patient(caller)) {
        (Some(subject), _) => account_of(app, request, caller, &subject).await,
        (None, _) if of_all => Ok(PatientId::directory()),
        (None, Some(own)) => Ok(own.clone()),
        (None, None) => {
            Err(Problem::invalid("patient", "names the account whose records are asked for").into())
        }
    }
}

/// Which versions a query asks for, and of whom.
fn parse(query: &[(String, String)]) -> Result<(Versions, Option<String>), Problem> {
    let mut versions = Versions { limit: DEFAULT_COUNT, ..Versions::default() };
    let mut subject = None;
    for (name, value) in query {
        match name.as_str() {
            "patient" | "subject" => subject = Some(value.clone()),
            "_count" => {
                let wrong =
                    |error: QueryError| Problem::new(Slug::MalformedRequest).field(error.name, error.message);
                versions.limit = count(value).map_err(wrong)?.max(1);
            }
            "_since" => {
                // The `+` of an offset that was not escaped arrives as a space.
                let moment = Moment::parse(&value.replace(' ', "+"));
                let form = || Problem::new(Slug::MalformedRequest).field("_since", "must be an instant");
                let first = moment.ok_or_else(form)?.first;
                versions.since = Some(Timestamp::from_ms(first.div_euclid(1_000).max(0)));
            }
            "_cursor" => {
                let query = paging::PageQuery { limit: None, cursor: Some(value.clone()) };
                let after: Option<After> = query.after()?;
                versions.after = after.map(|after| (Timestamp::from_ms(after.at), after.id, after.version));
            }
            "_at" | "_list" => return Err(Problem::invalid(name.clone(), "is no parameter here")),
            _ => {}
        }
    }
    Ok((versions, subject))
}

/// One page of a history.
async fn page(
    app: &App,
    request: &HttpRequest,
    caller: &Caller,
    patient: &PatientId,
    categories: Vec<Category>,
    versions: &Versions,
) -> Result<HttpResponse, FhirProblem> {
    let reader = reader(request, caller, Some(patient))?;
    let History { mut rows, mut more, left_out } =
        read::history(app, &reader, patient, categories, versions).await?;
    let (_, fits) = fitting(rows.iter().map(|row| row.row.length), (0, rows.len()), false);
    if fits < rows.len() {
        rows.truncate(fits);
        more = true;
    }
    let last = rows.last().filter(|_| more).map(|TrustedRow { row, .. }| After {
        at: row.created_at.ms(),
        id: row.id.as_str().to_owned(),
        version: row.version,
    });
    let there: Vec<TrustedRow> = rows.iter().filter(|row| !row.secret.deleted).cloned().collect();
    let opened = read::open(app, &reader, patient, there, |_needed| false).await?.records;
    // Of one resource that is told, nothing else is missing.
    let left_out = if versions.record.is_some() { Vec::new() } else { left_out };
    let cursor = last.and_then(|after| paging::cursor(&after));
    let body = history(request, &rows, &opened, cursor.as_deref(), &left_out)?;
    Ok(HttpResponse::Ok().content_type(FHIR_JSON).insert_header((CACHE_CONTROL, "no-store")).body(body))
}

/// The resources are put in as the bytes that they are.
fn history(
    request: &HttpRequest,
    rows: &[TrustedRow],
    opened: &[Opened],
    cursor: Option<&str>,
    left_out: &[Category],
) -> Result<Vec<u8>, FhirProblem> {
    let base = base_url(request);
    let links = Value::from(links(request, cursor));
    let key = |row: &TrustedRow| (row.row.id.clone(), row.row.version);
    let contents: HashMap<(RecordId, u32), &Opened> =
        opened.iter().map(|opened| (key(&opened.trusted), opened)).collect();
    let mut entries: Vec<Vec<u8>> = Vec::with_capacity(rows.len() + 1);
    for trusted in rows {
        let content = contents.get(&key(trusted));
        // What may not be opened any more, since it was listed, is not shown.
        if content.is_none() && !trusted.secret.deleted {
            continue;
        }
        let row = &trusted.row;
        let place = format!("{}/{}", row.kind, fhir_id(&row.kind, &row.id, &trusted.secret.patient));
        let (method, url, status) = match (trusted.secret.deleted, row.version) {
            (true, _) => ("DELETE", place.as_str(), "204 No Content"),
            (false, 1) => ("POST", row.kind.as_str(), "201 Created"),
            (false, _) => ("PUT", place.as_str(), "200 OK"),
        };
        let mut entry = format!("{{\"fullUrl\":{}", Value::from(format!("{base}/fhir/{place}"))).into_bytes();
        if let Some(content) = content {
            entry.extend_from_slice(b",\"resource\":");
            entry.extend_from_slice(&content.applied()?);
        }
        let about = json!({
            "request": {"method": method, "url": url},
            "response": {"status": status, "etag": format!("W/\"{}\"", row.version),
                "lastModified": row.created_at.to_string()},
        });
        let about = about.to_string();
        entry.push(b',');
        entry.extend_from_slice(about.trim_start_matches('{').as_bytes());
        entries.push(entry);
    }
    if let Some(told) = (Notices { left_out, ..Notices::default() }).outcome() {
        let url = request.uri().to_string().trim_start_matches("/fhir/").to_owned();
        let outcome = json!({"fullUrl": name_of(&told), "request": {"method": "GET", "url": url},
            "response": {"status": "200 OK", "outcome": told}});
        entries.push(outcome.to_string().into_bytes());
    }
    Ok(bundle_of(&format!("\"type\":\"history\",\"link\":{links}"), &entries))
}

fn links(request: &HttpRequest, cursor: Option<&str>) -> Vec<Value> {
    let base = base_url(request);
    let own = format!("{base}{}", request.uri());
    let mut links = vec![json!({"relation": "self", "url": own})];
    if let Some(cursor) = cursor {
        let query = request.query_string().split('&');
        let kept = query.filter(|part| !part.is_empty() && !part.starts_with("_cursor="));
        let query: Vec<String> = kept.map(str::to_owned).chain([format!("_cursor={cursor}")]).collect();
        let url = format!("{base}{}?{}", request.path(), query.join("&"));
        links.push(json!({"relation": "next", "url": url}));
    }
    links
}
