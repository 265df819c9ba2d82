//! Bearing witness against a member: what this node caught it at becomes a document and a `node.event`; what
//! another member tells on the chain is fetched from it, checked, and told as well. It acts once more than a
//! third of the members said so. Nothing here weighs on votes.

use hbc_client::operations::ledger;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use hbc_chain::evidence::{CHALLENGE_FAILED, EQUIVOCATION, Evidence, MAX_EVIDENCE_BYTES};
use hbc_chain::payload::{NodeEvent, Payload};
use hbc_chain::tx::{self, Tx};
use hbc_types::Digest;
use hbc_types::keys::Kid;
use tokio::sync::oneshot;

use super::Node;
use super::admission::Submission;
use crate::consensus::MemberId;
use crate::domain::events::Told;
use crate::store::StoredEvidence;

/// How often what others told is looked after.
const LOOK: Duration = Duration::from_millis(500);
/// How long a member may take to hand over what it told of.
const FETCH: Duration = Duration::from_secs(5);
/// How often one document is asked for.
const TRIES: u32 = 5;
/// Documents whose tries are counted.
const COUNTED: usize = 1_024;
/// A member that is known to lie is not told of again for so many heights.
const SPARED_HEIGHTS: u64 = 100;

/// Runs until the node ends: one document at a time, and of each teller in turn, so that a liar who tells of thousands
/// costs one fetch and keeps nobody else's from being looked at.
pub async fn run(node: Arc<Node>) {
    let mut turns = Turns::default();
    loop {
        tokio::time::sleep(LOOK).await;
        if node.attack().is_some() {
            continue;
        }
        let Some(told) = turns.next(node.open_accusations()) else { continue };
        if let Some(evidence) = node.obtain(&told).await {
            turns.done(&told);
            if node.keep(&evidence).await {
                node.tell(&evidence).await;
            }
        }
    }
}

/// Whose word was looked at how often.
#[derive(Debug, Default)]
struct Turns {
    tries: HashMap<Digest, u32>,
    tellers: HashMap<Kid, u64>,
}

impl Turns {
    /// What is looked at next: by the teller that had the fewest turns, and of that the oldest.
    fn next(&mut self, open: Vec<Told>) -> Option<Told> {
        let tried = |told: &Told| self.tries.get(&told.event.evidence).copied().unwrap_or_default();
        let turns = |told: &Told| {
            told.voices.iter().map(|teller| self.tellers.get(teller).copied().unwrap_or_default()).min()
        };
        let told = open.into_iter().filter(|told| tried(told) < TRIES).min_by_key(turns)?;
        if self.tries.len() >= COUNTED {
            self.tries.clear();
        }
        *self.tries.entry(told.event.evidence).or_default() += 1;
        for teller in &told.voices {
            *self.tellers.entry(*teller).or_default() += 1;
        }
        Some(told)
    }

    /// Not again.
    fn done(&mut self, told: &Told) {
        self.tries.insert(told.event.evidence, TRIES);
    }
}

impl Node {
    /// What this node caught a member at: kept, and told to all.
    pub(super) async fn accuse(self: &Arc<Self>, evidence: Evidence) {
        let accused = match evidence.verify(&self.chain_id) {
            Ok(accused) => accused,
            Err(error) => {
                tracing::error!(error = %error, "What was caught proves nothing");
                return;
            }
        };
        tracing::error!(
            node.name = %self.name, member.id = %accused.member, block.height = accused.height,
            event = evidence.event(), "ALARM: a member was caught"
        );
        // It has one voice about a member: where that waits for company already, another would only take its place.
        if self.keep(&evidence).await && !self.waits_for_company(&evidence) {
            self.tell(&evidence).await;
        }
    }

    fn waits_for_company(&self, evidence: &Evidence) -> bool {
        let accused = evidence.accused();
        let (Some(seat), Some(name)) = (self.seat(), self.member_name(&accused.member)) else { return false };
        let me = Digest::from_bytes(seat.me.0);
        let chain = self.chain();
        let mut waiting =
            chain.events().iter().filter(|told| told.acted.is_none() && told.event.node == name);
        waiting.any(|told| {
            told.voices.contains(&me) && told.event.height.abs_diff(accused.height) <= SPARED_HEIGHTS
        })
    }

    /// Events of other members' telling whose document this node has not confirmed yet, oldest first. Those that act
    /// already are only kept, so that every member can show them. A voice that waits for company moves only to what was
    /// told before: so all come to say the first that can be shown.
    fn open_accusations(&self) -> Vec<Told> {
        let Some(seat) = self.seat() else { return Vec::new() };
        let me = Digest::from_bytes(seat.me.0);
        let chain = self.chain();
        let events = chain.events();
        let mut said: HashSet<&str> = HashSet::new();
        let open = events.iter().filter(|told| {
            let waits = told.acted.is_none();
            if waits && told.voices.contains(&me) {
                said.insert(&told.event.node);
            }
            !(waits && said.contains(told.event.node.as_str()))
        });
        open.filter(|told| !told.voices.contains(&me) && told.event.node != self.name)
            .filter(|told| [EQUIVOCATION, CHALLENGE_FAILED].contains(&told.event.event.as_str()))
            .filter(|told| {
                let NodeEvent { node, event, height, .. } = &told.event;
                told.acted.is_some() || !events.is_known(node, event, *height, SPARED_HEIGHTS)
            })
            .cloned()
            .collect()
    }

    /// The document of an event, from this node's store or from those who told it, if it proves what they say.
    async fn obtain(&self, told: &Told) -> Option<Evidence> {
        let digest = told.event.evidence;
        if let Ok(Some(document)) = self.store.evidence(&digest).await {
            return self.confirm(told, &document).await;
        }
        for voice in &told.voices {
            let Some(peer) = self.peers.by_id(&MemberId(*voice.as_bytes())) else { continue };
            let call = peer.endpoint.to(ledger::read_evidence(&digest)).once().deadline(FETCH);
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
        let accused = evidence.verify(&self.chain_id).ok()?;
        let name = self.member_name(&accused.member)?;
        let same = (name.as_str(), accused.height, evidence.event())
            == (told.event.node.as_str(), told.event.height, told.event.event.as_str());
        if !same {
            return None;
        }
        if let Evidence::Answer(answer) = &evidence {
            let own = self.store.block(answer.height).await.ok().flatten()?;
            if !self.is_mine(&own) || !answer.contradicts(&own.header, &own.body) {
                return None;
            }
        }
        Some(evidence)
    }

    fn member_name(&self, kid: &Digest) -> Option<String> {
        let chain = self.chain();
        let member = chain.state().members().iter().find(|member| member.kid() == *kid);
        member.map(|member| member.name.clone())
    }

    /// Keeps a document that was verified; false if that fails.
    async fn keep(&self, evidence: &Evidence) -> bool {
        let accused = evidence.accused();
        let Ok(document) = evidence.to_bytes() else { return false };
        let row = StoredEvidence {
            kind: evidence.event().into(),
            member: Some(*accused.member.as_bytes()),
            height: accused.height,
            detail: document,
        };
        let kept = self.store.add_evidence(&row, self.clock.now().ms()).await;
        kept.inspect_err(|error| tracing::error!(error = %error, "Evidence could not be stored")).is_ok()
    }

    /// Gives this node's voice to a document that it keeps, unless such a thing is known of the member.
    async fn tell(self: &Arc<Self>, evidence: &Evidence) {
        let accused = evidence.accused();
        let (Some(name), Ok(document)) = (self.member_name(&accused.member), evidence.to_bytes()) else {
            return;
        };
        if self.chain().events().is_known(&name, evidence.event(), accused.height, SPARED_HEIGHTS) {
            return;
        }
        let event = NodeEvent {
            chain: self.chain_id,
            event: evidence.event().to_owned(),
            evidence: Digest::of(&document),
            height: accused.height,
            iat: self.clock.now().unsigned_ms(),
            node: name,
        };
        let _a_refusal_is_logged = self.say(event).await;
    }

    /// Puts an event on the chain in this node's name; false if it is not taken now.
    pub(super) async fn say(&self, event: NodeEvent) -> bool {
        let Some(seat) = self.seat() else { return false };
        let signed = tx::sign(&seat.key, &Payload::NodeEvent(event)).ok();
        let Some(tx) = signed.and_then(|jws| Tx::parse(jws.as_bytes()).ok()) else { return false };
        let (reply, answer) = oneshot::channel();
        if !self.submit(Submission { txs: vec![Arc::new(tx)], reply }) {
            return false;
        }
        match answer.await.ok().and_then(|mut answers| answers.pop()) {
            Some(Ok(_)) => true,
            Some(Err(error)) => {
                tracing::info!(error = %error, "An event is not taken just now, or was told before");
                false
            }
            None => false,
        }
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
        Told { event, ballot: Digest::of(evidence), voices: vec![Digest::of(teller)], acted: None }
    }

    /// A liar tells a new thing that nobody can show for every look.
    #[test]
    fn tellers_take_turns_whatever_one_of_them_tells() {
        let (mut turns, mut looked) = (Turns::default(), Vec::new());
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
