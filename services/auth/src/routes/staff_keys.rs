//! An agency's staff key is replaced: it asks, operators approve.

use actix_web::{HttpResponse, delete, post, web};
use hbc_service::openapi::PasswordProblems;
use hbc_service::{Agency, Operator, Problem, StrictJson};
use hbc_types::ids::AgencyId;
use hbc_types::wire::auth::{AgencyView, FreshProof, KeyApproval, StaffKeyAsked};

use super::{account, in_session};
use crate::app::App;
use crate::flows::login::Proof;
use crate::flows::staff_keys;
use crate::flows::staff_votes::Deciding;

fn proof(agency: &Agency, body: FreshProof) -> Proof {
    Proof { password: body.password, totp: body.totp, origin: in_session(&agency.caller) }
}

/// Makes another staff key for the caller's agency, after the password. It waits for operators; until it is on the ledger the
/// present one acts.
///
/// The answer has fresh recovery codes; the earlier ones are void.
#[utoipa::path(tag = "agencies", operation_id = "ask_staff_key", request_body = FreshProof, security(("user" = [])),
    responses(
        (status = 201, description = "The key waits; the codes are shown in this answer only", body = StaffKeyAsked),
        (status = 409, description = "Not approved, another key waits already, or something changed meanwhile"),
        PasswordProblems,
    ))]
#[post("/v1/me/staff-keys")]
pub async fn ask(
    agency: Agency,
    body: StrictJson<FreshProof>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let own = account(&app, &agency.caller).await?;
    let asked = staff_keys::ask(&app, &agency.id, &own, proof(&agency, body.into_value())).await?;
    Ok(HttpResponse::Created().json(asked))
}

/// Withdraws the staff key that waits for operators, after the password.
#[utoipa::path(tag = "agencies", operation_id = "withdraw_staff_key", request_body = FreshProof,
    security(("user" = [])),
    responses(
        (status = 200, description = "Withdrawn", body = AgencyView),
        (status = 404, description = "No key waits"),
        (status = 409, description = "Enough operators have signed for it"),
        PasswordProblems,
    ))]
#[delete("/v1/me/staff-keys")]
pub async fn withdraw(
    agency: Agency,
    body: StrictJson<FreshProof>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let own = account(&app, &agency.caller).await?;
    let view = staff_keys::withdraw(&app, &agency.id, &own, proof(&agency, body.into_value())).await?;
    Ok(HttpResponse::Ok().json(view))
}

/// Approves the staff key that an agency asked for: the operator signs its profile under that key for the ledger, and the end
/// of the key before, after the password.
///
/// With auth's signature and those of as many operators as the genesis says the key takes the place of the one before, which
/// is ended then, for ever.
#[utoipa::path(tag = "agencies", operation_id = "approve_staff_key", params(("id" = AgencyId, Path)),
    request_body = KeyApproval, security(("user" = [])),
    responses(
        (status = 200, description = "Signed", body = AgencyView),
        (status = 404, description = "The agency asked for no such key"),
        (status = 409, description = "The key does not wait, or the agency is not in good standing"),
        PasswordProblems,
    ))]
#[post("/v1/agencies/{id}/key-approvals")]
pub async fn approve(
    operator: Operator,
    id: web::Path<AgencyId>,
    body: StrictJson<KeyApproval>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let own = account(&app, &operator.caller).await?;
    let origin = in_session(&operator.caller);
    let deciding = Deciding { operator: (&operator.id, &own), agency: &id, origin };
    Ok(HttpResponse::Ok().json(staff_keys::approve(&app, deciding, body.into_value()).await?))
}
