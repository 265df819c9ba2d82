//! Pairing: a patient's code, a device's claim, the patient's confirmation, and the end, which is the patient's alone.
//!
//! What lets a device write is the patient's grant, at access-policy. A pairing here lets it have tokens, and says to either side
//! which other there is.
//!
//! Why: decision 0129.

use std::time::Duration;

use hbc_app::jobs::enqueue;
use hbc_db::{Lock, Tx};
use hbc_service::Caller;
use hbc_types::Timestamp;
use hbc_types::ids::{DeviceId, GrantId, PairingId, PatientId, SessionId};
use hbc_types::secret::SecretText;
use hbc_types::wire::devices::{
    ClaimingDevice, DevicePairing, PairedDevice, PairingClaim, PairingClaimed, PairingCode,
    PairingConfirmation, PairingEnded, PairingState,
};

use crate::app::App;
use crate::domain::pairing::{A_DAY, Code, MOST_DEVICES, MOST_OPEN, MOST_PATIENTS, Progress};
use crate::domain::throttle::Scope;
use crate::error::Error;
use crate::flows::devices::{authenticate, proof_of};
use crate::flows::sessions::{self, acting, current};
use crate::jobs::{TellDevice, TellPairing, push};
use crate::store::Rows;
use crate::store::devices::Device;
use crate::store::pairings::{Pairing, StoredCode};

const DAY: Duration = Duration::from_secs(24 * 3600);
const TOO_MANY_DEVICES: Error = Error::Conflict("a patient has at most twenty devices: remove one");
const TOO_MANY_PATIENTS: Error = Error::Conflict("a device is paired with at most a thousand patients");

/// Makes a code, which is told here and never again.
pub async fn make_code(app: &App, caller: &Caller, patient: &PatientId) -> Result<PairingCode, Error> {
    current(app, caller).await?;
    let (now, code) = (app.clock.now(), Code::random(&app.random));
    let stored = StoredCode {
        id: PairingId::random(&app.random),
        patient: patient.clone(),
        code: app.store.rows.hash_of(&code),
        created_at: now,
        progress: Progress::begin(now),
    };
    let new = stored.clone();
    // Two at once are counted one after the other.
    let made = app.store.write_locked(vec![Lock::exclusive(patient.as_str())], move |tx, rows| {
        Box::pin(async move {
            acting(&rows, tx, new.patient.as_str()).await?;
            let recent = rows.pairing_codes_since(tx, &new.patient, now.minus(DAY)).await?;
            let open = recent.iter().filter(|code| {
                matches!(code.progress.state(now), PairingState::Open | PairingState::Claimed)
            });
            if open.count() >= MOST_OPEN {
                return Err(Error::Conflict("three pairing codes are open: end one, or wait for its end"));
            }
            if recent.len() >= A_DAY {
                return Err(Error::TooManyAttempts(DAY));
            }
            if live(&rows, tx, &new.patient).await?.len() >= MOST_DEVICES {
                return Err(TOO_MANY_DEVICES);
            }
            Ok(rows.insert_pairing_code(tx, &new).await?)
        })
    });
    made.await?;
    let written = code.write();
    let uri = SecretText::new(format!("{}/pair#{}", app.metadata.issuer, written.expose()));
    Ok(PairingCode { code: Some(written), uri: Some(uri), ..view(&stored, None, now) })
}

/// How a code stands, and who claimed it.
pub async fn show_code(
    app: &App,
    caller: &Caller,
    patient: &PatientId,
    id: &PairingId,
) -> Result<PairingCode, Error> {
    current(app, caller).await?;
    let (rows, reads) = (&app.store.rows, app.store.db.reads());
    let code = own(rows.pairing_code(reads, id).await?, patient)?;
    let device = match &code.progress.device {
        Some(device) => rows.device(reads, device).await?,
        None => None,
    };
    Ok(view(&code, device, app.clock.now()))
}

/// Ends a code that is not confirmed. Again, it changes nothing.
pub async fn end_code(app: &App, caller: &Caller, patient: &PatientId, id: &PairingId) -> Result<(), Error> {
    current(app, caller).await?;
    let told = id.clone();
    let (patient, id, now) = (patient.clone(), id.clone(), app.clock.now());
    let ended = app.store.write_locked(vec![Lock::exclusive(patient.as_str())], move |tx, rows| {
        Box::pin(async move {
            let mut code = own(rows.pairing_code(&mut *tx, &id).await?, &patient)?;
            if code.progress.confirmed_at.is_some() {
                return Err(Error::Conflict("the device is paired: remove it instead"));
            }
            code.progress.ended_at.get_or_insert(now);
            rows.update_pairing_code(tx, &code).await?;
            // What was granted to the device that claimed it.
            Ok(enqueue::<TellPairing>(tx, &id, now).await?)
        })
    });
    ended.await?;
    push::told(app, told.as_str()).await?;
    Ok(())
}

/// A device claims a code. One that is unknown, over, or used is not found, and each such claim counts.
pub async fn claim(app: &App, address: &str, claim: PairingClaim) -> Result<PairingClaimed, Error> {
    let proven = authenticate(app, proof_of(&claim.assertion)).await?;
    let (code, now, id) = (Code::parse(&claim.code), app.clock.now(), proven.device.id.clone());
    let subject = |scope| (scope, app.store.rows.throttle_subject(scope, id.as_str(), address));
    let counted = [subject(Scope::Claim), subject(Scope::ClaimAddress)];
    let claimed = app.store.write_locked(vec![Lock::exclusive(id.as_str())], move |tx, rows| {
        Box::pin(async move {
            let device = proven.once(&rows, tx).await?;
            let mut counters = Vec::with_capacity(counted.len());
            for (scope, subject) in counted {
                let counter = rows.counter(&mut *tx, scope, &subject).await?;
                if let Some(wait) = counter.wait(scope, now) {
                    return Err(Error::TooManyAttempts(wait));
                }
                counters.push((scope, subject, counter));
            }
            if rows.pairings_of_device(&mut *tx, &device.id).await?.len() >= MOST_PATIENTS {
                return Err(TOO_MANY_PATIENTS);
            }
            let found = match &code {
                Some(code) => rows.pairing_code_by_hash(tx, rows.hash_of(code)).await?,
                None => None,
            };
            if let Some(mut found) = found
                && found.progress.claim(&device.id, now)
            {
                rows.update_pairing_code(tx, &found).await?;
                // So that the patient can grant it something.
                enqueue::<TellDevice>(tx, &device.id, now).await?;
                return Ok(Some(PairingClaimed { id: found.id, expires_at: found.progress.expires_at }));
            }
            // A right one takes none of them back: a device could claim its own patient's between guesses.
            for (scope, subject, counter) in counters {
                rows.put_counter(tx, scope, &subject, counter.failed(scope, now)).await?;
            }
            Ok(None)
        })
    });
    let claimed = claimed.await?.ok_or(Error::NotFound)?;
    push::told(app, id.as_str()).await?;
    Ok(claimed)
}

/// The patient says what fingerprint the device shows, and which grant to it they signed. Another fingerprint ends the code.
pub async fn confirm(
    app: &App,
    caller: &Caller,
    (patient, id): (&PatientId, &PairingId),
    confirmation: PairingConfirmation,
) -> Result<PairedDevice, Error> {
    current(app, caller).await?;
    let told = id.clone();
    let (patient, id, now) = (patient.clone(), id.clone(), app.clock.now());
    let confirmed = app.store.write_locked(vec![Lock::exclusive(patient.as_str())], move |tx, rows| {
        Box::pin(async move {
            acting(&rows, tx, patient.as_str()).await?;
            confirm_in(&rows, tx, (&patient, &id), &confirmation, now).await
        })
    });
    match confirmed.await? {
        Some(paired) => Ok(paired),
        None => {
            push::told(app, told.as_str()).await?;
            Err(Error::Conflict("the device shows another fingerprint: the code is over"))
        }
    }
}

async fn confirm_in(
    rows: &Rows,
    tx: &mut Tx,
    (patient, id): (&PatientId, &PairingId),
    PairingConfirmation { fingerprint, grant }: &PairingConfirmation,
    now: Timestamp,
) -> Result<Option<PairedDevice>, Error> {
    let mut code = own(rows.pairing_code(&mut *tx, id).await?, patient)?;
    let (state, made) = (code.progress.state(now), rows.pairing(&mut *tx, id).await?);
    let device = match &code.progress.device {
        Some(device) => rows.device(&mut *tx, device).await?,
        None => None,
    };
    let mut device = match (state, device) {
        (PairingState::Open, _) => return Err(Error::Conflict("no device has claimed the code yet")),
        (PairingState::Expired, _) => return Err(Error::Conflict("the code is over")),
        (PairingState::Claimed | PairingState::Confirmed, Some(device)) => device,
        (_, None) => return Err(Error::Conflict("the device is not known any more")),
    };
    if let Some(made) = made {
        // The same again is answered again.
        let same = made.ended_at.is_none() && made.grant == *grant && device.fingerprint == *fingerprint;
        return if same {
            Ok(Some(paired(&made, &device)))
        } else {
            Err(Error::Conflict("the code was used"))
        };
    }
    if state == PairingState::Confirmed {
        return Err(Error::Conflict("the code was used"));
    }
    if !code.progress.confirm(device.fingerprint, *fingerprint, now) {
        rows.update_pairing_code(tx, &code).await?;
        // The patient may have signed the grant already: it is frozen.
        enqueue::<TellPairing>(tx, id, now).await?;
        return Ok(None);
    }
    let mine = live(rows, tx, patient).await?;
    if mine.iter().any(|pairing| pairing.device == device.id) {
        return Err(Error::Conflict("the device is paired already: remove it first"));
    }
    if mine.len() >= MOST_DEVICES {
        return Err(TOO_MANY_DEVICES);
    }
    if rows.pairings_of_device(&mut *tx, &device.id).await?.len() >= MOST_PATIENTS {
        return Err(TOO_MANY_PATIENTS);
    }
    let pairing = Pairing {
        id: id.clone(),
        patient: patient.clone(),
        device: device.id.clone(),
        grant: grant.clone(),
        paired_at: now,
        ended_at: None,
        version: 1,
    };
    rows.insert_pairing(tx, &pairing).await?;
    rows.update_pairing_code(tx, &code).await?;
    device.paired_at.get_or_insert(now);
    rows.update_device(tx, &device).await?;
    Ok(Some(paired(&pairing, &device)))
}

/// The patient's devices.
pub async fn list(app: &App, caller: &Caller, patient: &PatientId) -> Result<Vec<PairedDevice>, Error> {
    current(app, caller).await?;
    let (rows, reads) = (&app.store.rows, app.store.db.reads());
    let mut devices = Vec::new();
    for pairing in rows.pairings_of_patient(reads, patient).await? {
        if pairing.ended_at.is_none()
            && let Some(device) = rows.device(reads, &pairing.device).await?
        {
            devices.push(paired(&pairing, &device));
        }
    }
    Ok(devices)
}

/// What the end of a pairing came to inside its transaction.
#[derive(Debug)]
struct Ended {
    since: Timestamp,
    pairings: Vec<PairingId>,
    sessions: Vec<SessionId>,
    grants: Vec<GrantId>,
}

/// Cuts a device off: access-policy freezes what this patient granted it, and without any pairing its tokens end. Again, it
/// changes nothing.
pub async fn remove(
    app: &App,
    caller: &Caller,
    patient: &PatientId,
    device: &DeviceId,
) -> Result<PairingEnded, Error> {
    current(app, caller).await?;
    let (patient, device, now) = (patient.clone(), device.clone(), app.clock.now());
    let ended = app.store.write_locked(vec![Lock::exclusive(patient.as_str())], move |tx, rows| {
        Box::pin(async move { remove_in(&rows, tx, (&patient, &device), now).await })
    });
    let Ended { since, pairings, sessions, grants } = ended.await?;
    let mut effective = push::all_told(app, &sessions).await?;
    for pairing in &pairings {
        effective &= push::told(app, pairing.as_str()).await?;
    }
    Ok(PairingEnded { since, effective, grants })
}

async fn remove_in(
    rows: &Rows,
    tx: &mut Tx,
    (patient, device): (&PatientId, &DeviceId),
    now: Timestamp,
) -> Result<Ended, Error> {
    let mut all = rows.pairings_of_patient(&mut *tx, patient).await?;
    all.retain(|pairing| pairing.device == *device);
    // The present one, or the last that there was.
    let mut pairing = match all.iter().position(|pairing| pairing.ended_at.is_none()) {
        Some(live) => all.swap_remove(live),
        None => all.pop().ok_or(Error::NotFound)?,
    };
    let (id, grants) = (pairing.id.clone(), vec![pairing.grant.clone()]);
    if let Some(since) = pairing.ended_at {
        rows.note_pairing(&pairing)?;
        return Ok(Ended { since, pairings: vec![id], sessions: Vec::new(), grants });
    }
    rows.end_pairing(tx, &mut pairing, now).await?;
    enqueue::<TellPairing>(tx, &pairing.id, now).await?;
    let sessions = match rows.pairings_of_device(&mut *tx, device).await?.is_empty() {
        true => sessions::end_all(rows, tx, device.as_str(), None, "removed", now).await?,
        false => Vec::new(),
    };
    Ok(Ended { since: now, pairings: vec![id], sessions, grants })
}

/// Cuts all of a patient's devices off, and ends the codes by which others could still come; says which sessions ended.
pub async fn end_all(
    rows: &Rows,
    tx: &mut Tx,
    patient: &PatientId,
    now: Timestamp,
) -> Result<Vec<SessionId>, Error> {
    for mut code in rows.pairing_codes_since(&mut *tx, patient, now.minus(DAY)).await? {
        if matches!(code.progress.state(now), PairingState::Open | PairingState::Claimed) {
            code.progress.ended_at = Some(now);
            rows.update_pairing_code(&mut *tx, &code).await?;
        }
    }
    let mut ended = Vec::new();
    for pairing in live(rows, tx, patient).await? {
        ended.extend(remove_in(rows, tx, (patient, &pairing.device), now).await?.sessions);
    }
    Ok(ended)
}

/// With whom a device is paired, for the device.
pub async fn of_device(app: &App, assertion: &SecretText) -> Result<Vec<DevicePairing>, Error> {
    let proven = authenticate(app, proof_of(assertion)).await?;
    let looked = app.store.write(move |tx, rows| {
        Box::pin(async move {
            let device = proven.once(&rows, tx).await?;
            Ok(rows.pairings_of_device(tx, &device.id).await?)
        })
    });
    let view = |pairing: Pairing| DevicePairing {
        id: pairing.id,
        patient: pairing.patient,
        paired_at: pairing.paired_at,
    };
    Ok(looked.await?.into_iter().map(view).collect())
}

async fn live(rows: &Rows, tx: &mut Tx, patient: &PatientId) -> Result<Vec<Pairing>, Error> {
    let mut all = rows.pairings_of_patient(tx, patient).await?;
    all.retain(|pairing| pairing.ended_at.is_none());
    Ok(all)
}

/// A code of this patient; another's is as unknown as none.
fn own(code: Option<StoredCode>, patient: &PatientId) -> Result<StoredCode, Error> {
    code.filter(|code| code.patient == *patient).ok_or(Error::NotFound)
}

fn view(code: &StoredCode, device: Option<Device>, now: Timestamp) -> PairingCode {
    let claiming = |device: Device| ClaimingDevice {
        id: device.id,
        name: device.name,
        model: device.model,
        fingerprint: device.fingerprint,
    };
    PairingCode {
        id: code.id.clone(),
        code: None,
        uri: None,
        expires_at: code.progress.expires_at,
        state: code.progress.state(now),
        device: device.map(claiming),
    }
}

fn paired(pairing: &Pairing, device: &Device) -> PairedDevice {
    PairedDevice {
        id: device.id.clone(),
        name: device.name.clone(),
        model: device.model.clone(),
        fingerprint: device.fingerprint,
        grant: pairing.grant.clone(),
        paired_at: pairing.paired_at,
        last_seen_at: device.last_used_at,
        clock_offset_ms: device.clock_offset_ms,
    }
}
