//! Sessions: login, refresh, logout, and who is calling.

use std::sync::Arc;
use std::time::Duration;

use hbc_app::jobs::enqueue;
use hbc_db::Tx;
use hbc_service::Caller;
use hbc_types::account::{AgencyType, Standing};
use hbc_types::ids::{AccountId, OAuthClientId, PasskeyId, SessionId};
use hbc_types::secret::SecretText;
use hbc_types::wire::auth::{Denial, SessionView, SteppedUp, Tokens};
use hbc_types::wire::token::ACCESS_SECONDS;
use hbc_types::{Digest, Timestamp};

use crate::app::App;
use crate::domain::client;
use crate::domain::refresh::RefreshToken;
use crate::domain::token::{Amr, Bearer};
use crate::error::Error;
use crate::flows::login::{Proof, prove};
use crate::jobs::TellSession;
pub use crate::jobs::end_session as end;
use crate::jobs::push;
use crate::store::Rows;
use crate::store::accounts::Account;
use crate::store::sessions::{Session, StoredToken, Told};

/// Logs in, with a client that says what it is.
pub async fn log_in(
    app: &App,
    username: &str,
    proof: Proof,
    user_agent: Option<&str>,
) -> Result<Tokens, Error> {
    let proven = prove(app, username, proof).await?;
    if proven.account.standing == Standing::Suspended {
        return Err(proven.account.reason.map_or(Error::Suspended, Error::SuspendedBecause));
    }
    let opening = Opening::new(app, &proven.account.id, proven.amr, None, user_agent);
    let (opened, proved) = (opening.clone(), proven.clone());
    app.store
        .write(move |tx, rows| {
            Box::pin(async move {
                // Whatever ended every session meanwhile (a new password, a recovery, a suspension) has not seen this one.
                proved.still(&rows, tx).await?;
                opened.insert(&rows, tx).await
            })
        })
        .await?;
    opening.tokens(app, &proven.account).await
}

/// A session that begins now.
#[derive(Clone)]
pub struct Opening {
    session: Session,
    refresh: Arc<RefreshToken>,
    first: StoredToken,
}

impl Opening {
    /// A session of this account, opened in this way, with a client that says what it is.
    pub fn new(
        app: &App,
        account: &AccountId,
        amr: Amr,
        passkey: Option<PasskeyId>,
        user_agent: Option<&str>,
    ) -> Self {
        let now = app.clock.now();
        let session = Session {
            id: SessionId::random(&app.random),
            account: account.clone(),
            amr,
            auth_time: now,
            expires_at: now.plus(Duration::from_secs(u64::from(app.sessions.days) * 24 * 3600)),
            ended_at: None,
            end_reason: None,
            told: Some(Told {
                created_at: now,
                last_used_at: now,
                client: user_agent.and_then(client::coarse),
                oauth_client: None,
                let_in: None,
                passkey,
            }),
        };
        let refresh = Arc::new(RefreshToken::random(&app.random));
        Self { first: stored(app, &session, refresh.hash(), now), session, refresh }
    }

    /// Stores it in the transaction that saw what it rests on.
    pub async fn insert(&self, rows: &Rows, tx: &mut Tx) -> Result<(), Error> {
        rows.insert_session(tx, &self.session).await?;
        rows.insert_token(tx, &self.first).await?;
        Ok(enqueue::<TellSession>(tx, &self.session.id, self.session.auth_time).await?)
    }

    /// Its tokens. Without its knowing, access-policy takes them for forged; if it cannot be told now, it is told as soon as it
    /// can.
    pub async fn tokens(&self, app: &App, account: &Account) -> Result<Tokens, Error> {
        push::told(app, self.session.id.as_str()).await?;
        tokens(app, account, &self.session, &self.refresh, self.session.auth_time)
    }
}

/// A refresh token of a session, as it is kept. A user's ends when it is not used; an app's lives as long as the patient said.
pub fn stored(app: &App, session: &Session, hash: Digest, now: Timestamp) -> StoredToken {
    let idle = match session.let_in() {
        None => now.plus(Duration::from_secs(u64::from(app.sessions.idle_hours) * 3600)),
        Some(_) => session.expires_at,
    };
    StoredToken { hash, session: session.id.clone(), expires_at: idle.min(session.expires_at), used_at: None }
}

/// Seconds that an access token lives.
const LIFE: u32 = 600;
const _: () = assert!(LIFE as i64 == ACCESS_SECONDS);

fn access_token(
    app: &App,
    account: &Account,
    session: &Session,
    now: Timestamp,
) -> Result<SecretText, Error> {
    let bearer = Bearer {
        account: account.id.clone(),
        role: account.role,
        session: session.id.clone(),
        auth_time: session.auth_time,
        amr: session.amr,
        second_factor: account.second_factor_at.is_some(),
        usual_purpose: account.agency_type.and_then(AgencyType::usual_purpose),
        client: None,
    };
    Ok(app.issuer.issue(&bearer, now, &app.random)?)
}

/// Shows the credentials again: from now on the session's tokens say that it was just now.
pub async fn step_up(
    app: &App,
    caller: &Caller,
    account: &Account,
    proof: Proof,
) -> Result<SteppedUp, Error> {
    let proven = prove(app, &account.username, proof).await?;
    let (id, now) = (caller.session.clone(), app.clock.now());
    let shown = app.store.write(move |tx, rows| {
        Box::pin(async move {
            let account = proven.still(&rows, tx).await?;
            let mut session = still_own(&rows, tx, &id, &account, now).await?;
            (session.amr, session.auth_time) = (proven.amr, now);
            session.used(now);
            rows.use_session(tx, &session).await?;
            Ok((account, session))
        })
    });
    let (account, session) = shown.await?;
    stepped_up(app, &account, &session)
}

/// The token of a session whose credentials were shown again.
pub fn stepped_up(app: &App, account: &Account, session: &Session) -> Result<SteppedUp, Error> {
    Ok(SteppedUp {
        access_token: access_token(app, account, session, session.auth_time)?,
        expires_in: LIFE,
        token_type: "Bearer".to_owned(),
    })
}

/// Tokens of a user's session.
pub fn tokens(
    app: &App,
    account: &Account,
    session: &Session,
    refresh: &RefreshToken,
    now: Timestamp,
) -> Result<Tokens, Error> {
    Ok(Tokens {
        access_token: access_token(app, account, session, now)?,
        expires_in: LIFE,
        refresh_token: refresh.write(),
        token_type: "Bearer".to_owned(),
        account: account.id.clone(),
        role: account.role,
        session: session.id.clone(),
    })
}

/// Whether who is signed in to the account may go on.
pub fn may_act(account: &Account) -> Result<(), Error> {
    match account.standing {
        Standing::Pending | Standing::Active => Ok(()),
        Standing::Suspended => Err(Error::Suspended),
        // Whoever was signed in is so no more.
        Standing::Closed => Err(Error::Unauthenticated),
    }
}

/// The account, if whoever is signed in may go on: in the transaction that rests on it.
pub async fn acting(rows: &Rows, tx: &mut Tx, id: &str) -> Result<Account, Error> {
    let account = rows.account(tx, id).await?.ok_or(Error::Unauthenticated)?;
    may_act(&account).map(|()| account)
}

/// This session of the account, if it has not ended meanwhile, nor the account been suspended.
pub async fn still_own(
    rows: &Rows,
    tx: &mut Tx,
    id: &SessionId,
    account: &Account,
    now: Timestamp,
) -> Result<Session, Error> {
    may_act(account)?;
    let session = rows.session(tx, id.as_str()).await?;
    session.filter(|session| session.is_live_for(&account.id, now)).ok_or(Error::Unauthenticated)
}

/// Ends every session of `account` but `except`, and says which.
pub async fn end_all(
    rows: &Rows,
    tx: &mut Tx,
    account: &str,
    except: Option<&SessionId>,
    reason: &str,
    now: Timestamp,
) -> Result<Vec<SessionId>, Error> {
    let mut ended = Vec::new();
    for session in rows.open_sessions(&mut *tx, account, now).await? {
        if except != Some(&session.id) {
            ended.push(session.id.clone());
            end(rows, tx, session, reason, now).await?;
        }
    }
    Ok(ended)
}

/// Logs out. Doing it again changes nothing.
pub async fn log_out(app: &App, caller: &Caller) -> Result<Denial, Error> {
    end_own(app, &caller.session, &caller.account, Error::Unauthenticated).await
}

/// Ends a session of this account; `unknown` if it has no such session.
async fn end_own(app: &App, id: &SessionId, account: &AccountId, unknown: Error) -> Result<Denial, Error> {
    let (wanted, account, now) = (id.clone(), account.clone(), app.clock.now());
    let since = app.store.write(move |tx, rows| {
        Box::pin(async move {
            let session = rows.session(&mut *tx, wanted.as_str()).await?;
            match session.filter(|session| session.account == account) {
                None => Ok(None),
                Some(session) if session.ended_at.is_some() => {
                    rows.note_end(&session)?;
                    Ok(session.ended_at)
                }
                Some(session) => end(&rows, tx, session, "logout", now).await.map(|()| Some(now)),
            }
        })
    });
    let since = since.await?.ok_or(unknown)?;
    let effective = push::told(app, id.as_str()).await?;
    Ok(Denial { since, effective })
}

/// Ends the session that a token is of: by its hash if it is a refresh token, else by whom a verified access token names.
/// False while access-policy is still being told. Of what is no token nothing happens.
pub async fn revoke(
    app: &App,
    token: &SecretText,
    named: Option<(SessionId, AccountId)>,
) -> Result<bool, Error> {
    let (hash, now) = (RefreshToken::parse(token).map(|token| token.hash()), app.clock.now());
    if hash.is_none() && named.is_none() {
        return Ok(true);
    }
    let ended = app.store.write(move |tx, rows| {
        Box::pin(async move {
            let id = match (hash, named.as_ref()) {
                (Some(hash), _) => rows.token(&mut *tx, hash).await?.map(|token| token.session),
                (None, named) => named.map(|(id, _account)| id.clone()),
            };
            let Some(id) = id else { return Ok(None) };
            let Some(session) = rows.session(&mut *tx, id.as_str()).await? else { return Ok(None) };
            if named.is_some_and(|(_id, account)| account != session.account) {
                return Ok(None);
            }
            match session.ended_at {
                Some(_before) => rows.note_end(&session)?,
                None => end(&rows, tx, session, "revoked", now).await?,
            }
            Ok::<_, Error>(Some(id))
        })
    });
    match ended.await? {
        Some(session) => Ok(push::told(app, session.as_str()).await?),
        None => Ok(true),
    }
}

/// The caller's sessions that can still be used, the latest first.
pub async fn list(app: &App, caller: &Caller) -> Result<Vec<SessionView>, Error> {
    let (account, _own) = current(app, caller).await?;
    let now = app.clock.now();
    let idle = Duration::from_secs(u64::from(app.sessions.idle_hours) * 3600);
    let mut sessions = app.store.rows.open_sessions(app.store.db.reads(), account.id.as_str(), now).await?;
    let last_used =
        |session: &Session| session.told.as_ref().map_or(session.auth_time, |told| told.last_used_at);
    sessions.retain(|session| now < last_used(session).plus(idle));
    sessions.sort_by_key(|session| std::cmp::Reverse(last_used(session)));
    let view = |session: Session| SessionView {
        current: session.id == caller.session,
        created_at: session.told.as_ref().map_or(session.auth_time, |told| told.created_at),
        last_used_at: last_used(&session),
        expires_at: session.expires_at.min(last_used(&session).plus(idle)),
        second_factor: session.amr.is_two_factors(),
        client_id: session.told.as_ref().and_then(|told| match &told.oauth_client {
            Some(OAuthClientId::Program(client)) => Some(client.clone()),
            _ => None,
        }),
        client: session.told.and_then(|told| told.client),
        id: session.id,
    };
    Ok(sessions.into_iter().map(view).collect())
}

/// Ends one of the caller's sessions. Another's is as unknown as none.
pub async fn end_one(app: &App, caller: &Caller, id: &SessionId) -> Result<Denial, Error> {
    current(app, caller).await?;
    end_own(app, id, &caller.account, Error::NotFound).await
}

/// Ends all of the caller's sessions but the present one.
pub async fn end_others(app: &App, caller: &Caller) -> Result<Denial, Error> {
    let (account, own) = current(app, caller).await?;
    let now = app.clock.now();
    let ended = app.store.write(move |tx, rows| {
        Box::pin(async move { end_all(&rows, tx, account.id.as_str(), Some(&own.id), "logout", now).await })
    });
    Ok(Denial { since: now, effective: push::all_told(app, &ended.await?).await? })
}

/// The account and session behind a token, as they stand now: a token outlives a logout or a suspension, its session
/// does not.
pub async fn current(app: &App, caller: &Caller) -> Result<(Account, Session), Error> {
    let reads = app.store.db.reads();
    let session =
        app.store.rows.session(reads, caller.session.as_str()).await?.ok_or(Error::Unauthenticated)?;
    if !session.is_live_for(&caller.account, app.clock.now()) {
        return Err(Error::Unauthenticated);
    }
    let account =
        app.store.rows.account(reads, caller.account.as_str()).await?.ok_or(Error::Unauthenticated)?;
    may_act(&account)?;
    Ok((account, session))
}
