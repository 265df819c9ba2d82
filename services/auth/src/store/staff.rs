//! Signatures of staff changes: who signed which round of which agency, and which of them are final.

use hbc_db::{Column, DbError, Tx};
use hbc_types::ids::AgencyId;
use hbc_types::{Digest, Timestamp};
use sqlx::any::AnyRow;

use super::{Rows, StoreError};
use hbc_db::row::Reader;

const TABLE: &str = "staff_signatures";

/// The signer's name of auth itself.
pub const AUTH: &str = "auth";

/// One signed `identity.staff` transaction.
#[derive(Clone, Debug)]
pub struct StaffSignature {
    /// The agency.
    pub agency: AgencyId,
    /// The number of the key that it is about.
    pub key: i64,
    /// The change of that key's profile it belongs to: the transaction's `nonce`.
    pub round: i64,
    /// An operator's id, or [`AUTH`].
    pub signer: String,
    /// `active`, `suspended` or `revoked`.
    pub status: String,
    /// The transaction.
    pub txid: Digest,
    /// When it was signed.
    pub signed_at: Timestamp,
    /// When its block was seen.
    pub final_at: Option<Timestamp>,
}

impl StaffSignature {
    fn with_columns<T>(&self, work: impl FnOnce(&[Column<'_>]) -> T) -> T {
        let Self { agency, key, round, signer, status, txid, signed_at, final_at } = self;
        let txid = txid.to_string();
        let mut columns = vec![
            agency.as_str().into(),
            (*round).into(),
            signer.into(),
            status.into(),
            (&txid).into(),
            signed_at.ms().into(),
            final_at.map(Timestamp::ms).into(),
        ];
        // Rows that were made when an agency had one key for ever keep their MAC.
        if *key > 0 {
            columns.push((*key).into());
        }
        work(&columns)
    }

    fn read(row: &AnyRow, rows: &Rows) -> Result<Self, StoreError> {
        let row = Reader(row);
        let signature = Self {
            agency: row.parsed("agency")?,
            key: row.number("key")?,
            round: row.number("round")?,
            signer: row.text("signer")?,
            status: row.text("status")?,
            txid: row.parsed("txid")?,
            signed_at: row.time("signed_at_ms")?,
            final_at: row.time_opt("final_at_ms")?,
        };
        let mac = row.bytes("mac")?;
        signature.with_columns(|columns| rows.check(TABLE, columns, &mac))?;
        Ok(signature)
    }
}

impl Rows {
    /// Adds a signature. [`DbError::UniqueViolation`] means that this signer has signed the same in this round.
    pub async fn insert_staff_signature(
        &self,
        tx: &mut Tx,
        signature: &StaffSignature,
    ) -> Result<(), StoreError> {
        let mac = signature.with_columns(|columns| self.mac_of(TABLE, columns));
        let StaffSignature { agency, key, round, signer, status, txid, signed_at, final_at } = signature;
        sqlx::query(
            "INSERT INTO staff_signatures (agency, round, signer, status, txid, signed_at_ms, final_at_ms, mac, key)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(agency.as_str().to_owned())
        .bind(*round)
        .bind(signer.clone())
        .bind(status.clone())
        .bind(txid.to_string())
        .bind(signed_at.ms())
        .bind(final_at.map(Timestamp::ms))
        .bind(mac)
        .bind(*key)
        .execute(tx)
        .await?;
        Ok(())
    }

    /// Every signature of `agency`, oldest first.
    pub async fn staff_signatures<'e, E>(
        &self,
        executor: E,
        agency: &AgencyId,
    ) -> Result<Vec<StaffSignature>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let rows = sqlx::query(
            "SELECT * FROM staff_signatures WHERE agency = $1 ORDER BY key, round, signed_at_ms, signer",
        )
        .bind(agency.as_str().to_owned())
        .fetch_all(executor)
        .await?;
        rows.iter().map(|row| StaffSignature::read(row, self)).collect()
    }

    /// The signature that made this transaction.
    pub async fn staff_signature<'e, E>(
        &self,
        executor: E,
        txid: Digest,
    ) -> Result<Option<StaffSignature>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let row = sqlx::query("SELECT * FROM staff_signatures WHERE txid = $1")
            .bind(txid.to_string())
            .fetch_optional(executor)
            .await?;
        row.map(|row| StaffSignature::read(&row, self)).transpose()
    }

    /// Writes a signature back after [`StaffSignature::final_at`] was set.
    pub async fn finalise_staff_signature(
        &self,
        tx: &mut Tx,
        signature: &StaffSignature,
    ) -> Result<(), StoreError> {
        let mac = signature.with_columns(|columns| self.mac_of(TABLE, columns));
        let done = sqlx::query("UPDATE staff_signatures SET final_at_ms = $2, mac = $3 WHERE txid = $1")
            .bind(signature.txid.to_string())
            .bind(signature.final_at.map(Timestamp::ms))
            .bind(mac)
            .execute(tx)
            .await?;
        Ok(DbError::one_row(done.rows_affected())?)
    }
}
