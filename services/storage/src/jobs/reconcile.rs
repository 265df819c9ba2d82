//! The reconcile loop: whatever a crash, a lost answer or a lost block left behind is brought to its end here.
//!
//! Every step may run twice, and in several processes at once.

use std::str::FromStr;
use std::time::Duration;

use cid::Cid;
use hbc_service::Readiness;
use hbc_types::Digest;
use hbc_types::ids::IntentId;
use hbc_types::wire::access::{AnchoredItem, AnchoredRequest, VoidRequest};

use crate::app::{App, blocking};
use crate::error::Error;
use crate::flows::read;
use crate::store::SegmentRow;

/// Intents reported to access-policy in one round.
const REPORTS: u32 = 100;
/// Segments whose pins are looked at in one round.
const PINS: u32 = 50;

/// The loop.
pub async fn run(app: App, readiness: Readiness) {
    let mut checked = String::new();
    loop {
        round(&app, &readiness, &mut checked).await;
        let pause = tokio::time::sleep(Duration::from_secs(app.reconcile.every_seconds.max(1)));
        tokio::select! {
            () = pause => {}
            () = app.stir.notified() => {}
        }
    }
}

/// One round. A step that fails is logged and tried again in the next one; it does not hold up the others.
async fn round(app: &App, readiness: &Readiness, checked: &mut String) {
    match app.blobs.check().await {
        Ok(()) => readiness.set("ipfs", true, "answers"),
        Err(error) => readiness.set("ipfs", false, error.to_string()),
    }
    log("dead uploads", bury(app).await);
    log("final numbers", report(app).await);
    log("spooled segments", unspool(app).await);
    log("pins", check_pins(app, checked).await);
}

fn log(step: &'static str, outcome: Result<(), Error>) {
    if let Err(error) = outcome {
        let error: &dyn std::error::Error = &error;
        tracing::warn!(
            error,
            storage.step = step,
            "A step of the reconcile loop failed; it will be tried again"
        );
    }
}

/// Ends uploads that will never be committed: their pins and spool go, their numbers are voided.
async fn bury(app: &App) -> Result<(), Error> {
    let before = app.clock.now().minus(Duration::from_secs(app.reconcile.intent_seconds));
    for intent in app.store.unsettled_intents(before).await? {
        if app.under_way.contains(&intent) {
            continue;
        }
        app.store.kill_intent(&intent).await?;
        // It may have been committed a moment ago: then it is alive for good.
        if app.store.intent_state(&intent).await?.as_deref() == Some("dead") {
            // One that fails does not hold up the others.
            log("a dead upload", bury_one(app, &intent).await);
        }
    }
    Ok(())
}

async fn bury_one(app: &App, intent: &IntentId) -> Result<(), Error> {
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

/// Tells access-policy which numbers are final: they can no longer be voided.
async fn report(app: &App) -> Result<(), Error> {
    for (intent, txid) in app.store.unreported(REPORTS).await? {
        log("an upload's final numbers", report_one(app, &intent, txid).await);
    }
    Ok(())
}

async fn report_one(app: &App, intent: &IntentId, txid: Digest) -> Result<(), Error> {
    let mut items = Vec::new();
    for row in app.store.intent_records(intent).await? {
        let trusted = read::trust(app, row)?;
        items.push(AnchoredItem {
            labels: trusted.labels(),
            n: trusted.row.n,
            commitment: trusted.row.commitment,
        });
    }
    app.policy.anchored(&AnchoredRequest { intent: intent.clone(), txid, items }).await?;
    app.store.reported(intent, app.clock.now()).await
}

/// Takes segments out of the spool once IPFS is seen to hold them and their anchor is final.
async fn unspool(app: &App) -> Result<(), Error> {
    let before = app.clock.now().minus(Duration::from_secs(app.reconcile.spool_seconds));
    for segment in app.store.spooled(before).await? {
        if segment.height.is_none() || !ensure_pinned(app, &segment).await? {
            continue;
        }
        // All segments of an intent leave together: the last one to be seen pinned takes the folder away.
        let whole = app.store.anchored_segments(segment.txid).await?;
        let mut pinned = true;
        for other in whole.iter().filter(|other| other.intent == segment.intent) {
            pinned = pinned && ensure_pinned(app, other).await?;
        }
        if pinned {
            let (spool, intent) = (app.spool.clone(), segment.intent.clone());
            blocking(move || spool.remove(&intent).map_err(Error::Spool)).await?;
            app.store.unspooled(&segment.intent).await?;
        }
    }
    Ok(())
}

/// Looks at the pins of a page of segments, and begins again at the end.
async fn check_pins(app: &App, after: &mut String) -> Result<(), Error> {
    let page = app.store.segments_after(after, PINS).await?;
    for segment in &page {
        ensure_pinned(app, segment).await?;
        after.clone_from(&segment.cid);
    }
    if page.len() < PINS as usize {
        after.clear();
    }
    Ok(())
}

/// Whether a segment is pinned; one that is not is pinned again from the spool, if it is still there.
async fn ensure_pinned(app: &App, segment: &SegmentRow) -> Result<bool, Error> {
    let cid = Cid::from_str(&segment.cid).map_err(|_cid| Error::integrity("a CID", segment.cid.clone()))?;
    if app.blobs.is_pinned(cid).await? {
        return Ok(true);
    }
    let (spool, intent, position) = (app.spool.clone(), segment.intent.clone(), segment.position);
    let spooled = blocking(move || spool.read(&intent, position).map_err(Error::Spool)).await?;
    let Some(bytes) = spooled.filter(|bytes| Digest::of(bytes) == segment.digest) else {
        tracing::error!(
            alarm = "segment_lost",
            ipfs.cid = segment.cid,
            "IPFS has lost a segment, and the spool has it no more"
        );
        return Ok(false);
    };
    app.blobs.put(bytes).await?;
    tracing::warn!(ipfs.cid = segment.cid, "IPFS had lost a segment: it was pinned again from the spool");
    Ok(true)
}
