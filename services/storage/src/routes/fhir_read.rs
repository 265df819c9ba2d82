//! Reading under `/fhir`: capability statement, read, vread.

use actix_web::http::StatusCode;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, get, web};
use hbc_service::openapi::StoreProblems;
use hbc_service::{Caller, Problem, Public};
use hbc_types::ids::PatientId;
use hbc_types::labels::Category;
use hbc_types::problem::Slug;
use hbc_types::wire::oauth::AuthorizationServer;

use crate::app::App;
use crate::domain::readable::every_sensitivity;
use crate::domain::resource::DOCUMENT;
use crate::flows::read;
use crate::routes::context::{is_known, reader};
use crate::routes::fhir_answer::{
    FHIR_JSON, FhirCaller, FhirProblem, resource, resource_headers, with_headers,
};
use crate::routes::negotiation::check_acceptable;
use crate::routes::records_read::find;

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
    named(&app, &request, &caller.0, (&kind, &id), None).await
}

/// The resource that a URL names.
pub(super) async fn named(
    app: &App,
    request: &HttpRequest,
    caller: &Caller,
    (kind, id): (&str, &str),
    version: Option<u32>,
) -> Result<HttpResponse, FhirProblem> {
    if version == Some(0) {
        return Err(Problem::new(Slug::NotFound).into());
    }
    match PatientId::parse(id) {
        Ok(account) if kind == "Patient" => patient_resource(app, request, caller, &account, version).await,
        _ => one(app, request, caller, kind, id, version).await,
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
    named(&app, &request, &caller.0, (&kind, &id), Some(version)).await
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
