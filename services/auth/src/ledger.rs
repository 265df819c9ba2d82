//! What final transactions mean to accounts and keys.

use hbc_app::{FinalEvent, LedgerEvents, Refusal};
use hbc_chain::payload::{KeyStatus, Payload};
use hbc_db::Tx;

use crate::app::App;
use crate::domain::floors::Changes;
use crate::error::Error;
use crate::flows::{apps, members, root_claims, staff};

/// This service's side of the ledger.
#[derive(Clone, Debug)]
pub struct Events(pub App);

impl LedgerEvents for Events {
    type Error = Error;
    type Changes = Changes;

    /// Most transactions are about records and consents and mean nothing to auth.
    fn concerns(&self, payload: &Payload) -> bool {
        match payload {
            Payload::Staff(_) | Payload::Affiliation(_) | Payload::ConsentKey(_) | Payload::Order(_) => true,
            Payload::MemberVote(_)
            | Payload::ServiceKey(_)
            | Payload::Anchor(_)
            | Payload::Erase(_)
            | Payload::Grant(_)
            | Payload::Alter(_)
            | Payload::Revoke(_)
            | Payload::Receipts(_)
            | Payload::Release(_)
            | Payload::NodeEvent(_) => false,
        }
    }

    async fn finalised(&self, tx: &mut Tx, event: &FinalEvent, changes: &Changes) -> Result<(), Error> {
        let Some(found) = &event.transaction.tx else { return Ok(()) };
        let rows = &self.0.store.rows.noting(changes.clone());
        match found.payload() {
            Payload::Staff(change) => {
                let (txid, approvals) = (event.transaction.txid, self.0.approvals);
                staff::finalised(rows, tx, txid, change, approvals, event.now).await
            }
            Payload::ConsentKey(change) if change.status == KeyStatus::Revoked => {
                let Some(mut key) = rows.consent_key(&mut *tx, change.key).await? else { return Ok(()) };
                key.revoked_at.get_or_insert(event.now);
                Ok(rows.revoke_consent_key(tx, &key).await?)
            }
            Payload::Affiliation(_) => members::finalised(rows, tx, event.transaction.txid, event.now).await,
            Payload::Order(order) => {
                let (txid, approvals) = (event.transaction.txid, self.0.approvals);
                root_claims::finalised(rows, tx, txid, event.now).await?;
                apps::finalised(rows, tx, txid, order, approvals, event.now).await
            }
            Payload::ConsentKey(_)
            | Payload::MemberVote(_)
            | Payload::ServiceKey(_)
            | Payload::Anchor(_)
            | Payload::Erase(_)
            | Payload::Grant(_)
            | Payload::Alter(_)
            | Payload::Revoke(_)
            | Payload::Receipts(_)
            | Payload::Release(_)
            | Payload::NodeEvent(_) => Ok(()),
        }
    }

    /// A vote that comes after its round took effect is refused too, and does no harm.
    async fn refused(&self, tx: &mut Tx, refusal: &Refusal, changes: &Changes) -> Result<(), Error> {
        tracing::warn!(
            ledger.txid = %refusal.txid,
            ledger.reason = refusal.reason,
            ledger.late = refusal.excluded_by.is_some(),
            "The ledger refuses a transaction of auth"
        );
        members::refused(&self.0.store.rows.noting(changes.clone()), tx, refusal.txid, refusal.now).await
    }

    async fn committed(&self, changes: Changes) -> Result<(), Error> {
        Ok(self.0.store.journal.append(&changes.take()).await?)
    }
}
