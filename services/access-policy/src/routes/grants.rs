//! Grants: draft, sign, revoke, look.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, get, post, put, web};
use hbc_service::paging::{PageQuery, cursor};
use hbc_service::{Caller, IdempotencyKey, Patient, Problem, StrictJson};
use hbc_types::ids::{GrantId, PatientId};
use hbc_types::wire::access::{
    AlterationOpening, GrantDraft, GrantPage, GrantRevocation, GrantSignature, GrantView, NewGrant, RootView,
};

use crate::app::{App, Who};
use crate::error::Error;
use crate::flows::{alterations, consents, proofs, roots};
use crate::routes::{answer, document, save_created};
use crate::store::listings::PageKey;

/// Drafts a grant, unasked or in answer to a request. Nothing takes effect until it is signed and final.
#[utoipa::path(
    tag = "grants", operation_id = "draft_grant", request_body = NewGrant, params(IdempotencyKey),
    security(("user" = [])),
    responses(
        (status = 201, description = "Sign it within five minutes", body = GrantDraft),
        (status = 404),
        (status = 409),
    ),
)]
#[post("/v1/grants")]
pub async fn draft(
    patient: Patient,
    key: IdempotencyKey,
    body: StrictJson<NewGrant>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let who = Who::from(&patient.caller);
    let (caller, digest, new) = (patient.id.clone(), body.digest(), body.into_value());
    let work = async |slot| {
        let save = save_created(&app, slot);
        let draft = consents::draft_grant(&app, who, patient.id, new, save).await?;
        Ok::<_, Error>(answer(StatusCode::CREATED, &draft))
    };
    key.once(app.as_ref(), caller.as_str(), digest, work).await
}

/// Grants of the calling patient, or those that cover the calling agency.
#[utoipa::path(
    tag = "grants", operation_id = "list_grants", params(PageQuery), security(("user" = [])),
    responses((status = 200, description = "A page of grants", body = GrantPage), (status = 404)),
)]
#[get("/v1/grants")]
pub async fn list(
    caller: Caller,
    page: web::Query<PageQuery>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let (limit, after) = (page.limit()?, page.after::<PageKey>()?);
    let items = consents::list(&app, &Who::from(&caller), after, limit).await?;
    let full = u32::try_from(items.len()).unwrap_or(u32::MAX) == limit;
    let last = items.last().filter(|_| full);
    let next =
        last.and_then(|last| cursor(&PageKey { at: last.created_at.ms(), id: last.id.as_str().to_owned() }));
    Ok(answer(StatusCode::OK, &GrantPage { items, next }))
}

/// One grant with its evidence, for its patient and for whom it covers.
#[utoipa::path(
    tag = "grants", operation_id = "get_grant", security(("user" = [])), params(("id" = GrantId, Path)),
    responses((status = 200, description = "The grant", body = GrantView)),
)]
#[get("/v1/grants/{id}")]
pub async fn get(
    caller: Caller,
    id: web::Path<GrantId>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let view = consents::get(&app, &Who::from(&caller), &id).await?;
    Ok(answer(StatusCode::OK, &view))
}

/// The proof that a consent was given, with the patient's root key: a document that `hbc verify` checks offline. That none
/// revoked it since is for a state proof to show.
#[utoipa::path(
    tag = "grants", operation_id = "get_grant_proof", security(("user" = [])), params(("id" = GrantId, Path)),
    responses(
        (status = 200, description = "The document, exactly as it is to be kept", content_type = "application/json"),
        (status = 409, description = "Not in a final block yet"),
        (status = 503, description = "No ledger node answers"),
    ),
)]
#[get("/v1/grants/{id}/proof")]
pub async fn proof(
    caller: Caller,
    id: web::Path<GrantId>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    Ok(document(proofs::consent(&app, &Who::from(&caller), &id).await?))
}

/// Takes the patient's signature over a draft. The grant is `pending` until its block is final.
#[utoipa::path(
    tag = "grants", operation_id = "sign_grant", request_body = GrantSignature, security(("user" = [])),
    params(("id" = GrantId, Path)),
    responses(
        (status = 200, description = "Accepted: active once its block is final", body = GrantView),
        (status = 400, description = "Of another chain"),
        (status = 401, description = "No token, or a signature that does not count"),
        (status = 409, description = "Signed already, expired, or another event took its place"),
    ),
)]
#[put("/v1/grants/{id}/signature")]
pub async fn sign(
    patient: Patient,
    id: web::Path<GrantId>,
    body: StrictJson<GrantSignature>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let who = Who::from(&patient.caller);
    let view = consents::sign(&app, who, patient.id, id.into_inner(), body.into_value()).await?;
    Ok(answer(StatusCode::OK, &view))
}

/// Takes what a final alteration of a grant says: from now on the grant covers that.
///
/// The patient's key may alter a grant at a ledger node. Until its body is shown here, the grant is `altered` and opens
/// nothing.
#[utoipa::path(
    tag = "grants", operation_id = "open_alteration", request_body = AlterationOpening, security(("user" = [])),
    params(("id" = GrantId, Path)),
    responses(
        (status = 200, description = "The grant as it was altered", body = GrantView),
        (status = 401, description = "No token, or beyond what the key's certificate allows"),
        (status = 409, description = "The ledger has no such alteration, or the grant has ended"),
    ),
)]
#[put("/v1/grants/{id}/alteration")]
pub async fn open_alteration(
    patient: Patient,
    id: web::Path<GrantId>,
    body: StrictJson<AlterationOpening>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let who = Who::from(&patient.caller);
    let view = alterations::open(&app, who, patient.id, id.into_inner(), body.into_value()).await?;
    Ok(answer(StatusCode::OK, &view))
}

/// Takes the signed revocation. It takes effect before this answers, whatever the ledger's state.
#[utoipa::path(
    tag = "grants", operation_id = "revoke_grant", request_body = GrantRevocation, security(("user" = [])),
    params(("id" = GrantId, Path)),
    responses((status = 200, description = "Revoked from now on", body = GrantView), (status = 409)),
)]
#[post("/v1/grants/{id}/revocation")]
pub async fn revoke(
    patient: Patient,
    id: web::Path<GrantId>,
    body: StrictJson<GrantRevocation>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let who = Who::from(&patient.caller);
    let view = consents::revoke(&app, who, patient.id, id.into_inner(), body.into_value()).await?;
    Ok(answer(StatusCode::OK, &view))
}

/// The fingerprint of the patient's pinned root key, and which ones it took the place of by whose word, for the patient and for
/// whom a grant covers.
#[utoipa::path(
    tag = "grants", operation_id = "get_root", security(("user" = [])), params(("id" = PatientId, Path)),
    responses((status = 200, description = "The root key", body = RootView)),
)]
#[get("/v1/patients/{id}/root")]
pub async fn root(
    caller: Caller,
    id: web::Path<PatientId>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let view = roots::view(&app, &Who::from(&caller), &id).await?;
    Ok(answer(StatusCode::OK, &view))
}
