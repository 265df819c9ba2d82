//! A sample job: one file, and one line in the list of `main.rs`.

use hbc_app::jobs::{Job, JobError, Retry};
use hbc_types::ids::IntentId;

use crate::{App, PAUSE};

/// Looks at an upload.
pub struct Look;

impl Job for Look {
    type App = App;
    type Key = IntentId;
    const KIND: &'static str = "look";
    const RETRY: Retry = Retry { tries: 3, first: PAUSE, longest: PAUSE.saturating_mul(8) };

    async fn run(app: &App, intent: IntentId) -> Result<(), JobError> {
        app.work(intent.as_str()).await
    }
}
