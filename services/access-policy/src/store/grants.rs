//! Grants and consent keys.

use std::collections::BTreeMap;

use hbc_db::row::{self, Reader};
use hbc_db::{DbError, Tx};
use hbc_types::account::Custody;
use hbc_types::ids::{GrantId, GranteeId, PatientId};
use hbc_types::keys::PublicKey;
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::wire::access::{GrantEvidence, Labels};
use hbc_types::{Digest, Timestamp};
use sqlx::any::AnyRow;

use crate::domain::consent::Draft;
use crate::domain::grant::{Grant, NumberLimits};
use crate::domain::rights::{RowProtection, numbers_text};
use crate::error::Error;

/// A grant with everything that is stored of it.
#[derive(Clone, Debug)]
pub struct StoredGrant {
    /// The grant.
    pub grant: Grant,
    /// The consent body.
    pub body: String,
    /// The commitment's salt.
    pub salt: Vec<u8>,
    /// The drafted payload.
    pub payload: String,
    /// The signed event.
    pub jws: Option<String>,
    /// The key's certificate.
    pub certificate: Option<String>,
    /// The MAC of the row, once it ended.
    pub ended_mac: Option<Vec<u8>>,
}

impl StoredGrant {
    /// What makes it checkable without us, once it is signed.
    #[must_use]
    pub fn evidence(&self) -> Option<GrantEvidence> {
        Some(GrantEvidence {
            jws: self.jws.clone()?,
            certificate: self.certificate.clone()?,
            body: self.body.clone(),
            salt: self.salt.as_slice().into(),
        })
    }
}

impl TryFrom<StoredGrant> for Draft {
    type Error = Error;

    /// The draft that was signed or is to be; rows whose parts contradict each other were changed by hand.
    fn try_from(stored: StoredGrant) -> Result<Self, Error> {
        let bad = |column| DbError::BadValue { column };
        let draft = Self {
            salt: stored.salt.as_slice().try_into().map_err(|_length| bad("salt"))?,
            payload: serde_json::from_str(&stored.payload).map_err(|_other| bad("payload"))?,
            body: stored.body,
            grant: stored.grant,
        };
        if draft.is_coherent() { Ok(draft) } else { Err(hbc_db::RowMacError { table: "grants" }.into()) }
    }
}

/// The patient's live grants in the order of their ids.
pub async fn live(tx: &mut Tx, patient: &PatientId) -> Result<Vec<Grant>, Error> {
    let rows = sqlx::query(
        "SELECT id, patient, grantee, request, scope, custody, given_at_ms, draft_expires_at_ms, kid, seq, txid,
             signed_at_ms, numbers, final_height, refused, frozen_at_ms, revoked_at_ms, revoked_by, altered_by,
             ended_at_ms, offline, device
         FROM grants WHERE patient = $1 AND ended_at_ms IS NULL AND signed_at_ms IS NOT NULL ORDER BY id",
    )
    .bind(patient.as_str().to_owned())
    .fetch_all(tx)
    .await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// One grant whatever its state.
pub async fn find(tx: &mut Tx, id: &GrantId) -> Result<Option<StoredGrant>, Error> {
    let row = sqlx::query("SELECT * FROM grants WHERE id = $1")
        .bind(id.as_str().to_owned())
        .fetch_optional(tx)
        .await?;
    Ok(row.map(|row| stored(&row)).transpose()?)
}

/// The grant that this transaction gave.
pub async fn find_by_txid(tx: &mut Tx, txid: Digest) -> Result<Option<GrantId>, Error> {
    let row = sqlx::query("SELECT id FROM grants WHERE txid = $1")
        .bind(txid.to_string())
        .fetch_optional(tx)
        .await?;
    Ok(row.map(|row| Reader(&row).parsed("id")).transpose()?)
}

pub(super) fn stored(row: &AnyRow) -> Result<StoredGrant, DbError> {
    let row = Reader(row);
    Ok(StoredGrant {
        grant: read(row.0)?,
        body: row.text("body")?,
        salt: row.bytes("salt")?,
        payload: row.text("payload")?,
        jws: row.text_opt("jws")?,
        certificate: row.text_opt("certificate")?,
        ended_mac: row.bytes_opt("ended_mac")?,
    })
}

fn read(row: &AnyRow) -> Result<Grant, DbError> {
    let row = Reader(row);
    let scope = row.text("scope")?;
    let numbers = row.text_opt("numbers")?;
    Ok(Grant {
        id: row.parsed("id")?,
        patient: row.parsed("patient")?,
        grantee: row.parsed("grantee")?,
        offline: match row.number_opt::<u64>("offline")? {
            None => None,
            Some(0) => Some(false),
            Some(1) => Some(true),
            Some(_) => return Err(DbError::BadValue { column: "offline" }),
        },
        device: row.parsed_opt("device")?,
        request: row.parsed_opt("request")?,
        scope: serde_json::from_str(&scope).map_err(|_other| DbError::BadValue { column: "scope" })?,
        custody: row.code("custody", Custody::parse)?,
        given_at: row.time("given_at_ms")?,
        draft_expires_at: row.time("draft_expires_at_ms")?,
        kid: row.parsed_opt("kid")?,
        seq: row.number_opt("seq")?,
        txid: row.parsed_opt("txid")?,
        signed_at: row.time_opt("signed_at_ms")?,
        numbers: parse_numbers(numbers.as_deref().unwrap_or_default())
            .ok_or(DbError::BadValue { column: "numbers" })?,
        final_height: row.number_opt("final_height")?,
        refused: row.text_opt("refused")?,
        frozen_at: row.time_opt("frozen_at_ms")?,
        revoked_at: row.time_opt("revoked_at_ms")?,
        revoked_by: row.parsed_opt("revoked_by")?,
        altered_by: row.parsed_opt("altered_by")?,
        ended_at: row.time_opt("ended_at_ms")?,
    })
}

fn parse_numbers(text: &str) -> Option<NumberLimits> {
    let mut numbers = BTreeMap::new();
    for entry in text.split(',').filter(|entry| !entry.is_empty()) {
        let (set, n) = entry.split_once('=')?;
        let (sensitivity, category) = set.split_once('/')?;
        let labels =
            Labels { category: Category::parse(category)?, sensitivity: Sensitivity::parse(sensitivity)? };
        numbers.insert(labels, n.parse().ok()?);
    }
    Some(numbers)
}

/// Stores a draft.
pub async fn insert_draft(tx: &mut Tx, draft: &Draft) -> Result<(), Error> {
    let Draft { grant, body, salt, payload } = draft;
    let Grant {
        id,
        patient,
        grantee,
        offline,
        device,
        request,
        scope,
        custody,
        given_at,
        draft_expires_at,
        // A draft has none of what a signature and the ledger bring.
        kid: _,
        seq: _,
        txid: _,
        signed_at: _,
        numbers: _,
        final_height: _,
        refused: _,
        frozen_at: _,
        revoked_at: _,
        revoked_by: _,
        altered_by: _,
        ended_at: _,
    } = grant;
    sqlx::query(
        "INSERT INTO grants (id, patient, grantee, request, scope, body, salt, payload, custody, given_at_ms,
             draft_expires_at_ms, until_ms, offline, device)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(id.as_str().to_owned())
    .bind(patient.as_str().to_owned())
    .bind(grantee.as_str().to_owned())
    .bind(request.as_ref().map(|id| id.as_str().to_owned()))
    .bind(serde_json::to_string(scope).map_err(|_unreachable| DbError::BadValue { column: "scope" })?)
    .bind(body.clone())
    .bind(salt.to_vec())
    .bind(payload.to_string())
    .bind(custody.code())
    .bind(given_at.ms())
    .bind(draft_expires_at.ms())
    .bind(scope.until.ms())
    .bind(offline.map(i64::from))
    .bind(row::digest_text(device.as_ref()))
    .execute(tx)
    .await?;
    Ok(())
}

/// Stores the evidence of a signature; the state goes through [`update`].
pub async fn put_evidence(tx: &mut Tx, id: &GrantId, jws: &str, certificate: &str) -> Result<(), Error> {
    let done = sqlx::query("UPDATE grants SET jws = $2, certificate = $3 WHERE id = $1 AND jws IS NULL")
        .bind(id.as_str().to_owned())
        .bind(jws.to_owned())
        .bind(certificate.to_owned())
        .execute(tx)
        .await?;
    Ok(DbError::one_row(done.rows_affected())?)
}

/// What an alteration puts in the place of what was drafted.
#[derive(Clone, Copy, Debug)]
pub struct Altered<'a> {
    /// The consent body.
    pub body: &'a str,
    /// The commitment's salt.
    pub salt: &'a [u8],
    /// The event's payload.
    pub payload: &'a str,
    /// The signed event.
    pub jws: &'a str,
}

/// Stores what a grant covers since it was altered; the state goes through [`update`].
pub async fn alter(tx: &mut Tx, grant: &Grant, altered: &Altered<'_>) -> Result<(), Error> {
    let scope = serde_json::to_string(&grant.scope);
    let done = sqlx::query(
        "UPDATE grants SET scope = $2, body = $3, salt = $4, payload = $5, jws = $6, custody = $7, given_at_ms = $8,
             until_ms = $9
         WHERE id = $1",
    )
    .bind(grant.id.as_str().to_owned())
    .bind(scope.map_err(|_unreachable| DbError::BadValue { column: "scope" })?)
    .bind(altered.body.to_owned())
    .bind(altered.salt.to_vec())
    .bind(altered.payload.to_owned())
    .bind(altered.jws.to_owned())
    .bind(grant.custody.code())
    .bind(grant.given_at.ms())
    .bind(grant.scope.until.ms())
    .execute(tx)
    .await?;
    Ok(DbError::one_row(done.rows_affected())?)
}

/// Stores what a transition left behind. Whoever calls this renews the patient's MAC in the same transaction.
pub async fn update(tx: &mut Tx, protection: &RowProtection, grant: &Grant) -> Result<(), Error> {
    let Grant {
        id,
        kid,
        seq,
        txid,
        signed_at,
        numbers,
        final_height,
        refused,
        frozen_at,
        revoked_at,
        revoked_by,
        altered_by,
        ended_at,
        // No transition changes what was drafted.
        patient: _,
        grantee: _,
        offline: _,
        device: _,
        request: _,
        scope: _,
        custody: _,
        given_at: _,
        draft_expires_at: _,
    } = grant;
    let numbers = String::from_utf8(numbers_text(numbers))
        .map_err(|_unreachable| DbError::BadValue { column: "numbers" })?;
    let done = sqlx::query(
        "UPDATE grants SET kid = $2, seq = $3, txid = $4, signed_at_ms = $5, numbers = $6, final_height = $7,
             refused = $8, frozen_at_ms = $9, revoked_at_ms = $10, revoked_by = $11, altered_by = $12,
             ended_at_ms = $13, ended_mac = $14
         WHERE id = $1",
    )
    .bind(id.as_str().to_owned())
    .bind(row::digest_text(kid.as_ref()))
    .bind(seq.map(|seq| row::stored(seq, "seq")).transpose()?)
    .bind(row::digest_text(txid.as_ref()))
    .bind(row::ms(*signed_at))
    .bind(numbers)
    .bind(final_height.map(|height| row::stored(height, "final_height")).transpose()?)
    .bind(refused.clone())
    .bind(row::ms(*frozen_at))
    .bind(row::ms(*revoked_at))
    .bind(row::digest_text(revoked_by.as_ref()))
    .bind(row::digest_text(altered_by.as_ref()))
    .bind(row::ms(*ended_at))
    .bind(ended_at.map(|_over| protection.ended_grant(grant).to_vec()))
    .execute(tx)
    .await?;
    Ok(DbError::one_row(done.rows_affected())?)
}

/// Patients with live grants whose period is over.
pub async fn patients_with_expired(tx: &mut Tx, now: Timestamp) -> Result<Vec<PatientId>, Error> {
    let rows = sqlx::query(
        "SELECT DISTINCT patient FROM grants WHERE ended_at_ms IS NULL AND signed_at_ms IS NOT NULL
             AND until_ms <= $1 LIMIT 500",
    )
    .bind(now.ms())
    .fetch_all(tx)
    .await?;
    Ok(rows.iter().map(|row| Reader(row).parsed("patient")).collect::<Result<_, _>>()?)
}

/// Forgets drafts that were never signed and expired before `before`.
pub async fn forget_drafts(tx: &mut Tx, before: Timestamp) -> Result<u64, Error> {
    let done = sqlx::query("DELETE FROM grants WHERE signed_at_ms IS NULL AND draft_expires_at_ms < $1")
        .bind(before.ms())
        .execute(tx)
        .await?;
    Ok(done.rows_affected())
}

/// Forgets the drafts of a patient, or to a grantee, that are not signed.
pub async fn forget_drafts_of(tx: &mut Tx, account: &str) -> Result<(), Error> {
    sqlx::query("DELETE FROM grants WHERE signed_at_ms IS NULL AND (patient = $1 OR grantee = $1)")
        .bind(account.to_owned())
        .execute(tx)
        .await?;
    Ok(())
}

/// A consent key of a patient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// Its kid.
    pub kid: Digest,
    /// Whose.
    pub patient: PatientId,
    /// For grants to whom.
    pub grantee: GranteeId,
    /// The raw key.
    pub public_key: PublicKey,
    /// Place and transaction of its last event known here.
    pub last: (u64, Option<Digest>),
    /// Place and transaction of its last final event.
    pub last_final: (u64, Option<Digest>),
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

fn read_key(row: &AnyRow) -> Result<StoredKey, DbError> {
    let row = Reader(row);
    Ok(StoredKey {
        kid: row.parsed("kid")?,
        patient: row.parsed("patient")?,
        grantee: row.parsed("grantee")?,
        public_key: row.code("public_key", |text| PublicKey::parse(text).ok())?,
        last: (row.number("last_seq")?, row.parsed_opt("last_txid")?),
        last_final: (row.number("final_seq")?, row.parsed_opt("final_txid")?),
        revoked_at: row.time_opt("revoked_at_ms")?,
    })
}

/// A consent key by its kid.
pub async fn key(tx: &mut Tx, kid: Digest) -> Result<Option<StoredKey>, Error> {
    let row = sqlx::query("SELECT * FROM consent_keys WHERE kid = $1")
        .bind(kid.to_string())
        .fetch_optional(tx)
        .await?;
    Ok(row.map(|row| read_key(&row)).transpose()?)
}

/// The live consent key of this patient for this grantee.
pub async fn live_key(
    tx: &mut Tx,
    patient: &PatientId,
    grantee: &GranteeId,
) -> Result<Option<StoredKey>, Error> {
    let row = sqlx::query(
        "SELECT * FROM consent_keys WHERE patient = $1 AND grantee = $2 AND revoked_at_ms IS NULL
         ORDER BY created_at_ms DESC, kid LIMIT 1",
    )
    .bind(patient.as_str().to_owned())
    .bind(grantee.as_str().to_owned())
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| read_key(&row)).transpose()?)
}

/// Writes a consent key.
pub async fn put_key(tx: &mut Tx, key: &StoredKey, now: Timestamp) -> Result<(), Error> {
    let StoredKey { kid, patient, grantee, public_key, last, last_final, revoked_at } = key;
    sqlx::query(
        "INSERT INTO consent_keys (kid, patient, grantee, public_key, last_seq, last_txid, final_seq, final_txid,
             revoked_at_ms, created_at_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (kid) DO UPDATE SET last_seq = excluded.last_seq, last_txid = excluded.last_txid,
             final_seq = excluded.final_seq, final_txid = excluded.final_txid,
             revoked_at_ms = excluded.revoked_at_ms",
    )
    .bind(kid.to_string())
    .bind(patient.as_str().to_owned())
    .bind(grantee.as_str().to_owned())
    .bind(public_key.to_string())
    .bind(row::stored(last.0, "last_seq")?)
    .bind(row::digest_text(last.1.as_ref()))
    .bind(row::stored(last_final.0, "final_seq")?)
    .bind(row::digest_text(last_final.1.as_ref()))
    .bind(row::ms(*revoked_at))
    .bind(now.ms())
    .execute(tx)
    .await?;
    Ok(())
}

/// Ends all consent keys of a patient: none of them signs anything more.
pub async fn end_keys(tx: &mut Tx, patient: &PatientId, now: Timestamp) -> Result<(), Error> {
    sqlx::query("UPDATE consent_keys SET revoked_at_ms = $2 WHERE patient = $1 AND revoked_at_ms IS NULL")
        .bind(patient.as_str().to_owned())
        .bind(now.ms())
        .execute(tx)
        .await?;
    Ok(())
}

/// Remembers a revocation of a grant that is not known here.
pub async fn remember_revocation(
    tx: &mut Tx,
    kid: Digest,
    grant: &GrantId,
    txid: Digest,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO orphan_revocations (kid, grant_id, txid) VALUES ($1, $2, $3)
         ON CONFLICT (kid, grant_id) DO NOTHING",
    )
    .bind(kid.to_string())
    .bind(grant.as_str().to_owned())
    .bind(txid.to_string())
    .execute(tx)
    .await?;
    Ok(())
}

/// The revocation that came before its grant.
pub async fn early_revocation(tx: &mut Tx, kid: Digest, grant: &GrantId) -> Result<Option<Digest>, Error> {
    let row = sqlx::query("SELECT txid FROM orphan_revocations WHERE kid = $1 AND grant_id = $2")
        .bind(kid.to_string())
        .bind(grant.as_str().to_owned())
        .fetch_optional(tx)
        .await?;
    Ok(row.map(|row| Reader(&row).parsed("txid")).transpose()?)
}
