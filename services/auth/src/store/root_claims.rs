//! Claims to other root keys, and operators' orders about them.

use hbc_db::row::Reader;
use hbc_db::{Column, DbError, Tx};
use hbc_types::hash;
use hbc_types::ids::{OperatorId, PatientId};
use hbc_types::keys::PublicKey;
use hbc_types::wire::custody::ROOT_CLAIM_WAIT;
use hbc_types::{Digest, Timestamp};
use sqlx::any::AnyRow;

use super::{Rows, StoreError};
use crate::domain::roots::Keys;

const CLAIMS: &str = "root_claims";
const ORDERS: &str = "root_orders";

/// A claim as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootClaim {
    /// Whose.
    pub account: PatientId,
    /// The keys.
    pub keys: Keys,
    /// What is this claim's alone.
    pub nonce: [u8; 32],
    /// The salt of the orders' commitment.
    pub salt: [u8; 32],
    /// When it was made.
    pub claimed_at: Timestamp,
    /// When access-policy stored it.
    pub told_at: Option<Timestamp>,
}

/// An operator's order about a claimed root key.
#[derive(Clone, Debug)]
pub struct RootOrder {
    /// The transaction.
    pub txid: Digest,
    /// The claim's hash.
    pub subject: Digest,
    /// Who signed.
    pub operator: OperatorId,
    /// When.
    pub signed_at: Timestamp,
    /// When its block was seen.
    pub final_at: Option<Timestamp>,
}

impl RootClaim {
    /// When it may act at the earliest: access-policy counts from when it was told.
    #[must_use]
    pub fn acts_from(&self) -> Timestamp {
        self.told_at.unwrap_or(self.claimed_at).plus(ROOT_CLAIM_WAIT)
    }

    /// The subject of operators' orders about it.
    #[must_use]
    pub fn subject(&self) -> Digest {
        let Keys { root, recovery } = &self.keys;
        let recovery = recovery.as_ref().map(PublicKey::as_bytes);
        hash::root_claim(self.account.as_str(), root.as_bytes(), recovery, &self.nonce)
    }

    fn with_columns<T>(&self, work: impl FnOnce(&[Column<'_>]) -> T) -> T {
        let Self { account, keys: Keys { root, recovery }, nonce, salt, claimed_at, told_at } = self;
        work(&[
            account.as_str().into(),
            root.as_bytes().as_slice().into(),
            recovery.as_ref().map(|key| key.as_bytes().as_slice()).into(),
            nonce.as_slice().into(),
            salt.as_slice().into(),
            claimed_at.ms().into(),
            told_at.map(Timestamp::ms).into(),
        ])
    }

    fn read(row: &AnyRow, rows: &Rows) -> Result<Self, StoreError> {
        let row = Reader(row);
        let claim = Self {
            account: row.parsed("account")?,
            keys: Keys {
                root: PublicKey::from_bytes(row.array("root_public_key")?),
                recovery: row.array_opt("recovery_public_key")?.map(PublicKey::from_bytes),
            },
            nonce: row.array("nonce")?,
            salt: row.array("salt")?,
            claimed_at: row.time("claimed_at_ms")?,
            told_at: row.time_opt("told_at_ms")?,
        };
        let mac = row.bytes("mac")?;
        claim.with_columns(|columns| rows.check(CLAIMS, columns, &mac))?;
        Ok(claim)
    }
}

impl RootOrder {
    fn with_columns<T>(&self, work: impl FnOnce(&[Column<'_>]) -> T) -> T {
        let Self { txid, subject, operator, signed_at, final_at } = self;
        work(&[
            txid.as_bytes().as_slice().into(),
            subject.as_bytes().as_slice().into(),
            operator.as_str().into(),
            signed_at.ms().into(),
            final_at.map(Timestamp::ms).into(),
        ])
    }

    fn read(row: &AnyRow, rows: &Rows) -> Result<Self, StoreError> {
        let row = Reader(row);
        let order = Self {
            txid: row.parsed("txid")?,
            subject: row.parsed("subject")?,
            operator: row.parsed("operator")?,
            signed_at: row.time("signed_at_ms")?,
            final_at: row.time_opt("final_at_ms")?,
        };
        let mac = row.bytes("mac")?;
        order.with_columns(|columns| rows.check(ORDERS, columns, &mac))?;
        Ok(order)
    }
}

impl Rows {
    /// Keeps a claim, in the place of an earlier one of the account. [`DbError::UniqueViolation`] means that the key is claimed by
    /// another.
    pub async fn put_root_claim(&self, tx: &mut Tx, claim: &RootClaim) -> Result<(), StoreError> {
        self.delete_root_claim(tx, &claim.account).await?;
        sqlx::query(
            "INSERT INTO root_claims (account, root_public_key, recovery_public_key, nonce, salt, claimed_at_ms, told_at_ms, mac)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(claim.account.as_str().to_owned())
        .bind(claim.keys.root.as_bytes().to_vec())
        .bind(claim.keys.recovery.map(|key| key.as_bytes().to_vec()))
        .bind(claim.nonce.to_vec())
        .bind(claim.salt.to_vec())
        .bind(claim.claimed_at.ms())
        .bind(claim.told_at.map(Timestamp::ms))
        .bind(claim.with_columns(|columns| self.mac_of(CLAIMS, columns)))
        .execute(tx)
        .await?;
        Ok(())
    }

    /// The claim of an account.
    pub async fn root_claim<'e, E>(
        &self,
        executor: E,
        account: &PatientId,
    ) -> Result<Option<RootClaim>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let row = sqlx::query("SELECT * FROM root_claims WHERE account = $1")
            .bind(account.as_str().to_owned())
            .fetch_optional(executor)
            .await?;
        row.map(|row| RootClaim::read(&row, self)).transpose()
    }

    /// All claims, the oldest first. A row of another hand is left out (and alarmed about).
    pub async fn root_claims<'e, E>(&self, executor: E) -> Result<Vec<RootClaim>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let rows = sqlx::query("SELECT * FROM root_claims ORDER BY claimed_at_ms, account LIMIT 1000")
            .fetch_all(executor)
            .await?;
        let mut claims = Vec::with_capacity(rows.len());
        for row in &rows {
            match RootClaim::read(row, self) {
                Ok(claim) => claims.push(claim),
                Err(StoreError::Tampered(_alarmed)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(claims)
    }

    /// Forgets the claim of an account; says whether there was one.
    pub async fn delete_root_claim(&self, tx: &mut Tx, account: &PatientId) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM root_claims WHERE account = $1")
            .bind(account.as_str().to_owned())
            .execute(tx)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Forgets claims that were made before `before`.
    pub async fn prune_root_claims(&self, tx: &mut Tx, before: Timestamp) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM root_claims WHERE claimed_at_ms < $1").bind(before.ms()).execute(tx).await?;
        Ok(())
    }

    /// Adds an order.
    pub async fn insert_root_order(&self, tx: &mut Tx, order: &RootOrder) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO root_orders (txid, subject, operator, signed_at_ms, final_at_ms, mac)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(order.txid.to_string())
        .bind(order.subject.to_string())
        .bind(order.operator.as_str().to_owned())
        .bind(order.signed_at.ms())
        .bind(order.final_at.map(Timestamp::ms))
        .bind(order.with_columns(|columns| self.mac_of(ORDERS, columns)))
        .execute(tx)
        .await?;
        Ok(())
    }

    /// The orders about a claim.
    pub async fn root_orders<'e, E>(&self, executor: E, subject: Digest) -> Result<Vec<RootOrder>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let rows = sqlx::query("SELECT * FROM root_orders WHERE subject = $1 ORDER BY txid")
            .bind(subject.to_string())
            .fetch_all(executor)
            .await?;
        rows.iter().map(|row| RootOrder::read(row, self)).collect()
    }

    /// Notes that the block of an order was seen; nothing if it is about something else.
    pub async fn finalise_root_order(
        &self,
        tx: &mut Tx,
        txid: Digest,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let row = sqlx::query("SELECT * FROM root_orders WHERE txid = $1")
            .bind(txid.to_string())
            .fetch_optional(&mut *tx)
            .await?;
        let Some(row) = row else { return Ok(()) };
        let mut order = RootOrder::read(&row, self)?;
        order.final_at.get_or_insert(now);
        let done = sqlx::query("UPDATE root_orders SET final_at_ms = $2, mac = $3 WHERE txid = $1")
            .bind(txid.to_string())
            .bind(order.final_at.map(Timestamp::ms))
            .bind(order.with_columns(|columns| self.mac_of(ORDERS, columns)))
            .execute(tx)
            .await?;
        Ok(DbError::one_row(done.rows_affected())?)
    }
}
