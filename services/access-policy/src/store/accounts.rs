//! Accounts, denials and ended sessions.

use hbc_db::row::{self, Reader};
use hbc_db::{DbError, Tx};
use hbc_types::account::{AgencyType, Role, Standing};
use hbc_types::ids::{AccountId, AgencyId, SessionId};
use hbc_types::wire::access::Subject;
use hbc_types::{Digest, Timestamp};
use sqlx::any::AnyRow;

use crate::domain::floors::{Change, Changes};
use crate::domain::policy::{Bound, Principal, SessionState};
use crate::domain::rights::{Account, BUCKETS, EndedSessions, OpenSession, RowProtection};
use crate::domain::staff::{self, Record};
use crate::error::Error;
use crate::store;

/// The account, if auth ever told of it; its MAC is checked, and it is no older than the last change.
pub async fn account(tx: &mut Tx, protection: &RowProtection, id: &str) -> Result<Option<Account>, Error> {
    let account = stored_account(tx, protection, id).await?;
    if let Some(account) = &account {
        protection.check_account_age(account)?;
    }
    Ok(account)
}

/// The same, maybe older: for changes only.
pub async fn stored_account(
    tx: &mut Tx,
    protection: &RowProtection,
    id: &str,
) -> Result<Option<Account>, Error> {
    let row = sqlx::query(
        "SELECT id, role, standing, agency_type, name, organisation, staff_key, profile, revision, denied_at_ms,
             denied_until_ms, closed_at_ms, updated_at_ms, mac
         FROM subjects WHERE id = $1",
    )
    .bind(id.to_owned())
    .fetch_optional(tx)
    .await?;
    row.map(|row| checked(&row, protection)).transpose()
}

fn checked(row: &AnyRow, protection: &RowProtection) -> Result<Account, Error> {
    let row = Reader(row);
    let account = read(row.0, protection)?;
    protection.check_account(&account, &row.bytes("mac")?)?;
    Ok(account)
}

fn read(row: &AnyRow, protection: &RowProtection) -> Result<Account, DbError> {
    let row = Reader(row);
    let id = row.text("id")?;
    let name = row.bytes_opt("name")?;
    let name = name.map(|hidden| protection.show(&id, &hidden)).transpose();
    Ok(Account {
        id: row.parsed("id")?,
        subject: Subject {
            role: row.code("role", Role::parse)?,
            standing: row.code("standing", Standing::parse)?,
            agency_type: row.code_opt("agency_type", AgencyType::parse)?,
            name: name.map_err(|_hidden_text| DbError::BadValue { column: "name" })?,
            organisation: row.parsed_opt("organisation")?,
            staff_key: row.parsed_opt("staff_key")?,
            profile: None,
            revision: row.number("revision")?,
        },
        commitment: row.parsed_opt("profile")?,
        denied_at: row.time_opt("denied_at_ms")?,
        denied_until: row.time_opt("denied_until_ms")?,
        closed_at: row.time_opt("closed_at_ms")?,
        updated_at: row.time("updated_at_ms")?,
    })
}

/// Writes an account with a fresh MAC.
pub async fn put_account(
    tx: &mut Tx,
    protection: &RowProtection,
    account: &Account,
    changes: &Changes,
) -> Result<(), Error> {
    let Account { id, subject, commitment, denied_at, denied_until, closed_at, updated_at } = account;
    let Subject { role, standing, agency_type, name, organisation, staff_key, profile: _, revision } =
        subject;
    sqlx::query(
        "INSERT INTO subjects (id, role, standing, agency_type, name, organisation, staff_key, revision,
             denied_at_ms, denied_until_ms, updated_at_ms, mac, profile, closed_at_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
         ON CONFLICT (id) DO UPDATE SET role = excluded.role, standing = excluded.standing,
             agency_type = excluded.agency_type, name = excluded.name, organisation = excluded.organisation,
             staff_key = excluded.staff_key, revision = excluded.revision, profile = excluded.profile,
             denied_at_ms = excluded.denied_at_ms, denied_until_ms = excluded.denied_until_ms,
             closed_at_ms = excluded.closed_at_ms,
             updated_at_ms = excluded.updated_at_ms, mac = excluded.mac",
    )
    .bind(id.as_str().to_owned())
    .bind(role.code())
    .bind(standing.code())
    .bind(agency_type.map(AgencyType::code))
    .bind(name.as_deref().map(|name| protection.hide(id.as_str(), name)))
    .bind(organisation.as_ref().map(|id| id.as_str().to_owned()))
    .bind(row::digest_text(staff_key.as_ref()))
    .bind(row::stored(*revision, "revision")?)
    .bind(row::ms(*denied_at))
    .bind(row::ms(*denied_until))
    .bind(updated_at.ms())
    .bind(protection.account(account).to_vec())
    .bind(row::digest_text(commitment.as_ref()))
    .bind(row::ms(*closed_at))
    .execute(tx)
    .await?;
    if closed_at.is_some() {
        changes.push(Change::Closed(id.clone()));
    }
    changes.push(Change::Account(id.clone(), updated_at.ms()));
    Ok(())
}

/// The sessions that ended in this bucket. A bucket that is not there was deleted by hand.
pub async fn ended_sessions(
    tx: &mut Tx,
    protection: &RowProtection,
    bucket: u16,
) -> Result<EndedSessions, Error> {
    let row = sqlx::query("SELECT sessions, mac FROM session_denials WHERE bucket = $1")
        .bind(i64::from(bucket))
        .fetch_optional(tx)
        .await?
        .ok_or(hbc_db::RowMacError { table: "session_denials" })?;
    read_sessions(&row, protection, bucket, "mac")
}

/// Writes a bucket with a fresh MAC.
pub async fn put_ended_sessions(
    tx: &mut Tx,
    protection: &RowProtection,
    ended: &EndedSessions,
) -> Result<(), Error> {
    let done = sqlx::query("UPDATE session_denials SET sessions = $2, mac = $3 WHERE bucket = $1")
        .bind(i64::from(ended.bucket))
        .bind(ended.text())
        .bind(protection.sessions(ended).to_vec())
        .execute(tx)
        .await?;
    Ok(DbError::one_row(done.rows_affected())?)
}

/// Makes the buckets of a fresh database. They are made only while no account is known: later a missing one is an alarm.
pub async fn make_buckets(tx: &mut Tx, protection: &RowProtection) -> Result<(), Error> {
    let row = sqlx::query(
        "SELECT (SELECT CAST(count(*) AS BIGINT) FROM subjects) AS accounts,
                (SELECT CAST(count(*) AS BIGINT) FROM session_denials) AS buckets",
    )
    .fetch_one(&mut *tx)
    .await?;
    if Reader(&row).number::<u64>("accounts")? > 0 || Reader(&row).number::<u64>("buckets")? > 0 {
        return Ok(());
    }
    for bucket in 0..BUCKETS {
        let empty = EndedSessions { bucket, ..EndedSessions::default() };
        sqlx::query("INSERT INTO session_denials (bucket, sessions, mac) VALUES ($1, $2, $3)")
            .bind(i64::from(bucket))
            .bind(empty.text())
            .bind(protection.sessions(&empty).to_vec())
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

/// The account and its session's bucket in one query: every decision asks for both.
async fn account_and_sessions(
    tx: &mut Tx,
    protection: &RowProtection,
    id: &AccountId,
    bucket: u16,
) -> Result<(Option<Account>, EndedSessions), Error> {
    let row = sqlx::query(
        "SELECT d.sessions, d.mac AS sessions_mac, s.id, s.role, s.standing, s.agency_type, s.name, s.organisation,
             s.staff_key, s.profile, s.revision, s.denied_at_ms, s.denied_until_ms, s.closed_at_ms, s.updated_at_ms, s.mac
         FROM session_denials AS d LEFT JOIN subjects AS s ON s.id = $2
         WHERE d.bucket = $1",
    )
    .bind(i64::from(bucket))
    .bind(id.as_str().to_owned())
    .fetch_optional(tx)
    .await?
    .ok_or(hbc_db::RowMacError { table: "session_denials" })?;
    let ended = read_sessions(&row, protection, bucket, "sessions_mac")?;
    let known = Reader(&row).text_opt("id")?.is_some();
    let account = known.then(|| checked(&row, protection)).transpose()?;
    if let Some(account) = &account {
        protection.check_account_age(account)?;
    }
    if account.as_ref().is_some_and(|account| account.id != *id) {
        return Err(hbc_db::RowMacError { table: "subjects" }.into());
    }
    Ok((account, ended))
}

fn read_sessions(
    row: &AnyRow,
    protection: &RowProtection,
    bucket: u16,
    mac: &'static str,
) -> Result<EndedSessions, Error> {
    let row = Reader(row);
    let text = row.text("sessions")?;
    let ended = EndedSessions::parse(bucket, &text).ok_or(DbError::BadValue { column: "sessions" })?;
    protection.check_sessions(&ended, &row.bytes(mac)?)?;
    Ok(ended)
}

/// Whether an account was closed: as its row says, or the journal.
pub async fn is_closed(tx: &mut Tx, protection: &RowProtection, id: &str) -> Result<bool, Error> {
    let row = stored_account(tx, protection, id).await?;
    Ok(protection.is_closed(id) || row.is_some_and(|account| account.closed_at.is_some()))
}

/// How an account stands at `now`: as auth says, as the ledger says of an agency's profile, and neither closed nor denied.
pub async fn standing(
    tx: &mut Tx,
    protection: &RowProtection,
    account: &Account,
    now: Timestamp,
) -> Result<Standing, Error> {
    if account.closed_at.is_some() || protection.is_closed(account.id.as_str()) {
        return Ok(Standing::Closed);
    }
    if account.is_denied(now) {
        return Ok(Standing::Suspended);
    }
    ledger_standing(tx, protection, account).await
}

/// The same, whether it is denied or not.
pub async fn ledger_standing(
    tx: &mut Tx,
    protection: &RowProtection,
    account: &Account,
) -> Result<Standing, Error> {
    let profiles = profiles(tx, protection, account).await?;
    Ok(staff::standing(&account.subject, account.commitment, &profiles))
}

/// The profile of the key that auth tells of, and of the others that the account has or had.
async fn profiles(tx: &mut Tx, protection: &RowProtection, account: &Account) -> Result<Vec<Record>, Error> {
    match account.subject.staff_key {
        Some(key) => store::staff::profiles(tx, protection, key, account.commitment.as_ref()).await,
        None => Ok(Vec::new()),
    }
}

/// The keys whose signatures count for an account now.
async fn live_keys(tx: &mut Tx, protection: &RowProtection, account: &Account) -> Result<Vec<Digest>, Error> {
    let profiles = profiles(tx, protection, account).await?;
    Ok(staff::live_keys(account.commitment, &profiles).collect())
}

/// The account, if it is in good standing.
pub async fn active_account(
    tx: &mut Tx,
    protection: &RowProtection,
    id: &str,
    now: Timestamp,
) -> Result<Option<Account>, Error> {
    let Some(account) = self::account(tx, protection, id).await? else { return Ok(None) };
    let active = standing(tx, protection, &account, now).await? == Standing::Active;
    Ok(active.then_some(account))
}

/// The organisation that auth says an agency belongs to, if it is in good standing and the ledger says that it took them in.
async fn active_organisation(
    tx: &mut Tx,
    protection: &RowProtection,
    id: &AgencyId,
    member: &Account,
    now: Timestamp,
) -> Result<Option<Account>, Error> {
    let Some(its) = active_account(tx, protection, id.as_str(), now).await? else { return Ok(None) };
    let keys = live_keys(tx, protection, member).await?;
    let mut found = Vec::new();
    for organisation in live_keys(tx, protection, &its).await? {
        for key in &keys {
            found.extend(store::staff::membership(tx, protection, organisation, *key).await?);
        }
    }
    Ok(staff::acts(&found).then_some(its))
}

/// The caller as decisions see it: an account that auth never told of is suspended.
pub async fn principal(
    tx: &mut Tx,
    protection: &RowProtection,
    (id, session): (&AccountId, &SessionId),
    bound: Option<&Bound>,
    now: Timestamp,
) -> Result<Principal, Error> {
    let (account, ended) =
        account_and_sessions(tx, protection, id, EndedSessions::bucket_of(session)).await?;
    let open = store::sessions::session(tx, protection, session).await?;
    let account = account.unwrap_or_else(|| Account::unknown(id.clone(), now));
    let standing = standing(tx, protection, &account, now).await?;
    let mut organisation_type = None;
    let mut organisation = account.subject.organisation.clone();
    if let Some(its) = &organisation {
        match active_organisation(tx, protection, its, &account, now).await? {
            Some(its) => organisation_type = its.subject.agency_type,
            None => organisation = None,
        }
    }
    let Subject {
        agency_type,
        staff_key,
        // As far as it says so itself.
        organisation: _,
        // The id tells the role; the others give no right by themselves.
        standing: _,
        role: _,
        name: _,
        profile: _,
        revision: _,
    } = account.subject;
    Ok(Principal {
        account: id.clone(),
        standing,
        session: session_state(&ended, open, protection, (id, session), now),
        agency_type,
        organisation,
        organisation_type,
        bound: bound.cloned(),
        device_key: staff_key.filter(|_key| matches!(id, AccountId::Device(_))),
    })
}

/// What is known of `session`, which a token says is `account`'s.
fn session_state(
    ended: &EndedSessions,
    open: Option<OpenSession>,
    protection: &RowProtection,
    (account, session): (&AccountId, &SessionId),
    now: Timestamp,
) -> SessionState {
    if protection.has_ended(ended, session) {
        return SessionState::Ended;
    }
    let is_open =
        open.is_some_and(|open| open.id == *session && open.account == *account && now < open.expires_at);
    if is_open { SessionState::Open } else { SessionState::Unknown }
}
