//! Healing: a node whose store was changed makes its database anew, from the rows that are still good and from
//! what peers have of the others, verifies it, and takes its place among the members again. [`rebuild`] makes the
//! new file, [`sources`] asks peers, [`install`] carries over what no block proves and changes the files,
//! [`verify`] reads the result again, [`repair`] does it all for a node that is stopped.
//!
//! The mark of the attack goes last, durably. Killed at any line before, a node begins again: the damaged file is
//! in its place or the new one is, never half of one.
//!
//! Why: decision 0070.

pub mod install;
pub mod rebuild;
pub mod repair;
pub mod resume;
pub mod sources;
pub mod verify;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hbc_chain::payload::{NodeEvent, Payload};
use hbc_chain::tx::{self, Tx};
use hbc_types::wire::ledger::{FetchedFrom, HealedView, HealingView};
use hbc_types::{Digest, Timestamp};
use tokio::sync::{Notify, oneshot};

use super::agreement::Event;
use super::{Node, Stage};
use crate::chain::Chain;
use crate::config::HealMode;
use crate::domain::verification::Fault;
use crate::files::{AttackMark, HealingRecord};
use crate::store::{StoreError, StoredEvidence};
use rebuild::Site;
use sources::Source;

/// Between two attempts, growing.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often the others are told before giving up.
const TELLINGS: u32 = 20;

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
    #[error("the repaired database does not verify: {0}")]
    Unsound(Fault),
    /// genesis.json is no genesis.
    #[error("the genesis cannot be used: {0}")]
    Genesis(#[from] hbc_chain::genesis::GenesisError),
    /// The node ends, or the repaired store failed at once.
    #[error("the agreement did not take the repaired store up")]
    NotTakenUp,
}

/// How far a repair is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Heights looked at.
    pub checked: u64,
    /// Blocks taken from peers.
    pub repaired: u64,
    /// Their bytes.
    pub repaired_bytes: u64,
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
            blocks_repaired: progress.repaired,
            bytes_repaired: progress.repaired_bytes,
            fetched_from: from.collect(),
            refused_peers: progress.liars.clone(),
            attempts: progress.attempts,
            trouble: progress.trouble.clone(),
        }
    }
}

/// What a node keeps about its healing.
#[derive(Debug)]
pub struct Healing {
    /// Whether it heals by itself.
    pub mode: HealMode,
    /// Told when an attack was found.
    pub wanted: Notify,
    /// How far it is.
    pub board: Board,
    /// The last repair.
    pub last: Mutex<Option<HealingRecord>>,
}

impl Healing {
    /// Nothing to heal yet.
    #[must_use]
    pub fn new(mode: HealMode, last: Option<HealingRecord>) -> Self {
        Self { mode, wanted: Notify::new(), board: Board::default(), last: Mutex::new(last) }
    }
}

/// Heals whenever the node is marked as attacked, until the node ends.
pub async fn run(node: Arc<Node>) {
    loop {
        if let Some(mark) = node.attack() {
            // Without it a node that is interrupted would take what it has then for sound.
            if let Err(error) = node.data.mark_attacked(&mark) {
                tracing::error!(error = %error, "The mark of the attack cannot be written; nothing is repaired before");
                tokio::time::sleep(FIRST_PAUSE).await;
                continue;
            }
            if let Err(error) = node.keep_what_is_owed().await {
                tracing::error!(error = %error, "Promises cannot be put aside for the repair");
            }
            if node.healing.mode == HealMode::Auto {
                heal(&node, &mark).await;
                continue;
            }
            tracing::error!(node.name = %node.name, "The node waits for `hbc node repair`");
        }
        node.healing.wanted.notified().await;
    }
}

async fn heal(node: &Arc<Node>, mark: &AttackMark) {
    *node.healing.board.progress() = Progress::default();
    let mut pause = FIRST_PAUSE;
    loop {
        node.healing.board.progress().attempts += 1;
        match node.heal_once(mark).await {
            Ok(()) => return,
            Err(error) => {
                tracing::error!(node.name = %node.name, error = %error, "The repair came to nothing; it begins again");
                node.healing.board.progress().trouble = Some(error.to_string());
                node.condition_mut().stage = Stage::Attacked;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

impl Node {
    /// Puts what was promised where a repair that is interrupted finds it again.
    async fn keep_what_is_owed(&self) -> Result<(), HealError> {
        // Whoever was committing when the mark was set is done then; nobody begins any more.
        drop(self.gate.write().await);
        let rows: Vec<_> = self.waiting().promises(usize::MAX);
        let rows = rows.iter().map(|tx| install::promise(tx)).collect::<Vec<_>>();
        let owed = install::open_owed(&self.data, &self.store).await?;
        owed.add_promises(&rows, self.clock.now().ms()).await?;
        owed.close().await?;
        Ok(())
    }

    async fn heal_once(self: &Arc<Self>, mark: &AttackMark) -> Result<(), HealError> {
        let began = Instant::now();
        self.condition_mut().stage = Stage::Healing;
        tracing::info!(node.name = %self.name, "The database is made anew");
        let (known, genesis) = {
            let chain = self.chain();
            (chain.hashes().to_vec(), chain.genesis().clone())
        };
        let site = Site {
            genesis: &genesis,
            data: &self.data,
            store: &self.store,
            known,
            promised: self.waiting().promises(usize::MAX),
            sources: self.sources(),
            clock: &self.clock,
            board: &self.healing.board,
            mark,
        };
        let rebuilt = rebuild::rebuild(&site).await?;
        let chain = install::install(&site, rebuilt).await?;
        self.condition_mut().stage = Stage::Verifying;
        verify::verify(&site, &chain).await?;
        let record = finish(&site, &chain, began).await?;
        let (done, taken_up) = oneshot::channel();
        let event = Event::Healed(Box::new(chain), done);
        self.events.send(event).await.map_err(|_ended| HealError::NotTakenUp)?;
        taken_up.await.map_err(|_ended| HealError::NotTakenUp)?;
        tracing::info!(
            node.name = %self.name, healing.blocks = record.repaired_blocks, healing.ms = record.took_ms,
            "The store is repaired and verified; the node votes and takes writes again"
        );
        *self.healing.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(record.clone());
        let node = self.clone();
        tokio::spawn(async move { node.tell_of_healing(&record).await });
        Ok(())
    }

    /// The last repair, as `/v1/status` says it.
    #[must_use]
    pub fn last_healing(&self) -> Option<HealedView> {
        let last = self.healing.last.lock().unwrap_or_else(PoisonError::into_inner);
        let record = last.as_ref()?;
        let from = record.fetched_from.iter();
        Some(HealedView {
            at: Timestamp::from_ms(record.healed_at_ms),
            first_bad_height: record.mark.first_bad_height,
            evidence: record.mark.evidence.clone(),
            took_ms: record.took_ms,
            blocks_repaired: record.repaired_blocks,
            bytes_repaired: record.repaired_bytes,
            fetched_from: from
                .map(|(node, blocks)| FetchedFrom { node: node.clone(), blocks: *blocks })
                .collect(),
        })
    }

    /// Healthy peers first; what the others give proves itself just as well.
    fn sources(&self) -> Vec<Source> {
        let mut sources: Vec<_> =
            self.peers.all().iter().map(|peer| (peer.is_attacked(), Source::of(peer))).collect();
        sources.sort_by_key(|(attacked, _)| *attacked);
        sources.into_iter().map(|(_, source)| source).collect()
    }

    async fn tell_of_healing(&self, record: &HealingRecord) {
        let (digest, at_ms) = (record.digest(), record.healed_at_ms);
        self.tell_event("healed", digest, record.mark.first_bad_height, at_ms).await;
    }

    /// Gives a signed `node.event` about this node to a peer that takes it.
    pub(super) async fn tell_event(&self, event: &str, evidence: Digest, height: u64, at_ms: i64) {
        let event = Payload::NodeEvent(NodeEvent {
            chain: self.chain_id,
            event: event.to_owned(),
            evidence,
            height,
            iat: u64::try_from(at_ms).unwrap_or(0),
            node: self.name.clone(),
        });
        // The event counts by a member's signature only.
        let Some(seat) = self.seat() else { return };
        let Ok(jws) = tx::sign(&seat.key, &event) else { return };
        for attempt in 0..TELLINGS {
            for peer in self.peers.all().iter() {
                if sources::submit(&peer.endpoint, &jws).await {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_secs(u64::from(attempt + 1))).await;
        }
    }
}

/// After verification: the checkpoint, the record, and last of all the mark.
async fn finish(site: &Site<'_>, chain: &Chain, began: Instant) -> Result<HealingRecord, HealError> {
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
            repaired_blocks: progress.repaired,
            repaired_bytes: progress.repaired_bytes,
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
fn still_waits(chain: &Chain, tx: &Tx) -> bool {
    chain.state().place(&tx.txid()).is_none()
}
