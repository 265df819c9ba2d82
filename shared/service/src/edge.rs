//! What happens around every request: its id and trace, the service assertion, the answer's headers, problem
//! documents, one log line, metrics. A handler that panics is answered `internal`, and the process goes on.

use std::panic::AssertUnwindSafe;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode, Uri};
use actix_web::middleware::Next;
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse, ResponseError, web};
use futures_util::FutureExt;
use futures_util::future::{Ready, ready};
use hbc_client::context::{REQUEST_ID, RequestContext, TRACEPARENT};
use hbc_types::Random;
use hbc_types::problem::Slug;
use hbc_types::wire::token::SERVICE_HEADER;
use tracing::Instrument;

use crate::body::check_encoding;
use crate::service_assertion::VerifiedService;
use crate::{Problem, Readiness, ServiceVerifier, body};

/// The request's id, as a handler's argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub String);

impl FromRequest for RequestId {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;
    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(request.extensions().get::<Self>().cloned().ok_or_else(|| Problem::new(Slug::Internal)))
    }
}

/// What the edge needs to know of its server.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    pub(crate) service: &'static str,
    pub(crate) inflates: bool,
    pub(crate) random: Random,
    pub(crate) dialect: Option<Dialect>,
    pub(crate) open_reads: bool,
    pub(crate) cross_origin: &'static [&'static str],
    pub(crate) restful: Option<&'static str>,
}

/// Another form of problems for the paths under one prefix, such as FHIR's OperationOutcome or OAuth's errors.
#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    /// The paths: this one, and all below it.
    pub prefix: &'static str,
    /// The media type of the form.
    pub media_type: &'static str,
    /// The status of a problem in that form.
    pub status: fn(&Problem) -> StatusCode,
    /// A problem in that form.
    pub body: fn(&Problem) -> String,
}

impl Edge {
    /// The answer to a request for `path` that failed.
    fn respond(&self, problem: &Problem, path: &str, request_id: &str) -> HttpResponse {
        let answer = problem.respond(Some(request_id));
        let speaks = |dialect: &Dialect| {
            path.strip_prefix(dialect.prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let Some(dialect) = self.dialect.filter(speaks) else { return answer };
        let mut answer = answer.set_body(BoxBody::new((dialect.body)(problem)));
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(dialect.media_type));
        *answer.status_mut() = (dialect.status)(problem);
        if answer.status() != StatusCode::UNAUTHORIZED {
            answer.headers_mut().remove(header::WWW_AUTHENTICATE);
        }
        answer
    }
}

/// The middleware around everything.
pub(crate) async fn around<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let Some(edge) = request.app_data::<web::Data<Edge>>().cloned() else {
        return Err(Problem::new(Slug::Internal).into());
    };
    let context = context(request.headers(), &edge.random);
    let sent_method = request.method().clone();
    if let Some(prefix) = edge.restful {
        make_restful(&mut request, prefix);
    }
    request.extensions_mut().insert(RequestId(context.request_id.clone()));
    let route = request.match_pattern().unwrap_or_else(|| "unmatched".to_owned());
    // A client may invent methods: they must not become labels without end.
    let method = match sent_method.as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known.to_owned(),
        _ => "other".to_owned(),
    };
    let span = tracing::info_span!(
        "request",
        request.id = %context.request_id,
        trace.parent = %context.traceparent,
        http.method = %method,
        http.route = %route
    );
    let started = tokio::time::Instant::now();
    let path = request.path().to_owned();
    let work = async {
        let refused =
            match check_standing(&request).and_then(|()| check_encoding(&mut request, edge.inflates)) {
                Ok(()) => verify_service(&mut request).await.err(),
                Err(problem) => Some(problem),
            };
        let answered = match refused {
            Some(problem) => Ok(request.error_response(problem)),
            None => run(request, next).await,
        };
        let answered = match answered {
            Ok(response) => Ok(finish(response, &edge, &context.request_id)),
            Err(problem) => {
                Err(Failed { problem, edge: edge.clone(), path, request_id: context.request_id.clone() })
            }
        };
        let status = answered.as_ref().map_or_else(ResponseError::status_code, ServiceResponse::status);
        record(&edge, &method, &route, status, started.elapsed());
        answered.map_err(actix_web::Error::from)
    };
    context.clone().scope(work.instrument(span)).await
}

/// A request that ended without an answer, when there is no request any more to answer to.
#[derive(Debug)]
struct Failed {
    problem: Problem,
    edge: web::Data<Edge>,
    path: String,
    request_id: String,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.problem, f)
    }
}

impl ResponseError for Failed {
    fn status_code(&self) -> StatusCode {
        self.problem.status_code()
    }

    fn error_response(&self) -> HttpResponse {
        let mut answer = self.edge.respond(&self.problem, &self.path, &self.request_id);
        add_headers(answer.headers_mut(), &self.request_id);
        answer
    }
}

/// Calls the routes. (The request may not be cloned before: the router wants it for itself alone.)
async fn run<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Problem> {
    match AssertUnwindSafe(next.call(request)).catch_unwind().await {
        Ok(Ok(response)) => Ok(response.map_into_boxed_body()),
        Ok(Err(error)) => Err(match error.as_error::<Problem>() {
            Some(problem) => problem.clone(),
            None => of_status(error.as_response_error().status_code(), Some(&error.to_string()))
                .unwrap_or_else(|| Problem::new(Slug::Internal)),
        }),
        Err(_panic) => {
            tracing::error!("A handler panicked");
            Err(Problem::new(Slug::Internal))
        }
    }
}

/// Below `prefix`, a HEAD is handled as the GET that it stands for (the connection knows that no body is wanted), and a path
/// without the slashes at its end.
fn make_restful(request: &mut ServiceRequest, prefix: &str) {
    let below =
        request.path().strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if !below {
        return;
    }
    if request.method() == Method::HEAD {
        request.head_mut().method = Method::GET;
    }
    let path = request.path().trim_end_matches('/');
    if path.len() == request.path().len() {
        return;
    }
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = format!("{path}{query}").parse().ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        request.match_info_mut().get_mut().update(&uri);
        request.head_mut().uri = uri;
    }
}

/// What is answered whatever state the service is in.
const ALWAYS: [&str; 4] = ["/livez", "/readyz", "/metrics", "/openapi.json"];

/// Refuses everything while the service may decide nothing.
fn check_standing(request: &ServiceRequest) -> Result<(), Problem> {
    let halted = request.app_data::<web::Data<Readiness>>().is_some_and(|readiness| readiness.is_halted());
    if halted && !ALWAYS.contains(&request.path()) {
        return Err(Problem::new(Slug::Unavailable)
            .detail("the service has stopped: what it keeps was changed by another hand"));
    }
    Ok(())
}

/// Checks the assertion in `HBC-Service`, if there is one, over the whole request, and puts the body back.
async fn verify_service(request: &mut ServiceRequest) -> Result<(), Problem> {
    let Some(assertion) = request.headers().get(SERVICE_HEADER) else { return Ok(()) };
    let refused = || Problem::new(Slug::Unauthenticated);
    let Some(verifier) = request.app_data::<web::Data<ServiceVerifier>>().cloned() else {
        return Err(refused());
    };
    let assertion = assertion.to_str().map_err(|_not_text| refused())?.to_owned();
    let payload = request.take_payload();
    let body = body::read(request.request(), payload, usize::MAX).await?.into_bytes();
    let path = request.uri().path_and_query().map_or("/", |both| both.as_str()).to_owned();
    let verified = verifier.verify(&assertion, request.method().as_str(), &path, &body).map_err(|error| {
        tracing::warn!(assertion.refused = %error, "A service's assertion was refused");
        refused()
    })?;
    request.extensions_mut().insert(VerifiedService(verified));
    request.set_payload(Payload::from(body));
    Ok(())
}

/// The id and trace a client sent, where they are acceptable, else fresh ones.
fn context(headers: &HeaderMap, random: &Random) -> RequestContext {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let acceptable = |id: &&str| {
        (8..=64).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let request_id = match text(REQUEST_ID).filter(acceptable) {
        Some(id) => id.to_owned(),
        None => hex::encode(random.bytes::<16>()),
    };
    let trace = match text(TRACEPARENT).and_then(trace_id) {
        Some(trace) => trace.to_owned(),
        None => hex::encode(random.bytes::<16>()),
    };
    let traceparent = format!("00-{trace}-{}-01", hex::encode(random.bytes::<8>()));
    RequestContext { request_id, traceparent }
}

/// The trace id of a W3C `traceparent`.
fn trace_id(traceparent: &str) -> Option<&str> {
    let mut parts = traceparent.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length| {
        text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let shaped =
        hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2) && parts.next().is_none();
    (shaped && version != "ff" && trace.bytes().any(|b| b != b'0')).then_some(trace)
}

/// Gives every failure a problem document with the request's id, and every answer its headers.
fn finish(response: ServiceResponse<BoxBody>, edge: &Edge, request_id: &str) -> ServiceResponse<BoxBody> {
    let problem = match response.response().error() {
        Some(error) => match error.as_error::<Problem>() {
            Some(problem) => Some(problem.clone()),
            None if is_described(response.headers()) => None,
            None => of_status(response.status(), Some(&error.to_string())),
        },
        None if is_described(response.headers()) => None,
        None => of_status(response.status(), None),
    };
    let mut response = match problem {
        Some(problem) => {
            let allow = response.headers().get(header::ALLOW).cloned();
            let mut answer = edge.respond(&problem, response.request().path(), request_id);
            if let Some(allow) = allow {
                answer.headers_mut().insert(header::ALLOW, allow);
            }
            response.into_response(answer)
        }
        None => response,
    };
    add_headers(response.headers_mut(), request_id);
    if crate::cors::is_below(response.request().path(), edge.cross_origin) {
        let exposed = HeaderValue::from_static(crate::cors::EXPOSED);
        response.headers_mut().insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    let request = response.request();
    if edge.open_reads && request.method() == Method::GET && request.path().starts_with("/v1/") {
        let any = HeaderValue::from_static("*");
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any);
    }
    response
}

/// Whether a failed answer already says what happened in a form of its own.
fn is_described(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    media_type.is_some_and(|media_type| media_type.contains("json") || media_type.contains("xml"))
}

/// The problem for a failure that only has a status; nothing for a success. `words` come from the framework's
/// extractors, which speak of the request only.
fn of_status(status: StatusCode, words: Option<&str>) -> Option<Problem> {
    let slug = match status.as_u16() {
        0..400 => return None,
        401 => Slug::Unauthenticated,
        403 => Slug::Forbidden,
        404 => Slug::NotFound,
        405 => Slug::MethodNotAllowed,
        408 => Slug::MalformedRequest,
        412 => Slug::PreconditionFailed,
        413 => Slug::TooLarge,
        415 => Slug::UnsupportedMediaType,
        422 => Slug::InvalidInput,
        429 => Slug::TooManyRequests,
        503 => Slug::Unavailable,
        400..500 => Slug::MalformedRequest,
        _ => Slug::Internal,
    };
    let problem = Problem::new(slug);
    Some(match words {
        Some(words) if matches!(slug, Slug::MalformedRequest | Slug::InvalidInput) => problem.detail(words),
        _ => problem,
    })
}

fn add_headers(headers: &mut HeaderMap, request_id: &str) {
    const FIXED: [(HeaderName, &str); 4] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
    ];
    for (name, value) in FIXED {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if !headers.contains_key(header::CONTENT_SECURITY_POLICY) {
        let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
        headers.insert(header::CONTENT_SECURITY_POLICY, nothing);
    }
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(HeaderName::from_static(REQUEST_ID), id);
    }
}

fn record(edge: &Edge, method: &str, route: &str, status: StatusCode, took: std::time::Duration) {
    let labels = [
        ("service", edge.service.to_owned()),
        ("method", method.to_owned()),
        ("route", route.to_owned()),
        ("status", status.as_str().to_owned()),
    ];
    metrics::counter!("hbc_requests_total", &labels).increment(1);
    metrics::histogram!("hbc_request_seconds", &labels).record(took.as_secs_f64());
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    if status.is_server_error() {
        tracing::warn!(http.status = status.as_u16(), http.took_ms = took_ms, "A request failed");
    } else if is_background(route) && status.is_success() {
        tracing::debug!(http.status = status.as_u16(), http.took_ms = took_ms, "A request was answered");
    } else {
        tracing::info!(http.status = status.as_u16(), http.took_ms = took_ms, "A request was answered");
    }
}

/// What neighbours and monitors ask all the time: one line a call would hide everything else.
fn is_background(route: &str) -> bool {
    let polled = ["/livez", "/readyz", "/metrics", "/v1/checkpoint", "/v1/status", "/.well-known/jwks.json"];
    route.starts_with("/internal/") || polled.contains(&route)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_wellformed_traces_are_carried_on() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        assert_eq!(trace_id(&format!("00-{trace}-b7ad6b7169203331-01")), Some(trace));
        for bad in [
            String::new(),
            format!("00-{trace}-b7ad6b7169203331"),
            format!("ff-{trace}-b7ad6b7169203331-01"),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{}-b7ad6b7169203331-01", trace.to_uppercase()),
        ] {
            assert_eq!(trace_id(&bad), None, "{bad}");
        }
    }
}
