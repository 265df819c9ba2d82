//! OAuth's own endpoints, for clients that know RFC 6749 and nothing of HBC: forms come in, its errors go out.
//!
//! Why: decision 0125.

use actix_web::http::StatusCode;
use actix_web::http::header::{PRAGMA, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, post, web};
use hbc_service::{Dialect, Problem, Public, StrictForm, TokenVerifier};
use hbc_types::problem::Slug;
use hbc_types::wire::oauth::{
    Introspection, IntrospectionRequest, OAuthError, TokenRequest, TokenResponse, TokenRevocation,
};

use crate::app::App;
use crate::flows::authorizations::{self, Exchange};
use crate::flows::clients::{self, ClientProof};
use crate::flows::{devices, refresh, sessions};

/// The grant type of sessions.
const REFRESH: &str = "refresh_token";
/// The grant type of clients.
const CLIENT: &str = "client_credentials";

/// The grant type of apps.
const CODE: &str = "authorization_code";

fn proof(form: &TokenRequest) -> ClientProof<'_> {
    ClientProof {
        kind: form.client_assertion_type.as_deref(),
        assertion: form.client_assertion.as_ref(),
        client_id: form.client_id.as_deref(),
    }
}

/// How requests to these endpoints are refused.
pub const fn dialect() -> Dialect {
    Dialect { prefix: "/oauth", media_type: "application/json", status, body: error }
}

fn status(problem: &Problem) -> StatusCode {
    let status = OAuthError::status_of(problem.slug().status());
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn error(problem: &Problem) -> String {
    let error = match (problem.slug(), problem.slug().status()) {
        (Slug::UnsupportedGrantType, _) => "unsupported_grant_type",
        (Slug::InvalidClient, _) => "invalid_client",
        (Slug::InvalidScope, _) => "invalid_scope",
        (_, 401 | 403) => "invalid_grant",
        (_, 400..429) => "invalid_request",
        (_, 429 | 503) => "temporarily_unavailable",
        _ => "server_error",
    };
    let document = problem.document(None);
    let fields = document.errors.into_iter().map(|fault| format!("{}: {}", fault.field, fault.message));
    let words: Vec<String> = [document.title].into_iter().chain(document.detail).chain(fields).collect();
    // The characters that the RFC leaves to it.
    let allowed = |c: char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
    let error_description = words.join(". ").chars().map(|c| if allowed(c) { c } else { '\'' }).collect();
    let error = OAuthError { error: error.to_owned(), error_description };
    serde_json::to_string(&error).unwrap_or_default()
}

/// The token endpoint (RFC 6749 §3.2): gives tokens to an app for a code, new tokens for the latest refresh token, and tokens to an
/// agency's program or a paired device that proves itself.
///
/// Each refresh token is good once; for ten seconds more it gets the same answer, in case that was lost. Any later use ends
/// the whole session. The token of a program or a device is good for five minutes and for `/fhir` alone.
#[utoipa::path(tag = "oauth", operation_id = "grant_token", security(()),
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "New tokens", body = TokenResponse),
        (status = 400, description = "Refused, and why: a token or an assertion that is unknown, expired, or was used before"),
        (status = 429, description = "Too many requests of one client"),
        (status = 503),
    ))]
#[post("/oauth/token")]
pub async fn grant(
    _anybody: Public,
    form: StrictForm<TokenRequest>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let form = form.into_value();
    let answer = match form.grant_type.as_str() {
        REFRESH => {
            let token = form.refresh_token.as_ref().ok_or_else(|| Problem::invalid(REFRESH, "is missing"))?;
            let presented = authorizations::maybe_present(&app, proof(&form)).await?;
            refresh::refresh_any(&app, token, presented, form.scope.as_deref()).await?
        }
        CODE => {
            let missing = |name: &str| Problem::invalid(name, "is missing");
            let with = Exchange {
                code: form.code.as_ref().ok_or_else(|| missing("code"))?,
                verifier: form.code_verifier.as_ref().ok_or_else(|| missing("code_verifier"))?,
                redirect_uri: form.redirect_uri.as_deref().ok_or_else(|| missing("redirect_uri"))?,
            };
            let presented = authorizations::present(&app, proof(&form)).await?;
            authorizations::exchange(&app, presented, with).await?
        }
        CLIENT => {
            let (proof, scope) = (proof(&form), form.scope.as_deref());
            match devices::shows_itself(&proof) {
                true => devices::grant(&app, proof, scope).await?,
                false => clients::grant(&app, proof, scope).await?,
            }
        }
        _ => return Err(Problem::new(Slug::UnsupportedGrantType)),
    };
    Ok(HttpResponse::Ok().insert_header((PRAGMA, "no-cache")).json(answer))
}

/// The introspection endpoint (RFC 7662): whether an access token is good now, for the client that it is of.
///
/// Of any other token, and of what is no token, the answer is `{"active": false}`.
#[utoipa::path(tag = "oauth", operation_id = "introspect_token", security(()),
    request_body(content = IntrospectionRequest, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "How the token stands", body = Introspection),
        (status = 400, description = "The request cannot be read"),
        (status = 401, description = "The client did not prove itself"),
        (status = 429, description = "Too many requests of one client"),
    ))]
#[post("/oauth/introspect")]
pub async fn introspect(
    _anybody: Public,
    form: StrictForm<IntrospectionRequest>,
    tokens: web::Data<TokenVerifier>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let form = form.into_value();
    let claims = tokens.verify_any(form.token.expose()).await.ok();
    let proof = ClientProof {
        kind: form.client_assertion_type.as_deref(),
        assertion: form.client_assertion.as_ref(),
        client_id: form.client_id.as_deref(),
    };
    let answer = if devices::shows_itself(&proof) {
        devices::introspect(&app, proof, claims).await
    } else if authorizations::shows_itself(&proof) {
        authorizations::introspect(&app, proof, claims).await
    } else {
        clients::introspect(&app, proof, claims).await
    };
    match answer.map_err(Problem::from) {
        Ok(answer) => Ok(HttpResponse::Ok().insert_header((PRAGMA, "no-cache")).json(answer)),
        // RFC 7662 §2.3; at the token endpoint it is a 400 (RFC 6749 §5.2).
        Err(problem) if problem.slug() == Slug::InvalidClient => Ok(HttpResponse::Unauthorized()
            .insert_header((WWW_AUTHENTICATE, "Bearer"))
            .content_type("application/json")
            .body(error(&problem))),
        Err(problem) => Err(problem),
    }
}

/// The revocation endpoint (RFC 7009): ends the session that an access or refresh token is of.
///
/// After it no service takes a token of that session. With what is no token the answer is the same, and an access token that
/// has expired is none any more: give back the refresh token.
#[utoipa::path(tag = "oauth", operation_id = "revoke_token", security(()),
    request_body(content = TokenRevocation, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "No token of that session is good any more"),
        (status = 400, description = "The request cannot be read"),
        (status = 503, description = "Ended at auth; access-policy is still being told: ask again"),
    ))]
#[post("/oauth/revoke")]
pub async fn revoke(
    _anybody: Public,
    form: StrictForm<TokenRevocation>,
    tokens: web::Data<TokenVerifier>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let TokenRevocation { token, token_type_hint: _seen_without } = form.into_value();
    let claims = tokens.verify_any(token.expose()).await.ok();
    if sessions::revoke(&app, &token, claims.map(|claims| (claims.sid, claims.sub))).await? {
        Ok(HttpResponse::Ok().insert_header((PRAGMA, "no-cache")).finish())
    } else {
        Err(Problem::new(Slug::Unavailable).detail("ended at auth, and not everywhere yet"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_told_in_oauths_words() {
        let told = |problem: Problem| {
            let error: OAuthError = serde_json::from_str(&error(&problem)).unwrap();
            (status(&problem).as_u16(), error.error, error.error_description)
        };
        let (status, code, words) = told(Problem::new(Slug::TokenReused));
        assert_eq!((status, code.as_str()), (400, "invalid_grant"));
        assert_eq!(words, "The refresh token was used before");
        let (status, code, words) = told(Problem::invalid("grant_type", "is \"m\u{fc}de\"\n"));
        assert_eq!((status, code.as_str()), (400, "invalid_request"));
        assert!(words.ends_with("grant_type: is 'm'de''"), "{words}");
        assert_eq!(told(Problem::new(Slug::UnsupportedGrantType)).1, "unsupported_grant_type");
        assert_eq!(told(Problem::new(Slug::MethodNotAllowed)).0, 405);
        let (status, code, _words) = told(Problem::new(Slug::InvalidClient));
        assert_eq!((status, code.as_str()), (400, "invalid_client"));
        assert_eq!(told(Problem::new(Slug::InvalidScope)).1, "invalid_scope");
        assert_eq!(told(Problem::new(Slug::TooManyRequests)).1, "temporarily_unavailable");
        assert_eq!(told(Problem::new(Slug::Internal)).1, "server_error");
    }
}
