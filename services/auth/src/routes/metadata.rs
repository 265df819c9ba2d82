//! What everybody may know of auth: its keys and its addresses.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, get, web};
use hbc_service::Public;
use hbc_types::wire::auth::AuthorizationServer;
use hbc_types::wire::token::Jwks;

use super::oauth;
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
    let issuer = app.issuer.issuer().trim_end_matches('/').to_owned();
    let metadata = AuthorizationServer {
        jwks_uri: format!("{issuer}/.well-known/jwks.json"),
        token_endpoint: format!("{issuer}/oauth/token"),
        revocation_endpoint: format!("{issuer}/oauth/revoke"),
        response_types_supported: Vec::new(),
        grant_types_supported: vec![oauth::REFRESH.to_owned()],
        token_endpoint_auth_methods_supported: vec!["none".to_owned()],
        revocation_endpoint_auth_methods_supported: vec!["none".to_owned()],
        service_documentation: format!("{issuer}/openapi.json"),
        issuer,
    };
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "public, max-age=300")).json(metadata)
}
