//! access-policy is told which numbers are final: they can no longer be voided.

use std::time::Duration;

use hbc_app::jobs::{Job, JobError, Retry};
use hbc_types::ids::IntentId;
use hbc_types::wire::access::{AnchoredItem, AnchoredRequest};

use crate::app::App;
use crate::flows::read;

/// Reports the numbers of an upload whose anchor is final.
pub struct Report;

impl Job for Report {
    type App = App;
    type Key = IntentId;
    const KIND: &'static str = "upload.report";
    const RETRY: Retry = Retry { longest: Duration::from_secs(30), ..Retry::STANDARD };

    async fn run(app: &App, intent: IntentId) -> Result<(), JobError> {
        let Some(txid) = app.store.intent_segments(&intent).await?.first().map(|segment| segment.txid) else {
            return Ok(());
        };
        let mut items = Vec::new();
        for row in app.store.intent_records(&intent).await? {
            let trusted = read::trust(app, row)?;
            items.push(AnchoredItem {
                labels: trusted.labels(),
                n: trusted.row.n,
                commitment: trusted.row.commitment,
            });
        }
        app.policy.anchored(&AnchoredRequest { intent: intent.clone(), txid, items }).await?;
        Ok(app.store.reported(&intent, app.clock.now()).await?)
    }
}
