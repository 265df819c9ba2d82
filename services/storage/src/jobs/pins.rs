//! The pins of all segments are looked at again and again, those first that were not looked at for longest.

use std::time::Duration;

use hbc_app::jobs::{JobError, Periodic};

use crate::app::App;
use crate::flows::pins::ensure_pinned;

/// Segments whose pins are looked at in one run.
const PINS: u32 = 50;

/// Looks at a page of pins.
pub struct CheckPins;

impl Periodic for CheckPins {
    type App = App;
    const KIND: &'static str = "pins.check";

    fn period(app: &App) -> Duration {
        Duration::from_secs(app.reconcile.every_seconds.max(1))
    }

    async fn run(app: &App) -> Result<(), JobError> {
        let before = app.clock.now().minus(Self::period(app));
        let (mut seen, mut lost) = (Vec::new(), Vec::new());
        let mut outcome = Ok(());
        for segment in app.store.segments_unseen_since(before, PINS).await? {
            match ensure_pinned(app, &segment).await {
                Ok(true) => seen.push(segment.cid),
                Ok(false) => lost.push(segment.cid),
                Err(error) => {
                    outcome = Err(error.into());
                    break;
                }
            }
        }
        // What was seen before IPFS went away counts all the same.
        app.store.pins_seen(seen, lost, app.clock.now()).await?;
        outcome
    }
}
