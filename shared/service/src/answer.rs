//! Answers on their way. A large one goes out in slices, as fast as its reader takes them, and counts among what the server
//! holds until the last one is gone; one that nobody reads is given up.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use actix_web::HttpMessage;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Extensions, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;
use actix_web::rt::net::TcpStream;
use actix_web::web::{self, Bytes};
use hbc_types::problem::Slug;
use rustix::net::sockopt::set_tcp_user_timeout;

use crate::budget::{Budget, Share};
use crate::service_assertion::VerifiedService;
use crate::{Problem, peer_address};

/// Answers up to this many bytes are not counted.
const FREE: usize = 64 << 10;
/// What goes out at once.
const SLICE: usize = 64 << 10;
/// How fast a reader must be once its answer has begun, in bytes a second, beside a minute for the way.
const SLOWEST: u64 = 64 << 10;

/// What the answers of one server may hold together, as application data.
#[derive(Clone, Debug)]
pub(crate) struct Answers(pub(crate) Budget);

/// A connection whose other side acknowledges nothing, or takes nothing, for so long is closed (`TCP_USER_TIMEOUT`; Linux
/// counts a closed window too).
pub(crate) fn give_up_after(time: Duration) -> impl Fn(&dyn std::any::Any, &mut Extensions) + Send + Sync {
    let milliseconds = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    move |connection, _extensions| {
        if let Some(stream) = connection.downcast_ref::<TcpStream>()
            && let Err(error) = set_tcp_user_timeout(stream, milliseconds)
        {
            tracing::warn!(error = %error, "A connection has no limit on how long it may stand still");
        }
    }
}

/// The middleware nearest to the routes: what they answer becomes a [`Paced`] body.
pub(crate) async fn hold<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let answers = request.app_data::<web::Data<Answers>>().cloned();
    let address = peer_address(request.request());
    // What was done is answered, and so are neighbours: they read.
    let refusable =
        request.method() == Method::GET && request.extensions().get::<VerifiedService>().is_none();
    let response = next.call(request).await?.map_into_boxed_body();
    let large = |size| matches!(size, BodySize::Sized(bytes) if bytes > FREE as u64);
    let Some(answers) = answers.filter(|_| large(response.response().body().size())) else {
        return Ok(response);
    };
    let mut share = answers.0.share(address);
    let (request, answer) = response.into_parts();
    let (answer, body) = answer.into_parts();
    let BodySize::Sized(length) = body.size() else { return Err(Problem::new(Slug::Internal).into()) };
    // One that is larger than all that an address may hold counts as that: "later" would be a lie.
    let counted = usize::try_from(length).unwrap_or(usize::MAX).min(answers.0.each());
    if share.grow(counted).is_err() && refusable {
        let busy = Problem::new(Slug::Unavailable).detail("too many large answers wait to be read");
        return Err(busy.retry_after(Duration::from_secs(2)).into());
    }
    let (ready, stream) = match body.try_into_bytes() {
        Ok(bytes) => (bytes, None),
        Err(stream) => (Bytes::new(), Some(stream)),
    };
    let until = Instant::now() + Duration::from_secs(60 + length / SLOWEST);
    let paced = Paced { ready, stream, length, until, _share: share };
    Ok(ServiceResponse::new(request, answer.set_body(BoxBody::new(paced))))
}

/// A body in slices. It holds its share while any of it is here.
struct Paced {
    ready: Bytes,
    /// Where more comes from.
    stream: Option<BoxBody>,
    length: u64,
    until: Instant,
    _share: Share,
}

impl MessageBody for Paced {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.length)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if Instant::now() > self.until {
            return Poll::Ready(Some(Err("the answer is read too slowly".into())));
        }
        while self.ready.is_empty()
            && let Some(stream) = &mut self.stream
        {
            match ready!(Pin::new(stream).poll_next(context)) {
                Some(Ok(piece)) => self.ready = piece,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.stream = None,
            }
        }
        let slice = self.ready.len().min(SLICE);
        Poll::Ready((slice > 0).then(|| Ok(self.ready.split_to(slice))))
    }
}
