//! Open sessions, as auth told of them. A row that is gone opens nothing; one that was made or changed by hand is an alarm.
//!
//! Why: decision 0119.

use hbc_db::Tx;
use hbc_db::row::Reader;
use hbc_types::Timestamp;
use hbc_types::ids::SessionId;
use sqlx::any::AnyRow;

use crate::domain::rights::{OpenSession, RowProtection};
use crate::error::Error;

/// The session with this id, open or over.
pub async fn session(
    tx: &mut Tx,
    protection: &RowProtection,
    id: &SessionId,
) -> Result<Option<OpenSession>, Error> {
    let row = sqlx::query("SELECT id, account, opened_at_ms, expires_at_ms, mac FROM sessions WHERE id = $1")
        .bind(id.as_str().to_owned())
        .fetch_optional(tx)
        .await?;
    row.map(|row| read(&row, protection)).transpose()
}

fn read(row: &AnyRow, protection: &RowProtection) -> Result<OpenSession, Error> {
    let row = Reader(row);
    let session = OpenSession {
        id: row.parsed("id")?,
        account: row.parsed("account")?,
        opened_at: row.time("opened_at_ms")?,
        expires_at: row.time("expires_at_ms")?,
    };
    protection.check_session(&session, &row.bytes("mac")?)?;
    Ok(session)
}

/// Adds a session.
pub async fn insert(tx: &mut Tx, protection: &RowProtection, session: &OpenSession) -> Result<(), Error> {
    let OpenSession { id, account, opened_at, expires_at } = session;
    sqlx::query(
        "INSERT INTO sessions (id, account, opened_at_ms, expires_at_ms, mac) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(id.as_str().to_owned())
    .bind(account.as_str().to_owned())
    .bind(opened_at.ms())
    .bind(expires_at.ms())
    .bind(protection.session(session).to_vec())
    .execute(tx)
    .await?;
    Ok(())
}

/// Forgets a session.
pub async fn remove(tx: &mut Tx, id: &SessionId) -> Result<(), Error> {
    sqlx::query("DELETE FROM sessions WHERE id = $1").bind(id.as_str().to_owned()).execute(tx).await?;
    Ok(())
}

/// Forgets those that are over.
pub async fn forget(tx: &mut Tx, now: Timestamp) -> Result<(), Error> {
    sqlx::query("DELETE FROM sessions WHERE expires_at_ms <= $1").bind(now.ms()).execute(tx).await?;
    Ok(())
}
