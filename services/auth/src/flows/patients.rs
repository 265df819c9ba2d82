//! Patients sign up.

use std::sync::Arc;

use hbc_app::jobs::enqueue;
use hbc_types::account::{Custody, Role, Standing};
use hbc_types::ids::{AccountId, PatientId};
use hbc_types::saved::SavedAnswer;
use hbc_types::secret::SecretText;
use hbc_types::wire::auth::{NewPatient, PatientCreated};
use hbc_types::{Random, Timestamp};

use crate::app::App;
use crate::domain::custody::{self, Cost, CustodyError, KeyOwner, KeyUse, Keys};
use crate::domain::input::{Faults, Username};
use crate::domain::password;
use crate::domain::roots::{self, Shown};
use crate::error::Error;
use crate::flows::codes;
use crate::jobs::push;
use crate::jobs::{TellRootKey, TellStanding};
use crate::store::accounts::Account;
use crate::store::wrapped_keys::{CodeWrap, WrappedKey};

/// What a sign-up needs that takes as long as password hashes do.
struct Made {
    password_hash: String,
    public_key: [u8; 32],
    wraps: Wraps,
    /// Recovery codes in clear, for their one showing.
    written: Vec<SecretText>,
}

/// The root key wrapped under the password, if it is in server custody, and what the recovery codes open.
type Wraps = Arc<(Option<WrappedKey>, Vec<CodeWrap>)>;

/// A sign-up that is checked and made but not stored yet.
#[derive(Debug)]
pub struct PreparedPatient {
    account: Account,
    wraps: Wraps,
    /// What the patient is answered.
    pub answer: PatientCreated,
}

/// Checks a sign-up and makes its keys.
pub async fn prepare(app: &App, new: NewPatient) -> Result<PreparedPatient, Error> {
    let mut faults = Faults::default();
    let username = faults.username(&new.username);
    let contact = faults.contact(&new.contact, "contact.");
    let name = username.as_ref().map(Username::as_str).unwrap_or_default().to_owned();
    if let Err(error) = password::check_new(&new.password, &name, false) {
        faults.add("password", &error.to_string());
    }
    faults.into_result().map_err(Error::Invalid)?;
    let client_keys = client_keys(app, &new, &name)?;
    let (client_key, recovery) =
        (client_keys.map(|keys| *keys.root.as_bytes()), client_keys.and_then(|keys| keys.recovery));
    let id = PatientId::random(&app.random);
    let now = app.clock.now();
    let made = make(app, id.clone(), new.password, client_key, now).await?;
    let account = Account {
        id: AccountId::Patient(id.clone()),
        role: Role::Patient,
        username: name,
        password_hash: made.password_hash,
        standing: Standing::Active,
        revision: 1,
        contact,
        custody: Some(new.custody),
        public_key: made.public_key,
        agency_type: None,
        organisation: None,
        licence_number: None,
        profile: None,
        staff_round: 0,
        created_at: now,
        password_changed_at: now,
        second_factor_at: None,
        version: 0,
        reason: None,
        recovery_public_key: recovery.map(|key| *key.as_bytes()),
        root_certificate: None,
        ended_at: None,
    };
    let answer = PatientCreated {
        root_fingerprint: custody::kid(&made.public_key),
        id,
        custody: new.custody,
        recovery_codes: made.written,
    };
    Ok(PreparedPatient { account, wraps: made.wraps, answer })
}

/// Stores a sign-up. Durable when it returns; access-policy is told at once where it answers.
pub async fn commit(
    app: &App,
    prepared: PreparedPatient,
    saved: Option<SavedAnswer>,
) -> Result<PatientCreated, Error> {
    store(app, prepared.account, prepared.wraps, saved).await?;
    push::told(app, prepared.answer.id.as_str()).await?;
    Ok(prepared.answer)
}

async fn store(app: &App, account: Account, wraps: Wraps, saved: Option<SavedAnswer>) -> Result<(), Error> {
    let now = account.created_at;
    let outcome = app
        .store
        .write(move |tx, rows| {
            Box::pin(async move {
                if let Some(saved) = &saved {
                    hbc_db::idempotency::save(tx, saved).await?;
                }
                rows.insert_account(tx, &account).await?;
                let (key, codes) = &*wraps;
                if let Some(key) = key {
                    rows.put_wrapped_key(tx, key).await?;
                }
                rows.insert_codes(tx, codes).await?;
                enqueue::<TellStanding>(tx, &account.id, now).await?;
                Ok::<_, Error>(enqueue::<TellRootKey>(tx, &account.id, now).await?)
            })
        })
        .await;
    match outcome {
        Err(Error::Db(error)) if error.is_unique_violation() => Err(Error::UsernameTaken),
        outcome => outcome,
    }
}

/// The keys of a client that holds its own, each proven by its signature; nothing in server custody.
fn client_keys(app: &App, new: &NewPatient, username: &str) -> Result<Option<roots::Keys>, Error> {
    let NewPatient { custody, root_public_key, root_pop, recovery_public_key, recovery_pop, .. } = new;
    let shown = Shown {
        root: root_public_key.as_ref(),
        root_pop: root_pop.as_ref(),
        recovery: recovery_public_key.as_ref(),
        recovery_pop: recovery_pop.as_ref(),
    };
    match custody {
        Custody::Server if shown.is_nothing() => Ok(None),
        Custody::Server => Err(Error::invalid("root_public_key", "belongs to client custody")),
        Custody::Passkey => {
            Err(Error::invalid("custody", "begins as `client`: an account has no passkey before it exists"))
        }
        Custody::Client => Ok(Some(roots::Keys::show(shown, &app.chain, username, None)?)),
    }
}

async fn make(
    app: &App,
    id: PatientId,
    password: SecretText,
    client_key: Option<[u8; 32]>,
    now: Timestamp,
) -> Result<Made, Error> {
    let (cost, random) = (app.passwords.cost(), app.random.clone());
    let work = move || {
        let password_hash = password::hash(&password, cost, &random)?;
        let root = client_key.is_none().then(|| Keys::from(custody::new_key(&random)));
        let public_key =
            client_key.or(root.as_ref().map(|root| custody::public_key(&root.key))).unwrap_or_default();
        let key =
            root.as_ref().map(|root| wrap_root(root, &id, &password, cost, now, &random)).transpose()?;
        let account = AccountId::Patient(id);
        let (codes, written) = codes::make(&account, &public_key, root.as_ref(), now, &random)?;
        Ok::<_, CustodyError>(Made { password_hash, public_key, wraps: Arc::new((key, codes)), written })
    };
    Ok(app.passwords.run(work).await??)
}

/// Wraps a root key under a password.
fn wrap_root(
    root: &Keys,
    patient: &PatientId,
    password: &SecretText,
    cost: Cost,
    now: Timestamp,
    random: &Random,
) -> Result<WrappedKey, CustodyError> {
    let public_key = custody::public_key(&root.key);
    let owner = KeyOwner { key_use: KeyUse::Root, account: patient.as_str(), public_key: &public_key };
    let wrapped = custody::wrap_with_password(root, owner, password, cost, random)?;
    Ok(WrappedKey {
        account: patient.as_str().to_owned(),
        key_use: KeyUse::Root,
        cost,
        wrapped,
        created_at: now,
    })
}
