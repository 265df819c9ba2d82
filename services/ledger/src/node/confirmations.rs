//! Confirming accusations: what another member tells on the chain is fetched from it, checked, and told by this
//! node as well.
//!
//! Why: decision 0074.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use hbc_chain::events::Told;
use hbc_chain::evidence::{CHALLENGE_FAILED, EQUIVOCATION, Evidence, MAX_EVIDENCE_BYTES};
use hbc_chain::payload::NodeEvent;
use hbc_client::operations::ledger;
use hbc_consensus::MemberId;
use hbc_types::Digest;
use hbc_types::keys::Kid;

use super::accusations::{Accusations, SPARED_HEIGHTS};
use super::guardian::StoreGuard;
use super::membership::Membership;
use super::memory::Memory;
use super::peer_book::PeerBook;

/// How often what others told is looked after.
const LOOK: Duration = Duration::from_millis(500);
/// How long a member may take to hand over what it told of.
const FETCH: Duration = Duration::from_secs(5);
/// How often one document is asked for.
const TRIES: u32 = 5;
/// Documents whose tries are counted.
const COUNTED: usize = 1_024;

/// Looks at what others tell.
#[derive(Clone, Debug)]
pub struct Witness {
    /// What this node says itself.
    pub accusations: Arc<Accusations>,
    /// The chain on which the others tell.
    pub memory: Arc<Memory>,
    /// Who it is itself.
    pub membership: Arc<Membership>,
    /// Who can be asked.
    pub book: Arc<PeerBook>,
    /// The own store, against which answers are held.
    pub guard: Arc<StoreGuard>,
}

impl Witness {
    /// Runs until the node ends: one document at a time, and of each teller in turn, so that a liar who tells of thousands
    /// costs one fetch and keeps nobody else's from being looked at.
    pub async fn run(self) {
        let mut turns = RoundRobin::default();
        loop {
            tokio::time::sleep(LOOK).await;
            if self.guard.is_attacked() {
                continue;
            }
            let Some(told) = turns.next(self.open_accusations()) else { continue };
            if let Some(evidence) = self.obtain(&told).await {
                turns.done(&told);
                if self.accusations.keep(&evidence).await {
                    self.accusations.tell(&evidence).await;
                }
            }
        }
    }

    /// Events of other members' telling whose document this node has not confirmed yet, oldest first. Those that act
    /// already are only kept, so that every member can show them. A pending vote moves only to what was
    /// told before: so all come to say the first that can be shown.
    fn open_accusations(&self) -> Vec<Told> {
        let Some(me) = self.membership.kid() else { return Vec::new() };
        let chain = self.memory.chain();
        let events = chain.events();
        let mut said: HashSet<&str> = HashSet::new();
        let open = events.iter().filter(|told| {
            let waits = told.took_effect.is_none();
            if waits && told.votes.contains(&me) {
                said.insert(&told.event.node);
            }
            !(waits && said.contains(told.event.node.as_str()))
        });
        open.filter(|told| !told.votes.contains(&me) && told.event.node != self.membership.name())
            .filter(|told| [EQUIVOCATION, CHALLENGE_FAILED].contains(&told.event.event.as_str()))
            .filter(|told| {
                let NodeEvent { node, event, height, .. } = &told.event;
                told.took_effect.is_some() || !events.is_known(node, event, *height, SPARED_HEIGHTS)
            })
            .cloned()
            .collect()
    }

    /// The document of an event, from this node's store or from those who told it, if it proves what they say.
    async fn obtain(&self, told: &Told) -> Option<Evidence> {
        let digest = told.event.evidence;
        if let Ok(Some(document)) = self.guard.store().evidence(&digest).await {
            return self.confirm(told, &document).await;
        }
        for vote in &told.votes {
            let Some(peer) = self.book.by_id(&MemberId(*vote.as_bytes())) else { continue };
            let call = peer.endpoint.to(ledger::read_evidence(digest)).once().deadline(FETCH);
            match call.send().await {
                Ok(answer) if answer.body.len() <= MAX_EVIDENCE_BYTES => {
                    if let Some(evidence) = self.confirm(told, &answer.body).await {
                        return Some(evidence);
                    }
                    tracing::warn!(peer.name = %peer.name, "A member told of evidence that proves nothing");
                }
                Ok(_) => tracing::warn!(peer.name = %peer.name, "A member's evidence is too large"),
                Err(error) => {
                    tracing::info!(peer.name = %peer.name, error = %error, "Evidence could not be fetched");
                }
            }
        }
        None
    }

    /// Checks that a document is the one told of, and proves just that.
    async fn confirm(&self, told: &Told, document: &[u8]) -> Option<Evidence> {
        if Digest::of(document) != told.event.evidence {
            return None;
        }
        let evidence = Evidence::parse(document).ok()?;
        let accused = evidence.verify(&self.memory.id()).ok()?;
        let name = self.accusations.member_name(&accused.member)?;
        let same = (name.as_str(), accused.height, evidence.event())
            == (told.event.node.as_str(), told.event.height, told.event.event.as_str());
        if !same {
            return None;
        }
        if let Evidence::Answer(answer) = &evidence {
            let own = self.guard.store().block(answer.height).await.ok().flatten()?;
            if !self.guard.is_mine(&own) || !answer.contradicts(&own.header, &own.body) {
                return None;
            }
        }
        Some(evidence)
    }
}

/// Whose word was looked at how often.
#[derive(Debug, Default)]
struct RoundRobin {
    tries: HashMap<Digest, u32>,
    tellers: HashMap<Kid, u64>,
}

impl RoundRobin {
    /// What is looked at next: by the teller that had the fewest turns, and of that the oldest.
    fn next(&mut self, open: Vec<Told>) -> Option<Told> {
        let tried = |told: &Told| self.tries.get(&told.event.evidence).copied().unwrap_or_default();
        let turns = |told: &Told| {
            told.votes.iter().map(|teller| self.tellers.get(teller).copied().unwrap_or_default()).min()
        };
        let told = open.into_iter().filter(|told| tried(told) < TRIES).min_by_key(turns)?;
        if self.tries.len() >= COUNTED {
            self.tries.clear();
        }
        *self.tries.entry(told.event.evidence).or_default() += 1;
        for teller in &told.votes {
            *self.tellers.entry(*teller).or_default() += 1;
        }
        Some(told)
    }

    /// Not again.
    fn done(&mut self, told: &Told) {
        self.tries.insert(told.event.evidence, TRIES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(node: &str, evidence: &[u8], teller: &[u8]) -> Told {
        let event = NodeEvent {
            chain: Digest::ZERO,
            event: EQUIVOCATION.to_owned(),
            evidence: Digest::of(evidence),
            height: 7,
            iat: 1,
            node: node.to_owned(),
        };
        Told { event, ballot: Digest::of(evidence), votes: vec![Digest::of(teller)], took_effect: None }
    }

    /// A liar tells a new thing that nobody can show for every look.
    #[test]
    fn tellers_take_turns_whatever_one_of_them_tells() {
        let (mut turns, mut looked) = (RoundRobin::default(), Vec::new());
        for look in 0..20_u32 {
            let lie = told("node-1", &look.to_be_bytes(), b"liar");
            let one = told("node-4", b"true", b"honest");
            looked.push(turns.next(vec![lie, one.clone()]).unwrap() == one);
        }
        assert_eq!(looked.iter().take(10).filter(|honest| **honest).count(), 5, "every other look");
        assert_eq!(looked.iter().filter(|honest| **honest).count(), TRIES as usize);
        assert!(turns.next(vec![told("node-4", b"true", b"honest")]).is_none(), "tried often enough");
    }
}
