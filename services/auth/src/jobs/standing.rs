//! access-policy is told how an account stands.

use hbc_app::jobs::{Job, JobError, Retry};
use hbc_types::ids::AccountId;

use crate::app::App;
use crate::jobs::push;

/// Tells how an account stands.
pub struct TellStanding;

impl Job for TellStanding {
    type App = App;
    type Key = AccountId;
    const KIND: &'static str = "push.standing";
    const RETRY: Retry = push::RETRY;

    async fn run(app: &App, account: AccountId) -> Result<(), JobError> {
        if let AccountId::App(id) = &account {
            return match app.store.rows.app(app.db.reads(), id).await? {
                Some(stored) => Ok(push::put_app(app, &stored).await?),
                None => Ok(()),
            };
        }
        match app.store.rows.account(app.db.reads(), account.as_str()).await? {
            Some(account) => Ok(push::put_subject(app, &account).await?),
            None => Ok(()),
        }
    }
}
