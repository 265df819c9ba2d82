//! Telling of a peer: a node whose store was changed says so itself, if it can. A member that hears it from the node,
//! and does not find it on the chain a little later, keeps the node's document and says the same in its own name. More
//! than a third of the members make it take effect, so that a node that hears the others and reaches nobody is told of.
//!
//! Why: decision 0096.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hbc_chain::evidence::MAX_EVIDENCE_BYTES;
use hbc_chain::payload::NodeEvent;
use hbc_client::operations::ledger;
use hbc_types::{Clock, Digest};

use super::accusations::Accusations;
use super::guardian::StoreGuard;
use super::membership::Membership;
use super::memory::Memory;
use super::peer_book::PeerBook;
use crate::files::AttackMark;
use crate::peers::Peer;
use crate::store::StoredEvidence;

/// What such a node says of itself, and the kind of its document here.
const ATTACKED: &str = "attacked";
/// How often the peers are looked after.
const LOOK: Duration = Duration::from_secs(1);
/// How long a node may take to say it itself.
const GRACE: Duration = Duration::from_secs(3);
/// A node is told of once within this time, whatever it says.
const AGAIN: Duration = Duration::from_secs(60);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Tells of peers that reach nobody.
#[derive(Clone, Debug)]
pub struct AttackReports {
    /// The chain on which it is told.
    pub memory: Arc<Memory>,
    /// Who tells.
    pub membership: Arc<Membership>,
    /// The peers.
    pub book: Arc<PeerBook>,
    /// Where their documents are kept.
    pub guard: Arc<StoreGuard>,
    /// How it is told.
    pub accusations: Arc<Accusations>,
    /// The time.
    pub clock: Clock,
}

impl AttackReports {
    /// Runs until the node ends.
    pub async fn run(self) {
        let mut heard: HashMap<String, Instant> = HashMap::new();
        let mut told: HashMap<String, Instant> = HashMap::new();
        loop {
            tokio::time::sleep(LOOK).await;
            let attacked = self.attacked_peers();
            heard.retain(|name, _| attacked.iter().any(|peer| peer.name == *name));
            told.retain(|_, at| at.elapsed() < AGAIN);
            for peer in attacked {
                let since = *heard.entry(peer.name.clone()).or_insert_with(Instant::now);
                if since.elapsed() >= GRACE
                    && !told.contains_key(&peer.name)
                    && self.tell_of_peer(&peer).await
                {
                    told.insert(peer.name.clone(), Instant::now());
                }
            }
        }
    }

    /// Members that say that their store was changed. None to a node that is no member, or cannot say anything itself.
    fn attacked_peers(&self) -> Vec<Arc<Peer>> {
        if self.membership.membership().is_none() || self.guard.is_attacked() {
            return Vec::new();
        }
        self.book.attacked()
    }

    /// True once nothing is left to say.
    async fn tell_of_peer(&self, peer: &Arc<Peer>) -> bool {
        let status = peer.endpoint.to(ledger::read_status()).once().deadline(ANSWER).fetch().await;
        let digest = status.ok().and_then(|status| status.evidence_digest);
        let Some(digest) = digest else { return false };
        if self.is_told(&peer.name, &digest) {
            return true;
        }
        let Some(mark) = document_of(peer, &digest).await else { return false };
        let evidence = StoredEvidence {
            kind: ATTACKED.into(),
            member: peer.id().map(|id| id.0),
            height: mark.first_bad_height,
            detail: mark.document(),
        };
        if let Err(error) = self.guard.store().add_evidence(&evidence, self.clock.now().ms()).await {
            tracing::error!(error = %error, "Evidence could not be stored");
            return false;
        }
        tracing::warn!(
            node.name = %self.membership.name(), peer.name = %peer.name, block.height = mark.first_bad_height,
            "A member's store was changed and it reaches nobody: it is told of"
        );
        self.accusations
            .say(NodeEvent {
                chain: self.memory.id(),
                event: ATTACKED.to_owned(),
                evidence: digest,
                height: mark.first_bad_height,
                iat: self.clock.now().unsigned_ms(),
                node: peer.name.clone(),
            })
            .await
    }

    /// Whether the chain says it, or this node already said it there.
    fn is_told(&self, name: &str, digest: &Digest) -> bool {
        let me = self.membership.kid();
        let chain = self.memory.chain();
        let told = chain.events().iter().filter(|told| told.event.node == name);
        let mut same = told.filter(|told| told.event.event == ATTACKED && told.event.evidence == *digest);
        same.any(|told| told.took_effect.is_some() || me.is_some_and(|me| told.votes.contains(&me)))
    }
}

/// The document by which a peer says what was found, if it is that.
async fn document_of(peer: &Peer, digest: &Digest) -> Option<AttackMark> {
    let answer = peer.endpoint.to(ledger::read_evidence(digest)).once().deadline(ANSWER).send().await.ok()?;
    if answer.body.len() > MAX_EVIDENCE_BYTES {
        return None;
    }
    let mark: AttackMark = serde_json::from_slice(&answer.body).ok()?;
    (mark.digest() == *digest).then_some(mark)
}
