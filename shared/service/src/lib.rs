//! What every service shares: configuration, start and stop, problem+json, callers, idempotency, health.
//!
//! A service names its routes in one table (`fn table(routes: &mut Routes)`), and everything around them is here:
//! [`Server`] puts request ids, traces, security headers, body limits, compression, problem documents, metrics,
//! health and the OpenAPI pages around the table. Who may call is visible in a handler's argument types
//! ([`Public`], [`Caller`], [`Patient`], [`Agency`], [`Operator`], [`Service`]).
//!
//! Nothing here knows a database, and nothing here knows a service.

mod answer;
mod body;
mod budget;
mod caller;
pub mod config;
mod cors;
mod edge;
mod form;
pub mod idempotency;
mod json;
mod limits;
pub mod openapi;
pub mod paging;
mod problem;
mod proxies;
mod readiness;
mod server;
mod service_assertion;
pub mod telemetry;
mod token;

pub use body::Body;
pub use caller::{Acting, Agency, Caller, MaybeCaller, Operator, Patient, Public};
pub use edge::{Dialect, RequestId};
pub use form::StrictForm;
pub use idempotency::{AnswerStore, IdempotencyKey};
pub use json::{StrictJson, parse_strict};
pub use limits::{Allowance, RateLimit};
pub use problem::Problem;
pub use proxies::{TrustedProxies, base_url, peer_address};
pub use readiness::Readiness;
pub use server::{Server, ServerBuilder, ServerSettings};
pub use service_assertion::{
    AllowedServices, AnyService, FromAccessPolicy, FromAuth, FromStorage, Service, ServiceVerifier,
};
pub use token::{TokenError, TokenVerifier};

/// Background work, started so that no panic goes unseen.
pub use hbc_tasks::{Tasks, spawn, spawn_essential};
/// A service's route table is a function over this: `fn table(routes: &mut Routes<'_>)`.
pub use utoipa_actix_web::service_config::ServiceConfig as Routes;
