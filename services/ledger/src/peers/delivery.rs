//! What carries things to one peer: the consensus messages on one line, waiting transactions on another, so that no
//! vote waits behind them, and this node's address beside both.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use hbc_client::operations::ledger;
use hbc_client::{ClientError, Endpoint};
use hbc_types::Clock;
use hbc_types::problem::Slug;
use hbc_types::wire::ledger::{AnnounceAddress, NodeStatus};
use tokio::sync::{Notify, mpsc};

use super::envelope::{pack, send_envelope};
use super::{Heard, Item, Lane, Peer, PeerNews, This};

/// Where addresses are announced.
/// Once an envelope is this large it goes out.
const FULL_ENVELOPE_BYTES: usize = 1 << 20;
/// A peer that was not spoken to is asked for its height this often.
const PING: Duration = Duration::from_secs(4);
/// An observer asks this often, and so is one asked.
const GLANCE: Duration = Duration::from_secs(1);
/// An address that was taken is announced again after this; one that was not, sooner.
const ANNOUNCE_AGAIN: Duration = Duration::from_secs(60);
const ANNOUNCE_SOON: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Runs what carries things to a peer until it ends. If it panics, that is logged and it is run again: what it was about to
/// deliver is sent again by whoever wants it known.
pub(super) async fn keep_up<T>(name: &'static str, mut carrier: T, run: impl AsyncFn(&mut T)) {
    while AssertUnwindSafe(run(&mut carrier)).catch_unwind().await.is_err() {
        tracing::error!(task.name = name, "What carries things to a peer panicked; it is run again");
        tokio::time::sleep(LONGEST_PAUSE).await;
    }
}

/// One line to a peer, at its end.
pub(super) struct Line {
    peer: Arc<Peer>,
    lane: fn(&Peer) -> &Lane,
    inbox: mpsc::Receiver<Item>,
}

impl Line {
    pub(super) const fn new(peer: Arc<Peer>, lane: fn(&Peer) -> &Lane, inbox: mpsc::Receiver<Item>) -> Self {
        Self { peer, lane, inbox }
    }

    /// The next thing; none once the peer is gone.
    async fn next(&mut self) -> Option<Item> {
        let item = self.inbox.recv().await?;
        Some(self.took(item))
    }

    /// Notes that something left the queue.
    fn took(&self, item: Item) -> Item {
        (self.lane)(&self.peer).took(&item);
        item
    }

    /// Packs what waits into one envelope; messages about heights that the peer has are left out.
    fn gather(&mut self, first: Option<Item>) -> Vec<u8> {
        let height = self.peer.height();
        let mut body = Vec::new();
        let mut next = first;
        while let Some(item) = next {
            if !matches!(&item, Item::Consensus(about, _) if *about <= height) {
                pack(&mut body, &item);
            }
            if body.len() >= FULL_ENVELOPE_BYTES {
                break;
            }
            next = self.inbox.try_recv().ok().map(|item| self.took(item));
        }
        body
    }

    fn drop_all(&mut self) {
        while let Ok(item) = self.inbox.try_recv() {
            self.took(item);
        }
    }
}

/// Carries the consensus messages, and asks where the peer stands when there are none.
pub(super) struct Delivery {
    pub(super) line: Line,
    pub(super) this: This,
    pub(super) clock: Clock,
    pub(super) news: mpsc::Sender<PeerNews>,
    /// Told after each answer.
    pub(super) answered: Arc<Notify>,
}

impl Delivery {
    pub(super) async fn run(&mut self) {
        let peer = self.line.peer.clone();
        let mut pause = FIRST_PAUSE;
        let mut wait = Duration::ZERO;
        loop {
            let first = match tokio::time::timeout(wait, self.line.next()).await {
                Ok(Some(item)) => Some(item),
                Ok(None) => return,
                Err(_elapsed) => None,
            };
            match self.speak(first).await {
                Ok(heard) => {
                    peer.stands(&heard, self.clock.now().ms());
                    pause = FIRST_PAUSE;
                    if self.news.send(PeerNews::Stands(peer.clone(), heard)).await.is_err() {
                        return;
                    }
                    self.answered.notify_one();
                }
                Err(error) => {
                    if peer.reached.swap(false, Ordering::Relaxed) {
                        tracing::info!(peer.name = %peer.name, error = %error, "A peer does not answer");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            let between_members = self.this.membership().is_some() && peer.id().is_some();
            wait = if between_members { PING } else { GLANCE };
        }
    }

    /// Members send each other what waits; whoever is none is only asked, and only asks, where the other stands. So
    /// does a member whom the other does not know as one: its set may be older or newer.
    async fn speak(&mut self, first: Option<Item>) -> Result<Heard, ClientError> {
        let peer = self.line.peer.clone();
        let (Some(membership), Some(id)) = (self.this.membership(), peer.id()) else {
            self.line.drop_all();
            return glance(&peer.endpoint).await;
        };
        let body = self.line.gather(first);
        match send_envelope(&peer.endpoint, &id, &membership, body).await {
            Err(error) if error.slug() == Some(Slug::Unauthenticated) => glance(&peer.endpoint).await,
            outcome => outcome,
        }
    }
}

/// Carries transactions that wait. What cannot be delivered is dropped: whoever promised it tells again.
pub(super) struct Gossip {
    pub(super) line: Line,
    pub(super) this: This,
}

impl Gossip {
    pub(super) async fn run(&mut self) {
        let peer = self.line.peer.clone();
        let mut pause = FIRST_PAUSE;
        while let Some(first) = self.line.next().await {
            let (Some(membership), Some(id)) = (self.this.membership(), peer.id()) else {
                self.line.drop_all();
                continue;
            };
            let body = self.line.gather(Some(first));
            match send_envelope(&peer.endpoint, &id, &membership, body).await {
                Ok(_heard) => pause = FIRST_PAUSE,
                Err(error) => {
                    tracing::debug!(peer.name = %peer.name, error = %error, "Transactions were not taken");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

/// Says where this node can be reached, when that is due, and learns the same of others.
pub(super) struct Announcer {
    pub(super) peer: Arc<Peer>,
    pub(super) this: This,
    pub(super) news: mpsc::Sender<PeerNews>,
    /// Told when the peer answered.
    pub(super) answered: Arc<Notify>,
}

impl Announcer {
    pub(super) async fn run(&mut self) {
        let mut announced: Option<(Arc<str>, Instant)> = None;
        loop {
            self.answered.notified().await;
            let Some(announcement) = self.this.announcement() else { continue };
            let done = |(before, due): &(Arc<str>, Instant)| *before == announcement && Instant::now() < *due;
            if announced.as_ref().is_some_and(done) {
                continue;
            }
            let again = self.announce(&announcement).await;
            announced = Some((announcement, Instant::now() + again));
        }
    }

    /// Answers after what time to announce again.
    async fn announce(&self, announcement: &str) -> Duration {
        let body = AnnounceAddress { announcement: announcement.to_owned() };
        let call = self
            .peer
            .endpoint
            .to(ledger::announce_address())
            .json(&body)
            .once()
            .deadline(Duration::from_secs(5));
        match call.fetch().await {
            Ok(view) => {
                let _loop_ended = self.news.send(PeerNews::Addresses(view.announcements)).await;
                ANNOUNCE_AGAIN
            }
            // Nobody voted for this node yet, or the peer is behind.
            Err(_refused_or_gone) => ANNOUNCE_SOON,
        }
    }
}

/// Where a node stands, as it tells anybody.
async fn glance(endpoint: &Endpoint) -> Result<Heard, ClientError> {
    let call = endpoint.to(ledger::read_status()).once().deadline(Duration::from_secs(5));
    let status: NodeStatus = call.fetch().await?;
    Ok(Heard { height: status.height, attacked: status.first_bad_height.is_some() })
}
