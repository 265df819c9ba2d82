//! access-policy is told how an account stands.

use hbc_app::jobs::{Job, JobError, Retry};
use hbc_types::ids::AccountId;

use crate::app::App;
use crate::flows::push;

/// Tells how an account stands.
pub struct TellStanding;

impl Job for TellStanding {
    type App = App;
    type Key = AccountId;
    const KIND: &'static str = "push.standing";
    const RETRY: Retry = push::RETRY;

    async fn run(app: &App, account: AccountId) -> Result<(), JobError> {
        match app.store.rows.account(app.db.reads(), account.as_str()).await? {
            Some(account) => Ok(push::put_subject(app, &account).await?),
            None => Ok(()),
        }
    }
}
