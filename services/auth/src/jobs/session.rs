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

/// Tells a patient's keys again, where they took the place of others: a database that was set back to those has them from here. A
/// refusal keeps nobody from signing in.
async fn tell_keys(app: &App, session: &Session) -> Result<(), JobError> {
    let account = app.store.rows.account(app.db.reads(), session.account.as_str()).await?;
    let Some(account) = account.filter(|account| account.root_certificate.is_some()) else { return Ok(()) };
    match push::pin(app, &account).await {
        Err(error) if error.status().is_some_and(|status| status < 500) => {
            tracing::warn!(account.id = %account.id, %error, "access-policy does not take a patient's keys");
            Ok(())
        }
        outcome => Ok(outcome?),
    }
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
            Some(open) if open.is_live(app.clock.now()) => {
                tell_keys(app, &open).await?;
                Ok(push::open_session(app, &open).await?)
            }
            Some(_) | None => Ok(()),
        }
    }
}
