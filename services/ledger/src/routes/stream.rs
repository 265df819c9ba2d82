//! New blocks as they become final, as server-sent events. A client is a height and a place: the next event is made from
//! memory when the connection can take it, so nothing queues for a slow one. Places are few; a client that took nothing
//! for a while loses its own to the next that comes.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_ENCODING};
use actix_web::{HttpRequest, HttpResponse, get, web};
use futures_util::Stream;
use hbc_chain::memory::Chain;
use hbc_service::{Problem, Public, peer_address};
use hbc_types::problem::Slug;
use tokio::sync::watch;
use tokio::time::Instant;

use super::App;
use super::explorer::summary;
use super::status::event_view;
use crate::node::Node;

/// Clients at once, and of one address.
const MOST: usize = 256;
const MOST_OF_ONE: usize = 32;
/// A comment is sent when nothing else was for so long.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A client that took nothing for so long gives its place up.
const IDLE: Duration = Duration::from_secs(45);

/// Who is listening.
#[derive(Debug)]
pub struct Audience {
    places: Mutex<Places>,
    closed: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Places {
    next: u64,
    taken: HashMap<u64, (Option<IpAddr>, Instant)>,
}

impl Default for Audience {
    fn default() -> Self {
        Self { places: Mutex::default(), closed: watch::channel(false).0 }
    }
}

impl Audience {
    fn places(&self) -> std::sync::MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends every stream: the server stops.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }

    fn enter(self: &Arc<Self>, address: Option<IpAddr>, now: Instant) -> Result<StreamPlace, Problem> {
        let mut places = self.places();
        places.taken.retain(|_, (_, heard)| now.saturating_duration_since(*heard) < IDLE);
        let same = places.taken.values().filter(|(other, _)| address.is_some() && *other == address).count();
        if same >= MOST_OF_ONE {
            return Err(Problem::new(Slug::TooManyRequests).detail("too many streams of one address"));
        }
        if places.taken.len() >= MOST {
            return Err(Problem::new(Slug::Unavailable).detail("too many streams"));
        }
        let number = places.next;
        places.next = number.wrapping_add(1);
        places.taken.insert(number, (address, now));
        Ok(StreamPlace { number, audience: Arc::clone(self) })
    }
}

/// One client's place.
struct StreamPlace {
    number: u64,
    audience: Arc<Audience>,
}

impl StreamPlace {
    /// Notes that the client takes something; false if the place was given away.
    fn take(&self, now: Instant) -> bool {
        let mut places = self.audience.places();
        let Some((_, heard)) = places.taken.get_mut(&self.number) else { return false };
        *heard = now;
        true
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.audience.places().taken.remove(&self.number);
    }
}

struct Client {
    node: Arc<Node>,
    place: StreamPlace,
    next: u64,
    tip: watch::Receiver<u64>,
    closed: watch::Receiver<bool>,
}

impl Client {
    /// The next event or comment; none when the stream ends.
    async fn next(&mut self) -> Option<String> {
        let abstaining_since = Instant::now();
        loop {
            if *self.closed.borrow() || !self.place.take(Instant::now()) {
                return None;
            }
            if self.next <= *self.tip.borrow_and_update() {
                let events = events_at(&self.node.chain(), self.next)?;
                self.next = self.next.saturating_add(1);
                return Some(events);
            }
            tokio::select! {
                changed = self.tip.changed() => changed.ok()?,
                _ = self.closed.changed() => return None,
                () = tokio::time::sleep_until(abstaining_since + HEARTBEAT) => return Some(": still here\n\n".to_owned()),
            }
        }
    }
}

/// The events of a height: what it made count about nodes, then the block itself, whose id says that all of it was told.
fn events_at(chain: &Chain, height: u64) -> Option<String> {
    let mut text = String::new();
    for told in chain.events().iter().filter(|told| told.took_effect == Some(height)) {
        let data = serde_json::to_string(&event_view(told, height)).ok()?;
        text.push_str(&format!("event: node\ndata: {data}\n\n"));
    }
    let data = serde_json::to_string(&summary(chain, height)?).ok()?;
    text.push_str(&format!("event: block\nid: {height}\ndata: {data}\n\n"));
    Some(text)
}

fn events(client: Client) -> impl Stream<Item = Result<web::Bytes, Infallible>> {
    futures_util::stream::unfold(client, |mut client| async {
        let text = client.next().await?;
        Some((Ok(web::Bytes::from(text)), client))
    })
}

/// Blocks as they become final: `event: block`, `id` the height, `data` a block in a few words; before each, for what it
/// made count about a node, `event: node`, `data` as in `events` of `/v1/status`. With `Last-Event-ID` it begins after that
/// height, otherwise with the tip. Comments in between keep the connection open.
#[utoipa::path(tag = "explorer", operation_id = "stream_blocks", security(()),
    params(("last-event-id" = Option<u64>, Header, description = "The last height that was received")),
    responses(
        (status = 200, description = "Events without an end", body = String, content_type = "text/event-stream"),
        (status = 422),
        (status = 429),
        (status = 503),
    ))]
#[get("/v1/stream")]
pub async fn stream(
    _public: Public,
    request: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let tip = app.node.tip();
    let last = match request.headers().get("last-event-id") {
        None => None,
        Some(value) => {
            let height = value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
            Some(height.ok_or_else(|| Problem::invalid("last-event-id", "must be a height"))?)
        }
    };
    let next = match last {
        Some(height) => height.saturating_add(1),
        None => *tip.borrow(),
    };
    let place = app.audience.enter(peer_address(&request), Instant::now())?;
    let closed = app.audience.closed.subscribe();
    let client = Client { node: app.node.clone(), place, next, tip, closed };
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        // Compressed, events would wait until a buffer is full.
        .insert_header((CONTENT_ENCODING, "identity"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(events(client)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_few_and_one_that_takes_nothing_is_given_away() {
        let (audience, now) = (Arc::new(Audience::default()), Instant::now());
        let address = |n: u8| Some(IpAddr::from([10, 0, 0, n]));
        let mut all: Vec<StreamPlace> =
            (0..MOST_OF_ONE).map(|_| audience.enter(address(1), now).unwrap()).collect();
        assert_eq!(audience.enter(address(1), now).err().unwrap().slug(), Slug::TooManyRequests);
        let others = (2..).flat_map(|n| std::iter::repeat_n(n, MOST_OF_ONE)).take(MOST - MOST_OF_ONE);
        all.extend(others.map(|n| audience.enter(address(n), now).unwrap()));
        assert_eq!(audience.enter(address(200), now).err().unwrap().slug(), Slug::Unavailable);
        let last = all.pop().unwrap();
        drop(last);
        let newcomer = audience.enter(address(200), now).unwrap();
        assert!(newcomer.take(now + IDLE - Duration::from_secs(1)));
        let later = now + IDLE + Duration::from_secs(1);
        // Everybody else took nothing for 46 s.
        let _second = audience.enter(address(201), later).unwrap();
        assert!(newcomer.take(later) && !all[0].take(later));
        assert_eq!(audience.places().taken.len(), 2);
    }
}
