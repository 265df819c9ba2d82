//! How the caller wants the portal.

use actix_web::{HttpResponse, get, put, web};
use hbc_service::{Caller, Problem, StrictJson};
use hbc_types::wire::preferences::Preferences;

use crate::app::App;
use crate::flows::preferences;

/// Shows how the caller wants the portal: the defaults to who never said.
#[utoipa::path(tag = "accounts", operation_id = "show_preferences", security(("user" = [])),
    responses((status = 200, description = "The preferences", body = Preferences)))]
#[get("/v1/me/preferences")]
pub async fn show(caller: Caller, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(preferences::show(&app, &caller).await?))
}

/// Replaces how the caller wants the portal, all of it.
#[utoipa::path(tag = "accounts", operation_id = "set_preferences", request_body = Preferences,
    security(("user" = [])),
    responses((status = 200, description = "As they are now", body = Preferences)))]
#[put("/v1/me/preferences")]
pub async fn set(
    caller: Caller,
    body: StrictJson<Preferences>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(preferences::set(&app, &caller, body.into_value()).await?))
}
