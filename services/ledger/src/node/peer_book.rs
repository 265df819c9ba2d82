//! The peer book: which nodes this one speaks to, and where they are, as configured and as they announced it themselves.
//! An announcement wins over the configuration; what was taken is kept in a small file.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hbc_chain::genesis::Named;
use hbc_chain::memory::Chain;
use hbc_chain::payload::{NodeEvent, Payload};
use hbc_chain::tx;
use hbc_client::Endpoint;
use hbc_client::operations::ledger;
use hbc_consensus::MemberId;
use hbc_types::problem::Slug;
use hbc_types::wire::ledger::SubmitTransaction;
use hbc_types::{Clock, Digest};
use tokio::sync::mpsc;

use super::addresses::{AddressBook, AddressError, endpoint};
use super::inbound::CONSENSUS;
use super::inlet::{Event, Inlet};
use super::membership::Membership;
use super::memory::Memory;
use super::tasks;
use crate::files::DataFolder;
use crate::peers::{self, Introduction, Item, Peer, PeerNews, Peers};

/// Announcements taken from one answer at most.
const MAX_ANNOUNCEMENTS: usize = 200;
/// How often the others are told of this node before it gives up.
const TELLINGS: u32 = 20;

/// The other nodes, as this one knows them.
#[derive(Debug)]
pub struct PeerBook {
    peers: Peers,
    addresses: Mutex<AddressBook>,
    data: DataFolder,
    membership: Arc<Membership>,
    memory: Arc<Memory>,
    inlet: Arc<Inlet>,
    news: mpsc::Sender<PeerNews>,
    clock: Clock,
}

impl PeerBook {
    /// Knows what was announced before the node stopped, and speaks to nobody yet; and where the peers' answers arrive.
    #[must_use]
    pub fn new(
        data: DataFolder,
        membership: Arc<Membership>,
        memory: Arc<Memory>,
        inlet: Arc<Inlet>,
        clock: Clock,
    ) -> (Arc<Self>, mpsc::Receiver<PeerNews>) {
        let (news, heard) = mpsc::channel(CONSENSUS.queue);
        let addresses = Mutex::new(known(&data, &memory.chain(), &clock));
        let peers = Peers::default();
        (Arc::new(Self { peers, addresses, data, membership, memory, inlet, news, clock }), heard)
    }

    /// Everybody it speaks to now.
    #[must_use]
    pub fn all(&self) -> Arc<[Arc<Peer>]> {
        self.peers.all()
    }

    /// The one that holds this key in the present set.
    #[must_use]
    pub fn by_id(&self, id: &MemberId) -> Option<Arc<Peer>> {
        self.peers.by_id(id)
    }

    /// Members that answer and say that they are well.
    #[must_use]
    pub fn healthy(&self) -> Vec<Arc<Peer>> {
        self.peers.all().iter().filter(|peer| is_well(peer)).cloned().collect()
    }

    /// How many of those were heard of since `oldest_ms`.
    #[must_use]
    pub fn count_healthy_since(&self, oldest_ms: i64) -> usize {
        self.peers.all().iter().filter(|peer| is_well(peer) && peer.seen_ms() >= oldest_ms).count()
    }

    /// Members that answer and say that their store was changed.
    #[must_use]
    pub fn attacked(&self) -> Vec<Arc<Peer>> {
        let attacked = |peer: &&Arc<Peer>| peer.id().is_some() && peer.is_reached() && peer.is_attacked();
        self.peers.all().iter().filter(attacked).cloned().collect()
    }

    /// Nodes that the configuration names.
    #[must_use]
    pub fn count_configured(&self) -> usize {
        self.peers.all().iter().filter(|peer| peer.configured).count()
    }

    /// To every other member.
    pub(super) fn tell_all(&self, item: &Item) {
        for peer in self.peers.all().iter() {
            peer.tell(item.clone());
        }
    }

    /// Gives a signed `node.event` about this node to a peer that takes it.
    pub(super) async fn tell_of_this(&self, event: &str, evidence: Digest, height: u64, at_ms: i64) {
        let event = Payload::NodeEvent(NodeEvent {
            chain: self.memory.id(),
            event: event.to_owned(),
            evidence,
            height,
            iat: u64::try_from(at_ms).unwrap_or(0),
            node: self.membership.name().to_owned(),
        });
        // The event counts by a member's signature only.
        let Some(membership) = self.membership.membership() else { return };
        let Ok(jws) = tx::sign(&membership.key, &event) else { return };
        for attempt in 0..TELLINGS {
            for peer in self.peers.all().iter() {
                if submit(&peer.endpoint, &jws).await {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_secs(u64::from(attempt + 1))).await;
        }
    }

    /// Gives the peers the places that a new set gives them, and ends what is neither configured, nor a member, nor voted for.
    pub(super) fn take_seats(&self, chain: &Chain) {
        let members = chain.state().members();
        let candidates = chain.secondary_index().candidates();
        let wanted = |name: &str| {
            members.iter().any(|member| member.name == name)
                || candidates.iter().any(|candidate| candidate.name == name)
        };
        for peer in self.peers.all().iter() {
            peer.set_member(id_of(&peer.name, members));
        }
        self.peers.change(|peer| peer.configured || wanted(&peer.name), None);
    }

    /// Takes one announcement; the loop meets the node if it is new or moved.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn take_address(&self, text: &str) -> Result<(), AddressError> {
        let parties = parties(&self.memory.chain());
        let mut book = self.addresses();
        let news = book.take(text, &self.memory.id(), &parties, self.clock.now().unsigned_ms())?;
        let Some(name) = news else { return Ok(()) };
        book.keep(&parties);
        if let Err(error) = self.data.write_addresses(&book.texts()) {
            tracing::warn!(error = %error, "Addresses cannot be stored; they will be announced again");
        }
        drop(book);
        if !self.inlet.offer(Event::Address(name)) {
            tracing::debug!("Too much waits; the address is kept with the next announcement");
        }
        Ok(())
    }

    /// Takes what a peer knows of others.
    pub(super) fn take_addresses(&self, sign_bytes: &[String]) {
        for text in sign_bytes.iter().take(MAX_ANNOUNCEMENTS) {
            if let Err(error) = self.take_address(text) {
                tracing::debug!(error = %error, "An announcement is not taken");
            }
        }
    }

    /// The announcements that this node knows.
    #[must_use]
    pub fn announcements(&self) -> Vec<String> {
        self.addresses().texts()
    }

    /// Where a node is, as far as this one knows: itself, as announced, or as configured.
    #[must_use]
    pub fn url_of(&self, name: &str) -> Option<String> {
        if name == self.membership.name() {
            return self.membership.address().map(str::to_owned);
        }
        let announced = self.announced(name);
        announced.or_else(|| self.peers.named(name).map(|peer| peer.url.clone()))
    }

    /// Begins to speak to a node at the address that it announced.
    pub(super) fn meet_announced(&self, name: &str) {
        let Some(url) = self.announced(name) else { return };
        let configured = self.peers.named(name).is_some_and(|peer| peer.configured);
        self.meet(name, url, configured);
    }

    /// Begins to speak to every node whose address is known from before.
    pub(super) fn meet_all_announced(&self) {
        let names = self.addresses().names();
        names.iter().for_each(|name| self.meet_announced(name));
    }

    /// Begins to speak to a node, in place of one of the same name.
    pub(super) fn meet(&self, name: &str, url: String, configured: bool) {
        if name == self.membership.name() || self.peers.named(name).is_some_and(|peer| peer.url == url) {
            return;
        }
        let Some(endpoint) = endpoint(&url) else { return };
        let introduction = Introduction { name: name.to_owned(), url, endpoint, configured };
        let (this, clock, news) = (self.membership.this(), self.clock.clone(), self.news.clone());
        let (peer, task) = peers::connect(introduction, this, clock, news);
        {
            let chain = self.memory.chain();
            peer.set_member(id_of(name, chain.state().members()));
            self.peers.change(|other| other.name != name, Some(Arc::clone(&peer)));
        }
        tasks::once("peer", task);
    }

    fn announced(&self, name: &str) -> Option<String> {
        self.addresses().url(name).map(str::to_owned)
    }

    fn addresses(&self) -> MutexGuard<'_, AddressBook> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_well(peer: &Peer) -> bool {
    peer.id().is_some() && peer.is_reached() && !peer.is_attacked()
}

fn id_of(name: &str, members: &[Named]) -> Option<MemberId> {
    let member = members.iter().find(|member| member.name == name)?;
    Some(MemberId(*member.kid().as_bytes()))
}

/// Everybody whose announcements count: the members, and who is being voted in.
fn parties(chain: &Chain) -> Vec<Named> {
    let mut parties = chain.secondary_index().candidates();
    parties.extend(chain.state().members().iter().cloned());
    parties
}

/// What was announced before the node stopped, as far as it still counts.
fn known(data: &DataFolder, chain: &Chain, clock: &Clock) -> AddressBook {
    let parties = parties(chain);
    let mut book = AddressBook::default();
    for text in data.addresses().unwrap_or_default() {
        if let Err(error) = book.take(&text, &chain.id(), &parties, clock.now().unsigned_ms()) {
            tracing::info!(error = %error, "A stored announcement does not count any more");
        }
    }
    book
}

/// True if the peer took the transaction, or knows that it is told already.
pub(super) async fn submit(endpoint: &Endpoint, jws: &str) -> bool {
    let body = SubmitTransaction { jws: jws.to_owned() };
    match endpoint.to(ledger::submit_transaction()).json(&body).fetch().await {
        Ok(_) => true,
        Err(error) => error.slug() == Some(Slug::Excluded),
    }
}
