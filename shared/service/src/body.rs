//! Bodies of requests, bounded while they are read: their length, the time between two pieces, what all of them hold
//! together, and what an encoded one may grow to.
//!
//! No handler reads a body in another way: the edge refuses an encoding that the server does not take before anybody could
//! inflate it, and hands over what is encoded as it came.

use std::io::Read as _;
use std::ops::Deref;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use actix_web::web::{self, Bytes, BytesMut};
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use flate2::bufread::GzDecoder;
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use hbc_types::problem::Slug;
use zeroize::Zeroize as _;

use crate::budget::{Budget, Share};
use crate::{Problem, peer_address};

/// Longest pause between two pieces of a body.
const PAUSE: Duration = Duration::from_secs(15);
/// Longest time for a whole body.
const LONGEST: Duration = Duration::from_secs(600);
/// So much room is made for a body that says its length, before it comes.
const EXPECTED: usize = 16 << 10;
/// What every body may hold without being counted.
const FREE: usize = 64 << 10;

/// How bodies are read by one server, as application data.
#[derive(Clone, Debug)]
pub(crate) struct Bodies {
    /// Largest body, in bytes.
    pub(crate) limit: usize,
    /// What bodies may hold beyond [`FREE`] each.
    pub(crate) budget: Budget,
}

/// The body that follows is gzip: set by the edge, which took the header away.
#[derive(Clone, Copy, Debug)]
struct Gzip;

/// Looks at `Content-Encoding` before anything is read.
pub(crate) fn check_encoding(
    request: &mut actix_web::dev::ServiceRequest,
    inflates: bool,
) -> Result<(), Problem> {
    let mut said = request.headers().get_all(CONTENT_ENCODING);
    let (first, more) = (said.next().map(|value| value.as_bytes().to_ascii_lowercase()), said.next());
    match (first.as_deref(), more) {
        (None | Some(b"identity"), None) => Ok(()),
        (Some(b"gzip"), None) if inflates => {
            request.headers_mut().remove(CONTENT_ENCODING);
            request.extensions_mut().insert(Gzip);
            Ok(())
        }
        _ => {
            let taken = if inflates { "send the body plain, or gzipped once" } else { "send the body plain" };
            Err(Problem::new(Slug::UnsupportedMediaType).detail(taken))
        }
    }
}

/// A whole body. While it lives its bytes count among those that the server holds.
#[derive(Debug)]
pub struct Body {
    bytes: Bytes,
    _share: Held,
}

impl Body {
    /// The bytes; they count no longer.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Wipes them: a body may hold passwords and codes. What the connection itself read them into is not ours to wipe.
    pub(crate) fn wipe(self) {
        drop(wiped(self.bytes));
    }
}

impl Deref for Body {
    type Target = Bytes;
    fn deref(&self) -> &Bytes {
        &self.bytes
    }
}

impl FromRequest for Body {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move { read(&request, payload, usize::MAX).await })
    }
}

/// Reads the body of a request: at most `most` bytes, and at most what the server takes.
pub(crate) async fn read(request: &HttpRequest, payload: Payload, most: usize) -> Result<Body, Problem> {
    let bodies = request.app_data::<web::Data<Bodies>>().ok_or_else(|| Problem::new(Slug::Internal))?;
    let limit = most.min(bodies.limit);
    let told =
        request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if told.is_some_and(|told| told > limit as u64) {
        return Err(too_large(limit));
    }
    let mut share = Held(bodies.budget.share(peer_address(request)));
    let expected = told.and_then(|told| usize::try_from(told).ok()).unwrap_or(0).min(EXPECTED);
    let bytes = collect(payload, limit, expected, &mut share).await?;
    if request.extensions().get::<Gzip>().is_none() {
        return Ok(Body { bytes, _share: share });
    }
    // Inflating takes the processor: away from the threads that serve requests.
    let inflated = web::block(move || inflate(&bytes, limit, share)).await;
    let (bytes, share) = inflated.map_err(|cancelled| Problem::internal(&cancelled))??;
    Ok(Body { bytes, _share: share })
}

/// The bytes overwritten, if nobody else holds them.
fn wiped(bytes: Bytes) -> Option<BytesMut> {
    let mut own = bytes.try_into_mut().ok()?;
    own.as_mut().zeroize();
    Some(own)
}

fn too_large(limit: usize) -> Problem {
    Problem::new(Slug::TooLarge).detail(format!("at most {limit} bytes"))
}

async fn collect(
    mut payload: Payload,
    limit: usize,
    expected: usize,
    share: &mut Held,
) -> Result<Bytes, Problem> {
    let broken = |detail: &str| Problem::new(Slug::MalformedRequest).detail(detail);
    // In one piece where it is small: nothing of it stays where it was before it grew.
    let mut body = BytesMut::with_capacity(expected);
    let whole = async {
        loop {
            let next = tokio::time::timeout(PAUSE, payload.next()).await;
            let Some(chunk) = next.map_err(|_elapsed| broken("the body stopped coming"))? else {
                return Ok(());
            };
            let chunk = chunk.map_err(|_broken| broken("the body broke off"))?;
            if body.len() + chunk.len() > limit {
                return Err(too_large(limit));
            }
            share.grow(body.len() + chunk.len())?;
            body.extend_from_slice(&chunk);
        }
    };
    tokio::time::timeout(LONGEST, whole).await.map_err(|_elapsed| broken("the body came too slowly"))??;
    Ok(body.freeze())
}

/// Inflates one gzip. Its last four bytes say how long it becomes (RFC 1952 §2.3.1): so much of the budget is taken before
/// anything is inflated, and not a byte more is read.
fn inflate(bytes: &[u8], limit: usize, mut share: Held) -> Result<(Bytes, Held), Problem> {
    let broken =
        || Problem::new(Slug::MalformedRequest).detail("the body is not the one gzip that it says it is");
    let told = bytes.last_chunk::<4>().map(|told| u32::from_le_bytes(*told)).ok_or_else(broken)?;
    let told = usize::try_from(told).map_err(|_range| too_large(limit))?;
    if told > limit {
        return Err(too_large(limit));
    }
    share.grow(bytes.len() + told)?;
    let mut body = Vec::with_capacity(told);
    let mut decoder = GzDecoder::new(bytes);
    let read = decoder.by_ref().take(told as u64 + 1).read_to_end(&mut body).map_err(|_broken| broken())?;
    // Nothing follows: one gzip is the whole body.
    if read == told && decoder.into_inner().is_empty() { Ok((body.into(), share)) } else { Err(broken()) }
}

/// What one body holds of the server's budget.
#[derive(Debug)]
struct Held(Share);

impl Held {
    /// Grows to hold so many bytes; `unavailable` when others hold too much.
    fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        self.0.grow(bytes.saturating_sub(FREE)).map_err(|_full| {
            let problem = Problem::new(Slug::Unavailable).detail("too many large bodies are on their way");
            problem.retry_after(Duration::from_secs(2))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn share(kib: usize) -> Held {
        Held(Budget::new("tests", kib << 10, 0).share(None))
    }

    #[test]
    fn what_is_gzipped_grows_to_the_limit_and_no_further() {
        let bomb = gzip(&vec![b'0'; 8 << 20]);
        assert!(bomb.len() < 16 << 10);
        assert_eq!(inflate(&bomb, 8 << 20, share(16 << 10)).unwrap().0.len(), 8 << 20);
        assert_eq!(inflate(&bomb, (8 << 20) - 1, share(16 << 10)).unwrap_err().slug(), Slug::TooLarge);
        assert_eq!(inflate(&bomb, 8 << 20, share(1 << 10)).unwrap_err().slug(), Slug::Unavailable);
        let twice = [gzip(b"one"), gzip(b"two")].concat();
        assert_eq!(inflate(&twice, 100, share(0)).unwrap_err().slug(), Slug::MalformedRequest);
        for broken in [&b"\0\0\0\0\0\0"[..], b"", b"abc"] {
            assert_eq!(inflate(broken, 100, share(0)).unwrap_err().slug(), Slug::MalformedRequest);
        }
        // One that lies about its length.
        let mut lies = bomb.clone();
        let place = lies.len() - 4;
        lies.truncate(place);
        lies.extend([8, 0, 0, 0]);
        assert_eq!(inflate(&lies, 8 << 20, share(0)).unwrap_err().slug(), Slug::MalformedRequest);
        let (cut, _) = bomb.split_at(bomb.len() - 9);
        inflate(cut, 16 << 20, share(16 << 10)).unwrap_err();
        // What is inside stays as it is: it is somebody's document.
        let inner = gzip(b"document");
        assert_eq!(inflate(&gzip(&inner), 1_000, share(0)).unwrap().0, inner);
    }

    #[test]
    fn a_body_that_nobody_holds_is_wiped() {
        let mut body = BytesMut::with_capacity(64);
        body.extend_from_slice(b"correct horse battery staple");
        assert_eq!(wiped(body.freeze()).unwrap().as_ref(), [0; 28]);
        let shared = Bytes::from(b"correct horse".to_vec());
        assert!(wiped(shared.clone()).is_none());
        assert_eq!(shared, "correct horse");
    }

    #[test]
    fn small_bodies_are_free_and_large_ones_share() {
        let budget = Budget::new("tests", 100 << 10, 0);
        let (mut one, mut two) = (Held(budget.share(None)), Held(budget.share(None)));
        one.grow(130 << 10).unwrap();
        two.grow(64 << 10).unwrap();
        two.grow(100 << 10).unwrap_err();
        two.grow(78 << 10).unwrap();
        drop(one);
        two.grow(100 << 10).unwrap();
    }
}
