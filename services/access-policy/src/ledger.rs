//! What final blocks change here. A block reaches these functions only after its certificate was verified; a single
//! node's word counts for nothing.

use std::sync::Arc;

use hbc_app::{FinalEvent, LedgerEvents, Refusal};
use hbc_chain::payload::{Affiliation, Consent, ConsentKey, KeyStatus, Order, Payload, Revoke, Staff};
use hbc_chain::tx::Tx as LedgerTx;
use hbc_client::ledger::{FinalBlock, FinalTransaction};
use hbc_db::outbox::Settled;
use hbc_db::{Lock, Tx};
use hbc_types::ids::{GrantId, PatientId};
use hbc_types::{Digest, Timestamp};

use crate::app::App;
use crate::domain::consent::Draft;
use crate::domain::floors::Changes;
use crate::domain::staff::{Membership, Record};
use crate::error::Error;
use crate::flows::consents::{change_grant, numbers_now, protected};
use crate::store;
use crate::store::grants::StoredGrant;

/// This service's side of the ledger.
#[derive(Clone, Debug)]
pub struct Events(pub App);

impl LedgerEvents for Events {
    type Error = Error;
    type Changes = Changes;

    fn concerns(&self, payload: &Payload) -> bool {
        concerns_us(payload)
    }

    async fn locks_for(&self, transactions: &[FinalTransaction]) -> Result<Vec<Lock>, Error> {
        let txs: Vec<LedgerTx> = transactions.iter().filter_map(|found| found.tx.clone()).collect();
        Ok(locks(&touched(&self.0, &txs).await?))
    }

    async fn locks_for_refused(&self, txids: &[Digest]) -> Result<Vec<Lock>, Error> {
        let mut patients = Vec::new();
        let mut conn = self.0.db.reads().acquire().await.map_err(hbc_db::DbError::from)?;
        for txid in txids {
            if let Some(id) = store::grants::find_by_txid(&mut conn, *txid).await?
                && let Some(stored) = store::grants::find(&mut conn, &id).await?
            {
                patients.push(stored.grant.patient);
            }
        }
        Ok(locks(&patients))
    }

    async fn finalised(&self, db: &mut Tx, event: &FinalEvent, changes: &Changes) -> Result<(), Error> {
        let Some(tx) = &event.transaction.tx else { return Ok(()) };
        let at = At { height: event.height, now: event.now, changes };
        passing_over_tampered(apply(&self.0, db, tx, at).await)
    }

    async fn refused(&self, db: &mut Tx, refusal: &Refusal, changes: &Changes) -> Result<(), Error> {
        passing_over_tampered(refused(&self.0, db, refusal, changes).await)
    }

    async fn committed(&self, changes: Changes) -> Result<(), Error> {
        Ok(self.0.journal.append(&changes.take()).await?)
    }
}

/// Whether a transaction can mean anything here; the others, record anchors mostly, are passed over.
const fn concerns_us(payload: &Payload) -> bool {
    match payload {
        Payload::Grant(_)
        | Payload::Alter(_)
        | Payload::Revoke(_)
        | Payload::ConsentKey(_)
        | Payload::Staff(_)
        | Payload::Affiliation(_)
        | Payload::Order(_)
        | Payload::Receipts(_) => true,
        Payload::MemberVote(_)
        | Payload::ServiceKey(_)
        | Payload::Anchor(_)
        | Payload::Erase(_)
        | Payload::Release(_)
        | Payload::NodeEvent(_) => false,
    }
}

/// A patient whose rows were changed by hand is denied everywhere already; the chain goes on for everybody else.
fn passing_over_tampered(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.is_tampering() => {
            tracing::error!(
                alarm = "tampered_row",
                error = &error as &dyn std::error::Error,
                "A final transaction about rows that were changed by another hand is not applied"
            );
            Ok(())
        }
        result => result,
    }
}

/// The patients whose rights these transactions may change, for their locks.
async fn touched(app: &App, txs: &[LedgerTx]) -> Result<Vec<PatientId>, Error> {
    let mut conn = app.db.reads().acquire().await.map_err(hbc_db::DbError::from)?;
    let mut patients = Vec::new();
    for tx in txs {
        let kid = match tx.payload() {
            Payload::Grant(consent) | Payload::Alter(consent) => consent.key,
            Payload::Revoke(revoke) => revoke.key,
            Payload::ConsentKey(key) => key.key,
            Payload::MemberVote(_)
            | Payload::ServiceKey(_)
            | Payload::Staff(_)
            | Payload::Affiliation(_)
            | Payload::Order(_)
            | Payload::Anchor(_)
            | Payload::Erase(_)
            | Payload::Receipts(_)
            | Payload::Release(_)
            | Payload::NodeEvent(_) => continue,
        };
        if let Some(key) = store::grants::key(&mut conn, kid).await? {
            patients.push(key.patient);
        }
    }
    Ok(patients)
}

/// The locks for applying a block.
fn locks(patients: &[PatientId]) -> Vec<Lock> {
    patients.iter().map(|patient| Lock::exclusive(patient.as_str())).collect()
}

/// Whether a final transaction's effect stands here: rows that were set back to an older state of theirs, MACs included,
/// are found by this and by nothing else.
async fn stands(app: &App, db: &mut Tx, tx: &LedgerTx) -> Result<bool, Error> {
    match tx.payload() {
        Payload::Grant(_) => match store::grants::find_by_txid(db, tx.txid()).await? {
            Some(id) => {
                let stored = store::grants::find(db, &id).await?;
                Ok(stored.is_some_and(|stored| stored.grant.final_height.is_some()))
            }
            None => Ok(true),
        },
        Payload::Revoke(revoke) => {
            let stored = store::grants::find(db, &revoke.grant).await?;
            let of_key = stored.filter(|stored| stored.grant.kid == Some(revoke.key));
            Ok(of_key.is_none_or(|stored| stored.grant.revoked_at.is_some()))
        }
        Payload::ConsentKey(key) if key.status == KeyStatus::Revoked => {
            let stored = store::grants::key(db, key.key).await?;
            Ok(stored.is_none_or(|stored| stored.revoked_at.is_some()))
        }
        Payload::Alter(consent) => {
            let stored = store::grants::find(db, &consent.grant).await?;
            let of_key = stored.filter(|stored| stored.grant.kid == Some(consent.key));
            Ok(of_key.is_none_or(|stored| {
                let grant = stored.grant;
                grant.ended_at.is_some() || grant.altered_by.is_some() || grant.seq >= Some(consent.seq)
            }))
        }
        Payload::Staff(change) => {
            let stored = store::staff::stored_staff(db, &app.protection, change.key).await?;
            let mut record = stored.unwrap_or_else(|| Record::new(change.key));
            // A vote that would still be news had no effect.
            Ok(!record.take(change, tx.kid(), &app.approvers))
        }
        Payload::Order(order) => {
            let stored = store::staff::stored_staff(db, &app.protection, order.subject).await?;
            let mut record = stored.unwrap_or_else(|| Record::new(order.subject));
            Ok(!record.take_order(order, tx.kid(), &app.approvers))
        }
        Payload::Affiliation(change) => {
            let (organisation, key) = (change.organisation, change.key);
            let stored = store::staff::stored_membership(db, &app.protection, organisation, key).await?;
            Ok(Membership::after(stored.as_ref(), change).is_none())
        }
        // They leave nothing behind here that could be set back and give somebody a right.
        Payload::ConsentKey(_)
        | Payload::MemberVote(_)
        | Payload::ServiceKey(_)
        | Payload::Anchor(_)
        | Payload::Erase(_)
        | Payload::Receipts(_)
        | Payload::Release(_)
        | Payload::NodeEvent(_) => Ok(true),
    }
}

/// Compares a block that was applied before with what stands here, and applies again what does not; says how many.
pub async fn audit_block(app: &App, block: &FinalBlock) -> Result<u64, Error> {
    let mut missing = 0;
    for tx in block.transactions.iter().filter_map(|final_tx| final_tx.tx.as_ref()) {
        if !concerns_us(tx.payload()) {
            continue;
        }
        let mut conn = app.db.reads().acquire().await.map_err(hbc_db::DbError::from)?;
        match stands(app, &mut conn, tx).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => {
                passing_over_tampered(Err(error))?;
                continue;
            }
        }
        drop(conn);
        missing += 1;
        tracing::error!(
            alarm = "restored_state",
            ledger.txid = %tx.txid(),
            ledger.height = block.height(),
            "A final transaction had no effect here any more: rows were set back; it is applied again"
        );
        let locks = locks(&touched(app, std::slice::from_ref(tx)).await?);
        let (this, tx, height, now) = (app.clone(), Arc::new(tx.clone()), block.height(), app.clock.now());
        app.change(locks, move |db, changes| {
            Box::pin(async move {
                let at = At { height, now, changes: &changes };
                passing_over_tampered(apply(&this, db, &tx, at).await)
            })
        })
        .await?;
    }
    Ok(missing)
}

/// In which block a transaction is final, and when that is applied here.
#[derive(Clone, Copy)]
struct At<'a> {
    height: u64,
    now: Timestamp,
    changes: &'a Changes,
}

/// Applies one final transaction.
async fn apply(app: &App, db: &mut Tx, tx: &LedgerTx, at: At<'_>) -> Result<(), Error> {
    match tx.payload() {
        Payload::Grant(consent) => granted(app, db, tx.txid(), consent, at).await,
        Payload::Alter(consent) => altered(app, db, tx.txid(), consent, at).await,
        Payload::Revoke(revoke) => revoked(app, db, tx.txid(), revoke, at).await,
        Payload::ConsentKey(key) if key.status == KeyStatus::Revoked => {
            key_revoked(app, db, tx.txid(), key, at).await
        }
        Payload::Receipts(_) => store::receipts::batch_final(db, tx.txid(), at.height).await,
        Payload::Staff(change) => staff_voted(app, db, tx.kid(), change, at.changes).await,
        Payload::Affiliation(change) => affiliated(app, db, change, at.changes).await,
        Payload::Order(order) => ordered(app, db, tx.kid(), order, at.changes).await,
        Payload::ConsentKey(_)
        | Payload::MemberVote(_)
        | Payload::ServiceKey(_)
        | Payload::Anchor(_)
        | Payload::Erase(_)
        | Payload::Release(_)
        | Payload::NodeEvent(_) => Ok(()),
    }
}

/// A vote about a staff profile is final.
async fn staff_voted(
    app: &App,
    db: &mut Tx,
    signer: Digest,
    change: &Staff,
    changes: &Changes,
) -> Result<(), Error> {
    let stored = store::staff::stored_staff(db, &app.protection, change.key).await?;
    let mut record = stored.unwrap_or_else(|| Record::new(change.key));
    if record.take(change, signer, &app.approvers) {
        store::staff::put_staff(db, &app.protection, &record, changes).await?;
    }
    Ok(())
}

/// An operator's order is final: those about apps count here.
async fn ordered(
    app: &App,
    db: &mut Tx,
    signer: Digest,
    order: &Order,
    changes: &Changes,
) -> Result<(), Error> {
    let stored = store::staff::stored_staff(db, &app.protection, order.subject).await?;
    let mut record = stored.unwrap_or_else(|| Record::new(order.subject));
    if record.take_order(order, signer, &app.approvers) {
        store::staff::put_staff(db, &app.protection, &record, changes).await?;
    }
    Ok(())
}

/// Somebody acts for an organisation from now on, or no longer.
async fn affiliated(app: &App, db: &mut Tx, change: &Affiliation, changes: &Changes) -> Result<(), Error> {
    let (organisation, key) = (change.organisation, change.key);
    let stored = store::staff::stored_membership(db, &app.protection, organisation, key).await?;
    match Membership::after(stored.as_ref(), change) {
        Some(membership) => store::staff::put_membership(db, &app.protection, &membership, changes).await,
        None => Ok(()),
    }
}

/// A grant is final: from now on it takes effect, unless it was revoked before.
async fn granted(app: &App, db: &mut Tx, txid: Digest, consent: &Consent, at: At<'_>) -> Result<(), Error> {
    follow_key(db, consent, txid, at.now).await?;
    let Some(id) = store::grants::find_by_txid(db, txid).await? else { return Ok(()) };
    with_grant(app, db, &id, (false, at), |stored, grant| {
        check_stored(stored, consent)?;
        Ok(grant.make_final(at.height)?)
    })
    .await
}

/// The key's next event continues after this one: a client may have sent it to a node by itself.
async fn follow_key(db: &mut Tx, consent: &Consent, txid: Digest, now: Timestamp) -> Result<(), Error> {
    let Some(mut key) = store::grants::key(db, consent.key).await? else { return Ok(()) };
    if key.last_final.0 < consent.seq {
        key.last_final = (consent.seq, Some(txid));
    }
    if key.last.0 <= consent.seq {
        key.last = key.last_final;
    }
    store::grants::put_key(db, &key, now).await
}

/// An alteration is final. Its body was never sent here, so nobody knows what the grant covers now: it stands still until
/// somebody shows the body; the patient may also revoke it and give another.
async fn altered(app: &App, db: &mut Tx, txid: Digest, consent: &Consent, at: At<'_>) -> Result<(), Error> {
    follow_key(db, consent, txid, at.now).await?;
    let stored = store::grants::find(db, &consent.grant).await?;
    let stored = stored.filter(|stored| stored.grant.kid == Some(consent.key));
    let Some(patient) = stored.map(|stored| stored.grant.patient) else { return Ok(()) };
    let numbers = numbers_now(db, &patient).await?;
    with_grant(app, db, &consent.grant, (true, at), |_, grant| {
        let is_news = grant.alter(txid, consent.seq, at.height)?;
        if is_news {
            // What existed then: how much of it counts, the body says.
            grant.numbers = numbers;
        }
        Ok(is_news)
    })
    .await
}

/// An ended grant is not under the patient's MAC; before its row may live again it must say what was signed.
fn check_stored(stored: &StoredGrant, consent: &Consent) -> Result<(), Error> {
    let draft = Draft::try_from(stored.clone())?;
    // The chain is the followed one; the place among the key's events and the custody give no right.
    let Consent { commitment, grant, iat, key, chain: _, custody: _, prev: _, seq: _ } = consent;
    let signed = draft.commitment() == *commitment
        && draft.grant.kid == Some(*key)
        && draft.grant.id == *grant
        && draft.grant.given_at.unsigned_ms() == *iat;
    if signed { Ok(()) } else { Err(hbc_db::RowMacError { table: "grants" }.into()) }
}

/// A revocation is final: it takes effect even if it was never sent here.
async fn revoked(app: &App, db: &mut Tx, txid: Digest, revoke: &Revoke, at: At<'_>) -> Result<(), Error> {
    let stored = store::grants::find(db, &revoke.grant).await?;
    match stored.filter(|stored| stored.grant.kid == Some(revoke.key)) {
        Some(_) => {
            with_grant(app, db, &revoke.grant, (true, at), |_, grant| Ok(grant.revoke(txid, at.now)?)).await
        }
        None => store::grants::remember_revocation(db, revoke.key, &revoke.grant, txid).await,
    }
}

/// A consent key is revoked: all its grants end.
async fn key_revoked(
    app: &App,
    db: &mut Tx,
    txid: Digest,
    revoked: &ConsentKey,
    at: At<'_>,
) -> Result<(), Error> {
    let now = at.now;
    let Some(mut key) = store::grants::key(db, revoked.key).await? else { return Ok(()) };
    if key.revoked_at.is_some() {
        return Ok(());
    }
    key.revoked_at = Some(now);
    store::grants::put_key(db, &key, now).await?;
    let stored = store::rights::stored_rights(db, &app.protection, &key.patient).await?;
    let Some(rights) = stored else { return Ok(()) };
    let its: Vec<GrantId> = rights
        .grants
        .iter()
        .filter(|grant| grant.kid == Some(revoked.key))
        .map(|grant| grant.id.clone())
        .collect();
    for id in its {
        with_grant(app, db, &id, (true, at), |_, grant| Ok(grant.revoke(txid, now)?)).await?;
    }
    Ok(())
}

async fn with_grant(
    app: &App,
    db: &mut Tx,
    id: &GrantId,
    (new_epoch, at): (bool, At<'_>),
    change: impl FnOnce(&StoredGrant, &mut crate::domain::grant::Grant) -> Result<bool, Error>,
) -> Result<(), Error> {
    let stored = store::grants::find(db, id).await?.ok_or(Error::NotFound)?;
    let patient = &stored.grant.patient;
    let Some(rights) = store::rights::stored_rights(db, &app.protection, patient).await? else {
        return Ok(());
    };
    let mut grant = protected(app, &rights, &stored)?;
    if !change(&stored, &mut grant)? {
        return Ok(());
    }
    let changes = (at.changes, at.now);
    change_grant(app, db, (rights, grant), new_epoch, changes, |_changed| Ok(true)).await?;
    Ok(())
}

/// The ledger refused a transaction of ours for ever.
async fn refused(app: &App, db: &mut Tx, refusal: &Refusal, changes: &Changes) -> Result<(), Error> {
    let Settled { kind, reference, .. } = &refusal.about;
    if kind != "consent.grant" {
        return Ok(());
    }
    let Ok(id) = GrantId::parse(reference) else { return Ok(()) };
    let Some(stored) = store::grants::find(db, &id).await? else { return Ok(()) };
    if let Some(kid) = stored.grant.kid
        && let Some(mut key) = store::grants::key(db, kid).await?
    {
        // The place is free again.
        key.last = key.last_final;
        store::grants::put_key(db, &key, refusal.now).await?;
    }
    let at = At { height: 0, now: refusal.now, changes };
    with_grant(app, db, &id, (false, at), |_, grant| Ok(grant.refuse(&refusal.reason, refusal.now)?)).await
}
