//! What can go wrong here, without HTTP in it, and the one place where it becomes a problem.

use std::time::Duration;

use hbc_app::jobs::JobError;
use hbc_client::ClientError;
use hbc_db::DbError;
use hbc_service::Problem;
use hbc_service::idempotency::WriteConflict;
use hbc_types::problem::Slug;

use crate::domain::blob::BlobError;
use crate::domain::bundle::BundleError;
use crate::domain::definitions::SchemaError;
use crate::domain::issue::{Fault, Issue};
use crate::domain::patch::PatchError;
use crate::domain::quota::QuotaError;
use hbc_types::json::JsonError;

/// FHIR's word for what would cost too much: the reference of such a problem.
pub const TOO_COSTLY: &str = "too-costly";

/// A request that is not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The block store.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// Another service.
    #[error(transparent)]
    Neighbour(#[from] ClientError),
    /// The body is not JSON that is taken.
    #[error("the body is not acceptable JSON: {0}")]
    Json(#[from] JsonError),
    /// A bundle or resource that is not taken.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A patch that is not applied.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// A value that does not hold.
    #[error("{field}: {message}")]
    Invalid {
        /// Which field.
        field: String,
        /// What is wrong, lowercase, without a full stop.
        message: String,
    },
    /// There is no such thing, as far as the caller may know.
    #[error("not found")]
    NotFound,
    /// It was deleted, and this version of it says so.
    #[error("deleted")]
    Deleted,
    /// A client's scope does not allow it.
    #[error("the client's scope does not allow this")]
    InsufficientScope,
    /// The policies deny.
    #[error("denied by `{rule}`")]
    Denied {
        /// The deciding rule.
        rule: String,
    },
    /// It would cost more than one request may.
    #[error("{0}")]
    TooCostly(&'static str),
    /// The present state does not allow it.
    #[error("{0}")]
    Conflict(&'static str),
    /// Stored bytes or rows do not match their hashes or keys.
    #[error("stored data does not verify: {what}")]
    Integrity {
        /// What it was, without content.
        what: &'static str,
        /// Which record or object.
        which: String,
    },
    /// The upload took too long and was given up: it may be sent again.
    #[error("the upload was given up before it was committed")]
    IntentDead,
    /// Its author has written enough.
    #[error(transparent)]
    Quota(#[from] QuotaError),
    /// The disk is nearly full.
    #[error("there is no room on the spool's disk")]
    NoRoom,
    /// The spool could not be written.
    #[error("the spool cannot be written")]
    Spool(#[source] std::io::Error),
    /// A fault of the program.
    #[error("{0}")]
    Fault(&'static str),
}

impl From<Error> for JobError {
    fn from(error: Error) -> Self {
        match error {
            Error::Db(error) => error.into(),
            Error::Neighbour(error) => error.into(),
            Error::Blob(BlobError::Unavailable(_)) => Self::later("ipfs").because(error),
            Error::Blob(BlobError::Missing(_) | BlobError::Corrupt(_)) | Error::Integrity { .. } => {
                Self::fault("integrity").because(error)
            }
            Error::Spool(_) => Self::fault("spool").because(error),
            Error::Json(_)
            | Error::Bundle(_)
            | Error::Patch(_)
            | Error::Invalid { .. }
            | Error::NotFound
            | Error::Deleted
            | Error::InsufficientScope
            | Error::Denied { .. }
            | Error::TooCostly(_)
            | Error::Conflict(_)
            | Error::IntentDead
            | Error::Quota(_)
            | Error::NoRoom
            | Error::Fault(_) => Self::fault("internal").because(error),
        }
    }
}

impl From<SchemaError> for Error {
    fn from(error: SchemaError) -> Self {
        Self::Bundle(error.into())
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(error.into())
    }
}

impl Error {
    /// An unacceptable value.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), message: message.into() }
    }

    /// Whether something had another version than was said.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        let Self::Bundle(BundleError::Invalid(issues)) = self else { return false };
        issues.iter().any(|issue| issue.fault == Fault::Stale)
    }

    /// Whether stored bytes are lost or spoilt: to ask again does not help.
    #[must_use]
    pub const fn is_loss(&self) -> bool {
        matches!(self, Self::Blob(BlobError::Missing(_) | BlobError::Corrupt(_)) | Self::Integrity { .. })
    }

    /// Stored data that does not verify; told to whoever watches the logs.
    pub fn integrity(what: &'static str, which: impl Into<String>) -> Self {
        let which = which.into();
        tracing::error!(
            alarm = "integrity",
            storage.what = what,
            storage.which = which,
            "Stored data does not verify: it is not served"
        );
        Self::Integrity { what, which }
    }
}

impl WriteConflict for Error {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Db(error) if error.is_unique_violation())
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Db(error) if error.is_transient() => {
                tracing::warn!(error = &error as &dyn std::error::Error, "The database is not available");
                Self::new(Slug::Unavailable)
            }
            Error::Db(error) if error.is_unique_violation() => Self::new(Slug::Conflict),
            Error::Db(error) => Self::internal(&error),
            Error::Blob(BlobError::Unavailable(cause)) => {
                tracing::warn!(kubo.cause = cause, "IPFS is not available");
                Self::new(Slug::DependencyUnavailable).detail("IPFS is not available")
            }
            Error::Blob(BlobError::Missing(cid)) => {
                tracing::error!(alarm = "integrity", ipfs.cid = %cid, "IPFS has lost a segment");
                Self::new(Slug::Integrity)
            }
            Error::Blob(BlobError::Corrupt(cid)) => {
                tracing::error!(alarm = "integrity", ipfs.cid = %cid, "IPFS answered wrong bytes");
                Self::new(Slug::Integrity)
            }
            Error::Neighbour(error) => error.into(),
            Error::Json(error) => Self::new(Slug::MalformedRequest).detail(error.to_string()),
            Error::Bundle(error) => bundle_problem(error),
            Error::Patch(error @ (PatchError::Json(_) | PatchError::Form)) => {
                Self::new(Slug::MalformedRequest).detail(error.to_string())
            }
            Error::Patch(PatchError::TooMuch) => {
                Self::new(Slug::TooLarge).detail(PatchError::TooMuch.to_string())
            }
            Error::Patch(error) => Self::new(Slug::InvalidInput).detail(error.to_string()),
            Error::Invalid { field, message } => Self::invalid(field, message),
            Error::NotFound => Self::new(Slug::NotFound),
            Error::Deleted => Self::new(Slug::Deleted),
            Error::InsufficientScope => Self::new(Slug::InsufficientScope),
            Error::Denied { rule } => {
                Self::new(Slug::Denied).detail(format!("denied by `{rule}`")).reference(rule)
            }
            Error::TooCostly(why) => Self::new(Slug::InvalidInput).detail(why).reference(TOO_COSTLY),
            Error::Conflict(why) => Self::new(Slug::Conflict).detail(why),
            Error::Integrity { .. } => Self::new(Slug::Integrity),
            Error::IntentDead => {
                Self::new(Slug::Unavailable).detail("the upload was given up: send it again")
            }
            Error::Quota(QuotaError::Day(wait)) => Self::new(Slug::TooManyRequests)
                .detail(QuotaError::Day(wait).to_string())
                .retry_after(Duration::from_secs(wait.as_secs() + 1)),
            Error::Quota(total @ QuotaError::Total) => Self::new(Slug::Conflict).detail(total.to_string()),
            Error::NoRoom => {
                tracing::error!(alarm = "room", "The disk is nearly full: an upload was refused");
                Self::new(Slug::Unavailable)
                    .detail("there is no room for uploads; reading goes on")
                    .retry_after(Duration::from_secs(60))
            }
            Error::Spool(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "The spool cannot be written");
                Self::new(Slug::Unavailable)
            }
            Error::Fault(what) => {
                tracing::error!(storage.fault = what, "A request failed by a fault of the program");
                Self::new(Slug::Internal)
            }
        }
    }
}

fn bundle_problem(error: BundleError) -> Problem {
    match error {
        BundleError::Json(error) => Problem::new(Slug::MalformedRequest).detail(error.to_string()),
        BundleError::Invalid(issues) => issues_problem(&issues),
        BundleError::TooLarge | BundleError::TooManyConditions => {
            Problem::new(Slug::TooLarge).detail(error.to_string())
        }
        BundleError::Schema(error) => Problem::internal(&error),
        BundleError::Overlay(error) => Problem::internal(&error),
    }
}

/// One field an issue. What is wrong with what was sent counts first.
#[must_use]
pub fn issues_problem(issues: &[Issue]) -> Problem {
    let has = |fault: Fault| issues.iter().any(|issue| issue.fault == fault);
    let slug = match () {
        () if has(Fault::Form) => Slug::InvalidInput,
        // R4: "If no id element is provided, or the id disagrees with the id in the URL, the server SHALL respond with … 400".
        () if has(Fault::Another) => Slug::MalformedRequest,
        () if has(Fault::Missing) => Slug::NotFound,
        () if has(Fault::NotYours) => Slug::Forbidden,
        () if has(Fault::Several) || has(Fault::Stale) => Slug::PreconditionFailed,
        () if has(Fault::Stays) => Slug::Conflict,
        () => Slug::InvalidInput,
    };
    issues.iter().fold(Problem::new(slug), |problem, issue| {
        problem.field(issue.expression.clone(), issue.message.clone())
    })
}
