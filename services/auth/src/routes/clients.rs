//! The programs of an agency.

use actix_web::{HttpResponse, delete, get, post, put, web};
use hbc_service::openapi::PasswordProblems;
use hbc_service::{Agency, Problem, StrictJson};
use hbc_types::ids::ClientId;
use hbc_types::wire::auth::Denial;
use hbc_types::wire::oauth::{ClientView, Clients, NewClient, NewClientKeys};

use super::denial;
use crate::app::App;
use crate::flows::clients;

/// Lists the agency's programs.
#[utoipa::path(tag = "clients", operation_id = "list_clients", security(("user" = [])),
    responses((status = 200, description = "The programs, the oldest first", body = Clients)))]
#[get("/v1/me/clients")]
pub async fn list(agency: Agency, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let items = clients::list(&app, &agency.caller, &agency.id).await?;
    Ok(HttpResponse::Ok().json(Clients { items }))
}

/// Registers a program of the agency with its public keys, after the password.
///
/// It gets tokens at the token endpoint by `client_credentials` and reads with them what the agency may read, within its scope.
#[utoipa::path(tag = "clients", operation_id = "register_client", request_body = NewClient, security(("user" = [])),
    responses(
        (status = 201, description = "Registered", body = ClientView),
        (status = 409, description = "The agency has ten already"),
        PasswordProblems,
    ))]
#[post("/v1/me/clients")]
pub async fn register(
    agency: Agency,
    body: StrictJson<NewClient>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let client = clients::register(&app, &agency.caller, &agency.id, body.into_value()).await?;
    Ok(HttpResponse::Created().json(client))
}

/// Replaces the keys of a program, after the password. The tokens it has end.
#[utoipa::path(tag = "clients", operation_id = "set_client_keys", params(("id" = ClientId, Path)),
    request_body = NewClientKeys, security(("user" = [])),
    responses(
        (status = 200, description = "From now on these count", body = ClientView),
        (status = 404, description = "The agency has no such program"),
        PasswordProblems,
    ))]
#[put("/v1/me/clients/{id}/jwks")]
pub async fn set_keys(
    agency: Agency,
    id: web::Path<ClientId>,
    body: StrictJson<NewClientKeys>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let changed = clients::set_keys(&app, &agency.caller, (&agency.id, &id), body.into_value()).await?;
    Ok(HttpResponse::Ok().json(changed))
}

/// Removes a program. Its tokens are good no more.
#[utoipa::path(tag = "clients", operation_id = "remove_client", params(("id" = ClientId, Path)),
    security(("user" = [])),
    responses(
        (status = 200, description = "Ended everywhere", body = Denial),
        (status = 202, description = "Ended here; access-policy is still being told", body = Denial),
        (status = 404, description = "The agency has no such program"),
    ))]
#[delete("/v1/me/clients/{id}")]
pub async fn remove(
    agency: Agency,
    id: web::Path<ClientId>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    Ok(denial(&clients::remove(&app, &agency.caller, (&agency.id, &id)).await?))
}
