//! Pages of grants and access requests for either side. A page's key is (time, id), newest first.

use hbc_db::Tx;
use serde::{Deserialize, Serialize};

use crate::domain::rights::RowProtection;
use crate::error::Error;
use crate::store::grants::{StoredGrant, stored};
use crate::store::requests::{AccessRequest, read};

/// Where a page begins: after the item with this time and id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageKey {
    /// The item's time, Unix ms.
    pub at: i64,
    /// Its id.
    pub id: String,
}

impl PageKey {
    fn start() -> Self {
        Self { at: i64::MAX, id: String::new() }
    }
}

/// Whose listing it is.
#[derive(Clone, Debug)]
pub enum Side {
    /// The patient's.
    Patient(String),
    /// The agency's; grants to its organisation are listed as well.
    Agency(String, Option<String>),
}

/// Grants of one side. Drafts that were never signed are left out.
pub async fn grants(
    tx: &mut Tx,
    side: &Side,
    after: Option<PageKey>,
    limit: u32,
) -> Result<Vec<StoredGrant>, Error> {
    let after = after.unwrap_or_else(PageKey::start);
    let query = match side {
        Side::Patient(id) => sqlx::query(
            "SELECT * FROM grants WHERE patient = $1 AND patient = $2 AND signed_at_ms IS NOT NULL
                 AND (given_at_ms, id) < ($3, $4)
             ORDER BY given_at_ms DESC, id DESC LIMIT $5",
        )
        .bind(id.clone())
        .bind(id.clone()),
        Side::Agency(id, organisation) => sqlx::query(
            "SELECT * FROM grants WHERE (grantee = $1 OR grantee = $2) AND signed_at_ms IS NOT NULL
                 AND (given_at_ms, id) < ($3, $4)
             ORDER BY given_at_ms DESC, id DESC LIMIT $5",
        )
        .bind(id.clone())
        .bind(organisation.clone().unwrap_or_else(|| id.clone())),
    };
    let rows = query.bind(after.at).bind(after.id).bind(i64::from(limit)).fetch_all(tx).await?;
    Ok(rows.iter().map(stored).collect::<Result<_, _>>()?)
}

/// Access requests of one side, of one state if `state` is given.
pub async fn requests(
    tx: &mut Tx,
    protection: &RowProtection,
    side: &Side,
    state: Option<&'static str>,
    after: Option<PageKey>,
    limit: u32,
) -> Result<Vec<AccessRequest>, Error> {
    let after = after.unwrap_or_else(PageKey::start);
    let query = match side {
        Side::Patient(id) => sqlx::query(
            "SELECT * FROM access_requests WHERE patient = $1 AND ($2 = '' OR state = $2)
                 AND (created_at_ms, id) < ($3, $4)
             ORDER BY created_at_ms DESC, id DESC LIMIT $5",
        )
        .bind(id.clone()),
        Side::Agency(id, _) => sqlx::query(
            "SELECT * FROM access_requests WHERE agency = $1 AND ($2 = '' OR state = $2)
                 AND (created_at_ms, id) < ($3, $4)
             ORDER BY created_at_ms DESC, id DESC LIMIT $5",
        )
        .bind(id.clone()),
    };
    let query = query.bind(state.unwrap_or("")).bind(after.at).bind(after.id).bind(i64::from(limit));
    let rows = query.fetch_all(tx).await?;
    Ok(rows.iter().map(|row| read(row, protection)).collect::<Result<_, _>>()?)
}
