//! What a call can end in when it is not a success.

use std::time::Duration;

use hbc_types::problem::{ProblemDocument, Slug, TYPE_PREFIX};

/// A problem that the called service answered, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteProblem {
    /// HTTP status.
    pub status: u16,
    /// The problem document.
    pub document: ProblemDocument,
    /// When it may be tried again.
    pub retry_after: Option<Duration>,
}

impl RemoteProblem {
    /// The kind of problem, if this program knows it.
    #[must_use]
    pub fn slug(&self) -> Option<Slug> {
        Slug::parse(self.document.kind.strip_prefix(TYPE_PREFIX)?)
    }
}

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The service answered with a problem.
    #[error("the service answered {} `{}`", .0.status, .0.document.kind)]
    Problem(Box<RemoteProblem>),
    /// No connection: the request was certainly not worked on.
    #[error("the service cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// The request may or may not have been worked on: time ran out or the connection broke.
    #[error("the service did not answer in time")]
    NoAnswer(#[source] Option<reqwest::Error>),
    /// The service answered something that is not in the contract.
    #[error("the service gave an answer that cannot be used: {0}")]
    BadAnswer(String),
    /// The call was built wrongly.
    #[error("the call cannot be made: {0}")]
    BadCall(String),
}

impl ClientError {
    /// The slug of a remote problem, if it is one.
    #[must_use]
    pub fn slug(&self) -> Option<Slug> {
        match self {
            Self::Problem(problem) => problem.slug(),
            _ => None,
        }
    }

    /// HTTP status of a remote problem.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Problem(problem) => Some(problem.status),
            _ => None,
        }
    }

    /// Whether the same call may succeed later, or elsewhere, without being changed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Problem(problem) => match problem.slug() {
                Some(slug) => slug.retry(),
                None => problem.status >= 500 || problem.status == 429,
            },
            Self::Unreachable(_) | Self::NoAnswer(_) => true,
            Self::BadAnswer(_) | Self::BadCall(_) => false,
        }
    }
}

impl From<reqwest::Error> for ClientError {
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if error.is_connect() {
            Self::Unreachable(error)
        } else if error.is_builder() {
            Self::BadCall(error.to_string())
        } else {
            Self::NoAnswer(Some(error))
        }
    }
}
