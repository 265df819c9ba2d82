//! Programs of agencies: registered with their public keys, they get tokens for what the agency may read.
//!
//! Why: decision 0126.

use std::time::Duration;

use hbc_app::jobs::enqueue;
use hbc_client::assertion::{Assertion, AssertionClaims, ClientKeys};
use hbc_db::{Lock, Tx};
use hbc_service::Caller;
use hbc_types::account::{AgencyType, Standing};
use hbc_types::ids::{AccountId, AgencyId, AppId, ClientId, OAuthClientId, SessionId};
use hbc_types::scope::{Interaction, Level, Scopes};
use hbc_types::secret::SecretText;
use hbc_types::wire::auth::Denial;
use hbc_types::wire::oauth::{
    ClientKeyView, ClientView, Introspection, JWT_BEARER, NewClient, NewClientKeys, TokenResponse,
};
use hbc_types::wire::token::{AccessClaims, CLIENT_SECONDS, ClientClaims};
use hbc_types::{Digest, Timestamp};

use crate::app::App;
use crate::domain::input::Faults;
use crate::domain::token::{Amr, Bearer};
use crate::error::Error;
use crate::flows::key_addresses::{must_be_named, program, third_party};
use crate::flows::login::{Origin, Proof, prove};
use crate::flows::registered::{registered, unknown};
use crate::flows::sessions::{current, end};
use crate::jobs::{TellSession, push};
use crate::store::Rows;
use crate::store::accounts::Account;
use crate::store::clients::Client;
use crate::store::sessions::{Session, Told};

/// Clients of one agency.
const MOST: usize = 10;
/// Clients that one agency registers within a day.
const A_DAY: i64 = 20;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// When a client that has had its tokens gets the next one.
pub(super) const TOKEN_EVERY: Duration = Duration::from_secs(2);
/// How far a client's clock may differ, in seconds.
const LEEWAY_SECONDS: i64 = 5;
/// Longest life of an assertion, in seconds (SMART App Launch 2.2).
const LONGEST_SECONDS: i64 = 300;
/// Seconds that a client's token lives.
pub(super) const LIFE: u32 = 300;
const _: () = assert!(LIFE as i64 == CLIENT_SECONDS);

/// Registers a client of an approved agency, after its password.
pub async fn register(
    app: &App,
    caller: &Caller,
    agency: &AgencyId,
    new: NewClient,
) -> Result<ClientView, Error> {
    let NewClient { name, kind, jwks, jwks_uri, scope, password, totp } = new;
    let mut faults = Faults::default();
    let name = faults.required("name", &name);
    if name.chars().count() > 80 {
        faults.add("name", "may have 80 characters");
    }
    faults.into_result().map_err(Error::Invalid)?;
    let named = must_be_named(app, jwks.as_ref(), jwks_uri.as_deref())?;
    if !scope.have_no_words() || !scope.are_all(Level::System, &[Interaction::Read, Interaction::Search]) {
        return Err(Error::invalid("scope", "a program reads: system/*.rs, with a type in the place of *"));
    }
    let (account, _session) = current(app, caller).await?;
    active(&account)?;
    let proven = prove(app, &account.username, proof(caller, password, totp)).await?;
    let (keys, keys_at) = named.get(app, &account.id).await?;
    let client = Client {
        id: ClientId::random(&app.random),
        account: agency.clone(),
        name,
        kind,
        jwks: keys.to_json().to_string(),
        keys_at,
        scopes: scope,
        created_at: app.clock.now(),
        last_used_at: None,
        removed_at: None,
        version: 1,
    };
    let new = client.clone();
    // Two at once are counted one after the other.
    let locks = vec![Lock::exclusive(agency.as_str())];
    let registered = app.store.write_locked(locks, move |tx, rows| {
        Box::pin(async move {
            active(&proven.still(&rows, tx).await?)?;
            if rows.clients_of(&mut *tx, &new.account).await?.len() >= MOST {
                return Err(Error::Conflict("an agency has at most ten clients: remove one"));
            }
            // A removed one is remembered.
            if rows.clients_since(tx, &new.account, new.created_at.minus(DAY)).await? >= A_DAY {
                return Err(Error::TooManyAttempts(DAY));
            }
            Ok(rows.insert_client(tx, &new).await?)
        })
    });
    registered.await?;
    view(&client)
}

/// The agency's clients.
pub async fn list(app: &App, caller: &Caller, agency: &AgencyId) -> Result<Vec<ClientView>, Error> {
    current(app, caller).await?;
    let clients = app.store.rows.clients_of(app.store.db.reads(), agency).await?;
    clients.iter().map(view).collect()
}

/// Replaces a client's keys, after the password. What it got with the old ones ends.
pub async fn set_keys(
    app: &App,
    caller: &Caller,
    (agency, id): (&AgencyId, &ClientId),
    new: NewClientKeys,
) -> Result<ClientView, Error> {
    let NewClientKeys { jwks, jwks_uri, password, totp } = new;
    let named = must_be_named(app, jwks.as_ref(), jwks_uri.as_deref())?;
    let (account, _session) = current(app, caller).await?;
    let proven = prove(app, &account.username, proof(caller, password, totp)).await?;
    // Who has no program has no address asked either.
    let known = app.store.rows.client(app.store.db.reads(), id).await?;
    known.filter(|client| client.account == *agency && client.removed_at.is_none()).ok_or(Error::NotFound)?;
    let (keys, keys_at) = named.get(app, &account.id).await?;
    let (agency, id, now) = (agency.clone(), id.clone(), app.clock.now());
    let locks = vec![Lock::exclusive(agency.as_str())];
    let changed = app.store.write_locked(locks, move |tx, rows| {
        Box::pin(async move {
            proven.still(&rows, tx).await?;
            let mut client = own(&rows, tx, &agency, &id).await?;
            if client.removed_at.is_some() {
                return Err(Error::NotFound);
            }
            (client.jwks, client.keys_at) = (keys.to_json().to_string(), keys_at);
            rows.change_client(tx, &mut client).await?;
            let ended = end_sessions(&rows, tx, &client, "keys", now).await?;
            Ok((client, ended))
        })
    });
    let (client, ended) = changed.await?;
    push::all_told(app, &ended).await?;
    view(&client)
}

/// Removes a client: its tokens are good no more. Removing it again changes nothing.
pub async fn remove(
    app: &App,
    caller: &Caller,
    (agency, id): (&AgencyId, &ClientId),
) -> Result<Denial, Error> {
    current(app, caller).await?;
    let (agency, id, now) = (agency.clone(), id.clone(), app.clock.now());
    let locks = vec![Lock::exclusive(agency.as_str())];
    let removed = app.store.write_locked(locks, move |tx, rows| {
        Box::pin(async move {
            let client = own(&rows, tx, &agency, &id).await?;
            match client.removed_at {
                Some(since) => {
                    rows.note_client(&client)?;
                    Ok((since, Vec::new()))
                }
                None => Ok((now, remove_in(&rows, tx, client, now).await?)),
            }
        })
    });
    let (since, ended) = removed.await?;
    Ok(Denial { since, effective: push::all_told(app, &ended).await? })
}

/// Removes all clients of an agency whose credentials somebody else may have had.
pub async fn remove_all(
    rows: &Rows,
    tx: &mut Tx,
    agency: &AgencyId,
    now: Timestamp,
) -> Result<Vec<SessionId>, Error> {
    let mut ended = Vec::new();
    for client in rows.clients_of(&mut *tx, agency).await? {
        ended.extend(remove_in(rows, tx, client, now).await?);
    }
    Ok(ended)
}

async fn remove_in(
    rows: &Rows,
    tx: &mut Tx,
    mut client: Client,
    now: Timestamp,
) -> Result<Vec<SessionId>, Error> {
    client.removed_at = Some(now);
    rows.change_client(tx, &mut client).await?;
    end_sessions(rows, tx, &client, "removed", now).await
}

/// How a client says that it proves itself.
#[derive(Clone, Copy, Debug)]
pub struct ClientProof<'a> {
    /// `client_assertion_type`.
    pub kind: Option<&'a str>,
    /// `client_assertion`.
    pub assertion: Option<&'a SecretText>,
    /// `client_id`: it need not come, and must be the assertion's (RFC 7521 §4.2).
    pub client_id: Option<&'a str>,
}

/// Gives a token to a client that proves itself.
pub async fn grant(app: &App, proof: ClientProof<'_>, scope: Option<&str>) -> Result<TokenResponse, Error> {
    let proven = authenticate(app, proof).await?;
    let asked = scope.map(Scopes::parse).transpose();
    let asked = asked.map_err(|error| Error::InvalidScope(error.to_string()))?;
    let scope = asked.unwrap_or_else(|| proven.client.scopes.clone());
    if !scope.are_within(&proven.client.scopes) {
        return Err(Error::InvalidScope(format!("registered for: {}", proven.client.scopes)));
    }
    let now = app.clock.now();
    let session = Session {
        id: SessionId::random(&app.random),
        account: AccountId::Agency(proven.client.account.clone()),
        amr: Amr::Key,
        auth_time: now,
        expires_at: now.plus(Duration::from_secs(u64::from(LIFE))),
        ended_at: None,
        end_reason: None,
        told: Some(Told {
            created_at: now,
            last_used_at: now,
            client: None,
            oauth_client: Some(OAuthClientId::Program(proven.client.id.clone())),
            let_in: None,
            passkey: None,
        }),
    };
    let (new, session_client) = (session.clone(), proven.client.id.clone());
    let locks = vec![Lock::shared(proven.client.account.as_str())];
    app.client_tokens.check(&session_client).map_err(|_too_many| Error::TooManyAttempts(TOKEN_EVERY))?;
    let granted = app.store.write_locked(locks, move |tx, rows| {
        Box::pin(async move {
            let (mut client, account) = proven.once(&rows, tx).await?;
            client.last_used_at = Some(now);
            rows.use_client(tx, &client).await?;
            rows.insert_session(tx, &new).await?;
            enqueue::<TellSession>(tx, &new.id, now).await?;
            Ok((client, account))
        })
    });
    let (client, account) = granted.await?;
    // Without its knowing, access-policy takes the token for forged.
    push::told(app, session.id.as_str()).await?;
    let bearer = Bearer {
        account: account.id.clone(),
        role: account.role,
        session: session.id,
        auth_time: now,
        amr: session.amr,
        second_factor: false,
        usual_purpose: None,
        client: Some(ClientClaims {
            client_id: OAuthClientId::Program(client.id),
            patient: None,
            scope: scope.clone(),
            purpose: account.agency_type.and_then(AgencyType::usual_purpose),
        }),
    };
    Ok(TokenResponse {
        access_token: app.issuer.issue(&bearer, now, &app.random)?,
        token_type: "Bearer".to_owned(),
        expires_in: LIFE,
        refresh_token: None,
        scope: Some(scope),
        patient: None,
        id_token: None,
    })
}

/// Whether a token is good now, for the client that it is of.
pub async fn introspect(
    app: &App,
    proof: ClientProof<'_>,
    claims: Option<AccessClaims>,
) -> Result<Introspection, Error> {
    let proven = authenticate(app, proof).await?;
    let now = app.clock.now();
    let looked = app.store.write(move |tx, rows| {
        Box::pin(async move {
            let (client, account) = proven.once(&rows, tx).await?;
            let own = claims.filter(|claims| {
                claims.sub == account.id
                    && claims
                        .client
                        .as_ref()
                        .is_some_and(|token| token.client_id == OAuthClientId::Program(client.id.clone()))
            });
            let Some(claims) = own else { return Ok(None) };
            let session = rows.session(tx, claims.sid.as_str()).await?;
            Ok(session.is_some_and(|session| session.is_live_for(&account.id, now)).then_some(claims))
        })
    });
    Ok(looked.await?.map(good).unwrap_or_default())
}

/// What is told of a token that is good.
pub(super) fn good(claims: AccessClaims) -> Introspection {
    Introspection {
        active: true,
        client_id: claims.client.as_ref().map(|client| client.client_id.clone()),
        scope: claims.client.map(|client| client.scope),
        sub: Some(claims.sub),
        token_type: Some("Bearer".to_owned()),
        iss: Some(claims.iss),
        aud: Some(claims.aud),
        iat: Some(claims.iat),
        exp: Some(claims.exp),
    }
}

/// A client whose assertion holds; that it comes once is seen in the transaction.
#[derive(Clone, Debug)]
struct Authenticated {
    client: Client,
    taken: Taken,
}

impl Authenticated {
    /// Takes the assertion, for a client that is registered as it was, of an active agency.
    async fn once(&self, rows: &Rows, tx: &mut Tx) -> Result<(Client, Account), Error> {
        let client = registered(rows, &mut *tx, &self.client.id).await?;
        if client.version != self.taken.version {
            return Err(unknown());
        }
        let account = rows.account(&mut *tx, client.account.as_str()).await?.ok_or_else(unknown)?;
        if account.standing != Standing::Active {
            return Err(Error::InvalidClient("the agency is not active"));
        }
        match rows.take_assertion(tx, self.taken.id, self.taken.until).await? {
            true => Ok((client, account)),
            false => Err(Error::InvalidClient("the assertion was used before")),
        }
    }
}

async fn authenticate(app: &App, proof: ClientProof<'_>) -> Result<Authenticated, Error> {
    let shown = shown(&proof)?;
    let id = ClientId::parse(shown.client()).map_err(|_other| unknown())?;
    let client = program(app, &id, shown.kid()).await?;
    let taken = taken(app, shown, &OAuthClientId::Program(id), (&client.keys()?, client.version))?;
    Ok(Authenticated { client, taken })
}

/// The app whose assertion holds; that it comes once, and may act, is seen in the transaction.
pub async fn known_app(app: &App, proof: ClientProof<'_>) -> Result<(AppId, Taken), Error> {
    let shown = shown(&proof)?;
    let id = AppId::parse(shown.client()).map_err(|_other| unknown())?;
    let stored = third_party(app, &id, shown.kid()).await?;
    let keys = stored.keys()?.ok_or(Error::InvalidClient("a public client has no key"))?;
    let taken = taken(app, shown, &OAuthClientId::App(id.clone()), (&keys, stored.version))?;
    Ok((id, taken))
}

/// An assertion that holds under a client's keys.
#[derive(Clone, Debug)]
pub struct Taken {
    /// A hash of client and assertion id.
    pub id: Digest,
    /// Until when the assertion could come again.
    pub until: Timestamp,
    /// Of the row whose keys it was checked under.
    pub version: i64,
}

fn taken(
    app: &App,
    shown: Assertion<'_>,
    id: &OAuthClientId,
    (keys, version): (&ClientKeys, i64),
) -> Result<Taken, Error> {
    let claims = verified(app, shown, keys)?;
    app.client_requests.check(id).map_err(|_too_many| Error::TooManyAttempts(Duration::from_secs(1)))?;
    let (id, until) = once_of(&claims);
    Ok(Taken { id, until, version })
}

fn refused(error: &hbc_client::jwt::JwtError) -> Error {
    tracing::info!(assertion.refused = %error, "A client's assertion was refused");
    unknown()
}

/// The assertion that a client shows. Nothing of it is checked but its form.
pub(super) fn shown<'a>(proof: &ClientProof<'a>) -> Result<Assertion<'a>, Error> {
    if proof.kind != Some(JWT_BEARER) {
        return Err(Error::InvalidClient("clients prove themselves by a signed assertion (private_key_jwt)"));
    }
    let text = proof.assertion.ok_or(Error::InvalidClient("the assertion is missing"))?;
    let assertion = Assertion::parse(text.expose()).map_err(|error| refused(&error))?;
    if proof.client_id.is_some_and(|other| other != assertion.client()) {
        return Err(Error::InvalidClient("`client_id` is not the assertion's client"));
    }
    Ok(assertion)
}

/// Checks signature, audience and times of an assertion under the keys of whom it names.
pub(super) fn verified(
    app: &App,
    assertion: Assertion<'_>,
    keys: &ClientKeys,
) -> Result<AssertionClaims, Error> {
    let audiences = [app.metadata.token_endpoint.as_str(), &app.metadata.issuer, app.issuer.issuer()];
    let claims = assertion.verify(keys, &audiences).map_err(|error| refused(&error))?;
    check_times(&claims, app.clock.now())?;
    Ok(claims)
}

/// Under what an assertion is remembered, and until when it could come again.
pub(super) fn once_of(claims: &AssertionClaims) -> (Digest, Timestamp) {
    let name = [&claims.iss, "\n", &claims.jti].concat();
    let until = Timestamp::from_ms(claims.exp.saturating_add(LEEWAY_SECONDS).saturating_mul(1_000));
    (Digest::of(name.as_bytes()), until)
}

fn check_times(claims: &AssertionClaims, now: Timestamp) -> Result<(), Error> {
    let now = now.seconds();
    if claims.jti.is_empty() || claims.jti.len() > 256 {
        return Err(Error::InvalidClient("the assertion needs a `jti` of 1 to 256 bytes"));
    }
    if claims.exp.saturating_add(LEEWAY_SECONDS) <= now {
        return Err(Error::InvalidClient("the assertion has expired"));
    }
    if claims.exp > now + LONGEST_SECONDS + LEEWAY_SECONDS {
        return Err(Error::InvalidClient("the assertion may live for five minutes"));
    }
    let begins = claims.nbf.into_iter().chain(claims.iat).max().unwrap_or(now);
    if begins > now + LEEWAY_SECONDS {
        return Err(Error::InvalidClient("the assertion is of the future: is the clock right?"));
    }
    Ok(())
}

fn active(account: &Account) -> Result<(), Error> {
    if account.standing == Standing::Active { Ok(()) } else { Err(Error::AgencyUnverified) }
}

fn proof(caller: &Caller, password: SecretText, totp: Option<SecretText>) -> Proof {
    Proof { password, totp, origin: Origin::Session(caller.session.clone()) }
}

/// A client of this agency, a removed one too; another's is as unknown as none.
async fn own(rows: &Rows, tx: &mut Tx, agency: &AgencyId, id: &ClientId) -> Result<Client, Error> {
    let client = rows.client(tx, id).await?;
    client.filter(|client| client.account == *agency).ok_or(Error::NotFound)
}

/// Ends what a client has open, and says what that was.
async fn end_sessions(
    rows: &Rows,
    tx: &mut Tx,
    client: &Client,
    reason: &str,
    now: Timestamp,
) -> Result<Vec<SessionId>, Error> {
    let mut ended = Vec::new();
    for session in rows.open_sessions(&mut *tx, client.account.as_str(), now).await? {
        if session.is_of(&OAuthClientId::Program(client.id.clone())) {
            ended.push(session.id.clone());
            end(rows, tx, session, reason, now).await?;
        }
    }
    Ok(ended)
}

fn view(client: &Client) -> Result<ClientView, Error> {
    let keys = client.keys()?;
    let key = |key: &hbc_client::assertion::ClientKey| ClientKeyView {
        kid: key.kid().to_owned(),
        alg: key.algorithm(),
    };
    Ok(ClientView {
        id: client.id.clone(),
        name: client.name.clone(),
        kind: client.kind,
        keys: keys.iter().map(key).collect(),
        jwks_uri: client.keys_at.as_ref().map(|at| at.uri.clone()),
        jwks_fetched_at: client.keys_at.as_ref().map(|at| at.fetched_at),
        scope: client.scopes.clone(),
        created_at: client.created_at,
        last_used_at: client.last_used_at,
    })
}
