//! Accounts.

use hbc_db::{Column, DbError, ReadPool, Tx};
use hbc_types::Timestamp;
use hbc_types::account::{AgencyType, Custody, Role, Standing};
use hbc_types::ids::{AccountId, AgencyId};
use hbc_types::keys::PublicKey;
use hbc_types::wire::auth::Contact;
use sqlx::any::AnyRow;

use super::{Rows, StoreError};
use crate::domain::floors::{ACCOUNT, Change};
use crate::domain::roots::Keys;
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
    /// How often the row was written since it was made.
    pub version: i64,
    /// Why operators rejected, suspended or ended it.
    pub reason: Option<String>,
    /// Agencies: since when it is ended for good.
    pub ended_at: Option<Timestamp>,
    /// Patients who have one: the recovery key beside the root key. Raw.
    pub recovery_public_key: Option<[u8; 32]>,
    /// Patients: the certificate by which the present keys took the place of others.
    pub root_certificate: Option<String>,
}

impl Account {
    /// A patient's root key, and the recovery key beside it.
    #[must_use]
    pub fn keys(&self) -> Keys {
        Keys {
            root: PublicKey::from_bytes(self.public_key),
            recovery: self.recovery_public_key.map(PublicKey::from_bytes),
        }
    }

    fn last_change(&self) -> Change {
        Change::Account(self.id.clone(), self.version)
    }

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
            version,
            reason,
            ended_at,
            recovery_public_key,
            root_certificate,
        } = self;
        let (salt, body) = profile_columns(profile.as_ref());
        let text = |value: &'static str| Column::Text(value);
        let mut columns = vec![
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
        ];
        // Rows that were made before there were versions keep their MAC until they are written.
        if *version > 0 {
            columns.push((*version).into());
        }
        if let Some(reason) = reason {
            columns.push(reason.into());
        }
        if let Some(ended_at) = ended_at {
            columns.extend([text("ended"), ended_at.ms().into()]);
        }
        // Each begins with what it is: a row without it keeps its MAC.
        if let Some(key) = recovery_public_key {
            columns.extend([text("recovery"), key.as_slice().into()]);
        }
        if let Some(certificate) = root_certificate {
            columns.extend([text("root"), certificate.into()]);
        }
        work(&columns)
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
            version: row.number("version")?,
            reason: row.text_opt("reason")?,
            ended_at: row.time_opt("ended_at_ms")?,
            recovery_public_key: row.array_opt("recovery_public_key")?,
            root_certificate: row.text_opt("root_certificate")?,
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
                created_at_ms, password_changed_at_ms, second_factor_at_ms, mac, version, reason, ended_at_ms,
                recovery_public_key, root_certificate)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
                $23, $24, $25, $26, $27)";
        let done = self.bind(sqlx::query(sql), account).execute(tx).await?;
        Ok(DbError::one_row(done.rows_affected())?)
    }

    /// Writes the account back, as its next version; it must exist, and not be closed: that is for ever.
    pub async fn update_account(&self, tx: &mut Tx, account: &Account) -> Result<(), StoreError> {
        let account = &Account { version: account.version.saturating_add(1), ..account.clone() };
        self.note(Change::Account(account.id.clone(), account.version))?;
        let sql = "UPDATE accounts SET role = $2, username = $3, password_hash = $4, standing = $5, revision = $6, name = $7,
                email = $8, phone = $9, address = $10, custody = $11, public_key = $12, agency_type = $13,
                organisation = $14, licence_number = $15, profile_salt = $16, profile_body = $17, staff_round = $18,
                created_at_ms = $19, password_changed_at_ms = $20, second_factor_at_ms = $21, mac = $22, version = $23,
                reason = $24, ended_at_ms = $25, recovery_public_key = $26, root_certificate = $27
            WHERE id = $1 AND standing <> 'closed'";
        let done = self.bind(sqlx::query(sql), account).execute(tx).await?;
        Ok(DbError::one_row(done.rows_affected())?)
    }

    /// Has the journal learn once more how often an account was written: the first time may have failed between database and
    /// journal.
    pub fn note_account(&self, account: &Account) -> Result<(), StoreError> {
        self.note(account.last_change())
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
            version,
            reason,
            ended_at,
            recovery_public_key,
            root_certificate,
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
            .bind(*version)
            .bind(reason.clone())
            .bind(ended_at.map(Timestamp::ms))
            .bind(recovery_public_key.map(|key| key.to_vec()))
            .bind(root_certificate.clone())
    }

    /// The account with this id.
    pub async fn account<'e, E>(&self, executor: E, id: &str) -> Result<Option<Account>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let known = self.floors.get(ACCOUNT, id);
        let row = sqlx::query("SELECT * FROM accounts WHERE id = $1")
            .bind(id.to_owned())
            .fetch_optional(executor)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let account = Account::read(&row, self)?;
        self.check_age(TABLE, &account.last_change(), known)?;
        Ok(Some(account))
    }

    /// The account with this folded username. A closed one is as unknown as none, in what it costs too.
    pub async fn account_by_name(
        &self,
        reads: &ReadPool,
        username: &str,
    ) -> Result<Option<Account>, StoreError> {
        // Where nobody has the name, the first account is read in vain: how long it takes must not tell who has one.
        let row = sqlx::query(
            "SELECT id FROM accounts
             WHERE (username = $1 AND standing <> 'closed') OR id = (SELECT min(id) FROM accounts)
             ORDER BY CASE WHEN username = $1 AND standing <> 'closed' THEN 0 ELSE 1 END LIMIT 1",
        )
        .bind(username.to_owned())
        .fetch_optional(reads)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let account = self.account(reads, &Reader(&row).text("id")?).await?;
        // It may be another, or have changed in between.
        Ok(account.filter(|account| account.username == username && account.standing != Standing::Closed))
    }

    /// The agency whose staff key this is; inside a transaction.
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
        let Some(row) = row else { return Ok(None) };
        let account = Account::read(&row, self)?;
        self.check_age(TABLE, &account.last_change(), Some(i64::MAX))?;
        Ok(Some(account))
    }

    /// Up to `limit` agencies after `after` by id, of one standing or of all, whose name holds `query` (folded), maybe
    /// only those with a staff key that waits for operators, and after which id the next page begins. A row that another hand wrote is left out (and alarmed about).
    pub async fn agencies(
        &self,
        reads: &ReadPool,
        standing: Option<Standing>,
        (query, new_key): (&str, bool),
        after: &str,
        limit: u32,
    ) -> Result<(Vec<Account>, Option<String>), StoreError> {
        let pattern = format!(
            "%{}%",
            query.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
        );
        let rows = sqlx::query(
            "SELECT * FROM accounts
             WHERE role = 'agency' AND id > $1 AND ($2 = '' OR standing = $2)
                 AND lower(coalesce(name, '')) LIKE $3 ESCAPE '\\'
                 AND ($5 = 0 OR id IN (SELECT agency FROM staff_keys WHERE active_at_ms IS NULL AND ended_at_ms IS NULL))
             ORDER BY id LIMIT $4",
        )
        .bind(after.to_owned())
        .bind(standing.map_or("", Standing::code))
        .bind(pattern)
        .bind(i64::from(limit))
        .bind(i64::from(new_key))
        .fetch_all(reads)
        .await?;
        self.page(reads, &rows, limit).await
    }

    /// The same of those who named an organisation when they signed up.
    pub async fn agencies_of(
        &self,
        reads: &ReadPool,
        organisation: &AgencyId,
        after: &str,
        limit: u32,
    ) -> Result<(Vec<Account>, Option<String>), StoreError> {
        let rows =
            sqlx::query("SELECT * FROM accounts WHERE organisation = $1 AND id > $2 ORDER BY id LIMIT $3")
                .bind(organisation.as_str().to_owned())
                .bind(after.to_owned())
                .bind(i64::from(limit))
                .fetch_all(reads)
                .await?;
        self.page(reads, &rows, limit).await
    }

    async fn page(
        &self,
        reads: &ReadPool,
        rows: &[AnyRow],
        limit: u32,
    ) -> Result<(Vec<Account>, Option<String>), StoreError> {
        let mut accounts = Vec::with_capacity(rows.len());
        for row in rows {
            let read = match Account::read(row, self) {
                // Older than the last change: of another hand, or changed since.
                Ok(account) if self.floors.check(TABLE, &account.last_change()).is_err() => {
                    self.account(reads, account.id.as_str()).await
                }
                read => read.map(Some),
            };
            match read {
                Ok(account) => accounts.extend(account),
                Err(StoreError::Tampered(_alarmed)) => {}
                Err(error) => return Err(error),
            }
        }
        let full = rows.len() == usize::try_from(limit).unwrap_or(usize::MAX);
        let next = rows.last().filter(|_| full).map(|last| Reader(last).text("id")).transpose()?;
        Ok((accounts, next))
    }
}
