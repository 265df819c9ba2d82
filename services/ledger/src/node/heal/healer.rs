//! The healer: the task that heals a node's store whenever it was marked as attacked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hbc_types::wire::ledger::{FetchedFrom, HealedView, HealingView};
use hbc_types::{Clock, Timestamp};
use tokio::sync::oneshot;

use super::progress::{Board, Progress};
use super::site::{HealError, Site, finish};
use super::sources::HealSource;
use super::{install, new_database, verify};
use crate::config::HealMode;
use crate::files::{AttackMark, HealingRecord};
use crate::node::condition::Stage;
use crate::node::guardian::StoreGuard;
use crate::node::inlet::{Event, Inlet};
use crate::node::membership::Membership;
use crate::node::memory::Memory;
use crate::node::peer_book::PeerBook;
use crate::node::pool::Pool;
use crate::node::tasks;
use crate::peers::Peer;

/// Between two attempts, growing.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What a node keeps about its healing.
#[derive(Debug)]
pub struct Healing {
    /// Whether it heals by itself.
    mode: HealMode,
    /// How far it is.
    board: Board,
    /// The last healing.
    last: Mutex<Option<HealingRecord>>,
}

impl Healing {
    /// Nothing to heal yet.
    #[must_use]
    pub fn new(mode: HealMode, last: Option<HealingRecord>) -> Self {
        Self { mode, board: Board::default(), last: Mutex::new(last) }
    }

    /// How far healing under way is, as `/v1/status` says it.
    #[must_use]
    pub fn view(&self) -> HealingView {
        self.board.view()
    }

    /// The last healing, as `/v1/status` says it.
    #[must_use]
    pub fn last(&self) -> Option<HealedView> {
        let last = self.last_record();
        let record = last.as_ref()?;
        let from = record.fetched_from.iter();
        Some(HealedView {
            at: Timestamp::from_ms(record.healed_at_ms),
            first_bad_height: record.mark.first_bad_height,
            evidence: record.mark.evidence.clone(),
            took_ms: record.took_ms,
            blocks_healed: record.healed_blocks,
            bytes_healed: record.healed_bytes,
            fetched_from: from
                .map(|(node, blocks)| FetchedFrom { node: node.clone(), blocks: *blocks })
                .collect(),
        })
    }

    fn last_record(&self) -> MutexGuard<'_, Option<HealingRecord>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Heals the store.
#[derive(Clone, Debug)]
pub struct Healer {
    /// What is kept about it.
    pub healing: Arc<Healing>,
    /// The store.
    pub guard: Arc<StoreGuard>,
    /// The chain that it must have.
    pub memory: Arc<Memory>,
    /// What was promised.
    pub pool: Arc<Pool>,
    /// Who has good blocks.
    pub book: Arc<PeerBook>,
    /// Whose node it is.
    pub membership: Arc<Membership>,
    /// Consensus, which takes the healed store up.
    pub inlet: Arc<Inlet>,
    /// The time.
    pub clock: Clock,
}

impl Healer {
    /// Heals whenever the node is marked as attacked, until the node ends.
    pub async fn run(self) {
        loop {
            if let Some(mark) = self.guard.attack() {
                // Without it a node that is interrupted would take what it has then for sound.
                if let Err(error) = self.guard.data().mark_attacked(&mark) {
                    tracing::error!(error = %error, "The mark of the attack cannot be written; nothing is healed before");
                    tokio::time::sleep(FIRST_PAUSE).await;
                    continue;
                }
                if let Err(error) = self.keep_what_is_owed().await {
                    tracing::error!(error = %error, "Promises cannot be put aside for healing");
                }
                if self.healing.mode == HealMode::Auto {
                    self.heal(&mark).await;
                    continue;
                }
                tracing::error!(node.name = %self.membership.name(), "The node waits for `hbc node heal`");
            }
            self.guard.attack_found().await;
        }
    }

    async fn heal(&self, mark: &AttackMark) {
        *self.healing.board.progress() = Progress::default();
        let mut pause = FIRST_PAUSE;
        loop {
            self.healing.board.progress().attempts += 1;
            match self.heal_once(mark).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::error!(node.name = %self.membership.name(), error = %error, "Healing came to nothing; it begins again");
                    self.healing.board.progress().trouble = Some(error.to_string());
                    self.say(Stage::Attacked);
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Says how far it is.
    fn say(&self, stage: Stage) {
        self.guard.change_condition(|condition| condition.stage = stage);
    }

    /// Puts what was promised where healing that is interrupted finds it again.
    async fn keep_what_is_owed(&self) -> Result<(), HealError> {
        // Whoever was committing when the mark was set is done then; nobody begins any more.
        drop(self.guard.alone().await);
        let rows: Vec<_> = self.pool.mempool().promises(usize::MAX);
        let rows = rows.iter().map(|tx| install::promise(tx)).collect::<Vec<_>>();
        let owed = install::open_owed(self.guard.data(), self.guard.store()).await?;
        owed.add_promises(&rows, self.clock.now().ms()).await?;
        owed.close().await?;
        Ok(())
    }

    async fn heal_once(&self, mark: &AttackMark) -> Result<(), HealError> {
        let began = Instant::now();
        self.say(Stage::Healing);
        tracing::info!(node.name = %self.membership.name(), "The database is made anew");
        let (known, genesis) = {
            let chain = self.memory.chain();
            (chain.hashes().to_vec(), chain.genesis().clone())
        };
        let site = Site {
            genesis: &genesis,
            data: self.guard.data(),
            store: self.guard.store(),
            known,
            promised: self.pool.mempool().promises(usize::MAX),
            sources: self.sources(),
            clock: &self.clock,
            board: &self.healing.board,
            mark,
        };
        let new_database = new_database::build(&site).await?;
        let chain = install::install(&site, new_database).await?;
        self.say(Stage::Verifying);
        verify::verify(&site, &chain).await?;
        let record = finish(&site, &chain, began).await?;
        let (done, restored) = oneshot::channel();
        let event = Event::Healed(Box::new(chain), done);
        if !self.inlet.send(event).await {
            return Err(HealError::NotRestored);
        }
        restored.await.map_err(|_ended| HealError::NotRestored)?;
        tracing::info!(
            node.name = %self.membership.name(), healing.blocks = record.healed_blocks, healing.ms = record.took_ms,
            "The store is healed and verified; the node votes and takes writes again"
        );
        *self.healing.last_record() = Some(record.clone());
        self.tell_of(&record);
        Ok(())
    }

    /// Healthy peers first; what the others give proves itself just as well.
    fn sources(&self) -> Vec<HealSource> {
        let reader = self.membership.membership();
        let source = |peer: &Arc<Peer>| (peer.is_attacked(), HealSource::of(peer, reader.clone()));
        let mut sources: Vec<_> = self.book.all().iter().map(source).collect();
        sources.sort_by_key(|(attacked, _)| *attacked);
        sources.into_iter().map(|(_, source)| source).collect()
    }

    /// Tells the others in the background.
    fn tell_of(&self, record: &HealingRecord) {
        let (digest, height, at_ms) = (record.digest(), record.mark.first_bad_height, record.healed_at_ms);
        let book = Arc::clone(&self.book);
        tasks::once("telling of healing", async move {
            book.tell_of_this("healed", digest, height, at_ms).await;
        });
    }
}
