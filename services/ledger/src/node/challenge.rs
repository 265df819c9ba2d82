//! Members ask each other, at random times, for a random old block: the digest of a fresh nonce and the row's bytes
//! as they lie on disk, signed. Thirty-two bytes say as much as the row: to answer, a member must have the bytes.
//! A wrong answer is evidence; no answer costs the asker a time-out and means nothing.

use std::sync::Arc;
use std::time::Duration;

use hbc_chain::evidence::{self, Answer, Evidence};
use hbc_client::operations::ledger;
use hbc_types::keys::{PublicKey, SignatureBytes};
use hbc_types::wire::ledger::{Challenge, ChallengeAnswer};
use hbc_types::{Digest, Random};

use super::Node;
use crate::domain::verification::{Fault, Wrong};
use crate::peers::{Peer, post_signed};
use crate::store::StoreError;

/// Runs until the node ends: one challenge after the other, half a period to one and a half apart.
pub async fn run(node: Arc<Node>) {
    let random = Random::system();
    loop {
        let period_ms = u64::try_from(node.challenge_period.as_millis()).unwrap_or(u64::MAX).max(2);
        let pause_ms = (period_ms / 2).saturating_add(draw(&random, period_ms));
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        if node.attack().is_none() {
            node.challenge_somebody(&random).await;
        }
    }
}

/// A number below `limit`, near enough to even.
fn draw(random: &Random, limit: u64) -> u64 {
    u64::from_be_bytes(random.bytes()).checked_rem(limit).unwrap_or(0)
}

impl Node {
    async fn challenge_somebody(self: &Arc<Self>, random: &Random) {
        let peers = self.healthy_peers();
        let index = draw(random, u64::try_from(peers.len()).unwrap_or(1));
        let Some(peer) = usize::try_from(index).ok().and_then(|index| peers.get(index)) else { return };
        // Only what it says itself that it has.
        let top = peer.height().min(self.chain().height());
        let height = draw(random, top.saturating_add(1));
        let nonce = Digest::from_bytes(random.bytes());
        self.challenge(peer, height, nonce).await;
    }

    /// Asks one member for one block, and accuses it if its signed answer is wrong.
    async fn challenge(self: &Arc<Self>, peer: &Arc<Peer>, height: u64, nonce: Digest) {
        let (Some(seat), Some(id)) = (self.seat(), peer.id()) else { return };
        let member = {
            let chain = self.chain();
            chain.members().get(&id).map(|member| PublicKey::from_bytes(member.public_key))
        };
        let Some(public) = member else { return };
        let Ok(body) = serde_json::to_vec(&Challenge { height, nonce }) else { return };
        let path = ledger::answer_challenge().path;
        let answer: ChallengeAnswer =
            match post_signed(&peer.endpoint, &path, &id, &seat, "application/json", body).await {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::debug!(peer.name = %peer.name, error = %error, "A challenge was not answered");
                    return;
                }
            };
        let ChallengeAnswer { answer, signature } = answer;
        let answer = Answer { answer, chain: self.chain_id, height, nonce, public, signature };
        if answer.verify(&self.chain_id).is_err() {
            tracing::warn!(peer.name = %peer.name, "A challenge was answered without the member's signature");
            return;
        }
        // The own row is read only now: what is compared was on both disks at the same time.
        match self.store.block(height).await {
            Ok(Some(own)) if self.is_mine(&own) => {
                if answer.contradicts(&own.header, &own.body) {
                    self.accuse(Evidence::Answer(answer)).await;
                }
            }
            own => self.row_does_not_fit(height, own.map(|_found| ())).await,
        }
    }

    /// Answers a challenge with what lies on disk, read on a fresh connection. A row that is not this chain's block
    /// is answered as it is, and everything is verified at once.
    pub async fn answer(self: &Arc<Self>, challenge: &Challenge) -> Option<ChallengeAnswer> {
        let Challenge { height, nonce } = *challenge;
        let seat = self.seat()?;
        if height > self.chain().height() {
            return None;
        }
        let stored = self.store.block(height).await;
        let answer = match &stored {
            Ok(Some(block)) => evidence::answer(&nonce, &block.header, &block.body),
            Ok(None) => Digest::ZERO,
            Err(error) if error.is_damage() => Digest::ZERO,
            Err(_passing) => return None,
        };
        let fits = matches!(&stored, Ok(Some(block)) if self.is_mine(block));
        if !fits {
            let node = self.clone();
            let found = stored.map(|_found| ());
            tokio::spawn(async move { node.row_does_not_fit(height, found).await });
        }
        let text = Answer::text(&self.chain_id, height, &nonce, &answer);
        Some(ChallengeAnswer { answer, signature: SignatureBytes::sign(&seat.key, &text) })
    }

    /// Verifies everything, since one row is wrong or gone; if that finds nothing, the row stays the fault.
    async fn row_does_not_fit(self: &Arc<Self>, height: u64, found: Result<(), StoreError>) {
        match found {
            Ok(()) => self.suspect(Fault { height, wrong: Wrong::Hash }).await,
            Err(error) => {
                let _marked_if_damaged = self.reading_failed(height, error).await;
            }
        }
    }
}
