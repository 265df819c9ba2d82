//! Agencies as others see them, and what operators do about them.

use actix_web::{HttpResponse, get, post, web};
use hbc_service::openapi::PasswordProblems;
use hbc_service::{Caller, Operator, Problem, StrictJson, paging};
use hbc_types::account::Standing;
use hbc_types::ids::AgencyId;
use hbc_types::wire::Page;
use hbc_types::wire::auth::{AgencyView, Decision, Denial, SigningPassword};
use serde::Deserialize;

use super::{account, denial, in_session};
use crate::app::App;
use crate::flows::agencies::{self, Viewer};
use crate::flows::staff;
use crate::flows::staff_votes::Deciding;
use crate::store::accounts::Account;

/// Which agencies are asked for.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AgencyQuery {
    /// Part of the name.
    #[serde(default)]
    query: Option<String>,
    /// Operators only: how they stand. Others see the active ones.
    #[serde(default)]
    standing: Option<Standing>,
    /// Operators only: `true` for those with a staff key that waits for approval.
    #[serde(default)]
    new_key: Option<bool>,
    /// Items on the page: 1 to 200, 50 unless given.
    #[serde(default)]
    limit: Option<u32>,
    /// `next` of the page before.
    #[serde(default)]
    cursor: Option<String>,
}

fn viewer(caller: &Caller) -> Viewer {
    Viewer { account: caller.account.clone(), role: caller.role }
}

/// Lists agencies.
#[utoipa::path(tag = "agencies", operation_id = "list_agencies", params(AgencyQuery), security(("user" = [])),
    responses((status = 200, description = "A page of agencies", body = Page<AgencyView>)))]
#[get("/v1/agencies")]
pub async fn list(
    caller: Caller,
    query: web::Query<AgencyQuery>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    account(&app, &caller).await?;
    let query = query.into_inner();
    let page = paging::PageQuery { limit: query.limit, cursor: query.cursor };
    let limit = page.limit()?;
    let after: String = page.after()?.unwrap_or_default();
    let name = query.query.unwrap_or_default();
    let wanted = (name.as_str(), query.new_key.unwrap_or_default());
    let (items, next) = agencies::list(&app, &viewer(&caller), query.standing, wanted, &after, limit).await?;
    let next = next.and_then(|last| paging::cursor(&last));
    Ok(HttpResponse::Ok().json(Page { items, next }))
}

/// Shows an agency: its public part, and everything to operators and itself.
#[utoipa::path(tag = "agencies", operation_id = "show_agency", params(("id" = AgencyId, Path)),
    security(("user" = [])),
    responses(
        (status = 200, description = "The agency", body = AgencyView),
        (status = 404, description = "Unknown, or not approved yet"),
    ))]
#[get("/v1/agencies/{id}")]
pub async fn show(
    caller: Caller,
    id: web::Path<AgencyId>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    account(&app, &caller).await?;
    Ok(HttpResponse::Ok().json(agencies::view_for(&app, &id, &viewer(&caller)).await?))
}

/// Approves an agency: the operator signs its staff profile for the ledger, after the password.
///
/// The agency becomes active when the ledger has auth's signature and those of as many operators as the genesis says.
#[utoipa::path(tag = "agencies", operation_id = "approve_agency", params(("id" = AgencyId, Path)),
    request_body = SigningPassword, security(("user" = [])),
    responses(
        (status = 200, description = "Signed", body = AgencyView),
        (status = 409, description = "Approved already, suspended, or a change is not final yet"),
        PasswordProblems,
    ))]
#[post("/v1/agencies/{id}/approvals")]
pub async fn approve(
    operator: Operator,
    id: web::Path<AgencyId>,
    body: StrictJson<SigningPassword>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let own = account(&app, &operator.caller).await?;
    let view = staff::approve(&app, deciding(&operator, &own, &id), body.into_value()).await?;
    Ok(HttpResponse::Ok().json(view))
}

fn deciding<'a>(operator: &'a Operator, own: &'a Account, agency: &'a AgencyId) -> Deciding<'a> {
    Deciding { operator: (&operator.id, own), agency, origin: in_session(&operator.caller) }
}

/// Rejects an agency that waits for approval, with the reason. It may be approved later all the same.
#[utoipa::path(tag = "agencies", operation_id = "reject_agency", params(("id" = AgencyId, Path)),
    request_body = Decision, security(("user" = [])),
    responses(
        (status = 200, description = "The agency is told why", body = AgencyView),
        (status = 409, description = "It does not wait for approval"),
        PasswordProblems,
    ))]
#[post("/v1/agencies/{id}/rejections")]
pub async fn reject(
    operator: Operator,
    id: web::Path<AgencyId>,
    body: StrictJson<Decision>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let own = account(&app, &operator.caller).await?;
    let view = staff::reject(&app, deciding(&operator, &own, &id), body.into_value()).await?;
    Ok(HttpResponse::Ok().json(view))
}

/// Reinstates an agency that was suspended: operators sign again as for an approval, and say why.
#[utoipa::path(tag = "agencies", operation_id = "reinstate_agency", params(("id" = AgencyId, Path)),
    request_body = Decision, security(("user" = [])),
    responses(
        (status = 200, description = "Signed", body = AgencyView),
        (status = 409, description = "Not suspended, or a change is not final yet"),
        PasswordProblems,
    ))]
#[post("/v1/agencies/{id}/reinstatements")]
pub async fn reinstate(
    operator: Operator,
    id: web::Path<AgencyId>,
    body: StrictJson<Decision>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let own = account(&app, &operator.caller).await?;
    let view = staff::reinstate(&app, deciding(&operator, &own, &id), body.into_value()).await?;
    Ok(HttpResponse::Ok().json(view))
}

/// Suspends an agency, with the reason: its sessions end and access-policy denies it from its durable acceptance on.
#[utoipa::path(tag = "agencies", operation_id = "suspend_agency", params(("id" = AgencyId, Path)),
    request_body = Decision, security(("user" = [])),
    responses(
        (status = 200, description = "Suspended everywhere", body = Denial),
        (status = 202, description = "Suspended here; access-policy is still being told", body = Denial),
        (status = 409, description = "Not approved"),
        PasswordProblems,
    ))]
#[post("/v1/agencies/{id}/suspensions")]
pub async fn suspend(
    operator: Operator,
    id: web::Path<AgencyId>,
    body: StrictJson<Decision>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let own = account(&app, &operator.caller).await?;
    Ok(denial(&staff::suspend(&app, deciding(&operator, &own, &id), body.into_value()).await?))
}

/// Ends an agency for good, with the reason: like a suspension, but nobody reinstates it.
#[utoipa::path(tag = "agencies", operation_id = "revoke_agency", params(("id" = AgencyId, Path)),
    request_body = Decision, security(("user" = [])),
    responses(
        (status = 200, description = "Ended everywhere", body = Denial),
        (status = 202, description = "Ended here; access-policy is still being told", body = Denial),
        (status = 409, description = "Never approved, or a change is not final yet"),
        PasswordProblems,
    ))]
#[post("/v1/agencies/{id}/revocations")]
pub async fn revoke(
    operator: Operator,
    id: web::Path<AgencyId>,
    body: StrictJson<Decision>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let own = account(&app, &operator.caller).await?;
    Ok(denial(&staff::revoke(&app, deciding(&operator, &own, &id), body.into_value()).await?))
}
