//! One call: built, sent with its deadline, answered with a value or a [`ClientError`].

use std::marker::PhantomData;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use hbc_types::problem::{ProblemDocument, TYPE_PREFIX};
use hbc_types::wire::token::{Audience, READER_HEADER, SERVICE_HEADER};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::{REQUEST_ID, RequestContext, TRACEPARENT};
use crate::operations::{Raw, Route};
use crate::{ClientError, RemoteProblem, ServiceCaller, http};

/// Largest answer that is read into memory.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// A service at one address.
#[derive(Clone, Debug)]
pub struct Endpoint {
    base: Url,
    http: reqwest::Client,
}

impl Endpoint {
    /// A service at `base` (`http://host:port`), with connections of its own.
    pub fn new(base: &str) -> Result<Self, ClientError> {
        Self::with_client(base, http::client()?)
    }

    /// A service at `base` that shares the connections of `http`.
    pub fn with_client(base: &str, http: reqwest::Client) -> Result<Self, ClientError> {
        let base = Url::parse(base).map_err(|error| ClientError::BadCall(error.to_string()))?;
        let plain = matches!(base.scheme(), "http" | "https") && base.path() == "/" && base.query().is_none();
        if !plain {
            return Err(ClientError::BadCall(
                "the address must be http://host:port and nothing more".to_owned(),
            ));
        }
        Ok(Self { base, http })
    }

    /// Where it is.
    #[must_use]
    pub const fn base(&self) -> &Url {
        &self.base
    }

    /// A call of an operation. All but POST are idempotent here and tried again where that may help.
    pub fn to<A>(&self, route: Route<A>) -> Call<A> {
        let call = Call {
            http: self.http.clone(),
            url: self.url(&route.path),
            method: route.method,
            headers: HeaderMap::new(),
            body: Ok(Bytes::new()),
            signer: None,
            attempts: 1,
            deadline: http::DEADLINE,
            answer: PhantomData,
        };
        if call.method == Method::POST { call } else { call.idempotent() }
    }

    /// A call of any path (with query, percent-encoded where needed), for what is no operation of HBC's.
    pub fn call(&self, method: Method, path: &str) -> Call<Raw> {
        self.to(Route::raw(method, path)).once()
    }

    /// `GET path`, tried again where that may help.
    pub fn get(&self, path: &str) -> Call<Raw> {
        self.call(Method::GET, path).idempotent()
    }

    /// `POST path`.
    pub fn post(&self, path: &str) -> Call<Raw> {
        self.call(Method::POST, path)
    }

    /// `PUT path`, tried again where that may help.
    pub fn put(&self, path: &str) -> Call<Raw> {
        self.call(Method::PUT, path).idempotent()
    }

    /// The whole address of `path`; a path cannot lead to another host.
    fn url(&self, path: &str) -> Result<Url, ClientError> {
        if !path.starts_with('/') || path.starts_with("//") {
            return Err(ClientError::BadCall("a path begins with one slash".to_owned()));
        }
        self.base.join(path).map_err(|error| ClientError::BadCall(error.to_string()))
    }
}

/// A successful answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status, 2xx or 3xx.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// A call being built. `A` is what a success answers.
#[must_use]
#[derive(Debug)]
pub struct Call<A> {
    http: reqwest::Client,
    url: Result<Url, ClientError>,
    method: Method,
    headers: HeaderMap,
    body: Result<Bytes, ClientError>,
    signer: Option<(ServiceCaller, Audience)>,
    attempts: usize,
    deadline: Duration,
    answer: PhantomData<fn() -> A>,
}

impl<A: DeserializeOwned> Call<A> {
    /// Sends it and reads the JSON of a success.
    pub async fn fetch(self) -> Result<A, ClientError> {
        read(&self.send().await?)
    }
}

impl Call<Raw> {
    /// Sends it and reads the JSON of a success as a type of the caller's.
    pub async fn fetch<T: DeserializeOwned>(self) -> Result<T, ClientError> {
        read(&self.send().await?)
    }
}

fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, ClientError> {
    serde_json::from_slice(&answer.body).map_err(|error| ClientError::BadAnswer(error.to_string()))
}

impl<A> Call<A> {
    /// With `query` as the query string; absent fields are left out.
    pub fn query<T: Serialize + ?Sized>(mut self, query: &T) -> Self {
        self.url = self.url.and_then(|url| {
            let request = self.http.request(self.method.clone(), url).query(query).build()?;
            Ok(request.url().clone())
        });
        self
    }

    /// With `value` as JSON body.
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        let body = serde_json::to_vec(value).map(Bytes::from);
        self.body = body.map_err(|error| ClientError::BadCall(error.to_string()));
        self.header("content-type", "application/json")
    }

    /// With `body` of `media_type`.
    pub fn body(mut self, media_type: &str, body: impl Into<Bytes>) -> Self {
        self.body = Ok(body.into());
        self.header("content-type", media_type)
    }

    /// With a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(value)) => {
                self.headers.insert(name, value);
            }
            _ => self.url = Err(ClientError::BadCall(format!("the header `{name}` cannot be sent"))),
        }
        self
    }

    /// With a user's access token.
    pub fn bearer(mut self, token: &str) -> Self {
        match HeaderValue::try_from(format!("Bearer {token}")) {
            Ok(mut value) => {
                value.set_sensitive(true);
                self.headers.insert(reqwest::header::AUTHORIZATION, value);
            }
            Err(_) => self.url = Err(ClientError::BadCall("the token cannot be sent".to_owned())),
        }
        self
    }

    /// Signed by a service for `audience`; every attempt gets an assertion of its own.
    pub fn signed(mut self, caller: &ServiceCaller, audience: impl Into<Audience>) -> Self {
        self.signer = Some((caller.clone(), audience.into()));
        self
    }

    /// With `Idempotency-Key`, which makes it safe to try again.
    pub fn idempotency_key(self, key: &str) -> Self {
        self.header("idempotency-key", key).idempotent()
    }

    /// Tried up to three times: the operation is idempotent.
    pub const fn idempotent(mut self) -> Self {
        self.attempts = 3;
        self
    }

    /// Tried once, whatever it is.
    pub const fn once(mut self) -> Self {
        self.attempts = 1;
        self
    }

    /// With a deadline other than [`http::DEADLINE`] for each attempt.
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sends it; the body of a success does not matter.
    pub async fn done(self) -> Result<(), ClientError> {
        self.send().await.map(|_answer| ())
    }

    /// Sends it.
    pub async fn send(self) -> Result<Answer, ClientError> {
        let Self { http, url, method, headers, body, signer, attempts, deadline, answer: _ } = self;
        let (url, body) = (url?, body?);
        let attempt = || async {
            let mut request = http
                .request(method.clone(), url.clone())
                .timeout(deadline)
                .headers(headers.clone())
                .body(body.clone());
            if let Some((caller, audience)) = &signer {
                let assertion = caller.assertion(*audience, method.as_str(), &path_and_query(&url), &body)?;
                let header = if *audience == Audience::LEDGER { READER_HEADER } else { SERVICE_HEADER };
                request = request.header(header, assertion);
            }
            if let Some(context) = RequestContext::current() {
                request =
                    request.header(REQUEST_ID, context.request_id).header(TRACEPARENT, context.traceparent);
            }
            receive(request.send().await?).await
        };
        let pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_factor(3.0)
            .with_max_times(attempts - 1)
            .with_jitter();
        attempt.retry(pauses).when(ClientError::is_transient).await
    }
}

/// Path and query as they are sent.
fn path_and_query(url: &Url) -> String {
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}

async fn receive(mut response: reqwest::Response) -> Result<Answer, ClientError> {
    let status = response.status();
    let headers = std::mem::take(response.headers_mut());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(ClientError::BadAnswer("it is too large".to_owned()));
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_success() || status == StatusCode::NOT_MODIFIED {
        return Ok(Answer { status, headers, body: Bytes::from(body) });
    }
    Err(ClientError::Problem(Box::new(problem(status, &headers, &body))))
}

/// The problem of a failed call; an answer without a problem document gets one without words.
fn problem(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> RemoteProblem {
    let retry_after = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(|seconds: u64| Duration::from_secs(seconds.min(3600)));
    let document = serde_json::from_slice(body).unwrap_or_else(|_other| ProblemDocument {
        kind: format!("{TYPE_PREFIX}http_{}", status.as_u16()),
        title: status.canonical_reason().unwrap_or("Failed").to_owned(),
        status: status.as_u16(),
        detail: None,
        instance: None,
        errors: Vec::new(),
        references: Vec::new(),
    });
    RemoteProblem { status: status.as_u16(), document, retry_after }
}
