//! The patient's access log: receipts, their batches, and the way from a receipt to the ledger.

use hbc_chain::merkle;
use hbc_chain::payload::{Payload, Receipts};
use hbc_chain::tx;
use hbc_db::Tx;
use hbc_types::ids::{PatientId, ReceiptId};
use hbc_types::outbox::NewTransaction;
use hbc_types::wire::access::{AccessView, ReceiptBody};
use hbc_types::{Digest, Timestamp};

use crate::app::{App, Compared, Who};
use crate::domain::receipts::{BATCH_LEAVES, gather, path};
use crate::error::Error;
use crate::flows::requests::active_caller;
use crate::flows::views::Names;
use crate::store;
use crate::store::receipts::{Placed, PlacedBatch};

/// A page of the caller's own log, newest first, below receipt number `before`.
pub async fn page(
    app: &App,
    who: &Who,
    patient: &PatientId,
    before: u64,
    limit: u32,
) -> Result<(Vec<AccessView>, Option<Timestamp>), Error> {
    app.read(async |tx| page_in(app, tx, who, (patient, before, limit)).await).await
}

async fn page_in(
    app: &App,
    tx: &mut Tx,
    who: &Who,
    (patient, before, limit): (&PatientId, u64, u32),
) -> Result<(Vec<AccessView>, Option<Timestamp>), Error> {
    active_caller(app, tx, who, app.clock.now()).await?;
    let found = store::receipts::page(tx, patient, before, limit).await?;
    let since = store::receipts::unanchored_since(tx, patient).await?;
    let mut names = Names::default();
    let mut items = Vec::with_capacity(found.len());
    for placed in found {
        let receipt = body(&placed)?;
        let actor_name = names.of_actor(app, tx, &receipt.actor).await?;
        let (txid, height) = placed.batch.map_or((None, None), |batch| (Some(batch.txid), batch.height));
        items.push(AccessView { receipt, actor_name, leaf: placed.leaf, txid, height });
    }
    Ok((items, since))
}

fn body(placed: &Placed) -> Result<ReceiptBody, Error> {
    serde_json::from_str(&placed.text).map_err(|_other| hbc_db::DbError::BadValue { column: "body" }.into())
}

/// A receipt with its place in a final batch: everything of its proof but the transaction's.
#[derive(Debug)]
pub struct Located {
    /// The body.
    pub body: serde_json::Value,
    /// The salt.
    pub salt: [u8; 32],
    /// Where it stands.
    pub batch: PlacedBatch,
    /// The path to the batch's root.
    pub path: Vec<Digest>,
}

/// Finds the caller's own receipt and its path; one that is not in a final block yet has no proof.
pub async fn locate(app: &App, who: &Who, patient: &PatientId, id: &ReceiptId) -> Result<Located, Error> {
    app.read(async |tx| locate_in(app, tx, who, patient, id).await).await
}

async fn locate_in(
    app: &App,
    tx: &mut Tx,
    who: &Who,
    patient: &PatientId,
    id: &ReceiptId,
) -> Result<Located, Error> {
    let bad = |column| Error::Db(hbc_db::DbError::BadValue { column });
    active_caller(app, tx, who, app.clock.now()).await?;
    let placed = store::receipts::find(tx, patient, id).await?.ok_or(Error::NotFound)?;
    let salt: [u8; 32] = placed.salt.as_slice().try_into().map_err(|_length| bad("salt"))?;
    if crate::domain::receipts::leaf(&salt, placed.text.as_bytes()) != placed.leaf {
        return Err(hbc_db::RowMacError { table: "receipts" }.into());
    }
    let batch = placed
        .batch
        .filter(|batch| batch.height.is_some())
        .ok_or(Error::Conflict("the receipt is not in a final block yet"))?;
    let leaves = store::receipts::batch_leaves(tx, batch.txid).await?;
    let path = path(&leaves, batch.place).ok_or_else(|| bad("place"))?;
    merkle::verify_inclusion(&placed.leaf, batch.place, batch.count, &path, &batch.root)
        .map_err(|_differs| hbc_db::RowMacError { table: "receipts" })?;
    let body = serde_json::from_str(&placed.text).map_err(|_other| bad("body"))?;
    Ok(Located { body, salt, batch, path })
}

/// Gathers waiting receipts into one batch and owes it to the ledger; says how many it took.
pub async fn gather_batch(app: &App) -> Result<u64, Error> {
    let (this, now) = (app.clone(), app.clock.now());
    let mut reads = app.db.reads().acquire().await.map_err(hbc_db::DbError::from)?;
    if store::receipts::waiting(&mut reads, 1).await?.is_empty() {
        return Ok(0);
    }
    drop(reads);
    // A journal that the ledger may know better tells it no head: that would pass for a later one.
    let head = match app.compared() {
        Compared::Known => Some(app.journal.head().await?),
        Compared::NotYet | Compared::Later(_) => None,
    };
    let count = app
        .db
        .write(move |db| {
            Box::pin(async move {
                let leaves = store::receipts::waiting(db, BATCH_LEAVES).await?;
                let Some(batch) = gather(&leaves) else { return Ok::<u64, Error>(0) };
                let payload = Payload::Receipts(Receipts {
                    chain: this.chain,
                    count: batch.count,
                    iat: now.unsigned_ms(),
                    rights: head,
                    root: batch.root,
                });
                let jws = tx::sign(&this.service_key, &payload)?;
                let txid = tx::txid(jws.as_bytes());
                store::receipts::insert_batch(db, &batch, txid, now).await?;
                let transaction = NewTransaction {
                    txid,
                    author: hbc_types::keys::PublicKey::of(&this.service_key).kid(),
                    kind: payload.kind().to_owned(),
                    reference: String::new(),
                    jws,
                };
                hbc_db::outbox::enqueue(db, &transaction, now).await?;
                Ok(batch.count)
            })
        })
        .await?;
    if count > 0 {
        app.finality.wake();
    }
    Ok(count)
}
