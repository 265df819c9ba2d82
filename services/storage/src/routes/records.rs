//! `POST /v1/records`: documents of any media type.

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse, post, web};
use bytes::Bytes;
use hbc_service::idempotency::{IdempotencyKey, Slot};
use hbc_service::{Body, Caller, Problem};
use hbc_types::ids::RecordId;
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::problem::Slug;
use hbc_types::wire::access::Labels;
use hbc_types::wire::storage::{AnchorState, DocumentQuery, RecordCreated};
use hbc_types::{Digest, json};

use crate::app::{App, blocking};
use crate::domain::bundle::Draft;
use crate::domain::days::Days;
use crate::domain::overlay::Overlay;
use crate::domain::resource::DOCUMENT;
use crate::error::Error;
use crate::flows::create;
use crate::flows::upload::Stored;
use crate::routes::context::{author, prefer, wait_for};

/// Longest media type.
const MEDIA_TYPE_BYTES: usize = 200;

/// Stores a document: the body as it is, with its `Content-Type`.
#[utoipa::path(tag = "records", operation_id = "create_record", security(("user" = [])),
    params(DocumentQuery,
        ("HBC-Patient" = Option<String>, Header, description = "The account the document is for"),
        ("HBC-Purpose" = Option<String>, Header, description = "Why (HL7 v3 PurposeOfUse)"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: up to N seconds for the block"),
        IdempotencyKey),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 201, description = "Stored: encrypted, pinned and committed", body = RecordCreated,
            headers(("Location" = String, description = "Where it is described"))),
        (status = 404),
        (status = 429, description = "The account has written as much as it may on one day"),
        (status = 503),
    ))]
#[post("/v1/records")]
pub async fn create_record(
    caller: Caller,
    key: IdempotencyKey,
    query: web::Query<DocumentQuery>,
    request: HttpRequest,
    body: Body,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let author = author(&request, &caller)?;
    let draft = labelled(&app, draft(&app, &request, &query, &body)?, body.clone()).await?;
    create::admit_document(&app, &author, draft.labels).await?;
    let work = async |slot: Slot| {
        let now = app.clock.now();
        let save = |stored: &[Stored]| {
            let view = view(stored.first()?, AnchorState::Pending);
            let body = serde_json::to_string(&view).ok()?;
            slot.answer(StatusCode::CREATED, &[("location", &location(&view))], &body, now)
        };
        let stored = create::write_document(&app, &author, &body, draft, now, save).await?;
        let view = view(&stored, wait_for(&app, &stored.cid, prefer(&request).wait).await);
        Ok::<_, Error>(HttpResponse::Created().insert_header(("location", location(&view))).json(view))
    };
    key.once(app.get_ref(), caller.account.as_str(), Digest::of(&body), work).await
}

fn draft(app: &App, request: &HttpRequest, query: &DocumentQuery, body: &Bytes) -> Result<Draft, Problem> {
    let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = media_type
        .filter(|text| text.len() <= MEDIA_TYPE_BYTES && text.contains('/'))
        .ok_or_else(|| Problem::new(Slug::UnsupportedMediaType).detail("send the document's Content-Type"))?;
    if body.is_empty() {
        return Err(Problem::invalid("body", "is empty"));
    }
    let category = query.category.unwrap_or(Category::Document);
    if category == Category::Directory {
        return Err(Problem::invalid("category", "documents do not belong in the directory"));
    }
    let days = match &query.date {
        Some(text) => {
            Some(Days::parse(text).ok_or_else(|| Problem::invalid("date", "must be a day: `YYYY-MM-DD`"))?)
        }
        None => None,
    };
    Ok(Draft {
        id: RecordId::random(&app.random),
        version: 1,
        deleted: false,
        kind: DOCUMENT.to_owned(),
        media_type: media_type.to_owned(),
        received: 0..body.len(),
        overlay: Overlay::default(),
        labels: Labels { category, sensitivity: query.sensitivity.unwrap_or(Sensitivity::Normal) },
        days,
        when: None,
        codes: Vec::new(),
        identifiers: Vec::new(),
        condition: None,
    })
}

/// A document in JSON may be a FHIR resource: what its labels and codes say counts as well as what its sender says.
async fn labelled(app: &App, mut draft: Draft, body: Bytes) -> Result<Draft, Error> {
    let essence = draft.media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence.ends_with("json") {
        let _turn = app.parsing.turn(None, body.len() as u64).await;
        let told = blocking(move || Ok::<_, Error>(told_by(&body)));
        draft.labels.sensitivity = draft.labels.sensitivity.and(told.await?);
    }
    Ok(draft)
}

/// What a text in JSON says of its sensitivity. One that is too large to be looked through is closed.
fn told_by(body: &[u8]) -> Sensitivity {
    if json::parse(body).is_err_and(|error| error.is_too_much()) {
        return Sensitivity::Restricted;
    }
    let value = serde_json::from_slice(body).unwrap_or_default();
    hbc_types::classify::sensitivity(&value)
}

fn view(stored: &Stored, anchor: AnchorState) -> RecordCreated {
    RecordCreated {
        id: stored.id.clone(),
        version: 1,
        cid: stored.cid.clone(),
        digest: stored.commitment,
        anchor,
        existing: false,
    }
}

fn location(view: &RecordCreated) -> String {
    format!("/v1/records/{}", view.id)
}
