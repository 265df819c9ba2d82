//! What can go wrong in auth, without HTTP, and the one match that turns it into problems.

use std::time::Duration;

use hbc_app::jobs::JobError;
use hbc_chain::certificate::CertificateError;
use hbc_chain::json::JsonError;
use hbc_client::jwt::JwtError;
use hbc_db::DbError;
use hbc_db::floors::SetBackError;
use hbc_db::journal::JournalError;
use hbc_service::Problem;
use hbc_service::idempotency::WriteConflict;
use hbc_types::problem::{FieldError, Slug};

use crate::domain::custody::CustodyError;
use crate::domain::throttle::retry_after_s;
use crate::store::StoreError;

/// What an operation of auth can end in when it does not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Values of the request do not hold.
    #[error("some values are not acceptable")]
    Invalid(Vec<FieldError>),
    /// The username is in use.
    #[error("the username is taken")]
    UsernameTaken,
    /// Unknown user, wrong password or code: one answer.
    #[error("username or password is wrong")]
    BadCredentials,
    /// No passkey of an account, or it did not sign: one answer.
    #[error("the passkey is not known, or did not sign this")]
    BadPasskey,
    /// The second factor is missing or wrong.
    #[error("a second factor is needed")]
    SecondFactor,
    /// Too many failures; when to come again.
    #[error("too many failures")]
    TooManyAttempts(Duration),
    /// Too many consent keys within a day; when to come again.
    #[error("too many consent keys within a day")]
    TooManyKeys(Duration),
    /// The session is over or the token unknown.
    #[error("the session is over")]
    Unauthenticated,
    /// A refresh token came twice.
    #[error("the refresh token was used before")]
    TokenReused,
    /// The account is suspended.
    #[error("the account is suspended")]
    Suspended,
    /// The agency is not approved.
    #[error("the agency is not approved")]
    AgencyUnverified,
    /// An OAuth client did not prove who it is; the words are for one whose signature held.
    #[error("the client did not prove itself: {0}")]
    InvalidClient(&'static str),
    /// A scope that the client may not have.
    #[error("the scope is not open: {0}")]
    InvalidScope(String),
    /// The caller may not do this.
    #[error("not allowed: {0}")]
    Forbidden(&'static str),
    /// There is no such thing, or the caller may not know.
    #[error("not found")]
    NotFound,
    /// The state does not allow it.
    #[error("conflict: {0}")]
    Conflict(&'static str),
    /// A text for another chain.
    #[error("signed for another chain")]
    OtherChain,
    /// A time that is not acceptable.
    #[error("the time is not acceptable")]
    BadTime,
    /// A signature that does not fit.
    #[error("the signature of `{0}` does not fit")]
    BadSignature(&'static str),
    /// A stored row was written by another hand; the alarm is logged where it was read.
    #[error("a stored row failed verification")]
    Tampered,
    /// The account is suspended, and who proved to be its owner is told why.
    #[error("the account is suspended: {0}")]
    SuspendedBecause(String),
    /// A stored row is older than the last change of it, or the transaction began before that: the store finds out.
    #[error(transparent)]
    SetBack(SetBackError),
    /// The journal of rights cannot be written: what was asked for is done, and may seem undone after a crash.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The password pool is full.
    #[error("too many passwords are being checked")]
    Overloaded,
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A wrapped key did not open although its password was right, or could not be made.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// A token could not be signed.
    #[error(transparent)]
    Token(#[from] JwtError),
    /// A payload that this service made has no canonical form.
    #[error(transparent)]
    Form(#[from] JsonError),
    /// A certificate or order could not be signed.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Something that must hold does not.
    #[error("{0}")]
    Broken(&'static str),
}

impl Error {
    /// `Invalid` for one field.
    #[must_use]
    pub fn invalid(field: &str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldError { field: field.to_owned(), message: message.into() }])
    }
}

impl From<Error> for JobError {
    fn from(error: Error) -> Self {
        match error {
            Error::Db(error) => error.into(),
            Error::Tampered | Error::SetBack(_) => Self::fault("row_tampered").because(error),
            Error::Journal(_) => Self::later("journal").because(error),
            Error::Overloaded => Self::later("overloaded"),
            Error::Invalid(_)
            | Error::UsernameTaken
            | Error::BadCredentials
            | Error::BadPasskey
            | Error::SecondFactor
            | Error::TooManyAttempts(_)
            | Error::TooManyKeys(_)
            | Error::Unauthenticated
            | Error::TokenReused
            | Error::Suspended
            | Error::SuspendedBecause(_)
            | Error::AgencyUnverified
            | Error::InvalidClient(_)
            | Error::InvalidScope(_)
            | Error::Forbidden(_)
            | Error::NotFound
            | Error::Conflict(_)
            | Error::OtherChain
            | Error::BadTime
            | Error::BadSignature(_)
            | Error::Custody(_)
            | Error::Token(_)
            | Error::Form(_)
            | Error::Certificate(_)
            | Error::Broken(_) => Self::fault("internal").because(error),
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Db(error) => Self::Db(error),
            StoreError::Tampered(_alarmed) => Self::Tampered,
            StoreError::SetBack(error) => Self::SetBack(error),
        }
    }
}

impl WriteConflict for Error {
    /// The username may be in use by the same request.
    fn is_conflict(&self) -> bool {
        matches!(self, Self::UsernameTaken)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match &error {
            Error::Invalid(faults) => faults.iter().fold(Self::new(Slug::InvalidInput), |problem, fault| {
                problem.field(fault.field.clone(), fault.message.clone())
            }),
            Error::UsernameTaken => Self::new(Slug::Duplicate).detail("the username is taken"),
            Error::BadCredentials => Self::new(Slug::BadCredentials),
            Error::BadPasskey => Self::new(Slug::BadCredentials)
                .detail("the passkey is not registered here, or did not sign this challenge"),
            Error::SecondFactor => Self::new(Slug::SecondFactor),
            Error::TooManyAttempts(wait) => {
                Self::new(Slug::TooManyRequests).retry_after(Duration::from_secs(retry_after_s(*wait).max(1)))
            }
            Error::TooManyKeys(wait) => Self::new(Slug::TooManyRequests)
                .detail("too many consent keys within a day; revoking goes on")
                .retry_after(*wait),
            Error::Unauthenticated => Self::new(Slug::Unauthenticated),
            Error::TokenReused => Self::new(Slug::TokenReused),
            Error::Suspended => Self::new(Slug::Suspended),
            Error::SuspendedBecause(reason) => Self::new(Slug::Suspended).detail(reason.clone()),
            Error::AgencyUnverified => Self::new(Slug::AgencyUnverified),
            Error::InvalidClient(why) => Self::new(Slug::InvalidClient).detail(*why),
            Error::InvalidScope(why) => Self::new(Slug::InvalidScope).detail(why.clone()),
            Error::Forbidden(why) => Self::new(Slug::Forbidden).detail(*why),
            Error::NotFound => Self::new(Slug::NotFound),
            Error::Conflict(why) => Self::new(Slug::Conflict).detail(*why),
            Error::OtherChain => Self::new(Slug::OtherChain),
            Error::BadTime => Self::new(Slug::BadTime),
            Error::BadSignature(field) => Self::new(Slug::BadSignature)
                .field(*field, "is not a valid signature of this key over this text"),
            Error::Tampered | Error::SetBack(_) => {
                Self::new(Slug::Forbidden).detail("stored data failed verification")
            }
            Error::Journal(error) => {
                tracing::error!(
                    alarm = "journal",
                    error = error as &dyn std::error::Error,
                    "The journal of rights cannot be written"
                );
                Self::new(Slug::Unavailable)
            }
            Error::Overloaded => Self::new(Slug::Unavailable).retry_after(Duration::from_secs(1)),
            Error::Db(cause) if cause.is_transient() => {
                let cause: &dyn std::error::Error = cause;
                tracing::warn!(error = cause, "The database did not take a change");
                Self::new(Slug::Unavailable)
            }
            Error::Db(_)
            | Error::Custody(_)
            | Error::Token(_)
            | Error::Form(_)
            | Error::Certificate(_)
            | Error::Broken(_) => Self::internal(&error),
        }
    }
}
