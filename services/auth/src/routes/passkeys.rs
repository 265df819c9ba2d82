//! Passkeys: making, listing and removing them, and logging in with one.

use actix_web::http::header::USER_AGENT;
use actix_web::{HttpRequest, HttpResponse, delete, get, post, web};
use hbc_service::openapi::PasswordProblems;
use hbc_service::{Caller, Problem, Public, StrictJson};
use hbc_types::ids::PasskeyId;
use hbc_types::wire::auth::{Denial, FreshProof, SteppedUp, Tokens};
use hbc_types::wire::passkeys::{
    NewPasskey, PasskeyCreation, PasskeyLogin, PasskeyRequest, PasskeyView, Passkeys,
};

use super::{address, denial, in_session};
use crate::app::App;
use crate::flows::login::Proof;
use crate::flows::passkeys;

fn proof(caller: &Caller, body: FreshProof) -> Proof {
    Proof { password: body.password, totp: body.totp, origin: in_session(caller) }
}

/// Prepares a passkey, after the password.
///
/// The answer goes unchanged into `PublicKeyCredential.parseCreationOptionsFromJSON`. Its challenge is good for five minutes,
/// once, and in this session.
#[utoipa::path(tag = "passkeys", operation_id = "prepare_passkey", request_body = FreshProof,
    security(("user" = [])),
    responses(
        (status = 201, description = "How it is to be made", body = PasskeyCreation),
        (status = 409, description = "The account has ten already, or passkeys are not set up"),
        PasswordProblems,
    ))]
#[post("/v1/me/passkey-challenges")]
pub async fn prepare(
    caller: Caller,
    body: StrictJson<FreshProof>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let options = passkeys::prepare(&app, &caller, proof(&caller, body.into_value())).await?;
    Ok(HttpResponse::Created().json(options))
}

/// Lists the caller's passkeys.
#[utoipa::path(tag = "passkeys", operation_id = "list_passkeys", security(("user" = [])),
    responses((status = 200, description = "The passkeys, the oldest first", body = Passkeys)))]
#[get("/v1/me/passkeys")]
pub async fn list(caller: Caller, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let items = passkeys::list(&app, &caller).await?;
    Ok(HttpResponse::Ok().json(Passkeys { items }))
}

/// Registers the passkey that was made.
///
/// A secret that the authenticator derived (`prf.results`) must not be sent along.
#[utoipa::path(tag = "passkeys", operation_id = "register_passkey", request_body = NewPasskey,
    security(("user" = [])),
    responses(
        (status = 201, description = "Registered", body = PasskeyView),
        (status = 409, description = "The challenge is not good, the passkey is registered, the account has ten already, \
            or passkeys are not set up"),
        (status = 422, description = "Not made as it was asked for, and why"),
        (status = 429, description = "Twenty within a day"),
    ))]
#[post("/v1/me/passkeys")]
pub async fn register(
    caller: Caller,
    body: StrictJson<NewPasskey>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Created().json(passkeys::register(&app, &caller, body.into_value()).await?))
}

/// Removes a passkey, after the password. The sessions that it opened end.
#[utoipa::path(tag = "passkeys", operation_id = "remove_passkey", params(("id" = PasskeyId, Path)),
    request_body = FreshProof, security(("user" = [])),
    responses(
        (status = 200, description = "Ended everywhere", body = Denial),
        (status = 202, description = "Ended here; access-policy is still being told", body = Denial),
        (status = 404, description = "The caller has no such passkey"),
        PasswordProblems,
    ))]
#[delete("/v1/me/passkeys/{id}")]
pub async fn remove(
    caller: Caller,
    id: web::Path<PasskeyId>,
    body: StrictJson<FreshProof>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let proof = proof(&caller, body.into_value());
    Ok(denial(&passkeys::remove(&app, &caller, &id, proof).await?))
}

/// Prepares a login with a passkey.
///
/// The answer goes unchanged into `PublicKeyCredential.parseRequestOptionsFromJSON`. It names nobody: the authenticator says
/// whose passkeys it has. Its challenge is good for five minutes and once.
#[utoipa::path(tag = "passkeys", operation_id = "prepare_passkey_log_in", security(()),
    responses(
        (status = 201, description = "How to sign in", body = PasskeyRequest),
        (status = 409, description = "Passkeys are not set up"),
        (status = 429, description = "Too many from this address"),
    ))]
#[post("/v1/passkey-challenges")]
pub async fn prepare_log_in(
    _anybody: Public,
    request: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    app.challenges.check(&address(&request))?;
    Ok(HttpResponse::Created().json(passkeys::prepare_log_in(&app).await?))
}

/// Logs in with a passkey.
///
/// It counts as two factors. Unknown passkeys and wrong signatures get one answer, and slow down whoever comes from the same
/// address.
#[utoipa::path(tag = "passkeys", operation_id = "log_in_with_passkey", request_body = PasskeyLogin, security(()),
    responses(
        (status = 201, description = "Logged in", body = Tokens),
        (status = 401, description = "No passkey that is registered here, or it did not sign this challenge"),
        (status = 403),
        (status = 409, description = "The challenge is not good, or passkeys are not set up"),
        (status = 422, description = "A secret of the page's was sent along"),
        (status = 429, description = "Too many failures"),
    ))]
#[post("/v1/sessions/passkey")]
pub async fn log_in(
    _anybody: Public,
    request: HttpRequest,
    body: StrictJson<PasskeyLogin>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let client = request.headers().get(USER_AGENT).and_then(|said| said.to_str().ok());
    let PasskeyLogin { credential } = body.into_value();
    let tokens = passkeys::log_in(&app, &credential, &address(&request), client).await?;
    Ok(HttpResponse::Created().json(tokens))
}

/// Prepares that the caller shows a passkey again.
///
/// The answer goes unchanged into `PublicKeyCredential.parseRequestOptionsFromJSON`. It names the caller's passkeys; its challenge is
/// good for five minutes, once, and in this session.
#[utoipa::path(tag = "passkeys", operation_id = "prepare_passkey_step_up", security(("user" = [])),
    responses(
        (status = 201, description = "How to show it", body = PasskeyRequest),
        (status = 409, description = "The caller has no passkey, or passkeys are not set up"),
        (status = 429, description = "Too many in this session"),
    ))]
#[post("/v1/sessions/current/passkey-challenges")]
pub async fn prepare_step_up(caller: Caller, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    app.challenges.check(&caller.session.to_string())?;
    Ok(HttpResponse::Created().json(passkeys::prepare_step_up(&app, &caller).await?))
}

/// Shows a passkey again, in the same session.
///
/// Some operations answer `401` `step_up` to an account with a second factor, unless it was shown within the last ten minutes: they
/// take the token that this answers.
#[utoipa::path(tag = "passkeys", operation_id = "step_up_with_passkey", request_body = PasskeyLogin,
    security(("user" = [])),
    responses(
        (status = 200, description = "A token that says so", body = SteppedUp),
        (status = 401, description = "No valid token, or no passkey of the caller's that signed this challenge"),
        (status = 409, description = "The challenge is not good, or passkeys are not set up"),
        (status = 422, description = "A secret of the page's was sent along"),
    ))]
#[post("/v1/sessions/current/step-up/passkey")]
pub async fn step_up(
    caller: Caller,
    body: StrictJson<PasskeyLogin>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(passkeys::step_up(&app, &caller, &body.value.credential).await?))
}
