//! Login, refresh, logout.

use actix_web::http::header::USER_AGENT;
use actix_web::{HttpRequest, HttpResponse, delete, get, post, web};
use hbc_service::openapi::PasswordProblems;
use hbc_service::{Caller, Problem, Public, StrictJson};
use hbc_types::ids::SessionId;
use hbc_types::wire::auth::{Denial, FreshProof, Login, Refresh, Sessions, SteppedUp, Tokens};

use super::{account, address, denial, in_session};
use crate::app::App;
use crate::flows::login::{Origin, Proof};
use crate::flows::{refresh as refreshing, sessions};

/// Logs in.
///
/// Unknown users and wrong passwords get one answer. Failures slow the next attempt down: 1, 3, 5, then 10 seconds; after
/// ten of them the account is closed to the address for 15 minutes.
#[utoipa::path(tag = "sessions", operation_id = "log_in", request_body = Login, security(()),
    responses((status = 201, description = "Logged in", body = Tokens), (status = 403), PasswordProblems))]
#[post("/v1/sessions")]
pub async fn log_in(
    _anybody: Public,
    request: HttpRequest,
    body: StrictJson<Login>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let login = body.into_value();
    let origin = Origin::Address(address(&request));
    let proof = Proof { password: login.password, totp: login.totp, origin };
    let client = request.headers().get(USER_AGENT).and_then(|said| said.to_str().ok());
    Ok(HttpResponse::Created().json(sessions::log_in(&app, &login.username, proof, client).await?))
}

/// Gives new tokens for the latest refresh token.
///
/// Each refresh token is good once; for ten seconds more it gets the same answer, in case that was lost. Any later use ends
/// the whole session.
#[utoipa::path(tag = "sessions", operation_id = "refresh_session", request_body = Refresh, security(()),
    responses(
        (status = 200, description = "New tokens", body = Tokens),
        (status = 401, description = "The token is unknown, expired, or was used before"),
        (status = 403),
    ))]
#[post("/v1/sessions/refresh")]
pub async fn refresh(
    _anybody: Public,
    body: StrictJson<Refresh>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(refreshing::refresh(&app, &body.value.refresh_token).await?))
}

/// Logs out: ends the session of the token.
#[utoipa::path(tag = "sessions", operation_id = "log_out", security(("user" = [])),
    responses(
        (status = 200, description = "Ended everywhere", body = Denial),
        (status = 202, description = "Ended here; access-policy is still being told", body = Denial),
    ))]
#[delete("/v1/sessions/current")]
pub async fn log_out(caller: Caller, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    Ok(denial(&sessions::log_out(&app, &caller).await?))
}

/// Shows password and second factor again, in the same session.
///
/// Some operations answer `401` `step_up` to an account with a second factor, unless its code was shown within the last ten
/// minutes: they take the token that this answers.
#[utoipa::path(tag = "sessions", operation_id = "step_up", request_body = FreshProof, security(("user" = [])),
    responses((status = 200, description = "A token that says so", body = SteppedUp), PasswordProblems))]
#[post("/v1/sessions/current/step-up")]
pub async fn step_up(
    caller: Caller,
    body: StrictJson<FreshProof>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let FreshProof { password, totp } = body.into_value();
    let proof = Proof { password, totp, origin: in_session(&caller) };
    let account = account(&app, &caller).await?;
    Ok(HttpResponse::Ok().json(sessions::step_up(&app, &caller, &account, proof).await?))
}

/// Lists the caller's sessions.
#[utoipa::path(tag = "sessions", operation_id = "list_sessions", security(("user" = [])),
    responses((status = 200, description = "Those that can be used, the last used first", body = Sessions)))]
#[get("/v1/me/sessions")]
pub async fn list(caller: Caller, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let items = sessions::list(&app, &caller).await?;
    Ok(HttpResponse::Ok().json(Sessions { items }))
}

/// Ends one of the caller's sessions.
#[utoipa::path(tag = "sessions", operation_id = "end_session", params(("id" = SessionId, Path)),
    security(("user" = [])),
    responses(
        (status = 200, description = "Ended everywhere", body = Denial),
        (status = 202, description = "Ended here; access-policy is still being told", body = Denial),
        (status = 404, description = "The caller has no such session"),
    ))]
#[delete("/v1/me/sessions/{id}")]
pub async fn end(
    caller: Caller,
    id: web::Path<SessionId>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    Ok(denial(&sessions::end_one(&app, &caller, &id).await?))
}

/// Ends all of the caller's sessions but the present one.
#[utoipa::path(tag = "sessions", operation_id = "end_other_sessions", security(("user" = [])),
    responses(
        (status = 200, description = "Ended everywhere", body = Denial),
        (status = 202, description = "Ended here; access-policy is still being told", body = Denial),
    ))]
#[delete("/v1/me/sessions")]
pub async fn end_others(caller: Caller, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    Ok(denial(&sessions::end_others(&app, &caller).await?))
}
