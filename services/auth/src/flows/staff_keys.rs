//! Another staff key for an agency: it asks for one with its password, operators sign for it and for the end of the one
//! before, and the account takes it when the ledger has it. Until then the one before acts.
//!
//! Why: decision 0133.

use std::sync::Arc;

use hbc_app::jobs::enqueue;
use hbc_chain::payload::{AffiliationStatus, Staff, StaffStatus};
use hbc_db::Tx;
use hbc_types::Timestamp;
use hbc_types::account::{Role, Standing};
use hbc_types::ids::{AccountId, AgencyId};
use hbc_types::wire::auth::{AgencyView, KeyApproval, SigningPassword, StaffKeyAsked};

use crate::app::App;
use crate::domain::custody::{self, CustodyError, KeyOwner, KeyUse, Keys};
use crate::domain::staff::{Signed, StaffChange, StaffKey, present, successor};
use crate::error::Error;
use crate::flows::account::{Opened, open_keys};
use crate::flows::agencies::{self, Viewer};
use crate::flows::codes;
use crate::flows::login::{Proof, Proven, prove};
use crate::flows::members;
use crate::flows::staff_votes::{
    Deciding, Vote, add, change, hand_over, is_about, is_complete, operator_key, seen,
};
use crate::jobs::TellStanding;
use crate::store::Rows;
use crate::store::accounts::Account;
use crate::store::staff::{AUTH, StaffSignature};
use crate::store::wrapped_keys::{CodeWrap, WrappedKey};

/// What asking for a key leaves behind.
#[derive(Clone, Debug)]
struct Asked {
    proven: Proven,
    opened: Opened,
    public_key: [u8; 32],
    wrapped: WrappedKey,
    codes: Vec<CodeWrap>,
    memberships: Vec<(AgencyId, String)>,
}

/// Makes a fresh key, which waits for operators. It is wrapped together with the present one, under the password and under
/// fresh recovery codes: whatever opens the one opens the other, whichever the account has.
pub async fn ask(app: &App, agency: &AgencyId, own: &Account, proof: Proof) -> Result<StaffKeyAsked, Error> {
    let password = proof.password.clone();
    let proven = prove(app, &own.username, proof).await?;
    if proven.account.standing != Standing::Active {
        return Err(Error::Conflict("only an approved agency has a key on the ledger"));
    }
    let opened = open_keys(app, &proven.account, password.clone()).await?;
    let opened = opened.ok_or(Error::Broken("an agency's signing key is missing"))?;
    let next = custody::new_key(&app.random);
    let keys = Keys { key: opened.keys.key.clone(), other: Some(next.clone()) };
    let (id, now, present) = (own.id.clone(), app.clock.now(), proven.account.public_key);
    let (cost, random) = (app.passwords.cost(), app.random.clone());
    let work = move || {
        let owner = KeyOwner { key_use: KeyUse::Staff, account: id.as_str(), public_key: &present };
        let wrapped = custody::wrap_with_password(&keys, owner, &password, cost, &random)?;
        let account = id.as_str().to_owned();
        let wrapped = WrappedKey { account, key_use: KeyUse::Staff, cost, wrapped, created_at: now };
        Ok::<_, CustodyError>((wrapped, codes::make(&id, &present, Some(&keys), now, &random)?))
    };
    let (wrapped, (codes, written)) = app.passwords.run(work).await??;
    let memberships = members::sign_anew(app, agency, &next).await?;
    let answer = StaffKeyAsked {
        key: custody::kid(&custody::public_key(&next)),
        recovery_codes: written,
        members: u32::try_from(memberships.len()).unwrap_or(u32::MAX),
        organisation: members::organisation_of(app, agency, own).await?,
    };
    let public_key = custody::public_key(&next);
    let asked = Arc::new(Asked { proven, opened, public_key, wrapped, codes, memberships });
    let (agency, clock) = (agency.clone(), app.clock.clone());
    app.store
        .write(move |tx, rows| Box::pin(async move { ask_in(&rows, tx, &agency, &asked, clock.now()).await }))
        .await?;
    Ok(answer)
}

async fn ask_in(
    rows: &Rows,
    tx: &mut Tx,
    agency: &AgencyId,
    asked: &Asked,
    now: Timestamp,
) -> Result<(), Error> {
    let account = asked.proven.still(rows, tx).await?;
    asked.opened.still(rows, tx, &account.id).await?;
    if account.standing != Standing::Active || account.public_key != asked.proven.account.public_key {
        return Err(Error::Conflict("the agency changed meanwhile"));
    }
    let keys = rows.staff_keys(&mut *tx, agency).await?;
    if keys.iter().any(StaffKey::waits) || successor(&keys, &account.public_key).is_some() {
        return Err(Error::Conflict("another key waits already"));
    }
    let mut n = keys.last().map_or(0, |last| last.n + 1);
    if keys.is_empty() {
        let signatures = rows.staff_signatures(&mut *tx, agency).await?;
        rows.insert_staff_key(tx, &agencies::first_key(agency, &account, &signatures)).await?;
        n += 1;
    }
    rows.insert_staff_key(tx, &StaffKey::asked(agency.clone(), n, asked.public_key, now)).await?;
    rows.put_wrapped_key(tx, &asked.wrapped).await?;
    rows.replace_codes(tx, agency.as_str(), &asked.codes, now).await?;
    rows.take_next_memberships(tx, agency).await?;
    let present = rows.memberships_of(&mut *tx, agency).await?;
    let members = present.iter().filter(|known| known.status == AffiliationStatus::Active);
    if !members.map(|known| &known.member).eq(asked.memberships.iter().map(|(member, _jws)| member)) {
        return Err(Error::Conflict("somebody was taken in or left meanwhile: ask again"));
    }
    for (member, jws) in &asked.memberships {
        rows.put_next_membership(tx, agency, member, jws).await?;
    }
    Ok(())
}

/// Withdraws the key that waits, unless enough operators have signed for it.
pub async fn withdraw(
    app: &App,
    agency: &AgencyId,
    own: &Account,
    proof: Proof,
) -> Result<AgencyView, Error> {
    let proven = prove(app, &own.username, proof).await?;
    let (now, id) = (app.clock.now(), agency.clone());
    app.store
        .write(move |tx, rows| {
            Box::pin(async move {
                let account = proven.still(&rows, tx).await?;
                if drop_waiting(&rows, tx, &id, now).await? {
                    return Ok(());
                }
                let keys = rows.staff_keys(&mut *tx, &id).await?;
                Err(match successor(&keys, &account.public_key) {
                    Some(_) => Error::Conflict("operators have signed for the key"),
                    None => Error::NotFound,
                })
            })
        })
        .await?;
    let account = agencies::find(app, agency).await?.ok_or(Error::NotFound)?;
    let viewer = Viewer { account: account.id.clone(), role: Role::Agency };
    agencies::view(app, &account, &viewer).await
}

/// Takes back the key that waits, if one does; says whether. The ledger never gets auth's signature for it.
pub async fn drop_waiting(
    rows: &Rows,
    tx: &mut Tx,
    agency: &AgencyId,
    now: Timestamp,
) -> Result<bool, Error> {
    let keys = rows.staff_keys(&mut *tx, agency).await?;
    let Some(waiting) = keys.iter().find(|key| key.waits()) else { return Ok(false) };
    let mut waiting = waiting.clone();
    waiting.ended_at = Some(now);
    rows.change_staff_key(tx, &mut waiting).await?;
    rows.take_next_memberships(tx, agency).await?;
    Ok(true)
}

/// What an operator signs about a key: its profile, and the end of the one before. auth's signature goes to the ledger with
/// the last that is needed, and not before: until then nobody's votes make it act.
#[derive(Clone, Debug)]
struct Approved {
    agency: AgencyId,
    public_key: [u8; 32],
    operator: String,
    by_operator: Signed,
    by_auth: Signed,
    end: (StaffChange, Signed),
}

/// An operator signs for the key that an agency asked for. Signing again changes nothing.
pub async fn approve(app: &App, deciding: Deciding<'_>, approval: KeyApproval) -> Result<AgencyView, Error> {
    let Deciding { operator, agency, origin } = deciding.clone();
    let KeyApproval { key: kid, password, totp } = approval;
    let account = agencies::find(app, agency).await?.ok_or(Error::NotFound)?;
    let key = operator_key(app, operator.1, SigningPassword { password, totp }, origin).await?;
    let keys = app.store.rows.staff_keys(app.store.db.reads(), agency).await?;
    let asked = keys.iter().find(|key| custody::kid(&key.public_key) == kid).ok_or(Error::NotFound)?;
    if account.standing != Standing::Active {
        return Err(Error::Conflict("the agency is not in good standing"));
    }
    let now = app.clock.now();
    let end = change(app, &account, StaffStatus::Revoked).await?;
    let profile =
        StaffChange { public_key: asked.public_key, nonce: 0, status: StaffStatus::Active, ..end.clone() };
    let signed_end = end.sign(&key, now)?;
    let approved = Approved {
        agency: agency.clone(),
        public_key: asked.public_key,
        operator: operator.0.to_string(),
        by_operator: profile.sign(&key, now)?,
        by_auth: profile.sign(&app.service_key, now)?,
        end: (end, signed_end),
    };
    let approvals = app.approvals;
    app.store
        .write(move |tx, rows| Box::pin(async move { approve_in(&rows, tx, approved, approvals, now).await }))
        .await?;
    app.finality.wake();
    seen(app, &deciding).await
}

async fn approve_in(
    rows: &Rows,
    tx: &mut Tx,
    approved: Approved,
    approvals: u32,
    now: Timestamp,
) -> Result<(), Error> {
    let Approved { agency, public_key, operator, by_operator, by_auth, end: (end, signed_end) } = approved;
    let account = rows.account(&mut *tx, agency.as_str()).await?.ok_or(Error::NotFound)?;
    let keys = rows.staff_keys(&mut *tx, &agency).await?;
    let asked = keys.iter().find(|key| key.public_key == public_key);
    let mut asked = asked.cloned().ok_or(Error::Broken("a staff key is gone"))?;
    let signatures = rows.staff_signatures(&mut *tx, &agency).await?;
    let mut its: Vec<&str> =
        signatures.iter().filter(|one| one.key == asked.n).map(|one| one.signer.as_str()).collect();
    if its.contains(&operator.as_str()) {
        return Ok(());
    }
    if !asked.waits() {
        return Err(Error::Conflict("the key does not wait for operators"));
    }
    if account.standing != Standing::Active || !is_about(&end, &account) {
        return Err(Error::Conflict("the agency changed meanwhile"));
    }
    let status = StaffStatus::Active;
    let vote = |signer| Vote { agency: &agency, key: asked.n, round: 0, signer, status, signed_at: now };
    add(rows, tx, vote(&operator), &by_operator, now).await?;
    its.push(&operator);
    if its.len() >= usize::try_from(approvals).unwrap_or(usize::MAX) {
        add(rows, tx, vote(AUTH), &by_auth, now).await?;
        asked.signed_at = Some(now);
        (asked.ending, asked.ending_by) = (Some(signed_end.jws), Some(operator.clone()));
        rows.change_staff_key(tx, &mut asked).await?;
    }
    Ok(())
}

/// The agency was ended: a key that waits is taken back, and one that operators signed for is ended as soon as the ledger
/// knows it.
pub async fn end_others(
    rows: &Rows,
    tx: &mut Tx,
    account: &Account,
    (operator, end): (&str, Option<(i64, Signed)>),
    now: Timestamp,
) -> Result<(), Error> {
    let AccountId::Agency(agency) = &account.id else { return Ok(()) };
    drop_waiting(rows, tx, agency, now).await?;
    let keys = rows.staff_keys(&mut *tx, agency).await?;
    match (successor(&keys, &account.public_key), end) {
        (None, None) => Ok(()),
        (Some(next), Some((n, end))) if next.n == n => {
            let mut next = next.clone();
            (next.ending, next.ending_by) = (Some(end.jws), Some(operator.to_owned()));
            rows.change_staff_key(tx, &mut next).await?;
            take_place(rows, tx, agency, now).await
        }
        _ => Err(Error::Conflict("the agency changed meanwhile")),
    }
}

/// A transaction about a key that the account does not have is final: one that waits becomes active when enough have
/// signed, and one that was before is ended.
pub async fn finalised(
    rows: &Rows,
    tx: &mut Tx,
    signature: &StaffSignature,
    change: &Staff,
    approvals: u32,
    now: Timestamp,
) -> Result<(), Error> {
    let agency = &signature.agency;
    let keys = rows.staff_keys(&mut *tx, agency).await?;
    let key = keys.iter().find(|key| key.n == signature.key && key.public_key == *change.public.as_bytes());
    let Some(mut key) = key.cloned() else { return Ok(()) };
    match change.status {
        StaffStatus::Active => {
            let signatures = rows.staff_signatures(&mut *tx, agency).await?;
            if key.active_at.is_none() && is_complete(&signatures, (key.n, 0), approvals) {
                key.active_at = Some(now);
                rows.change_staff_key(tx, &mut key).await?;
                take_place(rows, tx, agency, now).await?;
            }
        }
        StaffStatus::Revoked if key.ended_at.is_none() => {
            key.ended_at = Some(now);
            rows.change_staff_key(tx, &mut key).await?;
        }
        StaffStatus::Suspended | StaffStatus::Revoked => {}
    }
    Ok(())
}

/// Gives the account the key that operators signed for, once the ledger has it and the agency is in good standing, and hands
/// the end of the one before to the ledger, after what takes the organisation's members along. Of an agency that was
/// ended, the key itself ends.
pub async fn take_place(rows: &Rows, tx: &mut Tx, agency: &AgencyId, now: Timestamp) -> Result<(), Error> {
    let Some(mut account) = rows.account(&mut *tx, agency.as_str()).await? else { return Ok(()) };
    let keys = rows.staff_keys(&mut *tx, agency).await?;
    let Some(mut next) =
        successor(&keys, &account.public_key).filter(|next| next.active_at.is_some()).cloned()
    else {
        return Ok(());
    };
    let (is_ended, is_closed) = (account.ended_at.is_some(), account.standing == Standing::Closed);
    if !is_ended && !is_closed && account.standing != Standing::Active {
        return Ok(());
    }
    let ended = match is_ended {
        true => (next.n, next.public_key),
        false => (present(&keys, &account.public_key), account.public_key),
    };
    // A closed one takes no key any more; the one before ends all the same.
    if !is_ended && !is_closed {
        account.public_key = next.public_key;
        account.staff_round = 1;
        account.revision += 1;
        rows.update_account(tx, &account).await?;
        enqueue::<TellStanding>(tx, &account.id, now).await?;
        members::follow(rows, tx, agency, &account, now).await?;
    }
    if let (Some(jws), Some(operator)) = (next.ending.take(), next.ending_by.take()) {
        hand_over(rows, tx, agency, (ended.0, &ended.1), (jws, &operator), now).await?;
        rows.change_staff_key(tx, &mut next).await?;
    }
    Ok(())
}
