//! Grants: drafting, signing, revoking, freezing. A revocation and a freeze act when their transaction is durable, before
//! the call returns; a grant takes effect when its block is final, which only `flows::ledger` can say.

use hbc_chain::tx::Tx as LedgerTx;
use hbc_db::{Lock, Tx};
use hbc_types::account::AgencyType;
use hbc_types::ids::{AccountId, GrantId, GranteeId, PatientId};
use hbc_types::keys::PublicKey;
use hbc_types::outbox::NewTransaction;
use hbc_types::wire::access::{
    AccessRequestState, FreezeView, GrantDraft, GrantRevocation, GrantSignature, GrantView, NewGrant,
    Subject, Unfreeze,
};
use hbc_types::{Digest, Timestamp};

use crate::app::{App, Who};
use crate::domain::consent::{
    Accepted, ConsentError, Draft, KnownKey, Signed, Trust, Wish, accept, accept_revocation, accept_unfreeze,
    draft,
};
use crate::domain::floors::Changes;
use crate::domain::grant::{Grant, NumberLimits, Signature};
use crate::domain::rights::{Pin, Rights};
use crate::domain::scope::{check_reader, normalise, wider_field};
use crate::error::Error;
use crate::flows::requests::{Save, active_caller, side};
use crate::flows::views::{self, Names};
use crate::store;
use crate::store::grants::{StoredGrant, StoredKey};
use crate::store::listings::PageKey;

/// `reference` of a registration in the outbox.
pub const REGISTRATION: &str = "registration";

pub async fn rights_of(app: &App, tx: &mut Tx, patient: &PatientId) -> Result<Rights, Error> {
    store::rights::rights(tx, &app.protection, patient).await?.ok_or(Error::NotFound)
}

/// The rights that are about to be changed: what was set back is frozen by the change and not refused, so that there is a
/// way out of it.
pub async fn rights_to_change(app: &App, tx: &mut Tx, patient: &PatientId) -> Result<Rights, Error> {
    store::rights::stored_rights(tx, &app.protection, patient).await?.ok_or(Error::NotFound)
}

pub fn root_key(pin: &Pin) -> Result<PublicKey, Error> {
    let raw: Result<[u8; 32], _> = pin.root_public_key.as_slice().try_into();
    raw.map(PublicKey::from_bytes).map_err(|_directory| Error::NotFound)
}

/// A grant that belongs to this patient.
pub async fn own_grant(tx: &mut Tx, patient: &PatientId, id: &GrantId) -> Result<StoredGrant, Error> {
    let stored = store::grants::find(tx, id).await?.ok_or(Error::NotFound)?;
    if stored.grant.patient == *patient { Ok(stored) } else { Err(Error::NotFound) }
}

// ---- drafting ----

/// `POST /v1/grants`.
pub async fn draft_grant(
    app: &App,
    who: Who,
    patient: PatientId,
    new: NewGrant,
    save: Save<GrantDraft>,
) -> Result<GrantDraft, Error> {
    let (this, now) = (app.clone(), app.clock.now());
    let scope = normalise(new.scope.clone(), &new.grantee, now)?;
    let new = NewGrant { scope, ..new };
    app.db
        .write(move |tx| {
            Box::pin(async move {
                active_caller(&this, tx, &who, now).await?;
                let rights = rights_of(&this, tx, &patient).await?;
                let device = check_grantee(&this, tx, &new, now).await?;
                check_request(&this, tx, &patient, &new).await?;
                let key = consent_key(&this, tx, &rights.pin, &new, now).await?;
                let wish = Wish {
                    patient: patient.clone(),
                    grantee: new.grantee.clone(),
                    offline: new.offline,
                    device,
                    scope: new.scope.clone(),
                    request: new.request.clone(),
                    custody: rights.pin.custody,
                    key,
                };
                let draft = draft(&wish, this.chain, now, &this.random)?;
                store::grants::insert_draft(tx, &draft).await?;
                let view = GrantDraft {
                    id: draft.grant.id,
                    payload: draft.payload,
                    body: draft.body,
                    salt: draft.salt.as_slice().into(),
                    expires_at: draft.grant.draft_expires_at,
                };
                if let Some(saved) = save(&view)? {
                    hbc_db::idempotency::save(tx, &saved).await?;
                }
                Ok(view)
            })
        })
        .await
}

/// Whether a grant may be to this grantee; of a device it says the key.
async fn check_grantee(
    app: &App,
    tx: &mut Tx,
    new: &NewGrant,
    now: Timestamp,
) -> Result<Option<Digest>, Error> {
    let unknown = match &new.grantee {
        GranteeId::Agency(_) => "is no approved agency",
        GranteeId::App(_) => "is no registered app",
        GranteeId::Device(_) => "is no device that is known",
        GranteeId::Link(_) => "links are not served yet",
    };
    let account = store::accounts::active_account(tx, &app.protection, new.grantee.as_str(), now).await?;
    let account = account.ok_or_else(|| Error::invalid("grantee", unknown))?;
    let is_app = matches!(new.grantee, GranteeId::App(_));
    if new.offline.is_some() != is_app {
        return Err(Error::invalid("offline", "is said of an app, and of nothing else"));
    }
    match &new.grantee {
        GranteeId::Agency(_) => check_reader(&new.scope, is_of_government(app, tx, account.subject).await?)?,
        GranteeId::Device(_) => {
            let key = account.subject.staff_key;
            return Ok(Some(key.ok_or_else(|| Error::invalid("grantee", "has no key"))?));
        }
        GranteeId::App(_) | GranteeId::Link(_) => {}
    }
    Ok(None)
}

/// Whether an agency is a government, or says that it belongs to one.
async fn is_of_government(app: &App, tx: &mut Tx, subject: Subject) -> Result<bool, Error> {
    let Subject { agency_type, organisation, .. } = subject;
    let organisation = match organisation {
        Some(id) => store::accounts::account(tx, &app.protection, id.as_str()).await?,
        None => None,
    };
    let kinds = [agency_type, organisation.and_then(|its| its.subject.agency_type)];
    Ok(kinds.contains(&Some(AgencyType::Government)))
}

/// The same of a grantee, whether it is in good standing or not. Of one that is not known it is taken for so.
pub async fn grantee_is_of_government(app: &App, tx: &mut Tx, grantee: &GranteeId) -> Result<bool, Error> {
    let GranteeId::Agency(grantee) = grantee else { return Ok(false) };
    match store::accounts::account(tx, &app.protection, grantee.as_str()).await? {
        Some(account) => is_of_government(app, tx, account.subject).await,
        None => Ok(true),
    }
}

/// A grant that answers a request is for the agency that asked, and no wider than it asked.
async fn check_request(app: &App, tx: &mut Tx, patient: &PatientId, new: &NewGrant) -> Result<(), Error> {
    let Some(id) = &new.request else { return Ok(()) };
    let request = store::requests::find(tx, &app.protection, id).await?;
    let request = request
        .filter(|request| request.patient == *patient)
        .ok_or_else(|| Error::invalid("request", "is no request to you"))?;
    if request.state != AccessRequestState::Open {
        return Err(Error::Conflict("the request is closed"));
    }
    if new.grantee != GranteeId::Agency(request.agency.clone()) {
        return Err(Error::invalid("grantee", "is not who asked"));
    }
    match wider_field(&new.scope, &request.scope) {
        None => Ok(()),
        Some(field) => Err(Error::invalid("scope", format!("`{field}` is wider than asked"))),
    }
}

/// The consent key that the draft names: the known live one for this grantee, or the one that a client with its own keys
/// brings with its certificate.
async fn consent_key(
    app: &App,
    tx: &mut Tx,
    pin: &Pin,
    new: &NewGrant,
    now: Timestamp,
) -> Result<Option<KnownKey>, Error> {
    let known = |key: StoredKey| KnownKey { kid: key.kid, last_seq: key.last.0, last_txid: key.last.1 };
    let Some(kid) = new.key else {
        if pin.custody.is_at_client() {
            return match store::grants::live_key(tx, &pin.patient, &new.grantee).await? {
                Some(key) => Ok(Some(known(key))),
                None => Err(Error::invalid("key", "who holds their own keys names one")),
            };
        }
        return Ok(store::grants::live_key(tx, &pin.patient, &new.grantee).await?.map(known));
    };
    if !pin.custody.is_at_client() {
        return Err(Error::invalid("key", "auth holds your keys"));
    }
    let text =
        new.certificate.as_deref().ok_or_else(|| Error::invalid("certificate", "is needed with `key`"))?;
    let certificate = hbc_chain::certificate::ConsentCertificate::verify(text, &root_key(pin)?, &app.chain)
        .map_err(ConsentError::from)?;
    if certificate.key != kid || certificate.grantee != new.grantee.as_str() {
        return Err(Error::invalid("certificate", "is for another key or grantee"));
    }
    if certificate.limits.until_ms.is_some_and(|until| until <= now.unsigned_ms()) {
        return Err(Error::invalid("certificate", "its limit in time has passed"));
    }
    match store::grants::key(tx, kid).await? {
        Some(key) if key.revoked_at.is_some() => Err(ConsentError::KeyRevoked.into()),
        Some(key) if key.patient != pin.patient || key.grantee != new.grantee => {
            Err(Error::invalid("key", "belongs to another grantee"))
        }
        Some(key) => Ok(Some(known(key))),
        None => Ok(Some(KnownKey { kid, last_seq: 0, last_txid: None })),
    }
}

// ---- signing ----

/// `PUT /v1/grants/{id}/signature`.
pub async fn sign(
    app: &App,
    who: Who,
    patient: PatientId,
    id: GrantId,
    signature: GrantSignature,
) -> Result<GrantView, Error> {
    let (this, now) = (app.clone(), app.clock.now());
    let view = app
        .change(vec![Lock::exclusive(patient.as_str())], move |tx, changes| {
            Box::pin(async move {
                active_caller(&this, tx, &who, now).await?;
                let stored = own_grant(tx, &patient, &id).await?;
                let mut rights = rights_to_change(&this, tx, &patient).await?;
                if let Some(jws) = &stored.jws {
                    // The same signature again is answered alike; another one for the same draft is refused.
                    if *jws != signature.jws {
                        return Err(Error::Conflict("the grant is signed already"));
                    }
                    return views::grant(&this, tx, &mut Names::default(), stored, &rights.pin, now).await;
                }
                let grant = sign_in(&this, tx, &rights.pin, stored, &signature, now).await?;
                rights.grants.push(grant);
                store::rights::commit(tx, &this.protection, rights, (&changes, now)).await?;
                let stored = own_grant(tx, &patient, &id).await?;
                let rights = rights_of(&this, tx, &patient).await?;
                views::grant(&this, tx, &mut Names::default(), stored, &rights.pin, now).await
            })
        })
        .await?;
    app.finality.wake();
    Ok(view)
}

/// Checks a signature against its draft and stores everything that comes of it but the MAC.
async fn sign_in(
    app: &App,
    tx: &mut Tx,
    pin: &Pin,
    stored: StoredGrant,
    signature: &GrantSignature,
    now: Timestamp,
) -> Result<Grant, Error> {
    let draft = Draft::try_from(stored)?;
    let kid = LedgerTx::parse(signature.jws.as_bytes())
        .map_err(|error| ConsentError::Form(error.to_string()))?
        .kid();
    let known = store::grants::key(tx, kid).await?;
    let accepted = accept(
        &draft,
        &Signed {
            jws: &signature.jws,
            certificate: &signature.certificate,
            registration: signature.registration.as_deref(),
        },
        &Trust {
            chain: app.chain,
            root: root_key(pin)?,
            auth: &app.auth_keys,
            known: known.as_ref().map(|key| key.public_key),
            now,
        },
    )?;
    let key = next_event(known, &draft.grant, &accepted)?;
    let mut grant = draft.grant;
    let numbers = number_limits(tx, &grant).await?;
    let txid = accepted.event.txid();
    grant.sign(Signature { kid, seq: accepted.consent.seq, txid, numbers }, now)?;
    if let Some(by) = store::grants::early_revocation(tx, kid, &grant.id).await? {
        grant.revoke(by, now)?;
    }
    store::grants::update(tx, &app.protection, &grant).await?;
    store::grants::put_evidence(tx, &grant.id, &signature.jws, &signature.certificate).await?;
    store::grants::put_key(tx, &key, now).await?;
    if let Some(request) = &grant.request
        && !store::requests::close(tx, request, AccessRequestState::Approved, Some(&grant.id), now).await?
    {
        return Err(Error::Conflict("the request is closed"));
    }
    enqueue_signed(tx, kid, &accepted, &grant.id, now).await?;
    Ok(grant)
}

/// The key after this event, which must be its next one.
fn next_event(known: Option<StoredKey>, grant: &Grant, accepted: &Accepted) -> Result<StoredKey, Error> {
    let consent = &accepted.consent;
    let mut key = known.unwrap_or_else(|| StoredKey {
        kid: consent.key,
        patient: grant.patient.clone(),
        grantee: grant.grantee.clone(),
        public_key: accepted.key,
        last: (0, None),
        last_final: (0, None),
        revoked_at: None,
    });
    if key.patient != grant.patient || key.grantee != grant.grantee {
        return Err(ConsentError::Signature("the key belongs to another consent".to_owned()).into());
    }
    if key.revoked_at.is_some() {
        return Err(ConsentError::KeyRevoked.into());
    }
    if (consent.seq, consent.prev) != (key.last.0 + 1, key.last.1) {
        return Err(Error::Conflict("another event of this key was signed first"));
    }
    key.last = (consent.seq, Some(accepted.event.txid()));
    Ok(key)
}

/// What exists now: the limit of a grant without future records.
async fn number_limits(tx: &mut Tx, grant: &Grant) -> Result<NumberLimits, Error> {
    if grant.scope.future_records {
        return Ok(NumberLimits::new());
    }
    numbers_now(tx, &grant.patient).await
}

/// The last number of each set that exists now.
pub async fn numbers_now(tx: &mut Tx, patient: &PatientId) -> Result<NumberLimits, Error> {
    let sets = store::keys::sets(tx, patient).await?;
    Ok(sets.into_iter().map(|(labels, set)| (labels, set.n_max)).collect())
}

/// The registration goes before the event; both under the consent key's name, so that they are sent in this order.
async fn enqueue_signed(
    tx: &mut Tx,
    author: Digest,
    accepted: &Accepted,
    grant: &GrantId,
    now: Timestamp,
) -> Result<(), Error> {
    let registration = accepted.registration.iter().map(|registration| (registration, REGISTRATION));
    for (event, reference) in registration.chain([(&accepted.event, grant.as_str())]) {
        enqueue(tx, author, event, reference, now).await?;
    }
    Ok(())
}

async fn enqueue(
    tx: &mut Tx,
    author: Digest,
    event: &LedgerTx,
    reference: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let transaction = NewTransaction {
        txid: event.txid(),
        author,
        kind: event.payload().kind().to_owned(),
        reference: reference.to_owned(),
        jws: event.text().to_owned(),
    };
    Ok(hbc_db::outbox::enqueue(tx, &transaction, now).await?)
}

// ---- stopping ----

/// Applies a change to one of the patient's signed grants and renews the MAC. `change` says whether it changed anything.
pub async fn change_grant(
    app: &App,
    tx: &mut Tx,
    (mut rights, mut grant): (Rights, Grant),
    new_epoch: bool,
    changes: (&Changes, Timestamp),
    change: impl FnOnce(&mut Grant) -> Result<bool, crate::domain::grant::TransitionError>,
) -> Result<bool, Error> {
    if !change(&mut grant)? {
        return Ok(false);
    }
    store::grants::update(tx, &app.protection, &grant).await?;
    rights.grants.retain(|live| live.id != grant.id);
    rights.grants.push(grant);
    if new_epoch {
        rights.pin.kek_epoch = rights.pin.kek_epoch.saturating_add(1);
    }
    store::rights::commit(tx, &app.protection, rights, changes).await?;
    Ok(true)
}

/// The grant as a MAC covers it: the patient's while it lives, its own once it ended. A draft has neither, and no right.
pub fn protected(app: &App, rights: &Rights, stored: &StoredGrant) -> Result<Grant, Error> {
    if let Some(live) = rights.grants.iter().find(|live| live.id == stored.grant.id) {
        return Ok(live.clone());
    }
    if stored.grant.signed_at.is_some() {
        app.protection.check_ended_grant(&stored.grant, stored.ended_mac.as_deref().unwrap_or_default())?;
    }
    Ok(stored.grant.clone())
}

/// `POST /v1/grants/{id}/revocation`: it takes effect before this returns, whatever the ledger's state.
pub async fn revoke(
    app: &App,
    who: Who,
    patient: PatientId,
    id: GrantId,
    revocation: GrantRevocation,
) -> Result<GrantView, Error> {
    let (this, now) = (app.clone(), app.clock.now());
    let view = app
        .change(vec![Lock::exclusive(patient.as_str())], move |tx, changes| {
            Box::pin(async move {
                active_caller(&this, tx, &who, now).await?;
                let stored = own_grant(tx, &patient, &id).await?;
                let rights = rights_to_change(&this, tx, &patient).await?;
                let grant = protected(&this, &rights, &stored)?;
                let kid = grant.kid.ok_or(crate::domain::grant::TransitionError::NotSigned)?;
                let key = store::grants::key(tx, kid).await?.ok_or(Error::NotFound)?;
                let key = key_of_kid(&key, kid)?;
                let event = accept_revocation(&revocation.jws, &grant, &key, this.chain, now)?;
                let by = event.txid();
                if change_grant(&this, tx, (rights, grant), true, (&changes, now), |grant| {
                    grant.revoke(by, now)
                })
                .await?
                {
                    enqueue(tx, kid, &event, id.as_str(), now).await?;
                }
                let stored = own_grant(tx, &patient, &id).await?;
                let rights = rights_of(&this, tx, &patient).await?;
                views::grant(&this, tx, &mut Names::default(), stored, &rights.pin, now).await
            })
        })
        .await?;
    app.finality.wake();
    Ok(view)
}

/// The raw key, if the stored one really has this fingerprint.
fn key_of_kid(key: &StoredKey, kid: Digest) -> Result<PublicKey, Error> {
    if key.public_key.kid() == kid {
        Ok(key.public_key)
    } else {
        Err(hbc_db::RowMacError { table: "consent_keys" }.into())
    }
}

/// `PUT /v1/grants/{id}/freeze` and `PUT /v1/me/freeze`: a session is enough to stop.
pub async fn freeze(
    app: &App,
    who: Who,
    patient: PatientId,
    id: Option<GrantId>,
) -> Result<FreezeView, Error> {
    let (this, now) = (app.clone(), app.clock.now());
    app.change(vec![Lock::exclusive(patient.as_str())], move |tx, changes| {
        Box::pin(async move {
            active_caller(&this, tx, &who, now).await?;
            let mut rights = rights_to_change(&this, tx, &patient).await?;
            let Some(id) = &id else {
                let since = *rights.pin.frozen_at.get_or_insert(now);
                if since == now {
                    store::rights::commit(tx, &this.protection, rights, (&changes, now)).await?;
                }
                return Ok(FreezeView { since, grant: None });
            };
            let stored = own_grant(tx, &patient, id).await?;
            let grant = protected(&this, &rights, &stored)?;
            let since = grant.frozen_at.unwrap_or(now);
            change_grant(&this, tx, (rights, grant), false, (&changes, now), |grant| grant.freeze(now))
                .await?;
            Ok(FreezeView { since, grant: Some(id.clone()) })
        })
    })
    .await
}

/// The freeze of everything, if there is one.
pub async fn freeze_state(app: &App, who: &Who, patient: &PatientId) -> Result<FreezeView, Error> {
    let read = app.read(async |tx| {
        active_caller(app, tx, who, app.clock.now()).await?;
        rights_of(app, tx, patient).await
    });
    let since = read.await?.pin.frozen_at.ok_or(Error::NotFound)?;
    Ok(FreezeView { since, grant: None })
}

/// `DELETE` of either freeze: only the root key's word lifts it.
pub async fn unfreeze(
    app: &App,
    who: Who,
    patient: PatientId,
    id: Option<GrantId>,
    order: Unfreeze,
) -> Result<(), Error> {
    let (this, now) = (app.clone(), app.clock.now());
    app.change(vec![Lock::exclusive(patient.as_str())], move |tx, changes| {
        Box::pin(async move {
            active_caller(&this, tx, &who, now).await?;
            let mut rights = rights_to_change(&this, tx, &patient).await?;
            let trust = Trust {
                chain: this.chain,
                root: root_key(&rights.pin)?,
                auth: &this.auth_keys,
                known: None,
                now,
            };
            let Some(id) = &id else {
                let since = rights.pin.frozen_at.ok_or(Error::Conflict("nothing is frozen"))?;
                accept_unfreeze(&order.jws, &patient, None, since, &trust)?;
                rights.pin.frozen_at = None;
                store::rights::commit(tx, &this.protection, rights, (&changes, now)).await?;
                return Ok(());
            };
            let stored = own_grant(tx, &patient, id).await?;
            let grant = protected(&this, &rights, &stored)?;
            let since = grant.frozen_at.ok_or(Error::Conflict("the grant is not frozen"))?;
            accept_unfreeze(&order.jws, &patient, Some(id), since, &trust)?;
            change_grant(&this, tx, (rights, grant), false, (&changes, now), |grant| {
                grant.unfreeze().map(|()| true)
            })
            .await?;
            Ok(())
        })
    })
    .await
}

// ---- looking ----

/// One grant, for its patient and for whom it covers.
pub async fn get(app: &App, who: &Who, id: &GrantId) -> Result<GrantView, Error> {
    let now = app.clock.now();
    let read = app.read(async |tx| {
        let (stored, pin) = theirs(app, tx, who, id, now).await?;
        views::grant(app, tx, &mut Names::default(), stored, &pin, now).await
    });
    read.await
}

/// One grant as it is stored, and its patient's root keys, the present one first, for the same.
pub async fn find_theirs(app: &App, who: &Who, id: &GrantId) -> Result<(StoredGrant, Vec<PublicKey>), Error> {
    app.read(async |tx| {
        let (stored, pin) = theirs(app, tx, who, id, app.clock.now()).await?;
        let former = store::roots::former(tx, &pin.patient).await?;
        let roots = [root_key(&pin)?].into_iter().chain(former.iter().rev().map(|former| former.root));
        Ok((stored, roots.collect()))
    })
    .await
}

async fn theirs(
    app: &App,
    tx: &mut Tx,
    who: &Who,
    id: &GrantId,
    now: Timestamp,
) -> Result<(StoredGrant, Pin), Error> {
    let principal = active_caller(app, tx, who, now).await?;
    let stored = store::grants::find(tx, id).await?.ok_or(Error::NotFound)?;
    let theirs = match &who.account {
        AccountId::Patient(patient) => *patient == stored.grant.patient,
        AccountId::Agency(_) => stored.grant.signed_at.is_some() && principal.is_covered_by(&stored.grant),
        AccountId::Operator(_) | AccountId::App(_) | AccountId::Device(_) => false,
    };
    if !theirs {
        return Err(Error::NotFound);
    }
    let rights = rights_of(app, tx, &stored.grant.patient).await?;
    Ok((stored, rights.pin))
}

/// One page of the caller's grants.
pub async fn list(app: &App, who: &Who, after: Option<PageKey>, limit: u32) -> Result<Vec<GrantView>, Error> {
    app.read(async |tx| list_in(app, tx, who, after.clone(), limit).await).await
}

async fn list_in(
    app: &App,
    tx: &mut Tx,
    who: &Who,
    after: Option<PageKey>,
    limit: u32,
) -> Result<Vec<GrantView>, Error> {
    let now = app.clock.now();
    let principal = active_caller(app, tx, who, now).await?;
    let found = store::listings::grants(tx, &side(&principal)?, after, limit).await?;
    let mut names = Names::default();
    let mut pins = std::collections::HashMap::new();
    let mut items = Vec::with_capacity(found.len());
    for stored in found {
        let patient = stored.grant.patient.clone();
        if !pins.contains_key(&patient) {
            pins.insert(patient.clone(), rights_of(app, tx, &patient).await?.pin);
        }
        if let Some(pin) = pins.get(&patient) {
            items.push(views::grant(app, tx, &mut names, stored, pin, now).await?);
        }
    }
    Ok(items)
}
