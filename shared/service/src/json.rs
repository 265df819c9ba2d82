//! Strict JSON input: a size cap before parsing, then [`hbc_types::json`] (nesting of at most 64, no duplicate keys, no NUL,
//! no lone surrogates) and, by `deny_unknown_fields` on our own types, no unknown fields.

use std::fmt;

use actix_web::dev::Payload;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::future::LocalBoxFuture;
use hbc_types::problem::Slug;
use hbc_types::{Digest, json};
use serde::de::DeserializeOwned;

use crate::{Problem, body};

/// The largest JSON body of this server, as application data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JsonLimit(pub(crate) usize);

/// A JSON body, strictly read.
#[derive(Clone, Debug)]
pub struct StrictJson<T> {
    /// The value.
    pub value: T,
    digest: Digest,
}

impl<T> StrictJson<T> {
    /// SHA-256 of the body as it was received (after decompression): the fingerprint for `Idempotency-Key`.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The value alone.
    #[must_use]
    pub fn into_value(self) -> T {
        self.value
    }
}

/// Reads `bytes` strictly; the problem names the field.
pub fn parse_strict<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    check(bytes)?;
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        if error.inner().is_syntax() {
            // A number that no type can hold.
            return malformed(error.inner());
        }
        let path = error.path().to_string();
        let message = error.into_inner().to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        Problem::invalid(if path == "." { "body".to_owned() } else { path }, message)
    })
}

/// Checks everything that does not depend on the expected type.
fn check(bytes: &[u8]) -> Result<(), Problem> {
    json::parse(bytes).map(drop).map_err(|error| malformed(&error))
}

fn malformed(error: &dyn fmt::Display) -> Problem {
    Problem::new(Slug::MalformedRequest).detail(format!("the body is not acceptable JSON: {error}"))
}

impl<T: DeserializeOwned + 'static> FromRequest for StrictJson<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let limit = request.app_data::<web::Data<JsonLimit>>().map_or(1024 * 1024, |limit| limit.0);
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            if !is_json(&request) {
                return Err(Problem::new(Slug::UnsupportedMediaType).detail("send application/json"));
            }
            let body = body::read(&request, payload, limit).await?;
            let read = parse_strict(&body).map(|value| Self { value, digest: Digest::of(&body) });
            body.wipe();
            read
        })
    }
}

fn is_json(request: &HttpRequest) -> bool {
    let Some(value) = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use hbc_types::json::MAX_DEPTH;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[expect(dead_code, reason = "only its reading matters")]
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "only its reading matters")]
        count: u32,
    }

    #[test]
    fn good_input_is_read() {
        assert!(parse_strict::<Sample>(br#"{"inner":[{"count":1},{"count":2}]}"#).is_ok());
    }

    #[test]
    fn a_wrong_field_is_named() {
        let problem = parse_strict::<Sample>(br#"{"inner":[{"count":1},{"count":"x"}]}"#).unwrap_err();
        assert_eq!(problem.document(None).errors[0].field, "inner[1].count");
        let problem = parse_strict::<Sample>(br#"{"inner":[{"count":1,"extra":2}]}"#).unwrap_err();
        assert!(problem.document(None).errors[0].field.starts_with("inner[0]"), "{problem:?}");
    }

    #[test]
    fn what_parsers_disagree_on_is_refused() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        let bad: Vec<Vec<u8>> = vec![
            br#"{"inner":[],"inner":[]}"#.to_vec(),
            br#"{"a":{"b":1,"b":2}}"#.to_vec(),
            br#"{"a":"\u0000"}"#.to_vec(),
            br#"{"\u0000":1}"#.to_vec(),
            br#"{"a":"\ud800"}"#.to_vec(),
            br#"{"a":"\udc00x"}"#.to_vec(),
            b"{\"a\":\"\xff\"}".to_vec(),
            br#"{"a":1} {"b":2}"#.to_vec(),
            br#"{"a":1,}"#.to_vec(),
            br#"{"a":NaN}"#.to_vec(),
            b"".to_vec(),
            deep(MAX_DEPTH + 1).into_bytes(),
        ];
        for text in bad {
            let problem = check(&text).unwrap_err();
            assert_eq!(problem.slug(), Slug::MalformedRequest, "{}", String::from_utf8_lossy(&text));
        }
        assert!(check(deep(MAX_DEPTH).as_bytes()).is_ok());
        let problem = parse_strict::<serde_json::Value>(br#"{"a":1e999}"#).unwrap_err();
        assert_eq!(problem.slug(), Slug::MalformedRequest);
    }
}
