//! Reading under `/v1/records`: listings, descriptions, received bytes, content.

use actix_web::body::SizedStream;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse, get, web};
use bytes::Bytes;
use hbc_service::openapi::StoreProblems;
use hbc_service::{Caller, Problem, paging};
use hbc_types::Timestamp;
use hbc_types::ids::{AccountId, PatientId, RecordId};
use hbc_types::labels::Category;
use hbc_types::wire::storage::{RecordPage, RecordQuery, RecordView};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::domain::days::{self, Days};
use crate::domain::readable::every_sensitivity;
use crate::domain::resource::DOCUMENT;
use crate::error::Error;
use crate::flows::opened::Opened;
use crate::flows::read::{self, Listing, RecordReader};
use crate::routes::context::reader;
use crate::store::Filter;
use crate::store::TrustedRow;

/// Items on a page unless the client says otherwise.
const DEFAULT: u32 = 100;
/// Items on a page at most.
const MOST: u32 = 1_000;

/// Where a page of records ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct After {
    /// When the last record was created.
    pub at: i64,
    /// Its id.
    pub id: String,
}

impl After {
    /// Reads a cursor.
    pub fn parse(cursor: Option<&String>) -> Result<Option<(Timestamp, String)>, Problem> {
        let query = paging::PageQuery { limit: None, cursor: cursor.cloned() };
        let after: Option<Self> = query.after()?;
        Ok(after.map(|after| (Timestamp::from_ms(after.at), after.id)))
    }
}

/// Lists records that the caller may see, oldest first. What they may not see is absent.
#[utoipa::path(tag = "records", operation_id = "list_records", security(("user" = [])), params(RecordQuery,
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)")),
    responses(
        (status = 200, description = "A page of records", body = RecordPage),
        (status = 404),
        (status = 503),
    ))]
#[get("/v1/records")]
pub async fn list_records(
    caller: Caller,
    query: web::Query<RecordQuery>,
    request: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let patient = match (&query.patient, &caller.account) {
        (Some(patient), _) => patient.clone(),
        (None, AccountId::Patient(own)) => own.clone(),
        (None, _) => {
            return Err(Problem::invalid("patient", "names the account whose records are asked for"));
        }
    };
    let reader = reader(&request, &caller, Some(&patient))?;
    let filter = filter(&query)?;
    let Listing { rows, next, left_out } = read::list(&app, &reader, &patient, &filter).await?;
    let next = next.and_then(|(at, id)| paging::cursor(&After { at: at.ms(), id }));
    let page = RecordPage { items: rows.iter().map(view).collect(), next, left_out };
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(page))
}

fn filter(query: &RecordQuery) -> Result<Filter, Problem> {
    let day = |name: &'static str, text: &Option<String>, first: bool| match text {
        None => Ok(None),
        Some(text) => match Days::parse(text) {
            Some(found) => Ok(Some(days::text(if first { found.first } else { found.last }))),
            None => Err(Problem::invalid(name, "must be a day: `YYYY-MM-DD`")),
        },
    };
    let limit = query.limit.unwrap_or(DEFAULT);
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::invalid("limit", format!("must be 1 to {MOST}")));
    }
    Ok(Filter {
        category: query.category,
        kind: query.kind.clone(),
        from: day("from", &query.from, true)?,
        to: day("to", &query.to, false)?,
        after: After::parse(query.cursor.as_ref())?,
        limit,
        ..Filter::default()
    })
}

fn view(trusted: &TrustedRow) -> RecordView {
    let TrustedRow { row, secret, txid, height, refused: _ } = trusted;
    RecordView {
        id: row.id.clone(),
        version: row.version,
        patient: secret.patient.clone(),
        kind: row.kind.clone(),
        category: row.category,
        sensitivity: secret.sensitivity,
        n: row.n,
        date: row.date0.clone().filter(|day| day != days::OPEN.0),
        media_type: secret.media_type.clone(),
        bytes: secret.bytes,
        cid: row.cid.clone(),
        offset: row.offset,
        length: row.length,
        digest: row.commitment,
        anchor: trusted.anchor(),
        txid: *txid,
        height: *height,
        created_at: row.created_at,
    }
}

/// Finds the record that a path names. Who must say why, and does not, learns nothing.
pub async fn find(
    app: &App,
    request: &HttpRequest,
    caller: &Caller,
    id: &str,
    version: Option<u32>,
) -> Result<(read::RecordReader, TrustedRow), Problem> {
    let found = match RecordId::parse(id) {
        Ok(id) => read::find(app, &id, version).await,
        Err(_names_nothing) => Err(Error::NotFound),
    };
    let patient = found.as_ref().ok().map(|row| row.secret.patient.clone());
    let reader =
        reader(request, caller, patient.as_ref().filter(|patient: &&PatientId| patient.is_directory()))?;
    match found {
        Err(Error::NotFound) => Err(read::absent(app, &reader).await.into()),
        found if version.is_some() => Ok((reader, found?)),
        found => {
            let row = read::newest_for(app, &reader, found?).await?;
            Ok((reader, row))
        }
    }
}

/// The record that a type and an id name; nothing where they name none. Whether an account has a Patient is looked up only for
/// who may know of such records.
pub async fn record_named(
    app: &App,
    request: &HttpRequest,
    caller: &Caller,
    (kind, id): (&str, &str),
) -> Result<Option<RecordId>, Problem> {
    let account = match PatientId::parse(id) {
        Ok(account) if kind == "Patient" => account,
        _ => return Ok(RecordId::parse(id).ok()),
    };
    let reader = reader(request, caller, Some(&account))?;
    read::decide(app, &reader, &account, every_sensitivity([Category::Demographics])).await?;
    Ok(app.store.patient_record(&app.index.patient(&account)).await?)
}

/// Describes a record: labels and whereabouts, never content.
#[utoipa::path(tag = "records", operation_id = "get_record", security(("user" = [])),
    params(("id" = RecordId, Path, description = "The record"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)")),
    responses((status = 200, description = "The description", body = RecordView), StoreProblems))]
#[get("/v1/records/{id}")]
pub async fn get_record(
    caller: Caller,
    id: web::Path<String>,
    request: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let (reader, row) = find(&app, &request, &caller, &id, None).await?;
    read::decide_for(&app, &reader, &row).await?;
    if row.secret.deleted {
        return Err(Error::Deleted.into());
    }
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(view(&row)))
}

/// The bytes exactly as they were received.
#[utoipa::path(tag = "records", operation_id = "get_received", security(("user" = [])),
    params(("id" = RecordId, Path, description = "The record"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)")),
    responses((status = 200, description = "The bytes, with their media type", content_type = "*/*"), StoreProblems))]
#[get("/v1/records/{id}/received")]
pub async fn get_received(
    caller: Caller,
    id: web::Path<String>,
    request: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let (reader, row) = find(&app, &request, &caller, &id, None).await?;
    let opened = read::open_one(&app, &reader, row).await?;
    let bytes = opened.received.clone();
    Ok(attachment(&app, reader, &opened, bytes))
}

/// The content: a document's bytes, or a FHIR resource in its applied form.
#[utoipa::path(tag = "records", operation_id = "get_content", security(("user" = [])),
    params(("id" = RecordId, Path, description = "The record"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)")),
    responses((status = 200, description = "The content, with its media type", content_type = "*/*"), StoreProblems))]
#[get("/v1/records/{id}/content")]
pub async fn get_content(
    caller: Caller,
    id: web::Path<String>,
    request: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let (reader, row) = find(&app, &request, &caller, &id, None).await?;
    let opened = read::open_one(&app, &reader, row).await?;
    let document = opened.trusted.row.kind == DOCUMENT;
    let bytes = if document { opened.received.clone() } else { Bytes::from(opened.applied()?) };
    Ok(attachment(&app, reader, &opened, bytes))
}

/// Bytes that a browser must save and not show: their media type is what the sender said.
fn attachment(app: &App, reader: RecordReader, opened: &Opened, bytes: Bytes) -> HttpResponse {
    let length = bytes.len() as u64;
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, opened.trusted.secret.media_type.as_str()))
        .insert_header((CONTENT_DISPOSITION, "attachment"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header(("x-content-type-options", "nosniff"))
        .body(SizedStream::new(length, read::stream(app.clone(), reader, opened, bytes)))
}
