//! Keys of programs and apps that stand at an address of theirs: what is found there is kept, and asked for again. What a stranger
//! says in an assertion decides at most *that* it is asked for again, never *where*.
//!
//! No fetch happens in a transaction or under a lock. Why: decision 0131.

use std::time::Duration;

use hbc_client::assertion::ClientKeys;
use hbc_client::outgoing::{OutgoingError, Target};
use hbc_db::Lock;
use hbc_types::Timestamp;
use hbc_types::account::Standing;
use hbc_types::ids::{AccountId, AppId, ClientId, OAuthClientId};
use serde_json::Value;

use crate::app::key_fetches::Turn;
use crate::app::{ADDRESS_EVERY, App};
use crate::error::Error;
use crate::flows::registered::{registered, unknown};
use crate::store::apps::App as StoredApp;
use crate::store::clients::Client;
use crate::store::key_addresses::KeyAddress;

/// How long kept keys are taken without asking for them again.
const FRESH: Duration = Duration::from_secs(3600);
/// How long they are taken where the address does not answer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Keys as somebody registers them.
#[derive(Debug)]
pub enum Named {
    /// Themselves.
    Set(ClientKeys),
    /// By the address where they are.
    At(Target),
}

/// Reads which keys are meant: a set or an address, not both. Nothing is fetched yet.
pub fn named(app: &App, jwks: Option<&Value>, jwks_uri: Option<&str>) -> Result<Option<Named>, Error> {
    match (jwks, jwks_uri) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => {
            Err(Error::invalid("jwks_uri", "stands in the place of `jwks`: send one of both"))
        }
        (Some(set), None) => match ClientKeys::parse(set) {
            Ok(keys) => Ok(Some(Named::Set(keys))),
            Err(error) => Err(Error::invalid("jwks", error.to_string())),
        },
        (None, Some(text)) => match app.outgoing.target(text) {
            Ok(target) => Ok(Some(Named::At(target))),
            Err(error) => Err(Error::invalid("jwks_uri", error.to_string())),
        },
    }
}

/// The same, where there must be some.
pub fn must_be_named(app: &App, jwks: Option<&Value>, jwks_uri: Option<&str>) -> Result<Named, Error> {
    let named = named(app, jwks, jwks_uri)?;
    named.ok_or_else(|| Error::invalid("jwks", "is missing: send `jwks` or `jwks_uri`"))
}

impl Named {
    /// The keys, and the address that they are at. `by` has proved to be who registers them.
    pub async fn get(self, app: &App, by: &AccountId) -> Result<(ClientKeys, Option<KeyAddress>), Error> {
        let target = match self {
            Self::Set(keys) => return Ok((keys, None)),
            Self::At(target) => target,
        };
        // Nobody looks around with this.
        app.key_addresses.check(by).map_err(|_too_many| Error::TooManyAttempts(ADDRESS_EVERY))?;
        let fetched_at = app.clock.now();
        let fault = |words: String| Error::invalid("jwks_uri", words);
        let set = app.outgoing.json(&target).await.map_err(|error| fault(error.to_string()))?;
        let keys = ClientKeys::parse(&set).map_err(|error| fault(format!("what is there {error}")))?;
        Ok((keys, Some(KeyAddress { uri: target.as_str().to_owned(), fetched_at })))
    }
}

/// The program with this id, with the keys that count for an assertion under `kid`.
pub async fn program(app: &App, id: &ClientId, kid: &str) -> Result<Client, Error> {
    let client = registered(&app.store.rows, app.store.db.reads(), id).await?;
    let Some(at) = &client.keys_at else { return Ok(client) };
    let now = app.clock.now();
    if !is_due(at, &client.keys()?, kid, now) {
        return Ok(client);
    }
    let agency = app.store.rows.account(app.store.db.reads(), client.account.as_str()).await?;
    if agency.is_none_or(|agency| agency.standing != Standing::Active) {
        return Ok(client);
    }
    let whose = Whose {
        id: OAuthClientId::Program(id.clone()),
        version: client.version,
        lock: client.account.to_string(),
    };
    refetch(app, whose, &at.uri).await;
    let client = registered(&app.store.rows, app.store.db.reads(), id).await?;
    still_counts(client.keys_at.as_ref(), now)?;
    Ok(client)
}

/// The app with this id, with the keys that count for an assertion under `kid`; of any standing.
pub async fn third_party(app: &App, id: &AppId, kid: &str) -> Result<StoredApp, Error> {
    let find = async || app.store.rows.app(app.store.db.reads(), id).await?.ok_or_else(unknown);
    let stored = find().await?;
    let Some(at) = &stored.keys_at else { return Ok(stored) };
    let now = app.clock.now();
    let has_keys = stored.keys()?.unwrap_or_else(ClientKeys::none);
    if !is_due(at, &has_keys, kid, now) || stored.standing != Standing::Active {
        return Ok(stored);
    }
    let whose = Whose { id: OAuthClientId::App(id.clone()), version: stored.version, lock: id.to_string() };
    refetch(app, whose, &at.uri).await;
    let stored = find().await?;
    still_counts(stored.keys_at.as_ref(), now)?;
    Ok(stored)
}

/// Whether kept keys are to be asked for again. Those of the future are of a clock that was wrong.
fn is_due(at: &KeyAddress, keys: &ClientKeys, kid: &str, now: Timestamp) -> bool {
    now < at.fetched_at || now.since(at.fetched_at) >= FRESH || !keys.has(kid)
}

/// Refuses keys that nobody has seen at their address for too long.
fn still_counts(at: Option<&KeyAddress>, now: Timestamp) -> Result<(), Error> {
    match at {
        Some(at) if now.since(at.fetched_at) >= LONGEST => Err(unknown()),
        _ => Ok(()),
    }
}

/// Whose keys are asked for.
#[derive(Clone, Debug)]
struct Whose {
    id: OAuthClientId,
    /// Of the row that the address was read from: what was registered meanwhile is not written over.
    version: i64,
    /// Under whose name its row is changed.
    lock: String,
}

/// Has keys fetched and kept, if that is due, and waits until it is over. Whoever needs the same meanwhile waits for the same.
async fn refetch(app: &App, whose: Whose, uri: &str) {
    let mut outcome = match app.key_fetches.turn(&whose.id, app.clock.now()) {
        Turn::Lately => return,
        Turn::UnderWay(outcome) => outcome,
        Turn::Now(told, outcome) => {
            let (app, uri) = (app.clone(), uri.to_owned());
            // In a task of its own: the others wait on when the first one hangs up.
            hbc_service::spawn("fetch of a client's keys", async move {
                let id = whose.id.clone();
                let fetched = fetch(&app, whose, uri).await;
                if let Err(error) = &fetched {
                    tracing::warn!(
                        client.id = %id,
                        error = %error,
                        "A client's keys could not be fetched: those that are kept count for a day"
                    );
                }
                told.send_replace(Some(fetched.is_ok()));
            });
            outcome
        }
    };
    // One that ended without a word has kept nothing.
    drop(outcome.wait_for(Option::is_some).await);
}

/// Why a fetch changed nothing.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the address {0}")]
    Outgoing(#[from] OutgoingError),
    #[error("the address answers with no key set")]
    NoSet,
    #[error(transparent)]
    Kept(#[from] Error),
}

async fn fetch(app: &App, whose: Whose, uri: String) -> Result<(), FetchError> {
    let fetched_at = app.clock.now();
    let set = app.outgoing.json(&app.outgoing.target(&uri)?).await?;
    let keys = match ClientKeys::parse(&set) {
        Ok(keys) => keys,
        // It is the key set, and nothing that was kept stands in it in a form that counts.
        Err(fault) if set.get("keys").is_some_and(Value::is_array) => {
            tracing::warn!(client.id = %whose.id, error = %fault, "A client's key set is at fault: no key of it counts");
            ClientKeys::none()
        }
        Err(_other) => return Err(FetchError::NoSet),
    };
    Ok(keep(app, whose, keys.to_json().to_string(), KeyAddress { uri, fetched_at }).await?)
}

/// Keeps what was found, unless the client has changed since its address was read.
async fn keep(app: &App, whose: Whose, jwks: String, at: KeyAddress) -> Result<(), Error> {
    let locks = vec![Lock::exclusive(&whose.lock)];
    let kept = app.store.write_locked(locks, move |tx, rows| {
        Box::pin(async move {
            match &whose.id {
                OAuthClientId::Program(id) => {
                    let found = rows.client(&mut *tx, id).await?;
                    if let Some(mut client) = found.filter(|client| client.version == whose.version) {
                        tell_of_a_change(&whose.id, client.jwks != jwks);
                        client.keys_at = Some(at);
                        rows.keep_client_keys(tx, &mut client, jwks).await?;
                    }
                }
                OAuthClientId::App(id) => {
                    let found = rows.app(&mut *tx, id).await?;
                    if let Some(mut stored) = found.filter(|stored| stored.version == whose.version) {
                        tell_of_a_change(&whose.id, stored.jwks.as_ref() != Some(&jwks));
                        stored.keys_at = Some(at);
                        rows.keep_app_keys(tx, &mut stored, jwks).await?;
                    }
                }
                OAuthClientId::Device(_) => return Err(Error::Broken("a device has no address for keys")),
            }
            Ok(())
        })
    });
    kept.await
}

fn tell_of_a_change(client: &OAuthClientId, is_one: bool) {
    if is_one {
        tracing::info!(client.id = %client, "A client's keys changed at its address");
    }
}
