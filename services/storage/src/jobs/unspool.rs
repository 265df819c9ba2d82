//! An upload's segments leave the spool once their anchor is final and IPFS is seen to hold them.

use std::time::Duration;

use hbc_app::jobs::{Job, JobError, Retry};
use hbc_types::ids::IntentId;

use crate::app::{App, blocking};
use crate::error::Error;
use crate::flows::pins::ensure_pinned;

/// Takes an upload out of the spool.
pub struct Unspool;

impl Job for Unspool {
    type App = App;
    type Key = IntentId;
    const KIND: &'static str = "upload.unspool";
    const RETRY: Retry = Retry { longest: Duration::from_secs(30), ..Retry::STANDARD };

    /// Nothing else about an upload waits for its spool, nor the spool for a report.
    fn subject(intent: &IntentId) -> String {
        format!("spool/{intent}")
    }

    async fn run(app: &App, intent: IntentId) -> Result<(), JobError> {
        // All segments of an upload leave together.
        for segment in app.store.intent_segments(&intent).await? {
            if !ensure_pinned(app, &segment).await? {
                return Err(JobError::fault("segment_lost"));
            }
        }
        let (spool, id) = (app.spool.clone(), intent.clone());
        blocking(move || spool.remove(&id).map_err(Error::Spool)).await?;
        Ok(app.store.unspooled(&intent).await?)
    }
}
