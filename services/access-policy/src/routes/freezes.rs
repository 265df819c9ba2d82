//! Freezes: a session is enough to stop, with the second factor of who has one; only the root key lifts.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, delete, get, put, web};
use hbc_service::{Patient, Problem, StrictJson};
use hbc_types::ids::GrantId;
use hbc_types::wire::access::{FreezeView, Unfreeze};

use crate::app::{App, Who};
use crate::flows::consents;
use crate::routes::answer;

/// Stops one grant. It takes effect before this answers.
#[utoipa::path(
    tag = "freezes", operation_id = "freeze_grant", security(("user" = [])), params(("id" = GrantId, Path)),
    responses(
        (status = 200, description = "Frozen from now on", body = FreezeView),
        (status = 401, description = "No valid token, or the second factor must be shown again (`step_up`)"),
        (status = 409),
    ),
)]
#[put("/v1/grants/{id}/freeze")]
pub async fn freeze_grant(
    patient: Patient,
    id: web::Path<GrantId>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    patient.caller.check_step_up(app.clock.now())?;
    let who = Who::from(&patient.caller);
    let view = consents::freeze(&app, who, patient.id, Some(id.into_inner())).await?;
    Ok(answer(StatusCode::OK, &view))
}

/// Lifts the freeze of one grant.
#[utoipa::path(
    tag = "freezes", operation_id = "unfreeze_grant", request_body = Unfreeze, security(("user" = [])),
    params(("id" = GrantId, Path)),
    responses((status = 204, description = "Lifted"), (status = 409)),
)]
#[delete("/v1/grants/{id}/freeze")]
pub async fn unfreeze_grant(
    patient: Patient,
    id: web::Path<GrantId>,
    body: StrictJson<Unfreeze>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let who = Who::from(&patient.caller);
    consents::unfreeze(&app, who, patient.id, Some(id.into_inner()), body.into_value()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Stops every grant at once. It takes effect before this answers.
#[utoipa::path(
    tag = "freezes", operation_id = "freeze_all", security(("user" = [])),
    responses(
        (status = 200, description = "Everything is stopped from now on", body = FreezeView),
        (status = 401, description = "No valid token, or the second factor must be shown again (`step_up`)"),
        (status = 404),
    ),
)]
#[put("/v1/me/freeze")]
pub async fn freeze_all(patient: Patient, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    patient.caller.check_step_up(app.clock.now())?;
    let who = Who::from(&patient.caller);
    let view = consents::freeze(&app, who, patient.id, None).await?;
    Ok(answer(StatusCode::OK, &view))
}

/// The freeze of everything; 404 if there is none.
#[utoipa::path(
    tag = "freezes", operation_id = "get_freeze", security(("user" = [])),
    responses((status = 200, description = "Whether everything is stopped", body = FreezeView), (status = 404)),
)]
#[get("/v1/me/freeze")]
pub async fn freeze_state(patient: Patient, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let view = consents::freeze_state(&app, &Who::from(&patient.caller), &patient.id).await?;
    Ok(answer(StatusCode::OK, &view))
}

/// Lifts the freeze of everything.
#[utoipa::path(
    tag = "freezes", operation_id = "unfreeze_all", request_body = Unfreeze, security(("user" = [])),
    responses((status = 204, description = "Lifted"), (status = 404), (status = 409)),
)]
#[delete("/v1/me/freeze")]
pub async fn unfreeze_all(
    patient: Patient,
    body: StrictJson<Unfreeze>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let who = Who::from(&patient.caller);
    consents::unfreeze(&app, who, patient.id, None, body.into_value()).await?;
    Ok(HttpResponse::NoContent().finish())
}
