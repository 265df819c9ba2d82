//! Which pages of other origins may call what (Fetch, "CORS protocol").

use actix_cors::Cors;
use actix_web::http::Method;
use actix_web::http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
};

/// Headers of answers that such a page may read. They are set at the edge: the library has no order for them, and equal answers
/// are equal to the byte.
pub const EXPOSED: &str = "etag, last-modified, location, retry-after, www-authenticate, x-request-id";

/// Seconds for which a browser remembers the answer.
const REMEMBERED: usize = 3_600;

/// Whether a path lies below one of these prefixes.
pub fn is_below(path: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| path.starts_with(prefix))
}

/// Lets pages of any origin call what lies below `prefixes`, with the headers of FHIR and OAuth. Cookies are none of them.
pub fn below(prefixes: &'static [&'static str]) -> Cors {
    let own = ["hbc-patient", "hbc-purpose", "idempotency-key", "if-none-exist", "prefer"];
    let sent = [ACCEPT, AUTHORIZATION, CONTENT_TYPE, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH]
        .into_iter()
        .chain(own.map(HeaderName::from_static));
    Cors::default()
        .allowed_origin_fn(move |_any, head| is_below(head.uri.path(), prefixes))
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
        .max_age(REMEMBERED)
}
