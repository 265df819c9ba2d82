//! The patient's access log.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, get, web};
use hbc_service::paging::{PageQuery, cursor};
use hbc_service::{Patient, Problem};
use hbc_types::ids::ReceiptId;
use hbc_types::wire::access::AccessPage;

use crate::app::{App, Who};
use crate::flows::{log, proofs};
use crate::routes::{answer, document};

/// Who read, wrote, listed or tried to: newest first.
#[utoipa::path(
    tag = "access log", operation_id = "list_accesses", params(PageQuery), security(("user" = [])),
    responses((status = 200, description = "A page of accesses, the newest first", body = AccessPage)),
)]
#[get("/v1/me/accesses")]
pub async fn list(
    patient: Patient,
    page: web::Query<PageQuery>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let (limit, before) = (page.limit()?, page.after::<u64>()?.unwrap_or(u64::MAX));
    let who = Who::from(&patient.caller);
    let (items, unanchored_since) = log::page(&app, &who, &patient.id, before, limit).await?;
    let next = items.last().filter(|last| last.receipt.n > 1).and_then(|last| cursor(&last.receipt.n));
    Ok(answer(StatusCode::OK, &AccessPage { items, next, unanchored_since }))
}

/// The proof that a receipt stands on the ledger: a document that `hbc verify` checks offline.
#[utoipa::path(
    tag = "access log", operation_id = "get_access_proof", security(("user" = [])),
    params(("receipt" = ReceiptId, Path)),
    responses(
        (status = 200, description = "The document, exactly as it is to be kept", content_type = "application/json"),
        (status = 409, description = "Not in a final block yet"),
        (status = 503, description = "No ledger node answers"),
    ),
)]
#[get("/v1/me/accesses/{receipt}/proof")]
pub async fn proof(
    patient: Patient,
    receipt: web::Path<ReceiptId>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let located = log::locate(&app, &Who::from(&patient.caller), &patient.id, &receipt).await?;
    Ok(document(proofs::receipt(&app, located).await?))
}
