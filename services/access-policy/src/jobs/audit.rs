//! The audit: effects of final transactions that are no longer in the database are found, and applied again. And the last
//! head of the journal of rights that the ledger has is compared with the journal: a journal that was set back, together
//! with the database maybe, is found by nothing else.
//!
//! Why: decision 0123.

use std::time::Duration;

use hbc_app::jobs::{JobError, Periodic, Retry};
use hbc_chain::payload::Payload;
use hbc_client::ledger::{ChainView, FinalBlock};
use hbc_types::Digest;
use hbc_types::keys::PublicKey;

use crate::app::App;
use crate::ledger;

/// How often the whole chain is compared with what stands here.
const AUDIT: Duration = Duration::from_secs(60 * 60);
/// Between two requests for blocks of that comparison.
const AUDIT_PAUSE: Duration = Duration::from_millis(50);

/// At start and hourly: every block that was applied is fetched and verified again, and its effects are looked for.
pub struct Audit;

impl Periodic for Audit {
    type App = App;
    const KIND: &'static str = "ledger.audit";
    /// When it could not be compared to its end, most likely no node answers.
    const RETRY: Retry =
        Retry { first: Duration::from_secs(30), longest: Duration::from_secs(30), ..Retry::STANDARD };
    /// A process may start on a database that was restored.
    const AT_START: bool = true;

    fn period(_app: &App) -> Duration {
        AUDIT
    }

    async fn run(app: &App) -> Result<(), JobError> {
        let missing = audit(app).await.map_err(|error| JobError::later("chain_not_read").because(error))?;
        if missing > 0 {
            tracing::error!(alarm = "restored_state", missing, "Rows here were older than the chain");
        }
        Ok(())
    }
}

/// Walks the chain from its beginning to its tip; says how many effects were missing up to the height that was applied.
async fn audit(app: &App) -> anyhow::Result<u64> {
    let position = hbc_db::follow::position(app.db.reads(), &app.chain.to_string()).await?;
    let applied = position.map_or(0, |position| position.height);
    let mut view = ChainView::genesis(&app.genesis)?;
    let (mut missing, mut head, mut failed) = (0, None, None);
    let (nodes, own) = (app.ledger.node_count(), PublicKey::of(&app.service_key).kid());
    for first in 0.. {
        let (before, mut at_end) = (view.height(), 0);
        // Each round begins with another one: none can be slow for all.
        for node in (0..nodes).map(|n| (first + n) % nodes) {
            let Ok(page) = app.ledger.blocks(node, view.height() + 1, 100).await else { continue };
            for block in page.blocks {
                // A node that gives another block gives nothing; the next one is asked.
                let Ok(block) = view.take(block) else { break };
                if block.height() <= applied {
                    match ledger::audit_block(app, &block).await {
                        Ok(found) => missing += found,
                        Err(error) => failed = failed.or(Some(error)),
                    }
                }
                head = told_head(own, &block).or(head);
            }
            if view.height() > before {
                break;
            }
            at_end += usize::from(page.tip <= before);
        }
        if view.height() == before {
            // A third of the nodes may be lost, or leave off early.
            let ended = at_end >= nodes - nodes.saturating_sub(1) / 3;
            anyhow::ensure!(ended && before >= applied, "too few nodes gave the next blocks, or their end");
            break;
        }
        tokio::time::sleep(AUDIT_PAUSE).await;
    }
    // Whatever a block came to: what was set back as a whole is found even so.
    app.compare_journal(head);
    failed.map_or(Ok(missing), |error| Err(error.into()))
}

/// The last head of the journal that this service, whose key is `own`, told in a block.
fn told_head(own: Digest, block: &FinalBlock) -> Option<Digest> {
    let found = block.transactions.iter().rev().filter_map(|found| found.tx.as_ref());
    let mut heads = found.filter_map(|tx| match tx.payload() {
        Payload::Receipts(receipts) if tx.kid() == own => receipts.rights,
        _ => None,
    });
    heads.next()
}
