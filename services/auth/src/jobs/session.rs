//! access-policy is told that a session began, and that it ended.
//!
//! Why: decision 0119.

use hbc_app::jobs::{Job, JobError, Retry, enqueue};
use hbc_db::Tx;
use hbc_types::Timestamp;
use hbc_types::ids::SessionId;

use crate::app::App;
use crate::error::Error;
use crate::jobs::push;
use crate::store::Rows;
use crate::store::sessions::Session;

/// Ends a session and owes access-policy the news.
pub async fn end_session(
    rows: &Rows,
    tx: &mut Tx,
    mut session: Session,
    reason: &str,
    now: Timestamp,
) -> Result<(), Error> {
    session.ended_at = Some(now);
    session.end_reason = Some(reason.to_owned());
    rows.end_session(tx, &session).await?;
    Ok(enqueue::<TellSession>(tx, &session.id, now).await?)
}

/// Tells how a session stands.
pub struct TellSession;

impl Job for TellSession {
    type App = App;
    type Key = SessionId;
    const KIND: &'static str = "push.session";
    const RETRY: Retry = push::RETRY;

    async fn run(app: &App, session: SessionId) -> Result<(), JobError> {
        let found = app.store.rows.session(app.db.reads(), session.as_str()).await?;
        match found {
            Some(Session { ended_at: Some(ended_at), .. }) => {
                Ok(push::deny_session(app, &session, ended_at).await?)
            }
            Some(open) if open.is_live(app.clock.now()) => Ok(push::open_session(app, &open).await?),
            Some(_) | None => Ok(()),
        }
    }
}
