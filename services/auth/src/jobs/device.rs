//! access-policy is told of a device that a patient may grant something, and of a pairing that ended.

use hbc_app::jobs::{Job, JobError, Retry};
use hbc_types::ids::{DeviceId, PairingId};

use crate::app::App;
use crate::jobs::push;

/// Tells who a device is. That gives it no right.
pub struct TellDevice;

impl Job for TellDevice {
    type App = App;
    type Key = DeviceId;
    const KIND: &'static str = "push.device";
    const RETRY: Retry = push::RETRY;

    async fn run(app: &App, device: DeviceId) -> Result<(), JobError> {
        match app.store.rows.device(app.db.reads(), &device).await? {
            Some(device) => Ok(push::put_device(app, &device).await?),
            None => Ok(()),
        }
    }
}

/// Tells that a pairing ended: what the patient granted the device until then is frozen.
pub struct TellPairing;

impl Job for TellPairing {
    type App = App;
    type Key = PairingId;
    const KIND: &'static str = "push.pairing";
    const RETRY: Retry = push::RETRY;

    async fn run(app: &App, pairing: PairingId) -> Result<(), JobError> {
        let found = app.store.rows.pairing(app.db.reads(), &pairing).await?;
        match found.and_then(|pairing| pairing.ended_at.map(|ended_at| (pairing, ended_at))) {
            Some((pairing, ended_at)) => Ok(push::end_pairing(app, &pairing, ended_at).await?),
            None => Ok(()),
        }
    }
}
