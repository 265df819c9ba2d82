//! An upload that will never be committed is ended: its pins and spool go, its numbers are voided.

use std::time::Duration;

use hbc_app::jobs::{Job, JobError, Retry};
use hbc_types::ids::IntentId;
use hbc_types::wire::access::VoidRequest;

use crate::app::{App, blocking};
use crate::error::Error;
use crate::store::intents;

/// Ends an upload that was not committed in time, or failed. Owed from its beginning; its commit takes that back.
pub struct Abort;

impl Job for Abort {
    type App = App;
    type Key = IntentId;
    const KIND: &'static str = "upload.abort";
    const RETRY: Retry = Retry { longest: Duration::from_secs(30), ..Retry::STANDARD };

    async fn run(app: &App, intent: IntentId) -> Result<(), JobError> {
        if app.under_way.contains(&intent) {
            return Err(JobError::later("under_way"));
        }
        let id = intent.clone();
        app.db.write(move |tx| Box::pin(async move { intents::kill(tx, &id).await })).await?;
        // It may have been committed a moment ago: then it is alive for good.
        if app.store.intent_state(&intent).await?.as_deref() == Some("dead") {
            abort(app, &intent).await?;
        }
        Ok(())
    }
}

async fn abort(app: &App, intent: &IntentId) -> Result<(), Error> {
    let (spool, id) = (app.spool.clone(), intent.clone());
    for bytes in blocking(move || spool.segments(&id).map_err(Error::Spool)).await? {
        let cid = app.blobs.cid_of(bytes).await?;
        app.blobs.unpin(cid).await?;
    }
    app.policy.void(&VoidRequest { intent: intent.clone() }).await?;
    app.store.void_intent(intent, app.clock.now()).await?;
    let (spool, id) = (app.spool.clone(), intent.clone());
    blocking(move || spool.remove(&id).map_err(Error::Spool)).await?;
    tracing::info!(storage.intent = %intent, "An upload that was never committed was cleaned up");
    Ok(())
}
