//! What final transactions mean to accounts and keys.

use std::sync::{Arc, Mutex, PoisonError};

use hbc_app::{FinalEvent, LedgerEvents, Refusal};
use hbc_chain::payload::{KeyStatus, Payload};
use hbc_db::Tx;
use hbc_db::floors::Rereading;

use crate::app::App;
use crate::domain::floors::Changes;
use crate::error::Error;
use crate::flows::{members, staff};

/// This service's side of the ledger.
#[derive(Clone, Debug)]
pub struct Events {
    app: App,
    rereading: Arc<Mutex<Rereading>>,
}

impl Events {
    /// Those of this service.
    #[must_use]
    pub fn of(app: App) -> Self {
        Self { app, rereading: Arc::default() }
    }
}

impl LedgerEvents for Events {
    type Error = Error;
    type Changes = Changes;

    /// Most transactions are about records and consents and mean nothing to auth.
    fn concerns(&self, payload: &Payload) -> bool {
        match payload {
            Payload::Staff(_) | Payload::Affiliation(_) | Payload::ConsentKey(_) => true,
            Payload::MemberVote(_)
            | Payload::Order(_)
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
        let applied = self.apply(tx, event, changes).await;
        self.passing_over_tampered(applied)
    }

    /// A vote that comes after its round took effect is refused too, and does no harm.
    async fn refused(&self, tx: &mut Tx, refusal: &Refusal, changes: &Changes) -> Result<(), Error> {
        tracing::warn!(
            ledger.txid = %refusal.txid,
            ledger.reason = refusal.reason,
            ledger.late = refusal.excluded_by.is_some(),
            "The ledger refuses a transaction of auth"
        );
        let rows = self.app.store.rows.noting(changes.clone());
        self.passing_over_tampered(members::refused(&rows, tx, refusal.txid, refusal.now).await)
    }

    async fn committed(&self, changes: Changes) -> Result<(), Error> {
        Ok(self.app.store.journal.append(&changes.take()).await?)
    }
}

impl Events {
    async fn apply(&self, tx: &mut Tx, event: &FinalEvent, changes: &Changes) -> Result<(), Error> {
        let Some(found) = &event.transaction.tx else { return Ok(()) };
        let rows = &self.app.store.rows.noting(changes.clone());
        match found.payload() {
            Payload::Staff(change) => {
                let (txid, approvals) = (event.transaction.txid, self.app.approvals);
                staff::finalised(rows, tx, txid, change, approvals, event.now).await
            }
            Payload::ConsentKey(change) if change.status == KeyStatus::Revoked => {
                let Some(mut key) = rows.consent_key(&mut *tx, change.key).await? else { return Ok(()) };
                key.revoked_at = Some(event.now);
                Ok(rows.revoke_consent_key(tx, &key).await?)
            }
            Payload::Affiliation(_) => members::finalised(rows, tx, event.transaction.txid, event.now).await,
            Payload::ConsentKey(_)
            | Payload::MemberVote(_)
            | Payload::Order(_)
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

    /// An account whose row is not what auth wrote is refused everywhere already; the chain goes on for everybody else. A row
    /// that seems older may only have changed after this transaction began: the block is tried again first.
    fn passing_over_tampered(&self, result: Result<(), Error>) -> Result<(), Error> {
        let mut rereading = self.rereading.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Err(Error::SetBack(error)) if rereading.is_called_for(error) => Err(Error::SetBack(error)),
            Err(error @ (Error::Tampered | Error::SetBack(_))) => {
                tracing::error!(
                    alarm = "row_tampered",
                    error = &error as &dyn std::error::Error,
                    "A final transaction about a row that another hand changed is not applied"
                );
                Ok(())
            }
            result => result,
        }
    }
}
