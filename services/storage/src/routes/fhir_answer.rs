//! FHIR's shapes of answers: OperationOutcome for problems, `application/fhir+json`, response bundles.

use std::collections::BTreeMap;
use std::fmt;

use actix_web::body::BoxBody;
use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{FromRequest, HttpRequest, HttpResponse, ResponseError};
use futures_util::future::LocalBoxFuture;
use hbc_service::idempotency::Slot;
use hbc_service::{Acting, Caller, Dialect, Problem};
use hbc_types::problem::{Slug, TYPE_PREFIX};
use hbc_types::saved::SavedAnswer;
use hbc_types::scope::Interaction;
use hbc_types::{Digest, Timestamp};
use serde_json::{Value, json};

use crate::domain::bundle::{BundleKind, Outcome};
use crate::domain::issue::Issue;
use crate::error::{Error, TOO_COSTLY, issues_problem};
use crate::flows::create::Created;
use crate::routes::negotiation::check_acceptable;

/// The media type of FHIR JSON.
pub const FHIR_JSON: &str = "application/fhir+json";

/// Problems under `/fhir` are OperationOutcomes, those of the router and the edge too.
#[must_use]
pub const fn fhir_dialect() -> Dialect {
    Dialect {
        prefix: "/fhir",
        media_type: FHIR_JSON,
        status: Problem::status_code,
        body: |problem| outcome(problem).to_string(),
    }
}

/// A problem, answered as an OperationOutcome.
#[derive(Debug)]
pub struct FhirProblem(pub Problem);

impl fmt::Display for FhirProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Problem> for FhirProblem {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<Error> for FhirProblem {
    fn from(error: Error) -> Self {
        Self(error.into())
    }
}

impl ResponseError for FhirProblem {
    fn status_code(&self) -> StatusCode {
        self.0.status_code()
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let answer = self.0.respond(None);
        let body = outcome(&self.0).to_string();
        let mut answer = answer.set_body(BoxBody::new(body));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(FHIR_JSON));
        answer
    }
}

/// A problem as an OperationOutcome: one issue for each field, or one for all.
#[must_use]
pub fn outcome(problem: &Problem) -> Value {
    let document = problem.document(None);
    let slug = document.kind.strip_prefix(TYPE_PREFIX).unwrap_or_default().to_owned();
    let details = json!({
        "coding": [{"system": TYPE_PREFIX.trim_end_matches(':'), "code": slug}],
        "text": document.title,
    });
    let costly = document.references.iter().any(|reference| reference == TOO_COSTLY);
    let code = if costly { TOO_COSTLY } else { issue_code(problem.slug()) };
    let issue = |diagnostics: Option<String>, expression: Option<String>| {
        let mut issue = json!({"severity": "error", "code": code, "details": details});
        if let (Value::Object(issue), Some(text)) = (&mut issue, diagnostics) {
            issue.insert("diagnostics".to_owned(), Value::from(text));
        }
        if let (Value::Object(issue), Some(path)) = (&mut issue, expression) {
            issue.insert("expression".to_owned(), json!([path]));
        }
        issue
    };
    let mut issues: Vec<Value> = document
        .errors
        .into_iter()
        .map(|error| issue(Some(format!("{} {}", error.field, error.message)), Some(error.field)))
        .collect();
    if issues.is_empty() {
        issues.push(issue(document.detail, None));
    }
    json!({"resourceType": "OperationOutcome", "issue": issues})
}

/// What is said where a client prefers to be told so.
#[must_use]
pub fn done(text: &str) -> Value {
    let issue = json!({"severity": "information", "code": "informational", "diagnostics": text});
    json!({"resourceType": "OperationOutcome", "issue": [issue]})
}

/// A name for what is kept nowhere (a UUID of version 8, made of what it says): every entry of a searchset or history has one.
#[must_use]
pub fn name_of(outcome: &Value) -> String {
    const VERSION: u128 = 8 << 76;
    const VARIANT: u128 = 2 << 62;
    let digest = Digest::of(outcome.to_string().as_bytes());
    let bytes = digest.as_bytes().first_chunk::<16>().copied().unwrap_or_default();
    let bits = u128::from_be_bytes(bytes) & !((0xf << 76) | (3 << 62)) | VERSION | VARIANT;
    let group = |shift: u32| (bits >> shift) & 0xffff;
    let (first, last) = (bits >> 96, bits & 0xffff_ffff_ffff);
    format!("urn:uuid:{first:08x}-{:04x}-{:04x}-{:04x}-{last:012x}", group(80), group(64), group(48))
}

/// FHIR's issue type for a problem.
fn issue_code(slug: Slug) -> &'static str {
    match slug.status() {
        400 => "structure",
        401 => "login",
        403 => "forbidden",
        404 => "not-found",
        405 | 406 | 415 => "not-supported",
        409 | 412 | 428 => "conflict",
        410 => "deleted",
        413 => "too-long",
        422 => "invalid",
        429 => "throttled",
        503 => "transient",
        _ => "exception",
    }
}

/// Any account, or a client that acts for one within its scopes; who is refused gets an OperationOutcome.
#[derive(Debug)]
pub struct FhirCaller(pub Caller);

impl FromRequest for FhirCaller {
    type Error = FhirProblem;
    type Future = LocalBoxFuture<'static, Result<Self, FhirProblem>>;
    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let caller = Acting::from_request(request, payload);
        let request = request.clone();
        Box::pin(async move {
            let Acting(caller) = caller.await?;
            check_acceptable(&request)?;
            let within = caller.client.as_ref().is_none_or(|client| {
                let kind = request.match_info().get("type");
                let pattern = request.match_pattern();
                let asked = asked(request.method(), pattern.as_deref().unwrap_or_default(), kind);
                asked.is_some_and(|(kind, interaction)| match kind {
                    Some(kind) => client.scope.allow(kind, interaction),
                    // Each entry is asked about when it is known.
                    None => true,
                })
            });
            if within { Ok(Self(caller)) } else { Err(Problem::new(Slug::InsufficientScope).into()) }
        })
    }
}

/// What a request for a route asks for, and of which type: `*` is of all, nothing of those that the body names. Nothing at all
/// for what no scope gives.
fn asked<'k>(
    method: &Method,
    pattern: &str,
    kind: Option<&'k str>,
) -> Option<(Option<&'k str>, Interaction)> {
    match (method, pattern) {
        (&Method::GET, "/fhir/{type}" | "/fhir/{type}/_history") => Some((Some(kind?), Interaction::Search)),
        (
            &Method::GET,
            "/fhir/{type}/{id}" | "/fhir/{type}/{id}/_history" | "/fhir/{type}/{id}/_history/{version}",
        ) => Some((Some(kind?), Interaction::Read)),
        (&Method::GET, "/fhir/_history" | "/fhir/Patient/{id}/$summary") => {
            Some((Some("*"), Interaction::Search))
        }
        (&Method::POST, "/fhir/{type}" | "/fhir/{type}/$validate") => {
            Some((Some(kind?), Interaction::Create))
        }
        (&Method::GET, "/fhir/Patient/{id}/{type}") | (&Method::POST, "/fhir/{type}/_search") => {
            Some((Some(kind?), Interaction::Search))
        }
        (&Method::GET, "/fhir/Observation/$lastn") => Some((Some("Observation"), Interaction::Search)),
        (&Method::GET | &Method::POST, "/fhir/Patient/{id}/$everything") => {
            Some((Some("*"), Interaction::Search))
        }
        (&Method::POST, "/fhir") => Some((None, Interaction::Create)),
        _ => None,
    }
}

/// A body of at most the server's limit.
pub fn is_fhir_json(request: &HttpRequest) -> Result<(), Problem> {
    let given = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == FHIR_JSON || essence == "application/json" {
        Ok(())
    } else {
        Err(Problem::new(Slug::UnsupportedMediaType).detail("send application/fhir+json"))
    }
}

/// Headers of an answer, lowercase: what is given now and what is given again are made of the same list.
pub type Headers = Vec<(&'static str, String)>;

/// The headers of every body in FHIR JSON.
#[must_use]
pub fn fhir_headers() -> Headers {
    vec![("content-type", FHIR_JSON.to_owned()), ("cache-control", "no-store".to_owned())]
}

/// The headers that FHIR wants of a resource.
#[must_use]
pub fn resource_headers(version: u32, updated: Timestamp) -> Headers {
    let mut headers = fhir_headers();
    headers.push(("etag", format!("W/\"{version}\"")));
    headers.push(("last-modified", http_date(updated)));
    headers
}

/// An answer with these headers.
#[must_use]
pub fn with_headers(status: StatusCode, headers: &Headers, body: Vec<u8>) -> HttpResponse {
    let mut answer = HttpResponse::build(status);
    for (name, value) in headers {
        answer.insert_header((*name, value.as_str()));
    }
    answer.body(body)
}

/// The row that keeps an answer with these headers.
#[must_use]
pub fn saved(
    slot: &Slot,
    status: StatusCode,
    headers: &Headers,
    body: &str,
    now: Timestamp,
) -> Option<SavedAnswer> {
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    slot.answer(status, &headers, body, now)
}

/// A resource, with the headers that FHIR wants.
#[must_use]
pub fn resource(status: StatusCode, version: u32, updated: Timestamp, body: Vec<u8>) -> HttpResponse {
    with_headers(status, &resource_headers(version, updated), body)
}

/// An HTTP date.
fn http_date(at: Timestamp) -> String {
    let since = std::time::Duration::from_millis(at.unsigned_ms());
    actix_web::http::header::HttpDate::from(std::time::UNIX_EPOCH + since).to_string()
}

/// The answer to a batch or transaction, with what its entries read as the bytes that it is.
#[must_use]
pub fn response_bundle(kind: BundleKind, outcomes: &[Value], reads: &BTreeMap<usize, Vec<u8>>) -> Vec<u8> {
    let kind = match kind {
        BundleKind::Batch => "batch-response",
        BundleKind::Transaction => "transaction-response",
    };
    let entries = outcomes.iter().enumerate().map(|(index, outcome)| match reads.get(&index) {
        Some(read) => read.clone(),
        None => outcome.to_string().into_bytes(),
    });
    let entries: Vec<Vec<u8>> = entries.collect();
    bundle_of(&format!("\"type\":\"{kind}\""), &entries)
}

/// A Bundle of entries that are written already. `head` is what stands before them.
#[must_use]
pub fn bundle_of(head: &str, entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bundle = format!("{{\"resourceType\":\"Bundle\",{head}").into_bytes();
    // An array is never empty in FHIR.
    if !entries.is_empty() {
        bundle.extend_from_slice(b",\"entry\":[");
        bundle.extend_from_slice(&entries.join(&b','));
        bundle.push(b']');
    }
    bundle.push(b'}');
    bundle
}

/// What became of the entries that are no reads.
#[must_use]
pub fn entries(created: &Created) -> Vec<Value> {
    created.outcomes.iter().map(|outcome| entry(created, outcome)).collect()
}

fn entry(created: &Created, entry: &Outcome) -> Value {
    match (created.record(entry), entry) {
        (Some(found), _) if found.deleted => json!({"response": {
            "status": "204 No Content",
            "etag": format!("W/\"{}\"", found.version),
            "lastModified": found.at.to_string(),
        }}),
        (Some(found), _) => json!({"response": {
            "status": if found.new && found.version == 1 { "201 Created" } else { "200 OK" },
            "location": format!("{}/{}/_history/{}", found.kind, found.id, found.version),
            "etag": format!("W/\"{}\"", found.version),
            "lastModified": found.at.to_string(),
        }}),
        (None, Outcome::Gone) => json!({"response": {"status": "204 No Content"}}),
        // Where what was read is not put in its place: a repeated answer holds no records.
        (None, Outcome::Read) => {
            json!({"response": {"status": "200 OK", "outcome": done("a repeated answer holds no records: read again")}})
        }
        (None, Outcome::Refused(issues)) => refused(issues),
        (None, _) => json!({"response": {"status": "500 Internal Server Error"}}),
    }
}

fn refused(issues: &[Issue]) -> Value {
    failed(&issues_problem(issues))
}

/// An entry that is refused.
#[must_use]
pub fn failed(problem: &Problem) -> Value {
    json!({"response": {"status": problem.status_code().to_string(), "outcome": outcome(problem)}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_follows_from_the_route() {
        use Interaction::{Create, Read, Search};
        let get = |pattern| asked(&Method::GET, pattern, Some("Observation"));
        assert_eq!(get("/fhir/{type}"), Some((Some("Observation"), Search)));
        assert_eq!(get("/fhir/{type}/{id}"), Some((Some("Observation"), Read)));
        assert_eq!(get("/fhir/{type}/{id}/_history/{version}"), Some((Some("Observation"), Read)));
        assert_eq!(get("/fhir/Patient/{id}/$everything"), Some((Some("*"), Search)));
        assert_eq!(get("/fhir/Patient/{id}/{type}"), Some((Some("Observation"), Search)));
        assert_eq!(get("/fhir/{type}/_search"), None);
        assert_eq!(get("/fhir"), None, "what is new is closed to programs until it stands here");
        assert_eq!(asked(&Method::GET, "/fhir/{type}", None), None);
        let post = |pattern| asked(&Method::POST, pattern, Some("Observation"));
        assert_eq!(post("/fhir/{type}"), Some((Some("Observation"), Create)));
        assert_eq!(post("/fhir/{type}/_search"), Some((Some("Observation"), Search)));
        assert_eq!(post("/fhir/Patient/{id}/$everything"), Some((Some("*"), Search)));
        assert_eq!(post("/fhir"), Some((None, Create)), "which types, the body says");
        assert_eq!((post("/fhir/{type}/{id}"), asked(&Method::PUT, "/fhir/{type}/{id}", None)), (None, None));
    }
}
