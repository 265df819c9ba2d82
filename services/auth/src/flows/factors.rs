//! Setting up a second factor: prepared after a fresh password, counted once its first code was shown.

use hbc_types::ids::SessionId;
use hbc_types::secret::SecretText;
use hbc_types::wire::auth::TotpPrepared;

use crate::app::App;
use crate::domain::{password, totp};
use crate::error::Error;
use crate::flows::login::{Proof, matching_step, prove};
use crate::flows::sessions;
use crate::jobs::push;
use crate::store::accounts::Account;
use crate::store::factors::Factor;

/// Prepares a second factor. One that counts already must be removed first.
pub async fn prepare(app: &App, username: &str, proof: Proof) -> Result<TotpPrepared, Error> {
    let proven = prove(app, username, proof).await?;
    let account = &proven.account;
    if account.second_factor_at.is_some() {
        return Err(Error::Conflict("a second factor is set up already"));
    }
    let secret = totp::generate(&app.random);
    let id = account.id.as_str().to_owned();
    let (nonce, encrypted) = totp::encrypt(&app.keys.factors, &id, secret.as_slice(), &app.random)?;
    let factor = Factor {
        account: id,
        nonce,
        encrypted,
        confirmed_at: None,
        last_step: 0,
        created_at: app.clock.now(),
    };
    let uri = totp::uri(secret.as_slice(), "HBC", &account.username);
    app.store
        .write(move |tx, rows| {
            Box::pin(async move {
                proven.still(&rows, tx).await?;
                Ok::<_, Error>(rows.put_factor(tx, &factor).await?)
            })
        })
        .await?;
    let qr_svg = totp::qr_svg(&uri).ok_or(Error::Broken("an address is too long for a QR code"))?;
    Ok(TotpPrepared { uri, qr_svg })
}

/// Confirms the prepared factor by its first code: from now on it is asked for. Every other session ends: none of them was
/// opened with it.
pub async fn confirm(
    app: &App,
    account: &Account,
    own_session: &SessionId,
    code: &SecretText,
) -> Result<(), Error> {
    let id = account.id.as_str();
    let _one_at_a_time = app.attempts.lock(id).await;
    let factor = app.store.rows.factor(app.store.db.reads(), id).await?;
    let Some(mut factor) = factor.filter(|_| account.second_factor_at.is_none()) else {
        return Err(Error::Conflict("no second factor is prepared"));
    };
    let now = app.clock.now();
    factor.last_step = matching_step(app, &factor, code, now)?.ok_or(Error::SecondFactor)?;
    factor.confirmed_at = Some(now);
    let keep = own_session.clone();
    let ended = app
        .store
        .write(move |tx, rows| {
            Box::pin(async move {
                let mut account = rows.account(&mut *tx, &factor.account).await?.ok_or(Error::NotFound)?;
                let stored = rows.factor(&mut *tx, &factor.account).await?;
                let same = stored.is_some_and(|stored| {
                    stored.encrypted == factor.encrypted && stored.confirmed_at.is_none()
                });
                if account.second_factor_at.is_some() || !same {
                    return Err(Error::Conflict("another second factor was prepared meanwhile"));
                }
                sessions::still_own(&rows, tx, &keep, &account, now).await?;
                account.second_factor_at = Some(now);
                rows.put_factor(tx, &factor).await?;
                rows.update_account(tx, &account).await?;
                sessions::end_all(&rows, tx, &factor.account, Some(&keep), "factor", now).await
            })
        })
        .await?;
    push::all_told(app, &ended).await?;
    Ok(())
}

/// Removes the second factor after password and code; the password must be one that stands alone.
pub async fn remove(app: &App, username: &str, proof: Proof) -> Result<(), Error> {
    let password = proof.password.clone();
    let proven = prove(app, username, proof).await?;
    password::check_new(&password, username, false)
        .map_err(|error| Error::invalid("password", error.to_string()))?;
    app.store
        .write(move |tx, rows| {
            Box::pin(async move {
                let mut account = proven.still(&rows, tx).await?;
                account.second_factor_at = None;
                rows.delete_factor(tx, account.id.as_str()).await?;
                Ok(rows.update_account(tx, &account).await?)
            })
        })
        .await
}
