//! Members ask each other, at random times, for a random old block: the digest of a fresh nonce and the row's bytes
//! as they lie on disk, signed. Thirty-two bytes say as much as the row: to answer, a member must have the bytes.
//! A wrong answer is evidence; no answer costs the asker a time-out and means nothing.
//!
//! Why: decision 0074.

use std::sync::Arc;
use std::time::Duration;

use hbc_chain::evidence::{self, Answer, Evidence};
use hbc_chain::verification::{Fault, Wrong};
use hbc_client::operations::ledger;
use hbc_consensus::MemberSet;
use hbc_types::keys::{PublicKey, SignatureBytes};
use hbc_types::wire::ledger::{Challenge, ChallengeAnswer};
use hbc_types::{Digest, Random};

use super::accusations::Accusations;
use super::guardian::StoreGuard;
use super::membership::Membership;
use super::memory::Memory;
use super::peer_book::PeerBook;
use super::tasks;
use crate::peers::{Peer, post_signed};
use crate::store::StoreError;

/// Puts challenges to others and answers theirs.
#[derive(Clone, Debug)]
pub struct Challenges {
    /// Which heights there are.
    pub memory: Arc<Memory>,
    /// In whose name.
    pub membership: Arc<Membership>,
    /// Who is challenged.
    pub book: Arc<PeerBook>,
    /// The own rows.
    pub guard: Arc<StoreGuard>,
    /// Where a wrong answer goes.
    pub accusations: Arc<Accusations>,
    /// Mean time between two challenges.
    pub period: Duration,
}

impl Challenges {
    /// Runs until the node ends: one challenge after the other, half a period to one and a half apart.
    pub async fn run(self) {
        let random = Random::system();
        loop {
            let period_ms = u64::try_from(self.period.as_millis()).unwrap_or(u64::MAX).max(2);
            let pause_ms = (period_ms / 2).saturating_add(draw(&random, period_ms));
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            if !self.guard.is_attacked() {
                self.challenge_somebody(&random).await;
            }
        }
    }

    async fn challenge_somebody(&self, random: &Random) {
        let peers = self.book.healthy();
        let index = draw(random, u64::try_from(peers.len()).unwrap_or(1));
        let Some(peer) = usize::try_from(index).ok().and_then(|index| peers.get(index)) else { return };
        // Only what it says itself that it has.
        let top = peer.height().min(self.memory.height());
        let height = draw(random, top.saturating_add(1));
        let nonce = Digest::from_bytes(random.bytes());
        self.challenge(peer, height, nonce).await;
    }

    /// Asks one member for one block, and accuses it if its signed answer is wrong.
    async fn challenge(&self, peer: &Arc<Peer>, height: u64, nonce: Digest) {
        let (Some(membership), Some(id)) = (self.membership.membership(), peer.id()) else { return };
        let member = {
            let chain = self.memory.chain();
            MemberSet::of(chain.state().members())
                .get(&id)
                .map(|member| PublicKey::from_bytes(member.public_key))
        };
        let Some(public) = member else { return };
        let Ok(body) = serde_json::to_vec(&Challenge { height, nonce }) else { return };
        let path = ledger::answer_challenge().path;
        let answer: ChallengeAnswer =
            match post_signed(&peer.endpoint, &path, &id, &membership, "application/json", body).await {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::debug!(peer.name = %peer.name, error = %error, "A challenge was not answered");
                    return;
                }
            };
        let ChallengeAnswer { answer, signature } = answer;
        let answer = Answer { answer, chain: self.memory.id(), height, nonce, public, signature };
        if answer.verify(&self.memory.id()).is_err() {
            tracing::warn!(peer.name = %peer.name, "A challenge was answered without the member's signature");
            return;
        }
        // The own row is read only now: what is compared was on both disks at the same time.
        match self.guard.store().block(height).await {
            Ok(Some(own)) if self.guard.is_mine(&own) => {
                if answer.contradicts(&own.header, &own.body) {
                    self.accusations.accuse(Evidence::Answer(answer)).await;
                }
            }
            own => row_does_not_fit(&self.guard, height, own.map(|_found| ())).await,
        }
    }

    /// Answers a challenge with what lies on disk, read on a fresh connection. A row that is not this chain's block
    /// is answered as it is, and everything is verified at once.
    pub async fn answer(&self, challenge: &Challenge) -> Option<ChallengeAnswer> {
        let Challenge { height, nonce } = *challenge;
        let membership = self.membership.membership()?;
        if height > self.memory.height() {
            return None;
        }
        let stored = self.guard.store().block(height).await;
        let answer = match &stored {
            Ok(Some(block)) => evidence::answer(&nonce, &block.header, &block.body),
            Ok(None) => Digest::ZERO,
            Err(error) if error.is_damage() => Digest::ZERO,
            Err(_passing) => return None,
        };
        let fits = matches!(&stored, Ok(Some(block)) if self.guard.is_mine(block));
        if !fits {
            let (guard, found) = (self.guard.clone(), stored.map(|_found| ()));
            tasks::once(
                "a row that does not fit",
                async move { row_does_not_fit(&guard, height, found).await },
            );
        }
        let text = Answer::text(&self.memory.id(), height, &nonce, &answer);
        Some(ChallengeAnswer { answer, signature: SignatureBytes::sign(&membership.key, &text) })
    }
}

/// A number below `limit`, near enough to even.
fn draw(random: &Random, limit: u64) -> u64 {
    u64::from_be_bytes(random.bytes()).checked_rem(limit).unwrap_or(0)
}

/// Verifies everything, since one row is wrong or gone; if that finds nothing, the row stays the fault.
async fn row_does_not_fit(guard: &StoreGuard, height: u64, found: Result<(), StoreError>) {
    match found {
        Ok(()) => guard.suspect(Fault { height, wrong: Wrong::Hash }).await,
        Err(error) => {
            let _marked_if_damaged = guard.reading_failed(height, error).await;
        }
    }
}
