//! The sessions of an app that was ended, one portion after the other.

use hbc_app::jobs::{Job, JobError, Retry};
use hbc_types::ids::AccountId;

use crate::app::App;
use crate::flows::apps;
use crate::jobs::push;

/// Ends the sessions of an app.
pub struct EndSessions;

impl Job for EndSessions {
    type App = App;
    type Key = AccountId;
    const KIND: &'static str = "sessions.end";
    const RETRY: Retry = push::RETRY;

    async fn run(app: &App, account: AccountId) -> Result<(), JobError> {
        let AccountId::App(id) = &account else { return Ok(()) };
        while apps::end_some(app, id).await? {}
        Ok(())
    }
}
