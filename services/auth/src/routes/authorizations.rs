//! Apps that ask patients, and the apps that a patient let in.

use actix_web::{HttpResponse, delete, get, post, web};
use hbc_service::{Patient, Problem, StrictJson};
use hbc_types::ids::{AppId, AuthorizationId};
use hbc_types::wire::apps::{
    AppAccesses, AuthorizationDecision, AuthorizationStep, AuthorizationView, NewAuthorization,
};
use hbc_types::wire::auth::Denial;

use super::denial;
use crate::app::App;
use crate::flows::authorizations;

/// Takes the query with which an app sent the patient's browser, and says what to ask the patient or where to send the browser back.
///
/// An app that is not known, or an address that it did not register, is a 422: the browser goes nowhere. A page that answers asks
/// the patient to sign a grant to the app (`POST /v1/grants` at access-policy, at most `access`) before it says yes here.
#[utoipa::path(tag = "apps", operation_id = "ask_authorization", request_body = NewAuthorization,
    security(("user" = [])),
    responses(
        (status = 201, description = "To be answered within ten minutes", body = AuthorizationStep),
        (status = 200, description = "The request is at fault: send the browser back with the error", body = AuthorizationStep),
        (status = 409, description = "The deployment has no page for apps"),
        (status = 429, description = "Too many questions wait for an answer, or came within a day"),
    ))]
#[post("/v1/authorizations")]
pub async fn ask(
    patient: Patient,
    body: StrictJson<NewAuthorization>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let step = authorizations::ask(&app, &patient.caller, &patient.id, &body.value.query).await?;
    let mut answer = if step.authorization.is_some() { HttpResponse::Created() } else { HttpResponse::Ok() };
    Ok(answer.json(step))
}

/// Shows an app's question to the patient whom it asks, while it can be answered.
#[utoipa::path(tag = "apps", operation_id = "show_authorization", params(("id" = AuthorizationId, Path)),
    security(("user" = [])),
    responses(
        (status = 200, description = "The question", body = AuthorizationView),
        (status = 404, description = "There is none, or it was answered"),
    ))]
#[get("/v1/authorizations/{id}")]
pub async fn show(
    patient: Patient,
    id: web::Path<AuthorizationId>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let view = authorizations::show(&app, &patient.caller, &patient.id, &id).await?;
    Ok(HttpResponse::Ok().json(view))
}

/// The patient's answer to an app, with credentials shown lately. It is given once; the browser is then sent to `redirect`.
#[utoipa::path(tag = "apps", operation_id = "decide_authorization", params(("id" = AuthorizationId, Path)),
    request_body = AuthorizationDecision, security(("user" = [])),
    responses(
        (status = 200, description = "Where to send the browser", body = AuthorizationStep),
        (status = 401, description = "No valid token, or the credentials were not shown within ten minutes"),
        (status = 404, description = "There is no such question to this patient"),
        (status = 409, description = "It was answered, or can be answered no more; or fifty apps are let in"),
    ))]
#[post("/v1/authorizations/{id}/decision")]
pub async fn decide(
    patient: Patient,
    id: web::Path<AuthorizationId>,
    body: StrictJson<AuthorizationDecision>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    patient.caller.check_shown_lately(app.clock.now())?;
    let redirect =
        authorizations::decide(&app, &patient.caller, (&patient.id, &id), body.into_value()).await?;
    Ok(HttpResponse::Ok().json(AuthorizationStep { authorization: None, redirect: Some(redirect) }))
}

/// Lists the apps that the patient let in and that can still come.
#[utoipa::path(tag = "apps", operation_id = "list_own_apps", security(("user" = [])),
    responses((status = 200, description = "The apps, the one that was let in last first", body = AppAccesses)))]
#[get("/v1/me/apps")]
pub async fn list(patient: Patient, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let items = authorizations::let_in(&app, &patient.caller, &patient.id).await?;
    Ok(HttpResponse::Ok().json(AppAccesses { items }))
}

/// Sends an app away: its tokens for this patient are good no more. The grant to it ends by its revocation.
#[utoipa::path(tag = "apps", operation_id = "send_app_away", params(("id" = AppId, Path)), security(("user" = [])),
    responses(
        (status = 200, description = "Ended everywhere", body = Denial),
        (status = 202, description = "Ended here; access-policy is still being told", body = Denial),
    ))]
#[delete("/v1/me/apps/{id}")]
pub async fn send_away(
    patient: Patient,
    id: web::Path<AppId>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    Ok(denial(&authorizations::send_away(&app, &patient.caller, (&patient.id, &id)).await?))
}
