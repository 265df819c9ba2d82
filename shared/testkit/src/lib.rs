//! Everything tests share: keys, founding documents and certified chains ([`chain`]), a ledger node that serves one
//! ([`ledger`]), people with tokens ([`users`]), a service in the test's process ([`service`]) and its answers ([`http`]),
//! who may call what ([`callers`]), OAuth clients ([`clients`]), a server that speaks TLS ([`https`]), the whole stack on free ports, a private PostgreSQL,
//! Synthea's bundles, fixed time and seeded randomness. Nothing here is used outside tests.

pub mod authenticator;
pub mod callers;
pub mod clients;
pub mod http;
pub mod https;
pub mod ledger;
pub mod postgres;
pub mod service;
pub mod stack;
pub mod synthea;
pub mod users;

use std::io::Write as _;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub use hbc_chain::testing as chain;
pub use hbc_types::{Clock, Random, Timestamp};
pub use stack::Stack;

/// Notes that the running test cannot do its work here, and why. The test then returns. The reasons are listed at the
/// end of `make test`; where nothing may be skipped (`HBC_NO_SKIP` is set) this fails the test instead.
pub fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let strict = std::env::var_os("HBC_NO_SKIP").is_some_and(|value| !value.is_empty());
    assert!(!strict, "{test} may not be skipped: {reason}");
    eprintln!("SKIPPED {test}: {reason}");
    if let Some(list) = std::env::var_os("HBC_SKIP_LIST")
        && let Ok(mut file) = std::fs::File::options().create(true).append(true).open(list)
    {
        let _not_listed = writeln!(file, "{test}: {reason}");
    }
}

/// `N` TCP ports on loopback that are free now and were given to no other test of this process. They lie between those
/// that `hbc` chooses for itself and those from which the system serves outgoing connections: either would sometimes
/// take one before its test listens there.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "a machine without free ports cannot run tests at all")]
#[expect(clippy::expect_used, reason = "a machine without free ports cannot run tests at all")]
pub fn free_ports<const N: usize>() -> [u16; N] {
    const LOWEST: u32 = 30_000;
    const SPAN: u32 = 2_700;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    let mut tries = 0..SPAN;
    std::array::from_fn(|_| {
        tries
            .find_map(|_| {
                let place = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % SPAN;
                let listener = TcpListener::bind(("127.0.0.1", u16::try_from(LOWEST + place).ok()?)).ok()?;
                listener.local_addr().ok().map(|address| address.port())
            })
            .expect("a free port")
    })
}

/// A plain HTTP client for talking to services as an outsider would: no retries, no tokens, ten minutes of patience.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "only a broken TLS set-up can fail here")]
#[expect(clippy::expect_used, reason = "only a broken TLS set-up can fail here")]
#[expect(clippy::disallowed_methods, reason = "tests must be able to do what our own client refuses to do")]
pub fn http_client() -> reqwest::Client {
    reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(600))
        .build()
        .expect("an HTTP client")
}
