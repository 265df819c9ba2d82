//! The sessions of an app that was ended, one portion after the other.

use hbc_app::jobs::{Job, JobError, Retry};
use hbc_types::ids::AccountId;

use crate::app::App;
use crate::error::Error;
use crate::jobs::{end_session, push};

/// Sessions that end in one transaction.
const PORTION: usize = 200;

/// Ends the sessions of an app.
pub struct EndSessions;

impl Job for EndSessions {
    type App = App;
    type Key = AccountId;
    const KIND: &'static str = "sessions.end";
    const RETRY: Retry = push::RETRY;

    async fn run(app: &App, account: AccountId) -> Result<(), JobError> {
        while end_some(app, &account).await? {}
        Ok(())
    }
}

/// Ends a portion; says whether there were any.
async fn end_some(app: &App, account: &AccountId) -> Result<bool, Error> {
    let (account, now) = (account.clone(), app.clock.now());
    let ended = app.store.write(move |tx, rows| {
        Box::pin(async move {
            let mut some = rows.open_sessions(&mut *tx, account.as_str(), now).await?;
            some.truncate(PORTION);
            let any = !some.is_empty();
            for session in some {
                end_session(&rows, tx, session, "suspended", now).await?;
            }
            Ok::<_, Error>(any)
        })
    });
    ended.await
}
