//! Strict forms: what OAuth's endpoints take (`application/x-www-form-urlencoded`, RFC 6749 §3.2).
//!
//! A parameter without a value counts as left out, one that comes twice is refused, and one that nobody knows is ignored.

use actix_web::dev::Payload;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{FromRequest, HttpRequest};
use futures_util::future::LocalBoxFuture;
use hbc_types::problem::Slug;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{Problem, body};

/// The media type.
const FORM: &str = "application/x-www-form-urlencoded";
/// Largest form, in bytes.
const LARGEST: usize = 16 << 10;

/// A form, strictly read into texts.
#[derive(Clone, Debug)]
pub struct StrictForm<T>(T);

impl<T> StrictForm<T> {
    /// The value.
    #[must_use]
    pub fn into_value(self) -> T {
        self.0
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for StrictForm<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            if !is_form(&request) {
                return Err(Problem::new(Slug::UnsupportedMediaType).detail(format!("send {FORM}")));
            }
            let body = body::read(&request, payload, LARGEST).await?;
            let read = parse(&body).map(Self);
            body.wipe();
            read
        })
    }
}

fn is_form(request: &HttpRequest) -> bool {
    let said = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    said.and_then(|said| said.split(';').next()).is_some_and(|said| said.trim().eq_ignore_ascii_case(FORM))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut fields = Map::new();
    for (name, value) in form_urlencoded::parse(bytes) {
        if fields.contains_key(name.as_ref()) {
            return Err(Problem::new(Slug::MalformedRequest).detail("a parameter comes twice"));
        }
        fields.insert(name.into_owned(), Value::String(value.into_owned()));
    }
    fields.retain(|_name, value| value.as_str().is_some_and(|text| !text.is_empty()));
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        let path = error.path().to_string();
        Problem::invalid(if path == "." { "form".to_owned() } else { path }, error.into_inner().to_string())
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Sample {
        grant_type: String,
        scope: Option<String>,
    }

    #[test]
    fn a_form_is_read_as_rfc_6749_wants() {
        let read: Sample = parse(b"grant_type=a%20b+c&unknown=1&scope=").unwrap();
        assert_eq!((read.grant_type.as_str(), read.scope), ("a b c", None));
        assert_eq!(parse::<Sample>(b"scope=s&grant_type=g").unwrap().scope.as_deref(), Some("s"));
        let twice = parse::<Sample>(b"grant_type=a&scope=s&scope=s").unwrap_err();
        assert_eq!(twice.slug(), Slug::MalformedRequest);
        for missing in [&b""[..], b"grant_type=", b"scope=s"] {
            let problem = parse::<Sample>(missing).unwrap_err();
            assert!(problem.document(None).errors[0].message.contains("`grant_type`"), "{problem:?}");
        }
    }
}
