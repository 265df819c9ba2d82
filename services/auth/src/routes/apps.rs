//! Third-party apps: operators register them, everybody sees those that may ask.

use actix_web::{HttpResponse, get, post, web};
use hbc_service::openapi::PasswordProblems;
use hbc_service::{Caller, Operator, Problem, StrictJson};
use hbc_types::ids::AppId;
use hbc_types::wire::apps::{AppView, Apps, NewApp};
use hbc_types::wire::auth::{Decision, Denial, SigningPassword};

use super::{account, denial, in_session};
use crate::app::App;
use crate::flows::apps::{self, Operating};
use crate::store::accounts::Account;

/// Lists the apps that may ask patients; operators see all.
#[utoipa::path(tag = "apps", operation_id = "list_apps", security(("user" = [])),
    responses((status = 200, description = "The apps, the oldest first", body = Apps)))]
#[get("/v1/apps")]
pub async fn list(caller: Caller, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    account(&app, &caller).await?;
    Ok(HttpResponse::Ok().json(Apps { items: apps::list(&app, caller.role).await? }))
}

/// Shows an app that may ask patients; operators see any.
#[utoipa::path(tag = "apps", operation_id = "show_app", params(("id" = AppId, Path)), security(("user" = [])),
    responses((status = 200, description = "The app", body = AppView), (status = 404, description = "There is none")))]
#[get("/v1/apps/{id}")]
pub async fn show(
    caller: Caller,
    id: web::Path<AppId>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    account(&app, &caller).await?;
    Ok(HttpResponse::Ok().json(apps::show(&app, caller.role, &id).await?))
}

/// Registers an app: the operator signs the order for the ledger, after the password.
///
/// It may ask patients when the ledger has the signatures of as many operators as the genesis says. What was signed does not change:
/// other addresses, keys or scopes are another app.
#[utoipa::path(tag = "apps", operation_id = "register_app", request_body = NewApp, security(("user" = [])),
    responses((status = 201, description = "Registered, and signed once", body = AppView), PasswordProblems))]
#[post("/v1/apps")]
pub async fn register(
    operator: Operator,
    body: StrictJson<NewApp>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let own = account(&app, &operator.caller).await?;
    let view = apps::register(&app, operating(&operator, &own), body.into_value()).await?;
    Ok(HttpResponse::Created().json(view))
}

fn operating<'a>(operator: &'a Operator, own: &'a Account) -> Operating<'a> {
    Operating { operator: (&operator.id, own), origin: in_session(&operator.caller) }
}

/// Adds another operator's signature to an app's registration. Signing twice changes nothing.
#[utoipa::path(tag = "apps", operation_id = "approve_app", params(("id" = AppId, Path)),
    request_body = SigningPassword, security(("user" = [])),
    responses(
        (status = 200, description = "Signed", body = AppView),
        (status = 409, description = "It was ended"),
        PasswordProblems,
    ))]
#[post("/v1/apps/{id}/approvals")]
pub async fn approve(
    operator: Operator,
    id: web::Path<AppId>,
    body: StrictJson<SigningPassword>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let own = account(&app, &operator.caller).await?;
    let view = apps::approve(&app, operating(&operator, &own), &id, body.into_value()).await?;
    Ok(HttpResponse::Ok().json(view))
}

/// Ends an app for ever, with the reason: its sessions end and access-policy denies it from its durable acceptance on.
#[utoipa::path(tag = "apps", operation_id = "end_app", params(("id" = AppId, Path)),
    request_body = Decision, security(("user" = [])),
    responses(
        (status = 200, description = "Ended everywhere", body = Denial),
        (status = 202, description = "Ended here; access-policy is still being told", body = Denial),
        PasswordProblems,
    ))]
#[post("/v1/apps/{id}/endings")]
pub async fn end(
    operator: Operator,
    id: web::Path<AppId>,
    body: StrictJson<Decision>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let own = account(&app, &operator.caller).await?;
    Ok(denial(&apps::end(&app, operating(&operator, &own), &id, body.into_value()).await?))
}
