//! How members talk: one queue and one task per peer, one signed envelope per delivery, the receiver's
//! height as the answer. An envelope is signed over domain, chain, sender, receiver and body; it carries no
//! clock, since stale messages fall by height and round and blocks prove themselves by certificate.
//!
//! A peer is a name and an address; whose key it has, and whether it is a member at all, changes with the set.
//! Observers send and get no envelopes: they ask for the status that everybody may read.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use hbc_client::{ClientError, Endpoint};
use hbc_types::problem::Slug;
use hbc_types::wire::ledger::{AddressesView, AnnounceAddress, NodeStatus};
use hbc_types::{Clock, Digest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};

use crate::consensus::texts::{fits, sign};
use crate::consensus::{Member, MemberId};

/// Where envelopes are delivered.
pub const PATH: &str = "/internal/v1/consensus";
/// Where addresses are announced.
pub const ADDRESSES_PATH: &str = "/internal/v1/addresses";
/// Kid of the sending member.
pub const MEMBER_HEADER: &str = "hbc-member";
/// Its signature over [`envelope_text`], base64.
pub const SIGNATURE_HEADER: &str = "hbc-member-signature";
/// Largest envelope: a block, its proposal and some votes.
pub const MAX_ENVELOPE_BYTES: usize = 12 << 20;

/// Envelopes that wait for one peer; what does not fit is dropped, the agreement sends again.
const QUEUE: usize = 1_024;
/// Their bytes, and one item more: a member that is slow or silent costs no more than that.
const QUEUE_BYTES: usize = 32 << 20;
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

/// One thing to tell a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An agreement message of a height.
    Agreement(u64, Arc<[u8]>),
    /// Transactions that wait: compact JWS.
    Transactions(Arc<[Arc<[u8]>]>),
}

impl Item {
    /// Bytes that it keeps in memory, roughly.
    fn weight(&self) -> usize {
        match self {
            Self::Agreement(_, bytes) => bytes.len(),
            Self::Transactions(all) => all.iter().map(|bytes| bytes.len()).sum(),
        }
    }
}

/// What a member answers to an envelope: where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    seat: Mutex<Option<MemberId>>,
    queue: mpsc::Sender<Item>,
    queued_bytes: AtomicUsize,
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
        let weight = item.weight();
        let before = self.queued_bytes.fetch_add(weight, Ordering::Relaxed);
        if before >= QUEUE_BYTES || self.queue.try_send(item).is_err() {
            self.queued_bytes.fetch_sub(weight, Ordering::Relaxed);
            tracing::debug!(peer.name = %self.name, "Queue full, message dropped");
        }
    }

    /// Notes that something left the queue.
    fn took(&self, item: Item) -> Item {
        self.queued_bytes.fetch_sub(item.weight(), Ordering::Relaxed);
        item
    }

    /// Its id in the present set of members.
    #[must_use]
    pub fn id(&self) -> Option<MemberId> {
        *self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes its place in a new set of members.
    pub fn sits(&self, id: Option<MemberId>) {
        *self.seat.lock().unwrap_or_else(PoisonError::into_inner) = id;
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

/// What this node says of itself to peers: who it is in the present set, and where it can be reached. Clones share it.
#[derive(Clone, Default)]
pub struct This(Arc<RwLock<Speaker>>);

#[derive(Default)]
struct Speaker {
    seat: Option<Arc<Sender>>,
    announcement: Option<Arc<str>>,
}

impl This {
    /// The present seat; none for an observer.
    #[must_use]
    pub fn seat(&self) -> Option<Arc<Sender>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).seat.clone()
    }

    fn announcement(&self) -> Option<Arc<str>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).announcement.clone()
    }

    /// Takes a new seat, and what is announced from it.
    pub fn change(&self, seat: Option<Sender>, announcement: Option<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) =
            Speaker { seat: seat.map(Arc::new), announcement: announcement.map(Arc::from) };
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
    let (queue, inbox) = mpsc::channel(QUEUE);
    let peer = Arc::new(Peer {
        name,
        url,
        endpoint,
        configured,
        seat: Mutex::new(None),
        queue,
        queued_bytes: AtomicUsize::new(0),
        reached: AtomicBool::new(false),
        attacked: AtomicBool::new(false),
        height: AtomicU64::new(0),
        seen_ms: AtomicI64::new(0),
        ended: Notify::new(),
    });
    let delivery =
        Delivery { peer: peer.clone(), this, clock, news, inbox, announced: None, reply_height: 0 };
    let task = async move {
        let peer = delivery.peer.clone();
        tokio::select! {
            () = delivery.run() => {}
            () = peer.ended.notified() => {}
        }
    };
    (peer, task)
}

/// The task of one peer.
struct Delivery {
    peer: Arc<Peer>,
    this: This,
    clock: Clock,
    news: mpsc::Sender<PeerNews>,
    inbox: mpsc::Receiver<Item>,
    /// What was announced last, and when it is due again.
    announced: Option<(Arc<str>, Instant)>,
    reply_height: u64,
}

impl Delivery {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        let mut wait = Duration::ZERO;
        loop {
            let first = match tokio::time::timeout(wait, self.inbox.recv()).await {
                Ok(Some(item)) => Some(self.peer.took(item)),
                Ok(None) => return,
                Err(_elapsed) => None,
            };
            match self.speak(first).await {
                Ok(heard) => {
                    self.peer.stands(&heard, self.clock.now().ms());
                    self.reply_height = heard.height;
                    pause = FIRST_PAUSE;
                    if self.news.send(PeerNews::Stands(self.peer.clone(), heard)).await.is_err() {
                        return;
                    }
                    self.announce().await;
                }
                Err(error) => {
                    if self.peer.reached.swap(false, Ordering::Relaxed) {
                        tracing::info!(peer.name = %self.peer.name, error = %error, "A peer does not answer");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            let between_members = self.this.seat().is_some() && self.peer.id().is_some();
            wait = if between_members { PING } else { GLANCE };
        }
    }

    /// Members send each other what waits; whoever is none is only asked, and only asks, where the other stands. So
    /// does a member whom the other does not know as one: its set may be older or newer.
    async fn speak(&mut self, first: Option<Item>) -> Result<Heard, ClientError> {
        let (Some(seat), Some(id)) = (self.this.seat(), self.peer.id()) else {
            while let Ok(item) = self.inbox.try_recv() {
                self.peer.took(item);
            }
            return glance(&self.peer.endpoint).await;
        };
        let body = gather(&self.peer, first, &mut self.inbox, self.reply_height);
        match send_envelope(&self.peer.endpoint, &id, &seat, body).await {
            Err(error) if error.slug() == Some(Slug::Unauthenticated) => glance(&self.peer.endpoint).await,
            outcome => outcome,
        }
    }

    /// Says where this node can be reached, when that is due, and learns the same of others.
    async fn announce(&mut self) {
        let Some(announcement) = self.this.announcement() else { return };
        let due = match &self.announced {
            Some((before, due)) => *before != announcement || Instant::now() >= *due,
            None => true,
        };
        if !due {
            return;
        }
        let body = AnnounceAddress { announcement: announcement.to_string() };
        let call =
            self.peer.endpoint.post(ADDRESSES_PATH).json(&body).once().deadline(Duration::from_secs(5));
        let next = match call.fetch::<AddressesView>().await {
            Ok(view) => {
                let _loop_ended = self.news.send(PeerNews::Addresses(view.announcements)).await;
                ANNOUNCE_AGAIN
            }
            // Nobody voted for this node yet, or the peer is behind.
            Err(_refused_or_gone) => ANNOUNCE_SOON,
        };
        self.announced = Some((announcement, Instant::now() + next));
    }
}

/// Where a node stands, as it tells anybody.
async fn glance(endpoint: &Endpoint) -> Result<Heard, ClientError> {
    let call = endpoint.get("/v1/status").once().deadline(Duration::from_secs(5));
    let status: NodeStatus = call.fetch().await?;
    Ok(Heard { height: status.height, attacked: status.first_bad_height.is_some() })
}

/// Packs what waits into one envelope; messages about heights that the peer has are left out.
fn gather(peer: &Peer, first: Option<Item>, inbox: &mut mpsc::Receiver<Item>, peer_height: u64) -> Vec<u8> {
    let mut body = Vec::new();
    let mut next = first;
    while let Some(item) = next {
        if !matches!(&item, Item::Agreement(height, _) if *height <= peer_height) {
            pack(&mut body, &item);
        }
        if body.len() >= FULL_ENVELOPE_BYTES {
            break;
        }
        next = inbox.try_recv().ok().map(|item| peer.took(item));
    }
    body
}

/// Sends one envelope and waits for the answer.
pub async fn send_envelope(
    endpoint: &Endpoint,
    receiver: &MemberId,
    sender: &Sender,
    body: Vec<u8>,
) -> Result<Heard, ClientError> {
    post_signed(endpoint, PATH, receiver, sender, "application/octet-stream", body).await
}

/// Posts a body in the member's name and waits for the answer.
pub async fn post_signed<T: DeserializeOwned>(
    endpoint: &Endpoint,
    path: &str,
    receiver: &MemberId,
    sender: &Sender,
    media_type: &str,
    body: Vec<u8>,
) -> Result<T, ClientError> {
    let text = envelope_text(&sender.chain, &sender.me, receiver, &body);
    let signature = STANDARD.encode(sign(&sender.key, &text));
    endpoint
        .post(path)
        .deadline(Duration::from_secs(5))
        .header(MEMBER_HEADER, &sender.me.to_string())
        .header(SIGNATURE_HEADER, &signature)
        .body(media_type, body)
        .fetch()
        .await
}

/// What a member signs to vouch for an envelope.
#[must_use]
pub fn envelope_text(chain: &Digest, sender: &MemberId, receiver: &MemberId, body: &[u8]) -> Vec<u8> {
    format!("hbc/member-message/v1\n{chain}\n{sender}\n{receiver}\n{}\n", Digest::of(body)).into_bytes()
}

/// True if `signature` (base64) is `member`'s for this envelope to `receiver`.
#[must_use]
pub fn is_genuine(
    chain: &Digest,
    member: &Member,
    receiver: &MemberId,
    body: &[u8],
    signature: &str,
) -> bool {
    let Ok(Ok(signature)) = STANDARD.decode(signature).map(<[u8; 64]>::try_from) else { return false };
    fits(member, &envelope_text(chain, &member.id, receiver, body), &signature)
}

/// Appends an item: kind u8, length u32, bytes.
pub fn pack(body: &mut Vec<u8>, item: &Item) {
    match item {
        Item::Agreement(_, bytes) => pack_one(body, 1, bytes),
        Item::Transactions(all) => all.iter().for_each(|bytes| pack_one(body, 2, bytes)),
    }
}

fn pack_one(body: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    body.push(kind);
    body.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    body.extend_from_slice(bytes);
}

/// What an envelope holds, as kinds and bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Unpacked<'a> {
    /// An agreement message.
    Agreement(&'a [u8]),
    /// A compact JWS.
    Transaction(&'a [u8]),
}

/// Reads an envelope's body whole, or not at all.
#[must_use]
pub fn unpack(mut body: &[u8]) -> Option<Vec<Unpacked<'_>>> {
    let mut items = Vec::new();
    while let Some((kind, rest)) = body.split_first() {
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (bytes, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        items.push(match kind {
            1 => Unpacked::Agreement(bytes),
            2 => Unpacked::Transaction(bytes),
            _ => return None,
        });
        body = rest;
    }
    Some(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_reads_back_and_a_cut_one_does_not() {
        let mut body = Vec::new();
        pack(&mut body, &Item::Agreement(3, b"vote".as_slice().into()));
        pack(&mut body, &Item::Transactions([Arc::from(b"a.b.c".as_slice())].into()));
        assert_eq!(unpack(&body), Some(vec![Unpacked::Agreement(b"vote"), Unpacked::Transaction(b"a.b.c")]));
        assert_eq!(unpack(&body[..body.len() - 1]), None);
        assert_eq!(unpack(&[9, 0, 0, 0, 0]), None);
    }

    #[tokio::test]
    async fn a_peer_that_never_answers_costs_a_bounded_queue() {
        let introduction = Introduction {
            name: "node-2".to_owned(),
            url: "http://127.0.0.1:1".to_owned(),
            endpoint: Endpoint::new("http://127.0.0.1:1").unwrap(),
            configured: true,
        };
        let (news, _heard) = mpsc::channel(1);
        // The task that would deliver is never run: nothing leaves the queue.
        let (peer, _delivery) = connect(introduction, This::default(), Clock::system(), news);
        peer.sits(Some(MemberId([1; 32])));
        let block: Arc<[u8]> = vec![0; 8 << 20].into();
        (0..1_000).for_each(|height| peer.tell(Item::Agreement(height, block.clone())));
        assert_eq!(peer.queued_bytes.load(Ordering::Relaxed), 32 << 20);
        let vote: Arc<[u8]> = vec![0; 200].into();
        let other = Introduction {
            name: "node-3".to_owned(),
            url: "http://127.0.0.1:1".to_owned(),
            endpoint: Endpoint::new("http://127.0.0.1:1").unwrap(),
            configured: true,
        };
        let (news, _heard) = mpsc::channel(1);
        let (peer, _delivery) = connect(other, This::default(), Clock::system(), news);
        peer.sits(Some(MemberId([2; 32])));
        (0..100_000).for_each(|height| peer.tell(Item::Agreement(height, vote.clone())));
        assert_eq!(peer.queued_bytes.load(Ordering::Relaxed), QUEUE * 200);
    }

    #[test]
    fn an_envelope_for_one_receiver_is_worth_nothing_to_another() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let me = Member::new(key.verifying_key().to_bytes());
        let (chain, to) = (Digest::of(b"chain"), MemberId([1; 32]));
        let signature = STANDARD.encode(sign(&key, &envelope_text(&chain, &me.id, &to, b"body")));
        assert!(is_genuine(&chain, &me, &to, b"body", &signature));
        assert!(!is_genuine(&chain, &me, &MemberId([2; 32]), b"body", &signature));
        assert!(!is_genuine(&chain, &me, &to, b"bodY", &signature));
        assert!(!is_genuine(&Digest::of(b"other"), &me, &to, b"body", &signature));
    }
}
