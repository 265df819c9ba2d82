//! One's own account.

use actix_web::{HttpResponse, delete, get, post, put, web};
use hbc_service::openapi::PasswordProblems;
use hbc_service::{Caller, Problem, StrictJson};
use hbc_types::wire::auth::{
    Closure, Contact, Denial, FreshProof, Me, NewPassword, TotpConfirm, TotpPrepared,
};

use super::{account, denial, in_session};
use crate::app::App;
use crate::flows::login::Proof;
use crate::flows::{account as own, closing, factors};

/// Shows the caller's account.
#[utoipa::path(tag = "accounts", operation_id = "show_me", security(("user" = [])),
    responses((status = 200, description = "The account", body = Me)))]
#[get("/v1/me")]
pub async fn show(caller: Caller, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let account = account(&app, &caller).await?;
    Ok(HttpResponse::Ok().json(own::me(&app, &account).await?))
}

/// Replaces the caller's contact data.
#[utoipa::path(tag = "accounts", operation_id = "set_contact", request_body = Contact, security(("user" = [])),
    responses((status = 200, description = "The account", body = Me)))]
#[put("/v1/me/contact")]
pub async fn set_contact(
    caller: Caller,
    body: StrictJson<Contact>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    own::set_contact(&app, &account(&app, &caller).await?, &body.value).await?;
    let account = account(&app, &caller).await?;
    Ok(HttpResponse::Ok().json(own::me(&app, &account).await?))
}

/// Changes the caller's password; every other session ends.
#[utoipa::path(tag = "accounts", operation_id = "set_password", request_body = NewPassword, security(("user" = [])),
    responses(
        (status = 204, description = "Changed"),
        (status = 409, description = "It was changed meanwhile"),
        (status = 422, description = "The new password is not acceptable"),
        PasswordProblems,
    ))]
#[put("/v1/me/password")]
pub async fn set_password(
    caller: Caller,
    body: StrictJson<NewPassword>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let account = account(&app, &caller).await?;
    own::change_password(&app, &account.username, &caller.session, body.into_value(), in_session(&caller))
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Closes the caller's account, for ever.
///
/// Everybody is signed out, everything that opens the account is deleted, and all access that was given ends. The username is
/// given to nobody else. Records stay where they are, and open for nobody.
#[utoipa::path(tag = "accounts", operation_id = "close_account", request_body = Closure, security(("user" = [])),
    responses(
        (status = 200, description = "Closed everywhere", body = Denial),
        (status = 202, description = "Closed here; access-policy is still being told", body = Denial),
        (status = 403, description = "An operator's account"),
        (status = 422, description = "`confirm` is not the username"),
        PasswordProblems,
    ))]
#[post("/v1/me/closure")]
pub async fn close(
    caller: Caller,
    body: StrictJson<Closure>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    Ok(denial(&closing::close(&app, &caller, body.into_value()).await?))
}

fn proof(caller: &Caller, body: FreshProof) -> Proof {
    Proof { password: body.password, totp: body.totp, origin: in_session(caller) }
}

/// Prepares a second factor (TOTP); it counts once it is confirmed.
#[utoipa::path(tag = "accounts", operation_id = "prepare_totp", request_body = FreshProof, security(("user" = [])),
    responses(
        (status = 201, description = "Scan this, then confirm", body = TotpPrepared),
        (status = 409, description = "A second factor is set up already"),
        PasswordProblems,
    ))]
#[post("/v1/me/totp")]
pub async fn prepare_totp(
    caller: Caller,
    body: StrictJson<FreshProof>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let account = account(&app, &caller).await?;
    let prepared = factors::prepare(&app, &account.username, proof(&caller, body.into_value())).await?;
    Ok(HttpResponse::Created().json(prepared))
}

/// Confirms the prepared second factor by its first code; every other session ends.
#[utoipa::path(tag = "accounts", operation_id = "confirm_totp", request_body = TotpConfirm, security(("user" = [])),
    responses(
        (status = 204, description = "The second factor counts"),
        (status = 401, description = "No valid token, or the code is wrong"),
        (status = 409, description = "None is prepared"),
    ))]
#[put("/v1/me/totp")]
pub async fn confirm_totp(
    caller: Caller,
    body: StrictJson<TotpConfirm>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let account = account(&app, &caller).await?;
    factors::confirm(&app, &account, &caller.session, &body.value.code).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Removes the second factor, after password and code.
#[utoipa::path(tag = "accounts", operation_id = "remove_totp", request_body = FreshProof, security(("user" = [])),
    responses((status = 204, description = "Removed"), PasswordProblems))]
#[delete("/v1/me/totp")]
pub async fn remove_totp(
    caller: Caller,
    body: StrictJson<FreshProof>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let account = account(&app, &caller).await?;
    factors::remove(&app, &account.username, proof(&caller, body.into_value())).await?;
    Ok(HttpResponse::NoContent().finish())
}
