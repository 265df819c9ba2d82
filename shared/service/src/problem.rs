//! Problems as this service answers them: a slug of the one table, words that are safe to show, and nothing of
//! the cause, which is logged where it happened.

use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use hbc_client::ClientError;
use hbc_types::problem::{FieldError, ProblemDocument, Slug, TYPE_PREFIX};
use hbc_types::wire::token::STEP_UP_SECONDS;

/// What a handler returns instead of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    slug: Slug,
    detail: Option<String>,
    errors: Vec<FieldError>,
    references: Vec<String>,
    retry_after: Option<Duration>,
}

impl Problem {
    /// A problem of this kind; kinds that may be tried again get a `Retry-After` of two seconds.
    #[must_use]
    pub fn new(slug: Slug) -> Self {
        let retry_after =
            (slug.retry() && matches!(slug.status(), 429 | 503)).then_some(Duration::from_secs(2));
        Self { slug, detail: None, errors: Vec::new(), references: Vec::new(), retry_after }
    }

    /// With words for this time. They leave the service: no SQL, no path, no secret.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// With a field that is not acceptable.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>, message: impl Into<String>) -> Self {
        self.errors.push(FieldError { field: field.into(), message: message.into() });
        self
    }

    /// With a reference: the excluding transaction, a healthy peer, the denying rule.
    #[must_use]
    pub fn reference(mut self, reference: impl Into<String>) -> Self {
        self.references.push(reference.into());
        self
    }

    /// With `Retry-After`.
    #[must_use]
    pub const fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// `invalid_input` for one field.
    #[must_use]
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Slug::InvalidInput).field(field, message)
    }

    /// `internal`, after logging `cause` where it happened.
    #[must_use]
    pub fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = cause, "A request failed for a reason the caller cannot change");
        Self::new(Slug::Internal)
    }

    /// Its kind.
    #[must_use]
    pub const fn slug(&self) -> Slug {
        self.slug
    }

    /// The document, for the request with this id.
    #[must_use]
    pub fn document(&self, instance: Option<&str>) -> ProblemDocument {
        ProblemDocument {
            kind: format!("{TYPE_PREFIX}{}", self.slug.as_str()),
            title: self.slug.title().to_owned(),
            status: self.slug.status(),
            detail: self.detail.clone(),
            instance: instance.map(str::to_owned),
            errors: self.errors.clone(),
            references: self.references.clone(),
        }
    }

    /// What credentials are asked for.
    fn challenge(&self) -> String {
        match self.slug {
            // RFC 9470 §3.
            Slug::StepUp => {
                format!("Bearer error=\"insufficient_user_authentication\", max_age={STEP_UP_SECONDS}")
            }
            Slug::InsufficientScope => "Bearer error=\"insufficient_scope\"".to_owned(),
            _ => "Bearer".to_owned(),
        }
    }

    /// The HTTP answer for the request with this id.
    #[must_use]
    pub fn respond(&self, instance: Option<&str>) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status_code());
        answer
            .insert_header((CONTENT_TYPE, "application/problem+json"))
            .insert_header((CACHE_CONTROL, "no-store"));
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs().max(1);
            answer.insert_header((RETRY_AFTER, seconds.to_string()));
            if self.slug.status() == 429 {
                // draft-ietf-httpapi-ratelimit-headers: nothing is left, until then.
                answer.insert_header(("RateLimit", format!("\"{}\";r=0;t={seconds}", self.slug.as_str())));
            }
        }
        if self.slug.status() == 401 || self.slug == Slug::InsufficientScope {
            answer.insert_header((WWW_AUTHENTICATE, self.challenge()));
        }
        let body = serde_json::to_string(&self.document(instance)).unwrap_or_default();
        answer.body(body)
    }
}

impl From<Slug> for Problem {
    fn from(slug: Slug) -> Self {
        Self::new(slug)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug.as_str())
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.slug.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        self.respond(None)
    }
}

/// A neighbour's problem crosses unchanged; a neighbour that does not answer, or not in the contract, is a needed
/// service that is not available.
impl From<ClientError> for Problem {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Problem(remote) => match remote.slug() {
                Some(slug) => Self {
                    slug,
                    detail: remote.document.detail,
                    errors: remote.document.errors,
                    references: remote.document.references,
                    retry_after: remote.retry_after.or(Self::new(slug).retry_after),
                },
                None => {
                    tracing::warn!(
                        http.status = remote.status,
                        "A neighbour answered a problem that is not in the table"
                    );
                    Self::new(Slug::DependencyUnavailable)
                }
            },
            ClientError::BadCall(_) => Self::internal(&error),
            ClientError::Unreachable(_) | ClientError::NoAnswer(_) | ClientError::BadAnswer(_) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "A neighbour could not be asked");
                Self::new(Slug::DependencyUnavailable)
            }
        }
    }
}
