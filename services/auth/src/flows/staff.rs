//! Approval and suspension of agencies: operators sign with keys that only their passwords open, auth signs beside them,
//! and the ledger decides when it is enough.

use ed25519_dalek::SigningKey;
use hbc_app::jobs::enqueue;
use hbc_chain::payload::{Staff, StaffStatus};
use hbc_db::Lock;
use hbc_db::Tx;
use hbc_types::account::{Role, Standing};
use hbc_types::ids::{AccountId, AgencyId, OperatorId};
use hbc_types::outbox::NewTransaction;
use hbc_types::wire::auth::{AgencyView, Decision, Denial, SigningPassword};
use hbc_types::{Digest, Timestamp};

use crate::app::App;
use crate::domain::input::Faults;
use crate::domain::staff::{Signed, StaffChange, public_organisation};
use crate::error::Error;
use crate::flows::account::{self, open_key};
use crate::flows::agencies::{self, Viewer};
use crate::flows::login::{Origin, Proof, prove};
use crate::flows::sessions;
use crate::jobs::push;
use crate::jobs::{TellDenial, TellStanding};
use crate::store::Rows;
use crate::store::accounts::Account;
use crate::store::staff::{AUTH, StaffSignature};

/// What an operator is told who decides about an agency that is no more.
const CLOSED: &str = "the agency closed its account: that is for ever";
/// The `kind` of staff transactions in the outbox.
const KIND: &str = "identity.staff";

/// The operator's key, opened with a freshly checked password.
pub async fn operator_key(
    app: &App,
    operator: &Account,
    signature: SigningPassword,
    origin: Origin,
) -> Result<SigningKey, Error> {
    let password = signature.password.clone();
    let proof = Proof { password: signature.password, totp: signature.totp, origin };
    let proven = prove(app, &operator.username, proof).await?;
    if proven.account.role != Role::Operator {
        return Err(Error::Forbidden("only operators sign staff profiles"));
    }
    let key = open_key(app, &proven.account, password).await?;
    key.ok_or(Error::Broken("an operator's signing key is missing"))
}

async fn change(app: &App, agency: &Account, status: StaffStatus) -> Result<StaffChange, Error> {
    let organisation = match &agency.organisation {
        Some(id) => agencies::find(app, id).await?.and_then(|organisation| organisation.contact.name),
        None => None,
    };
    let agency_type = agency.agency_type.ok_or(Error::NotFound)?;
    let name = agency.contact.name.as_deref().unwrap_or_default();
    Ok(StaffChange {
        chain: app.chain,
        public_key: agency.public_key,
        agency_type,
        organisation: public_organisation(agency_type, name, organisation.as_deref()),
        profile: agency.profile.clone().ok_or(Error::Broken("an agency has no profile"))?,
        nonce: u64::try_from(agency.staff_round).unwrap_or(0),
        status,
    })
}

/// An operator's decision about an agency: who, about whom, and from where.
#[derive(Clone, Debug)]
pub struct Deciding<'a> {
    /// The operator.
    pub operator: (&'a OperatorId, &'a Account),
    /// The agency.
    pub agency: &'a AgencyId,
    /// Where the request comes from.
    pub origin: Origin,
}

/// Adds an operator's approval; with the last one that is needed the ledger makes the agency active. Approving twice
/// changes nothing.
pub async fn approve(
    app: &App,
    deciding: Deciding<'_>,
    signature: SigningPassword,
) -> Result<AgencyView, Error> {
    vouch(app, deciding, signature, Standing::Pending).await
}

/// The same for one that was suspended, with the reason why it comes back.
pub async fn reinstate(app: &App, deciding: Deciding<'_>, decision: Decision) -> Result<AgencyView, Error> {
    let reason = reason(&decision)?;
    let (id, signature) = (deciding.agency.clone(), signature(decision));
    vouch(app, deciding.clone(), signature, Standing::Suspended).await?;
    note_reason(app, &id, Standing::Suspended, move |before| reinstated(before, &reason)).await?;
    seen(app, &deciding).await
}

/// Rejects an agency that waits: it is told why. Operators may approve it all the same, later.
pub async fn reject(app: &App, deciding: Deciding<'_>, decision: Decision) -> Result<AgencyView, Error> {
    let account = agencies::find(app, deciding.agency).await?.ok_or(Error::NotFound)?;
    let reason = reason(&decision)?;
    operator_key(app, deciding.operator.1, signature(decision), deciding.origin.clone()).await?;
    if account.standing != Standing::Pending {
        return Err(Error::Conflict("the agency does not wait for approval"));
    }
    note_reason(app, deciding.agency, Standing::Pending, move |_before| reason).await?;
    seen(app, &deciding).await
}

fn reason(decision: &Decision) -> Result<String, Error> {
    let mut faults = Faults::default();
    let reason = faults.required("reason", &decision.reason);
    faults.into_result().map_err(Error::Invalid)?;
    Ok(reason)
}

fn signature(decision: Decision) -> SigningPassword {
    SigningPassword { password: decision.password, totp: decision.totp }
}

/// Keeps the reason, unless a final block has changed meanwhile how the agency stands.
async fn note_reason(
    app: &App,
    agency: &AgencyId,
    standing: Standing,
    reason: impl FnOnce(Option<&str>) -> String + Clone + Send + 'static,
) -> Result<(), Error> {
    account::change(app, &AccountId::Agency(agency.clone()), move |account| {
        if account.standing == standing {
            account.reason = Some(reason(account.reason.as_deref()));
        }
    })
    .await
}

/// Why an agency comes back, behind why it was suspended: until enough operators have signed, it is.
fn reinstated(before: Option<&str>, reason: &str) -> String {
    const BACK: &str = ". To be reinstated: ";
    let suspended = before.and_then(|before| before.split(BACK).next()).unwrap_or("suspended");
    format!("{suspended}{BACK}{reason}")
}

/// The agency as the operator sees it now.
async fn seen(app: &App, deciding: &Deciding<'_>) -> Result<AgencyView, Error> {
    let account = agencies::find(app, deciding.agency).await?.ok_or(Error::NotFound)?;
    let viewer = Viewer { account: deciding.operator.1.id.clone(), role: Role::Operator };
    agencies::view(app, &account, &viewer).await
}

/// An operator signs for an agency that stands so.
async fn vouch(
    app: &App,
    deciding: Deciding<'_>,
    signature: SigningPassword,
    standing: Standing,
) -> Result<AgencyView, Error> {
    let Deciding { operator, agency, origin } = deciding.clone();
    let account = agencies::find(app, agency).await?.ok_or(Error::NotFound)?;
    let key = operator_key(app, operator.1, signature, origin).await?;
    if account.standing != standing {
        return Err(Error::Conflict(match account.standing {
            Standing::Active => "the agency is approved already",
            Standing::Pending => "the agency was not suspended: approve it",
            Standing::Suspended => "the agency is suspended: reinstate it",
            Standing::Closed => CLOSED,
        }));
    }
    let now = app.clock.now();
    let change = change(app, &account, StaffStatus::Active).await?;
    let by_operator = change.sign(&key, now)?;
    let by_auth = change.sign(&app.service_key, now)?;
    let (id, signer, round) = (agency.clone(), operator.0.clone(), account.staff_round);
    app.store
        .write(move |tx, rows| {
            Box::pin(async move {
                let present = rows.account(&mut *tx, id.as_str()).await?.ok_or(Error::NotFound)?;
                let signatures = rows.staff_signatures(&mut *tx, &id).await?;
                let this_round: Vec<_> =
                    signatures.iter().filter(|signature| signature.round == round).collect();
                if present.standing == Standing::Closed {
                    return Err(Error::Conflict(CLOSED));
                }
                if present.staff_round != round
                    || this_round.iter().any(|signature| signature.status != "active")
                {
                    return Err(Error::Conflict("an earlier change of the agency is not final yet"));
                }
                for (signer, signed) in [(AUTH, &by_auth), (signer.as_str(), &by_operator)] {
                    if this_round.iter().all(|signature| signature.signer != signer) {
                        add(&rows, tx, &id, round, signer, StaffStatus::Active, signed, now).await?;
                    }
                }
                Ok(())
            })
        })
        .await?;
    app.finality.wake();
    seen(app, &deciding).await
}

/// Stores a signature and owes its transaction to the ledger.
#[expect(clippy::too_many_arguments, reason = "it is one row and its transaction")]
async fn add(
    rows: &Rows,
    tx: &mut Tx,
    agency: &AgencyId,
    round: i64,
    signer: &str,
    status: StaffStatus,
    signed: &Signed,
    now: Timestamp,
) -> Result<(), Error> {
    let signature = StaffSignature {
        agency: agency.clone(),
        round,
        signer: signer.to_owned(),
        status: status.code().to_owned(),
        txid: signed.txid,
        signed_at: now,
        final_at: None,
    };
    rows.insert_staff_signature(tx, &signature).await?;
    let transaction = NewTransaction {
        txid: signed.txid,
        author: signed.author,
        kind: KIND.to_owned(),
        reference: agency.as_str().to_owned(),
        jws: signed.jws.clone(),
    };
    Ok(hbc_db::outbox::enqueue(tx, &transaction, now).await?)
}

/// Suspends an approved agency: one operator is enough, it takes effect before the ledger says so, and its sessions
/// end. Suspending it again changes nothing.
pub async fn suspend(app: &App, deciding: Deciding<'_>, decision: Decision) -> Result<Denial, Error> {
    let Deciding { operator, agency, origin } = deciding;
    let account = agencies::find(app, agency).await?.ok_or(Error::NotFound)?;
    let reason = reason(&decision)?;
    let key = operator_key(app, operator.1, signature(decision), origin).await?;
    match account.standing {
        Standing::Pending => return Err(Error::Conflict("the agency is not approved")),
        Standing::Closed => return Err(Error::Conflict(CLOSED)),
        Standing::Active | Standing::Suspended => {}
    }
    let now = app.clock.now();
    let change = change(app, &account, StaffStatus::Suspended).await?;
    let signed = change.sign(&key, now)?;
    let (id, signer) = (agency.clone(), operator.0.clone());
    // No program of the agency gets a token meanwhile: it could go on for ever.
    let locks = vec![Lock::exclusive(agency.as_str())];
    let ended = app
        .store
        .write_locked(locks, move |tx, rows| {
            Box::pin(async move {
                let mut account = rows.account(&mut *tx, id.as_str()).await?.ok_or(Error::NotFound)?;
                if account.standing != Standing::Active {
                    return Ok(Vec::new());
                }
                if u64::try_from(account.staff_round).unwrap_or(0) != change.nonce {
                    return Err(Error::Conflict("the agency changed meanwhile"));
                }
                account.standing = Standing::Suspended;
                account.reason = Some(reason);
                account.revision += 1;
                rows.update_account(tx, &account).await?;
                let (round, status) = (account.staff_round, StaffStatus::Suspended);
                add(&rows, tx, &id, round, signer.as_str(), status, &signed, now).await?;
                enqueue::<TellStanding>(tx, &account.id, now).await?;
                enqueue::<TellDenial>(tx, &account.id, now).await?;
                sessions::end_all(&rows, tx, id.as_str(), None, "suspended", now).await
            })
        })
        .await?;
    app.finality.wake();
    let effective = push::told(app, agency.as_str()).await?;
    push::all_told(app, &ended).await?;
    Ok(Denial { since: now, effective })
}

/// A staff transaction is in a final block: counts it, and when a round is complete lets it take effect. A suspension
/// takes effect whoever sent it: an operator may give it straight to a ledger node. A closed agency stays closed. Runs in
/// the transaction that applies the block.
pub async fn finalised(
    rows: &Rows,
    tx: &mut Tx,
    txid: Digest,
    change: &Staff,
    approvals: u32,
    now: Timestamp,
) -> Result<(), Error> {
    let signature = rows.staff_signature(&mut *tx, txid).await?;
    if let Some(mut signature) = signature.filter(|signature| signature.final_at.is_none()) {
        signature.final_at = Some(now);
        rows.finalise_staff_signature(tx, &signature).await?;
    }
    let Some(mut account) = rows.agency_by_key(&mut *tx, change.public.as_bytes()).await? else {
        return Ok(());
    };
    let AccountId::Agency(id) = account.id.clone() else { return Ok(()) };
    if account.standing == Standing::Closed || u64::try_from(account.staff_round).ok() != Some(change.nonce) {
        return Ok(());
    }
    let standing = match change.status {
        StaffStatus::Suspended | StaffStatus::Revoked => Standing::Suspended,
        StaffStatus::Active => {
            let signatures = rows.staff_signatures(&mut *tx, &id).await?;
            if !is_complete(&signatures, account.staff_round, approvals) {
                return Ok(());
            }
            Standing::Active
        }
    };
    account.staff_round += 1;
    if account.standing != standing {
        account.standing = standing;
        account.revision += 1;
        if standing == Standing::Active {
            // What it was rejected or suspended for is over.
            account.reason = None;
        }
        enqueue::<TellStanding>(tx, &account.id, now).await?;
        enqueue::<TellDenial>(tx, &account.id, now).await?;
    }
    rows.update_account(tx, &account).await?;
    if standing == Standing::Suspended {
        sessions::end_all(rows, tx, id.as_str(), None, "suspended", now).await?;
    }
    Ok(())
}

/// Whether auth and enough different operators are final in `round`.
fn is_complete(signatures: &[StaffSignature], round: i64, approvals: u32) -> bool {
    let of_round =
        || signatures.iter().filter(|signature| signature.round == round && signature.final_at.is_some());
    let operators = of_round().filter(|signature| signature.signer != AUTH).count();
    of_round().any(|signature| signature.signer == AUTH)
        && operators >= usize::try_from(approvals).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(signer: &str, round: i64, is_final: bool) -> StaffSignature {
        StaffSignature {
            agency: AgencyId::parse("agy-00000000000000000000000000000001").unwrap(),
            round,
            signer: signer.to_owned(),
            status: "active".to_owned(),
            txid: Digest::of(signer.as_bytes()),
            signed_at: Timestamp::from_ms(1),
            final_at: is_final.then(|| Timestamp::from_ms(2)),
        }
    }

    #[test]
    fn a_round_needs_auth_and_enough_operators_all_final() {
        let complete = |list: &[StaffSignature]| is_complete(list, 0, 2);
        let all = [signature(AUTH, 0, true), signature("op-1", 0, true), signature("op-2", 0, true)];
        assert!(complete(&all));
        assert!(!complete(&all[1..]));
        assert!(!complete(&all[..2]));
        assert!(!complete(&[all[0].clone(), all[1].clone(), signature("op-2", 0, false)]));
        assert!(!complete(&[all[0].clone(), all[1].clone(), signature("op-2", 1, true)]));
    }
}
