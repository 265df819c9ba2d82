//! Passkeys: made by somebody who is logged in, used to log in and to show again who it is.
//!
//! Why: decision 0127.

use std::time::Duration;

use hbc_db::{Lock, Tx};
use hbc_service::Caller;
use hbc_types::account::Standing;
use hbc_types::ids::{AccountId, PasskeyId, SessionId};
use hbc_types::wire::auth::{Denial, SteppedUp, Tokens};
use hbc_types::wire::passkeys::{
    NewPasskey, PasskeyCreation, PasskeyDescriptor, PasskeyExtensionResults, PasskeyRequest, PasskeyUsed,
    PasskeyView,
};
use hbc_types::{Digest, Timestamp};

use crate::app::App;
use crate::domain::input::Faults;
use crate::domain::token::Amr;
use crate::domain::webauthn::{
    Backup, CHALLENGE_MS, CeremonyError, ClientData, Known, RelyingParty, Used, counter_rises,
};
use crate::error::Error;
use crate::flows::custody;
use crate::flows::login::{Proof, Unnamed, prove};
use crate::flows::sessions::{Opening, current, end, stepped_up, still_own};
use crate::jobs::push;
use crate::store::accounts::Account;
use crate::store::passkeys::{Challenge, Passkey};
use crate::store::{Rows, StoreError};

/// Passkeys of one account.
const MOST: usize = 10;
/// Passkeys that one account registers within a day.
const A_DAY: i64 = 20;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What somebody is told whose challenge is not good.
const STALE: Error = Error::Conflict("the challenge was answered before, or is too old: ask for another one");
const FULL: Error = Error::Conflict("an account has at most ten passkeys: remove one");

/// Prepares a passkey for the caller, after the password.
pub async fn prepare(app: &App, caller: &Caller, proof: Proof) -> Result<PasskeyCreation, Error> {
    let party = relying_party(app)?;
    let (account, session) = current(app, caller).await?;
    let proven = prove(app, &account.username, proof).await?;
    let (challenge, row) = challenge(app, Some(session.id.clone()), Challenge::id_of);
    let now = app.clock.now();
    let existing = app.store.write(move |tx, rows| {
        Box::pin(async move {
            let account = proven.still(&rows, tx).await?;
            still_own(&rows, tx, &session.id, &account, now).await?;
            let existing = rows.passkeys_of(&mut *tx, &account.id).await?;
            if existing.len() >= MOST {
                return Err(FULL);
            }
            rows.insert_challenge(tx, &row).await?;
            Ok(existing)
        })
    });
    let existing = existing.await?.iter().map(descriptor).collect();
    let user = app.store.rows.passkey_user(&account.id);
    Ok(party.creation(&challenge, &user, &account.username, existing))
}

/// Registers the passkey that was made. The password was shown for its challenge, which counts in the same session alone.
pub async fn register(app: &App, caller: &Caller, new: NewPasskey) -> Result<PasskeyView, Error> {
    let NewPasskey { name, credential } = new;
    let party = relying_party(app)?;
    let mut faults = Faults::default();
    let name = faults.required("name", &name);
    if name.chars().count() > 80 {
        faults.add("name", "may have 80 characters");
    }
    faults.into_result().map_err(Error::Invalid)?;
    keeps_secrets(&credential.client_extension_results)?;
    let (account, session) = current(app, caller).await?;
    let refused = |error: CeremonyError| Error::invalid("credential", error.to_string());
    let client = ClientData::parse(credential.response.client_data_json.as_slice()).map_err(refused)?;
    let made = party.made(&credential, &client).map_err(refused)?;
    let passkey = Passkey {
        id: PasskeyId::random(&app.random),
        account: account.id,
        credential: made.credential,
        public_key: made.public_key,
        name,
        transports: transports(&credential.response.transports),
        sign_count: made.sign_count,
        backup: made.backup,
        prf: made.prf,
        created_at: app.clock.now(),
        last_used_at: None,
        removed_at: None,
        version: 1,
    };
    let (new, answered) = (passkey.clone(), Challenge::id_of(client.challenge()));
    // Two at once are counted one after the other.
    let locks = vec![Lock::exclusive(new.account.as_str())];
    app.store
        .write_locked(locks, move |tx, rows| {
            Box::pin(async move { add(&rows, tx, &new, (&session.id, answered)).await })
        })
        .await?;
    Ok(view(passkey))
}

/// Adds a passkey that was made in this session for a challenge that is still good.
async fn add(
    rows: &Rows,
    tx: &mut Tx,
    new: &Passkey,
    (session, answered): (&SessionId, Digest),
) -> Result<(), Error> {
    let now = new.created_at;
    let account = rows.account(&mut *tx, new.account.as_str()).await?.ok_or(Error::Unauthenticated)?;
    still_own(rows, tx, session, &account, now).await?;
    take(rows, tx, answered, Some(session), now).await?;
    if rows.passkeys_of(&mut *tx, &new.account).await?.len() >= MOST {
        return Err(FULL);
    }
    // A removed one is remembered.
    if rows.passkeys_since(tx, &new.account, now.minus(DAY)).await? >= A_DAY {
        return Err(Error::TooManyAttempts(DAY));
    }
    match rows.insert_passkey(tx, new).await? {
        true => Ok(()),
        false => Err(Error::Conflict("this passkey is registered already, or was")),
    }
}

/// The caller's passkeys.
pub async fn list(app: &App, caller: &Caller) -> Result<Vec<PasskeyView>, Error> {
    let (account, _session) = current(app, caller).await?;
    let passkeys = app.store.rows.passkeys_of(app.store.db.reads(), &account.id).await?;
    Ok(passkeys.into_iter().map(view).collect())
}

/// Removes one of the caller's passkeys, after the password: the sessions that it opened end. Removing it again changes nothing.
pub async fn remove(app: &App, caller: &Caller, id: &PasskeyId, proof: Proof) -> Result<Denial, Error> {
    let (account, _session) = current(app, caller).await?;
    let proven = prove(app, &account.username, proof).await?;
    let (id, now) = (id.clone(), app.clock.now());
    let locks = vec![Lock::exclusive(account.id.as_str())];
    let removed = app.store.write_locked(locks, move |tx, rows| {
        Box::pin(async move {
            let account = proven.still(&rows, tx).await?;
            let passkey = rows.passkey(&mut *tx, &id).await?;
            // Another's is as unknown as none.
            let passkey = passkey.filter(|passkey| passkey.account == account.id).ok_or(Error::NotFound)?;
            if let Some(since) = passkey.removed_at {
                rows.note_passkey(&passkey)?;
                return Ok((since, Vec::new()));
            }
            if !custody::opens_without(&rows, tx, &account, &id).await? {
                return Err(Error::Conflict(
                    "nothing else opens your root key: let another passkey open it first",
                ));
            }
            rows.delete_root_wrap(tx, &id).await?;
            remove_in(&rows, tx, passkey, now).await?;
            Ok((now, end_sessions(&rows, tx, &account.id, &id, now).await?))
        })
    });
    let (since, ended) = removed.await?;
    Ok(Denial { since, effective: push::all_told(app, &ended).await? })
}

/// Removes all passkeys of an account whose credentials somebody else may have had. Its sessions end elsewhere; what their secrets
/// open stays, or a root key would be lost with a password.
pub async fn remove_all(rows: &Rows, tx: &mut Tx, account: &AccountId, now: Timestamp) -> Result<(), Error> {
    for passkey in rows.passkeys_of(&mut *tx, account).await? {
        remove_in(rows, tx, passkey, now).await?;
    }
    Ok(())
}

async fn remove_in(rows: &Rows, tx: &mut Tx, mut passkey: Passkey, now: Timestamp) -> Result<(), Error> {
    passkey.removed_at = Some(now);
    Ok(rows.change_passkey(tx, &mut passkey).await?)
}

async fn end_sessions(
    rows: &Rows,
    tx: &mut Tx,
    account: &AccountId,
    passkey: &PasskeyId,
    now: Timestamp,
) -> Result<Vec<SessionId>, Error> {
    let mut ended = Vec::new();
    for session in rows.open_sessions(&mut *tx, account.as_str(), now).await? {
        if session.is_opened_with(passkey) {
            ended.push(session.id.clone());
            end(rows, tx, session, "removed", now).await?;
        }
    }
    Ok(ended)
}

/// Prepares that somebody signs in, whoever that is.
pub async fn prepare_log_in(app: &App) -> Result<PasskeyRequest, Error> {
    let party = relying_party(app)?;
    let (challenge, row) = challenge(app, None, Challenge::id_of);
    app.store
        .write(move |tx, rows| Box::pin(async move { Ok(rows.insert_challenge(tx, &row).await?) }))
        .await?;
    Ok(party.request(&challenge))
}

/// Logs in with a passkey, from an address, with a client that says what it is.
pub async fn log_in(
    app: &App,
    credential: &PasskeyUsed,
    address: &str,
    user_agent: Option<&str>,
) -> Result<Tokens, Error> {
    let party = relying_party(app)?;
    keeps_secrets(&credential.client_extension_results)?;
    // Failures count for the address alone: nobody guesses a signature, and no stranger slows an owner down.
    let attempt = Unnamed::enter(app, address).await?;
    match open(app, party, credential, user_agent).await {
        Err(Error::BadPasskey) => Err(Error::BadPasskey),
        outcome => {
            attempt.take_back(app).await?;
            let (opening, account) = outcome?;
            opening.tokens(app, &account).await
        }
    }
}

/// Somebody whose passkey signed a challenge; that it is still good is seen in the transaction.
#[derive(Clone, Debug)]
struct Signed {
    challenge: Digest,
    /// The session that it was for.
    session: Option<SessionId>,
    passkey: PasskeyId,
    used: Used,
    now: Timestamp,
}

impl Signed {
    /// Takes the challenge, for a passkey that is registered, of an account that is neither suspended nor closed.
    async fn once(&self, rows: &Rows, tx: &mut Tx) -> Result<Account, Error> {
        take(rows, tx, self.challenge, self.session.as_ref(), self.now).await?;
        let mut passkey = registered(rows, &mut *tx, &self.passkey).await?;
        let account = rows.account(&mut *tx, passkey.account.as_str()).await?.ok_or(Error::BadPasskey)?;
        match account.standing {
            Standing::Pending | Standing::Active => {}
            Standing::Suspended => return Err(suspended(&account)),
            Standing::Closed => return Err(Error::BadPasskey),
        }
        if !counter_rises(passkey.sign_count, self.used.sign_count) {
            tracing::error!(
                alarm = "passkey_copied",
                passkey.id = %passkey.id,
                "A passkey's signature counter went back: its key may have been copied, and its user is refused"
            );
            return Err(Error::BadPasskey);
        }
        (passkey.sign_count, passkey.backup) = (self.used.sign_count, self.used.backup);
        passkey.last_used_at = Some(self.now);
        rows.use_passkey(tx, &passkey).await?;
        Ok(account)
    }
}

/// The session that a challenge is for, and what names it.
type Purpose = (Option<SessionId>, fn(&[u8]) -> Digest);

/// Checks what a passkey signed; whose it is, and how it proves that.
async fn signed(
    app: &App,
    party: &RelyingParty,
    credential: &PasskeyUsed,
    (session, id_of): Purpose,
) -> Result<(Signed, AccountId, Amr), Error> {
    let refused = |error: CeremonyError| {
        tracing::info!(passkey.refused = %error, "A passkey was refused");
        Error::BadPasskey
    };
    let client = ClientData::parse(credential.response.client_data_json.as_slice()).map_err(refused)?;
    let (challenge, now) = (id_of(client.challenge()), app.clock.now());
    let (rows, reads) = (&app.store.rows, app.store.db.reads());
    // Said before anything is looked up, it says nothing of an account.
    let stored = rows.challenge(reads, challenge).await?;
    stored.filter(|stored| stored.is_good_for(session.as_ref(), now)).ok_or(STALE)?;
    let id = rows.passkey_named(reads, &credential.raw_id).await?.ok_or(Error::BadPasskey)?;
    let passkey = registered(rows, reads, &id).await?;
    let user = rows.passkey_user(&passkey.account);
    let known = Known { public_key: &passkey.public_key, user: &user, backup: passkey.backup };
    let used = party.used(credential, &client, known).map_err(refused)?;
    let amr = if used.backup.is_possible() { Amr::SyncedPasskey } else { Amr::Passkey };
    Ok((Signed { challenge, session, passkey: id, used, now }, passkey.account, amr))
}

async fn open(
    app: &App,
    party: &RelyingParty,
    credential: &PasskeyUsed,
    user_agent: Option<&str>,
) -> Result<(Opening, Account), Error> {
    let (signed, account, amr) = signed(app, party, credential, (None, Challenge::id_of)).await?;
    let opening = Opening::new(app, &account, amr, Some(signed.passkey.clone()), user_agent);
    let opened = opening.clone();
    // Whoever removes the passkey meanwhile ends this session too, or is before it.
    let locks = vec![Lock::shared(account.as_str())];
    let account = app.store.write_locked(locks, move |tx, rows| {
        Box::pin(async move {
            let account = signed.once(&rows, tx).await?;
            opened.insert(&rows, tx).await?;
            Ok(account)
        })
    });
    Ok((opening, account.await?))
}

/// Prepares that the caller shows one of their passkeys again.
pub async fn prepare_step_up(app: &App, caller: &Caller) -> Result<PasskeyRequest, Error> {
    let party = relying_party(app)?;
    let (account, session) = current(app, caller).await?;
    let passkeys = app.store.rows.passkeys_of(app.store.db.reads(), &account.id).await?;
    if passkeys.is_empty() {
        return Err(Error::Conflict("the account has no passkey"));
    }
    let (challenge, row) = challenge(app, Some(session.id), Challenge::step_up_id_of);
    app.store
        .write(move |tx, rows| Box::pin(async move { Ok(rows.insert_challenge(tx, &row).await?) }))
        .await?;
    let allow_credentials = passkeys.iter().map(descriptor).collect();
    Ok(PasskeyRequest { allow_credentials, ..party.request(&challenge) })
}

/// Shows a passkey again, in the same session: from now on its tokens say that it was just now.
pub async fn step_up(app: &App, caller: &Caller, credential: &PasskeyUsed) -> Result<SteppedUp, Error> {
    let party = relying_party(app)?;
    keeps_secrets(&credential.client_extension_results)?;
    let (own, session) = current(app, caller).await?;
    let purpose: Purpose = (Some(session.id.clone()), Challenge::step_up_id_of);
    let (signed, account, amr) = signed(app, party, credential, purpose).await?;
    if account != own.id {
        return Err(Error::BadPasskey);
    }
    let locks = vec![Lock::shared(account.as_str())];
    let shown = app.store.write_locked(locks, move |tx, rows| {
        Box::pin(async move {
            let account = signed.once(&rows, tx).await?;
            let mut session = still_own(&rows, tx, &session.id, &account, signed.now).await?;
            (session.amr, session.auth_time) = (amr, signed.now);
            session.used(signed.now);
            rows.use_session(tx, &session).await?;
            Ok((account, session))
        })
    });
    let (account, session) = shown.await?;
    stepped_up(app, &account, &session)
}

/// A passkey that was not removed. One that another hand wrote is none.
async fn registered<'e, E>(rows: &Rows, executor: E, id: &PasskeyId) -> Result<Passkey, Error>
where
    E: sqlx::Executor<'e, Database = sqlx::Any>,
{
    let passkey = match rows.passkey(executor, id).await {
        Ok(passkey) => passkey,
        Err(StoreError::Tampered(_alarmed)) => None,
        Err(error) => return Err(error.into()),
    };
    passkey.filter(|passkey| passkey.removed_at.is_none()).ok_or(Error::BadPasskey)
}

fn suspended(account: &Account) -> Error {
    account.reason.clone().map_or(Error::Suspended, Error::SuspendedBecause)
}

fn relying_party(app: &App) -> Result<&RelyingParty, Error> {
    app.relying_party.as_ref().ok_or(Error::Conflict("passkeys are not set up on this server"))
}

/// A fresh challenge, and the row that knows it.
fn challenge(app: &App, session: Option<SessionId>, id_of: fn(&[u8]) -> Digest) -> ([u8; 32], Challenge) {
    let challenge = app.random.bytes();
    let expires_at = app.clock.now().plus(Duration::from_millis(u64::from(CHALLENGE_MS)));
    (challenge, Challenge { id: id_of(&challenge), session, expires_at })
}

/// Takes a challenge that is good here and now.
async fn take(
    rows: &Rows,
    tx: &mut Tx,
    id: Digest,
    session: Option<&SessionId>,
    now: Timestamp,
) -> Result<(), Error> {
    let stored = rows.challenge(&mut *tx, id).await?;
    let good = stored.is_some_and(|stored| stored.is_good_for(session, now));
    if good && rows.take_challenge(tx, id).await? { Ok(()) } else { Err(STALE) }
}

/// What the authenticator derives is the page's alone: who sends it here is told so before it is relied on.
fn keeps_secrets(results: &PasskeyExtensionResults) -> Result<(), Error> {
    match results.prf.as_ref().and_then(|prf| prf.results) {
        None => Ok(()),
        Some(_secret) => Err(Error::invalid(
            "credential.clientExtensionResults.prf.results",
            "is the page's own secret: take it out before the answer is sent",
        )),
    }
}

/// The transports that make sense: short words.
fn transports(said: &[String]) -> String {
    let word = |text: &&String| {
        (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
    };
    said.iter().filter(word).take(8).map(String::as_str).collect::<Vec<_>>().join(" ")
}

fn descriptor(passkey: &Passkey) -> PasskeyDescriptor {
    PasskeyDescriptor {
        kind: "public-key".to_owned(),
        id: passkey.credential.clone(),
        transports: passkey.transports.split_whitespace().map(str::to_owned).collect(),
    }
}

fn view(passkey: Passkey) -> PasskeyView {
    PasskeyView {
        id: passkey.id,
        name: passkey.name,
        created_at: passkey.created_at,
        last_used_at: passkey.last_used_at,
        backed_up: passkey.backup == Backup::Done,
        prf: passkey.prf,
    }
}
