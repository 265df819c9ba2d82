//! How members talk: one queue and one task per peer, one signed envelope per delivery, the receiver's
//! height as the answer. An envelope is signed over domain, chain, sender, receiver and body; it carries no
//! clock, since stale messages fall by height and round and blocks prove themselves by certificate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use hbc_client::Endpoint;
use hbc_types::{Clock, Digest};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::consensus::texts::{fits, sign};
use crate::consensus::{Member, MemberId};

/// Where envelopes are delivered.
pub const PATH: &str = "/internal/v1/consensus";
/// Kid of the sending member.
pub const MEMBER_HEADER: &str = "hbc-member";
/// Its signature over [`envelope_text`], base64.
pub const SIGNATURE_HEADER: &str = "hbc-member-signature";
/// Largest envelope: a block, its proposal and some votes.
pub const MAX_ENVELOPE_BYTES: usize = 12 << 20;

/// Envelopes that wait for one peer; what does not fit is dropped, the agreement sends again.
const QUEUE: usize = 1_024;
/// Once an envelope is this large it goes out.
const FULL_ENVELOPE_BYTES: usize = 1 << 20;
/// A peer that was not spoken to is asked for its height this often.
const PING: Duration = Duration::from_secs(4);
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

/// What a member answers to an envelope: where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heard {
    /// Height of its tip.
    pub height: u64,
    /// True if its store failed verification.
    pub attacked: bool,
}

/// A peer answered.
#[derive(Clone, Debug)]
pub struct PeerNews {
    /// Which one.
    pub member: MemberId,
    /// What it said.
    pub heard: Heard,
}

/// Another member, as this node reaches it.
#[derive(Debug)]
pub struct Peer {
    /// Its id.
    pub id: MemberId,
    /// Its name in the genesis.
    pub name: String,
    /// Its base address.
    pub url: String,
    /// For fetching blocks.
    pub endpoint: Endpoint,
    queue: mpsc::Sender<Item>,
    reached: AtomicBool,
    attacked: AtomicBool,
    seen_ms: AtomicI64,
}

impl Peer {
    /// Queues something; drops it if the peer does not keep up.
    pub fn tell(&self, item: Item) {
        if self.queue.try_send(item).is_err() {
            tracing::debug!(peer.name = %self.name, "Queue full, message dropped");
        }
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

    /// Notes that it spoke to us.
    pub fn heard_from(&self, now_ms: i64) {
        self.seen_ms.store(now_ms, Ordering::Relaxed);
    }

    /// When it last spoke or answered, Unix milliseconds.
    #[must_use]
    pub fn seen_ms(&self) -> i64 {
        self.seen_ms.load(Ordering::Relaxed)
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

/// Makes a peer and the task that delivers to it.
pub fn connect(
    id: MemberId,
    name: String,
    url: String,
    endpoint: Endpoint,
    sender: Sender,
    news: mpsc::Sender<PeerNews>,
) -> (Arc<Peer>, impl Future<Output = ()> + Send) {
    let (queue, inbox) = mpsc::channel(QUEUE);
    let peer = Arc::new(Peer {
        id,
        name,
        url,
        endpoint,
        queue,
        reached: AtomicBool::new(false),
        attacked: AtomicBool::new(false),
        seen_ms: AtomicI64::new(0),
    });
    let task = deliver(peer.clone(), inbox, sender, news);
    (peer, task)
}

async fn deliver(
    peer: Arc<Peer>,
    mut inbox: mpsc::Receiver<Item>,
    sender: Sender,
    news: mpsc::Sender<PeerNews>,
) {
    let mut pause = FIRST_PAUSE;
    let mut reply_height = 0;
    let mut first_round = true;
    loop {
        let wait = if first_round { Duration::ZERO } else { PING };
        first_round = false;
        let first = match tokio::time::timeout(wait, inbox.recv()).await {
            Ok(Some(item)) => Some(item),
            Ok(None) => return,
            Err(_elapsed) => None,
        };
        let body = gather(first, &mut inbox, reply_height);
        match post(&peer, &sender, body).await {
            Ok(heard) => {
                peer.reached.store(true, Ordering::Relaxed);
                peer.attacked.store(heard.attacked, Ordering::Relaxed);
                peer.heard_from(sender.clock.now().ms());
                reply_height = heard.height;
                pause = FIRST_PAUSE;
                if news.send(PeerNews { member: peer.id, heard }).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                if peer.reached.swap(false, Ordering::Relaxed) {
                    tracing::info!(peer.name = %peer.name, error = %error, "A peer does not answer");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Packs what waits into one envelope; messages about heights that the peer has are left out.
fn gather(first: Option<Item>, inbox: &mut mpsc::Receiver<Item>, peer_height: u64) -> Vec<u8> {
    let mut body = Vec::new();
    let mut next = first;
    while let Some(item) = next {
        if !matches!(&item, Item::Agreement(height, _) if *height <= peer_height) {
            pack(&mut body, &item);
        }
        if body.len() >= FULL_ENVELOPE_BYTES {
            break;
        }
        next = inbox.try_recv().ok();
    }
    body
}

async fn post(peer: &Peer, sender: &Sender, body: Vec<u8>) -> Result<Heard, hbc_client::ClientError> {
    send_envelope(&peer.endpoint, &peer.id, sender, body).await
}

/// Sends one envelope and waits for the answer.
pub async fn send_envelope(
    endpoint: &Endpoint,
    receiver: &MemberId,
    sender: &Sender,
    body: Vec<u8>,
) -> Result<Heard, hbc_client::ClientError> {
    let text = envelope_text(&sender.chain, &sender.me, receiver, &body);
    let signature = STANDARD.encode(sign(&sender.key, &text));
    endpoint
        .post(PATH)
        .deadline(Duration::from_secs(5))
        .header(MEMBER_HEADER, &sender.me.to_string())
        .header(SIGNATURE_HEADER, &signature)
        .body("application/octet-stream", body)
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
