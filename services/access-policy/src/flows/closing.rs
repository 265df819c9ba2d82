//! An account that its owner closed, as auth tells it: nothing of it counts any more, and nothing brings it back.
//!
//! Why: decision 0132.

use hbc_db::Tx;
use hbc_types::Timestamp;
use hbc_types::ids::{AccountId, PatientId};

use crate::app::App;
use crate::domain::floors::Changes;
use crate::domain::receipts::Occurrence;
use crate::error::Error;
use crate::flows::decide::receipt;
use crate::store;

/// Ends what an account has here, in the transaction that notes that it is closed.
pub async fn close(
    app: &App,
    tx: &mut Tx,
    account: &AccountId,
    (changes, now): (&Changes, Timestamp),
) -> Result<(), Error> {
    store::requests::close_all_of(tx, account.as_str(), now).await?;
    store::grants::forget_drafts_of(tx, account.as_str()).await?;
    match account {
        AccountId::Patient(patient) => close_patient(app, tx, patient, (changes, now)).await,
        // Grants to it are the patients': they stay as they are, and cover nobody.
        AccountId::Agency(_) | AccountId::Operator(_) | AccountId::App(_) | AccountId::Device(_) => Ok(()),
    }
}

/// Ends every grant of a patient, freezes what may still come, and says so in the log.
async fn close_patient(
    app: &App,
    tx: &mut Tx,
    patient: &PatientId,
    (changes, now): (&Changes, Timestamp),
) -> Result<(), Error> {
    let mut rights = match store::rights::stored_rights(tx, &app.protection, patient).await {
        Ok(Some(rights)) => rights,
        // Nobody's root was ever pinned: there are no grants, and no log.
        Ok(None) => return Ok(()),
        // Rows of another hand keep no account open: all decisions about them are denials already.
        Err(error) if error.is_tampering() => {
            tracing::error!(
                alarm = "tampered_row",
                error = &error as &dyn std::error::Error,
                "The grants of a closed account were changed by another hand: they are left as they are"
            );
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    for grant in &mut rights.grants {
        if grant.close(now)? {
            store::grants::update(tx, &app.protection, grant).await?;
        }
    }
    rights.pin.frozen_at.get_or_insert(now);
    rights.pin.kek_epoch = rights.pin.kek_epoch.saturating_add(1);
    store::rights::commit(tx, &app.protection, rights, (changes, now)).await?;
    receipt(app, tx, &Occurrence::closed(patient, now)).await?;
    Ok(())
}
