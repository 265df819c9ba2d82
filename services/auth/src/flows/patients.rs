//! Patients sign up.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use hbc_app::jobs::enqueue;
use hbc_types::account::{Custody, Role, Standing};
use hbc_types::ids::{AccountId, PatientId};
use hbc_types::keys::{PublicKey, SignatureBytes, root_possession_text};
use hbc_types::saved::SavedAnswer;
use hbc_types::secret::{Bytes, SecretText};
use hbc_types::wire::auth::{NewPatient, PatientCreated};
use hbc_types::{Random, Timestamp};

use crate::app::App;
use crate::domain::custody::{self, Cost, CustodyError, KeyOwner, KeyUse};
use crate::domain::input::{Faults, Username};
use crate::domain::{password, recovery};
use crate::error::Error;
use crate::jobs::push;
use crate::jobs::{TellRootKey, TellStanding};
use crate::store::accounts::Account;
use crate::store::wrapped_keys::{CodeWrap, WrappedKey};

/// What a sign-up needs that takes as long as password hashes do.
struct Made {
    password_hash: String,
    public_key: [u8; 32],
    custody: Option<ServerKeys>,
}

/// A root key in server custody: its wraps, and the codes in clear for their one showing.
pub struct ServerKeys {
    /// Under the password.
    pub key: WrappedKey,
    /// Under each recovery code.
    pub codes: Vec<CodeWrap>,
    /// The codes.
    pub written: Vec<SecretText>,
}

/// A sign-up that is checked and made but not stored yet.
#[derive(Debug)]
pub struct PreparedPatient {
    account: Account,
    wraps: Option<Wraps>,
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
    let client_key = client_root(app, &new, &name)?;
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
    };
    let (keys, written) = match made.custody {
        Some(keys) => (Some(Arc::new((keys.key, keys.codes))), keys.written),
        None => (None, Vec::new()),
    };
    let answer = PatientCreated {
        root_fingerprint: custody::kid(&made.public_key),
        id,
        custody: new.custody,
        recovery_codes: written,
    };
    Ok(PreparedPatient { account, wraps: keys, answer })
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

type Wraps = Arc<(WrappedKey, Vec<CodeWrap>)>;

async fn store(
    app: &App,
    account: Account,
    keys: Option<Wraps>,
    saved: Option<SavedAnswer>,
) -> Result<(), Error> {
    let now = account.created_at;
    let outcome = app
        .store
        .write(move |tx, rows| {
            Box::pin(async move {
                if let Some(saved) = &saved {
                    hbc_db::idempotency::save(tx, saved).await?;
                }
                rows.insert_account(tx, &account).await?;
                if let Some(keys) = &keys {
                    rows.put_wrapped_key(tx, &keys.0).await?;
                    for code in &keys.1 {
                        rows.insert_code(tx, code).await?;
                    }
                }
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

/// The root key of a client that holds its own, proven by its signature over [`root_possession_text`]; nothing in server
/// custody.
fn client_root(app: &App, new: &NewPatient, username: &str) -> Result<Option<[u8; 32]>, Error> {
    if new.custody == Custody::Server {
        if new.root_public_key.is_some() || new.root_pop.is_some() {
            return Err(Error::invalid("root_public_key", "belongs to client custody"));
        }
        return Ok(None);
    }
    if new.custody == Custody::Passkey {
        return Err(Error::invalid(
            "custody",
            "begins as `client`: an account has no passkey before it exists",
        ));
    }
    let key = new.root_public_key.as_ref().and_then(Bytes::to_array::<32>);
    let key = key.ok_or_else(|| Error::invalid("root_public_key", "needs 32 bytes"))?;
    let pop = new.root_pop.as_ref().and_then(Bytes::to_array::<64>);
    let pop = pop.ok_or_else(|| Error::invalid("root_pop", "needs 64 bytes"))?;
    let public = PublicKey::from_bytes(key);
    let text = root_possession_text(&app.chain, &public.kid(), None, username);
    public
        .verify(&text, &SignatureBytes::from_bytes(pop))
        .map_err(|_does_not_fit| Error::BadSignature("root_pop"))?;
    Ok(Some(key))
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
        if let Some(public_key) = client_key {
            return Ok(Made { password_hash, public_key, custody: None });
        }
        let root = custody::new_key(&random);
        let keys = wrap_root(&root, &id, &password, cost, now, &random)?;
        Ok::<_, CustodyError>(Made {
            password_hash,
            public_key: custody::public_key(&root),
            custody: Some(keys),
        })
    };
    Ok(app.passwords.run(work).await??)
}

/// Wraps a root key under a password and under fresh recovery codes.
fn wrap_root(
    root: &SigningKey,
    patient: &PatientId,
    password: &SecretText,
    cost: Cost,
    now: Timestamp,
    random: &Random,
) -> Result<ServerKeys, CustodyError> {
    let public_key = custody::public_key(root);
    let owner = KeyOwner { key_use: KeyUse::Root, account: patient.as_str(), public_key: &public_key };
    let wrapped = custody::wrap_with_password(root, owner, password, cost, random)?;
    let account = patient.as_str().to_owned();
    let key = WrappedKey { account, key_use: KeyUse::Root, cost, wrapped, created_at: now };
    let (codes, written) = wrap_under_codes(root, patient, now, random)?;
    Ok(ServerKeys { key, codes, written })
}

/// Wraps a root key under fresh recovery codes; the codes in clear are for one showing.
pub fn wrap_under_codes(
    root: &SigningKey,
    patient: &PatientId,
    now: Timestamp,
    random: &Random,
) -> Result<(Vec<CodeWrap>, Vec<SecretText>), CustodyError> {
    let public_key = custody::public_key(root);
    let owner = KeyOwner { key_use: KeyUse::Root, account: patient.as_str(), public_key: &public_key };
    let mut codes = Vec::with_capacity(recovery::CODES);
    let mut written = Vec::with_capacity(recovery::CODES);
    for n in (1_i64..).take(recovery::CODES) {
        let code = recovery::generate(random);
        let wrapped = custody::wrap_with_code(root, owner, &code, random)?;
        let account = patient.as_str().to_owned();
        codes.push(CodeWrap { account, n, wrapped, created_at: now, used_at: None });
        written.push(recovery::write(&code));
    }
    Ok((codes, written))
}
