//! Answers as a test looks at them.

use reqwest::header::HeaderMap;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The media type of OAuth's requests.
pub const FORM: &str = "application/x-www-form-urlencoded";

/// The body of such a request.
#[must_use]
pub fn form(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// How a problem's type begins.
const PROBLEM: &str = hbc_types::problem::TYPE_PREFIX;

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body's bytes.
    pub bytes: Vec<u8>,
    /// The body as JSON; null where it is something else.
    pub body: Value,
}

#[expect(clippy::panic, reason = "another answer than the test wants fails it")]
impl Reply {
    /// Sends a request and reads the answer.
    #[expect(clippy::unwrap_used, reason = "a service that does not answer fails the test")]
    pub async fn to(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.unwrap().to_vec();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Self { status, headers, bytes, body }
    }

    /// The body as text, for messages.
    #[must_use]
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// A header; empty where it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    }

    /// The slug of a problem, or of an OperationOutcome; empty where it is neither.
    #[must_use]
    pub fn slug(&self) -> &str {
        let problem =
            self.body.get("type").and_then(Value::as_str).and_then(|kind| kind.strip_prefix(PROBLEM));
        let outcome = || self.body.pointer("/issue/0/details/coding/0/code").and_then(Value::as_str);
        problem.or_else(outcome).unwrap_or_default()
    }

    /// Status, slug and the first reference of a problem.
    #[must_use]
    pub fn problem(&self) -> String {
        let rule = self.body.pointer("/references/0").and_then(Value::as_str);
        let rule = rule.map(|rule| format!(" {rule}")).unwrap_or_default();
        format!("{} {}{rule}", self.status, self.slug())
    }

    /// A text of the body.
    #[must_use]
    #[track_caller]
    pub fn text(&self, field: &str) -> String {
        let text = self.body.get(field).and_then(Value::as_str);
        text.unwrap_or_else(|| panic!("`{field}` in {self:?}")).to_owned()
    }

    /// The body, whatever the status.
    #[must_use]
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.said()))
    }

    /// The body of a success.
    #[must_use]
    #[track_caller]
    pub fn ok<T: DeserializeOwned>(&self) -> T {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.said());
        self.json()
    }

    /// The answer, which must have this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.said());
        self
    }

    /// The answer, which must be this problem.
    #[track_caller]
    pub fn refused(self, status: u16, slug: &str) -> Self {
        assert_eq!((self.status, self.slug()), (status, slug), "{}", self.said());
        self
    }
}
