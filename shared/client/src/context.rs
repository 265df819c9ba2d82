//! What a request carries along when it makes a service call another: its id and its trace.

use std::future::Future;

tokio::task_local! {
    static CURRENT: RequestContext;
}

/// Header with the request's id, in and out.
pub const REQUEST_ID: &str = "x-request-id";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";

/// Id and trace of the request that is being worked on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestContext {
    /// The request's id.
    pub request_id: String,
    /// `traceparent` for the calls that it makes.
    pub traceparent: String,
}

impl RequestContext {
    /// Runs `work` with this context: calls made in it carry it along.
    pub fn scope<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, work)
    }

    /// The context of the task at hand, if it works for a request.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }
}
