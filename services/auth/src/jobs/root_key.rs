//! access-policy is told a patient's root key.

use hbc_app::jobs::{Job, JobError, Retry};
use hbc_types::account::Standing;
use hbc_types::ids::AccountId;

use crate::app::App;
use crate::jobs::push;

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
        Ok(push::root_claim(app, patient, claim.map(|claim| claim.keys)).await?)
    }
}
