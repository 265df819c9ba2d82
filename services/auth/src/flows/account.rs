//! One's own account: what it is, contact data, password.

use ed25519_dalek::SigningKey;
use hbc_db::Tx;
use hbc_types::account::{Role, Standing};
use hbc_types::ids::{AccountId, SessionId};
use hbc_types::secret::SecretText;
use hbc_types::wire::auth::{Contact, Me, NewPassword};

use crate::app::App;
use crate::domain::custody::{self, CustodyError, KeyOwner, KeyUse, Keys};
use crate::domain::input::Faults;
use crate::domain::password;
use crate::error::Error;
use crate::flows::agencies::told_standing;
use crate::flows::login::{Origin, Proof, prove};
use crate::flows::sessions;
use crate::jobs::push;
use crate::store::accounts::Account;
use crate::store::wrapped_keys::WrappedKey;
use crate::store::{Rows, StoreError};

/// The account as its owner sees it. One whom access-policy does not know yet stands `pending`.
pub async fn me(app: &App, account: &Account) -> Result<Me, Error> {
    let is_patient = account.role == Role::Patient;
    let codes = match app.store.rows.unused_codes(app.store.db.reads(), account.id.as_str()).await {
        Ok(codes) => codes,
        Err(StoreError::Tampered(_alarmed)) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    Ok(Me {
        account: account.id.clone(),
        role: account.role,
        username: account.username.clone(),
        standing: told_standing(app, account).await?,
        agency_type: account.agency_type,
        contact: account.contact.clone(),
        custody: account.custody,
        root_fingerprint: is_patient.then(|| custody::kid(&account.public_key)),
        recovery_fingerprint: account.recovery_public_key.as_ref().map(custody::kid),
        second_factor: account.second_factor_at.is_some(),
        second_factor_since: account.second_factor_at,
        password_changed_at: account.password_changed_at,
        recovery_codes_left: u32::try_from(codes.len()).unwrap_or(u32::MAX),
    })
}

/// Replaces contact data. An agency's name is what its staff profile was approved for, and stays.
pub async fn set_contact(app: &App, account: &Account, contact: &Contact) -> Result<(), Error> {
    let mut faults = Faults::default();
    let contact = faults.contact(contact, "");
    if account.role == Role::Agency && contact.name != account.contact.name {
        faults.add("name", "of an agency cannot be changed: its approval names it");
    }
    faults.into_result().map_err(Error::Invalid)?;
    change(app, &account.id, move |account| account.contact = contact.clone()).await
}

/// Reads, changes and writes an account in one transaction, unless it was closed meanwhile.
pub async fn change<F>(app: &App, id: &AccountId, change: F) -> Result<(), Error>
where
    F: FnOnce(&mut Account) + Clone + Send + 'static,
{
    let id = id.clone();
    app.store
        .write(move |tx, rows| {
            Box::pin(async move {
                let mut account = rows.account(&mut *tx, id.as_str()).await?.ok_or(Error::NotFound)?;
                if account.standing == Standing::Closed {
                    return Err(Error::Conflict("the account is closed"));
                }
                change(&mut account);
                Ok(rows.update_account(tx, &account).await?)
            })
        })
        .await
}

/// Opens the signing key of an account whose password was checked just now.
pub async fn open_key(
    app: &App,
    account: &Account,
    password: SecretText,
) -> Result<Option<SigningKey>, Error> {
    Ok(open_keys(app, account, password).await?.map(|opened| opened.keys.key))
}

/// The keys of an account, and which wrap of them was opened.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The keys.
    pub keys: Keys,
    salt: [u8; 16],
}

impl Opened {
    /// Refuses what rests on these keys if others were wrapped meanwhile: they would be lost.
    pub async fn still(&self, rows: &Rows, tx: &mut Tx, account: &AccountId) -> Result<(), Error> {
        let now = rows.wrapped_key(tx, account.as_str()).await?;
        match now.is_some_and(|now| now.wrapped.salt == self.salt) {
            true => Ok(()),
            false => Err(Error::Conflict("the account's keys changed meanwhile")),
        }
    }
}

/// The same, with an agency's other key.
pub async fn open_keys(app: &App, account: &Account, password: SecretText) -> Result<Option<Opened>, Error> {
    let stored = app.store.rows.wrapped_key(app.store.db.reads(), account.id.as_str()).await?;
    let Some((stored, key_use)) = stored.zip(KeyUse::of(account.role)) else { return Ok(None) };
    let (id, public_key) = (account.id.clone(), account.public_key);
    let work = move || {
        let owner = KeyOwner { key_use, account: id.as_str(), public_key: &public_key };
        let keys = custody::open_with_password(&stored.wrapped, owner, &password, stored.cost)?;
        Ok::<_, CustodyError>(Opened { keys, salt: stored.wrapped.salt })
    };
    Ok(Some(app.passwords.run(work).await??))
}

/// Changes the password: the wrapped key is wrapped anew, every other session ends.
pub async fn change_password(
    app: &App,
    username: &str,
    own_session: &SessionId,
    new: NewPassword,
    origin: Origin,
) -> Result<(), Error> {
    let proof = Proof { password: new.password.clone(), totp: new.totp, origin };
    let proven = prove(app, username, proof).await?;
    let account = proven.account.clone();
    let factor = account.second_factor_at.is_some();
    password::check_new(&new.new_password, username, factor)
        .map_err(|error| Error::invalid("new_password", error.to_string()))?;
    let opened = open_keys(app, &account, new.password).await?;
    let now = app.clock.now();
    let keys = opened.as_ref().map(|opened| opened.keys.clone());
    let (hash, wrapped) = rewrap(app, &account, keys, new.new_password).await?;
    let (id, keep) = (account.id.clone(), own_session.clone());
    let ended = app
        .store
        .write(move |tx, rows| {
            Box::pin(async move {
                let mut account = proven.still(&rows, tx).await?;
                sessions::still_own(&rows, tx, &keep, &account, now).await?;
                if let Some(opened) = &opened {
                    opened.still(&rows, tx, &id).await?;
                }
                if account.second_factor_at.is_none() {
                    // One that somebody prepared with the old password.
                    rows.delete_factor(tx, id.as_str()).await?;
                }
                account.password_hash = hash;
                account.password_changed_at = now;
                rows.update_account(tx, &account).await?;
                if let Some(key) = &wrapped {
                    rows.put_wrapped_key(tx, key).await?;
                }
                sessions::end_all(&rows, tx, id.as_str(), Some(&keep), "password", now).await
            })
        })
        .await?;
    push::all_told(app, &ended).await?;
    Ok(())
}

/// The hash of a new password, and the account's keys wrapped under it.
pub async fn rewrap(
    app: &App,
    account: &Account,
    keys: Option<Keys>,
    new_password: SecretText,
) -> Result<(String, Option<WrappedKey>), Error> {
    let (cost, random, now) = (app.passwords.cost(), app.random.clone(), app.clock.now());
    let key_use = KeyUse::of(account.role).ok_or(CustodyError::NoKey)?;
    let (id, public_key) = (account.id.clone(), account.public_key);
    let work = move || {
        let hash = password::hash(&new_password, cost, &random)?;
        let owner = KeyOwner { key_use, account: id.as_str(), public_key: &public_key };
        let wrapped = match keys {
            Some(keys) => Some(WrappedKey {
                account: id.as_str().to_owned(),
                key_use,
                cost,
                wrapped: custody::wrap_with_password(&keys, owner, &new_password, cost, &random)?,
                created_at: now,
            }),
            None => None,
        };
        Ok::<_, CustodyError>((hash, wrapped))
    };
    Ok(app.passwords.run(work).await??)
}
