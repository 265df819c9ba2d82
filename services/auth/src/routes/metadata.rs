//! What everybody may know of auth: its keys and its addresses.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, get, web};
use hbc_service::Public;
use hbc_types::wire::oauth::AuthorizationServer;
use hbc_types::wire::token::Jwks;

use crate::app::App;

/// The keys that sign access tokens.
#[utoipa::path(tag = "metadata", operation_id = "show_jwks", security(()),
    responses((status = 200, description = "The key set", body = Jwks)))]
#[get("/.well-known/jwks.json")]
pub async fn jwks(_anybody: Public, app: web::Data<App>) -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "public, max-age=300")).json(app.issuer.jwks())
}

/// Authorization server metadata (RFC 8414).
#[utoipa::path(tag = "metadata", operation_id = "show_authorization_server", security(()),
    responses((status = 200, description = "The metadata", body = AuthorizationServer)))]
#[get("/.well-known/oauth-authorization-server")]
pub async fn authorization_server(_anybody: Public, app: web::Data<App>) -> HttpResponse {
    public(&app.metadata)
}

/// SMART App Launch configuration: the same, where SMART's clients look for it.
#[utoipa::path(tag = "metadata", operation_id = "show_smart_configuration", security(()),
    responses((status = 200, description = "The metadata", body = AuthorizationServer)))]
#[get("/.well-known/smart-configuration")]
pub async fn smart_configuration(_anybody: Public, app: web::Data<App>) -> HttpResponse {
    public(&app.metadata)
}

fn public(metadata: &AuthorizationServer) -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "public, max-age=300")).json(metadata)
}
