//! Why a run of a job did not do it.

use std::error::Error;

use hbc_client::ClientError;
use hbc_db::DbError;

/// Why a run of a job did not do it. The code is kept in the database and shown to operators: it is a constant that says
/// nothing about anybody. The source is logged.
#[derive(Debug, thiserror::Error)]
#[error("{code}")]
pub struct JobError {
    code: &'static str,
    fault: bool,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl JobError {
    /// Something that another try will hardly change: it counts against the job's tries.
    #[must_use]
    pub const fn fault(code: &'static str) -> Self {
        Self { code, fault: true, source: None }
    }

    /// Something outside the job that will pass, such as a neighbour that does not answer: the job is tried until it has
    /// passed, and its age shows it.
    #[must_use]
    pub const fn later(code: &'static str) -> Self {
        Self { code, fault: false, source: None }
    }

    /// With what caused it, for the log.
    #[must_use]
    pub fn because(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// The code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// Whether it counts against the job's tries.
    #[must_use]
    pub const fn is_fault(&self) -> bool {
        self.fault
    }
}

impl From<DbError> for JobError {
    fn from(error: DbError) -> Self {
        // A commit whose outcome is unknown is looked at by the next run.
        let passes = error.is_transient() || matches!(error, DbError::CommitUnknown);
        let kind = if passes { Self::later("database") } else { Self::fault("database") };
        kind.because(error)
    }
}

impl From<ClientError> for JobError {
    fn from(error: ClientError) -> Self {
        let kind = match (error.is_transient(), error.slug()) {
            (true, _) => Self::later("unreachable"),
            (false, Some(slug)) => Self::fault(slug.as_str()),
            (false, None) => Self::fault("refused"),
        };
        kind.because(error)
    }
}
