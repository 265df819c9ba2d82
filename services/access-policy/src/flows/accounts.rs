//! What auth tells: accounts, sessions, denials.

use std::time::Duration;

use hbc_db::{Lock, Tx};
use hbc_types::Timestamp;
use hbc_types::account::{Role, Standing};
use hbc_types::ids::{AccountId, SessionId};
use hbc_types::wire::access::{NewSession, Subject};

use crate::app::App;
use crate::domain::floors::Change;
use crate::domain::receipts::Occurrence;
use crate::domain::rights::{Account, EndedSessions, OpenSession};
use crate::domain::staff;
use crate::error::Error;
use crate::flows::closing;
use crate::flows::decide::receipt;
use crate::flows::roots;
use crate::store;

/// A session that was ended without an end is remembered this long: longer than any access token lives.
const SESSION_MEMORY: Duration = Duration::from_secs(60 * 60);
/// One whose row another hand changed is remembered longer than any session lasts.
const LONGEST_SESSION: Duration = Duration::from_secs(366 * 86_400);

/// Stores how an account stands, unless something newer is known. That it is closed is for ever: nothing newer overcomes it.
pub async fn put_subject(app: &App, id: AccountId, subject: Subject) -> Result<(), Error> {
    if !role_fits(&id, subject.role) {
        return Err(Error::invalid("role", "is not the one of this id"));
    }
    if matches!(id, AccountId::Agency(_)) != subject.agency_type.is_some() {
        return Err(Error::invalid("agency_type", "belongs to agencies, and each has one"));
    }
    let opened = subject.profile.as_ref().map(|profile| staff::open(&id, &subject, profile)).transpose();
    let commitment = opened.map_err(|error| Error::invalid("profile", error.to_string()))?;
    let (now, lock) = (app.clock.now(), vec![Lock::exclusive(id.as_str())]);
    let this = app.clone();
    app.change(lock, move |tx, changes| {
        Box::pin(async move {
            let known = store::accounts::stored_account(tx, &this.protection, id.as_str()).await?;
            let closes = subject.standing == Standing::Closed;
            if known.as_ref().is_some_and(|known| known.closed_at.is_some()) {
                return Ok(());
            }
            let is_old =
                known.as_ref().is_some_and(|known| known.subject.revision >= subject.revision.max(1));
            if !closes && (is_old || this.protection.is_closed(id.as_str())) {
                return Ok(());
            }
            let mut account = known.unwrap_or_else(|| Account::unknown(id.clone(), now));
            if closes {
                account.closed_at = Some(now);
                closing::close(&this, tx, &id, (&changes, now)).await?;
            }
            account.subject = Subject { profile: None, ..subject.clone() };
            account.commitment = commitment;
            account.updated_at = account.next_change(this.protection.floors(), now);
            let standing = store::accounts::ledger_standing(tx, &this.protection, &account).await?;
            if account.subject.standing == Standing::Active && standing == Standing::Pending {
                // auth tells again, until the ledger was followed here as far as there.
                return Err(Error::Conflict("the ledger does not say so, as far as it was followed here"));
            }
            store::accounts::put_account(tx, &this.protection, &account, &changes).await
        })
    })
    .await
}

const fn role_fits(id: &AccountId, role: Role) -> bool {
    matches!(
        (id, role),
        (AccountId::Patient(_), Role::Patient)
            | (AccountId::Agency(_), Role::Agency)
            | (AccountId::Operator(_), Role::Operator)
            | (AccountId::App(_), Role::App)
            | (AccountId::Device(_), Role::Device)
    )
}

/// Makes what a fresh database needs before the first request.
pub async fn prepare(app: &App) -> Result<(), Error> {
    let this = app.clone();
    app.db
        .write(move |db| Box::pin(async move { store::accounts::make_buckets(db, &this.protection).await }))
        .await?;
    roots::make_directory(app).await?;
    Ok(())
}

/// Opens a session: from now on its access tokens count. The patient's log has it, so that nobody signs in as a patient, auth
/// itself included, without their knowing.
pub async fn open_session(app: &App, id: SessionId, new: NewSession) -> Result<(), Error> {
    let NewSession { account, opened_at, expires_at } = new;
    let session = OpenSession { id, account, opened_at, expires_at };
    let locks = match &session.account {
        AccountId::Patient(patient) => vec![Lock::exclusive(patient.as_str())],
        AccountId::Agency(_) | AccountId::Operator(_) | AccountId::App(_) | AccountId::Device(_) => {
            Vec::new()
        }
    };
    let (this, now) = (app.clone(), app.clock.now());
    app.write(locks, move |tx| Box::pin(async move { open_session_in(&this, tx, &session, now).await })).await
}

async fn open_session_in(app: &App, tx: &mut Tx, session: &OpenSession, now: Timestamp) -> Result<(), Error> {
    let protection = &app.protection;
    if let Some(known) = store::sessions::session(tx, protection, &session.id).await? {
        // Since when its credentials count changes while it lives.
        let same = known.account == session.account && known.expires_at == session.expires_at;
        return if same { Ok(()) } else { Err(Error::Conflict("another such session is open")) };
    }
    let ended =
        store::accounts::ended_sessions(tx, protection, EndedSessions::bucket_of(&session.id)).await?;
    if protection.has_ended(&ended, &session.id) || session.expires_at <= now {
        // auth tells of the end as well, in whichever order the two arrive.
        return Ok(());
    }
    if let AccountId::Patient(patient) = &session.account {
        // Set-back rights give nobody anything; their owner comes in, to change them.
        let rights = store::rights::rights_under_any_root(tx, protection, patient).await?;
        // auth tells again, after the patient's key.
        rights.ok_or(Error::Conflict("the patient is not known yet"))?;
        receipt(app, tx, &Occurrence::signed_in(patient, now)).await?;
    }
    store::sessions::insert(tx, protection, session).await
}

/// Ends a session: its access tokens count for nothing from now on.
pub async fn end_session(app: &App, session: SessionId, until: Option<Timestamp>) -> Result<(), Error> {
    let now = app.clock.now();
    let until = until.unwrap_or_else(|| now.plus(SESSION_MEMORY));
    let this = app.clone();
    app.change(vec![Lock::exclusive(session.as_str())], move |tx, changes| {
        Box::pin(async move {
            let bucket = EndedSessions::bucket_of(&session);
            let mut ended = store::accounts::ended_sessions(tx, &this.protection, bucket).await?;
            // As long as an older database could bring it back.
            let known = store::sessions::session(tx, &this.protection, &session).await;
            let last = match known {
                Ok(known) => known.map_or(until, |known| until.max(known.expires_at)),
                Err(error) if error.is_tampering() => until.max(now.plus(LONGEST_SESSION)),
                Err(error) => return Err(error),
            };
            changes.push(Change::Session(session.clone(), last.ms()));
            store::sessions::remove(tx, &session).await?;
            ended.end(session, until, now);
            store::accounts::put_ended_sessions(tx, &this.protection, &ended).await
        })
    })
    .await
}

/// Denies an account everything until it is lifted, or until a time. An unknown account is remembered as denied.
pub async fn deny_subject(app: &App, id: AccountId, until: Option<Timestamp>) -> Result<(), Error> {
    change_denial(app, id, true, until).await
}

/// Lifts the denial of an account.
pub async fn lift_denial(app: &App, id: AccountId) -> Result<(), Error> {
    change_denial(app, id, false, None).await
}

async fn change_denial(
    app: &App,
    id: AccountId,
    denied: bool,
    until: Option<Timestamp>,
) -> Result<(), Error> {
    let (now, this) = (app.clock.now(), app.clone());
    app.change(vec![Lock::exclusive(id.as_str())], move |tx, changes| {
        Box::pin(async move {
            let known = store::accounts::stored_account(tx, &this.protection, id.as_str()).await?;
            if known.is_none() && !denied {
                return Ok(());
            }
            let mut account = known.unwrap_or_else(|| Account::unknown(id, now));
            account.denied_at = denied.then(|| account.denied_at.unwrap_or(now));
            account.denied_until = if denied { until } else { None };
            account.updated_at = account.next_change(this.protection.floors(), now);
            store::accounts::put_account(tx, &this.protection, &account, &changes).await
        })
    })
    .await
}
