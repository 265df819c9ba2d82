//! Staff profiles as final blocks made them.

use std::collections::BTreeSet;

use hbc_chain::payload::StaffStatus;
use hbc_db::row::{self, Reader};
use hbc_db::{DbError, Tx};
use hbc_types::Digest;

use crate::domain::floors::{Change, Changes};
use crate::domain::rights::RowProtection;
use crate::domain::staff::{Record, Vote};
use crate::error::Error;

/// The profile of a staff key, checked, and no older than the last change.
pub async fn staff(tx: &mut Tx, protection: &RowProtection, key: Digest) -> Result<Option<Record>, Error> {
    let record = stored_staff(tx, protection, key).await?;
    if let Some(record) = &record {
        protection.check_staff_age(record)?;
    }
    Ok(record)
}

/// The same, maybe older: for changes only.
pub async fn stored_staff(
    tx: &mut Tx,
    protection: &RowProtection,
    key: Digest,
) -> Result<Option<Record>, Error> {
    let row = sqlx::query("SELECT key, round, status, commitment, votes, mac FROM staff WHERE key = $1")
        .bind(key.to_string())
        .fetch_optional(tx)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let row = Reader(&row);
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
    Ok(Some(record))
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
