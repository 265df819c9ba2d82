//! How far healing is, for whoever looks.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hbc_types::wire::ledger::{FetchedFrom, HealingView};

/// How far healing is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Heights looked at.
    pub checked: u64,
    /// Blocks taken from peers.
    pub healed: u64,
    /// Their bytes.
    pub healed_bytes: u64,
    /// By whom.
    pub from: BTreeMap<String, u64>,
    /// Peers that gave a block which is not the chain's.
    pub liars: Vec<String>,
    /// Attempts so far.
    pub attempts: u32,
    /// What it waits for.
    pub trouble: Option<String>,
}

/// Progress that others look at.
#[derive(Debug, Default)]
pub struct Board(Mutex<Progress>);

impl Board {
    /// To read or change.
    pub fn progress(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As `/v1/status` says it.
    #[must_use]
    pub fn view(&self) -> HealingView {
        let progress = self.progress();
        let from =
            progress.from.iter().map(|(node, blocks)| FetchedFrom { node: node.clone(), blocks: *blocks });
        HealingView {
            heights_checked: progress.checked,
            blocks_healed: progress.healed,
            bytes_healed: progress.healed_bytes,
            fetched_from: from.collect(),
            refused_peers: progress.liars.clone(),
            attempts: progress.attempts,
            trouble: progress.trouble.clone(),
        }
    }
}
