//! What healing works on, and how it ends.

use std::sync::Arc;
use std::time::Instant;

use hbc_chain::genesis::Genesis;
use hbc_chain::memory::Chain;
use hbc_chain::tx::Tx;
use hbc_chain::verification::Fault;
use hbc_types::{Clock, Digest};

use super::progress::Board;
use super::sources::HealSource;
use crate::files::{AttackMark, DataFolder, HealingRecord};
use crate::store::{Store, StoreError, StoredEvidence};

/// Why an attempt came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum HealError {
    /// The new database failed.
    #[error("{0}: {0:?}")]
    Store(#[from] StoreError),
    /// A file could not be written.
    #[error("the ledger's files failed: {0}")]
    Io(#[from] std::io::Error),
    /// The new database does not verify.
    #[error("the healed database does not verify: {0}")]
    Unsound(Fault),
    /// genesis.json is no genesis.
    #[error("the genesis cannot be used: {0}")]
    Genesis(#[from] hbc_chain::genesis::GenesisError),
    /// The node ends, or the healed store failed at once.
    #[error("consensus did not take the healed store")]
    NotRestored,
}

/// What is healed, and with what.
pub struct Site<'a> {
    /// The chain's founding document.
    pub genesis: &'a Genesis,
    /// The node's files.
    pub data: &'a DataFolder,
    /// The damaged database.
    pub store: &'a Store,
    /// Hashes of the blocks that the node has in memory, by height.
    pub known: Vec<Digest>,
    /// Transactions that it promised, as memory has them.
    pub promised: Vec<Arc<Tx>>,
    /// Who can be asked.
    pub sources: Vec<HealSource>,
    /// The time.
    pub clock: &'a Clock,
    /// Where progress is shown.
    pub board: &'a Board,
    /// What was found.
    pub mark: &'a AttackMark,
}

/// After verification: the checkpoint, the record, and last of all the mark.
pub(super) async fn finish(
    site: &Site<'_>,
    chain: &Chain,
    began: Instant,
) -> Result<HealingRecord, HealError> {
    if chain.height() > 0 {
        site.data.write_checkpoint(chain.certificate())?;
    } else {
        site.data.forget_checkpoint()?;
    }
    let record = {
        let mut progress = site.board.progress();
        progress.trouble = None;
        HealingRecord {
            mark: site.mark.clone(),
            healed_at_ms: site.clock.now().ms(),
            took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            blocks: chain.height().saturating_add(1),
            healed_blocks: progress.healed,
            healed_bytes: progress.healed_bytes,
            fetched_from: progress.from.clone(),
        }
    };
    let evidence = StoredEvidence {
        kind: "healed".into(),
        member: None,
        height: record.mark.first_bad_height,
        detail: record.document(),
    };
    site.store.add_evidence(&evidence, record.healed_at_ms).await?;
    site.data.write_healed(&record)?;
    site.data.clear_mark()?;
    site.data.discard(&site.data.owed())?;
    Ok(record)
}

/// A promise that is not final in this chain.
pub(super) fn still_waits(chain: &Chain, tx: &Tx) -> bool {
    chain.state().place(&tx.txid()).is_none()
}
