//! A patient's root key: pinned at the sign-up, and replaced by its own word or by that of the recovery key beside it.
//!
//! With another root key every consent of before ends: its key was certified by a root that counts no more, and may have been
//! made from it.
//!
//! Why: decision 0136.

use hbc_chain::payload::StaffStatus;
use hbc_db::{Lock, Tx};
use hbc_types::account::Custody;
use hbc_types::ids::{AccountId, PatientId};
use hbc_types::keys::PublicKey;
use hbc_types::labels::Sensitivity;
use hbc_types::secret::Bytes;
use hbc_types::wire::access::{ClaimedRoot, FormerRoot, NewRootClaim, PinPatient, RootView};
use hbc_types::{Digest, Timestamp};

use crate::app::{App, Who};
use crate::domain::floors::{self, Changes};
use crate::domain::keys::{KekId, UnwrapError};
use crate::domain::rights::{Pin, Rights, RootChange};
use crate::domain::root_claim::Claim;
use crate::domain::roots::Keys;
use crate::error::Error;
use crate::flows::consents::{rights_of, root_key};
use crate::flows::requests::active_caller;
use crate::store;
use crate::store::roots::Former;

/// Pins a patient's keys and makes the first key-encryption key with them, or has them take the place of the pinned ones. Says
/// whether that was the first time; other keys without a certificate are refused.
pub async fn pin(app: &App, request: PinPatient) -> Result<bool, Error> {
    let PinPatient { patient, root_public_key, recovery_public_key, custody, certificate } = request;
    if patient.is_directory() {
        return Err(Error::invalid("patient", "is nobody's account"));
    }
    let root = key("root_public_key", &root_public_key)?;
    let recovery = recovery_public_key.map(|raw| key("recovery_public_key", &raw)).transpose()?;
    if recovery == Some(root) {
        return Err(Error::invalid("recovery_public_key", "is the root key"));
    }
    let (now, this) = (app.clock.now(), app.clone());
    let keys = Keys { root, recovery, custody };
    app.change(vec![Lock::exclusive(patient.as_str())], move |tx, changes| {
        Box::pin(async move {
            let known = store::rights::rights_under_any_root(tx, &this.protection, &patient).await?;
            let Some(rights) = known else {
                insert(&this, tx, first(&patient, keys.root.as_bytes().to_vec(), &keys, now)).await?;
                return Ok(true);
            };
            if keys.are_of(&rights.pin) {
                return Ok(false);
            }
            replace(&this, tx, rights, (keys, certificate), (&changes, now)).await?;
            Ok(false)
        })
    })
    .await
}

fn key(field: &'static str, raw: &Bytes) -> Result<PublicKey, Error> {
    let raw = raw.to_array().ok_or_else(|| Error::invalid(field, "must have 32 bytes"))?;
    let key = PublicKey::from_bytes(raw);
    key.check().map_err(|_not_a_key| Error::invalid(field, "is not an acceptable Ed25519 key"))?;
    Ok(key)
}

/// Makes the directory's pseudo-patient on the first start. It has no root key.
pub async fn make_directory(app: &App) -> Result<bool, Error> {
    let (now, this, patient) = (app.clock.now(), app.clone(), PatientId::directory());
    app.write(vec![Lock::exclusive(patient.as_str())], move |tx| {
        Box::pin(async move {
            if store::rights::rights(tx, &this.protection, &patient).await?.is_some() {
                return Ok(false);
            }
            let nobodys =
                Keys { root: PublicKey::from_bytes([0; 32]), recovery: None, custody: Custody::Server };
            let pin = Pin { root_fingerprint: Digest::ZERO, ..first(&patient, Vec::new(), &nobodys, now) };
            insert(&this, tx, pin).await?;
            Ok(true)
        })
    })
    .await
}

fn first(patient: &PatientId, root_public_key: Vec<u8>, keys: &Keys, now: Timestamp) -> Pin {
    Pin {
        patient: patient.clone(),
        root_public_key,
        root_fingerprint: keys.root.kid(),
        custody: keys.custody,
        consent_version: 1,
        kek_epoch: 1,
        frozen_at: None,
        pinned_at: now,
        recovery: keys.recovery,
        change: None,
    }
}

async fn insert(app: &App, tx: &mut Tx, pin: Pin) -> Result<(), Error> {
    store::rights::insert_pin(tx, &app.protection, &pin).await?;
    let id = KekId { patient: pin.patient, sensitivity: Sensitivity::Normal, epoch: 1 };
    let (_kek, wrapped) = app.master.new_kek(&id, &pin.root_fingerprint, &app.random);
    store::keys::insert_kek(tx, &id, &wrapped, pin.pinned_at).await
}

/// Has keys take the place of the pinned ones, by the certificate of one of these, or as they were claimed and ordered.
async fn replace(
    app: &App,
    tx: &mut Tx,
    mut rights: Rights,
    (keys, certificate): (Keys, Option<String>),
    (changes, now): (&Changes, Timestamp),
) -> Result<(), Error> {
    let before = rights.pin.clone();
    let floor = floors::root(app.protection.floors(), &before.patient);
    let signed_at = match &certificate {
        Some(text) => keys.accept(text, &before, (root_key(&before)?, app.chain, floor), now)?,
        None => {
            ordered(app, tx, &before, &keys, now).await?;
            // Whatever the patient signs from now on is later.
            Timestamp::from_ms(floor.max(before.root_signed_ms()).saturating_add(1))
        }
    };
    store::roots::keep(tx, &before, certificate.clone(), now).await?;
    store::roots::remove_claim(tx, &before.patient).await?;
    let fingerprint = keys.root.kid();
    if fingerprint != before.root_fingerprint {
        let by = certificate.as_ref().map_or(fingerprint, |text| Digest::of(text.as_bytes()));
        end_consents(app, tx, &mut rights, by, now).await?;
        for (id, wrapped) in store::keys::keks_of(tx, &before.patient).await? {
            let roots = (&before.root_fingerprint, &fingerprint);
            match app.master.rewrap_kek(&id, roots, &wrapped, &app.random) {
                Ok(wrapped) => store::keys::rewrap_kek(tx, &id, &wrapped).await?,
                // It opened under no root before, and keeps nobody from leaving a stolen one.
                Err(UnwrapError) => tracing::error!(
                    alarm = "tampered_row",
                    db.place = "keks",
                    kek.epoch = id.epoch,
                    "A key-encryption key does not open under its patient's root key: it stays as it is"
                ),
            }
        }
        rights.pin.kek_epoch = rights.pin.kek_epoch.saturating_add(1);
    }
    rights.pin = Pin {
        root_public_key: keys.root.as_bytes().to_vec(),
        root_fingerprint: fingerprint,
        custody: keys.custody,
        pinned_at: now,
        recovery: keys.recovery,
        change: Some(RootChange { certificate, signed_at }),
        ..rights.pin
    };
    store::rights::commit(tx, &app.protection, rights, (changes, now)).await?;
    Ok(())
}

/// Whether keys that nobody vouches for may act: claimed long enough ago, and ordered by enough operators.
async fn ordered(app: &App, tx: &mut Tx, pin: &Pin, keys: &Keys, now: Timestamp) -> Result<(), Error> {
    app.protection.check_root_age(pin)?;
    let claim = store::roots::claim(tx, &app.protection, &pin.patient).await?;
    let same = |claim: &Claim| (claim.root, claim.recovery) == (keys.root, keys.recovery);
    let claim = claim.filter(same).ok_or(Error::Conflict("another root key is pinned"))?;
    if now < claim.acts_from() {
        return Err(Error::Conflict("the claim has not waited for three days"));
    }
    let order = store::staff::stored_staff(tx, &app.protection, claim.subject()).await?;
    if let Some(order) = &order {
        app.protection.check_staff_age(order)?;
    }
    match order.is_some_and(|order| order.status == Some(StaffStatus::Active)) {
        true => Ok(()),
        false => {
            Err(Error::Conflict("operators have not ordered it, as far as the ledger was followed here"))
        }
    }
}

/// Keeps a claim, from now on; the same again changes nothing.
pub async fn claim(app: &App, patient: PatientId, new: NewRootClaim) -> Result<(), Error> {
    let root = key("root_public_key", &new.root_public_key)?;
    let recovery = new.recovery_public_key.map(|raw| key("recovery_public_key", &raw)).transpose()?;
    let nonce = new.nonce.to_array().ok_or_else(|| Error::invalid("nonce", "must have 32 bytes"))?;
    let (this, claimed_at) = (app.clone(), app.clock.now());
    app.write(vec![Lock::exclusive(patient.as_str())], move |tx| {
        Box::pin(async move {
            let known = store::roots::claim(tx, &this.protection, &patient).await?;
            let claim = Claim { patient, root, recovery, nonce, claimed_at };
            if known.is_some_and(|known| known.subject() == claim.subject()) {
                return Ok(());
            }
            store::roots::put_claim(tx, &this.protection, &claim).await
        })
    })
    .await
}

/// Forgets a claim: the patient, or who signs in as they do, objects.
pub async fn withdraw(app: &App, patient: PatientId) -> Result<(), Error> {
    app.write(vec![Lock::exclusive(patient.as_str())], move |tx| {
        Box::pin(async move { store::roots::remove_claim(tx, &patient).await })
    })
    .await
}

/// Ends what was given under the root key of before.
async fn end_consents(
    app: &App,
    tx: &mut Tx,
    rights: &mut Rights,
    by: Digest,
    now: Timestamp,
) -> Result<(), Error> {
    store::grants::end_keys(tx, &rights.pin.patient, now).await?;
    for grant in &mut rights.grants {
        if grant.revoke(by, now)? {
            store::grants::update(tx, &app.protection, grant).await?;
        }
    }
    Ok(())
}

/// `GET /v1/patients/{id}/root`: for the patient and for whom a grant covers.
pub async fn view(app: &App, who: &Who, patient: &PatientId) -> Result<RootView, Error> {
    let read = app.read(async |tx| {
        let principal = active_caller(app, tx, who, app.clock.now()).await?;
        let rights = rights_of(app, tx, patient).await?;
        let own = who.account == AccountId::Patient(patient.clone());
        let related = own || !rights.candidates(&principal).is_empty();
        if patient.is_directory() || !related {
            return Err(Error::NotFound);
        }
        let claim = if own { store::roots::claim(tx, &app.protection, patient).await? } else { None };
        Ok((rights.pin, store::roots::former(tx, patient).await?, claim))
    });
    let (pin, former, claim) = read.await?;
    Ok(RootView {
        root_fingerprint: pin.root_fingerprint,
        custody: pin.custody,
        recovery_fingerprint: pin.recovery.map(|key| key.kid()),
        since: pin.pinned_at,
        former: former.into_iter().map(told).collect(),
        claim: claim.map(|claim| ClaimedRoot {
            root_fingerprint: claim.root.kid(),
            since: claim.claimed_at,
            acts_from: claim.acts_from(),
        }),
    })
}

fn told(former: Former) -> FormerRoot {
    let Former { root, recovery, custody, since, until, certificate } = former;
    FormerRoot {
        root_public_key: Bytes::from(root.as_bytes().as_slice()),
        recovery_public_key: recovery.map(|key| Bytes::from(key.as_bytes().as_slice())),
        custody,
        since,
        until,
        certificate,
    }
}
