//! Access requests.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, get, post, web};
use hbc_service::paging::{PageQuery, cursor};
use hbc_service::{Agency, Caller, IdempotencyKey, Patient, Problem, StrictJson};
use hbc_types::ids::AccessRequestId;
use hbc_types::wire::access::{AccessRequestPage, AccessRequestState, AccessRequestView, NewAccessRequest};
use serde::Deserialize;

use crate::app::{App, Who};
use crate::error::Error;
use crate::flows::requests;
use crate::routes::{answer, save_created};
use crate::store::listings::PageKey;

/// An agency asks a patient for access.
#[utoipa::path(
    tag = "access requests", operation_id = "ask_for_access", request_body = NewAccessRequest,
    params(IdempotencyKey), security(("user" = [])),
    responses(
        (status = 201, description = "The patient sees it", body = AccessRequestView),
        (status = 404, description = "No such patient"),
        (status = 409),
    ),
)]
#[post("/v1/access-requests")]
pub async fn ask(
    agency: Agency,
    key: IdempotencyKey,
    body: StrictJson<NewAccessRequest>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let who = Who::from(&agency.caller);
    let (caller, digest, new) = (agency.id.clone(), body.digest(), body.into_value());
    let work = async |slot| {
        let view = requests::ask(&app, who, agency.id, new, save_created(&app, slot)).await?;
        Ok::<_, Error>(answer(StatusCode::CREATED, &view))
    };
    key.once(app.as_ref(), caller.as_str(), digest, work).await
}

/// Which requests to list.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RequestQuery {
    /// Only those in this state.
    #[serde(default)]
    pub state: Option<AccessRequestState>,
    /// Items on the page: 1 to 200, 50 unless given.
    #[serde(default)]
    pub limit: Option<u32>,
    /// `next` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
}

/// Requests to the calling patient, or by the calling agency.
#[utoipa::path(
    tag = "access requests", operation_id = "list_access_requests", params(RequestQuery),
    security(("user" = [])),
    responses((status = 200, description = "A page of requests", body = AccessRequestPage), (status = 404)),
)]
#[get("/v1/access-requests")]
pub async fn list(
    caller: Caller,
    query: web::Query<RequestQuery>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let RequestQuery { state, limit, cursor: at } = query.into_inner();
    let page = PageQuery { limit, cursor: at };
    let (limit, after) = (page.limit()?, page.after::<PageKey>()?);
    let items = requests::list(&app, &Who::from(&caller), state, after, limit).await?;
    let full = u32::try_from(items.len()).unwrap_or(u32::MAX) == limit;
    let last = items.last().filter(|_| full);
    let next =
        last.and_then(|last| cursor(&PageKey { at: last.created_at.ms(), id: last.id.as_str().to_owned() }));
    Ok(answer(StatusCode::OK, &AccessRequestPage { items, next }))
}

/// One request, for its patient and its agency.
#[utoipa::path(
    tag = "access requests", operation_id = "get_access_request", security(("user" = [])),
    params(("id" = AccessRequestId, Path)),
    responses((status = 200, description = "The request", body = AccessRequestView)),
)]
#[get("/v1/access-requests/{id}")]
pub async fn get(
    caller: Caller,
    id: web::Path<AccessRequestId>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let view = requests::get(&app, &Who::from(&caller), &id).await?;
    Ok(answer(StatusCode::OK, &view))
}

/// The patient says no. To approve, draft a grant that names the request.
#[utoipa::path(
    tag = "access requests", operation_id = "deny_access_request", security(("user" = [])),
    params(("id" = AccessRequestId, Path)),
    responses(
        (status = 200, description = "Denied", body = AccessRequestView),
        (status = 409, description = "It is closed"),
    ),
)]
#[post("/v1/access-requests/{id}/denial")]
pub async fn deny(
    patient: Patient,
    id: web::Path<AccessRequestId>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let who = Who::from(&patient.caller);
    let view = requests::deny(&app, who, patient.id, id.into_inner()).await?;
    Ok(answer(StatusCode::OK, &view))
}

/// The agency takes its request back.
#[utoipa::path(
    tag = "access requests", operation_id = "withdraw_access_request", security(("user" = [])),
    params(("id" = AccessRequestId, Path)),
    responses(
        (status = 200, description = "Withdrawn", body = AccessRequestView),
        (status = 409, description = "It is closed"),
    ),
)]
#[post("/v1/access-requests/{id}/withdrawal")]
pub async fn withdraw(
    agency: Agency,
    id: web::Path<AccessRequestId>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let who = Who::from(&agency.caller);
    let view = requests::withdraw(&app, who, agency.id, id.into_inner()).await?;
    Ok(answer(StatusCode::OK, &view))
}
