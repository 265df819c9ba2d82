//! What entries of a batch or transaction read: each as if it were asked alone, one after the other, after everything was
//! written.
//!
//! Source: <https://hl7.org/fhir/R4/http.html#transaction>.

use std::collections::BTreeMap;

use actix_web::http::header::{ETAG, LAST_MODIFIED};
use actix_web::{HttpRequest, HttpResponse};
use hbc_service::{Caller, Problem};
use hbc_types::problem::Slug;
use hbc_types::scope::Interaction;
use serde_json::{Value, json};

use crate::app::App;
use crate::domain::reference::resource_type;
use crate::flows::read::MAX_BYTES;
use crate::routes::context::bases;
use crate::routes::fhir_answer::{FhirProblem, failed};
use crate::routes::{fhir_read, fhir_search};

/// Reads of one bundle at most.
const MOST: usize = 100;

/// What each entry reads, as the entry of the answer. What is too much together is refused entry by entry.
pub async fn read_all(
    app: &App,
    request: &HttpRequest,
    caller: &Caller,
    reads: &BTreeMap<usize, (String, bool)>,
) -> BTreeMap<usize, Vec<u8>> {
    let (mut entries, mut bytes) = (BTreeMap::new(), 0_u64);
    for (count, (index, (url, whole))) in reads.iter().enumerate() {
        let entry = if count >= MOST || bytes > MAX_BYTES {
            let problem = Problem::new(Slug::TooLarge).detail("the bundle reads too much: ask in several");
            failed(&problem).to_string().into_bytes()
        } else {
            match read(app, request, caller, url).await {
                Ok(answer) => entry(answer, *whole).await,
                Err(FhirProblem(problem)) => failed(&problem).to_string().into_bytes(),
            }
        };
        bytes = bytes.saturating_add(entry.len() as u64);
        entries.insert(*index, entry);
    }
    entries
}

/// What one URL names, relative to `/fhir` or below one of its own addresses.
async fn read(
    app: &App,
    request: &HttpRequest,
    caller: &Caller,
    url: &str,
) -> Result<HttpResponse, FhirProblem> {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let path = bases(app, request).relative(path).unwrap_or_else(|| path.to_owned());
    let steps: Vec<&str> = path.split('/').filter(|step| !step.is_empty()).collect();
    let unknown =
        || Problem::new(Slug::NotFound).detail("only resources, their versions and searches are read here");
    let kind = steps.first().and_then(|kind| resource_type(kind)).ok_or_else(unknown)?;
    let interaction = if steps.len() == 1 { Interaction::Search } else { Interaction::Read };
    if caller.client.as_ref().is_some_and(|client| !client.scope.allow(kind, interaction)) {
        return Err(Problem::new(Slug::InsufficientScope).into());
    }
    match steps.as_slice() {
        [_] => fhir_search::search(app, request, caller, (kind, query)).await,
        [_, id] => fhir_read::named(app, request, caller, (kind, id), None).await,
        [_, id, "_history", version] => {
            let version = version.parse().map_err(|_number| unknown())?;
            fhir_read::named(app, request, caller, (kind, id), Some(version)).await
        }
        _ => Err(unknown().into()),
    }
}

/// An answer as the entry of a bundle.
async fn entry(answer: HttpResponse, whole: bool) -> Vec<u8> {
    let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut response = json!({"status": answer.status().to_string()});
    if let Value::Object(members) = &mut response {
        members.extend(text(ETAG).map(|tag| ("etag".to_owned(), Value::from(tag))));
        let modified = text(LAST_MODIFIED).and_then(|text| text.parse().ok()).map(instant);
        members.extend(modified.map(|at| ("lastModified".to_owned(), Value::from(at))));
    }
    let body = actix_web::body::to_bytes(answer.into_body()).await.unwrap_or_default();
    let mut entry = b"{".to_vec();
    if whole && !body.is_empty() {
        entry.extend_from_slice(b"\"resource\":");
        entry.extend_from_slice(&body);
        entry.push(b',');
    }
    entry.extend_from_slice(format!("\"response\":{response}}}").as_bytes());
    entry
}

/// An HTTP date as FHIR writes an instant.
fn instant(date: actix_web::http::header::HttpDate) -> String {
    let since = std::time::SystemTime::from(date).duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    hbc_types::Timestamp::from_ms(ms).to_string()
}
