//! What can go wrong here, without HTTP in it, and the one place where it becomes a problem.

use hbc_app::jobs::JobError;
use hbc_chain::json::JsonError;
use hbc_client::ClientError;
use hbc_db::floors::SetBackError;
use hbc_db::journal::JournalError;
use hbc_db::{DbError, RowMacError};
use hbc_service::Problem;
use hbc_service::idempotency::WriteConflict;
use hbc_types::problem::Slug;

use crate::domain::consent::ConsentError;
use crate::domain::grant::TransitionError;
use crate::domain::keys::UnwrapError;
use crate::domain::scope::ScopeError;

/// The rule of a denial because a row was changed by another hand.
pub const INTEGRITY_RULE: &str = "integrity";

/// A request that is not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A row that gives or takes rights was changed by another hand.
    #[error(transparent)]
    Tampered(#[from] RowMacError),
    /// A row that gives or takes rights is older than the last change of it.
    #[error(transparent)]
    SetBack(#[from] SetBackError),
    /// A stored key does not open where it should.
    #[error("a stored key does not open")]
    Key(#[from] UnwrapError),
    /// A stored or computed document has no canonical form.
    #[error("a document has no canonical form")]
    Document(#[from] JsonError),
    /// A signed text that does not count.
    #[error(transparent)]
    Consent(#[from] ConsentError),
    /// The grant's state does not allow it.
    #[error(transparent)]
    Transition(#[from] TransitionError),
    /// A scope that does not hold.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// There is no such thing, as far as the caller may know.
    #[error("not found")]
    NotFound,
    /// The present state does not allow it.
    #[error("{0}")]
    Conflict(&'static str),
    /// A value that does not hold.
    #[error("{field}: {message}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What is wrong, lowercase, without a full stop.
        message: String,
    },
    /// The policies deny.
    #[error("denied by `{rule}`")]
    Denied {
        /// The deciding rule.
        rule: String,
    },
    /// The agency has not been approved.
    #[error("the agency is not approved")]
    AgencyUnverified,
    /// The account or session is stopped.
    #[error("the account or session is suspended")]
    Suspended,
    /// The session behind the token is not known: auth has not told of it, or it is over.
    #[error("the session is not open")]
    UnknownSession,
    /// The journal of rights cannot be written: what was asked for is done, and may seem undone after a crash.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The ledger, or its answer.
    #[error("the ledger does not answer as it should")]
    Ledger(#[source] ClientError),
    /// The ledger's answer does not verify.
    #[error("the ledger's answer does not verify: {0}")]
    Unverified(String),
}

impl From<Error> for JobError {
    fn from(error: Error) -> Self {
        match error {
            Error::Db(error) => error.into(),
            Error::Ledger(error) => error.into(),
            Error::Tampered(_) | Error::SetBack(_) => Self::fault("row_tampered").because(error),
            Error::Journal(_) => Self::later("journal").because(error),
            Error::Key(_)
            | Error::Document(_)
            | Error::Consent(_)
            | Error::Transition(_)
            | Error::Scope(_)
            | Error::NotFound
            | Error::Conflict(_)
            | Error::Invalid { .. }
            | Error::Denied { .. }
            | Error::AgencyUnverified
            | Error::Suspended
            | Error::UnknownSession
            | Error::Unverified(_) => Self::fault("internal").because(error),
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(error.into())
    }
}

impl Error {
    /// Whether a row was changed by another hand: its MAC differs, it is an older one, or it cannot even be read.
    #[must_use]
    pub const fn is_tampering(&self) -> bool {
        matches!(self, Self::Tampered(_) | Self::SetBack(_) | Self::Db(DbError::BadValue { .. }))
    }

    /// An unacceptable value.
    pub fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { field, message: message.into() }
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
            Error::Db(DbError::BadValue { column }) => tampered(column),
            Error::Db(error) => Self::internal(&error),
            Error::Tampered(error) => tampered(error.table),
            Error::SetBack(error) => tampered(error.table),
            Error::Key(error) => {
                tracing::error!(alarm = "key_does_not_open", "A stored key does not open where it should");
                let _cause: UnwrapError = error;
                Self::new(Slug::Integrity)
            }
            Error::Document(error) => Self::internal(&error),
            Error::Consent(error) => consent_problem(&error),
            Error::Transition(error) => Self::new(Slug::Conflict).detail(error.to_string()),
            Error::Scope(error) => Self::invalid(format!("scope.{}", error.field), error.message),
            Error::NotFound => Self::new(Slug::NotFound),
            Error::Conflict(why) => Self::new(Slug::Conflict).detail(why),
            Error::Invalid { field, message } => Self::invalid(field, message),
            Error::Denied { rule } => {
                Self::new(Slug::Denied).detail(format!("denied by `{rule}`")).reference(rule)
            }
            Error::AgencyUnverified => Self::new(Slug::AgencyUnverified),
            Error::Suspended => Self::new(Slug::Suspended),
            Error::UnknownSession => {
                Self::new(Slug::Unauthenticated).detail("the session is not open here: sign in again")
            }
            Error::Journal(error) => {
                tracing::error!(
                    alarm = "journal",
                    error = &error as &dyn std::error::Error,
                    "The journal of rights cannot be written"
                );
                Self::new(Slug::Unavailable)
            }
            Error::Ledger(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "The ledger could not be asked");
                Self::new(Slug::DependencyUnavailable)
            }
            Error::Unverified(why) => {
                tracing::error!(alarm = "ledger_answer", why, "A ledger node's answer does not verify");
                Self::new(Slug::Integrity)
            }
        }
    }
}

/// `place` is a table or, for a value that cannot be read, a column.
fn tampered(place: &'static str) -> Problem {
    tracing::error!(
        alarm = "tampered_row",
        db.place = place,
        "A row that gives or takes rights was changed by another hand: everything about it is denied"
    );
    Problem::new(Slug::Denied).detail("denied by `integrity`").reference(INTEGRITY_RULE)
}

fn consent_problem(error: &ConsentError) -> Problem {
    match error {
        ConsentError::OtherChain => Problem::new(Slug::OtherChain),
        ConsentError::BadTime => Problem::new(Slug::BadTime),
        ConsentError::Signature(why) => Problem::new(Slug::BadSignature).detail(why.clone()),
        ConsentError::Differs(field) => {
            Problem::new(Slug::Conflict).detail(format!("`{field}` is not what was drafted"))
        }
        ConsentError::Form(why) => Problem::invalid("jws", why.clone()),
        ConsentError::NeedsRegistration => {
            Problem::invalid("registration", "the key is new here: send its registration along")
        }
        ConsentError::KeyRevoked => Problem::new(Slug::Conflict).detail("the consent key is revoked"),
    }
}
