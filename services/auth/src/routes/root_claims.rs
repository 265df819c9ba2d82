//! Claims to other root keys: a patient's own, and what operators do about them.

use actix_web::{HttpResponse, delete, get, post, put, web};
use hbc_service::openapi::PasswordProblems;
use hbc_service::{Operator, Patient, Problem, StrictJson};
use hbc_types::ids::PatientId;
use hbc_types::wire::auth::{Denial, SigningPassword};
use hbc_types::wire::custody::{NewRootClaim, RootClaim, RootClaims};

use super::{account, denial, in_session};
use crate::app::App;
use crate::flows::apps::Operating;
use crate::flows::root_claims;

/// Claims another root key, for whoever lost both keys of their own, after the password.
///
/// After three days, and once operators ordered it, `PUT /v1/me/custody` takes these keys without a certificate. Until then whoever is
/// signed in can withdraw the claim, and whoever has a key of before can name others.
#[utoipa::path(tag = "custody", operation_id = "claim_root", request_body = NewRootClaim, security(("user" = [])),
    responses(
        (status = 200, description = "Claimed, and since when", body = RootClaim),
        (status = 409, description = "The server holds the root key, or another account claims this one"),
        (status = 422, description = "Something does not hold, and what"),
        PasswordProblems,
    ))]
#[put("/v1/me/root-claim")]
pub async fn claim(
    patient: Patient,
    body: StrictJson<NewRootClaim>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let claim = root_claims::claim(&app, &patient.caller, &patient.id, body.into_value()).await?;
    Ok(HttpResponse::Ok().json(claim))
}

/// Shows the caller's claim.
#[utoipa::path(tag = "custody", operation_id = "show_root_claim", security(("user" = [])),
    responses((status = 200, description = "The claim", body = RootClaim), (status = 404)))]
#[get("/v1/me/root-claim")]
pub async fn show(patient: Patient, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(root_claims::show(&app, &patient.caller, &patient.id).await?))
}

/// Withdraws the caller's claim.
#[utoipa::path(tag = "custody", operation_id = "withdraw_root_claim", security(("user" = [])),
    responses(
        (status = 200, description = "Gone everywhere", body = Denial),
        (status = 202, description = "Gone here; access-policy is still being told", body = Denial),
    ))]
#[delete("/v1/me/root-claim")]
pub async fn withdraw(patient: Patient, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    Ok(denial(&root_claims::withdraw(&app, &patient.caller, &patient.id).await?))
}

/// Lists the claims.
#[utoipa::path(tag = "custody", operation_id = "list_root_claims", security(("user" = [])),
    responses((status = 200, description = "The claims, the oldest first", body = RootClaims)))]
#[get("/v1/root-claims")]
pub async fn list(operator: Operator, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    account(&app, &operator.caller).await?;
    Ok(HttpResponse::Ok().json(RootClaims { items: root_claims::list(&app).await? }))
}

/// Orders that a claimed root key may count, under the operator's own key. Signing twice changes nothing.
#[utoipa::path(tag = "custody", operation_id = "approve_root_claim", params(("id" = PatientId, Path)),
    request_body = SigningPassword, security(("user" = [])),
    responses((status = 200, description = "Signed", body = RootClaim), (status = 404), PasswordProblems))]
#[post("/v1/root-claims/{id}/approvals")]
pub async fn approve(
    operator: Operator,
    id: web::Path<PatientId>,
    body: StrictJson<SigningPassword>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let own = account(&app, &operator.caller).await?;
    let operating = Operating { operator: (&operator.id, &own), origin: in_session(&operator.caller) };
    Ok(HttpResponse::Ok().json(root_claims::approve(&app, operating, &id, body.into_value()).await?))
}
