//! Whether a key that stands outside the database is the one with which the database was begun. A wrong one of the right form
//! would otherwise show as rows that seem changed, one after the other.

use hbc_types::Digest;
use hbc_types::hash::domain_hash;
use hbc_types::secret::Key32;
use sqlx::Row as _;

use crate::{Db, DbError};

/// Another key was here before.
#[derive(Debug, thiserror::Error)]
pub enum KeyCheckError {
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// It is not the key with which this database was begun.
    #[error("this is not the key with which the database was begun")]
    OtherKey,
}

/// Checks `key`, which the service calls `name`; the first one that comes is the one.
pub async fn check(db: &Db, name: &'static str, key: &Key32) -> Result<(), KeyCheckError> {
    // Of 256 random bits a hash tells nothing.
    let value = domain_hash("hbc/key-check/v1", &[name.as_bytes(), key.expose()]);
    let known = db
        .write(move |tx| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO key_checks (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
                )
                .bind(name)
                .bind(value.to_string())
                .execute(&mut *tx)
                .await?;
                let row = sqlx::query("SELECT value FROM key_checks WHERE name = $1")
                    .bind(name)
                    .fetch_one(tx)
                    .await?;
                let text: String = row.try_get("value")?;
                Digest::parse(&text).map_err(|_text| DbError::BadValue { column: "value" })
            })
        })
        .await?;
    if known == value { Ok(()) } else { Err(KeyCheckError::OtherKey) }
}
