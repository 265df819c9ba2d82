//! access-policy is told whether an account is denied.

use hbc_app::jobs::{Job, JobError, Retry};
use hbc_types::ids::AccountId;

use crate::app::App;
use crate::jobs::push;

/// Tells whether an account is denied.
pub struct TellDenial;

impl Job for TellDenial {
    type App = App;
    type Key = AccountId;
    const KIND: &'static str = "push.denial";
    const RETRY: Retry = push::RETRY;

    async fn run(app: &App, account: AccountId) -> Result<(), JobError> {
        if let AccountId::App(id) = &account {
            return match app.store.rows.app(app.db.reads(), id).await? {
                Some(stored) => Ok(push::deny_subject(app, &account, stored.standing).await?),
                None => Ok(()),
            };
        }
        match app.store.rows.account(app.db.reads(), account.as_str()).await? {
            Some(account) => Ok(push::deny_subject(app, &account.id, account.standing).await?),
            None => Ok(()),
        }
    }
}
