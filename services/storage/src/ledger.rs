//! What a final block means to storage's anchors.

use std::time::Duration;

use hbc_app::jobs::enqueue;
use hbc_app::{FinalEvent, LedgerEvents, Refusal};
use hbc_chain::payload::Payload;
use hbc_db::row::bad;
use hbc_db::{DbError, Tx};
use hbc_types::ids::IntentId;

use crate::app::App;
use crate::jobs::{Report, Unspool};
use crate::store;

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
        let Some(own) = &event.own else { return Ok(()) };
        let found = &event.transaction;
        store::finalise(tx, found.txid, event.height, found.log_index, event.now).await?;
        let intent = IntentId::parse(&own.reference).map_err(|_text| bad("reference"))?;
        enqueue::<Report>(tx, &intent, event.now).await?;
        let spooled = Duration::from_secs(self.0.reconcile.spool_seconds);
        enqueue::<Unspool>(tx, &intent, event.now.plus(spooled)).await
    }

    /// Its records stay readable, and say themselves that they cannot be proved.
    async fn refused(&self, tx: &mut Tx, refusal: &Refusal, (): &()) -> Result<(), DbError> {
        tracing::error!(
            alarm = "anchor_refused",
            ledger.txid = %refusal.txid,
            ledger.reason = refusal.reason,
            storage.intent = refusal.about.reference,
            "The ledger excludes an anchor for ever: its records cannot be proved"
        );
        store::refuse(tx, refusal.txid, refusal.now).await?;
        let intent = IntentId::parse(&refusal.about.reference).map_err(|_text| bad("reference"))?;
        let spooled = Duration::from_secs(self.0.reconcile.spool_seconds);
        enqueue::<Unspool>(tx, &intent, refusal.now.plus(spooled)).await
    }
}
