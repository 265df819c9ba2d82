//! What access-policy is owed: told again and again until it has stored it.

use std::time::Duration;

use crate::app::App;
use crate::flows::push;

/// How often what is due is looked for.
const LOOK: Duration = Duration::from_millis(500);

/// The loop.
pub async fn run(app: App) {
    loop {
        if let Err(error) = push::round(&app).await {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "What access-policy is owed could not be looked through");
        }
        tokio::time::sleep(LOOK).await;
    }
}
