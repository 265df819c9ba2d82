//! Reading under `/fhir`: capability statement, read, vread, search, `$everything`.

use actix_web::http::StatusCode;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, get, web};
use hbc_service::openapi::StoreProblems;
use hbc_service::{Caller, Problem, Public, base_url, paging};
use hbc_types::classify;
use hbc_types::ids::{PatientId, RecordId};
use hbc_types::labels::Category;
use hbc_types::problem::Slug;
use hbc_types::wire::oauth::AuthorizationServer;
use serde_json::{Value, json};

use crate::app::App;
use crate::domain::days::{self, Days};
use crate::domain::readable::every_sensitivity;
use crate::domain::reference::Target;
use crate::flows::read::{self, Listing, Opened};
use crate::routes::context::{own_patient, reader};
use crate::routes::fhir_answer::{FHIR_JSON, FhirCaller, FhirProblem, resource, suppressed};
use crate::routes::records::DOCUMENT;
use crate::routes::records_read::{After, find};
use crate::store::Filter;

/// Resources on a page unless the client says otherwise.
const DEFAULT: u32 = 50;
/// Resources on a page at most.
const MOST: u32 = 500;

/// What this server can do.
#[utoipa::path(tag = "fhir", operation_id = "fhir_metadata", security(()),
    responses((status = 200, description = "CapabilityStatement", content_type = "application/fhir+json")))]
#[get("/fhir/metadata")]
pub async fn metadata(_anybody: Public, app: web::Data<App>) -> HttpResponse {
    HttpResponse::Ok().content_type(FHIR_JSON).body(app.about.capabilities.clone())
}

/// SMART App Launch configuration: where clients get tokens for this server.
#[utoipa::path(tag = "fhir", operation_id = "fhir_smart_configuration", security(()),
    responses((status = 200, description = "The metadata of auth", body = AuthorizationServer)))]
#[get("/fhir/.well-known/smart-configuration")]
pub async fn smart_configuration(_anybody: Public, app: web::Data<App>) -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "public, max-age=300")).json(&app.about.authorization)
}

/// Reads a resource in its applied form. `Patient/{account}` is the account's Patient.
#[utoipa::path(tag = "fhir", operation_id = "fhir_read", security(("user" = [])),
    params(("type" = String, Path, description = "FHIR R4 resource type"),
        ("id" = String, Path, description = "The record, or for Patient the account"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)")),
    responses(
        (status = 200, description = "The resource", content_type = "application/fhir+json",
            headers(("ETag" = String, description = "Its version"),
                ("Last-Modified" = String, description = "When it was created"))),
        StoreProblems,
    ))]
#[get("/fhir/{type}/{id}")]
pub async fn read_resource(
    caller: FhirCaller,
    path: web::Path<(String, String)>,
    request: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, FhirProblem> {
    let (kind, id) = path.into_inner();
    match PatientId::parse(&id) {
        Ok(account) if kind == "Patient" => patient_resource(&app, &request, &caller.0, &account).await,
        _ => one(&app, &request, &caller.0, &kind, &id, None).await,
    }
}

/// Reads a version of a resource.
#[utoipa::path(tag = "fhir", operation_id = "fhir_vread", security(("user" = [])),
    params(("type" = String, Path, description = "FHIR R4 resource type"),
        ("id" = RecordId, Path, description = "The record"), ("version" = u32, Path, description = "Its version"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)")),
    responses(
        (status = 200, description = "The resource", content_type = "application/fhir+json",
            headers(("ETag" = String, description = "Its version"),
                ("Last-Modified" = String, description = "When it was created"))),
        StoreProblems,
    ))]
#[get("/fhir/{type}/{id}/_history/{version}")]
pub async fn read_version(
    caller: FhirCaller,
    path: web::Path<(String, String, u32)>,
    request: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, FhirProblem> {
    let (kind, id, version) = path.into_inner();
    if version == 0 {
        return Err(Problem::new(Slug::NotFound).into());
    }
    one(&app, &request, &caller.0, &kind, &id, Some(version)).await
}

async fn one(
    app: &App,
    request: &HttpRequest,
    caller: &Caller,
    kind: &str,
    id: &str,
    version: Option<u32>,
) -> Result<HttpResponse, FhirProblem> {
    let (reader, row) = find(app, request, caller, id, version).await?;
    if row.row.kind != kind || kind == DOCUMENT {
        // Who may not read it is told the same under every type.
        read::decide(app, &reader, &row.secret.patient, vec![row.labels()]).await?;
        return Err(Problem::new(Slug::NotFound).into());
    }
    let opened = read::open_one(app, &reader, row).await?;
    let row = &opened.trusted.row;
    Ok(resource(StatusCode::OK, row.version, row.created_at, opened.applied()?))
}

/// The Patient of an account that is named. Whether it has one is told only to those who may read such records.
async fn patient_resource(
    app: &App,
    request: &HttpRequest,
    caller: &Caller,
    account: &PatientId,
) -> Result<HttpResponse, FhirProblem> {
    let reader = reader(request, caller, Some(account))?;
    if let Some(record) = app.store.patient_record(&app.index.patient(account)).await? {
        match one(app, request, caller, "Patient", record.as_str(), None).await {
            Err(FhirProblem(problem)) if problem.slug() == Slug::NotFound => {}
            answer => return answer,
        }
    }
    read::decide(app, &reader, account, every_sensitivity([Category::Demographics])).await?;
    Err(Problem::new(Slug::NotFound).into())
}

/// Searches one type: `patient`, `category`, `date` (with prefixes, repeatable), `_count`.
#[utoipa::path(tag = "fhir", operation_id = "fhir_search", security(("user" = [])),
    params(("type" = String, Path, description = "FHIR R4 resource type"),
        ("patient" = Option<String>, Query, description = "Account or Patient; if absent the caller's own, or whose app calls"),
        ("category" = Option<String>, Query, description = "HBC category"),
        ("date" = Option<String>, Query, description = "Clinical date, with a prefix such as `ge`"),
        ("_count" = Option<u32>, Query, description = "1 to 500, 50 unless given"),
        ("_cursor" = Option<String>, Query, description = "From the link `next`"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)")),
    responses(
        (status = 200, description = "Bundle of type searchset", content_type = "application/fhir+json"),
        StoreProblems,
    ))]
#[get("/fhir/{type}")]
pub async fn search_type(
    caller: FhirCaller,
    kind: web::Path<String>,
    query: web::Query<Vec<(String, String)>>,
    request: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, FhirProblem> {
    let kind = kind.into_inner();
    let category = classify::type_category(&kind).ok_or_else(|| Problem::new(Slug::NotFound))?;
    let (subject, mut filter) = parse(&query)?;
    filter.kind = Some(kind);
    let patient = match (subject, own_patient(&caller.0)) {
        (Some(subject), _) => account_of(&app, &request, &caller.0, &subject).await?,
        (None, _) if category == Category::Directory => PatientId::directory(),
        (None, Some(own)) => own.clone(),
        (None, None) => {
            return Err(Problem::invalid("patient", "names the account whose records are asked for").into());
        }
    };
    page(&app, &request, &caller.0, &patient, &filter).await
}

/// Everything that the caller may read of a patient.
#[utoipa::path(tag = "fhir", operation_id = "fhir_everything", security(("user" = [])),
    params(("id" = String, Path, description = "Account or Patient"),
        ("_count" = Option<u32>, Query, description = "1 to 500, 50 unless given"),
        ("_cursor" = Option<String>, Query, description = "From the link `next`"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)")),
    responses(
        (status = 200, description = "Bundle of type searchset", content_type = "application/fhir+json"),
        StoreProblems,
    ))]
#[get("/fhir/Patient/{id}/$everything")]
pub async fn read_everything(
    caller: FhirCaller,
    id: web::Path<String>,
    query: web::Query<Vec<(String, String)>>,
    request: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, FhirProblem> {
    let (subject, filter) = parse(&query)?;
    if subject.is_some() {
        return Err(Problem::invalid("patient", "is named by the path").into());
    }
    let patient = account_of(&app, &request, &caller.0, &id).await?;
    page(&app, &request, &caller.0, &patient, &filter).await
}

/// The account that a search names: `pat-…`, `Patient/pat-…`, or the Patient resource of an account.
async fn account_of(
    app: &App,
    request: &HttpRequest,
    caller: &Caller,
    text: &str,
) -> Result<PatientId, FhirProblem> {
    let id = match Target::parse(text, &app.bases) {
        Target::Own { kind: "Patient", id } => id,
        // An id alone; whatever else it is, it is no id.
        _ => text.to_owned(),
    };
    if let Ok(account) = PatientId::parse(&id) {
        return Ok(account);
    }
    RecordId::parse(&id).map_err(|_text| Problem::invalid("patient", "names no patient"))?;
    let (reader, row) = find(app, request, caller, &id, None).await?;
    if row.row.kind == "Patient" {
        Ok(row.secret.patient)
    } else {
        Err(read::absent(app, &reader).await.into())
    }
}

/// The parameters of a search: the patient and the rest.
fn parse(query: &[(String, String)]) -> Result<(Option<String>, Filter), Problem> {
    let mut filter = Filter { limit: DEFAULT, ..Filter::default() };
    let mut subject = None;
    for (name, value) in query {
        match name.as_str() {
            "patient" | "subject" => subject = Some(value.clone()),
            "category" => {
                let code = value.rsplit('|').next().unwrap_or_default();
                let known = Category::parse(code);
                filter.category =
                    Some(known.ok_or_else(|| Problem::invalid("category", "is not known here"))?);
            }
            "date" => bound(&mut filter, value)?,
            "_count" => {
                let count = value.parse().ok().filter(|count| (1..=MOST).contains(count));
                let refuse = || Problem::invalid("_count", format!("must be 1 to {MOST}"));
                filter.limit = count.ok_or_else(refuse)?;
            }
            "_cursor" => filter.after = After::parse(Some(value))?,
            "_format" => {}
            other => return Err(Problem::invalid(other, "is no search parameter here")),
        }
    }
    Ok((subject, filter))
}

/// Narrows a filter by one `date` with its prefix.
fn bound(filter: &mut Filter, value: &str) -> Result<(), Problem> {
    let refuse = || Problem::invalid("date", "must be a date, with one of the prefixes eq ge gt le lt sa eb");
    let digit = value.find(|c: char| c.is_ascii_digit()).ok_or_else(refuse)?;
    let (prefix, text) = value.split_at_checked(digit).ok_or_else(refuse)?;
    let found = Days::parse(text).ok_or_else(refuse)?;
    let (from, to) = match prefix {
        "" | "eq" => (Some(found.first), Some(found.last)),
        "ge" => (Some(found.first), None),
        "gt" | "sa" => (Some(found.last.next_day().ok_or_else(refuse)?), None),
        "le" => (None, Some(found.last)),
        "lt" | "eb" => (None, Some(found.first.previous_day().ok_or_else(refuse)?)),
        _ => return Err(refuse()),
    };
    if let Some(from) = from.map(days::text) {
        filter.from = Some(filter.from.take().map_or(from.clone(), |known| known.max(from)));
    }
    if let Some(to) = to.map(days::text) {
        filter.to = Some(filter.to.take().map_or(to.clone(), |known| known.min(to)));
    }
    Ok(())
}

/// One page of a search, as a searchset.
async fn page(
    app: &App,
    request: &HttpRequest,
    caller: &Caller,
    patient: &PatientId,
    filter: &Filter,
) -> Result<HttpResponse, FhirProblem> {
    let reader = reader(request, caller, Some(patient))?;
    let Listing { mut rows, more, left_out } = read::list(app, &reader, patient, filter).await?;
    // A page ends early where its records become too many bytes.
    let fits = fitting(rows.iter().map(|row| row.row.length));
    let more = more || fits < rows.len();
    rows.truncate(fits);
    let cursor = rows.last().filter(|_| more).and_then(|row| paging::cursor(&After::row(row)));
    let rows = rows.into_iter().filter(|row| row.row.kind != DOCUMENT).collect();
    let opened = read::open(app, &reader, patient, rows).await?.records;
    let body = searchset(request, &opened, cursor.as_deref(), &left_out)?;
    Ok(HttpResponse::Ok().content_type(FHIR_JSON).insert_header((CACHE_CONTROL, "no-store")).body(body))
}

/// How many of the first records may be opened together; one in any case.
fn fitting(lengths: impl Iterator<Item = u64>) -> usize {
    let mut sum = 0_u64;
    let within = lengths.take_while(|length| {
        sum = sum.saturating_add(*length);
        sum <= read::MAX_BYTES
    });
    within.count().max(1)
}

/// The resources are put in as the bytes that they are: `0.10` stays `0.10`.
fn searchset(
    request: &HttpRequest,
    opened: &[Opened],
    cursor: Option<&str>,
    left_out: &[Category],
) -> Result<Vec<u8>, FhirProblem> {
    let base = base_url(request);
    let own = format!("{base}{}", request.uri());
    let mut links = vec![json!({"relation": "self", "url": own})];
    if let Some(cursor) = cursor {
        let kept = request
            .query_string()
            .split('&')
            .filter(|part| !part.is_empty() && !part.starts_with("_cursor="));
        let query: Vec<String> = kept.map(str::to_owned).chain([format!("_cursor={cursor}")]).collect();
        let url = format!("{base}{}?{}", request.path(), query.join("&"));
        links.push(json!({"relation": "next", "url": url}));
    }
    let mut body = Vec::new();
    let head = format!(
        "{{\"resourceType\":\"Bundle\",\"type\":\"searchset\",\"link\":{},\"entry\":[",
        Value::from(links)
    );
    body.extend_from_slice(head.as_bytes());
    for (index, found) in opened.iter().enumerate() {
        let row = &found.trusted.row;
        let url = Value::from(format!("{base}/fhir/{}/{}", row.kind, row.id));
        let comma = if index == 0 { "" } else { "," };
        body.extend_from_slice(format!("{comma}{{\"fullUrl\":{url},\"resource\":").as_bytes());
        body.extend_from_slice(&found.applied()?);
        body.extend_from_slice(b",\"search\":{\"mode\":\"match\"}}");
    }
    if !left_out.is_empty() {
        let comma = if opened.is_empty() { "" } else { "," };
        let entry = json!({"resource": suppressed(left_out), "search": {"mode": "outcome"}});
        body.extend_from_slice(format!("{comma}{entry}").as_bytes());
    }
    body.extend_from_slice(b"]}");
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_prefixes_narrow_the_filter() {
        let of = |values: &[&str]| {
            let query: Vec<_> = values.iter().map(|value| ("date".to_owned(), (*value).to_owned())).collect();
            parse(&query).map(|(_, filter)| (filter.from, filter.to))
        };
        let day = |text: &str| Some(text.to_owned());
        assert_eq!(of(&["2020-02"]).unwrap(), (day("2020-02-01"), day("2020-02-29")));
        assert_eq!(of(&["ge2020-01-05", "lt2020-02-01"]).unwrap(), (day("2020-01-05"), day("2020-01-31")));
        assert_eq!(of(&["gt2020", "sa2019"]).unwrap(), (day("2021-01-01"), None));
        assert!(of(&["xx2020"]).is_err());
        assert!(of(&["ge"]).is_err());
    }

    #[test]
    fn a_page_ends_before_it_is_too_large() {
        assert_eq!(fitting([10, 20].into_iter()), 2);
        assert_eq!(fitting([read::MAX_BYTES - 10, 10, 1].into_iter()), 2);
        assert_eq!(fitting([read::MAX_BYTES + 1, 1].into_iter()), 1);
        assert_eq!(fitting(std::iter::empty()), 1, "of none, none");
    }

    #[test]
    fn unknown_parameters_are_refused() {
        assert!(parse(&[("code".to_owned(), "x".to_owned())]).is_err());
        assert!(parse(&[("_count".to_owned(), "0".to_owned())]).is_err());
    }
}
