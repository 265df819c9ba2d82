//! What a service implements so that the loops here can work for it: thin delegation to `hbc_db::{follow, outbox}` plus
//! what a final block means to the service.

use std::future::Future;

use hbc_types::Timestamp;
use hbc_types::outbox::{FollowPosition, OpenTransaction, SubmitOutcome};

use super::FinalBlock;

/// The service's store failed; the loop logs it and tries again.
pub type JournalError = Box<dyn std::error::Error + Send + Sync>;

/// The service's side of the ledger.
pub trait Journal: Clone + Send + Sync + 'static {
    /// How far the service followed the chain; nothing before its first block.
    fn position(&self) -> impl Future<Output = Result<Option<FollowPosition>, JournalError>> + Send;

    /// Applies a final block: its effects, `outbox::finalised` for its transactions and `follow::advance` to
    /// `position`, all in one transaction. It may be called again with a block that failed.
    fn apply(
        &self,
        block: &FinalBlock,
        position: FollowPosition,
    ) -> impl Future<Output = Result<(), JournalError>> + Send;

    /// Up to `limit` transactions that are due, oldest first (`outbox::due`).
    fn due(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<OpenTransaction>, JournalError>> + Send;

    /// Stores what became of attempts to submit (`outbox::record`), and what a refusal means to the service.
    fn record(&self, outcomes: Vec<SubmitOutcome>) -> impl Future<Output = Result<(), JournalError>> + Send;
}
