//! What can go wrong in the database, without a word of SQL in the messages.

use sqlx::error::ErrorKind;

/// A failure of the database. `Display` is safe to show; the driver's own words are only in `source`.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// A unique index or primary key refused the row.
    #[error("the row exists already")]
    UniqueViolation(#[source] sqlx::Error),
    /// The engine was busy for longer than it may be waited for, or a serialisation conflict outlasted the retries.
    #[error("the database is busy")]
    Busy(#[source] sqlx::Error),
    /// The group's commit failed: nothing of it is stored.
    #[error("the change was not committed")]
    NotCommitted,
    /// The connection broke during the commit: the change may or may not be stored.
    #[error("the outcome of the commit is unknown")]
    CommitUnknown,
    /// A statement that must change one row changed another number of rows.
    #[error("a change that must touch {expected} rows touched {found}")]
    RowCount {
        /// How many rows the statement had to change.
        expected: u64,
        /// How many it changed.
        found: u64,
    },
    /// A stored value is not what its column may hold.
    #[error("a stored value of `{column}` cannot be read")]
    BadValue {
        /// The column's name.
        column: &'static str,
    },
    /// A job panicked; its changes are rolled back.
    #[error("the change was abandoned")]
    Panicked,
    /// The writer has stopped: the process is on its way down.
    #[error("the database is closed")]
    Closed,
    /// The address, options or files of the database do not fit.
    #[error("the database is not configured: {0}")]
    Configuration(String),
    /// The stored schema is not the one this program was built for.
    #[error("the schema could not be brought up to date")]
    Migration(#[source] sqlx::migrate::MigrateError),
    /// Anything else the driver reports.
    #[error("the database failed")]
    Other(#[source] sqlx::Error),
}

impl DbError {
    /// Whether the same work may succeed when tried again later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::NotCommitted | Self::Closed)
    }

    /// Whether a unique index refused the row.
    #[must_use]
    pub const fn is_unique_violation(&self) -> bool {
        matches!(self, Self::UniqueViolation(_))
    }

    /// `Ok` if a statement changed exactly one row: the check of every write that must hit.
    pub fn one_row(found: u64) -> Result<(), Self> {
        if found == 1 { Ok(()) } else { Err(Self::RowCount { expected: 1, found }) }
    }
}

/// SQLite's BUSY and LOCKED with their extended forms; PostgreSQL's serialisation failure, deadlock, lock
/// not available and cancelled statement.
const BUSY_CODES: [&str; 11] =
    ["5", "6", "261", "262", "517", "773", "40001", "40P01", "55P03", "57014", "25P04"];

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => {
                if database.kind() == ErrorKind::UniqueViolation {
                    Self::UniqueViolation(error)
                } else if database.code().is_some_and(|code| BUSY_CODES.contains(&code.as_ref())) {
                    Self::Busy(error)
                } else {
                    Self::Other(error)
                }
            }
            sqlx::Error::PoolTimedOut => Self::Busy(error),
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => Self::Closed,
            _ => Self::Other(error),
        }
    }
}

impl From<sqlx::migrate::MigrateError> for DbError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        Self::Migration(error)
    }
}
