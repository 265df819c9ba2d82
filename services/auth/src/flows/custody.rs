//! Who holds a patient's root key, and what takes its place.
//!
//! Another root key ends every consent of before, here, on the ledger and at access-policy: their keys were made from the old one,
//! or certified by it.
//!
//! Why: decision 0136.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use hbc_app::jobs::{Job, enqueue};
use hbc_chain::certificate::RootCertificate;
use hbc_db::{Lock, Tx};
use hbc_service::Caller;
use hbc_types::Timestamp;
use hbc_types::account::Custody;
use hbc_types::ids::{AccountId, PasskeyId, PatientId};
use hbc_types::keys::PublicKey;
use hbc_types::secret::SecretText;
use hbc_types::wire::custody::{CustodyChanged, NewCustody, NewRootWrap, RootWrapView, RootWraps as Told};

use crate::app::App;
use crate::domain::custody;
use crate::domain::roots::{Keys, KeysError, Shown, check_wraps, wrap_parts};
use crate::error::Error;
use crate::flows::account::{open_key, rewrap};
use crate::flows::login::{Origin, Proof, Proven, prove};
use crate::flows::sessions::{current, end_all, still_own};
use crate::flows::{codes, consents, root_claims};
use crate::jobs::{TellRootKey, push};
use crate::store::Rows;
use crate::store::accounts::Account;
use crate::store::root_wraps::RootWrap;
use crate::store::wrapped_keys::{CodeWrap, WrappedKey};

impl From<KeysError> for Error {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::Field(field, words) => Self::invalid(field, words),
            KeysError::Signature(field) => Self::BadSignature(field),
            KeysError::OtherChain => Self::OtherChain,
            KeysError::BadTime => Self::BadTime,
        }
    }
}

const CHANGED: Error = Error::Conflict("the keys were changed meanwhile");

/// What is stored instead, made before the transaction: it takes as long as password hashes do.
struct Next {
    custody: Custody,
    keys: Keys,
    /// None where they were claimed.
    certificate: Option<String>,
    /// The root key under the password, where auth holds it.
    wrapped: Option<WrappedKey>,
    /// With another root key: what restores the account.
    codes: Option<Vec<CodeWrap>>,
    /// As pages open it.
    wraps: Vec<RootWrap>,
}

/// Changes custody or keys, after the password.
pub async fn change(
    app: &App,
    caller: &Caller,
    patient: &PatientId,
    new: NewCustody,
) -> Result<CustodyChanged, Error> {
    let (account, session) = current(app, caller).await?;
    let now = app.clock.now();
    let wanted = wanted(app, &account, patient, &new, now)?;
    let NewCustody { custody, certificate, wraps, password, totp, .. } = new;
    let origin = Origin::Session(caller.session.clone());
    let proven = prove(app, &account.username, Proof { password: password.clone(), totp, origin }).await?;
    if (account.keys(), account.custody) != (proven.account.keys(), proven.account.custody) {
        return Err(CHANGED);
    }
    let held = open_key(app, &proven.account, password.clone()).await?;
    // Without keys of the client's, auth makes another root key.
    let made = wanted.is_none().then(|| custody::new_key(&app.random));
    let keys = match (wanted, &made) {
        (Some(keys), _) => keys,
        (None, made) => {
            let made = made.as_ref().ok_or(Error::Broken("no root key was made"))?;
            Keys { root: PublicKey::of(made), recovery: None }
        }
    };
    let certificate = match (&held, certificate) {
        (Some(held), _) => {
            let iat = now.unsigned_ms().max(last_signed(&account)?.saturating_add(1));
            Some(keys.certificate(app.chain, patient, iat).sign(held)?)
        }
        (None, certificate) => certificate,
    };
    let others = keys.root.as_bytes() != &account.public_key;
    let (wrapped, codes, written) = if others {
        secrets(app, &proven.account, &keys, made, password, now).await?
    } else {
        Default::default()
    };
    let wraps = wraps.iter().map(|wrap| {
        let (salt, wrapped) = wrap_parts(&wrap.salt, &wrap.wrapped)?;
        let (account, passkey, root) = (patient.clone(), wrap.passkey.clone(), keys.root.kid());
        Ok(RootWrap { account, passkey, root, salt, wrapped, created_at: now })
    });
    let wraps = wraps.collect::<Result<_, KeysError>>()?;
    let next = Arc::new(Next { custody, keys, certificate, wrapped, codes, wraps });
    let (this, stored, patient, own) = (app.clone(), Arc::clone(&next), patient.clone(), session.id);
    // A passkey that is removed meanwhile opens nothing.
    let locks = vec![Lock::exclusive(patient.as_str())];
    let ended = app.store.write_locked(locks, move |tx, rows| {
        Box::pin(async move {
            let before = proven.still(&rows, tx).await?;
            still_own(&rows, tx, &own, &before, now).await?;
            store(&this, &rows, tx, (&patient, &proven, before), &stored, now).await?;
            end_all(&rows, tx, patient.as_str(), Some(&own), "custody", now).await
        })
    });
    let ended = ended.await?;
    app.finality.wake();
    tracing::info!(account.id = %account.id, custody = custody.code(), "A patient's keys were changed");
    let known = push::told(app, account.id.as_str()).await?;
    Ok(CustodyChanged {
        custody,
        root_fingerprint: next.keys.root.kid(),
        recovery_fingerprint: next.keys.recovery.map(|key| key.kid()),
        recovery_codes: written,
        since: now,
        effective: push::all_told(app, &ended).await? && known,
    })
}

/// The client's keys that are to count, checked as far as that goes without the password; none: auth makes a root key.
fn wanted(
    app: &App,
    account: &Account,
    patient: &PatientId,
    new: &NewCustody,
    now: Timestamp,
) -> Result<Option<Keys>, Error> {
    let NewCustody {
        custody,
        root_public_key,
        root_pop,
        recovery_public_key,
        recovery_pop,
        certificate,
        wraps,
        password: _,
        totp: _,
    } = new;
    let at_client = account.custody.is_some_and(Custody::is_at_client);
    let shown = Shown {
        root: root_public_key.as_ref(),
        root_pop: root_pop.as_ref(),
        recovery: recovery_public_key.as_ref(),
        recovery_pop: recovery_pop.as_ref(),
    };
    if !custody.is_at_client() {
        if at_client {
            return Err(Error::Conflict("keys that you hold yourself are never handed to the server"));
        }
        if !shown.is_nothing() || certificate.is_some() || !wraps.is_empty() {
            return Err(Error::invalid("custody", "`server` makes the keys itself: nothing else is sent"));
        }
        return Ok(None);
    }
    let before = account.keys();
    let keys = Keys::show(shown, &app.chain, &account.username, before.recovery)?;
    check_wraps(*custody, &keys, wraps)?;
    match certificate {
        // Others may have been claimed, which is seen in the transaction.
        None if at_client && keys.root == before.root => {
            Err(Error::invalid("certificate", "is missing: the key of before names the new one"))
        }
        None if keys.root == before.root => Err(Error::invalid("root_public_key", "is the server's own")),
        None => Ok(Some(keys)),
        Some(_) if !at_client => {
            Err(Error::invalid("certificate", "is the server's to make, which holds the key of before"))
        }
        Some(text) => {
            keys.accept(text, (&before, last_signed(account)?), (app.chain, patient), now)?;
            Ok(Some(keys))
        }
    }
}

/// When the certificate was signed that brought the account's keys (Unix ms); 0 for the first ones, and for claimed ones.
fn last_signed(account: &Account) -> Result<u64, Error> {
    account.root_certificate.as_deref().map_or(Ok(0), |text| Ok(RootCertificate::signed_ms(text)?))
}

type Secrets = (Option<WrappedKey>, Option<Vec<CodeWrap>>, Vec<SecretText>);

/// What another root key comes with: its wrap, where auth made it, and fresh recovery codes.
async fn secrets(
    app: &App,
    account: &Account,
    keys: &Keys,
    made: Option<SigningKey>,
    password: SecretText,
    now: Timestamp,
) -> Result<Secrets, Error> {
    let account = Account { public_key: *keys.root.as_bytes(), ..account.clone() };
    let made = made.map(custody::Keys::from);
    let (codes, written) = codes::make(&account.id, &account.public_key, made.as_ref(), now, &app.random)?;
    let wrapped = match made {
        Some(key) => rewrap(app, &account, Some(key), password).await?.1,
        None => None,
    };
    Ok((wrapped, Some(codes), written))
}

async fn store(
    app: &App,
    rows: &Rows,
    tx: &mut Tx,
    (patient, proven, mut account): (&PatientId, &Proven, Account),
    next: &Next,
    now: Timestamp,
) -> Result<(), Error> {
    let Next { custody, keys, certificate, wrapped, codes, wraps } = next;
    if (account.keys(), account.custody) != (proven.account.keys(), proven.account.custody) {
        return Err(CHANGED);
    }
    // access-policy believes each certificate under the keys that the one before brought.
    if hbc_db::jobs::is_owed(tx, <TellRootKey as Job>::KIND, account.id.as_str()).await? {
        return Err(Error::Conflict("an earlier change is still being told to access-policy: come again"));
    }
    for passkey in wraps.iter().filter_map(|wrap| wrap.passkey.as_ref()) {
        opens(rows, tx, &account.id, passkey).await?;
    }
    if certificate.is_none() {
        root_claims::take(app, rows, tx, (patient, keys), now).await?;
    }
    account.custody = Some(*custody);
    account.public_key = *keys.root.as_bytes();
    account.recovery_public_key = keys.recovery.map(|key| *key.as_bytes());
    account.root_certificate.clone_from(certificate);
    rows.update_account(tx, &account).await?;
    rows.delete_root_claim(tx, patient).await?;
    if let Some(codes) = codes {
        match wrapped {
            Some(wrapped) => rows.put_wrapped_key(tx, wrapped).await?,
            None => rows.delete_wrapped_key(tx, patient.as_str()).await?,
        }
        rows.replace_codes(tx, patient.as_str(), codes, now).await?;
        consents::revoke_keys(app, rows, tx, patient, now).await?;
    }
    rows.delete_root_wraps(tx, patient).await?;
    for wrap in wraps {
        rows.put_root_wrap(tx, wrap).await?;
    }
    Ok(enqueue::<TellRootKey>(tx, &account.id, now).await?)
}

/// A passkey of this account whose authenticator derives secrets.
async fn opens(rows: &Rows, tx: &mut Tx, account: &AccountId, id: &PasskeyId) -> Result<(), Error> {
    let passkey = rows.passkey(tx, id).await?;
    let passkey = passkey.filter(|passkey| passkey.account == *account && passkey.removed_at.is_none());
    match passkey {
        Some(passkey) if passkey.prf => Ok(()),
        Some(_without) => Err(Error::invalid("wraps", "name a passkey that derives no secrets")),
        None => Err(Error::invalid("wraps", "name a passkey that is not registered")),
    }
}

/// With what the patient's own client gets at its root key.
pub async fn wraps(app: &App, caller: &Caller, patient: &PatientId) -> Result<Told, Error> {
    let (account, _session) = current(app, caller).await?;
    let (rows, reads) = (&app.store.rows, app.store.db.reads());
    let root = custody::kid(&account.public_key);
    let mut items = Vec::new();
    for wrap in rows.root_wraps(reads, patient, root).await? {
        let RootWrap { account: _, passkey, root: _, salt, wrapped, created_at } = wrap;
        let credential = match &passkey {
            // One that signs nobody in since a recovery derives its secret all the same.
            Some(id) => rows.passkey(reads, id).await?.map(|passkey| passkey.credential),
            None => None,
        };
        let (salt, wrapped) = (salt.as_slice().into(), wrapped.as_slice().into());
        items.push(RootWrapView { passkey, credential, salt, wrapped, created_at });
    }
    Ok(Told { root_fingerprint: root, items })
}

/// Adds a wrap that another of the caller's passkeys opens, after the password.
pub async fn add_wrap(
    app: &App,
    caller: &Caller,
    (patient, passkey): (&PatientId, &PasskeyId),
    new: NewRootWrap,
) -> Result<(), Error> {
    let NewRootWrap { root_fingerprint, root_pop, salt, wrapped, password, totp } = new;
    let (salt, wrapped) = wrap_parts(&salt, &wrapped)?;
    let (account, session) = current(app, caller).await?;
    // Whoever has the password alone adds none: it would count as a way to a root key that it does not open.
    account.keys().check_pop(&app.chain, &account.username, &root_pop)?;
    let origin = Origin::Session(caller.session.clone());
    let proven = prove(app, &account.username, Proof { password, totp, origin }).await?;
    let now = app.clock.now();
    let (account, id) = (patient.clone(), passkey.clone());
    let wrap = RootWrap {
        account,
        passkey: Some(id.clone()),
        root: root_fingerprint,
        salt,
        wrapped,
        created_at: now,
    };
    let locks = vec![Lock::exclusive(patient.as_str())];
    app.store
        .write_locked(locks, move |tx, rows| {
            Box::pin(async move {
                let account = proven.still(&rows, tx).await?;
                still_own(&rows, tx, &session.id, &account, now).await?;
                if account.custody != Some(Custody::Passkey) {
                    return Err(Error::Conflict("the root key is not held by passkeys"));
                }
                if custody::kid(&account.public_key) != root_fingerprint {
                    return Err(Error::Conflict("the root key is another one"));
                }
                // One that is not the caller's is as unknown as none.
                let found = rows.passkey(&mut *tx, &id).await?;
                found.filter(|passkey| passkey.account == account.id).ok_or(Error::NotFound)?;
                opens(&rows, tx, &account.id, &id).await?;
                let wraps = rows.root_wraps(&mut *tx, &wrap.account, root_fingerprint).await?;
                if wraps.iter().any(|known| known.passkey == wrap.passkey) {
                    return Err(Error::Conflict("this passkey opens the root key already"));
                }
                Ok(rows.put_root_wrap(tx, &wrap).await?)
            })
        })
        .await
}

/// Whether the root key of an account could be opened still without this passkey.
pub async fn opens_without(
    rows: &Rows,
    tx: &mut Tx,
    account: &Account,
    passkey: &PasskeyId,
) -> Result<bool, Error> {
    let AccountId::Patient(patient) = &account.id else { return Ok(true) };
    if account.custody != Some(Custody::Passkey) {
        return Ok(true);
    }
    let wraps = rows.root_wraps(&mut *tx, patient, custody::kid(&account.public_key)).await?;
    if wraps.iter().all(|wrap| wrap.passkey.as_ref() != Some(passkey)) {
        return Ok(true);
    }
    let registered = rows.passkeys_of(tx, &account.id).await?;
    let others = |wrap: &RootWrap| match &wrap.passkey {
        None => true,
        Some(id) => id != passkey && registered.iter().any(|known| known.id == *id),
    };
    Ok(wraps.iter().any(others))
}
