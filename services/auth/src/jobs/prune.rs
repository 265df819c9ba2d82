//! Old sessions are forgotten.

use std::time::Duration;

use crate::app::App;
use crate::flows::sessions;

/// How often.
const PRUNE: Duration = Duration::from_secs(3600);

/// The loop.
pub async fn run(app: App) {
    loop {
        tokio::time::sleep(PRUNE).await;
        if let Err(error) = sessions::prune(&app).await {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "Old sessions could not be forgotten");
        }
    }
}
