//! Anchors: waiting segments become transactions of the ledger, so that no transaction and no block tells which records came
//! together.
//!
//! A normal segment is anchored with its upload. A sensitive one waits for a while that nobody can foresee, and then goes
//! with those of other patients.
//!
//! Why: decision 0117.

use std::time::Duration;

use hbc_app::jobs::{Job, JobError, Retry, enqueue};
use hbc_chain::payload::{Anchor, Payload};
use hbc_chain::tx;
use hbc_db::Tx;
use hbc_types::Timestamp;
use hbc_types::ids::IntentId;
use hbc_types::keys::PublicKey;
use hbc_types::outbox::NewTransaction;

use crate::app::App;
use crate::error::Error;
use crate::store::pool;

/// The `kind` of anchors in the outbox.
const KIND: &str = "record.anchor";

/// Signs one transaction over the segments that are due and owes it to the ledger; it does nothing if none is. With `intent`, only
/// over that upload's.
pub async fn anchor_next(
    app: &App,
    db: &mut Tx,
    intent: Option<&IntentId>,
    now: Timestamp,
) -> Result<(), Error> {
    let segments = pool::next(db, intent, now).await?;
    if segments.is_empty() {
        return Ok(());
    }
    let payload =
        Payload::Anchor(Anchor { chain: app.chain, iat: now.unsigned_ms(), segments: segments.clone() });
    let jws =
        tx::sign(&app.service_key, &payload).map_err(|_never| Error::Fault("an anchor without JCS form"))?;
    let txid = tx::txid(jws.as_bytes());
    pool::anchored(db, &segments, txid).await?;
    let (author, kind) = (PublicKey::of(&app.service_key).kid(), KIND.to_owned());
    // It is of many uploads: they are found by it, not it by them.
    let owed = NewTransaction { txid, author, kind, reference: String::new(), jws };
    Ok(hbc_db::outbox::enqueue(db, &owed, now).await?)
}

/// Anchors what is due, until nothing of this upload waits any more.
pub struct AnchorWaiting;

impl Job for AnchorWaiting {
    type App = App;
    type Key = IntentId;
    const KIND: &'static str = "upload.anchor";
    /// What waits for another anchor of its patient to be final comes soon again.
    const RETRY: Retry = Retry { longest: Duration::from_secs(5), ..Retry::STANDARD };

    fn subject(intent: &IntentId) -> String {
        format!("anchor/{intent}")
    }

    async fn run(app: &App, intent: IntentId) -> Result<(), JobError> {
        let (this, id, now) = (app.clone(), intent, app.clock.now());
        let waits = app
            .db
            .write(move |tx| {
                Box::pin(async move {
                    anchor_next(&this, tx, None, now).await?;
                    let due = pool::next_due(tx, &id).await?;
                    if let Some(due) = due.filter(|due| *due > now) {
                        enqueue::<Self>(tx, &id, due).await?;
                    }
                    Ok::<_, Error>(due.is_some_and(|due| due <= now))
                })
            })
            .await?;
        app.finality.wake();
        if waits { Err(JobError::later("earlier_anchor_is_open")) } else { Ok(()) }
    }
}
