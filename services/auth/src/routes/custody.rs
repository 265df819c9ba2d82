//! Who holds the caller's root key.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, get, put, web};
use hbc_service::openapi::PasswordProblems;
use hbc_service::{Patient, Problem, StrictJson};
use hbc_types::ids::PasskeyId;
use hbc_types::wire::custody::{CustodyChanged, NewCustody, NewRootWrap, RootWraps};

use crate::app::App;
use crate::flows::custody;

/// Changes who holds the caller's root key, or the keys themselves, after the password.
///
/// With another root key every consent of before ends, the recovery codes are new, and all other sessions end. It is signed by the
/// key of before or by the recovery key; the server does so where it holds that key.
#[utoipa::path(tag = "custody", operation_id = "set_custody", request_body = NewCustody, security(("user" = [])),
    responses(
        (status = 200, description = "In force everywhere", body = CustodyChanged),
        (status = 202, description = "In force here; access-policy is still being told", body = CustodyChanged),
        (status = 400, description = "The certificate is for another chain, or its time is not acceptable"),
        (status = 409, description = "It was changed meanwhile, an earlier change is still being told, or the keys would go \
            back to the server"),
        (status = 422, description = "Something is missing or does not hold, and what"),
        PasswordProblems,
    ))]
#[put("/v1/me/custody")]
pub async fn set(
    patient: Patient,
    body: StrictJson<NewCustody>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let changed = custody::change(&app, &patient.caller, &patient.id, body.into_value()).await?;
    let status = if changed.effective { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(HttpResponse::build(status).json(changed))
}

/// Shows with what the caller's own client gets at its root key.
#[utoipa::path(tag = "custody", operation_id = "list_root_wraps", security(("user" = [])),
    responses((status = 200, description = "The wraps, the oldest first", body = RootWraps)))]
#[get("/v1/me/root-wraps")]
pub async fn wraps(patient: Patient, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(custody::wraps(&app, &patient.caller, &patient.id).await?))
}

/// Lets one more of the caller's passkeys open the root key, after the password.
#[utoipa::path(tag = "custody", operation_id = "put_root_wrap", params(("id" = PasskeyId, Path)),
    request_body = NewRootWrap, security(("user" = [])),
    responses(
        (status = 204, description = "It does"),
        (status = 404, description = "The caller has no such passkey"),
        (status = 409, description = "The root key is another one, or not held by passkeys"),
        (status = 422, description = "The passkey derives no secrets, or a length is wrong"),
        PasswordProblems,
    ))]
#[put("/v1/me/passkeys/{id}/root-wrap")]
pub async fn put_wrap(
    patient: Patient,
    id: web::Path<PasskeyId>,
    body: StrictJson<NewRootWrap>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    custody::add_wrap(&app, &patient.caller, (&patient.id, &id), body.into_value()).await?;
    Ok(HttpResponse::NoContent().finish())
}
