//! Lost passwords.

use actix_web::{HttpRequest, HttpResponse, post, web};
use hbc_service::openapi::PasswordProblems;
use hbc_service::{Caller, Problem, Public, StrictJson};
use hbc_types::wire::auth::{FreshProof, Recovery, RecoveryCodes};

use super::{account, address, in_session};
use crate::app::App;
use crate::flows::login::Proof;
use crate::flows::recovery;

/// Restores an account with a recovery code.
///
/// The code works once. Every session ends and the second factor is removed. Wrong and used codes get the answer of a wrong
/// password and are slowed down alike.
#[utoipa::path(tag = "accounts", operation_id = "recover_account", request_body = Recovery, security(()),
    responses(
        (status = 204, description = "Restored: log in with the new password"),
        (status = 409, description = "The code was used by another request"),
        (status = 422, description = "The new password is not acceptable"),
        PasswordProblems,
    ))]
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

/// Makes fresh recovery codes, after the password; the earlier ones are void.
#[utoipa::path(tag = "accounts", operation_id = "renew_recovery_codes", request_body = FreshProof,
    security(("user" = [])),
    responses(
        (status = 201, description = "The codes, shown in this answer only", body = RecoveryCodes),
        (status = 409, description = "An operator's account"),
        PasswordProblems,
    ))]
#[post("/v1/me/recovery-codes")]
pub async fn renew(
    caller: Caller,
    body: StrictJson<FreshProof>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let account = account(&app, &caller).await?;
    let FreshProof { password, totp } = body.into_value();
    let proof = Proof { password, totp, origin: in_session(&caller) };
    let codes = recovery::renew_codes(&app, &account, proof).await?;
    Ok(HttpResponse::Created().json(codes))
}
