//! The ledger as its users see it: [`LedgerClient`] talks to the nodes, [`Follower`] follows the certified chain and
//! hands final blocks to the service's [`Journal`], [`OutboxDriver`] brings the service's transactions to the nodes
//! until the follower sees them final.
//!
//! A single node's word counts for nothing here. Blocks count by their certificate, promises by their signature,
//! refusals when more than a third of the members say so.

mod chain_view;
mod finality;
mod follower;
mod journal;
mod nodes;
mod outbox;

pub use chain_view::{ChainError, ChainView, FinalBlock, FinalTransaction};
pub use finality::{Finality, Health, Settlement};
pub use follower::Follower;
pub use journal::{Journal, JournalError};
pub use nodes::LedgerClient;
pub use outbox::OutboxDriver;
