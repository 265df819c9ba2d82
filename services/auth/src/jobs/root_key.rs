//! access-policy is told a patient's root key.

use hbc_app::jobs::{Job, JobError, Retry};
use hbc_db::Lock;
use hbc_types::account::Standing;
use hbc_types::ids::AccountId;

use crate::app::App;
use crate::error::Error;
use crate::jobs::push;
use crate::store::root_claims::RootClaim;

/// Tells a patient's root key.
pub struct TellRootKey;

impl Job for TellRootKey {
    type App = App;
    type Key = AccountId;
    const KIND: &'static str = "push.root_key";
    const RETRY: Retry = push::RETRY;

    async fn run(app: &App, account: AccountId) -> Result<(), JobError> {
        match app.store.rows.account(app.db.reads(), account.as_str()).await? {
            // Nobody has the key of an account that closed before it was told.
            Some(account) if account.standing == Standing::Closed => Ok(()),
            Some(account) => Ok(push::pin(app, &account).await?),
            None => Ok(()),
        }
    }
}

/// Tells which keys a patient claims, or that they claim none.
pub struct TellRootClaim;

impl Job for TellRootClaim {
    type App = App;
    type Key = AccountId;
    const KIND: &'static str = "push.root_claim";
    const RETRY: Retry = push::RETRY;

    async fn run(app: &App, account: AccountId) -> Result<(), JobError> {
        let AccountId::Patient(patient) = &account else { return Ok(()) };
        let claim = app.store.rows.root_claim(app.db.reads(), patient).await?;
        push::root_claim(app, patient, claim.as_ref()).await?;
        match &claim {
            Some(claim) => Ok(note_told(app, claim).await?),
            None => Ok(()),
        }
    }
}

/// access-policy stored a claim: from then on it counts the days.
async fn note_told(app: &App, told: &RootClaim) -> Result<(), Error> {
    let (account, subject, now) = (told.account.clone(), told.subject(), app.clock.now());
    app.store
        .write_locked(vec![Lock::exclusive(account.as_str())], move |tx, rows| {
            Box::pin(async move {
                let known = rows.root_claim(&mut *tx, &account).await?;
                match known.filter(|known| known.subject() == subject && known.told_at.is_none()) {
                    Some(claim) => {
                        Ok(rows.put_root_claim(tx, &RootClaim { told_at: Some(now), ..claim }).await?)
                    }
                    None => Ok::<_, Error>(()),
                }
            })
        })
        .await
}
