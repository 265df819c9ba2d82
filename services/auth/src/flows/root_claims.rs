//! A patient who holds their own keys has lost them all: other keys are claimed, wait for three days in which whoever has the old
//! ones can object, and count once operators ordered it. access-policy counts both by itself.
//!
//! Why: decision 0136.

use hbc_app::jobs::enqueue;
use hbc_chain::bodies::OrderBody;
use hbc_chain::json;
use hbc_chain::payload::{Order, OrderKind, Payload};
use hbc_db::{Lock, Tx};
use hbc_service::Caller;
use hbc_types::account::Custody;
use hbc_types::hash;
use hbc_types::ids::{AccountId, PatientId};
use hbc_types::outbox::NewTransaction;
use hbc_types::wire::auth::{Denial, SigningPassword};
use hbc_types::wire::custody::{NewRootClaim, RootClaim as Told};
use hbc_types::{Digest, Timestamp};

use crate::app::App;
use crate::domain::roots::{Keys, Shown};
use crate::domain::staff::sign;
use crate::error::Error;
use crate::flows::apps::Operating;
use crate::flows::login::{Origin, Proof, prove};
use crate::flows::sessions::{current, still_own};
use crate::flows::staff_votes::operator_key;
use crate::jobs::{TellRootClaim, push};
use crate::store::Rows;
use crate::store::root_claims::{RootClaim, RootOrder};

/// The `kind` of the orders' transactions in the outbox.
const KIND: &str = "operator.order";
/// What each order says: operators sign one text.
const REASON: &str = "the patient claims another root key, and has none of the keys of before";

/// Claims other keys, after the password. Another claim takes its place and waits anew.
pub async fn claim(
    app: &App,
    caller: &Caller,
    patient: &PatientId,
    new: NewRootClaim,
) -> Result<Told, Error> {
    let NewRootClaim { root_public_key, root_pop, recovery_public_key, recovery_pop, password, totp } = new;
    let (account, session) = current(app, caller).await?;
    if !account.custody.is_some_and(Custody::is_at_client) {
        return Err(Error::Conflict("the server holds your root key: a recovery code opens it"));
    }
    let shown = Shown {
        root: Some(&root_public_key),
        root_pop: Some(&root_pop),
        recovery: recovery_public_key.as_ref(),
        recovery_pop: recovery_pop.as_ref(),
    };
    let keys = Keys::show(shown, &app.chain, &account.username, None)?;
    if keys.root == account.keys().root {
        return Err(Error::invalid("root_public_key", "counts already"));
    }
    let origin = Origin::Session(caller.session.clone());
    let proven = prove(app, &account.username, Proof { password, totp, origin }).await?;
    let now = app.clock.now();
    let claim = RootClaim {
        account: patient.clone(),
        keys,
        nonce: app.random.bytes(),
        salt: app.random.bytes(),
        claimed_at: now,
        told_at: None,
    };
    let new = claim.clone();
    let stored = app.store.write_locked(vec![Lock::exclusive(patient.as_str())], move |tx, rows| {
        Box::pin(async move {
            let account = proven.still(&rows, tx).await?;
            still_own(&rows, tx, &session.id, &account, now).await?;
            let known = rows.root_claim(&mut *tx, &new.account).await?;
            if let Some(known) = known.filter(|known| known.keys == new.keys) {
                return Ok(known);
            }
            rows.put_root_claim(tx, &new).await?;
            enqueue::<TellRootClaim>(tx, &account.id, now).await?;
            Ok(new)
        })
    });
    let stored = match stored.await {
        Err(Error::Db(error)) if error.is_unique_violation() => {
            return Err(Error::Conflict("the key is claimed by another account"));
        }
        stored => stored?,
    };
    push::told(app, patient.as_str()).await?;
    let claim = app.store.rows.root_claim(app.store.db.reads(), patient).await?;
    told(app, &claim.unwrap_or(stored)).await
}

/// The caller's claim.
pub async fn show(app: &App, caller: &Caller, patient: &PatientId) -> Result<Told, Error> {
    current(app, caller).await?;
    let claim = app.store.rows.root_claim(app.store.db.reads(), patient).await?;
    told(app, &claim.ok_or(Error::NotFound)?).await
}

/// Withdraws the caller's claim: a session is enough, as for a freeze. Doing it again changes nothing.
pub async fn withdraw(app: &App, caller: &Caller, patient: &PatientId) -> Result<Denial, Error> {
    current(app, caller).await?;
    let (id, now) = (patient.clone(), app.clock.now());
    app.store
        .write_locked(vec![Lock::exclusive(patient.as_str())], move |tx, rows| {
            Box::pin(async move {
                rows.delete_root_claim(tx, &id).await?;
                // In case that it is not known there that it is gone.
                Ok::<_, Error>(enqueue::<TellRootClaim>(tx, &AccountId::Patient(id), now).await?)
            })
        })
        .await?;
    Ok(Denial { since: now, effective: push::told(app, patient.as_str()).await? })
}

/// All claims, for operators.
pub async fn list(app: &App) -> Result<Vec<Told>, Error> {
    let mut views = Vec::new();
    for claim in app.store.rows.root_claims(app.store.db.reads()).await? {
        views.push(told(app, &claim).await?);
    }
    Ok(views)
}

/// Adds an operator's order. Who the patient is operators find out by other ways than this one. Signing twice changes nothing.
pub async fn approve(
    app: &App,
    operating: Operating<'_>,
    patient: &PatientId,
    signature: SigningPassword,
) -> Result<Told, Error> {
    let Operating { operator, origin } = operating;
    let key = operator_key(app, operator.1, signature, origin).await?;
    let claim = app.store.rows.root_claim(app.store.db.reads(), patient).await?.ok_or(Error::NotFound)?;
    let (subject, now) = (claim.subject(), app.clock.now());
    let body = OrderBody { kind: OrderKind::RootReplaced, reason: REASON.to_owned(), subject };
    let order = Order {
        chain: app.chain,
        commitment: hash::order(&claim.salt, &json::encode(&body)?),
        iat: now.unsigned_ms(),
        kind: OrderKind::RootReplaced,
        // Each claim is another one.
        nonce: 0,
        subject,
    };
    let signed = sign(&key, &Payload::Order(order))?;
    let (operator, account) = (operator.0.clone(), claim.account.clone());
    app.store
        .write_locked(vec![Lock::exclusive(patient.as_str())], move |tx, rows| {
            Box::pin(async move {
                let still = rows.root_claim(&mut *tx, &account).await?;
                if still.is_none_or(|claim| claim.subject() != subject) {
                    return Err(Error::NotFound);
                }
                let orders = rows.root_orders(&mut *tx, subject).await?;
                if orders.iter().any(|order| order.operator == operator) {
                    return Ok(());
                }
                let order =
                    RootOrder { txid: signed.txid, subject, operator, signed_at: now, final_at: None };
                rows.insert_root_order(tx, &order).await?;
                let transaction = NewTransaction {
                    txid: signed.txid,
                    author: signed.author,
                    kind: KIND.to_owned(),
                    reference: subject.to_string(),
                    jws: signed.jws,
                };
                Ok(hbc_db::outbox::enqueue(tx, &transaction, now).await?)
            })
        })
        .await?;
    app.finality.wake();
    told(app, &claim).await
}

/// Takes the claim under which these keys may count now, without a word of those before.
pub async fn take(
    app: &App,
    rows: &Rows,
    tx: &mut Tx,
    (patient, keys): (&PatientId, &Keys),
    now: Timestamp,
) -> Result<(), Error> {
    let claim = rows.root_claim(&mut *tx, patient).await?.filter(|claim| claim.keys == *keys);
    let claim = claim.ok_or(Error::invalid("certificate", "is missing, and these keys were not claimed"))?;
    if claim.told_at.is_none() || now < claim.acts_from() {
        return Err(Error::Conflict("the claim has not waited for three days"));
    }
    let signed = final_orders(&rows.root_orders(&mut *tx, claim.subject()).await?);
    if signed < app.approvals {
        return Err(Error::Conflict("operators have not ordered it yet"));
    }
    Ok(())
}

/// An order is in a final block. Runs in the transaction that applies the block.
pub async fn finalised(rows: &Rows, tx: &mut Tx, txid: Digest, now: Timestamp) -> Result<(), Error> {
    Ok(rows.finalise_root_order(tx, txid, now).await?)
}

fn final_orders(orders: &[RootOrder]) -> u32 {
    u32::try_from(orders.iter().filter(|order| order.final_at.is_some()).count()).unwrap_or(u32::MAX)
}

async fn told(app: &App, claim: &RootClaim) -> Result<Told, Error> {
    let orders = app.store.rows.root_orders(app.store.db.reads(), claim.subject()).await?;
    Ok(Told {
        patient: claim.account.clone(),
        root_fingerprint: claim.keys.root.kid(),
        recovery_fingerprint: claim.keys.recovery.map(|key| key.kid()),
        since: claim.claimed_at,
        acts_from: claim.acts_from(),
        approvals: final_orders(&orders),
        approvals_needed: app.approvals,
    })
}
