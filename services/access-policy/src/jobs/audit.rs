//! The audit: effects of final transactions that are no longer in the database are found, and applied again.

use std::time::Duration;

use hbc_app::jobs::{JobError, Periodic, Retry};
use hbc_client::ledger::ChainView;

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

/// Walks the chain from its beginning to the height that was applied; says how many effects were missing.
async fn audit(app: &App) -> anyhow::Result<u64> {
    let position = hbc_db::follow::position(app.db.reads(), &app.chain.to_string()).await?;
    let applied = position.map_or(0, |position| position.height);
    let mut view = ChainView::genesis(&app.genesis)?;
    let mut missing = 0;
    while view.height() < applied {
        let before = view.height();
        for node in 0..app.ledger.node_count() {
            let Ok(page) = app.ledger.blocks(node, view.height() + 1, 100).await else { continue };
            for block in page.blocks {
                // A node that gives another block gives nothing; the next one is asked.
                let Ok(block) = view.take(block) else { break };
                missing += ledger::audit_block(app, &block).await?;
                if view.height() >= applied {
                    return Ok(missing);
                }
            }
        }
        anyhow::ensure!(view.height() > before, "no node gave the next blocks");
        tokio::time::sleep(AUDIT_PAUSE).await;
    }
    Ok(missing)
}
