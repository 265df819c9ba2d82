//! The end of a pairing, as auth tells it. What lets a device write is its grant, which stands in [`super::consents`].
//!
//! Why: decision 0129.

use hbc_db::Lock;
use hbc_types::Timestamp;
use hbc_types::ids::{DeviceId, GranteeId, PatientId};

use crate::app::App;
use crate::domain::grant::Grant;
use crate::error::Error;
use crate::flows::consents::{change_grant, rights_to_change};
use crate::store;

/// A patient cut a device off at auth: what they granted it until `since` is frozen, as they could freeze it here.
pub async fn freeze_device(
    app: &App,
    device: DeviceId,
    patient: PatientId,
    since: Option<Timestamp>,
) -> Result<(), Error> {
    let (this, now, grantee) = (app.clone(), app.clock.now(), GranteeId::Device(device));
    let since = since.unwrap_or(now);
    app.change(vec![Lock::exclusive(patient.as_str())], move |tx, changes| {
        Box::pin(async move {
            let known = store::rights::stored_rights(tx, &this.protection, &patient).await?;
            let Some(mut rights) = known else { return Ok(()) };
            let open = |grant: &Grant| {
                grant.grantee == grantee && grant.given_at <= since && grant.frozen_at.is_none()
            };
            while let Some(grant) = rights.grants.iter().find(|grant| open(grant)).cloned() {
                change_grant(&this, tx, (rights, grant), false, (&changes, now), |grant| grant.freeze(now))
                    .await?;
                rights = rights_to_change(&this, tx, &patient).await?;
            }
            Ok(())
        })
    })
    .await
}
