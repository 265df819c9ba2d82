//! auth's side of the ledger: what it owes, how far it followed, and what final transactions mean to accounts and keys.

use std::sync::Arc;

use hbc_chain::payload::{KeyStatus, Payload};
use hbc_client::ledger::{FinalBlock, Journal, JournalError};
use hbc_db::Tx;
use hbc_types::outbox::{FollowPosition, OpenTransaction, SubmitOutcome};
use hbc_types::{Digest, Timestamp};

use crate::app::App;
use crate::error::Error;
use crate::flows::staff;

/// The journal of this service.
#[derive(Clone, Debug)]
pub struct AuthJournal {
    app: App,
    chain: String,
}

/// One final transaction with what it says.
struct Applied {
    txid: Digest,
    log_index: u64,
    payload: Option<Payload>,
}

impl AuthJournal {
    /// The journal of `app`.
    #[must_use]
    pub fn new(app: App) -> Self {
        let chain = app.chain.to_string();
        Self { app, chain }
    }
}

impl Journal for AuthJournal {
    async fn position(&self) -> Result<Option<FollowPosition>, JournalError> {
        Ok(hbc_db::follow::position(self.app.store.db.reads(), &self.chain).await?)
    }

    async fn apply(&self, block: &FinalBlock, position: FollowPosition) -> Result<(), JournalError> {
        let transactions: Arc<Vec<Applied>> = Arc::new(
            block
                .transactions
                .iter()
                .map(|transaction| Applied {
                    txid: transaction.txid,
                    log_index: transaction.log_index,
                    payload: transaction.tx.as_ref().map(|tx| tx.payload().clone()),
                })
                .collect(),
        );
        let (journal, height, now) = (self.clone(), block.height(), self.app.clock.now());
        self.app
            .store
            .db
            .write(move |tx| {
                Box::pin(async move {
                    for transaction in transactions.iter() {
                        let (txid, log_index) = (transaction.txid, transaction.log_index);
                        hbc_db::outbox::finalised(tx, txid, height, log_index, now).await?;
                        if let Some(payload) = &transaction.payload {
                            journal.take(tx, txid, payload, now).await?;
                        }
                    }
                    Ok::<_, Error>(hbc_db::follow::advance(tx, &journal.chain, &position, now).await?)
                })
            })
            .await?;
        Ok(())
    }

    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<OpenTransaction>, JournalError> {
        Ok(hbc_db::outbox::due(self.app.store.db.reads(), now, limit).await?)
    }

    async fn record(&self, outcomes: Vec<SubmitOutcome>) -> Result<(), JournalError> {
        for outcome in &outcomes {
            if let SubmitOutcome::Refused { txid, reason, excluded_by } = outcome {
                // A voice that comes after its round acted is refused too, and does no harm.
                let late = excluded_by.is_some();
                tracing::warn!(ledger.txid = %txid, ledger.reason = %reason, ledger.late = late,
                    "The ledger refuses a transaction of auth");
            }
        }
        let now = self.app.clock.now();
        let outcomes = Arc::new(outcomes);
        self.app
            .store
            .db
            .write(move |tx| {
                Box::pin(async move {
                    hbc_db::outbox::record(tx, &outcomes, now).await?;
                    Ok::<_, Error>(())
                })
            })
            .await?;
        Ok(())
    }
}

impl AuthJournal {
    /// What a final transaction means here. Most are about records and consents and mean nothing to auth.
    async fn take(&self, tx: &mut Tx, txid: Digest, payload: &Payload, now: Timestamp) -> Result<(), Error> {
        let rows = &self.app.store.rows;
        match payload {
            Payload::Staff(change) => staff::finalised(rows, tx, txid, change, self.app.approvals, now).await,
            Payload::ConsentKey(change) if change.status == KeyStatus::Revoked => {
                let Some(mut key) = rows.consent_key(&mut *tx, change.key).await? else { return Ok(()) };
                key.revoked_at = Some(now);
                Ok(rows.revoke_consent_key(tx, &key).await?)
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
}
