//! One HTTP client with deadlines, retries and fail-over, and the typed clients of the services.
//!
//! Nothing else in HBC builds an HTTP client. A remote problem crosses unchanged ([`ClientError::Problem`]);
//! everything that is not a clear answer is an error of its own and never a success.

pub mod assertion;
mod call;
pub mod context;
mod error;
pub mod http;
pub mod jwt;
pub mod ledger;
pub mod operations;
pub mod outgoing;
mod service_caller;

pub use call::{Answer, Call, Endpoint};
pub use error::{ClientError, RemoteProblem};
pub use service_caller::ServiceCaller;
