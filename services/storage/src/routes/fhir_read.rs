//! Reading under `/fhir`: capability statement, read, vread, search, `$everything`.

use actix_web::http::StatusCode;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, get, web};
use hbc_service::openapi::StoreProblems;
use hbc_service::{Caller, Problem, Public, base_url, paging};
use hbc_types::Timestamp;
use hbc_types::classify;
use hbc_types::ids::{PatientId, RecordId};
use hbc_types::labels::Category;
use hbc_types::problem::Slug;
use hbc_types::wire::oauth::AuthorizationServer;
use serde_json::{Value, json};

use crate::app::App;
use crate::domain::readable::every_sensitivity;
use crate::domain::reference::Target;
use crate::domain::resource::{DOCUMENT, fhir_id};
use crate::flows::opened::Opened;
use crate::flows::read::{self, Listing};
use crate::routes::context::{bases, is_known, own_patient, reader};
use crate::routes::fhir_answer::{
    FHIR_JSON, FhirCaller, FhirProblem, resource, resource_headers, suppressed, with_headers,
};
use crate::routes::negotiation::check_acceptable;
use crate::routes::records_read::{After, find};
use crate::store::{Filter, TrustedRow};

/// Resources on a page unless the client says otherwise.
pub(super) const DEFAULT: u32 = 50;
/// Resources on a page at most.
pub(super) const MOST: u32 = 500;

/// What this server can do.
#[utoipa::path(tag = "fhir", operation_id = "fhir_metadata", security(()),
    responses((status = 200, description = "CapabilityStatement", content_type = "application/fhir+json"),
        (status = 406, description = "The client takes no JSON of FHIR 4.0")))]
#[get("/fhir/metadata")]
pub async fn metadata(
    _anybody: Public,
    request: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, FhirProblem> {
    check_acceptable(&request)?;
    Ok(HttpResponse::Ok().content_type(FHIR_JSON).body(app.about.capabilities.clone()))
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
        ("If-None-Match" = Option<String>, Header, description = "Versions that the client has"),
        ("If-Modified-Since" = Option<String>, Header, description = "When the client read it"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)")),
    responses(
        (status = 200, description = "The resource", content_type = "application/fhir+json",
            headers(("ETag" = String, description = "Its version"),
                ("Last-Modified" = String, description = "When it was created"))),
        (status = 304, description = "The client has this version already (`If-None-Match`, `If-Modified-Since`)"),
        (status = 406, description = "The client takes no JSON of FHIR 4.0"),
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
        Ok(account) if kind == "Patient" => patient_resource(&app, &request, &caller.0, &account, None).await,
        _ => one(&app, &request, &caller.0, &kind, &id, None).await,
    }
}

/// Reads a version of a resource.
#[utoipa::path(tag = "fhir", operation_id = "fhir_vread", security(("user" = [])),
    params(("type" = String, Path, description = "FHIR R4 resource type"),
        ("id" = String, Path, description = "The record, or for Patient the account"), ("version" = u32, Path, description = "Its version"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)")),
    responses(
        (status = 200, description = "The resource", content_type = "application/fhir+json",
            headers(("ETag" = String, description = "Its version"),
                ("Last-Modified" = String, description = "When it was created"))),
        (status = 304, description = "The client has this version already (`If-None-Match`, `If-Modified-Since`)"),
        (status = 406, description = "The client takes no JSON of FHIR 4.0"),
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
    match PatientId::parse(&id) {
        Ok(account) if kind == "Patient" => {
            patient_resource(&app, &request, &caller.0, &account, Some(version)).await
        }
        _ => one(&app, &request, &caller.0, &kind, &id, Some(version)).await,
    }
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
    if is_known(request, row.row.version, row.row.created_at) && !row.secret.deleted {
        read::decide_for(app, &reader, &row).await?;
        let headers = resource_headers(row.row.version, row.row.created_at);
        let headers = headers.into_iter().filter(|(name, _)| *name != "content-type").collect();
        return Ok(with_headers(StatusCode::NOT_MODIFIED, &headers, Vec::new()));
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
    version: Option<u32>,
) -> Result<HttpResponse, FhirProblem> {
    let reader = reader(request, caller, Some(account))?;
    if let Some(record) = app.store.patient_record(&app.index.patient(account)).await? {
        match one(app, request, caller, "Patient", record.as_str(), version).await {
            Err(FhirProblem(problem)) if problem.slug() == Slug::NotFound => {}
            answer => return answer,
        }
    }
    read::decide(app, &reader, account, every_sensitivity([Category::Demographics])).await?;
    Err(Problem::new(Slug::NotFound).into())
}

/// Searches one type: `patient`, `category`, `date` (with prefixes, several values, repeatable), `_count`, `_total`.
#[utoipa::path(tag = "fhir", operation_id = "fhir_search", security(("user" = [])),
    params(("type" = String, Path, description = "FHIR R4 resource type"),
        ("patient" = Option<String>, Query, description = "Account or Patient; if absent the caller's own, or whose app calls"),
        ("category" = Option<String>, Query, description = "HBC category"),
        ("date" = Option<String>, Query, description = "When it happened, to the instant, with a prefix such as `ge`; several after commas"),
        ("_count" = Option<u32>, Query, description = "On a page, 500 at most, 50 unless given; 0 counts alone"),
        ("_total" = Option<String>, Query, description = "`none`: how many there are is not said"),
        ("_cursor" = Option<String>, Query, description = "From the link `next`"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)")),
    responses(
        (status = 200, description = "Bundle of type searchset", content_type = "application/fhir+json"),
        (status = 406, description = "The client takes no JSON of FHIR 4.0"),
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
    let mut search = parse(&query, app.clock.now())?;
    search.filter.kind = Some(kind);
    let patient = match (&search.subject, own_patient(&caller.0)) {
        (Some(subject), _) => account_of(&app, &request, &caller.0, subject).await?,
        (None, _) if category == Category::Directory => PatientId::directory(),
        (None, Some(own)) => own.clone(),
        (None, None) => {
            return Err(Problem::invalid("patient", "names the account whose records are asked for").into());
        }
    };
    page(&app, &request, &caller.0, &patient, &search).await
}

/// Everything that the caller may read of a patient.
#[utoipa::path(tag = "fhir", operation_id = "fhir_everything", security(("user" = [])),
    params(("id" = String, Path, description = "Account or Patient"),
        ("_count" = Option<u32>, Query, description = "On a page, 500 at most, 50 unless given; 0 counts alone"),
        ("_total" = Option<String>, Query, description = "`none`: how many there are is not said"),
        ("_cursor" = Option<String>, Query, description = "From the link `next`"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)")),
    responses(
        (status = 200, description = "Bundle of type searchset", content_type = "application/fhir+json"),
        (status = 406, description = "The client takes no JSON of FHIR 4.0"),
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
    let search = parse(&query, app.clock.now())?;
    if search.subject.is_some() {
        return Err(Problem::invalid("patient", "is named by the path").into());
    }
    let patient = account_of(&app, &request, &caller.0, &id).await?;
    page(&app, &request, &caller.0, &patient, &search).await
}

/// The account that a search names: `pat-…`, `Patient/pat-…`, or the Patient resource of an account.
pub(super) async fn account_of(
    app: &App,
    request: &HttpRequest,
    caller: &Caller,
    text: &str,
) -> Result<PatientId, FhirProblem> {
    let id = match Target::parse(text, &bases(app, request)) {
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

/// What a search asks for.
#[derive(Debug, Default)]
struct Search {
    /// Whose records.
    subject: Option<String>,
    /// Which of them.
    filter: Filter,
    /// Whether it is not said how many there are.
    uncounted: bool,
}

/// The parameters of a search at an instant.
fn parse(query: &[(String, String)], now: Timestamp) -> Result<Search, Problem> {
    let mut search = Search::default();
    search.filter.limit = DEFAULT;
    search.filter.resources = true;
    let filter = &mut search.filter;
    for (name, value) in query {
        match name.as_str() {
            "patient" | "subject" => search.subject = Some(value.clone()),
            "category" => {
                let code = value.rsplit('|').next().unwrap_or_default();
                let known = Category::parse(code);
                filter.category =
                    Some(known.ok_or_else(|| Problem::invalid("category", "is not known here"))?);
            }
            "date" => {
                // The `+` of an offset that was not escaped arrives as a space.
                let value = value.replace(' ', "+");
                let added = filter.dates.add(&value, now.ms().saturating_mul(1_000));
                let form = "must be a date, with one of the prefixes eq ne gt lt ge le sa eb ap";
                added.ok_or_else(|| Problem::new(Slug::MalformedRequest).field("date", form))?;
            }
            "_count" => filter.limit = count(value)?,
            "_total" => {
                search.uncounted = match value.as_str() {
                    "none" => true,
                    "estimate" | "accurate" => false,
                    _ => {
                        let form = "must be `none`, `estimate` or `accurate`";
                        return Err(Problem::new(Slug::MalformedRequest).field("_total", form));
                    }
                }
            }
            "_cursor" => filter.after = After::parse(Some(value))?,
            "_format" => {}
            other => return Err(Problem::invalid(other, "is no search parameter here")),
        }
    }
    Ok(search)
}

/// How many there are on a page: more than there may be is as much as there may be.
pub(super) fn count(value: &str) -> Result<u32, Problem> {
    let refuse = || Problem::new(Slug::MalformedRequest).field("_count", "must be a whole number from 0 on");
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let count = is_number.then(|| value.parse().unwrap_or(MOST)).ok_or_else(refuse)?;
    Ok(count.min(MOST))
}

/// One page of a search, as a searchset.
async fn page(
    app: &App,
    request: &HttpRequest,
    caller: &Caller,
    patient: &PatientId,
    search: &Search,
) -> Result<HttpResponse, FhirProblem> {
    let reader = reader(request, caller, Some(patient))?;
    let filter = &search.filter;
    let Listing { mut rows, mut next, total, left_out } =
        read::list(app, &reader, patient, filter, !search.uncounted).await?;
    // A page ends early where its records become too many bytes.
    let fits = fitting(rows.iter().map(|row| row.row.length));
    if fits < rows.len() {
        rows.truncate(fits);
        next = rows.last().map(|row| (row.row.created_at, row.row.id.as_str().to_owned()));
    }
    let cursor = next.and_then(|(at, id)| paging::cursor(&After { at: at.ms(), id }));
    // Records that were indexed in an earlier way are all looked into, whatever their days: one that is lost spoils no search
    // that it was not found by before.
    let spare = |row: &TrustedRow| row.is_outdated() && !filter.touches(&row.row);
    let mut opened = read::open(app, &reader, patient, rows, spare).await?.records;
    opened.retain(|opened| !opened.trusted.is_outdated() || filter.dates.hold(opened.when()));
    let body = searchset(request, &opened, total, cursor.as_deref(), &left_out)?;
    Ok(HttpResponse::Ok().content_type(FHIR_JSON).insert_header((CACHE_CONTROL, "no-store")).body(body))
}

/// How many of the first records may be opened together; one in any case.
pub(super) fn fitting(lengths: impl Iterator<Item = u64>) -> usize {
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
    total: Option<u64>,
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
    let mut entries: Vec<Vec<u8>> = Vec::with_capacity(opened.len() + 1);
    for found in opened {
        let row = &found.trusted.row;
        let id = fhir_id(&row.kind, &row.id, &found.trusted.secret.patient);
        let url = Value::from(format!("{base}/fhir/{}/{id}", row.kind));
        let mut entry = format!("{{\"fullUrl\":{url},\"resource\":").into_bytes();
        entry.extend_from_slice(&found.applied()?);
        entry.extend_from_slice(b",\"search\":{\"mode\":\"match\"}}");
        entries.push(entry);
    }
    if !left_out.is_empty() {
        let entry = json!({"resource": suppressed(left_out), "search": {"mode": "outcome"}});
        entries.push(entry.to_string().into_bytes());
    }
    let total = total.map(|total| format!("\"total\":{total},")).unwrap_or_default();
    let links = Value::from(links);
    let mut body =
        format!("{{\"resourceType\":\"Bundle\",\"type\":\"searchset\",{total}\"link\":{links}").into_bytes();
    // An array is never empty in FHIR.
    if !entries.is_empty() {
        body.extend_from_slice(b",\"entry\":[");
        body.extend_from_slice(&entries.join(&b','));
        body.push(b']');
    }
    body.push(b'}');
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_before_it_is_too_large() {
        assert_eq!(fitting([10, 20].into_iter()), 2);
        assert_eq!(fitting([read::MAX_BYTES - 10, 10, 1].into_iter()), 2);
        assert_eq!(fitting([read::MAX_BYTES + 1, 1].into_iter()), 1);
        assert_eq!(fitting(std::iter::empty()), 1, "of none, none");
    }

    #[test]
    fn parameters_are_read_as_they_are_or_refused() {
        let of =
            |name: &str, value: &str| parse(&[(name.to_owned(), value.to_owned())], Timestamp::from_ms(0));
        let status = |name: &str, value: &str| of(name, value).unwrap_err().slug().status();
        assert_eq!(status("code", "x"), 422);
        for (name, value) in
            [("_count", "-1"), ("_count", "x"), ("_count", ""), ("_total", "all"), ("date", "2020x")]
        {
            assert_eq!(status(name, value), 400, "{name}={value}");
        }
        assert!(of("date", "ge2026-06-10T08:00:00 02:00").is_ok(), "a `+` that was not escaped");
        let limit = |value: &str| of("_count", value).unwrap().filter.limit;
        assert_eq!((limit("0"), limit("7"), limit("1000"), limit("99999999999")), (0, 7, MOST, MOST));
        assert!(of("_total", "none").unwrap().uncounted);
    }
}
