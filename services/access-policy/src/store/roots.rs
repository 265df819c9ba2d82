//! Root keys that others took the place of.

use hbc_db::Tx;
use hbc_db::row::Reader;
use hbc_types::Timestamp;
use hbc_types::account::Custody;
use hbc_types::ids::PatientId;
use hbc_types::keys::PublicKey;

use crate::domain::rights::Pin;
use crate::error::Error;

/// Keys of a patient that count no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Former {
    /// The root key.
    pub root: PublicKey,
    /// The recovery key beside it.
    pub recovery: Option<PublicKey>,
    /// Who held the root key.
    pub custody: Custody,
    /// Since when they were pinned.
    pub since: Timestamp,
    /// Since when they are not.
    pub until: Timestamp,
    /// What one of them signed of the next ones.
    pub certificate: String,
}

/// Keeps the keys of a pin that counts until now, and what names the next ones.
pub async fn keep(tx: &mut Tx, before: &Pin, certificate: &str, now: Timestamp) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO former_roots (patient, n, root_public_key, recovery_public_key, custody, since_ms, until_ms, certificate)
         SELECT $1, COALESCE(MAX(n), 0) + 1, $2, $3, $4, $5, $6, $7 FROM former_roots WHERE patient = $1",
    )
    .bind(before.patient.as_str().to_owned())
    .bind(before.root_public_key.clone())
    .bind(before.recovery.map(|key| key.as_bytes().to_vec()))
    .bind(before.custody.code())
    .bind(before.pinned_at.ms())
    .bind(now.ms())
    .bind(certificate.to_owned())
    .execute(tx)
    .await?;
    Ok(())
}

/// A patient's keys of before, the first of all first.
pub async fn former(tx: &mut Tx, patient: &PatientId) -> Result<Vec<Former>, Error> {
    let rows = sqlx::query("SELECT * FROM former_roots WHERE patient = $1 ORDER BY n")
        .bind(patient.as_str().to_owned())
        .fetch_all(tx)
        .await?;
    let read = |row| {
        let row = Reader(row);
        Ok(Former {
            root: PublicKey::from_bytes(row.array("root_public_key")?),
            recovery: row.array_opt("recovery_public_key")?.map(PublicKey::from_bytes),
            custody: row.code("custody", Custody::parse)?,
            since: row.time("since_ms")?,
            until: row.time("until_ms")?,
            certificate: row.text("certificate")?,
        })
    };
    rows.iter().map(read).collect()
}
