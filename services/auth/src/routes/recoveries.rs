//! Lost passwords.

use actix_web::{HttpRequest, HttpResponse, post, web};
use hbc_service::{Problem, Public, StrictJson};
use hbc_types::problem::ProblemDocument;
use hbc_types::wire::auth::Recovery;

use super::address;
use crate::app::App;
use crate::flows::recovery;

/// Restores a patient's account with a recovery code.
///
/// The code works once. Every session ends and the second factor is removed. Wrong and used codes get the answer of a wrong
/// password and are slowed down alike.
#[utoipa::path(tag = "accounts", operation_id = "recover_account", request_body = Recovery, security(()),
    responses((status = 204, description = "Restored: log in with the new password"),
        (status = 401, description = "Username or code is wrong", body = ProblemDocument),
        (status = 409, description = "The code was used by another request", body = ProblemDocument),
        (status = 422, description = "The new password is not acceptable", body = ProblemDocument),
        (status = 429, description = "Too many failures", body = ProblemDocument),
        (status = 503, description = "Too busy", body = ProblemDocument)))]
#[post("/v1/recoveries")]
pub async fn recover(
    _anybody: Public,
    request: HttpRequest,
    body: StrictJson<Recovery>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    recovery::recover(&app, body.into_value(), &address(&request)).await?;
    Ok(HttpResponse::NoContent().finish())
}
