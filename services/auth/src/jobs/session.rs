//! access-policy is told that a session ended.

use hbc_app::jobs::{Job, JobError, Retry};
use hbc_types::ids::SessionId;

use crate::app::App;
use crate::flows::push;

/// Tells that a session ended.
pub struct TellSession;

impl Job for TellSession {
    type App = App;
    type Key = SessionId;
    const KIND: &'static str = "push.session";
    const RETRY: Retry = push::RETRY;

    async fn run(app: &App, session: SessionId) -> Result<(), JobError> {
        let found = app.store.rows.session(app.db.reads(), session.as_str()).await?;
        match found.and_then(|found| found.ended_at) {
            Some(ended_at) => Ok(push::deny_session(app, &session, ended_at).await?),
            None => Ok(()),
        }
    }
}
