//! Staff profiles, and who acts for which organisation, as final blocks made them.

use std::collections::BTreeSet;

use hbc_chain::payload::{AffiliationStatus, StaffStatus};
use hbc_db::row::{self, Reader};
use hbc_db::{DbError, Tx};
use hbc_types::Digest;
use sqlx::any::AnyRow;

use crate::domain::floors::{Change, Changes};
use crate::domain::rights::RowProtection;
use crate::domain::staff::{Membership, Record, Vote};
use crate::error::Error;

/// The profile of a staff key and all others that open to `commitment`, checked, and no older than their last changes.
pub async fn profiles(
    tx: &mut Tx,
    protection: &RowProtection,
    key: Digest,
    commitment: Option<&Digest>,
) -> Result<Vec<Record>, Error> {
    let rows = sqlx::query(
        "SELECT key, round, status, commitment, votes, mac FROM staff WHERE key = $1 OR commitment = $2 ORDER BY key",
    )
    .bind(key.to_string())
    .bind(row::digest_text(commitment))
    .fetch_all(tx)
    .await?;
    let records = rows.iter().map(|row| read(row, protection)).collect::<Result<Vec<_>, _>>()?;
    for record in &records {
        protection.check_staff_age(record)?;
    }
    Ok(records)
}

/// The profile of a staff key, checked, maybe older than its last change: for changes only.
pub async fn stored_staff(
    tx: &mut Tx,
    protection: &RowProtection,
    key: Digest,
) -> Result<Option<Record>, Error> {
    let row = sqlx::query("SELECT key, round, status, commitment, votes, mac FROM staff WHERE key = $1")
        .bind(key.to_string())
        .fetch_optional(tx)
        .await?;
    row.map(|row| read(&row, protection)).transpose()
}

fn read(row: &AnyRow, protection: &RowProtection) -> Result<Record, Error> {
    let row = Reader(row);
    let votes: BTreeSet<Vote> =
        serde_json::from_str(&row.text("votes")?).map_err(|_other| DbError::BadValue { column: "votes" })?;
    let record = Record {
        key: row.parsed("key")?,
        round: row.number("round")?,
        status: row.code_opt("status", StaffStatus::parse)?,
        commitment: row.parsed_opt("commitment")?,
        votes,
    };
    protection.check_staff(&record, &row.bytes("mac")?)?;
    Ok(record)
}

/// Writes a profile with a fresh MAC.
pub async fn put_staff(
    tx: &mut Tx,
    protection: &RowProtection,
    record: &Record,
    changes: &Changes,
) -> Result<(), Error> {
    let Record { key, round, status, commitment, votes } = record;
    sqlx::query(
        "INSERT INTO staff (key, round, status, commitment, votes, mac) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (key) DO UPDATE SET round = excluded.round, status = excluded.status,
             commitment = excluded.commitment, votes = excluded.votes, mac = excluded.mac",
    )
    .bind(key.to_string())
    .bind(row::stored(*round, "round")?)
    .bind(status.map(StaffStatus::code))
    .bind(row::digest_text(commitment.as_ref()))
    .bind(serde_json::to_string(votes).map_err(|_unreachable| DbError::BadValue { column: "votes" })?)
    .bind(protection.staff(record).to_vec())
    .execute(tx)
    .await?;
    changes.push(Change::Staff(*key, *round));
    Ok(())
}

/// The affiliation of two staff keys, checked, and no older than the last change.
pub async fn membership(
    tx: &mut Tx,
    protection: &RowProtection,
    organisation: Digest,
    key: Digest,
) -> Result<Option<Membership>, Error> {
    let membership = stored_membership(tx, protection, organisation, key).await?;
    if let Some(membership) = &membership {
        protection.check_membership_age(membership)?;
    }
    Ok(membership)
}

/// The same, maybe older: for changes only.
pub async fn stored_membership(
    tx: &mut Tx,
    protection: &RowProtection,
    organisation: Digest,
    key: Digest,
) -> Result<Option<Membership>, Error> {
    let row = sqlx::query("SELECT count, status, mac FROM affiliations WHERE organisation = $1 AND key = $2")
        .bind(organisation.to_string())
        .bind(key.to_string())
        .fetch_optional(tx)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let row = Reader(&row);
    let (count, status) = (row.number("count")?, row.code("status", AffiliationStatus::parse)?);
    let membership = Membership { organisation, key, count, status };
    protection.check_membership(&membership, &row.bytes("mac")?)?;
    Ok(Some(membership))
}

/// Writes an affiliation with a fresh MAC.
pub async fn put_membership(
    tx: &mut Tx,
    protection: &RowProtection,
    membership: &Membership,
    changes: &Changes,
) -> Result<(), Error> {
    let Membership { organisation, key, count, status } = membership;
    sqlx::query(
        "INSERT INTO affiliations (organisation, key, count, status, mac) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (organisation, key) DO UPDATE SET count = excluded.count, status = excluded.status,
             mac = excluded.mac",
    )
    .bind(organisation.to_string())
    .bind(key.to_string())
    .bind(row::stored(*count, "count")?)
    .bind(status.code())
    .bind(protection.membership(membership).to_vec())
    .execute(tx)
    .await?;
    changes.push(Change::Affiliation(*organisation, *key, *count));
    Ok(())
}
