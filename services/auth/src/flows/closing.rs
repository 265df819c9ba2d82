//! An account is closed by its owner: for ever, whatever its rows say later.
//!
//! Why: decision 0132.

use hbc_app::jobs::enqueue;
use hbc_db::{Lock, Tx};
use hbc_service::Caller;
use hbc_types::Timestamp;
use hbc_types::account::{Role, Standing};
use hbc_types::ids::{AccountId, SessionId};
use hbc_types::wire::auth::{Closure, Contact, Denial};

use crate::app::App;
use crate::domain::input::Username;
use crate::error::Error;
use crate::flows::account::open_key;
use crate::flows::login::{Origin, Proof, Proven, prove};
use crate::flows::members::Leaving;
use crate::flows::sessions::{current, still_own};
use crate::flows::{consents, members, pairings, ways_in};
use crate::jobs::{TellStanding, push};
use crate::store::Rows;
use crate::store::accounts::Account;

/// In the place of a hash: no password fits.
const NO_PASSWORD: &str = "closed";

/// Closes the caller's account, after the password and the username once more. The same again, under way at once, is answered
/// alike; later nobody is signed in to ask.
pub async fn close(app: &App, caller: &Caller, closure: Closure) -> Result<Denial, Error> {
    let (account, _session) = current(app, caller).await?;
    match account.role {
        Role::Patient | Role::Agency => {}
        Role::Operator => return Err(Error::Forbidden("the genesis and votes of members say who operates")),
        Role::App | Role::Device => {
            return Err(Error::Forbidden("patients and agencies close their accounts"));
        }
    }
    let Closure { confirm, password, totp } = closure;
    if Username::parse(&confirm).is_none_or(|typed| typed.as_str() != account.username) {
        return Err(Error::invalid("confirm", "is not your username"));
    }
    let origin = Origin::Session(caller.session.clone());
    let proof = Proof { password: password.clone(), totp, origin };
    let proven = prove(app, &account.username, proof).await?;
    let key = match account.role {
        Role::Agency => open_key(app, &proven.account, password).await?,
        _ => None,
    };
    let closing = Closing {
        app: app.clone(),
        proven,
        session: caller.session.clone(),
        leaving: key.map(|key| Leaving { chain: app.chain, key }),
        now: app.clock.now(),
    };
    let id = account.id.clone();
    // Whatever adds to the account (a passkey, a program's token, a consent key, a pairing) is before it, or finds it closed.
    let locks = vec![Lock::exclusive(id.as_str())];
    let closed =
        app.store.write_locked(locks, move |tx, rows| Box::pin(async move { closing.run(&rows, tx).await }));
    let (since, ended) = closed.await?;
    tracing::info!(account.id = %id, "An account was closed by its owner");
    app.finality.wake();
    let told = push::told(app, id.as_str()).await?;
    Ok(Denial { since, effective: push::all_told(app, &ended).await? && told })
}

/// A closing that was proved to be the owner's wish.
#[derive(Clone)]
struct Closing {
    app: App,
    proven: Proven,
    session: SessionId,
    /// An agency's word to those whom it is bound to.
    leaving: Option<Leaving>,
    now: Timestamp,
}

impl Closing {
    /// Since when it is closed, and which sessions ended.
    async fn run(self, rows: &Rows, tx: &mut Tx) -> Result<(Timestamp, Vec<SessionId>), Error> {
        let id = self.proven.account.id.clone();
        let present = rows.account(&mut *tx, id.as_str()).await?.ok_or(Error::BadCredentials)?;
        if present.standing == Standing::Closed {
            rows.note_account(&present)?;
            return Ok((present.password_changed_at, Vec::new()));
        }
        let account = self.proven.still(rows, tx).await?;
        still_own(rows, tx, &self.session, &account, self.now).await?;
        let mut ended = ways_in::end_all(rows, tx, &id, "closed", self.now).await?;
        match &id {
            AccountId::Patient(patient) => {
                ended.extend(pairings::end_all(rows, tx, patient, self.now).await?);
                consents::revoke_keys(&self.app, rows, tx, patient, self.now).await?;
            }
            AccountId::Agency(agency) => {
                if let Some(leaving) = &self.leaving {
                    members::leave_all(rows, tx, agency, leaving, self.now).await?;
                }
            }
            AccountId::Operator(_) | AccountId::App(_) | AccountId::Device(_) => {}
        }
        forget(rows, tx, &id, self.now).await?;
        rows.update_account(tx, &closed(account, self.now)).await?;
        // With its standing access-policy ends everything of it.
        enqueue::<TellStanding>(tx, &id, self.now).await?;
        Ok((self.now, ended))
    }
}

/// Deletes what only its owner needs.
async fn forget(rows: &Rows, tx: &mut Tx, id: &AccountId, now: Timestamp) -> Result<(), Error> {
    rows.delete_passkeys(tx, id).await?;
    rows.delete_wrapped_key(tx, id.as_str()).await?;
    rows.replace_codes(tx, id.as_str(), &[], now).await?;
    if let AccountId::Patient(patient) = id {
        rows.delete_root_wraps(tx, patient).await?;
    }
    Ok(rows.delete_preferences(tx, id).await?)
}

/// What is left of an account. The username stays, so that nobody else ever has it; of an agency that was approved, so does
/// what its approval names on the ledger and patients find in their logs.
fn closed(account: Account, now: Timestamp) -> Account {
    let was_approved = account.role == Role::Agency && account.staff_round > 0;
    let kept = |text: Option<String>| text.filter(|_| was_approved);
    Account {
        password_hash: NO_PASSWORD.to_owned(),
        standing: Standing::Closed,
        revision: account.revision.saturating_add(1),
        contact: Contact { name: kept(account.contact.name), ..Contact::default() },
        organisation: account.organisation.filter(|_| was_approved),
        licence_number: kept(account.licence_number),
        profile: account.profile.filter(|_| was_approved),
        // From then on none fits.
        password_changed_at: now,
        second_factor_at: None,
        reason: None,
        ..account
    }
}
