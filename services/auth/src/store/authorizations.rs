//! Apps' questions to patients, from their coming to the code that answers them. Of a code only the hash is kept.

use hbc_db::row::{self, Reader};
use hbc_db::{Column, DbError, Tx};
use hbc_types::ids::{AppId, AuthorizationId, PatientId, SessionId};
use hbc_types::scope::Scopes;
use hbc_types::{Digest, Timestamp};
use sqlx::any::AnyRow;

use super::{Rows, StoreError};
use crate::domain::authorization::Step;

const TABLE: &str = "authorizations";

/// A question as stored.
#[derive(Clone, Debug)]
pub struct Authorization {
    /// Its id.
    pub id: AuthorizationId,
    /// Who is asked.
    pub patient: PatientId,
    /// Who asks.
    pub app: AppId,
    /// Where the answer goes.
    pub redirect_uri: String,
    /// What is asked for; from the answer on what is given.
    pub scopes: Scopes,
    /// The app's own word, given back with the answer.
    pub state: Option<String>,
    /// The app's word for the ID token.
    pub nonce: Option<String>,
    /// The FHIR server that the app means to call.
    pub fhir_url: String,
    /// `code_challenge`, by S256 (RFC 7636 §4.2).
    pub challenge: Digest,
    /// How far it is.
    pub step: Step,
    /// When it came.
    pub created_at: Timestamp,
    /// Until when the next step can be made.
    pub expires_at: Timestamp,
    /// Until when the app may go on.
    pub until: Timestamp,
    /// Hash of the code.
    pub code_hash: Option<Digest>,
    /// The session that the code opened.
    pub session: Option<SessionId>,
    /// How many steps there were.
    pub version: i64,
}

impl Authorization {
    fn with_columns<T>(&self, work: impl FnOnce(&[Column<'_>]) -> T) -> T {
        let Self {
            id,
            patient,
            app,
            redirect_uri,
            scopes,
            state,
            nonce,
            fhir_url,
            challenge,
            step,
            created_at,
            expires_at,
            until,
            code_hash,
            session,
            version,
        } = self;
        let (scopes, challenge) = (scopes.to_string(), challenge.to_string());
        let code_hash = code_hash.as_ref().map(ToString::to_string);
        work(&[
            id.as_str().into(),
            patient.as_str().into(),
            app.as_str().into(),
            redirect_uri.into(),
            (&scopes).into(),
            state.as_ref().into(),
            nonce.as_ref().into(),
            fhir_url.into(),
            (&challenge).into(),
            step.code().into(),
            created_at.ms().into(),
            expires_at.ms().into(),
            until.ms().into(),
            code_hash.as_ref().into(),
            session.as_ref().map(SessionId::as_str).into(),
            (*version).into(),
        ])
    }

    fn read(row: &AnyRow, rows: &Rows) -> Result<Self, StoreError> {
        let row = Reader(row);
        let authorization = Self {
            id: row.parsed("id")?,
            patient: row.parsed("patient")?,
            app: row.parsed("app")?,
            redirect_uri: row.text("redirect_uri")?,
            scopes: row.parsed("scopes")?,
            state: row.text_opt("state")?,
            nonce: row.text_opt("nonce")?,
            fhir_url: row.text("fhir_url")?,
            challenge: row.parsed("challenge")?,
            step: row.code("step", Step::parse)?,
            created_at: row.time("created_at_ms")?,
            expires_at: row.time("expires_at_ms")?,
            until: row.time("until_ms")?,
            code_hash: row.parsed_opt("code_hash")?,
            session: row.parsed_opt("session")?,
            version: row.number("version")?,
        };
        let mac = row.bytes("mac")?;
        authorization.with_columns(|columns| rows.check(TABLE, columns, &mac))?;
        Ok(authorization)
    }
}

impl Rows {
    /// Adds a question.
    pub async fn insert_authorization(&self, tx: &mut Tx, new: &Authorization) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO authorizations (id, patient, app, redirect_uri, scopes, state, nonce, fhir_url, challenge, step,
                 created_at_ms, expires_at_ms, until_ms, code_hash, session, version, mac)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
        )
        .bind(new.id.as_str().to_owned())
        .bind(new.patient.as_str().to_owned())
        .bind(new.app.as_str().to_owned())
        .bind(new.redirect_uri.clone())
        .bind(new.scopes.to_string())
        .bind(new.state.clone())
        .bind(new.nonce.clone())
        .bind(new.fhir_url.clone())
        .bind(new.challenge.to_string())
        .bind(new.step.code())
        .bind(new.created_at.ms())
        .bind(new.expires_at.ms())
        .bind(new.until.ms())
        .bind(row::digest_text(new.code_hash.as_ref()))
        .bind(new.session.as_ref().map(ToString::to_string))
        .bind(new.version)
        .bind(new.with_columns(|columns| self.mac_of(TABLE, columns)))
        .execute(tx)
        .await?;
        Ok(())
    }

    /// The question with this id.
    pub async fn authorization<'e, E>(
        &self,
        executor: E,
        id: &AuthorizationId,
    ) -> Result<Option<Authorization>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let row = sqlx::query("SELECT * FROM authorizations WHERE id = $1")
            .bind(id.as_str().to_owned())
            .fetch_optional(executor)
            .await?;
        row.map(|row| Authorization::read(&row, self)).transpose()
    }

    /// The question that this code answers.
    pub async fn authorization_by_code(
        &self,
        tx: &mut Tx,
        code: Digest,
    ) -> Result<Option<Authorization>, StoreError> {
        let row = sqlx::query("SELECT * FROM authorizations WHERE code_hash = $1")
            .bind(code.to_string())
            .fetch_optional(tx)
            .await?;
        row.map(|row| Authorization::read(&row, self)).transpose()
    }

    /// How many questions of a patient are not answered yet, or answered by a code that nobody used.
    pub async fn open_authorizations(
        &self,
        tx: &mut Tx,
        patient: &PatientId,
        now: Timestamp,
    ) -> Result<Vec<Authorization>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM authorizations WHERE patient = $1 AND expires_at_ms > $2 AND step IN ('asked', 'allowed')",
        )
        .bind(patient.as_str().to_owned())
        .bind(now.ms())
        .fetch_all(tx)
        .await?;
        rows.iter().map(|row| Authorization::read(row, self)).collect()
    }

    /// How many questions came to a patient after `since`.
    pub async fn authorizations_since(
        &self,
        tx: &mut Tx,
        patient: &PatientId,
        since: Timestamp,
    ) -> Result<i64, StoreError> {
        let row =
            sqlx::query("SELECT COUNT(*) AS n FROM authorizations WHERE patient = $1 AND created_at_ms > $2")
                .bind(patient.as_str().to_owned())
                .bind(since.ms())
                .fetch_one(tx)
                .await?;
        Ok(Reader(&row).number("n")?)
    }

    /// Writes a question back after its next step; nobody else made one meanwhile.
    pub async fn step_authorization(&self, tx: &mut Tx, next: &mut Authorization) -> Result<(), StoreError> {
        next.version += 1;
        let done = sqlx::query(
            "UPDATE authorizations SET scopes = $2, step = $3, expires_at_ms = $4, until_ms = $5, code_hash = $6,
                 session = $7, version = $8, mac = $9
             WHERE id = $1 AND version = $8 - 1",
        )
        .bind(next.id.as_str().to_owned())
        .bind(next.scopes.to_string())
        .bind(next.step.code())
        .bind(next.expires_at.ms())
        .bind(next.until.ms())
        .bind(row::digest_text(next.code_hash.as_ref()))
        .bind(next.session.as_ref().map(ToString::to_string))
        .bind(next.version)
        .bind(next.with_columns(|columns| self.mac_of(TABLE, columns)))
        .execute(tx)
        .await?;
        Ok(DbError::one_row(done.rows_affected())?)
    }

    /// Forgets questions whose last step could be made before `before`.
    pub async fn prune_authorizations(&self, tx: &mut Tx, before: Timestamp) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM authorizations WHERE expires_at_ms < $1")
            .bind(before.ms())
            .execute(tx)
            .await?;
        Ok(())
    }
}
