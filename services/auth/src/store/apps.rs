//! Third-party apps, and the orders that operators signed about them.

use hbc_chain::payload::OrderKind;
use hbc_client::assertion::ClientKeys;
use hbc_db::row::Reader;
use hbc_db::{Column, DbError, Tx};
use hbc_types::account::Standing;
use hbc_types::ids::{AppId, OperatorId};
use hbc_types::scope::Scopes;
use hbc_types::{Digest, Timestamp};
use sqlx::any::AnyRow;

use super::key_addresses::{KeyAddress, kept};
use super::{Rows, StoreError};
use crate::domain::floors::{APP, Change};

const APPS: &str = "apps";
const ORDERS: &str = "app_orders";

/// An app as stored.
#[derive(Clone, Debug)]
pub struct App {
    /// Its id.
    pub id: AppId,
    /// The subject of operators' orders about it.
    pub subject: Digest,
    /// Its name.
    pub name: String,
    /// Who answers for it.
    pub publisher: String,
    /// Where its users are sent back to.
    pub redirect_uris: Vec<String>,
    /// Its public keys, a JWK Set, where it is confidential; where it has an address for them, what was found there last.
    pub jwks: Option<String>,
    /// That address.
    pub keys_at: Option<KeyAddress>,
    /// The most that it may ask for.
    pub scopes: Scopes,
    /// The body of the order that registers it.
    pub body: String,
    /// The salt of its commitment.
    pub salt: [u8; 32],
    /// How it stands.
    pub standing: Standing,
    /// Grows with each change that access-policy is told of.
    pub revision: i64,
    /// When it was registered.
    pub created_at: Timestamp,
    /// How often its rights changed.
    pub version: i64,
}

impl App {
    /// Its keys; a public client has none.
    pub fn keys(&self) -> Result<Option<ClientKeys>, StoreError> {
        self.jwks.as_deref().map(kept).transpose()
    }

    fn with_columns<T>(&self, work: impl FnOnce(&[Column<'_>]) -> T) -> T {
        let Self {
            id,
            subject,
            name,
            publisher,
            redirect_uris,
            jwks,
            keys_at,
            scopes,
            body,
            salt,
            standing,
            revision,
            created_at,
            version,
        } = self;
        let (subject, scopes, uris) = (subject.to_string(), scopes.to_string(), redirect_uris.join(" "));
        let mut columns = vec![
            id.as_str().into(),
            (&subject).into(),
            name.into(),
            publisher.into(),
            (&uris).into(),
            jwks.as_ref().into(),
            (&scopes).into(),
            body.into(),
            salt.as_slice().into(),
            standing.code().into(),
            (*revision).into(),
            created_at.ms().into(),
            (*version).into(),
        ];
        columns.extend(keys_at.iter().flat_map(KeyAddress::columns));
        work(&columns)
    }

    fn read(row: &AnyRow, rows: &Rows) -> Result<Self, StoreError> {
        let row = Reader(row);
        let app = Self {
            id: row.parsed("id")?,
            subject: row.parsed("subject")?,
            name: row.text("name")?,
            publisher: row.text("publisher")?,
            redirect_uris: row.text("redirect_uris")?.split(' ').map(str::to_owned).collect(),
            jwks: row.text_opt("jwks")?,
            keys_at: KeyAddress::read(&row)?,
            scopes: row.parsed("scopes")?,
            body: row.text("body")?,
            salt: row.array("salt")?,
            standing: row.code("standing", Standing::parse)?,
            revision: row.number("revision")?,
            created_at: row.time("created_at_ms")?,
            version: row.number("version")?,
        };
        let mac = row.bytes("mac")?;
        app.with_columns(|columns| rows.check(APPS, columns, &mac))?;
        Ok(app)
    }

    fn last_change(&self) -> Change {
        Change::App(self.id.clone(), self.version)
    }
}

/// An operator's order about an app.
#[derive(Clone, Debug)]
pub struct AppOrder {
    /// The transaction.
    pub txid: Digest,
    /// The app.
    pub app: AppId,
    /// `app-registered` or `app-ended`.
    pub kind: OrderKind,
    /// Who signed.
    pub operator: OperatorId,
    /// When.
    pub signed_at: Timestamp,
    /// When its block was seen.
    pub final_at: Option<Timestamp>,
}

impl AppOrder {
    fn with_columns<T>(&self, work: impl FnOnce(&[Column<'_>]) -> T) -> T {
        let Self { txid, app, kind, operator, signed_at, final_at } = self;
        let txid = txid.to_string();
        work(&[
            (&txid).into(),
            app.as_str().into(),
            kind.code().into(),
            operator.as_str().into(),
            signed_at.ms().into(),
            final_at.map(Timestamp::ms).into(),
        ])
    }

    fn read(row: &AnyRow, rows: &Rows) -> Result<Self, StoreError> {
        let row = Reader(row);
        let order = Self {
            txid: row.parsed("txid")?,
            app: row.parsed("app")?,
            kind: row.code("kind", OrderKind::parse)?,
            operator: row.parsed("operator")?,
            signed_at: row.time("signed_at_ms")?,
            final_at: row.time_opt("final_at_ms")?,
        };
        let mac = row.bytes("mac")?;
        order.with_columns(|columns| rows.check(ORDERS, columns, &mac))?;
        Ok(order)
    }
}

impl Rows {
    /// Adds an app.
    pub async fn insert_app(&self, tx: &mut Tx, app: &App) -> Result<(), StoreError> {
        self.note(app.last_change())?;
        sqlx::query(
            "INSERT INTO apps (id, subject, name, publisher, redirect_uris, jwks, scopes, body, salt, standing,
                 revision, created_at_ms, version, mac, jwks_uri, jwks_fetched_at_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        )
        .bind(app.id.as_str().to_owned())
        .bind(app.subject.to_string())
        .bind(app.name.clone())
        .bind(app.publisher.clone())
        .bind(app.redirect_uris.join(" "))
        .bind(app.jwks.clone())
        .bind(app.scopes.to_string())
        .bind(app.body.clone())
        .bind(app.salt.to_vec())
        .bind(app.standing.code())
        .bind(app.revision)
        .bind(app.created_at.ms())
        .bind(app.version)
        .bind(app.with_columns(|columns| self.mac_of(APPS, columns)))
        .bind(app.keys_at.as_ref().map(|at| at.uri.clone()))
        .bind(app.keys_at.as_ref().map(|at| at.fetched_at.ms()))
        .execute(tx)
        .await?;
        Ok(())
    }

    /// Writes an app back with another standing.
    pub async fn change_app(&self, tx: &mut Tx, app: &mut App, standing: Standing) -> Result<(), StoreError> {
        (app.standing, app.revision, app.version) = (standing, app.revision + 1, app.version + 1);
        self.note(app.last_change())?;
        let done =
            sqlx::query("UPDATE apps SET standing = $2, revision = $3, version = $4, mac = $5 WHERE id = $1")
                .bind(app.id.as_str().to_owned())
                .bind(app.standing.code())
                .bind(app.revision)
                .bind(app.version)
                .bind(app.with_columns(|columns| self.mac_of(APPS, columns)))
                .execute(tx)
                .await?;
        Ok(DbError::one_row(done.rows_affected())?)
    }

    /// Writes an app back after its address was asked for its keys. If they are the same, nothing changed but when that was.
    pub async fn keep_app_keys(&self, tx: &mut Tx, app: &mut App, jwks: String) -> Result<(), StoreError> {
        if app.jwks.as_ref() != Some(&jwks) {
            (app.jwks, app.version) = (Some(jwks), app.version + 1);
            self.note(app.last_change())?;
        }
        let done = sqlx::query(
            "UPDATE apps SET jwks = $2, jwks_fetched_at_ms = $3, version = $4, mac = $5 WHERE id = $1",
        )
        .bind(app.id.as_str().to_owned())
        .bind(app.jwks.clone())
        .bind(app.keys_at.as_ref().map(|at| at.fetched_at.ms()))
        .bind(app.version)
        .bind(app.with_columns(|columns| self.mac_of(APPS, columns)))
        .execute(tx)
        .await?;
        Ok(DbError::one_row(done.rows_affected())?)
    }

    /// The app with this id.
    pub async fn app<'e, E>(&self, executor: E, id: &AppId) -> Result<Option<App>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let known = self.floors.get(APP, id.as_str());
        let row = sqlx::query("SELECT * FROM apps WHERE id = $1")
            .bind(id.as_str().to_owned())
            .fetch_optional(executor)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let app = App::read(&row, self)?;
        self.check_age(APPS, &app.last_change(), known)?;
        Ok(Some(app))
    }

    /// The app that orders with this subject are about.
    pub async fn app_by_subject(&self, tx: &mut Tx, subject: Digest) -> Result<Option<App>, StoreError> {
        let row = sqlx::query("SELECT id FROM apps WHERE subject = $1")
            .bind(subject.to_string())
            .fetch_optional(&mut *tx)
            .await?;
        match row {
            Some(row) => self.app(tx, &Reader(&row).parsed("id")?).await,
            None => Ok(None),
        }
    }

    /// All apps, the oldest first.
    pub async fn apps<'e, E>(&self, executor: E) -> Result<Vec<App>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let rows = sqlx::query("SELECT * FROM apps ORDER BY created_at_ms, id").fetch_all(executor).await?;
        let mut apps = Vec::new();
        for row in &rows {
            let read = App::read(row, self).and_then(|app| {
                let known = self.floors.get(APP, app.id.as_str());
                self.check_age(APPS, &app.last_change(), known).map(|()| app)
            });
            match read {
                Ok(app) => apps.push(app),
                // Of another hand: it is none, and the alarm is in the log.
                Err(StoreError::Tampered(_alarmed)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(apps)
    }

    /// Adds an order. [`DbError::UniqueViolation`] means that this operator has signed it.
    pub async fn insert_app_order(&self, tx: &mut Tx, order: &AppOrder) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO app_orders (txid, app, kind, operator, signed_at_ms, final_at_ms, mac)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(order.txid.to_string())
        .bind(order.app.as_str().to_owned())
        .bind(order.kind.code())
        .bind(order.operator.as_str().to_owned())
        .bind(order.signed_at.ms())
        .bind(order.final_at.map(Timestamp::ms))
        .bind(order.with_columns(|columns| self.mac_of(ORDERS, columns)))
        .execute(tx)
        .await?;
        Ok(())
    }

    /// The orders of a kind about an app.
    pub async fn app_orders(
        &self,
        tx: &mut Tx,
        app: &AppId,
        kind: OrderKind,
    ) -> Result<Vec<AppOrder>, StoreError> {
        let rows = sqlx::query("SELECT * FROM app_orders WHERE app = $1 AND kind = $2 ORDER BY txid")
            .bind(app.as_str().to_owned())
            .bind(kind.code())
            .fetch_all(tx)
            .await?;
        rows.iter().map(|row| AppOrder::read(row, self)).collect()
    }

    /// Notes that the block of an order was seen.
    pub async fn finalise_app_order(
        &self,
        tx: &mut Tx,
        txid: Digest,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let row = sqlx::query("SELECT * FROM app_orders WHERE txid = $1")
            .bind(txid.to_string())
            .fetch_optional(&mut *tx)
            .await?;
        let Some(row) = row else { return Ok(()) };
        let mut order = AppOrder::read(&row, self)?;
        if order.final_at.is_some() {
            return Ok(());
        }
        order.final_at = Some(now);
        let done = sqlx::query("UPDATE app_orders SET final_at_ms = $2, mac = $3 WHERE txid = $1")
            .bind(txid.to_string())
            .bind(now.ms())
            .bind(order.with_columns(|columns| self.mac_of(ORDERS, columns)))
            .execute(tx)
            .await?;
        Ok(DbError::one_row(done.rows_affected())?)
    }
}
