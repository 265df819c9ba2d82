//! Who acts for which organisation, as far as it was signed here and as the ledger followed.

use hbc_chain::payload::AffiliationStatus;
use hbc_db::row::{self, Reader};
use hbc_db::{Column, Tx};
use hbc_types::ids::AgencyId;
use hbc_types::{Digest, Timestamp};
use sqlx::any::AnyRow;

use super::{Rows, StoreError, trusted};

const TABLE: &str = "memberships";

/// What was signed last about a member.
#[derive(Clone, Debug)]
pub struct Membership {
    /// The organisation.
    pub organisation: AgencyId,
    /// Who acts for it.
    pub member: AgencyId,
    /// What was signed.
    pub status: AffiliationStatus,
    /// Changes that are final: the next one's `nonce`.
    pub changes: u64,
    /// The committed text.
    pub body: String,
    /// Its salt.
    pub salt: [u8; 32],
    /// The transaction.
    pub txid: Digest,
    /// When it was signed.
    pub signed_at: Timestamp,
    /// When its block was seen.
    pub final_at: Option<Timestamp>,
}

impl Membership {
    /// Whether they act for it by now.
    #[must_use]
    pub fn is_in_force(&self) -> bool {
        self.status == AffiliationStatus::Active && self.final_at.is_some()
    }

    fn with_columns<T>(&self, work: impl FnOnce(&[Column<'_>]) -> T) -> T {
        let Self { organisation, member, status, changes, body, salt, txid, signed_at, final_at } = self;
        let txid = txid.to_string();
        work(&[
            organisation.as_str().into(),
            member.as_str().into(),
            status.code().into(),
            i64::try_from(*changes).unwrap_or(i64::MAX).into(),
            body.as_str().into(),
            salt.as_slice().into(),
            (&txid).into(),
            signed_at.ms().into(),
            final_at.map(Timestamp::ms).into(),
        ])
    }

    fn read(row: &AnyRow, rows: &Rows) -> Result<Self, StoreError> {
        let row = Reader(row);
        let membership = Self {
            organisation: row.parsed("organisation")?,
            member: row.parsed("member")?,
            status: row.code("status", AffiliationStatus::parse)?,
            changes: row.number("changes")?,
            body: row.text("body")?,
            salt: row.array("salt")?,
            txid: row.parsed("txid")?,
            signed_at: row.time("signed_at_ms")?,
            final_at: row.time_opt("final_at_ms")?,
        };
        let mac = row.bytes("mac")?;
        membership.with_columns(|columns| rows.check(TABLE, columns, &mac))?;
        Ok(membership)
    }
}

impl Rows {
    /// What was signed last about a member.
    pub async fn membership<'e, E>(
        &self,
        executor: E,
        organisation: &AgencyId,
        member: &AgencyId,
    ) -> Result<Option<Membership>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let row = sqlx::query("SELECT * FROM memberships WHERE organisation = $1 AND member = $2")
            .bind(organisation.as_str().to_owned())
            .bind(member.as_str().to_owned())
            .fetch_optional(executor)
            .await?;
        row.map(|row| Membership::read(&row, self)).transpose()
    }

    /// What was signed last about each whom an organisation took in, and about who was taken in: whichever `agency` is. A row
    /// of another hand is left out: the alarm is in the log.
    pub async fn memberships_of_either(
        &self,
        tx: &mut Tx,
        agency: &AgencyId,
    ) -> Result<Vec<Membership>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM memberships WHERE organisation = $1 OR member = $1 ORDER BY organisation, member",
        )
        .bind(agency.as_str().to_owned())
        .fetch_all(tx)
        .await?;
        trusted(rows.iter().map(|row| Membership::read(row, self)))
    }

    /// The one that made this transaction.
    pub async fn membership_by_txid(
        &self,
        tx: &mut Tx,
        txid: Digest,
    ) -> Result<Option<Membership>, StoreError> {
        let row = sqlx::query("SELECT * FROM memberships WHERE txid = $1")
            .bind(txid.to_string())
            .fetch_optional(tx)
            .await?;
        row.map(|row| Membership::read(&row, self)).transpose()
    }

    /// Those of an organisation.
    pub async fn memberships_of<'e, E>(
        &self,
        executor: E,
        organisation: &AgencyId,
    ) -> Result<Vec<Membership>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let rows = sqlx::query("SELECT * FROM memberships WHERE organisation = $1 ORDER BY member")
            .bind(organisation.as_str().to_owned())
            .fetch_all(executor)
            .await?;
        rows.iter().map(|row| Membership::read(row, self)).collect()
    }

    /// Forgets one whose keys are no longer those of the two: under another pair it begins anew.
    pub async fn forget_membership(
        &self,
        tx: &mut Tx,
        organisation: &AgencyId,
        member: &AgencyId,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM memberships WHERE organisation = $1 AND member = $2")
            .bind(organisation.as_str().to_owned())
            .bind(member.as_str().to_owned())
            .execute(tx)
            .await?;
        Ok(())
    }

    /// Writes one in the place of the one before.
    pub async fn put_membership(&self, tx: &mut Tx, membership: &Membership) -> Result<(), StoreError> {
        let mac = membership.with_columns(|columns| self.mac_of(TABLE, columns));
        let Membership { organisation, member, status, changes, body, salt, txid, signed_at, final_at } =
            membership;
        sqlx::query(
            "INSERT INTO memberships (organisation, member, status, changes, body, salt, txid, signed_at_ms,
                 final_at_ms, mac)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             ON CONFLICT (organisation, member) DO UPDATE SET status = excluded.status, changes = excluded.changes,
                 body = excluded.body, salt = excluded.salt, txid = excluded.txid, mac = excluded.mac,
                 signed_at_ms = excluded.signed_at_ms, final_at_ms = excluded.final_at_ms",
        )
        .bind(organisation.as_str().to_owned())
        .bind(member.as_str().to_owned())
        .bind(status.code())
        .bind(row::stored(*changes, "changes")?)
        .bind(body.clone())
        .bind(salt.to_vec())
        .bind(txid.to_string())
        .bind(signed_at.ms())
        .bind(final_at.map(Timestamp::ms))
        .bind(mac)
        .execute(tx)
        .await?;
        Ok(())
    }
}
