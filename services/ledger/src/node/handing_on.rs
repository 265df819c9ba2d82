//! What an observer that was a member still owes: transactions that it promised are handed to members over the public
//! interface, until they are final.

use hbc_client::operations::ledger;
use std::sync::Arc;

use hbc_chain::tx::Tx;
use hbc_types::wire::ledger::SubmitBatch;

use super::Node;

/// Transactions handed on at once.
const AT_ONCE: usize = 200;

impl Node {
    /// Submits transactions to the first member that takes them; the caller comes again until they are final.
    pub(super) fn hand_on(&self, txs: &[Arc<Tx>]) {
        let transactions: Vec<String> = txs.iter().take(AT_ONCE).map(|tx| tx.text().to_owned()).collect();
        let members = self.healthy_peers();
        if transactions.is_empty() || members.is_empty() {
            return;
        }
        tokio::spawn(async move {
            let body = SubmitBatch { transactions };
            for member in members {
                let call = member.endpoint.to(ledger::submit_transactions()).json(&body).once();
                match call.done().await {
                    Ok(()) => return,
                    Err(error) => {
                        tracing::info!(peer.name = %member.name, error = %error, "Promises could not be handed on");
                    }
                }
            }
        });
    }
}
