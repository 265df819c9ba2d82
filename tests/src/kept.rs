//! What was acknowledged is there, whatever happened since.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use hbc_chain::payload::{Payload, Receipts};
use hbc_chain::tx;
use hbc_client::Endpoint;
use hbc_client::operations::{ledger, storage};
use hbc_types::Digest;
use hbc_types::wire::ledger::{Promise, SubmitTransaction};
use hbc_types::wire::storage::RecordCreated;

use crate::wait::until;
use crate::{Person, TestApp, chain};

impl TestApp {
    /// Uploads under `key` until it is acknowledged, as a client does after a broken connection.
    pub async fn insist(&self, patient: &Person, key: &str, content: &[u8]) -> Result<RecordCreated> {
        until("the upload is acknowledged", || async {
            let call = self.storage.to(storage::create_record()).header("idempotency-key", key);
            let call = call.body("application/pdf", content.to_vec());
            match patient.signs(call).once().fetch().await {
                Ok(created) => Ok(Some(created)),
                Err(error) if error.is_transient() => Ok(None),
                // The first attempt's row may still say that it is under way.
                Err(error) if error.status() == Some(409) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// Exactly the acknowledged records of a patient are there, equal to the last byte.
    pub async fn has_exactly(
        &self,
        patient: &Person,
        acknowledged: &BTreeMap<String, Vec<u8>>,
    ) -> Result<()> {
        let records = self.list(patient, patient.patient()?.as_str(), "PATRQT").await?;
        let ids: BTreeSet<_> = records.iter().map(|record| record.id.to_string()).collect();
        let wanted: BTreeSet<_> = acknowledged.keys().cloned().collect();
        ensure!(ids == wanted, "acknowledged {wanted:?}, and there are {ids:?}");
        ensure!(records.len() == ids.len(), "a record is there twice");
        for (id, content) in acknowledged {
            ensure!(self.received(patient, id, "PATRQT").await? == *content, "{id} has other bytes");
        }
        Ok(())
    }

    /// Every record of a patient is anchored once.
    pub async fn anchored_once(&self, patient: &Person) -> Result<()> {
        let records = self.until_anchored(patient).await?;
        self.until_equal_tips().await?;
        let mut anchored: BTreeMap<String, u32> = BTreeMap::new();
        let (_, node) = self.nodes.first().context("no node")?;
        for transaction in chain::transactions(node).await? {
            if let Payload::Anchor(anchor) = transaction.payload {
                for segment in anchor.segments {
                    *anchored.entry(segment.cid.to_string()).or_default() += 1;
                }
            }
        }
        for record in records {
            let times = anchored.get(&record.cid).copied().unwrap_or_default();
            ensure!(times == 1, "{} is anchored {times} times", record.id);
        }
        Ok(())
    }

    /// Gives a node a transaction of access-policy's that was never there before; answers what the node promised.
    pub async fn promise(&self, node: &Endpoint) -> Result<Digest> {
        let seed = hex::decode(self.secret("access-policy.key")?)?;
        let key = ed25519_dalek::SigningKey::from_bytes(seed.as_slice().try_into()?);
        let receipts = Receipts {
            chain: chain::status(node).await?.chain,
            count: 1,
            iat: self.clock.now().unsigned_ms(),
            rights: None,
            root: Digest::from_bytes(self.random.bytes()),
        };
        let jws = tx::sign(&key, &Payload::Receipts(receipts))?;
        let call = node.to(ledger::submit_transaction()).once().json(&SubmitTransaction { jws });
        let promise: Promise = call.fetch().await?;
        Ok(promise.txid)
    }

    /// Once no transaction waits any more, every promised one stands once in the chain of every node; and no node saw a
    /// member sign two things for one height and round.
    pub async fn promised_once(&self, promised: &BTreeSet<Digest>) -> Result<()> {
        self.until_equal_tips().await?;
        for (name, node) in &self.nodes {
            let mut times: BTreeMap<Digest, u32> = BTreeMap::new();
            for transaction in chain::transactions(node).await? {
                *times.entry(transaction.txid).or_default() += 1;
            }
            for txid in promised {
                let times = times.get(txid).copied().unwrap_or_default();
                ensure!(times == 1, "{txid} stands {times} times on {name}");
            }
            ensure!(!self.stack().log(name).contains("signed two things"), "{name} saw a contradiction");
        }
        Ok(())
    }
}
