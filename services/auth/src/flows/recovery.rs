//! A lost password: a recovery code opens the account once more, under a new password, and its signing key where that is here.

use std::sync::Arc;

use hbc_types::account::Role;
use hbc_types::secret::SecretText;
use hbc_types::wire::auth::{Recovery, RecoveryCodes};

use crate::app::App;
use crate::domain::custody::{self, KeyOwner, KeyUse, Keys};
use crate::domain::{password, recovery};
use crate::error::Error;
use crate::flows::account::open_keys;
use crate::flows::login::{Guard, Origin, Proof, prove};
use crate::flows::{account, codes, ways_in};
use crate::jobs::push;
use crate::store::StoreError;
use crate::store::accounts::Account;
use crate::store::wrapped_keys::CodeWrap;

/// Restores an account. The second factor and the passkeys go with the lost device, so the new password must stand alone; every session
/// ends. Unknown users, wrong codes and used codes get one answer and are slowed down like wrong passwords.
pub async fn recover(app: &App, request: Recovery, address: &str) -> Result<(), Error> {
    let guard = Guard::enter(app, &request.username, &Origin::Address(address.to_owned())).await?;
    if let Err(error) = password::check_new(&request.new_password, guard.username(), false) {
        guard.take_back(app).await?;
        return Err(Error::invalid("new_password", error.to_string()));
    }
    let opened = open(app, guard.username(), &request.code).await?;
    let Some((account, keys, mut code)) = opened else {
        // As dear as the right code, which is followed by a hash and a wrap.
        app.passwords.matches(request.new_password, None).await?;
        return guard.fail(app, Error::BadCredentials);
    };
    let now = app.clock.now();
    let (hash, wrapped) = account::rewrap(app, &account, keys, request.new_password).await?;
    code.used_at = Some(now);
    let id = account.id.clone();
    let ended = app
        .store
        .write(move |tx, rows| {
            Box::pin(async move {
                let mut account = rows.account(&mut *tx, id.as_str()).await?.ok_or(Error::NotFound)?;
                // Others may have taken its place since it was opened, under the same number.
                let counts = rows.unused_codes(&mut *tx, id.as_str()).await?;
                if counts.iter().all(|other| other.wrapped.salt != code.wrapped.salt) {
                    return Err(Error::BadCredentials);
                }
                rows.use_code(tx, &code).await?;
                account.password_hash = hash;
                account.password_changed_at = now;
                account.second_factor_at = None;
                rows.update_account(tx, &account).await?;
                if let Some(key) = &wrapped {
                    rows.put_wrapped_key(tx, key).await?;
                }
                // Whoever had the password may have registered passkeys and programs, or have let an app in.
                ways_in::end_all(&rows, tx, &id, "recovery", now).await
            })
        })
        .await?;
    guard.succeed(app).await?;
    tracing::info!(account.id = %account.id, "An account was restored with a recovery code");
    push::all_told(app, &ended).await?;
    Ok(())
}

/// Makes fresh codes after the password; the earlier ones are void.
pub async fn renew_codes(app: &App, account: &Account, proof: Proof) -> Result<RecoveryCodes, Error> {
    if account.role == Role::Operator {
        return Err(Error::Conflict("operators have no recovery codes"));
    }
    let password = proof.password.clone();
    let proven = prove(app, &account.username, proof).await?;
    let opened = open_keys(app, &proven.account, password).await?;
    let keys = opened.as_ref().map(|opened| &opened.keys);
    let (id, now) = (account.id.clone(), app.clock.now());
    let (made, written) = codes::make(&id, &proven.account.public_key, keys, now, &app.random)?;
    let (made, clock) = (Arc::new(made), app.clock.clone());
    app.store
        .write(move |tx, rows| {
            Box::pin(async move {
                let account = proven.still(&rows, tx).await?;
                if account.public_key != proven.account.public_key {
                    return Err(Error::Conflict("the key was changed meanwhile"));
                }
                if let Some(opened) = &opened {
                    opened.still(&rows, tx, &id).await?;
                }
                // The time of this try: of two at once, the later one's codes count.
                Ok::<_, Error>(rows.replace_codes(tx, id.as_str(), &made, clock.now()).await?)
            })
        })
        .await?;
    Ok(RecoveryCodes { recovery_codes: written })
}

/// The account, its keys where the server has them, and the code's row, if the code is an unused one of this account.
async fn open(
    app: &App,
    username: &str,
    code: &SecretText,
) -> Result<Option<(Account, Option<Keys>, CodeWrap)>, Error> {
    let reads = app.store.db.reads();
    let account = match app.store.rows.account_by_name(reads, username).await {
        Ok(account) => account,
        Err(StoreError::Tampered(_alarmed)) => None,
        Err(error) => return Err(error.into()),
    };
    let (Some(account), Some(code)) = (account, recovery::parse(code)) else { return Ok(None) };
    let wraps = app.store.rows.unused_codes(reads, account.id.as_str()).await?;
    let Some(key_use) = KeyUse::of(account.role) else { return Ok(None) };
    let owner = KeyOwner { key_use, account: account.id.as_str(), public_key: &account.public_key };
    for wrap in wraps {
        if let Ok(keys) = custody::open_with_code(&wrap.wrapped, owner, &code) {
            return Ok(Some((account, keys, wrap)));
        }
    }
    Ok(None)
}
