//! What is asked of a service's state beside handlers and jobs: its own loops, gauges and the parts that it needs.

use std::future::Future;

use hbc_db::DbError;
use hbc_service::Tasks;

/// A count under its name, which stands in `docs/OPERATIONS.md`.
pub type Gauge = (&'static str, u64);

/// How a part stands that the service needs.
#[derive(Clone, Debug)]
pub struct Part {
    pub(crate) name: &'static str,
    pub(crate) trouble: Option<String>,
    pub(crate) stops: bool,
}

impl Part {
    /// The part `name`, after it was tried. The error's words are shown to whoever asks for readiness.
    pub fn of<E: std::fmt::Display>(name: &'static str, tried: Result<(), E>) -> Self {
        Self { name, trouble: tried.err().map(|error| error.to_string()), stops: false }
    }

    /// A part that must be sound: while it is not, nothing is decided and nothing answered.
    pub fn sound<E: std::fmt::Display>(name: &'static str, tried: Result<(), E>) -> Self {
        Self { stops: true, ..Self::of(name, tried) }
    }
}

/// A service's state, and what is asked of it beside handlers and jobs.
pub trait ServiceState: Clone + Send + Sync + 'static {
    /// Starts what each process does for itself, and is no job.
    fn tasks(&self, _tasks: &Tasks) {}

    /// What it measures beside what every service does.
    fn gauges(&self) -> impl Future<Output = Result<Vec<Gauge>, DbError>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// How the parts stand that `/readyz` speaks of beside database and ledger.
    fn parts(&self) -> impl Future<Output = Vec<Part>> + Send {
        std::future::ready(Vec::new())
    }
}
