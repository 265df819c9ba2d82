//! Which pages of other origins may call what (Fetch, "CORS protocol").

use actix_cors::Cors;
use actix_web::http::Method;
use actix_web::http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    LAST_MODIFIED, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};

/// Seconds for which a browser remembers the answer.
const REMEMBERED: usize = 3_600;

/// Lets pages of any origin call what lies below `prefixes`, with the headers of FHIR and OAuth. Cookies are none of them.
pub fn below(prefixes: &'static [&'static str]) -> Cors {
    let own = |name| HeaderName::from_static(name);
    let sent = [ACCEPT, AUTHORIZATION, CONTENT_TYPE, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH]
        .into_iter()
        .chain(["hbc-patient", "hbc-purpose", "idempotency-key", "if-none-exist", "prefer"].map(own));
    let read = [ETAG, LAST_MODIFIED, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE, own("x-request-id")];
    Cors::default()
        .allowed_origin_fn(move |_any, head| {
            prefixes.iter().any(|prefix| head.uri.path().starts_with(prefix))
        })
        // What may not be called is answered all the same, without the headers that would let the page read it.
        .block_on_origin_mismatch(false)
        .allowed_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        .allowed_headers(sent)
        .expose_headers(read)
        .max_age(REMEMBERED)
}
