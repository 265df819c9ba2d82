//! Accounts.

use hbc_db::{Column, DbError, Tx};
use hbc_types::Timestamp;
use hbc_types::account::{AgencyType, Custody, Role, Standing};
use hbc_types::ids::{AccountId, AgencyId};
use hbc_types::wire::auth::Contact;
use sqlx::any::AnyRow;

use super::{Rows, StoreError};
use crate::domain::staff::Profile;
use hbc_db::row::Reader;

const TABLE: &str = "accounts";

/// An account as stored.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Its role.
    pub role: Role,
    /// Its folded username.
    pub username: String,
    /// Argon2id, PHC text.
    pub password_hash: String,
    /// How it stands.
    pub standing: Standing,
    /// Grows with every change of what other services are told.
    pub revision: i64,
    /// Contact data; agencies: name, e-mail, number and address of the sign-up.
    pub contact: Contact,
    /// Patients: who holds the signing keys.
    pub custody: Option<Custody>,
    /// Patients: root key; agencies: staff key; operators: signing key. Raw.
    pub public_key: [u8; 32],
    /// Agencies: what kind.
    pub agency_type: Option<AgencyType>,
    /// Agencies: where they belong.
    pub organisation: Option<AgencyId>,
    /// Agencies: number of the licence.
    pub licence_number: Option<String>,
    /// Agencies: salt and committed text of the staff profile.
    pub profile: Option<Profile>,
    /// Agencies: changes of the staff profile that took effect on the ledger so far.
    pub staff_round: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When the password was last changed.
    pub password_changed_at: Timestamp,
    /// Since when a second factor is confirmed.
    pub second_factor_at: Option<Timestamp>,
}

impl Account {
    fn mac_of(&self, rows: &Rows) -> Vec<u8> {
        self.with_columns(|columns| rows.mac_of(TABLE, columns))
    }

    fn with_columns<T>(&self, work: impl FnOnce(&[Column<'_>]) -> T) -> T {
        let Self {
            id,
            role,
            username,
            password_hash,
            standing,
            revision,
            contact: Contact { name, email, phone, address },
            custody,
            public_key,
            agency_type,
            organisation,
            licence_number,
            profile,
            staff_round,
            created_at,
            password_changed_at,
            second_factor_at,
        } = self;
        let (salt, body) = profile_columns(profile.as_ref());
        let text = |value: &'static str| Column::Text(value);
        work(&[
            id.as_str().into(),
            text(role.code()),
            username.into(),
            password_hash.into(),
            text(standing.code()),
            (*revision).into(),
            name.as_ref().into(),
            email.as_ref().into(),
            phone.as_ref().into(),
            address.as_ref().into(),
            custody.map(|custody| text(custody.code())).into(),
            public_key.as_slice().into(),
            agency_type.map(|kind| text(kind.code())).into(),
            organisation.as_ref().map(AgencyId::as_str).into(),
            licence_number.as_ref().into(),
            salt.map(<[u8; 32]>::as_slice).into(),
            body.into(),
            (*staff_round).into(),
            created_at.ms().into(),
            password_changed_at.ms().into(),
            second_factor_at.map(Timestamp::ms).into(),
        ])
    }

    fn read(row: &AnyRow, rows: &Rows) -> Result<Self, StoreError> {
        let row = Reader(row);
        let salt = row.array_opt::<32>("profile_salt")?;
        let body = row.text_opt("profile_body")?;
        let account = Self {
            id: row.parsed("id")?,
            role: row.code("role", Role::parse)?,
            username: row.text("username")?,
            password_hash: row.text("password_hash")?,
            standing: row.code("standing", Standing::parse)?,
            revision: row.number("revision")?,
            contact: Contact {
                name: row.text_opt("name")?,
                email: row.text_opt("email")?,
                phone: row.text_opt("phone")?,
                address: row.text_opt("address")?,
            },
            custody: row.code_opt("custody", Custody::parse)?,
            public_key: row.array("public_key")?,
            agency_type: row.code_opt("agency_type", AgencyType::parse)?,
            organisation: row.parsed_opt("organisation")?,
            licence_number: row.text_opt("licence_number")?,
            profile: salt.zip(body).map(|(salt, body)| Profile { salt, body }),
            staff_round: row.number("staff_round")?,
            created_at: row.time("created_at_ms")?,
            password_changed_at: row.time("password_changed_at_ms")?,
            second_factor_at: row.time_opt("second_factor_at_ms")?,
        };
        let mac = row.bytes("mac")?;
        account.with_columns(|columns| rows.check(TABLE, columns, &mac))?;
        Ok(account)
    }
}

/// Salt and text of a staff profile.
fn profile_columns(profile: Option<&Profile>) -> (Option<&[u8; 32]>, Option<&String>) {
    profile.map(|Profile { salt, body }| (salt, body)).unzip()
}

impl Rows {
    /// Adds an account. [`DbError::UniqueViolation`] means that the username is taken.
    pub async fn insert_account(&self, tx: &mut Tx, account: &Account) -> Result<(), StoreError> {
        let sql = "INSERT INTO accounts (id, role, username, password_hash, standing, revision, name, email, phone, address,
                custody, public_key, agency_type, organisation, licence_number, profile_salt, profile_body, staff_round,
                created_at_ms, password_changed_at_ms, second_factor_at_ms, mac)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)";
        let done = self.bind(sqlx::query(sql), account).execute(tx).await?;
        Ok(DbError::one_row(done.rows_affected())?)
    }

    /// Writes the account back; it must exist.
    pub async fn update_account(&self, tx: &mut Tx, account: &Account) -> Result<(), StoreError> {
        let sql = "UPDATE accounts SET role = $2, username = $3, password_hash = $4, standing = $5, revision = $6, name = $7,
                email = $8, phone = $9, address = $10, custody = $11, public_key = $12, agency_type = $13,
                organisation = $14, licence_number = $15, profile_salt = $16, profile_body = $17, staff_round = $18,
                created_at_ms = $19, password_changed_at_ms = $20, second_factor_at_ms = $21, mac = $22
            WHERE id = $1";
        let done = self.bind(sqlx::query(sql), account).execute(tx).await?;
        Ok(DbError::one_row(done.rows_affected())?)
    }

    fn bind<'q>(
        &self,
        query: sqlx::query::Query<'q, sqlx::Any, sqlx::any::AnyArguments>,
        account: &Account,
    ) -> sqlx::query::Query<'q, sqlx::Any, sqlx::any::AnyArguments> {
        let Account {
            id,
            role,
            username,
            password_hash,
            standing,
            revision,
            contact: Contact { name, email, phone, address },
            custody,
            public_key,
            agency_type,
            organisation,
            licence_number,
            profile,
            staff_round,
            created_at,
            password_changed_at,
            second_factor_at,
        } = account;
        let (salt, body) = profile_columns(profile.as_ref());
        let code = |code: Option<&'static str>| code.map(str::to_owned);
        query
            .bind(id.as_str().to_owned())
            .bind(role.code())
            .bind(username.clone())
            .bind(password_hash.clone())
            .bind(standing.code())
            .bind(*revision)
            .bind(name.clone())
            .bind(email.clone())
            .bind(phone.clone())
            .bind(address.clone())
            .bind(code(custody.map(Custody::code)))
            .bind(public_key.to_vec())
            .bind(code(agency_type.map(AgencyType::code)))
            .bind(organisation.as_ref().map(|id| id.as_str().to_owned()))
            .bind(licence_number.clone())
            .bind(salt.map(|salt| salt.to_vec()))
            .bind(body.cloned())
            .bind(*staff_round)
            .bind(created_at.ms())
            .bind(password_changed_at.ms())
            .bind(second_factor_at.map(Timestamp::ms))
            .bind(account.mac_of(self))
    }

    /// The account with this id.
    pub async fn account<'e, E>(&self, executor: E, id: &str) -> Result<Option<Account>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let row = sqlx::query("SELECT * FROM accounts WHERE id = $1")
            .bind(id.to_owned())
            .fetch_optional(executor)
            .await?;
        row.map(|row| Account::read(&row, self)).transpose()
    }

    /// The account with this folded username.
    pub async fn account_by_name<'e, E>(
        &self,
        executor: E,
        username: &str,
    ) -> Result<Option<Account>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let row = sqlx::query("SELECT * FROM accounts WHERE username = $1")
            .bind(username.to_owned())
            .fetch_optional(executor)
            .await?;
        row.map(|row| Account::read(&row, self)).transpose()
    }

    /// The agency whose staff key this is.
    pub async fn agency_by_key<'e, E>(
        &self,
        executor: E,
        public_key: &[u8; 32],
    ) -> Result<Option<Account>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let row = sqlx::query("SELECT * FROM accounts WHERE public_key = $1 AND role = 'agency'")
            .bind(public_key.to_vec())
            .fetch_optional(executor)
            .await?;
        row.map(|row| Account::read(&row, self)).transpose()
    }

    /// Up to `limit` agencies after `after` by id, of one standing or of all, whose name holds `query` (folded), and
    /// after which id the next page begins. A row that another hand wrote is left out (and alarmed about).
    pub async fn agencies<'e, E>(
        &self,
        executor: E,
        standing: Option<Standing>,
        query: &str,
        after: &str,
        limit: u32,
    ) -> Result<(Vec<Account>, Option<String>), StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let pattern = format!(
            "%{}%",
            query.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
        );
        let rows = sqlx::query(
            "SELECT * FROM accounts
             WHERE role = 'agency' AND id > $1 AND ($2 = '' OR standing = $2) AND lower(name) LIKE $3 ESCAPE '\\'
             ORDER BY id LIMIT $4",
        )
        .bind(after.to_owned())
        .bind(standing.map_or("", Standing::code))
        .bind(pattern)
        .bind(i64::from(limit))
        .fetch_all(executor)
        .await?;
        self.page(&rows, limit)
    }

    /// The same of those who named an organisation when they signed up.
    pub async fn agencies_of<'e, E>(
        &self,
        executor: E,
        organisation: &AgencyId,
        after: &str,
        limit: u32,
    ) -> Result<(Vec<Account>, Option<String>), StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let rows =
            sqlx::query("SELECT * FROM accounts WHERE organisation = $1 AND id > $2 ORDER BY id LIMIT $3")
                .bind(organisation.as_str().to_owned())
                .bind(after.to_owned())
                .bind(i64::from(limit))
                .fetch_all(executor)
                .await?;
        self.page(&rows, limit)
    }

    fn page(&self, rows: &[AnyRow], limit: u32) -> Result<(Vec<Account>, Option<String>), StoreError> {
        let mut accounts = Vec::with_capacity(rows.len());
        for row in rows {
            match Account::read(row, self) {
                Ok(account) => accounts.push(account),
                Err(StoreError::Tampered(_alarmed)) => {}
                Err(error) => return Err(error),
            }
        }
        let full = rows.len() == usize::try_from(limit).unwrap_or(usize::MAX);
        let next = rows.last().filter(|_| full).map(|last| Reader(last).text("id")).transpose()?;
        Ok((accounts, next))
    }
}
