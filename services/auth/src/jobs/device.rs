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

/// Tells that a pairing ended, or a claimed code: what the patient granted the device until then is frozen.
pub struct TellPairing;

impl Job for TellPairing {
    type App = App;
    type Key = PairingId;
    const KIND: &'static str = "push.pairing";
    const RETRY: Retry = push::RETRY;

    async fn run(app: &App, pairing: PairingId) -> Result<(), JobError> {
        let (rows, reads) = (&app.store.rows, app.db.reads());
        if let Some(made) = rows.pairing(reads, &pairing).await? {
            return match made.ended_at {
                Some(ended_at) => Ok(push::end_pairing(app, (&made.device, &made.patient), ended_at).await?),
                None => Ok(()),
            };
        }
        // A code that ended before anything came of it: of another fingerprint, or by the patient.
        let Some(code) = rows.pairing_code(reads, &pairing).await? else { return Ok(()) };
        let (Some(device), Some(ended_at)) = (&code.progress.device, code.progress.ended_at) else {
            return Ok(());
        };
        let live = rows.pairings_of_patient(reads, &code.patient).await?;
        if live.iter().any(|other| other.device == *device && other.ended_at.is_none()) {
            return Ok(());
        }
        Ok(push::end_pairing(app, (device, &code.patient), ended_at).await?)
    }
}
