//! How members talk: two queues per peer, one for consensus and one for transactions; one signed envelope per delivery,
//! the receiver's height as the answer. An envelope is signed over domain, chain, sender, receiver and body; it carries no
//! clock, since stale messages fall by height and round and blocks prove themselves by certificate. [`envelope`] has the
//! form, [`delivery`] the tasks.
//!
//! A peer is a name and an address; whose key it has, and whether it is a member at all, changes with the set.
//! Observers send and get no envelopes: they ask for the status that everybody may read.

mod delivery;
mod envelope;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ed25519_dalek::SigningKey;
use hbc_client::Endpoint;
use hbc_types::{Clock, Digest};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};

use delivery::{Announcer, Delivery, Gossip, Line, keep_up};
pub use envelope::{
    MAX_ENVELOPE_BYTES, MEMBER_HEADER, SIGNATURE_HEADER, Unpacked, envelope_text, is_genuine, pack,
    post_signed, read_as, send_envelope, unpack,
};
use hbc_consensus::MemberId;

/// Things that wait for one peer on one line; what does not fit is dropped, and sent again by whoever wants it known.
const QUEUE: usize = 1_024;
/// Their bytes, and one item more: a member that is slow or silent costs no more than that.
const CONSENSUS_BYTES: usize = 24 << 20;
const GOSSIP_BYTES: usize = 8 << 20;

/// One thing to tell a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A consensus message of a height.
    Consensus(u64, Arc<[u8]>),
    /// Transactions that wait: compact JWS.
    Transactions(Arc<[Arc<[u8]>]>),
}

impl Item {
    /// Bytes that it keeps in memory, roughly.
    fn weight(&self) -> usize {
        match self {
            Self::Consensus(_, bytes) => bytes.len(),
            Self::Transactions(all) => all.iter().map(|bytes| bytes.len()).sum(),
        }
    }
}

/// What a member answers to an envelope: where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Heard {
    /// Height of its tip.
    pub height: u64,
    /// True if its store failed verification.
    pub attacked: bool,
}

/// What a peer's answers bring.
#[derive(Clone, Debug)]
pub enum PeerNews {
    /// Where it stands.
    Stands(Arc<Peer>, Heard),
    /// What members announced to it.
    Addresses(Vec<String>),
}

/// A bounded queue to one peer.
#[derive(Debug)]
struct Lane {
    queue: mpsc::Sender<Item>,
    bytes: AtomicUsize,
    most_bytes: usize,
}

impl Lane {
    fn new(most_bytes: usize) -> (Self, mpsc::Receiver<Item>) {
        let (queue, inbox) = mpsc::channel(QUEUE);
        (Self { queue, bytes: AtomicUsize::new(0), most_bytes }, inbox)
    }

    /// False if it does not fit.
    fn put(&self, item: Item) -> bool {
        let weight = item.weight();
        let before = self.bytes.fetch_add(weight, Ordering::Relaxed);
        let taken = before < self.most_bytes && self.queue.try_send(item).is_ok();
        if !taken {
            self.bytes.fetch_sub(weight, Ordering::Relaxed);
        }
        taken
    }

    fn took(&self, item: &Item) {
        self.bytes.fetch_sub(item.weight(), Ordering::Relaxed);
    }
}

/// Another node, as this one reaches it.
#[derive(Debug)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its base address.
    pub url: String,
    /// For fetching blocks.
    pub endpoint: Endpoint,
    /// Named in the configuration: kept whoever the members are.
    pub configured: bool,
    /// Its id in the present set; none while it is no member.
    membership: Mutex<Option<MemberId>>,
    consensus: Lane,
    gossip: Lane,
    reached: AtomicBool,
    attacked: AtomicBool,
    height: AtomicU64,
    seen_ms: AtomicI64,
    ended: Notify,
}

impl Peer {
    /// Queues something; drops it if the peer does not keep up, or is no member.
    pub fn tell(&self, item: Item) {
        if self.id().is_none() {
            return;
        }
        let lane = match &item {
            Item::Consensus(..) => &self.consensus,
            Item::Transactions(_) => &self.gossip,
        };
        if !lane.put(item) {
            tracing::debug!(peer.name = %self.name, "Queue full, message dropped");
        }
    }

    /// Its id in the present set of members.
    #[must_use]
    pub fn id(&self) -> Option<MemberId> {
        *self.membership.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes its place in a new set of members.
    pub fn set_member(&self, id: Option<MemberId>) {
        *self.membership.lock().unwrap_or_else(PoisonError::into_inner) = id;
    }

    /// True if the last envelope was answered.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    /// True if it says that its store failed verification.
    #[must_use]
    pub fn is_attacked(&self) -> bool {
        self.attacked.load(Ordering::Relaxed)
    }

    /// Height of its tip when it last answered.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.height.load(Ordering::Relaxed)
    }

    /// Notes that it spoke to us.
    pub fn heard_from(&self, now_ms: i64) {
        self.seen_ms.store(now_ms, Ordering::Relaxed);
    }

    /// When it last spoke or answered, Unix milliseconds.
    #[must_use]
    pub fn seen_ms(&self) -> i64 {
        self.seen_ms.load(Ordering::Relaxed)
    }

    /// Ends the task that delivers to it.
    pub fn end(&self) {
        self.ended.notify_one();
    }

    fn stands(&self, heard: &Heard, now_ms: i64) {
        self.reached.store(true, Ordering::Relaxed);
        self.attacked.store(heard.attacked, Ordering::Relaxed);
        self.height.store(heard.height, Ordering::Relaxed);
        self.heard_from(now_ms);
    }
}

/// The other nodes that this one speaks to, by name.
#[derive(Debug, Default)]
pub struct Peers(RwLock<Arc<[Arc<Peer>]>>);

impl Peers {
    /// All of them now.
    #[must_use]
    pub fn all(&self) -> Arc<[Arc<Peer>]> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The one that holds this key in the present set.
    #[must_use]
    pub fn by_id(&self, id: &MemberId) -> Option<Arc<Peer>> {
        self.all().iter().find(|peer| peer.id().as_ref() == Some(id)).cloned()
    }

    /// The one with this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<Arc<Peer>> {
        self.all().iter().find(|peer| peer.name == name).cloned()
    }

    /// Keeps those for which `keep` holds and adds one; the tasks of the others end.
    pub fn change(&self, keep: impl Fn(&Peer) -> bool, added: Option<Arc<Peer>>) {
        let mut list = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let (kept, gone): (Vec<_>, Vec<_>) = list.iter().cloned().partition(|peer| keep(peer));
        gone.iter().for_each(|peer| peer.end());
        *list = kept.into_iter().chain(added).collect();
    }
}

/// Who sends.
#[derive(Clone)]
pub struct Sender {
    /// This node.
    pub me: MemberId,
    /// Its key.
    pub key: SigningKey,
    /// The chain.
    pub chain: Digest,
    /// For noting when peers answered.
    pub clock: Clock,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("me", &self.me).finish_non_exhaustive()
    }
}

/// What this node says of itself to peers: who it is in the present set, and where it can be reached. Clones share it.
#[derive(Clone, Default)]
pub struct This(Arc<RwLock<Speaker>>);

#[derive(Default)]
struct Speaker {
    membership: Option<Arc<Sender>>,
    announcement: Option<Arc<str>>,
}

impl This {
    /// The present membership; none for an observer.
    #[must_use]
    pub fn membership(&self) -> Option<Arc<Sender>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).membership.clone()
    }

    fn announcement(&self) -> Option<Arc<str>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).announcement.clone()
    }

    /// Takes a new membership, and what is announced from it.
    pub fn change(&self, membership: Option<Sender>, announcement: Option<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) =
            Speaker { membership: membership.map(Arc::new), announcement: announcement.map(Arc::from) };
    }
}

/// How to reach a peer.
pub struct Introduction {
    /// Its name.
    pub name: String,
    /// Its base address.
    pub url: String,
    /// The same, to call.
    pub endpoint: Endpoint,
    /// Whether the configuration names it.
    pub configured: bool,
}

/// Makes a peer and the task that delivers to it.
pub fn connect(
    introduction: Introduction,
    this: This,
    clock: Clock,
    news: mpsc::Sender<PeerNews>,
) -> (Arc<Peer>, impl Future<Output = ()> + Send) {
    let Introduction { name, url, endpoint, configured } = introduction;
    let (consensus, messages) = Lane::new(CONSENSUS_BYTES);
    let (gossip, transactions) = Lane::new(GOSSIP_BYTES);
    let peer = Arc::new(Peer {
        name,
        url,
        endpoint,
        configured,
        membership: Mutex::new(None),
        consensus,
        gossip,
        reached: AtomicBool::new(false),
        attacked: AtomicBool::new(false),
        height: AtomicU64::new(0),
        seen_ms: AtomicI64::new(0),
        ended: Notify::new(),
    });
    let answered = Arc::new(Notify::new());
    let line = Line::new(peer.clone(), |peer| &peer.consensus, messages);
    let delivery =
        Delivery { line, this: this.clone(), clock, news: news.clone(), answered: answered.clone() };
    let line = Line::new(peer.clone(), |peer| &peer.gossip, transactions);
    let gossip = Gossip { line, this: this.clone() };
    let announcer = Announcer { peer: peer.clone(), this, news, answered };
    let ended = peer.clone();
    let task = async move {
        tokio::select! {
            () = keep_up("delivery", delivery, Delivery::run) => {}
            () = keep_up("gossip", gossip, Gossip::run) => {}
            () = keep_up("announcements", announcer, Announcer::run) => {}
            () = ended.ended.notified() => {}
        }
    };
    (peer, task)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Arc<Peer> {
        let introduction = Introduction {
            name: "node-2".to_owned(),
            url: "http://127.0.0.1:1".to_owned(),
            endpoint: Endpoint::new("http://127.0.0.1:1").unwrap(),
            configured: true,
        };
        let (news, _heard) = mpsc::channel(1);
        // The task that would deliver is never run, but kept: nothing leaves the queues.
        let (peer, delivery) = connect(introduction, This::default(), Clock::system(), news);
        std::mem::forget(delivery);
        peer.set_member(Some(MemberId([1; 32])));
        peer
    }

    #[tokio::test]
    async fn a_peer_that_never_answers_costs_two_bounded_queues() {
        let large = peer();
        let block: Arc<[u8]> = vec![0; 8 << 20].into();
        (0..1_000).for_each(|height| large.tell(Item::Consensus(height, block.clone())));
        let text: Arc<[u8]> = vec![0; 1 << 20].into();
        (0..1_000).for_each(|_| large.tell(Item::Transactions([text.clone()].into())));
        let bytes = |lane: &Lane| lane.bytes.load(Ordering::Relaxed);
        assert_eq!((bytes(&large.consensus), bytes(&large.gossip)), (24 << 20, 8 << 20));
        let many = peer();
        let vote: Arc<[u8]> = vec![0; 200].into();
        (0..100_000).for_each(|height| many.tell(Item::Consensus(height, vote.clone())));
        assert_eq!(bytes(&many.consensus), QUEUE * 200);
    }

    #[tokio::test]
    async fn transactions_that_nobody_takes_keep_no_vote_out() {
        let peer = peer();
        let text: Arc<[u8]> = vec![0; 500].into();
        (0..100_000).for_each(|_| peer.tell(Item::Transactions([text.clone()].into())));
        peer.tell(Item::Consensus(1, vec![0; 200].into()));
        assert_eq!(peer.consensus.bytes.load(Ordering::Relaxed), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn what_carries_things_is_run_again_after_a_panic_and_not_after_its_end() {
        async fn run(rounds: &mut Arc<AtomicUsize>) {
            assert!(rounds.fetch_add(1, Ordering::Relaxed) > 1, "deliberate");
        }
        let rounds = Arc::new(AtomicUsize::new(0));
        keep_up("sample", rounds.clone(), run).await;
        assert_eq!(rounds.load(Ordering::Relaxed), 3);
    }
}
