//! access-policy is told which numbers are final: they can no longer be voided.

use std::collections::BTreeMap;
use std::time::Duration;

use hbc_app::jobs::{Job, JobError, Retry};
use hbc_types::Digest;
use hbc_types::ids::IntentId;
use hbc_types::wire::access::{AnchoredItem, AnchoredRequest};

use crate::app::App;
use crate::store::TrustedRow;

/// Reports the numbers of an upload whose anchors are final.
pub struct Report;

impl Job for Report {
    type App = App;
    type Key = IntentId;
    const KIND: &'static str = "upload.report";
    const RETRY: Retry = Retry { longest: Duration::from_secs(30), ..Retry::STANDARD };

    async fn run(app: &App, intent: IntentId) -> Result<(), JobError> {
        // Sensitive segments come to their anchors later than the others: what is final is told, each anchor for itself.
        let mut anchors: BTreeMap<Digest, Vec<AnchoredItem>> = BTreeMap::new();
        for row in app.store.intent_records(&intent).await? {
            let trusted = TrustedRow::open(&app.index, row)?;
            let (Some(txid), Some(_height)) = (trusted.txid, trusted.height) else { continue };
            anchors.entry(txid).or_default().push(AnchoredItem {
                labels: trusted.labels(),
                n: trusted.row.n,
                commitment: trusted.row.commitment,
            });
        }
        let txids: Vec<Digest> = anchors.keys().copied().collect();
        for (txid, items) in anchors {
            app.policy.anchored(&AnchoredRequest { intent: intent.clone(), txid, items }).await?;
        }
        Ok(app.store.reported(&intent, txids, app.clock.now()).await?)
    }
}
