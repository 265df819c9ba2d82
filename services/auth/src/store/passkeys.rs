//! Passkeys of accounts, and the challenges that were not answered yet.

use hbc_db::row::Reader;
use hbc_db::{Column, DbError, Tx};
use hbc_types::hash::domain_hash;
use hbc_types::ids::{AccountId, PasskeyId, SessionId};
use hbc_types::secret::Bytes;
use hbc_types::{Digest, Timestamp};
use sqlx::any::AnyRow;

use super::{Rows, StoreError};
use crate::domain::floors::{Change, PASSKEY};
use crate::domain::webauthn::Backup;

const TABLE: &str = "passkeys";
const CHALLENGES: &str = "passkey_challenges";

/// A passkey as stored.
#[derive(Clone, Debug)]
pub struct Passkey {
    /// Its id here.
    pub id: PasskeyId,
    /// Whose.
    pub account: AccountId,
    /// The authenticator's id of it.
    pub credential: Bytes,
    /// The COSE key.
    pub public_key: Vec<u8>,
    /// What its owner calls it.
    pub name: String,
    /// How its authenticator is reached, as the browser said: lowercase words with spaces between them.
    pub transports: String,
    /// How often its authenticator had signed when it was used last.
    pub sign_count: u32,
    /// Whether it was backed up then.
    pub backup: Backup,
    /// Whether its authenticator derives secrets.
    pub prf: bool,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When somebody signed in with it last.
    pub last_used_at: Option<Timestamp>,
    /// When it was removed.
    pub removed_at: Option<Timestamp>,
    /// How often its rights changed.
    pub version: i64,
}

impl Passkey {
    fn with_columns<T>(&self, work: impl FnOnce(&[Column<'_>]) -> T) -> T {
        let Self {
            id,
            account,
            credential,
            public_key,
            name,
            transports,
            sign_count,
            backup,
            prf,
            created_at,
            last_used_at,
            removed_at,
            version,
        } = self;
        work(&[
            id.as_str().into(),
            account.as_str().into(),
            credential.as_slice().into(),
            public_key.as_slice().into(),
            name.into(),
            transports.into(),
            i64::from(*sign_count).into(),
            backup.code().into(),
            i64::from(*prf).into(),
            created_at.ms().into(),
            last_used_at.map(Timestamp::ms).into(),
            removed_at.map(Timestamp::ms).into(),
            (*version).into(),
        ])
    }

    fn read(row: &AnyRow, rows: &Rows) -> Result<Self, StoreError> {
        let row = Reader(row);
        let passkey = Self {
            id: row.parsed("id")?,
            account: row.parsed("account")?,
            credential: Bytes::new(row.bytes("credential")?),
            public_key: row.bytes("public_key")?,
            name: row.text("name")?,
            transports: row.text("transports")?,
            sign_count: row.number("sign_count")?,
            backup: row.code("backup", Backup::parse)?,
            prf: row.number::<u8>("prf")? != 0,
            created_at: row.time("created_at_ms")?,
            last_used_at: row.time_opt("last_used_at_ms")?,
            removed_at: row.time_opt("removed_at_ms")?,
            version: row.number("version")?,
        };
        let mac = row.bytes("mac")?;
        passkey.with_columns(|columns| rows.check(TABLE, columns, &mac))?;
        Ok(passkey)
    }

    fn last_change(&self) -> Change {
        Change::Passkey(self.id.clone(), self.version)
    }
}

/// A challenge that was not answered yet, as stored.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// A hash of it.
    pub id: Digest,
    /// The session in which a passkey is made or shown; without it somebody signs in.
    pub session: Option<SessionId>,
    /// Until when it is good.
    pub expires_at: Timestamp,
}

impl Challenge {
    /// The id of a challenge for making a passkey or signing in.
    #[must_use]
    pub fn id_of(challenge: &[u8]) -> Digest {
        domain_hash("hbc/passkey-challenge/v1", &[challenge])
    }

    /// The id of a challenge for showing a passkey again. It needs no password, so that it makes no passkey either: it is none of
    /// the others.
    #[must_use]
    pub fn step_up_id_of(challenge: &[u8]) -> Digest {
        domain_hash("hbc/passkey-step-up/v1", &[challenge])
    }

    fn with_columns<T>(&self, work: impl FnOnce(&[Column<'_>]) -> T) -> T {
        let Self { id, session, expires_at } = self;
        work(&[
            id.as_bytes().as_slice().into(),
            session.as_ref().map(SessionId::as_str).into(),
            expires_at.ms().into(),
        ])
    }

    /// Whether it is good at `now` for what is done in `session`, or without one.
    #[must_use]
    pub fn is_good_for(&self, session: Option<&SessionId>, now: Timestamp) -> bool {
        self.session.as_ref() == session && now < self.expires_at
    }
}

impl Rows {
    /// What authenticators have as the user handle of an account: 32 bytes that tell nobody which it is.
    #[must_use]
    pub fn passkey_user(&self, account: &AccountId) -> [u8; 32] {
        self.mac.compute("passkey_user", &[account.as_str().into()])
    }

    /// Adds a passkey; false if its credential is registered, or was.
    pub async fn insert_passkey(&self, tx: &mut Tx, passkey: &Passkey) -> Result<bool, StoreError> {
        let mac = passkey.with_columns(|columns| self.mac_of(TABLE, columns));
        let Passkey {
            id,
            account,
            credential,
            public_key,
            name,
            transports,
            sign_count,
            backup,
            prf,
            created_at,
            last_used_at,
            removed_at,
            version,
        } = passkey;
        let done = sqlx::query(
            "INSERT INTO passkeys (id, account, credential, public_key, name, transports, sign_count, backup, prf,
                 created_at_ms, last_used_at_ms, removed_at_ms, version, mac)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
             ON CONFLICT (credential) DO NOTHING",
        )
        .bind(id.as_str().to_owned())
        .bind(account.as_str().to_owned())
        .bind(credential.as_slice().to_vec())
        .bind(public_key.clone())
        .bind(name.clone())
        .bind(transports.clone())
        .bind(i64::from(*sign_count))
        .bind(backup.code())
        .bind(i64::from(*prf))
        .bind(created_at.ms())
        .bind(last_used_at.map(Timestamp::ms))
        .bind(removed_at.map(Timestamp::ms))
        .bind(*version)
        .bind(mac)
        .execute(tx)
        .await?;
        let added = done.rows_affected() == 1;
        if added {
            self.note(passkey.last_change())?;
        }
        Ok(added)
    }

    /// Writes a passkey back after it was removed.
    pub async fn change_passkey(&self, tx: &mut Tx, passkey: &mut Passkey) -> Result<(), StoreError> {
        passkey.version += 1;
        self.note(passkey.last_change())?;
        self.update_passkey(tx, passkey).await
    }

    /// Has the journal learn once more how often a passkey changed: the first time may have failed between database and
    /// journal.
    pub fn note_passkey(&self, passkey: &Passkey) -> Result<(), StoreError> {
        self.note(passkey.last_change())
    }

    /// Writes a passkey back after somebody signed in with it.
    pub async fn use_passkey(&self, tx: &mut Tx, passkey: &Passkey) -> Result<(), StoreError> {
        self.update_passkey(tx, passkey).await
    }

    async fn update_passkey(&self, tx: &mut Tx, passkey: &Passkey) -> Result<(), StoreError> {
        let done = sqlx::query(
            "UPDATE passkeys SET sign_count = $2, backup = $3, last_used_at_ms = $4, removed_at_ms = $5, version = $6,
                 mac = $7
             WHERE id = $1",
        )
        .bind(passkey.id.as_str().to_owned())
        .bind(i64::from(passkey.sign_count))
        .bind(passkey.backup.code())
        .bind(passkey.last_used_at.map(Timestamp::ms))
        .bind(passkey.removed_at.map(Timestamp::ms))
        .bind(passkey.version)
        .bind(passkey.with_columns(|columns| self.mac_of(TABLE, columns)))
        .execute(tx)
        .await?;
        Ok(DbError::one_row(done.rows_affected())?)
    }

    /// The passkey with this id, removed ones too.
    pub async fn passkey<'e, E>(&self, executor: E, id: &PasskeyId) -> Result<Option<Passkey>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let known = self.floors.get(PASSKEY, id.as_str());
        let row = sqlx::query("SELECT * FROM passkeys WHERE id = $1")
            .bind(id.as_str().to_owned())
            .fetch_optional(executor)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let passkey = Passkey::read(&row, self)?;
        self.check_age(TABLE, &passkey.last_change(), known)?;
        Ok(Some(passkey))
    }

    /// The id here of the passkey that its authenticator knows by this one. It is a name and no more: [`Rows::passkey`] says
    /// whether there is such a passkey.
    pub async fn passkey_named<'e, E>(
        &self,
        executor: E,
        credential: &Bytes,
    ) -> Result<Option<PasskeyId>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let row = sqlx::query("SELECT id FROM passkeys WHERE credential = $1")
            .bind(credential.as_slice().to_vec())
            .fetch_optional(executor)
            .await?;
        Ok(row.map(|row| Reader(&row).parsed("id")).transpose()?)
    }

    /// The registered passkeys of an account, the oldest first.
    pub async fn passkeys_of<'e, E>(
        &self,
        executor: E,
        account: &AccountId,
    ) -> Result<Vec<Passkey>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let rows = sqlx::query(
            "SELECT * FROM passkeys WHERE account = $1 AND removed_at_ms IS NULL ORDER BY created_at_ms, id",
        )
        .bind(account.as_str().to_owned())
        .fetch_all(executor)
        .await?;
        let mut passkeys = Vec::new();
        for row in &rows {
            let read = Passkey::read(row, self).and_then(|passkey| {
                let known = self.floors.get(PASSKEY, passkey.id.as_str());
                self.check_age(TABLE, &passkey.last_change(), known).map(|()| passkey)
            });
            match read {
                Ok(passkey) => passkeys.push(passkey),
                // A passkey changes once, when it is removed: a row below its floor, of whatever hand, is of one that was.
                Err(StoreError::Tampered(_) | StoreError::SetBack(_)) => {}
                Err(error @ StoreError::Db(_)) => return Err(error),
            }
        }
        Ok(passkeys)
    }

    /// Deletes what is stored of an account's passkeys. Those that are still registered are removed first: the journal knows
    /// of that, so that none of them comes back with its row.
    pub async fn delete_passkeys(&self, tx: &mut Tx, account: &AccountId) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM passkeys WHERE account = $1")
            .bind(account.as_str().to_owned())
            .execute(tx)
            .await?;
        Ok(())
    }

    /// How many passkeys an account registered after `since`, removed ones too.
    pub async fn passkeys_since(
        &self,
        tx: &mut Tx,
        account: &AccountId,
        since: Timestamp,
    ) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT COUNT(*) AS n FROM passkeys WHERE account = $1 AND created_at_ms > $2")
            .bind(account.as_str().to_owned())
            .bind(since.ms())
            .fetch_one(tx)
            .await?;
        Ok(Reader(&row).number("n")?)
    }

    /// Adds a challenge.
    pub async fn insert_challenge(&self, tx: &mut Tx, challenge: &Challenge) -> Result<(), StoreError> {
        let mac = challenge.with_columns(|columns| self.mac_of(CHALLENGES, columns));
        let Challenge { id, session, expires_at } = challenge;
        sqlx::query(
            "INSERT INTO passkey_challenges (id, session, expires_at_ms, mac) VALUES ($1, $2, $3, $4)",
        )
        .bind(id.to_string())
        .bind(session.as_ref().map(ToString::to_string))
        .bind(expires_at.ms())
        .bind(mac)
        .execute(tx)
        .await?;
        Ok(())
    }

    /// The challenge with this id, if it was not answered yet.
    pub async fn challenge<'e, E>(&self, executor: E, id: Digest) -> Result<Option<Challenge>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let row = sqlx::query("SELECT * FROM passkey_challenges WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(executor)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let row = Reader(&row);
        let challenge = Challenge {
            id: row.parsed("id")?,
            session: row.parsed_opt("session")?,
            expires_at: row.time("expires_at_ms")?,
        };
        let mac = row.bytes("mac")?;
        challenge.with_columns(|columns| self.check(CHALLENGES, columns, &mac))?;
        Ok(Some(challenge))
    }

    /// Takes a challenge; false if another took it meanwhile.
    pub async fn take_challenge(&self, tx: &mut Tx, id: Digest) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM passkey_challenges WHERE id = $1")
            .bind(id.to_string())
            .execute(tx)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Forgets challenges that nobody answered before `now`.
    pub async fn prune_challenges(&self, tx: &mut Tx, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM passkey_challenges WHERE expires_at_ms <= $1")
            .bind(now.ms())
            .execute(tx)
            .await?;
        Ok(())
    }
}
