//! The one place that builds an HTTP client.

use std::time::Duration;

use crate::ClientError;

/// How long a whole call may take unless it says otherwise.
pub const DEADLINE: Duration = Duration::from_secs(15);
/// How long making a connection may take.
const CONNECT: Duration = Duration::from_secs(2);

/// An HTTP/1.1 client with keep-alive: deadline, connect time-out, no redirects, no proxies from the
/// environment. Clones share the connections.
pub fn client() -> Result<reqwest::Client, ClientError> {
    Ok(builder().build()?)
}

/// What all clients have in common.
pub(crate) fn builder() -> reqwest::ClientBuilder {
    #[expect(clippy::disallowed_methods, reason = "this is the one home of HTTP clients")]
    let builder = reqwest::Client::builder();
    builder
        .user_agent(concat!("hbc/", env!("CARGO_PKG_VERSION")))
        .timeout(DEADLINE)
        .connect_timeout(CONNECT)
        .pool_idle_timeout(Duration::from_secs(20))
        .pool_max_idle_per_host(32)
        .tcp_keepalive(Duration::from_secs(15))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .http1_only()
}
