//! Requests as anybody could send them, with or without credentials, and their raw answers.

use anyhow::{Context as _, Result};
use hbc_types::account::ServiceRole;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde::Serialize;

use crate::TestApp;
use crate::reply::Reply;

/// A request without credentials.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The process that is asked.
    pub process: String,
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

/// Whose request it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credentials<'a> {
    /// A user's token.
    pub token: Option<&'a str>,
    /// A service that signs the request.
    pub service: Option<ServiceRole>,
}

impl Ask {
    /// A request to a process.
    #[must_use]
    pub fn new(process: impl Into<String>, method: Method, path: impl Into<String>) -> Self {
        Self { process: process.into(), method, path: path.into(), headers: Vec::new(), body: Vec::new() }
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a body of a media type.
    #[must_use]
    pub fn body(mut self, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.headers.retain(|(name, _)| name != CONTENT_TYPE.as_str());
        self.header(CONTENT_TYPE.as_str(), media_type)
    }

    /// With a JSON body.
    pub fn json(self, value: &impl Serialize) -> Result<Self> {
        let body = serde_json::to_vec(value).context("the body cannot be written")?;
        Ok(self.body("application/json", body))
    }
}

impl TestApp {
    /// Sends a request once; an answer that is not described is an error.
    pub async fn send(&self, ask: &Ask, who: Credentials<'_>) -> Result<Reply> {
        let url = format!("{}{}", self.stack().url(&ask.process), ask.path);
        let mut request = self.http.request(ask.method.clone(), url).body(ask.body.clone());
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        if let Some(token) = who.token {
            request = request.bearer_auth(token);
        }
        if let Some(role) = who.service {
            let audience = ServiceRole::parse(&ask.process).context("only services take assertions")?;
            let signer = self.service(role)?;
            let assertion = signer.assertion(audience, ask.method.as_str(), &ask.path, &ask.body)?;
            request = request.header("HBC-Service", assertion);
        }
        let answer =
            request.send().await.with_context(|| format!("no answer to {} {}", ask.method, ask.path))?;
        let mut reply =
            Reply { status: answer.status().as_u16(), headers: answer.headers().clone(), body: Vec::new() };
        // A stream of events has no end: that it began is its answer.
        if reply.media_type() != "text/event-stream" {
            reply.body = answer.bytes().await?.to_vec();
        }
        crate::described::check(&ask.process, ask.method.as_str(), &ask.path, &reply)?;
        Ok(reply)
    }
}
