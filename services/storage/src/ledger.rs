//! What a final block means to storage's anchors.

use std::time::Duration;

use hbc_app::jobs::enqueue;
use hbc_app::{FinalEvent, LedgerEvents, Refusal};
use hbc_chain::payload::Payload;
use hbc_db::{DbError, Tx};

use crate::app::App;
use crate::jobs::{AnchorWaiting, Report, Unspool};
use crate::store::{self, pool};

/// This service's side of the ledger.
#[derive(Clone, Debug)]
pub struct Events(pub App);

impl LedgerEvents for Events {
    type Error = DbError;
    type Changes = ();

    /// Only storage's own anchors mean something here.
    fn concerns(&self, payload: &Payload) -> bool {
        match payload {
            Payload::Anchor(_) => true,
            Payload::MemberVote(_)
            | Payload::ServiceKey(_)
            | Payload::Staff(_)
            | Payload::Affiliation(_)
            | Payload::Order(_)
            | Payload::ConsentKey(_)
            | Payload::Erase(_)
            | Payload::Grant(_)
            | Payload::Alter(_)
            | Payload::Revoke(_)
            | Payload::Receipts(_)
            | Payload::Release(_)
            | Payload::NodeEvent(_) => false,
        }
    }

    async fn finalised(&self, tx: &mut Tx, event: &FinalEvent, (): &()) -> Result<(), DbError> {
        if event.own.is_none() {
            return Ok(());
        }
        let found = &event.transaction;
        store::finalise(tx, found.txid, event.height, found.log_index, event.now).await?;
        let spooled = event.now.plus(Duration::from_secs(self.0.reconcile.spool_seconds));
        for intent in pool::intents(tx, found.txid).await? {
            enqueue::<Report>(tx, &intent, event.now).await?;
            enqueue::<Unspool>(tx, &intent, spooled).await?;
        }
        Ok(())
    }

    /// Its records stay readable, and say themselves that they cannot be proved.
    async fn refused(&self, tx: &mut Tx, refusal: &Refusal, (): &()) -> Result<(), DbError> {
        tracing::error!(
            alarm = "anchor_refused",
            ledger.txid = %refusal.txid,
            ledger.reason = refusal.reason,
            "The ledger excludes an anchor for ever: its records cannot be proved, or stand alone from now on"
        );
        let intents = pool::intents(tx, refusal.txid).await?;
        if pool::release(tx, refusal.txid, refusal.now).await? {
            for intent in intents {
                enqueue::<AnchorWaiting>(tx, &intent, refusal.now).await?;
            }
            return Ok(());
        }
        store::refuse(tx, refusal.txid, refusal.now).await?;
        let spooled = refusal.now.plus(Duration::from_secs(self.0.reconcile.spool_seconds));
        for intent in intents {
            enqueue::<Unspool>(tx, &intent, spooled).await?;
        }
        Ok(())
    }
}
