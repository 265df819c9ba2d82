//! Sessions (families of refresh tokens) and the tokens themselves, of which only hashes are kept.

use hbc_db::{Column, DbError, Tx};
use hbc_types::ids::{AccountId, OAuthClientId, PasskeyId, PatientId, SessionId};
use hbc_types::scope::Scopes;
use hbc_types::{Digest, Timestamp};
use sqlx::any::AnyRow;

use super::{Rows, StoreError};
use crate::domain::floors::{self, Change, SESSION};
use crate::domain::token::Amr;
use hbc_db::row::Reader;

const SESSIONS: &str = "sessions";
const TOKENS: &str = "refresh_tokens";

/// A session as stored.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Whose.
    pub account: AccountId,
    /// How credentials were checked.
    pub amr: Amr,
    /// When.
    pub auth_time: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// When it was ended.
    pub ended_at: Option<Timestamp>,
    /// Why: `logout`, `reuse`, `revoked`, `suspended`, `password`, `recovery`, `factor`, `removed` of programs and passkeys,
    /// and `keys` of programs.
    pub end_reason: Option<String>,
    /// What its owner is told; sessions of an earlier version have none.
    pub told: Option<Told>,
}

/// What the owner of a session is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// When it began.
    pub created_at: Timestamp,
    /// When tokens were given last.
    pub last_used_at: Timestamp,
    /// With what, coarsely ([`crate::domain::client`]).
    pub client: Option<String>,
    /// The client that it is of, if the account itself did not sign in.
    pub oauth_client: Option<OAuthClientId>,
    /// The passkey that it was opened with.
    pub passkey: Option<PasskeyId>,
    /// Apps: for whom.
    pub let_in: Option<LetIn>,
}

/// What a patient let an app in for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetIn {
    /// The patient.
    pub patient: PatientId,
    /// What for.
    pub scopes: Scopes,
}

impl Session {
    fn with_columns<T>(&self, work: impl FnOnce(&[Column<'_>]) -> T) -> T {
        let let_in = self.told.as_ref().and_then(|told| told.let_in.as_ref());
        let scopes = let_in.map(|let_in| let_in.scopes.to_string());
        let mut columns = self.columns();
        if let (Some(let_in), Some(scopes)) = (let_in, &scopes) {
            columns.extend([Column::from(let_in.patient.as_str()), scopes.into()]);
        }
        work(&columns)
    }

    /// All but what an app was let in for.
    fn columns(&self) -> Vec<Column<'_>> {
        let Self { id, account, amr, auth_time, expires_at, ended_at, end_reason, told } = self;
        let mut columns = vec![
            id.as_str().into(),
            account.as_str().into(),
            amr.code().into(),
            auth_time.ms().into(),
            expires_at.ms().into(),
            ended_at.map(Timestamp::ms).into(),
            end_reason.as_ref().into(),
        ];
        if let Some(Told { created_at, last_used_at, client, oauth_client, passkey, let_in: _last }) = told {
            let told: [Column<'_>; 3] =
                [created_at.ms().into(), last_used_at.ms().into(), client.as_ref().into()];
            columns.extend(told);
            // Their prefixes tell the two apart.
            columns.extend(oauth_client.as_ref().map(|client| Column::from(client.as_str())));
            columns.extend(passkey.as_ref().map(|passkey| Column::from(passkey.as_str())));
        }
        columns
    }

    /// Tokens are given at `now`.
    pub fn used(&mut self, now: Timestamp) {
        if let Some(told) = &mut self.told {
            told.last_used_at = now;
        }
    }

    /// Whether it counts at `now` for this account.
    pub fn is_live_for(&self, account: &AccountId, now: Timestamp) -> bool {
        self.account == *account && self.is_live(now)
    }

    /// Whether it is of this client.
    #[must_use]
    pub fn is_of(&self, client: &OAuthClientId) -> bool {
        self.told.as_ref().is_some_and(|told| told.oauth_client.as_ref() == Some(client))
    }

    /// What an app was let in for.
    #[must_use]
    pub fn let_in(&self) -> Option<&LetIn> {
        self.told.as_ref().and_then(|told| told.let_in.as_ref())
    }

    /// Whether it was opened with this passkey.
    #[must_use]
    pub fn is_opened_with(&self, passkey: &PasskeyId) -> bool {
        self.told.as_ref().is_some_and(|told| told.passkey.as_ref() == Some(passkey))
    }

    /// Whether it counts at `now`.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.ended_at.is_none() && now < self.expires_at
    }

    fn read(row: &AnyRow, rows: &Rows) -> Result<Self, StoreError> {
        let row = Reader(row);
        let session = Self {
            id: row.parsed("id")?,
            account: row.parsed("account")?,
            amr: row.code("amr", Amr::parse)?,
            auth_time: row.time("auth_time_ms")?,
            expires_at: row.time("expires_at_ms")?,
            ended_at: row.time_opt("ended_at_ms")?,
            end_reason: row.text_opt("end_reason")?,
            told: match (row.time_opt("created_at_ms")?, row.time_opt("last_used_at_ms")?) {
                (Some(created_at), Some(last_used_at)) => {
                    let let_in = match (row.parsed_opt("patient")?, row.parsed_opt("scopes")?) {
                        (Some(patient), Some(scopes)) => Some(LetIn { patient, scopes }),
                        _ => None,
                    };
                    let (oauth_client, passkey) =
                        (row.parsed_opt("oauth_client")?, row.parsed_opt("passkey")?);
                    let client = row.text_opt("client")?;
                    Some(Told { created_at, last_used_at, client, oauth_client, passkey, let_in })
                }
                _ => None,
            },
        };
        let mac = row.bytes("mac")?;
        session.with_columns(|columns| rows.check(SESSIONS, columns, &mac))?;
        Ok(session)
    }

    /// As its row says: one that did not end is as old as no change.
    fn last_change(&self) -> Change {
        let end = self.ended_at.map_or(Timestamp::from_ms(i64::MIN), |_ended| self.expires_at);
        Change::Session(self.id.clone(), end)
    }
}

/// A refresh token as stored.
#[derive(Clone, Debug)]
pub struct StoredToken {
    /// Hash of the token.
    pub hash: Digest,
    /// Its family.
    pub session: SessionId,
    /// Until when it is good.
    pub expires_at: Timestamp,
    /// When it was used.
    pub used_at: Option<Timestamp>,
}

impl StoredToken {
    fn with_columns<T>(&self, work: impl FnOnce(&[Column<'_>]) -> T) -> T {
        let Self { hash, session, expires_at, used_at } = self;
        let hash = hash.to_string();
        work(&[
            (&hash).into(),
            session.as_str().into(),
            expires_at.ms().into(),
            used_at.map(Timestamp::ms).into(),
        ])
    }
}

impl Rows {
    /// Adds a session.
    pub async fn insert_session(&self, tx: &mut Tx, session: &Session) -> Result<(), StoreError> {
        let Session { id, account, amr, auth_time, expires_at, ended_at, end_reason, told } = session;
        let let_in = told.as_ref().and_then(|told| told.let_in.as_ref());
        sqlx::query(
            "INSERT INTO sessions (id, account, amr, auth_time_ms, expires_at_ms, ended_at_ms, end_reason, mac,
                 created_at_ms, last_used_at_ms, client, oauth_client, patient, scopes, passkey)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        )
        .bind(id.as_str().to_owned())
        .bind(account.as_str().to_owned())
        .bind(amr.code())
        .bind(auth_time.ms())
        .bind(expires_at.ms())
        .bind(ended_at.map(Timestamp::ms))
        .bind(end_reason.clone())
        .bind(session.with_columns(|columns| self.mac_of(SESSIONS, columns)))
        .bind(told.as_ref().map(|told| told.created_at.ms()))
        .bind(told.as_ref().map(|told| told.last_used_at.ms()))
        .bind(told.as_ref().and_then(|told| told.client.clone()))
        .bind(told.as_ref().and_then(|told| told.oauth_client.as_ref()).map(ToString::to_string))
        .bind(let_in.map(|let_in| let_in.patient.to_string()))
        .bind(let_in.map(|let_in| let_in.scopes.to_string()))
        .bind(told.as_ref().and_then(|told| told.passkey.as_ref()).map(ToString::to_string))
        .execute(tx)
        .await?;
        Ok(())
    }

    /// The session with this id.
    pub async fn session<'e, E>(&self, executor: E, id: &str) -> Result<Option<Session>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let known = self.floors.get(SESSION, id);
        let row = sqlx::query("SELECT * FROM sessions WHERE id = $1")
            .bind(id.to_owned())
            .fetch_optional(executor)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let session = Session::read(&row, self)?;
        self.check_age(SESSIONS, &session.last_change(), known)?;
        Ok(Some(session))
    }

    /// Sessions of `account` that count at `now`. Those of which another hand says so are left out: they have ended.
    pub async fn open_sessions<'e, E>(
        &self,
        executor: E,
        account: &str,
        now: Timestamp,
    ) -> Result<Vec<Session>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let rows = sqlx::query(
            "SELECT * FROM sessions WHERE account = $1 AND ended_at_ms IS NULL AND expires_at_ms > $2",
        )
        .bind(account.to_owned())
        .bind(now.ms())
        .fetch_all(executor)
        .await?;
        self.unended(&rows)
    }

    /// Sessions of apps that a patient let in, which count at `now`.
    pub async fn app_sessions<'e, E>(
        &self,
        executor: E,
        patient: &PatientId,
        now: Timestamp,
    ) -> Result<Vec<Session>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let rows = sqlx::query(
            "SELECT * FROM sessions WHERE patient = $1 AND ended_at_ms IS NULL AND expires_at_ms > $2",
        )
        .bind(patient.as_str().to_owned())
        .bind(now.ms())
        .fetch_all(executor)
        .await?;
        self.unended(&rows)
    }

    fn unended(&self, rows: &[AnyRow]) -> Result<Vec<Session>, StoreError> {
        let read: Vec<Session> = rows.iter().map(|row| Session::read(row, self)).collect::<Result<_, _>>()?;
        Ok(read.into_iter().filter(|session| !floors::has_ended(&self.floors, &session.id)).collect())
    }

    /// Has the journal learn once more that a session ended: the first time may have failed between database and journal.
    pub fn note_end(&self, session: &Session) -> Result<(), StoreError> {
        self.note(session.last_change())
    }

    /// Writes a session back after [`Session::ended_at`] was set.
    pub async fn end_session(&self, tx: &mut Tx, session: &Session) -> Result<(), StoreError> {
        self.note(session.last_change())?;
        let done =
            sqlx::query("UPDATE sessions SET ended_at_ms = $2, end_reason = $3, mac = $4 WHERE id = $1")
                .bind(session.id.as_str().to_owned())
                .bind(session.ended_at.map(Timestamp::ms))
                .bind(session.end_reason.clone())
                .bind(session.with_columns(|columns| self.mac_of(SESSIONS, columns)))
                .execute(tx)
                .await?;
        Ok(DbError::one_row(done.rows_affected())?)
    }

    /// Writes a session back after it was used, or its credentials were shown again.
    pub async fn use_session(&self, tx: &mut Tx, session: &Session) -> Result<(), StoreError> {
        let done = sqlx::query(
            "UPDATE sessions SET amr = $2, auth_time_ms = $3, last_used_at_ms = $4, mac = $5 WHERE id = $1",
        )
        .bind(session.id.as_str().to_owned())
        .bind(session.amr.code())
        .bind(session.auth_time.ms())
        .bind(session.told.as_ref().map(|told| told.last_used_at.ms()))
        .bind(session.with_columns(|columns| self.mac_of(SESSIONS, columns)))
        .execute(tx)
        .await?;
        Ok(DbError::one_row(done.rows_affected())?)
    }

    /// Adds a refresh token.
    pub async fn insert_token(&self, tx: &mut Tx, token: &StoredToken) -> Result<(), StoreError> {
        let mac = token.with_columns(|columns| self.mac_of(TOKENS, columns));
        let StoredToken { hash, session, expires_at, used_at } = token;
        sqlx::query(
            "INSERT INTO refresh_tokens (hash, session, expires_at_ms, used_at_ms, mac) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(hash.to_string())
        .bind(session.as_str().to_owned())
        .bind(expires_at.ms())
        .bind(used_at.map(Timestamp::ms))
        .bind(mac)
        .execute(tx)
        .await?;
        Ok(())
    }

    /// The token with this hash.
    pub async fn token<'e, E>(&self, executor: E, hash: Digest) -> Result<Option<StoredToken>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let row = sqlx::query("SELECT * FROM refresh_tokens WHERE hash = $1")
            .bind(hash.to_string())
            .fetch_optional(executor)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let row = Reader(&row);
        let token = StoredToken {
            hash: row.parsed("hash")?,
            session: row.parsed("session")?,
            expires_at: row.time("expires_at_ms")?,
            used_at: row.time_opt("used_at_ms")?,
        };
        let mac = row.bytes("mac")?;
        token.with_columns(|columns| self.check(TOKENS, columns, &mac))?;
        Ok(Some(token))
    }

    /// Writes a token back after [`StoredToken::used_at`] was set; it must not have been used before.
    pub async fn use_token(&self, tx: &mut Tx, token: &StoredToken) -> Result<(), StoreError> {
        let mac = token.with_columns(|columns| self.mac_of(TOKENS, columns));
        let done = sqlx::query(
            "UPDATE refresh_tokens SET used_at_ms = $2, mac = $3 WHERE hash = $1 AND used_at_ms IS NULL",
        )
        .bind(token.hash.to_string())
        .bind(token.used_at.map(Timestamp::ms))
        .bind(mac)
        .execute(tx)
        .await?;
        Ok(DbError::one_row(done.rows_affected())?)
    }

    /// Forgets sessions and tokens that expired before `before`, and sessions of programs that did before `programs`.
    pub async fn prune_sessions(
        &self,
        tx: &mut Tx,
        before: Timestamp,
        programs: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM refresh_tokens WHERE expires_at_ms < $1")
            .bind(before.ms())
            .execute(&mut *tx)
            .await?;
        sqlx::query(
            "DELETE FROM sessions
             WHERE expires_at_ms < $1 OR (expires_at_ms < $2 AND oauth_client IS NOT NULL)",
        )
        .bind(before.ms())
        .bind(programs.ms())
        .execute(tx)
        .await?;
        Ok(())
    }
}
