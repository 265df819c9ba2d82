//! Clients that agencies registered, and the assertions that were taken from them.

use hbc_client::assertion::ClientKeys;
use hbc_db::row::Reader;
use hbc_db::{Column, DbError, Tx};
use hbc_types::ids::{AgencyId, ClientId};
use hbc_types::scope::Scopes;
use hbc_types::wire::oauth::ClientKind;
use hbc_types::{Digest, Timestamp};
use sqlx::any::AnyRow;

use super::key_addresses::{KeyAddress, kept};
use super::{Rows, StoreError};
use crate::domain::floors::{CLIENT, Change};

const TABLE: &str = "clients";

/// A client as stored.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its id.
    pub id: ClientId,
    /// Whose.
    pub account: AgencyId,
    /// What the agency calls it.
    pub name: String,
    /// What it is.
    pub kind: ClientKind,
    /// Its public keys, a JWK Set; where it has an address for them, what was found there last.
    pub jwks: String,
    /// That address.
    pub keys_at: Option<KeyAddress>,
    /// The most that it may ask for.
    pub scopes: Scopes,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it got a token last.
    pub last_used_at: Option<Timestamp>,
    /// When it was removed.
    pub removed_at: Option<Timestamp>,
    /// How often its rights changed.
    pub version: i64,
}

impl Client {
    /// Its keys.
    pub fn keys(&self) -> Result<ClientKeys, StoreError> {
        kept(&self.jwks)
    }

    fn with_columns<T>(&self, work: impl FnOnce(&[Column<'_>]) -> T) -> T {
        let Self {
            id,
            account,
            name,
            kind,
            jwks,
            keys_at,
            scopes,
            created_at,
            last_used_at,
            removed_at,
            version,
        } = self;
        let scopes = scopes.to_string();
        let mut columns = vec![
            id.as_str().into(),
            account.as_str().into(),
            name.into(),
            kind.code().into(),
            jwks.into(),
            (&scopes).into(),
            created_at.ms().into(),
            last_used_at.map(Timestamp::ms).into(),
            removed_at.map(Timestamp::ms).into(),
            (*version).into(),
        ];
        columns.extend(keys_at.iter().flat_map(KeyAddress::columns));
        work(&columns)
    }

    fn read(row: &AnyRow, rows: &Rows) -> Result<Self, StoreError> {
        let row = Reader(row);
        let client = Self {
            id: row.parsed("id")?,
            account: row.parsed("account")?,
            name: row.text("name")?,
            kind: row.code("kind", ClientKind::parse)?,
            jwks: row.text("jwks")?,
            keys_at: KeyAddress::read(&row)?,
            scopes: row.parsed("scopes")?,
            created_at: row.time("created_at_ms")?,
            last_used_at: row.time_opt("last_used_at_ms")?,
            removed_at: row.time_opt("removed_at_ms")?,
            version: row.number("version")?,
        };
        let mac = row.bytes("mac")?;
        client.with_columns(|columns| rows.check(TABLE, columns, &mac))?;
        Ok(client)
    }

    fn last_change(&self) -> Change {
        Change::Client(self.id.clone(), self.version)
    }
}

impl Rows {
    /// Adds a client.
    pub async fn insert_client(&self, tx: &mut Tx, client: &Client) -> Result<(), StoreError> {
        self.note(client.last_change())?;
        let mac = client.with_columns(|columns| self.mac_of(TABLE, columns));
        let Client {
            id,
            account,
            name,
            kind,
            jwks,
            keys_at,
            scopes,
            created_at,
            last_used_at,
            removed_at,
            version,
        } = client;
        sqlx::query(
            "INSERT INTO clients (id, account, name, kind, jwks, scopes, created_at_ms, last_used_at_ms,
                 removed_at_ms, version, mac, jwks_uri, jwks_fetched_at_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        )
        .bind(id.as_str().to_owned())
        .bind(account.as_str().to_owned())
        .bind(name.clone())
        .bind(kind.code())
        .bind(jwks.clone())
        .bind(scopes.to_string())
        .bind(created_at.ms())
        .bind(last_used_at.map(Timestamp::ms))
        .bind(removed_at.map(Timestamp::ms))
        .bind(*version)
        .bind(mac)
        .bind(keys_at.as_ref().map(|at| at.uri.clone()))
        .bind(keys_at.as_ref().map(|at| at.fetched_at.ms()))
        .execute(tx)
        .await?;
        Ok(())
    }

    /// Writes a client back after its keys changed or it was removed.
    pub async fn change_client(&self, tx: &mut Tx, client: &mut Client) -> Result<(), StoreError> {
        client.version += 1;
        self.note(client.last_change())?;
        self.update_client(tx, client).await
    }

    /// Has the journal learn once more how often a client changed: the first time may have failed between database and journal.
    pub fn note_client(&self, client: &Client) -> Result<(), StoreError> {
        self.note(client.last_change())
    }

    /// Writes a client back after it got a token.
    pub async fn use_client(&self, tx: &mut Tx, client: &Client) -> Result<(), StoreError> {
        self.update_client(tx, client).await
    }

    /// Writes a client back after its address was asked for its keys. If they are the same, nothing changed but when that was.
    pub async fn keep_client_keys(
        &self,
        tx: &mut Tx,
        client: &mut Client,
        jwks: String,
    ) -> Result<(), StoreError> {
        if client.jwks == jwks {
            return self.update_client(tx, client).await;
        }
        client.jwks = jwks;
        self.change_client(tx, client).await
    }

    async fn update_client(&self, tx: &mut Tx, client: &Client) -> Result<(), StoreError> {
        let done = sqlx::query(
            "UPDATE clients SET jwks = $2, last_used_at_ms = $3, removed_at_ms = $4, version = $5, mac = $6,
                 jwks_uri = $7, jwks_fetched_at_ms = $8
             WHERE id = $1",
        )
        .bind(client.id.as_str().to_owned())
        .bind(client.jwks.clone())
        .bind(client.last_used_at.map(Timestamp::ms))
        .bind(client.removed_at.map(Timestamp::ms))
        .bind(client.version)
        .bind(client.with_columns(|columns| self.mac_of(TABLE, columns)))
        .bind(client.keys_at.as_ref().map(|at| at.uri.clone()))
        .bind(client.keys_at.as_ref().map(|at| at.fetched_at.ms()))
        .execute(tx)
        .await?;
        Ok(DbError::one_row(done.rows_affected())?)
    }

    /// The client with this id, removed ones too.
    pub async fn client<'e, E>(&self, executor: E, id: &ClientId) -> Result<Option<Client>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let known = self.floors.get(CLIENT, id.as_str());
        let row = sqlx::query("SELECT * FROM clients WHERE id = $1")
            .bind(id.as_str().to_owned())
            .fetch_optional(executor)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let client = Client::read(&row, self)?;
        self.check_age(TABLE, &client.last_change(), known)?;
        Ok(Some(client))
    }

    /// The registered clients of an agency, the oldest first.
    pub async fn clients_of<'e, E>(&self, executor: E, account: &AgencyId) -> Result<Vec<Client>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let rows = sqlx::query(
            "SELECT * FROM clients WHERE account = $1 AND removed_at_ms IS NULL ORDER BY created_at_ms, id",
        )
        .bind(account.as_str().to_owned())
        .fetch_all(executor)
        .await?;
        let mut clients = Vec::new();
        for row in &rows {
            let read = Client::read(row, self).and_then(|client| {
                let known = self.floors.get(CLIENT, client.id.as_str());
                self.check_age(TABLE, &client.last_change(), known).map(|()| client)
            });
            match read {
                Ok(client) => clients.push(client),
                // Of another hand: it is none, and the alarm is in the log.
                Err(StoreError::Tampered(_alarmed)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(clients)
    }

    /// How many clients an agency registered after `since`, removed ones too.
    pub async fn clients_since(
        &self,
        tx: &mut Tx,
        account: &AgencyId,
        since: Timestamp,
    ) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT COUNT(*) AS n FROM clients WHERE account = $1 AND created_at_ms > $2")
            .bind(account.as_str().to_owned())
            .bind(since.ms())
            .fetch_one(tx)
            .await?;
        Ok(Reader(&row).number("n")?)
    }

    /// Takes an assertion, of which `id` is a hash; false if it was taken before.
    pub async fn take_assertion(
        &self,
        tx: &mut Tx,
        id: Digest,
        expires_at: Timestamp,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO client_assertions (id, expires_at_ms) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING",
        )
        .bind(id.to_string())
        .bind(expires_at.ms())
        .execute(tx)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Forgets assertions that expired before `before`.
    pub async fn prune_assertions(&self, tx: &mut Tx, before: Timestamp) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM client_assertions WHERE expires_at_ms < $1")
            .bind(before.ms())
            .execute(tx)
            .await?;
        Ok(())
    }
}
