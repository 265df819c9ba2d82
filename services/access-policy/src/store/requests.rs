//! Access requests.

use hbc_db::row::Reader;
use hbc_db::{DbError, Tx};
use hbc_types::Timestamp;
use hbc_types::ids::{AccessRequestId, AgencyId, GrantId, PatientId};
use hbc_types::wire::access::{AccessRequestState, Scope};
use sqlx::any::AnyRow;

use crate::domain::rights::RowProtection;
use crate::error::Error;

/// An access request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRequest {
    /// Its id.
    pub id: AccessRequestId,
    /// Who asks.
    pub agency: AgencyId,
    /// Who is asked.
    pub patient: PatientId,
    /// For what.
    pub scope: Scope,
    /// The agency's words.
    pub message: String,
    /// Where it stands.
    pub state: AccessRequestState,
    /// What came of it.
    pub grant: Option<GrantId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it expires by itself.
    pub expires_at: Timestamp,
}

pub(super) fn read(row: &AnyRow, protection: &RowProtection) -> Result<AccessRequest, DbError> {
    let row = Reader(row);
    let id = row.text("id")?;
    let message = protection.show(&id, &row.bytes("message")?);
    let scope = row.text("scope")?;
    Ok(AccessRequest {
        id: row.parsed("id")?,
        agency: row.parsed("agency")?,
        patient: row.parsed("patient")?,
        scope: serde_json::from_str(&scope).map_err(|_other| DbError::BadValue { column: "scope" })?,
        message: message.map_err(|_hidden_text| DbError::BadValue { column: "message" })?,
        state: row.code("state", AccessRequestState::parse)?,
        grant: row.parsed_opt("grant_id")?,
        created_at: row.time("created_at_ms")?,
        expires_at: row.time("expires_at_ms")?,
    })
}

/// Stores a new request.
pub async fn insert(tx: &mut Tx, protection: &RowProtection, request: &AccessRequest) -> Result<(), Error> {
    let scope = serde_json::to_string(&request.scope)
        .map_err(|_unreachable| DbError::BadValue { column: "scope" })?;
    sqlx::query(
        "INSERT INTO access_requests (id, agency, patient, scope, message, state, created_at_ms, expires_at_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(request.id.as_str().to_owned())
    .bind(request.agency.as_str().to_owned())
    .bind(request.patient.as_str().to_owned())
    .bind(scope)
    .bind(protection.hide(request.id.as_str(), &request.message))
    .bind(request.state.code())
    .bind(request.created_at.ms())
    .bind(request.expires_at.ms())
    .execute(tx)
    .await?;
    Ok(())
}

/// How many open requests this agency has with this patient.
pub async fn open_between(tx: &mut Tx, agency: &AgencyId, patient: &PatientId) -> Result<u64, Error> {
    let row = sqlx::query(
        "SELECT CAST(count(*) AS BIGINT) AS open FROM access_requests
         WHERE agency = $1 AND patient = $2 AND closed_at_ms IS NULL",
    )
    .bind(agency.as_str().to_owned())
    .bind(patient.as_str().to_owned())
    .fetch_one(tx)
    .await?;
    Ok(Reader(&row).number("open")?)
}

/// One request.
pub async fn find(
    tx: &mut Tx,
    protection: &RowProtection,
    id: &AccessRequestId,
) -> Result<Option<AccessRequest>, Error> {
    let row = sqlx::query("SELECT * FROM access_requests WHERE id = $1")
        .bind(id.as_str().to_owned())
        .fetch_optional(tx)
        .await?;
    Ok(row.map(|row| read(&row, protection)).transpose()?)
}

/// Closes an open request for ever; says whether it was open.
pub async fn close(
    tx: &mut Tx,
    id: &AccessRequestId,
    state: AccessRequestState,
    grant: Option<&GrantId>,
    now: Timestamp,
) -> Result<bool, Error> {
    let done = sqlx::query(
        "UPDATE access_requests SET state = $2, grant_id = $3, closed_at_ms = $4
         WHERE id = $1 AND closed_at_ms IS NULL",
    )
    .bind(id.as_str().to_owned())
    .bind(state.code())
    .bind(grant.map(|id| id.as_str().to_owned()))
    .bind(now.ms())
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Closes for ever what an account left open that is closed itself: what it asked for, and what it was asked.
pub async fn close_all_of(tx: &mut Tx, account: &str, now: Timestamp) -> Result<(), Error> {
    sqlx::query(
        "UPDATE access_requests SET state = CASE WHEN agency = $1 THEN 'withdrawn' ELSE 'denied' END, closed_at_ms = $2
         WHERE closed_at_ms IS NULL AND (agency = $1 OR patient = $1)",
    )
    .bind(account.to_owned())
    .bind(now.ms())
    .execute(tx)
    .await?;
    Ok(())
}

/// Expires what nobody answered in time.
pub async fn expire(tx: &mut Tx, now: Timestamp) -> Result<u64, Error> {
    let done = sqlx::query(
        "UPDATE access_requests SET state = 'expired', closed_at_ms = $1
         WHERE closed_at_ms IS NULL AND expires_at_ms <= $1",
    )
    .bind(now.ms())
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}
