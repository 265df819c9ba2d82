//! How transactions that wait reach the members. A member tells all others in envelopes. An observer that was a member still
//! owes what it promised: it hands that to members over the public interface, until it is final.

use std::sync::Arc;

use hbc_chain::tx::Tx;
use hbc_client::operations::ledger;
use hbc_types::wire::ledger::SubmitBatch;

use super::membership::Membership;
use super::peer_book::PeerBook;
use super::tasks;
use crate::peers::Item;

/// How many in one queue entry: at most 4 MiB of the largest.
const TOLD_AT_ONCE: usize = 16;
/// Transactions handed on at once.
const HANDED_ON_AT_ONCE: usize = 200;

/// Tells the others of transactions that wait; the caller comes again until they are final.
pub(super) fn tell_of(txs: &[Arc<Tx>], membership: &Membership, book: &PeerBook) {
    if membership.membership().is_none() {
        forward(txs, book);
        return;
    }
    for some in txs.chunks(TOLD_AT_ONCE) {
        book.tell_all(&Item::Transactions(some.iter().map(|tx| tx.bytes().into()).collect()));
    }
}

/// Submits transactions to the first member that takes them.
fn forward(txs: &[Arc<Tx>], book: &PeerBook) {
    let transactions: Vec<String> =
        txs.iter().take(HANDED_ON_AT_ONCE).map(|tx| tx.text().to_owned()).collect();
    let members = book.healthy();
    if transactions.is_empty() || members.is_empty() {
        return;
    }
    tasks::once("handing on", async move {
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
