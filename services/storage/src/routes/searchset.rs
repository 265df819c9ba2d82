//! Results as a Bundle of type searchset. Resources are put in as the bytes that they are: `0.10` stays `0.10`.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse};
use hbc_service::{Problem, base_url, paging};
use hbc_types::Timestamp;
use hbc_types::ids::RecordId;
use hbc_types::labels::Category;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::domain::resource::fhir_id;
use crate::domain::search::results::Part;
use crate::error::Error;
use crate::flows::opened::Opened;
use crate::flows::search::Place;
use crate::routes::fhir_answer::{FHIR_JSON, FhirProblem, bundle_of, name_of};

/// What stands in a query as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':')
    .remove(b'/')
    .remove(b',')
    .remove(b'*');

/// Where a page begins or ends. No value of a record is in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursor {
    id: String,
    version: u32,
    at: i64,
    back: bool,
}

/// The place that a link names.
pub fn place(cursor: Option<&String>) -> Result<Option<Place>, Problem> {
    let query = paging::PageQuery { limit: None, cursor: cursor.cloned() };
    let found: Option<Cursor> = query.after()?;
    let place = |cursor: Cursor| {
        let id =
            RecordId::parse(&cursor.id).map_err(|error| Problem::invalid("_cursor", error.to_string()))?;
        Ok(Place { id, version: cursor.version, at: Timestamp::from_ms(cursor.at), back: cursor.back })
    };
    found.map(place).transpose()
}

fn cursor(place: &Place) -> Option<String> {
    let Place { id, version, at, back } = place;
    let cursor = Cursor { id: id.as_str().to_owned(), version: *version, at: at.ms(), back: *back };
    paging::cursor(&cursor)
}

/// The links of a page: of itself, the first one, the next and the one before.
pub fn links(
    request: &HttpRequest,
    path: &str,
    used: &[(String, String)],
    (next, previous): (Option<&Place>, Option<&Place>),
) -> Value {
    let base = format!("{}{path}", base_url(request));
    let url = |cursor: Option<String>| {
        let kept = used.iter().filter(|(name, _)| name != "_cursor");
        let parts = kept.map(|(name, value)| pair(name, value));
        let query: Vec<String> = parts.chain(cursor.map(|cursor| pair("_cursor", &cursor))).collect();
        if query.is_empty() { base.clone() } else { format!("{base}?{}", query.join("&")) }
    };
    let own = used.iter().find(|(name, _)| name == "_cursor").map(|(_, value)| value.clone());
    let mut links = vec![json!({"relation": "self", "url": url(own)})];
    for (relation, place) in [("next", next), ("previous", previous)] {
        if let Some(cursor) = place.and_then(cursor) {
            links.push(json!({"relation": relation, "url": url(Some(cursor))}));
        }
    }
    if next.is_some() || previous.is_some() {
        links.push(json!({"relation": "first", "url": url(None)}));
    }
    Value::from(links)
}

fn pair(name: &str, value: &str) -> String {
    format!("{}={}", utf8_percent_encode(name, PLAIN), utf8_percent_encode(value, PLAIN))
}

/// What a client must know of an answer beside its results.
#[derive(Clone, Debug, Default)]
pub struct Notices<'n> {
    /// Categories that the caller's grants leave out: their absence must not look like "none known".
    pub left_out: &'n [Category],
    /// Parameters that were left out.
    pub ignored: &'n [String],
    /// Whether records are missing whose bytes are lost.
    pub lost: bool,
    /// Whether there is more to be included than is shown.
    pub cut: bool,
}

impl Notices<'_> {
    /// It as an OperationOutcome.
    pub fn outcome(&self) -> Option<Value> {
        let Self { left_out, ignored, lost, cut } = self;
        let issue = |code: &str, text: String| json!({"severity": "warning", "code": code, "details": {"text": text}});
        let mut issues = Vec::new();
        if !left_out.is_empty() {
            let codes: Vec<&str> = left_out.iter().map(|category| category.code()).collect();
            let text = format!("Not shown, because no grant of yours opens them: {}", codes.join(", "));
            issues.push(issue("suppressed", text));
        }
        if !ignored.is_empty() {
            issues.push(issue(
                "not-supported",
                format!("Left out, because not known here: {}", ignored.join(", ")),
            ));
        }
        if *lost {
            issues
                .push(issue("incomplete", "Records could not be looked at: their bytes are lost".to_owned()));
        }
        if *cut {
            issues.push(issue(
                "incomplete",
                "More would be included: ask for fewer results at once".to_owned(),
            ));
        }
        (!issues.is_empty()).then(|| json!({"resourceType": "OperationOutcome", "issue": issues}))
    }
}

/// What stands in a searchset.
#[derive(Debug)]
pub struct Answer<'a> {
    /// The results.
    pub matches: &'a [Opened],
    /// What is shown beside them.
    pub beside: &'a [Opened],
    /// Which part of each.
    pub part: &'a Part,
    /// How many there are in all.
    pub total: Option<u64>,
    /// The links.
    pub links: Value,
    /// What else is said.
    pub notices: Notices<'a>,
}

/// The searchset.
pub fn searchset(request: &HttpRequest, answer: &Answer<'_>) -> Result<HttpResponse, FhirProblem> {
    let base = base_url(request);
    let mut entries: Vec<Vec<u8>> = Vec::with_capacity(answer.matches.len() + answer.beside.len() + 1);
    for found in answer.matches {
        entries.push(entry(&base, found, answer.part, "match")?);
    }
    // Elements are named of the type that is searched.
    let whole = matches!(answer.part, Part::Elements(_));
    for found in answer.beside {
        entries.push(entry(&base, found, if whole { &Part::Whole } else { answer.part }, "include")?);
    }
    if let Some(outcome) = answer.notices.outcome() {
        let url = name_of(&outcome);
        let entry = json!({"fullUrl": url, "resource": outcome, "search": {"mode": "outcome"}});
        entries.push(entry.to_string().into_bytes());
    }
    let total = answer.total.map(|total| format!("\"total\":{total},")).unwrap_or_default();
    let links = &answer.links;
    let body = bundle_of(&format!("\"type\":\"searchset\",{total}\"link\":{links}"), &entries);
    Ok(HttpResponse::Ok().content_type(FHIR_JSON).insert_header((CACHE_CONTROL, "no-store")).body(body))
}

fn entry(base: &str, found: &Opened, part: &Part, mode: &str) -> Result<Vec<u8>, FhirProblem> {
    let row = &found.trusted.row;
    let id = fhir_id(&row.kind, &row.id, &found.trusted.secret.patient);
    let url = Value::from(format!("{base}/fhir/{}/{id}", row.kind));
    let applied = found.applied()?;
    let shown = part.of(&row.kind, &applied);
    let shown = shown.ok_or_else(|| Error::integrity("an overlay", row.id.as_str()))?;
    let mut entry = format!("{{\"fullUrl\":{url},\"resource\":").into_bytes();
    entry.extend_from_slice(&shown);
    entry.extend_from_slice(format!(",\"search\":{{\"mode\":\"{mode}\"}}}}").as_bytes());
    Ok(entry)
}
