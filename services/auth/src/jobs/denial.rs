//! access-policy is told whether an account is denied.

use hbc_app::jobs::{Job, JobError, Retry};
use hbc_types::ids::AccountId;

use crate::app::App;
use crate::flows::push;

/// Tells whether an account is denied.
pub struct TellDenial;

impl Job for TellDenial {
    type App = App;
    type Key = AccountId;
    const KIND: &'static str = "push.denial";
    const RETRY: Retry = push::RETRY;

    async fn run(app: &App, account: AccountId) -> Result<(), JobError> {
        match app.store.rows.account(app.db.reads(), account.as_str()).await? {
            Some(account) => Ok(push::deny_subject(app, &account).await?),
            None => Ok(()),
        }
    }
}
