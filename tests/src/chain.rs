//! The ledger as its nodes serve it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hbc_chain::payload::Payload;
use hbc_chain::tx::Tx;
use hbc_client::Endpoint;
use hbc_client::operations::ledger;
use hbc_types::Digest;
use hbc_types::wire::ledger::{BlocksView, NodeStatus, TransactionState};

use crate::TestApp;
use crate::wait::{until, until_within};

/// A final transaction.
#[derive(Clone, Debug)]
pub struct Final {
    /// Height of its block.
    pub height: u64,
    /// Its id.
    pub txid: Digest,
    /// The compact JWS.
    pub jws: String,
    /// What it says.
    pub payload: Payload,
}

/// How a node stands.
pub async fn status(node: &Endpoint) -> Result<NodeStatus> {
    Ok(node.to(ledger::read_status()).fetch().await?)
}

/// Every final transaction that a node serves, in order.
pub async fn transactions(node: &Endpoint) -> Result<Vec<Final>> {
    let mut all = Vec::new();
    let mut next = 0;
    loop {
        let page: BlocksView =
            node.to(ledger::list_blocks().with(format!("from={next}&limit=100"))).fetch().await?;
        for block in &page.blocks {
            ensure!(block.height == next, "block {} came where {next} was asked for", block.height);
            next += 1;
            for jws in &block.transactions {
                let tx = Tx::parse(jws.as_bytes()).context("a final transaction is not readable")?;
                let (txid, payload) = (tx.txid(), tx.payload().clone());
                all.push(Final { height: block.height, txid, jws: jws.clone(), payload });
            }
        }
        if next > page.tip {
            return Ok(all);
        }
        ensure!(!page.blocks.is_empty(), "no block {next}, although the tip is {}", page.tip);
    }
}

impl TestApp {
    /// Waits until all nodes have the same tip and nothing waits on them; answers its height.
    pub async fn until_equal_tips(&self) -> Result<u64> {
        until_within("all nodes have one tip", Duration::from_secs(120), || async {
            let mut all = Vec::new();
            for (_, node) in &self.nodes {
                all.push(status(node).await?);
            }
            let first = all.first().context("there is no node")?;
            let settled = all.iter().all(|node| node.tip == first.tip && node.pending == 0);
            Ok(settled.then_some(first.height))
        })
        .await
    }

    /// Waits until a transaction is final on a node, which may not have heard of it yet; answers its height.
    pub async fn until_final(&self, node: &Endpoint, txid: &Digest) -> Result<u64> {
        until(format!("{txid} is final"), || async {
            let view = match node.to(ledger::read_transaction(txid)).fetch().await {
                Err(error) if error.status() == Some(404) => return Ok(None),
                view => view?,
            };
            ensure!(view.state != TransactionState::Refused, "{txid} was refused: {:?}", view.refusal);
            Ok(view.height)
        })
        .await
    }
}
