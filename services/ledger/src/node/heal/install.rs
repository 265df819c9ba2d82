//! What no block proves goes over into the new database, and the new one takes the place of the damaged one.

use std::collections::HashMap;
use std::sync::Arc;

use hbc_chain::memory::Chain;
use hbc_chain::tx::Tx;
use hbc_types::keys::{Kid, PublicKey};

use super::new_database::NewDatabase;
use super::site::{HealError, Site, still_waits};
use crate::files::DataFolder;
use crate::store::{Carried, Store, StoredEvidence, StoredPromise};

/// A promise's row.
#[must_use]
pub fn promise(tx: &Tx) -> StoredPromise {
    StoredPromise { txid: tx.txid(), jws: tx.bytes().to_vec() }
}

/// The file in which everything that is carried over waits while healing goes on. One that cannot be read is
/// made anew.
pub async fn open_owed(data: &DataFolder, store: &Store) -> Result<Store, HealError> {
    let path = data.owed();
    match Store::open(&path, true, store.mac_key().clone()).await {
        Ok(owed) => Ok(owed),
        Err(error) if error.is_damage() => {
            tracing::error!(error = %error, "ALARM: what was put aside for healing cannot be read");
            data.discard(&path)?;
            Ok(Store::open(&path, true, store.mac_key().clone()).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Puts the new database in place. Answers its chain.
///
/// # Errors
/// When files cannot be written; the mark stays, and the next attempt begins anew.
pub async fn install(site: &Site<'_>, new_database: NewDatabase) -> Result<Chain, HealError> {
    let NewDatabase { fresh, chain, mut refused, lies } = new_database;
    let now_ms = site.clock.now().ms();
    let mut hold = site.store.hold().await;
    let mut damaged = hold.carried().await;
    for (table, rows) in hold.missing(&damaged) {
        tracing::error!(
            store.table = table.name(),
            store.rows = rows,
            "ALARM: rows of the damaged database are gone"
        );
        let line = serde_json::json!({ "table": table.name(), "gone": rows });
        refused.extend_from_slice(format!("{line}\n").as_bytes());
    }
    let owed = open_owed(site.data, site.store).await?;
    damaged.unite(owed.carried().await?, site.store.mac_key());
    let carried = sift(site, &chain, damaged);
    let promised: Vec<_> =
        site.promised.iter().filter(|tx| still_waits(&chain, tx)).map(|tx| promise(tx)).collect();
    // Durable before the damaged file and its journal go.
    owed.import(&carried).await?;
    owed.add_promises(&promised, now_ms).await?;
    owed.close().await?;

    fresh.import(&carried).await?;
    fresh.add_promises(&promised, now_ms).await?;
    let found = StoredEvidence {
        kind: "store".into(),
        member: None,
        height: site.mark.first_bad_height,
        detail: site.mark.document(),
    };
    for evidence in lies.iter().chain([&found]) {
        fresh.add_evidence(evidence, now_ms).await?;
    }
    let inventory = fresh.finish().await?;
    hold.close().await?;
    match site.data.keep_damaged(site.mark, &refused) {
        Ok(folder) => tracing::info!(damaged.folder = %folder.display(), "The damaged database is kept"),
        Err(error) => tracing::error!(error = %error, "The damaged database cannot be kept"),
    }
    hold.replace(&site.data.new_database(), inventory).await?;
    Ok(chain)
}

/// Drops what is final, and what nobody can vouch for: a row whose MAC is broken counts only if it is a
/// transaction whose signature holds.
fn sift(site: &Site<'_>, chain: &Chain, damaged: Carried) -> Carried {
    let key = site.store.mac_key();
    for table in &damaged.unreadable {
        tracing::error!(store.table = table, "ALARM: rows of the damaged database cannot be read");
    }
    let promises: Vec<_> = damaged
        .promises
        .into_iter()
        .filter_map(|mut row| {
            let tx = Tx::parse(&row.row.jws).ok();
            let authentic = row.is_authentic(key);
            if let Some(tx) = &tx {
                row.row.txid = tx.txid();
            }
            if tx.is_none() {
                alarm("promises");
            }
            Some((row, Arc::new(tx?), authentic))
        })
        .collect();
    let keys: HashMap<Kid, PublicKey> = promises
        .iter()
        .map(|(_, tx, _)| tx)
        .chain(&site.promised)
        .filter_map(|tx| tx.payload().introduces())
        .map(|key| (key.kid(), key))
        .collect();
    let holds = |tx: &Tx| {
        let key = chain.state().public_key(&tx.kid()).or_else(|| keys.get(&tx.kid()).copied());
        key.is_some_and(|key| tx.verify_signature(&key).is_ok())
    };
    let kept = |good: bool, table| {
        if !good {
            alarm(table);
        }
        good
    };
    Carried {
        promises: promises
            .into_iter()
            .filter(|(_, tx, _)| still_waits(chain, tx))
            .filter(|(_, tx, authentic)| kept(*authentic || holds(tx), "promises"))
            .map(|(row, ..)| row)
            .collect(),
        refusals: damaged
            .refusals
            .into_iter()
            .filter(|row| kept(row.is_authentic(key), "refusals"))
            .collect(),
        evidence: damaged
            .evidence
            .into_iter()
            .filter(|row| kept(row.is_authentic(key), "evidence"))
            .collect(),
        unreadable: Vec::new(),
    }
}

fn alarm(table: &'static str) {
    tracing::error!(
        store.table = table,
        "ALARM: a row that this node did not write is left out; the damaged database has it"
    );
}
