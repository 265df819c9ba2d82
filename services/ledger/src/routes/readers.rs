//! Who reads whole blocks, and how much: everybody may, from each address so much a second, and the members and the
//! deployment's services have capacity of their own, so that no crowd of readers keeps them from following the chain.
//!
//! Why: decision 0122.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use actix_web::{HttpMessage, HttpRequest};
use ed25519_dalek::VerifyingKey;
use hbc_chain::genesis::Genesis;
use hbc_service::{Allowance, Problem, ServiceVerifier, peer_address};
use hbc_types::Clock;
use hbc_types::problem::Slug;
use hbc_types::wire::token::Audience;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::App;

/// Readers of whole blocks at once, of everybody's and of the deployment's own. Each may hold two blocks of 8 MiB.
const AT_ONCE: usize = 4;

/// Seconds' worth of blocks that an address gets at once.
const BURST_SECONDS: u64 = 8;
/// What a block costs beside its bytes: finding, hashing and writing it.
const BLOCK_BYTES: u64 = 4 << 10;

/// The readers of a node.
#[derive(Debug)]
pub struct Readers {
    public: Semaphore,
    own: Semaphore,
    allowance: Allowance<IpAddr>,
    services: ServiceVerifier,
}

impl Readers {
    /// Of a node of this chain, with so many bytes of blocks per second and address.
    #[must_use]
    pub fn new(genesis: &Genesis, bytes_per_second: u32, clock: Clock) -> Self {
        let key = |key: &hbc_types::keys::PublicKey| VerifyingKey::from_bytes(key.as_bytes()).ok();
        let services = genesis.services.iter();
        let keys: Vec<_> = services.filter_map(|service| Some((service.role, key(&service.key)?))).collect();
        let per_second = NonZeroU32::new(bytes_per_second).unwrap_or(NonZeroU32::MIN);
        Self {
            public: Semaphore::new(AT_ONCE),
            own: Semaphore::new(AT_ONCE),
            allowance: Allowance::new(per_second, BURST_SECONDS * u64::from(per_second.get())),
            services: ServiceVerifier::new(Audience::LEDGER, &keys, clock),
        }
    }
}

/// A reader whose turn it is.
#[derive(Debug)]
pub struct Turn<'a> {
    readers: &'a Readers,
    /// Whom it is charged to.
    address: Option<IpAddr>,
    _permit: SemaphorePermit<'a>,
}

impl Turn<'_> {
    /// A block of so many bytes was read.
    pub fn took(&self, bytes: usize) {
        if let Some(address) = self.address {
            let bytes = BLOCK_BYTES.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
            self.readers.allowance.charge(address, bytes, Instant::now());
        }
    }
}

/// Whether the deployment itself reads, kept with the request: an assertion is good once.
#[derive(Clone, Copy)]
struct IsOwn(bool);

fn too_much(wait: Duration) -> Problem {
    Problem::new(Slug::TooManyRequests).detail("so much of the chain is not read at once").retry_after(wait)
}

impl App {
    /// Waits for a reader's turn. Who reads too much is told when to come again.
    pub(super) async fn turn(&self, request: &HttpRequest) -> Result<Turn<'_>, Problem> {
        let readers = &self.readers;
        let address = peer_address(request);
        let wait = address.and_then(|address| readers.allowance.wait(&address, Instant::now()));
        let public = |permit| Turn { readers, address, _permit: permit };
        if wait.is_none()
            && let Ok(permit) = readers.public.try_acquire()
        {
            return Ok(public(permit));
        }
        let closed = |closed| Problem::internal(&closed);
        if self.is_own(request) {
            let permit = readers.own.acquire().await.map_err(closed)?;
            return Ok(Turn { readers, address: None, _permit: permit });
        }
        if let Some(wait) = wait {
            return Err(too_much(wait));
        }
        let permit = readers.public.acquire().await.map_err(closed)?;
        // Meanwhile the same address may have read what it may.
        match address.and_then(|address| readers.allowance.wait(&address, Instant::now())) {
            Some(wait) => Err(too_much(wait)),
            None => Ok(public(permit)),
        }
    }

    /// Whether a member or a service of the deployment reads. It is looked at only where that matters.
    fn is_own(&self, request: &HttpRequest) -> bool {
        if let Some(IsOwn(known)) = request.extensions().get::<IsOwn>().copied() {
            return known;
        }
        let path = request.uri().path_and_query().map_or("/", |both| both.as_str());
        let own =
            self.sender(request, path.as_bytes()).is_ok() || self.readers.services.reader(request).is_some();
        request.extensions_mut().insert(IsOwn(own));
        own
    }
}
