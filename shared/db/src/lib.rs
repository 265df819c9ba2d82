//! Database pools, migrations, the group-commit writer, the outbox and the queue of durable jobs: one SQL text for
//! SQLite and PostgreSQL.
//!
//! Only this crate knows an engine. A service writes static SQL with `$1` placeholders in the portable
//! vocabulary, reads through [`Db::reads`] and changes data only inside [`Db::write`]. What a job of
//! [`Db::write`] did is durable when the call returns `Ok`, and never happened when it returns `Err` (except
//! for [`DbError::CommitUnknown`]).
//!
//! Nothing here may put SQL, values or paths into an error's `Display`: those texts can leave the service.

mod connect;
mod connection;
pub mod disk;
mod error;
pub mod floors;
pub mod follow;
pub mod idempotency;
pub mod jobs;
pub mod journal;
pub mod key_check;
mod lock;
mod migrate;
pub mod outbox;
pub mod row;
mod row_mac;
mod schema;
#[cfg(feature = "testing")]
pub mod testing;
mod writer;

pub use connect::{Connections, Db};
pub use connection::{DbOptions, Engine};
pub use error::DbError;
pub use lock::Lock;
pub use migrate::Migration;
pub use row_mac::{Column, RowMac, RowMacError};
pub use schema::Schema;
/// The connection a job of [`Db::write`] runs its statements on: `sqlx::query(…).execute(&mut *tx)`.
pub use sqlx::AnyConnection as Tx;
pub use sqlx::AnyPool as ReadPool;

/// What a job returns: `Box::pin(async move { … })`.
pub type JobFuture<'c, T, E> = futures_util::future::BoxFuture<'c, Result<T, E>>;
