//! Registration of third-party apps: operators sign for each, and the ledger decides when it is enough. What they sign holds all
//! that the app is, so that a change of any of it is another app.
//!
//! Why: decision 0128.

use hbc_app::jobs::enqueue;
use hbc_chain::bodies::{AppRegistration, Body as _};
use hbc_chain::json;
use hbc_chain::payload::{Order, OrderKind, Payload};
use hbc_db::{Lock, Tx};
use hbc_types::account::{Role, Standing};
use hbc_types::hash;
use hbc_types::ids::{AccountId, AppId, OperatorId};
use hbc_types::outbox::NewTransaction;
use hbc_types::scope::{Interaction, Level};
use hbc_types::wire::apps::{AppView, NewApp};
use hbc_types::wire::auth::{Decision, Denial, SigningPassword};
use hbc_types::{Digest, Timestamp};

use crate::app::App;
use crate::domain::authorization::check_redirect_uri;
use crate::domain::input::{Faults, shows_itself};
use crate::domain::staff::{Signed, sign};
use crate::error::Error;
use crate::flows::key_addresses::{Named, named};
use crate::flows::login::Origin;
use crate::flows::staff_votes::operator_key;
use crate::jobs::{EndSessions, TellDenial, TellStanding, push};
use crate::store::Rows;
use crate::store::accounts::Account;
use crate::store::apps::{App as StoredApp, AppOrder};

/// Redirect URIs of one app.
const MOST_URIS: usize = 5;
/// The `kind` of orders in the outbox.
const KIND: &str = "operator.order";

/// An operator who decides, and where the request comes from.
#[derive(Clone, Debug)]
pub struct Operating<'a> {
    /// The operator.
    pub operator: (&'a OperatorId, &'a Account),
    /// Where the request comes from.
    pub origin: Origin,
}

/// Registers an app, with the first operator's signature.
pub async fn register(app: &App, operating: Operating<'_>, new: NewApp) -> Result<AppView, Error> {
    let NewApp { name, publisher, redirect_uris, jwks, jwks_uri, scope, password, totp } = new;
    let mut faults = Faults::default();
    let name = faults.required("name", &name);
    if name.chars().count() > 80 {
        faults.add("name", "may have 80 characters");
    }
    let publisher = faults.required("publisher", &publisher);
    if publisher.chars().count() > 200 {
        faults.add("publisher", "may have 200 characters");
    }
    for (field, text) in [("name", &name), ("publisher", &publisher)] {
        if !shows_itself(text) {
            faults.add(field, "may have no characters that cannot be seen");
        }
    }
    if !(1..=MOST_URIS).contains(&redirect_uris.len()) {
        faults.add("redirect_uris", "has one to five addresses");
    }
    for (at, uri) in redirect_uris.iter().enumerate() {
        if let Err(fault) = check_redirect_uri(uri) {
            faults.add(&format!("redirect_uris[{at}]"), fault);
        }
    }
    if !scope.are_all(Level::Patient, &[Interaction::Read, Interaction::Search]) {
        faults.add("scope", "an app only reads, for a patient: patient/*.rs and the like");
    }
    faults.into_result().map_err(Error::Invalid)?;
    let keys = named(app, jwks.as_ref(), jwks_uri.as_deref())?;
    let (digest, jwks_uri) = match &keys {
        None => (None, None),
        Some(Named::Set(keys)) => (Some(Digest::of(&json::encode(&keys.to_json())?)), None),
        Some(Named::At(target)) => (None, Some(target.as_str().to_owned())),
    };
    let id = AppId::random(&app.random);
    let registration = AppRegistration {
        app: id.clone(),
        jwks: digest,
        jwks_uri,
        name: name.clone(),
        publisher: publisher.clone(),
        redirect_uris: redirect_uris.clone(),
        scope: scope.to_string(),
    };
    let order = registration.order()?;
    if let Some(_rule) = order.fault() {
        return Err(Error::invalid("redirect_uris", "what is to be signed has more than 2,000 bytes"));
    }
    let body = String::from_utf8(json::encode(&order)?).unwrap_or_default();
    let now = app.clock.now();
    let mut stored = StoredApp {
        subject: order.subject,
        id,
        name,
        publisher,
        redirect_uris,
        jwks: None,
        keys_at: None,
        scopes: scope,
        body,
        salt: app.random.bytes(),
        standing: Standing::Pending,
        revision: 1,
        created_at: now,
        version: 1,
    };
    let signature = SigningPassword { password, totp };
    let signed = order_of(app, &operating, signature, &stored, OrderKind::AppRegistered, None).await?;
    if let Some(keys) = keys {
        let (keys, keys_at) = keys.get(app, &operating.operator.1.id).await?;
        (stored.jwks, stored.keys_at) = (Some(keys.to_json().to_string()), keys_at);
    }
    let (new, operator) = (stored.clone(), operating.operator.0.clone());
    let registered = app.store.write(move |tx, rows| {
        Box::pin(async move {
            rows.insert_app(tx, &new).await?;
            owe(&rows, tx, (&new.id, OrderKind::AppRegistered), &operator, &signed, now).await
        })
    });
    registered.await?;
    app.finality.wake();
    Ok(view(&stored))
}

/// Adds an operator's signature to a registration. Signing twice changes nothing.
pub async fn approve(
    app: &App,
    operating: Operating<'_>,
    id: &AppId,
    signature: SigningPassword,
) -> Result<AppView, Error> {
    let stored = find(app, id).await?;
    let signed = order_of(app, &operating, signature, &stored, OrderKind::AppRegistered, None).await?;
    match stored.standing {
        Standing::Pending => {}
        Standing::Active => return Ok(view(&stored)),
        Standing::Suspended | Standing::Closed => {
            return Err(Error::Conflict("the app was ended: that is for ever"));
        }
    }
    let (id, operator, now) = (stored.id.clone(), operating.operator.0.clone(), app.clock.now());
    let approved = app.store.write(move |tx, rows| {
        Box::pin(async move {
            let orders = rows.app_orders(tx, &id, OrderKind::AppRegistered).await?;
            if orders.iter().all(|order| order.operator != operator) {
                owe(&rows, tx, (&id, OrderKind::AppRegistered), &operator, &signed, now).await?;
            }
            Ok::<_, Error>(())
        })
    });
    approved.await?;
    app.finality.wake();
    Ok(view(&find(app, &stored.id).await?))
}

/// Ends an app for ever: one operator is enough, it takes effect before the ledger says so, and its sessions end. Ending it again
/// changes nothing.
pub async fn end(
    app: &App,
    operating: Operating<'_>,
    id: &AppId,
    decision: Decision,
) -> Result<Denial, Error> {
    let stored = find(app, id).await?;
    let Decision { password, totp, reason } = decision;
    let mut faults = Faults::default();
    let reason = faults.required("reason", &reason);
    faults.into_result().map_err(Error::Invalid)?;
    let signature = SigningPassword { password, totp };
    let signed = order_of(app, &operating, signature, &stored, OrderKind::AppEnded, Some(reason)).await?;
    let (id, operator, now) = (stored.id.clone(), operating.operator.0.clone(), app.clock.now());
    // No code of it is exchanged meanwhile: that session could go on.
    let locks = vec![Lock::exclusive(id.as_str())];
    let ended = app.store.write_locked(locks, move |tx, rows| {
        Box::pin(async move {
            let mut stored = rows.app(&mut *tx, &id).await?.ok_or(Error::NotFound)?;
            let orders = rows.app_orders(tx, &id, OrderKind::AppEnded).await?;
            if orders.iter().all(|order| order.operator != operator) {
                owe(&rows, tx, (&id, OrderKind::AppEnded), &operator, &signed, now).await?;
            }
            if stored.standing != Standing::Suspended {
                stand(&rows, tx, &mut stored, Standing::Suspended, now).await?;
            }
            Ok::<_, Error>(())
        })
    });
    ended.await?;
    app.finality.wake();
    Ok(Denial { since: now, effective: push::told(app, stored.id.as_str()).await? })
}

/// The apps that may ask patients; operators see all of them.
pub async fn list(app: &App, role: Role) -> Result<Vec<AppView>, Error> {
    let apps = app.store.rows.apps(app.store.db.reads()).await?;
    Ok(apps.iter().filter(|stored| is_shown(stored, role)).map(view).collect())
}

/// One app.
pub async fn show(app: &App, role: Role, id: &AppId) -> Result<AppView, Error> {
    let stored = find(app, id).await?;
    if is_shown(&stored, role) { Ok(view(&stored)) } else { Err(Error::NotFound) }
}

fn is_shown(stored: &StoredApp, role: Role) -> bool {
    role == Role::Operator || stored.standing == Standing::Active
}

/// The app with this id, whatever its standing.
pub async fn find(app: &App, id: &AppId) -> Result<StoredApp, Error> {
    app.store.rows.app(app.store.db.reads(), id).await?.ok_or(Error::NotFound)
}

/// An app as it is shown.
#[must_use]
pub fn view(stored: &StoredApp) -> AppView {
    AppView {
        id: stored.id.clone(),
        name: stored.name.clone(),
        publisher: stored.publisher.clone(),
        redirect_uris: stored.redirect_uris.clone(),
        confidential: stored.jwks.is_some(),
        jwks_uri: stored.keys_at.as_ref().map(|at| at.uri.clone()),
        jwks_fetched_at: stored.keys_at.as_ref().map(|at| at.fetched_at),
        scope: stored.scopes.clone(),
        standing: stored.standing,
        created_at: stored.created_at,
    }
}

/// An operator's signed order about an app, after the password.
async fn order_of(
    app: &App,
    operating: &Operating<'_>,
    signature: SigningPassword,
    stored: &StoredApp,
    kind: OrderKind,
    reason: Option<String>,
) -> Result<Signed, Error> {
    let key = operator_key(app, operating.operator.1, signature, operating.origin.clone()).await?;
    let commitment = match reason {
        None => hash::order(&stored.salt, stored.body.as_bytes()),
        Some(reason) => {
            let body = hbc_chain::bodies::OrderBody { kind, reason, subject: stored.subject };
            if body.fault().is_some() {
                return Err(Error::invalid("reason", "has 1 to 2,000 bytes, without control characters"));
            }
            hash::order(&stored.salt, &json::encode(&body)?)
        }
    };
    let now = app.clock.now();
    let order = Order {
        chain: app.chain,
        commitment,
        iat: now.unsigned_ms(),
        kind,
        // An app is registered once and ended once.
        nonce: 0,
        subject: stored.subject,
    };
    Ok(sign(&key, &Payload::Order(order))?)
}

/// Stores an order and owes its transaction to the ledger.
async fn owe(
    rows: &Rows,
    tx: &mut Tx,
    (app, kind): (&AppId, OrderKind),
    operator: &OperatorId,
    signed: &Signed,
    now: Timestamp,
) -> Result<(), Error> {
    let order = AppOrder {
        txid: signed.txid,
        app: app.clone(),
        kind,
        operator: operator.clone(),
        signed_at: now,
        final_at: None,
    };
    rows.insert_app_order(tx, &order).await?;
    let transaction = NewTransaction {
        txid: signed.txid,
        author: signed.author,
        kind: KIND.to_owned(),
        reference: app.as_str().to_owned(),
        jws: signed.jws.clone(),
    };
    Ok(hbc_db::outbox::enqueue(tx, &transaction, now).await?)
}

/// Gives an app another standing, which access-policy is told of: with that it is denied, here and there. The sessions of one that
/// is ended may be many, and end one portion after the other ([`EndSessions`]).
async fn stand(
    rows: &Rows,
    tx: &mut Tx,
    stored: &mut StoredApp,
    standing: Standing,
    now: Timestamp,
) -> Result<(), Error> {
    rows.change_app(tx, stored, standing).await?;
    let account = AccountId::App(stored.id.clone());
    enqueue::<TellStanding>(tx, &account, now).await?;
    enqueue::<TellDenial>(tx, &account, now).await?;
    if standing == Standing::Suspended {
        enqueue::<EndSessions>(tx, &account, now).await?;
    }
    Ok(())
}

/// An order about an app is in a final block: counts it, and when enough operators signed lets it take effect. Runs in the
/// transaction that applies the block.
pub async fn finalised(
    rows: &Rows,
    tx: &mut Tx,
    txid: Digest,
    order: &Order,
    approvals: u32,
    now: Timestamp,
) -> Result<(), Error> {
    rows.finalise_app_order(tx, txid, now).await?;
    let Some(mut stored) = rows.app_by_subject(tx, order.subject).await? else { return Ok(()) };
    let orders = rows.app_orders(tx, &stored.id, order.kind).await?;
    let signed = orders.iter().filter(|order| order.final_at.is_some()).count();
    let enough = signed >= usize::try_from(approvals).unwrap_or(usize::MAX);
    let standing = match (order.kind, stored.standing) {
        (OrderKind::AppRegistered, Standing::Pending) if enough => Standing::Active,
        // One operator ends it, whoever took the order to the ledger.
        (OrderKind::AppEnded, Standing::Pending | Standing::Active) => Standing::Suspended,
        _ => return Ok(()),
    };
    stand(rows, tx, &mut stored, standing, now).await
}
