//! Storage's side of the ledger: its anchors on their way, and what a final block means to them.

use std::sync::Arc;

use hbc_client::ledger::{FinalBlock, Journal, JournalError};
use hbc_db::DbError;
use hbc_types::Timestamp;
use hbc_types::outbox::{FollowPosition, OpenTransaction, SubmitOutcome};

use crate::app::App;
use crate::store;

/// The journal that the ledger's loops work with.
#[derive(Clone, Debug)]
pub struct Anchors {
    app: App,
}

impl Anchors {
    /// For this service.
    #[must_use]
    pub const fn new(app: App) -> Self {
        Self { app }
    }
}

impl Journal for Anchors {
    async fn position(&self) -> Result<Option<FollowPosition>, JournalError> {
        let chain = self.app.chain.to_string();
        Ok(hbc_db::follow::position(self.app.store.db().reads(), &chain).await?)
    }

    async fn apply(&self, block: &FinalBlock, position: FollowPosition) -> Result<(), JournalError> {
        let (chain, now, height) = (self.app.chain.to_string(), self.app.clock.now(), block.height());
        let transactions: Arc<Vec<_>> =
            Arc::new(block.transactions.iter().map(|found| (found.txid, found.log_index)).collect());
        let own = self
            .app
            .store
            .db()
            .write(move |tx| {
                Box::pin(async move {
                    let mut own = 0_usize;
                    for (txid, log_index) in transactions.iter() {
                        let settled = hbc_db::outbox::finalised(tx, *txid, height, *log_index, now).await?;
                        if settled.is_some() {
                            store::finalise(tx, *txid, height, *log_index, now).await?;
                            own += 1;
                        }
                    }
                    hbc_db::follow::advance(tx, &chain, &position, now).await?;
                    Ok::<usize, DbError>(own)
                })
            })
            .await?;
        if own > 0 {
            self.app.stir.notify_one();
        }
        Ok(())
    }

    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<OpenTransaction>, JournalError> {
        Ok(hbc_db::outbox::due(self.app.store.db().reads(), now, limit).await?)
    }

    async fn record(&self, outcomes: Vec<SubmitOutcome>) -> Result<(), JournalError> {
        let (outcomes, now) = (Arc::new(outcomes), self.app.clock.now());
        let job = self
            .app
            .store
            .db()
            .write(move |tx| Box::pin(async move { hbc_db::outbox::record(tx, &outcomes, now).await }));
        for (txid, about) in job.await? {
            tracing::error!(
                alarm = "anchor_refused",
                ledger.txid = %txid,
                storage.intent = about.reference,
                "The ledger excludes an anchor for ever: its records cannot be proved"
            );
        }
        Ok(())
    }
}
