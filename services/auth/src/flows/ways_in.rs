//! What opens an account beside its password, and its end all at once: of whoever lost the password, or closes the account.

use hbc_app::jobs::enqueue;
use hbc_db::Tx;
use hbc_types::Timestamp;
use hbc_types::ids::{AccountId, SessionId};

use crate::error::Error;
use crate::flows::{authorizations, clients, passkeys, sessions, staff_keys};
use crate::jobs::TellRootClaim;
use crate::store::Rows;

/// Ends every session, the second factor, all passkeys, an agency's programs and the key that it asked for, and what a patient let apps in to; says which
/// sessions ended. That no second factor counts any more, the caller writes into the account.
pub async fn end_all(
    rows: &Rows,
    tx: &mut Tx,
    account: &AccountId,
    reason: &str,
    now: Timestamp,
) -> Result<Vec<SessionId>, Error> {
    rows.delete_factor(tx, account.as_str()).await?;
    let mut ended = sessions::end_all(rows, tx, account.as_str(), None, reason, now).await?;
    passkeys::remove_all(rows, tx, account, now).await?;
    match account {
        AccountId::Agency(agency) => {
            ended.extend(clients::remove_all(rows, tx, agency, now).await?);
            staff_keys::drop_waiting(rows, tx, agency, now).await?;
        }
        AccountId::Patient(patient) => {
            ended.extend(authorizations::send_away_in(rows, tx, patient, None, now).await?);
            // Whoever had the password may have claimed another root key.
            if rows.delete_root_claim(tx, patient).await? {
                enqueue::<TellRootClaim>(tx, account, now).await?;
            }
        }
        AccountId::Operator(_) | AccountId::App(_) | AccountId::Device(_) => {}
    }
    Ok(ended)
}
