//! Old sessions are forgotten, and what was never used.

use std::time::Duration;

use hbc_app::jobs::{JobError, Periodic};

use crate::app::App;
use crate::domain::floors::KINDS;
use crate::error::Error;

/// Forgets sessions that have been over for long.
pub struct Prune;

impl Periodic for Prune {
    type App = App;
    const KIND: &'static str = "forget.sessions";

    fn period(_app: &App) -> Duration {
        Duration::from_secs(600)
    }

    async fn run(app: &App) -> Result<(), JobError> {
        Ok(prune(app).await?)
    }
}

/// Forgets sessions that are over since a day (those of programs and devices since ten minutes), assertions that cannot come
/// again, challenges that nobody answered, questions of apps, old marks of logins, pairing codes of yesterday, and devices that
/// nobody paired within a day.
async fn prune(app: &App) -> Result<(), Error> {
    let now = app.clock.now();
    app.store.journal.floors().forget(KINDS, now);
    let day = Duration::from_secs(24 * 3600);
    let soon = now.minus(Duration::from_secs(600));
    app.store
        .write(move |tx, rows| {
            Box::pin(async move {
                rows.prune_sessions(tx, now.minus(day), soon).await?;
                rows.prune_assertions(tx, soon).await?;
                rows.prune_authorizations(tx, now.minus(day)).await?;
                rows.prune_challenges(tx, now).await?;
                rows.prune_root_claims(tx, now.minus(day * 30)).await?;
                rows.prune_devices(tx, now.minus(day)).await?;
                rows.prune_pairing_codes(tx, now.minus(day)).await?;
                Ok(rows.prune_throttle(tx, now.minus(day), now.minus(day * 90)).await?)
            })
        })
        .await
}
