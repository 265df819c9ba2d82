//! Counters of failed logins and marks of successful ones. Subjects are keyed hashes: no name or address stands here.

use hbc_db::Tx;
use hbc_types::Timestamp;

use super::{Rows, StoreError};
use crate::domain::throttle::{Counter, Scope};
use hbc_db::row::Reader;

impl Rows {
    /// The name of a subject in these tables.
    #[must_use]
    pub fn throttle_subject(&self, scope: Scope, account: &str, address: &str) -> String {
        let (account, address) = match scope {
            Scope::Pair => (account, address),
            Scope::Account | Scope::Claim => (account, ""),
            Scope::Address | Scope::ClaimAddress => ("", address),
            Scope::Factor => (account, address),
        };
        hex::encode(self.mac.compute("login_subject", &[scope.code().into(), account.into(), address.into()]))
    }

    /// A counter; zero if there is none.
    pub async fn counter<'e, E>(
        &self,
        executor: E,
        scope: Scope,
        subject: &str,
    ) -> Result<Counter, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let row =
            sqlx::query("SELECT failures, last_ms FROM login_failures WHERE scope = $1 AND subject = $2")
                .bind(scope.code())
                .bind(subject.to_owned())
                .fetch_optional(executor)
                .await?;
        let Some(row) = row else { return Ok(Counter::default()) };
        let row = Reader(&row);
        Ok(Counter { failures: row.number("failures")?, last_ms: row.number("last_ms")? })
    }

    /// Stores a counter.
    pub async fn put_counter(
        &self,
        tx: &mut Tx,
        scope: Scope,
        subject: &str,
        counter: Counter,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO login_failures (scope, subject, failures, last_ms) VALUES ($1, $2, $3, $4)
             ON CONFLICT (scope, subject) DO UPDATE SET failures = excluded.failures, last_ms = excluded.last_ms",
        )
        .bind(scope.code())
        .bind(subject.to_owned())
        .bind(i64::from(counter.failures))
        .bind(counter.last_ms)
        .execute(tx)
        .await?;
        Ok(())
    }

    /// Forgets a counter.
    pub async fn clear_counter(&self, tx: &mut Tx, scope: Scope, subject: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM login_failures WHERE scope = $1 AND subject = $2")
            .bind(scope.code())
            .bind(subject.to_owned())
            .execute(tx)
            .await?;
        Ok(())
    }

    /// Remembers that a pair logged in.
    pub async fn mark_success(&self, tx: &mut Tx, pair: &str, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO login_successes (pair, last_ms) VALUES ($1, $2)
             ON CONFLICT (pair) DO UPDATE SET last_ms = excluded.last_ms",
        )
        .bind(pair.to_owned())
        .bind(now.ms())
        .execute(tx)
        .await?;
        Ok(())
    }

    /// Whether a pair logged in since `since`.
    pub async fn has_succeeded<'e, E>(
        &self,
        executor: E,
        pair: &str,
        since: Timestamp,
    ) -> Result<bool, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let row = sqlx::query("SELECT pair FROM login_successes WHERE pair = $1 AND last_ms >= $2")
            .bind(pair.to_owned())
            .bind(since.ms())
            .fetch_optional(executor)
            .await?;
        Ok(row.is_some())
    }

    /// Forgets failures before `failures` and successes before `successes`.
    pub async fn prune_throttle(
        &self,
        tx: &mut Tx,
        failures: Timestamp,
        successes: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM login_failures WHERE last_ms < $1")
            .bind(failures.ms())
            .execute(&mut *tx)
            .await?;
        sqlx::query("DELETE FROM login_successes WHERE last_ms < $1")
            .bind(successes.ms())
            .execute(tx)
            .await?;
        Ok(())
    }
}
