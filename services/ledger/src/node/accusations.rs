//! Accusations: what this node keeps and says on the chain about other members. A document that was verified is kept,
//! and told to all as a `node.event` in this node's name; of what one member is known for, no more is said for a while.
//! It takes effect once more than a third of the members said so. Nothing here weighs on votes.

use std::sync::Arc;

use hbc_chain::evidence::{DoubleVote, Evidence, Signed};
use hbc_chain::payload::{NodeEvent, Payload};
use hbc_chain::tx::{self, Tx};
use hbc_consensus::{Equivocation, MemberSet};
use hbc_types::keys::{PublicKey, SignatureBytes};
use hbc_types::{Clock, Digest};
use tokio::sync::oneshot;

use super::guardian::StoreGuard;
use super::membership::Membership;
use super::memory::Memory;
use super::pool::{Pool, Submission};
use crate::store::StoredEvidence;

/// A member that is known to lie is not told of again for so many heights.
pub(super) const SPARED_HEIGHTS: u64 = 100;

/// What this node says of other members.
#[derive(Debug)]
pub struct Accusations {
    memory: Arc<Memory>,
    membership: Arc<Membership>,
    guard: Arc<StoreGuard>,
    pool: Arc<Pool>,
    clock: Clock,
}

impl Accusations {
    /// About the members of this chain; kept in this store, and put on the chain by way of this pool.
    #[must_use]
    pub const fn new(
        memory: Arc<Memory>,
        membership: Arc<Membership>,
        guard: Arc<StoreGuard>,
        pool: Arc<Pool>,
        clock: Clock,
    ) -> Self {
        Self { memory, membership, guard, pool, clock }
    }

    /// Two things that a member signed at one height, as consensus saw them.
    pub(super) fn double_vote(&self, seen: &Equivocation) -> Option<Evidence> {
        let member = MemberSet::of(self.memory.chain().state().members()).get(&seen.member).copied()?;
        let signed = |(text, signature): &(Vec<u8>, [u8; 64])| {
            let text = String::from_utf8(text.clone()).ok()?;
            Some(Signed { signature: SignatureBytes::from_bytes(*signature), text })
        };
        let (one, other) = (signed(&seen.first)?, signed(&seen.second)?);
        let public = PublicKey::from_bytes(member.public_key);
        Some(Evidence::DoubleVote(DoubleVote::new(self.memory.id(), public, seen.height, one, other)))
    }

    /// What this node caught a member at: kept, and told to all.
    pub(super) async fn accuse(&self, evidence: Evidence) {
        let accused = match evidence.verify(&self.memory.id()) {
            Ok(accused) => accused,
            Err(error) => {
                tracing::error!(error = %error, "What was caught proves nothing");
                return;
            }
        };
        tracing::error!(
            node.name = %self.membership.name(), member.id = %accused.member, block.height = accused.height,
            event = evidence.event(), "ALARM: a member was caught"
        );
        // It has one vote about a member: where that is pending already, another would only take its place.
        if self.keep(&evidence).await && !self.is_pending(&evidence) {
            self.tell(&evidence).await;
        }
    }

    fn is_pending(&self, evidence: &Evidence) -> bool {
        let accused = evidence.accused();
        let (Some(me), Some(name)) = (self.membership.kid(), self.member_name(&accused.member)) else {
            return false;
        };
        let chain = self.memory.chain();
        let mut pending =
            chain.events().iter().filter(|told| told.took_effect.is_none() && told.event.node == name);
        pending.any(|told| {
            told.votes.contains(&me) && told.event.height.abs_diff(accused.height) <= SPARED_HEIGHTS
        })
    }

    /// The name of the member with this key.
    pub(super) fn member_name(&self, kid: &Digest) -> Option<String> {
        let chain = self.memory.chain();
        let member = chain.state().members().iter().find(|member| member.kid() == *kid);
        member.map(|member| member.name.clone())
    }

    /// Keeps a document that was verified; false if that fails.
    pub(super) async fn keep(&self, evidence: &Evidence) -> bool {
        let accused = evidence.accused();
        let Ok(document) = evidence.to_bytes() else { return false };
        let row = StoredEvidence {
            kind: evidence.event().into(),
            member: Some(*accused.member.as_bytes()),
            height: accused.height,
            detail: document,
        };
        let kept = self.guard.store().add_evidence(&row, self.clock.now().ms()).await;
        kept.inspect_err(|error| tracing::error!(error = %error, "Evidence could not be stored")).is_ok()
    }

    /// Gives this node's vote to a document that it keeps, unless such a thing is known of the member.
    pub(super) async fn tell(&self, evidence: &Evidence) {
        let accused = evidence.accused();
        let (Some(name), Ok(document)) = (self.member_name(&accused.member), evidence.to_bytes()) else {
            return;
        };
        if self.memory.chain().events().is_known(&name, evidence.event(), accused.height, SPARED_HEIGHTS) {
            return;
        }
        let event = NodeEvent {
            chain: self.memory.id(),
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
        let Some(membership) = self.membership.membership() else { return false };
        let signed = tx::sign(&membership.key, &Payload::NodeEvent(event)).ok();
        let Some(tx) = signed.and_then(|jws| Tx::parse(jws.as_bytes()).ok()) else { return false };
        let (reply, answer) = oneshot::channel();
        if !self.pool.submit(Submission { txs: vec![Arc::new(tx)], reply }) {
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
