//! Approval, suspension and the end of agencies: operators sign, auth signs beside them, and the ledger decides when it is
//! enough.

use hbc_app::jobs::enqueue;
use hbc_chain::payload::{Staff, StaffStatus};
use hbc_db::Lock;
use hbc_db::Tx;
use hbc_types::account::Standing;
use hbc_types::ids::{AccountId, AgencyId, SessionId};
use hbc_types::wire::auth::{AgencyView, Decision, Denial, SigningPassword};
use hbc_types::{Digest, Timestamp};

use crate::app::App;
use crate::domain::input::Faults;
use crate::domain::staff::{Signed, StaffChange, StaffKey, present, successor};
use crate::error::Error;
use crate::flows::staff_votes::{Deciding, Vote, add, change, is_about, is_complete, operator_key, seen};
use crate::flows::{account, agencies, sessions, staff_keys};
use crate::jobs::push;
use crate::jobs::{TellDenial, TellStanding};
use crate::store::Rows;
use crate::store::staff::AUTH;

/// What an operator is told who decides about an agency that is no more.
const CLOSED: &str = "the agency closed its account: that is for ever";

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
    if account.ended_at.is_some() {
        return Err(Error::Conflict("the agency was ended for good"));
    }
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
    let vouched = Vouched {
        agency: agency.clone(),
        by_operator: (operator.0.to_string(), change.sign(&key, now)?),
        by_auth: change.sign(&app.service_key, now)?,
        end: StaffChange { nonce: change.nonce + 1, status: StaffStatus::Revoked, ..change.clone() }
            .sign(&key, now)?,
        change,
    };
    app.store.write(move |tx, rows| Box::pin(async move { vouch_in(&rows, tx, vouched, now).await })).await?;
    app.finality.wake();
    seen(app, &deciding).await
}

/// What an operator signed for an agency, and auth.
#[derive(Clone, Debug)]
struct Vouched {
    agency: AgencyId,
    change: StaffChange,
    by_operator: (String, Signed),
    by_auth: Signed,
    /// The end of its key after this change, for the case that another one waits to take its place.
    end: Signed,
}

async fn vouch_in(rows: &Rows, tx: &mut Tx, vouched: Vouched, now: Timestamp) -> Result<(), Error> {
    let Vouched { agency, change, by_operator: (operator, by_operator), by_auth, end } = vouched;
    let account = rows.account(&mut *tx, agency.as_str()).await?.ok_or(Error::NotFound)?;
    if account.standing == Standing::Closed {
        return Err(Error::Conflict(CLOSED));
    }
    let keys = rows.staff_keys(&mut *tx, &agency).await?;
    let (key, round) = (present(&keys, &account.public_key), account.staff_round);
    let signatures = rows.staff_signatures(&mut *tx, &agency).await?;
    let this_round: Vec<_> =
        signatures.iter().filter(|signature| (signature.key, signature.round) == (key, round)).collect();
    let active = StaffStatus::Active.code();
    if !is_about(&change, &account) || this_round.iter().any(|signature| signature.status != active) {
        return Err(Error::Conflict("an earlier change of the agency is not final yet"));
    }
    for (signer, signed) in [(AUTH, &by_auth), (operator.as_str(), &by_operator)] {
        if this_round.iter().all(|signature| signature.signer != signer) {
            let vote =
                Vote { agency: &agency, key, round, signer, status: StaffStatus::Active, signed_at: now };
            add(rows, tx, vote, signed, now).await?;
        }
    }
    if let Some(next) = successor(&keys, &account.public_key) {
        // The end that was signed with it has the place of the suspension.
        let mut next = next.clone();
        (next.ending, next.ending_by) = (Some(end.jws), Some(operator));
        rows.change_staff_key(tx, &mut next).await?;
    }
    Ok(())
}

/// Suspends an approved agency: one operator is enough, it takes effect before the ledger says so, and its sessions
/// end. Suspending it again changes nothing.
pub async fn suspend(app: &App, deciding: Deciding<'_>, decision: Decision) -> Result<Denial, Error> {
    stop(app, deciding, decision, StaffStatus::Suspended).await
}

/// Ends an agency that was approved once: like a suspension, but for ever, with whatever keys it has or asked for.
pub async fn revoke(app: &App, deciding: Deciding<'_>, decision: Decision) -> Result<Denial, Error> {
    stop(app, deciding, decision, StaffStatus::Revoked).await
}

async fn stop(
    app: &App,
    deciding: Deciding<'_>,
    decision: Decision,
    status: StaffStatus,
) -> Result<Denial, Error> {
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
    let change = change(app, &account, status).await?;
    let keys = app.store.rows.staff_keys(app.store.db.reads(), agency).await?;
    let next = successor(&keys, &account.public_key)
        .map(|next| {
            let end = StaffChange { public_key: next.public_key, nonce: 1, ..change.clone() };
            Ok::<_, Error>((next.n, end.sign(&key, now)?))
        })
        .transpose()?;
    let signed = change.sign(&key, now)?;
    let stopped =
        Stopped { agency: agency.clone(), operator: operator.0.to_string(), reason, change, signed, next };
    // No program of the agency gets a token meanwhile: it could go on for ever.
    let locks = vec![Lock::exclusive(agency.as_str())];
    let ended = app
        .store
        .write_locked(locks, move |tx, rows| Box::pin(async move { stop_in(&rows, tx, stopped, now).await }))
        .await?;
    app.finality.wake();
    let effective = push::told(app, agency.as_str()).await?;
    push::all_told(app, &ended).await?;
    Ok(Denial { since: now, effective })
}

/// What an operator signed against an agency.
#[derive(Clone, Debug)]
struct Stopped {
    agency: AgencyId,
    operator: String,
    reason: String,
    change: StaffChange,
    signed: Signed,
    /// The end of the key that is about to take the place of its own.
    next: Option<(i64, Signed)>,
}

async fn stop_in(
    rows: &Rows,
    tx: &mut Tx,
    stopped: Stopped,
    now: Timestamp,
) -> Result<Vec<SessionId>, Error> {
    let Stopped { agency, operator, reason, change, signed, next } = stopped;
    let mut account = rows.account(&mut *tx, agency.as_str()).await?.ok_or(Error::NotFound)?;
    if account.standing == Standing::Closed {
        return Err(Error::Conflict(CLOSED));
    }
    let ends = change.status == StaffStatus::Revoked;
    let is_done = if ends { account.ended_at.is_some() } else { account.standing != Standing::Active };
    if is_done {
        return Ok(Vec::new());
    }
    if !is_about(&change, &account) {
        return Err(Error::Conflict("the agency changed meanwhile"));
    }
    let keys = rows.staff_keys(&mut *tx, &agency).await?;
    let (key, round) = (present(&keys, &account.public_key), account.staff_round);
    let signatures = rows.staff_signatures(&mut *tx, &agency).await?;
    let stops = |status: &str| status != StaffStatus::Active.code();
    if signatures.iter().any(|other| (other.key, other.round) == (key, round) && stops(&other.status)) {
        return Err(Error::Conflict("an earlier change of the agency is not final yet"));
    }
    account.standing = Standing::Suspended;
    account.reason = Some(reason);
    account.revision += 1;
    account.ended_at = ends.then_some(now);
    rows.update_account(tx, &account).await?;
    let (signer, status) = (operator.as_str(), change.status);
    let vote = Vote { agency: &agency, key, round, signer, status, signed_at: now };
    add(rows, tx, vote, &signed, now).await?;
    if ends {
        staff_keys::end_others(rows, tx, &account, (signer, next), now).await?;
    }
    enqueue::<TellStanding>(tx, &account.id, now).await?;
    enqueue::<TellDenial>(tx, &account.id, now).await?;
    sessions::end_all(rows, tx, agency.as_str(), None, "suspended", now).await
}

/// A staff transaction is in a final block: counts it, and when a round is complete lets it take effect. A suspension or
/// an end takes effect whoever sent it: an operator may give it straight to a ledger node. A closed agency stays closed.
/// Runs in the transaction that applies the block.
pub async fn finalised(
    rows: &Rows,
    tx: &mut Tx,
    txid: Digest,
    change: &Staff,
    approvals: u32,
    now: Timestamp,
) -> Result<(), Error> {
    let mut signature = rows.staff_signature(&mut *tx, txid).await?;
    if let Some(signature) = signature.as_mut().filter(|signature| signature.final_at.is_none()) {
        signature.final_at = Some(now);
        rows.finalise_staff_signature(tx, signature).await?;
    }
    let Some(mut account) = rows.agency_by_key(&mut *tx, change.public.as_bytes()).await? else {
        return match signature {
            // Of a key that waits, or that had its place before.
            Some(signature) => staff_keys::finalised(rows, tx, &signature, change, approvals, now).await,
            None => Ok(()),
        };
    };
    let AccountId::Agency(id) = account.id.clone() else { return Ok(()) };
    if account.standing == Standing::Closed || u64::try_from(account.staff_round).ok() != Some(change.nonce) {
        return Ok(());
    }
    let keys = rows.staff_keys(&mut *tx, &id).await?;
    let standing = match change.status {
        StaffStatus::Suspended => Standing::Suspended,
        StaffStatus::Revoked => {
            account.ended_at = account.ended_at.or(Some(now));
            note_end(rows, tx, &keys, &account.public_key, now).await?;
            Standing::Suspended
        }
        StaffStatus::Active => {
            let signatures = rows.staff_signatures(&mut *tx, &id).await?;
            let round = (present(&keys, &account.public_key), account.staff_round);
            if !is_complete(&signatures, round, approvals) {
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
    // A key may have waited for the agency to come back.
    staff_keys::take_place(rows, tx, &id, now).await
}

/// The ledger ended the key that the account has.
async fn note_end(
    rows: &Rows,
    tx: &mut Tx,
    keys: &[StaffKey],
    public_key: &[u8; 32],
    now: Timestamp,
) -> Result<(), Error> {
    let Some(key) = keys.iter().find(|key| key.public_key == *public_key) else { return Ok(()) };
    let mut key = key.clone();
    key.ended_at = key.ended_at.or(Some(now));
    Ok(rows.change_staff_key(tx, &mut key).await?)
}
