//! Members of an organisation.

use actix_web::{HttpResponse, delete, get, put, web};
use hbc_service::openapi::PasswordProblems;
use hbc_service::{Agency, Problem, StrictJson, paging};
use hbc_types::ids::AgencyId;
use hbc_types::wire::Page;
use hbc_types::wire::auth::{MemberView, NewMember, SigningPassword};

use super::{account, in_session};
use crate::app::App;
use crate::error::Error;
use crate::flows::members;

/// Lists who asked to belong to the caller's organisation, and who does.
#[utoipa::path(tag = "agencies", operation_id = "list_members", params(paging::PageQuery), security(("user" = [])),
    responses((status = 200, description = "A page of members", body = Page<MemberView>)))]
#[get("/v1/me/members")]
pub async fn list(
    agency: Agency,
    query: web::Query<paging::PageQuery>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    account(&app, &agency.caller).await?;
    let (limit, after) = (query.limit()?, query.after::<String>()?.unwrap_or_default());
    let (items, next) = members::list(&app, &agency.id, &after, limit).await?;
    let next = next.and_then(|last| paging::cursor(&last));
    Ok(HttpResponse::Ok().json(Page { items, next }))
}

/// Takes somebody who asked into the caller's organisation, after the password.
///
/// They act for it once the ledger has the organisation's signature.
#[utoipa::path(tag = "agencies", operation_id = "take_in_member", params(("id" = AgencyId, Path)),
    request_body = NewMember, security(("user" = [])),
    responses(
        (status = 200, description = "Signed", body = MemberView),
        (status = 404, description = "Nobody with this id asked to belong to the organisation"),
        (status = 409, description = "One of the two is not approved, or a change is not final yet"),
        PasswordProblems,
    ))]
#[put("/v1/me/members/{id}")]
pub async fn take_in(
    agency: Agency,
    id: web::Path<AgencyId>,
    body: StrictJson<NewMember>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    account(&app, &agency.caller).await?;
    let origin = in_session(&agency.caller);
    Ok(HttpResponse::Ok().json(members::take_in(&app, &agency.id, &id, body.into_value(), origin).await?))
}

/// Ends that somebody acts for the caller's organisation, after the password.
#[utoipa::path(tag = "agencies", operation_id = "dismiss_member", params(("id" = AgencyId, Path)),
    request_body = SigningPassword, security(("user" = [])),
    responses(
        (status = 200, description = "Signed", body = MemberView),
        (status = 404, description = "Nobody with this id asked to belong to the organisation"),
        (status = 409, description = "They were never taken in, or a change is not final yet"),
        PasswordProblems,
    ))]
#[delete("/v1/me/members/{id}")]
pub async fn dismiss(
    agency: Agency,
    id: web::Path<AgencyId>,
    body: StrictJson<SigningPassword>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    account(&app, &agency.caller).await?;
    let (origin, both) = (in_session(&agency.caller), (&agency.id, &*id));
    Ok(HttpResponse::Ok().json(members::end(&app, &agency.id, both, body.into_value(), origin).await?))
}

/// Ends that the caller acts for their organisation, after the password.
#[utoipa::path(tag = "agencies", operation_id = "leave_organisation", request_body = SigningPassword,
    security(("user" = [])),
    responses(
        (status = 200, description = "Signed", body = MemberView),
        (status = 404, description = "The caller belongs to no organisation"),
        (status = 409, description = "They were never taken in, or a change is not final yet"),
        PasswordProblems,
    ))]
#[delete("/v1/me/organisation")]
pub async fn leave(
    agency: Agency,
    body: StrictJson<SigningPassword>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let own = account(&app, &agency.caller).await?;
    let organisation = own.organisation.ok_or(Error::NotFound)?;
    let (origin, both) = (in_session(&agency.caller), (&organisation, &agency.id));
    Ok(HttpResponse::Ok().json(members::end(&app, &agency.id, both, body.into_value(), origin).await?))
}
