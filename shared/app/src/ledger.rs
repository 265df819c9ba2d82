//! A service's side of the ledger: how far it followed the chain, what it owes, and, in the same transaction, what
//! final and refused transactions mean to it. Only that meaning is the service's own ([`LedgerEvents`]).

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hbc_chain::payload::Payload;
use hbc_client::ledger::{FinalBlock, FinalTransaction, Journal, JournalError};
use hbc_db::journal::to_the_end;
use hbc_db::outbox::Settled;
use hbc_db::{Db, DbError, JobFuture, Lock, Tx};
use hbc_types::outbox::{FollowPosition, OpenTransaction, SubmitOutcome};
use hbc_types::{Clock, Digest, Timestamp};

/// A transaction in a final block. The block's certificate was verified: no single node's word is in this.
#[derive(Clone, Debug)]
pub struct FinalEvent {
    /// The transaction.
    pub transaction: FinalTransaction,
    /// What it was about, where this service sent it and did not know yet that it is final.
    pub own: Option<Settled>,
    /// Height of the block.
    pub height: u64,
    /// Now.
    pub now: Timestamp,
}

/// A transaction of this service's that the ledger excludes for ever.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The transaction.
    pub txid: Digest,
    /// What it was about.
    pub about: Settled,
    /// Slug of the problem.
    pub reason: String,
    /// The final transaction that excludes it, where one does.
    pub excluded_by: Option<Digest>,
    /// Now.
    pub now: Timestamp,
}

/// What transactions of the ledger mean to a service. Everything here runs inside the transaction that moves the
/// position or settles the outbox, and may run again when that transaction fails.
pub trait LedgerEvents: Clone + Send + Sync + 'static {
    /// What can go wrong.
    type Error: std::error::Error + From<DbError> + Send + Sync + 'static;
    /// What applying transactions leaves to be done once they are committed; nothing for most services.
    type Changes: Clone + Default + Send + Sync + 'static;

    /// Whether such a payload can mean anything here; the others are passed over. Whatever this service sends to the
    /// ledger itself must be among them. A match without a wildcard, so that a new kind of payload is thought about.
    fn concerns(&self, payload: &Payload) -> bool;

    /// The locks that applying these final transactions takes.
    fn locks_for(
        &self,
        _transactions: &[FinalTransaction],
    ) -> impl Future<Output = Result<Vec<Lock>, Self::Error>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// The locks that taking note of refusals of these transactions takes.
    fn locks_for_refused(
        &self,
        _txids: &[Digest],
    ) -> impl Future<Output = Result<Vec<Lock>, Self::Error>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// A transaction that concerns this service is final, or one that this program is too old to read.
    fn finalised(
        &self,
        tx: &mut Tx,
        event: &FinalEvent,
        changes: &Self::Changes,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// The ledger excludes one of this service's transactions for ever.
    fn refused(
        &self,
        tx: &mut Tx,
        refusal: &Refusal,
        changes: &Self::Changes,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// What was gathered is committed.
    fn committed(&self, _changes: Self::Changes) -> impl Future<Output = Result<(), Self::Error>> + Send {
        std::future::ready(Ok(()))
    }
}

/// The journal that the ledger's loops work with.
#[derive(Clone)]
pub struct LedgerJournal<E> {
    db: Db,
    clock: Clock,
    chain: Arc<str>,
    events: E,
}

impl<E> std::fmt::Debug for LedgerJournal<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LedgerJournal").field("chain", &self.chain).finish_non_exhaustive()
    }
}

impl<E: LedgerEvents> LedgerJournal<E> {
    /// The journal in `base`'s database; `events` says what transactions mean.
    #[must_use]
    pub fn new(base: &crate::Base, events: E) -> Self {
        let chain = base.chain.to_string().into();
        Self { db: base.db.clone(), clock: base.clock.clone(), chain, events }
    }

    /// Applies a block; says how long each of the service's own transactions in it took to become final.
    async fn take(&self, block: &FinalBlock, position: FollowPosition) -> Result<Vec<Duration>, E::Error> {
        let concerning: Vec<FinalTransaction> = block
            .transactions
            .iter()
            .filter(|found| found.tx.as_ref().is_none_or(|tx| self.events.concerns(tx.payload())))
            .cloned()
            .collect();
        let locks =
            if concerning.is_empty() { Vec::new() } else { self.events.locks_for(&concerning).await? };
        let (this, height, now) = (self.clone(), block.height(), self.clock.now());
        let concerning = Arc::new(concerning);
        self.commit(locks, move |tx, changes| {
            Box::pin(async move {
                let mut settled = Vec::new();
                for transaction in concerning.iter() {
                    let (txid, log_index) = (transaction.txid, transaction.log_index);
                    let own = hbc_db::outbox::finalised(tx, txid, height, log_index, now).await?;
                    settled.extend(own.as_ref().map(|own| now.since(own.enqueued_at)));
                    let event = FinalEvent { transaction: transaction.clone(), own, height, now };
                    this.events.finalised(tx, &event, &changes).await?;
                }
                hbc_db::follow::advance(tx, &this.chain, &position, now).await?;
                Ok(settled)
            })
        })
        .await
    }

    /// Commits what `job` does and then what its changes ask for. A loop that is stopped stops nothing between the two.
    async fn commit<T, F>(&self, locks: Vec<Lock>, job: F) -> Result<T, E::Error>
    where
        F: for<'c> FnOnce(&'c mut Tx, E::Changes) -> JobFuture<'c, T, E::Error> + Clone + Send + 'static,
        T: Send + 'static,
    {
        let this = self.clone();
        to_the_end("commit of final transactions", async move {
            let committed = this.db.write_locked(locks, move |tx| {
                Box::pin(async move {
                    let changes = E::Changes::default();
                    let value = job(tx, changes.clone()).await?;
                    Ok::<_, E::Error>((value, changes))
                })
            });
            let (value, changes) = committed.await?;
            this.events.committed(changes).await?;
            Ok(value)
        })
        .await
    }

    async fn note(&self, outcomes: Vec<SubmitOutcome>) -> Result<(), E::Error> {
        let refusals = refusals(&outcomes);
        let txids: Vec<Digest> = refusals.keys().copied().collect();
        let locks = if txids.is_empty() { Vec::new() } else { self.events.locks_for_refused(&txids).await? };
        let (this, now) = (self.clone(), self.clock.now());
        let (outcomes, refusals) = (Arc::new(outcomes), Arc::new(refusals));
        self.commit(locks, move |tx, changes| {
            Box::pin(async move {
                for (txid, about) in hbc_db::outbox::record(tx, &outcomes, now).await? {
                    let Some((reason, excluded_by)) = refusals.get(&txid).cloned() else { continue };
                    let refusal = Refusal { txid, about, reason, excluded_by, now };
                    this.events.refused(tx, &refusal, &changes).await?;
                }
                Ok(())
            })
        })
        .await
    }
}

/// Why transactions are refused, by txid.
fn refusals(outcomes: &[SubmitOutcome]) -> HashMap<Digest, (String, Option<Digest>)> {
    outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            SubmitOutcome::Refused { txid, reason, excluded_by } => {
                Some((*txid, (reason.clone(), *excluded_by)))
            }
            SubmitOutcome::Submitted { .. } | SubmitOutcome::Postponed { .. } => None,
        })
        .collect()
}

impl<E: LedgerEvents> Journal for LedgerJournal<E> {
    async fn position(&self) -> Result<Option<FollowPosition>, JournalError> {
        Ok(hbc_db::follow::position(self.db.reads(), &self.chain).await?)
    }

    async fn apply(&self, block: &FinalBlock, position: FollowPosition) -> Result<(), JournalError> {
        for took in self.take(block, position).await? {
            metrics::histogram!("hbc_finality_seconds").record(took.as_secs_f64());
        }
        Ok(())
    }

    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<OpenTransaction>, JournalError> {
        Ok(hbc_db::outbox::due(self.db.reads(), now, limit).await?)
    }

    async fn record(&self, outcomes: Vec<SubmitOutcome>) -> Result<(), JournalError> {
        Ok(self.note(outcomes).await?)
    }
}
