//! Carries out what consensus says, in its order: log, sync, verify the store, send; build and check
//! blocks on other threads; commit. One task; a disk that fails here ends the process, because a vote whose
//! record is not on disk must not leave it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hbc_chain::checkpoint::Certificate as Note;
use hbc_chain::memory::{Chain, NextBlock};
use hbc_consensus::{
    BlockBytes, BlockId, Boot, Certificate, Consensus as _, Core, Equivocation, Input, MemberSet, Output,
};
use hbc_types::Digest;
use hbc_types::wire::ledger::{BlockView, BlocksView};
use tokio::sync::{mpsc, oneshot};

use super::Node;
use super::catch_up::{CatchUp, examine_fetched};
use super::guardian::Soundness;
use super::heal::resume::{KnownMembers, double_sign_protection, restore};
use super::inlet::Event;
use super::quiet::Quiet;
use super::tasks::{self, or_die};
use super::telling::tell_of;
use super::timing::timing;
use crate::domain::double_sign_protection::DoubleSignProtection;
use crate::peers::{Item, Peer, PeerNews};
use crate::wal::{Wal, look};

/// How often heartbeat and promises are looked after.
const TICK: Duration = Duration::from_millis(500);
/// How often transactions that wait are told to the others again, in ticks.
const TELL_AGAIN_TICKS: u32 = 6;
/// How many of them at once.
const TELL_AGAIN: usize = 2_000;

/// The task that owns consensus.
pub struct Loop {
    node: Arc<Node>,
    core: Core,
    /// None while the store is attacked since the start: then nothing is replayed yet.
    wal: Option<Wal>,
    inbox: mpsc::Receiver<Event>,
    news: mpsc::Receiver<PeerNews>,
    started: Instant,
    /// Examined or built blocks of this height, those whose time has not come included.
    ready: BTreeMap<BlockId, NextBlock>,
    stop_mining: Arc<AtomicBool>,
    catch_up: CatchUp,
    /// When the next block may be begun at the earliest: so long after the last as the parameters ask.
    spaced: Option<Instant>,
    quiet: Quiet,
    ticks: u32,
    /// What arrived before this number was told once already.
    told_before: u64,
}

impl Loop {
    /// The loop of a node whose consensus was just replayed.
    #[must_use]
    pub fn new(
        node: Arc<Node>,
        core: Core,
        wal: Option<Wal>,
        inbox: mpsc::Receiver<Event>,
        news: mpsc::Receiver<PeerNews>,
        started: Instant,
        double_sign_protection: Option<DoubleSignProtection>,
    ) -> Self {
        let spaced = Instant::now().checked_add(node.until_earliest()).filter(|due| *due > Instant::now());
        Self {
            node,
            core,
            wal,
            inbox,
            news,
            started,
            ready: BTreeMap::new(),
            stop_mining: Arc::new(AtomicBool::new(false)),
            catch_up: CatchUp::default(),
            spaced,
            quiet: Quiet::new(double_sign_protection),
            ticks: 0,
            told_before: 0,
        }
    }

    /// Runs until it is told to stop.
    pub async fn run(mut self, first: Vec<Output>) {
        self.carry_out(first).await;
        self.tell_work().await;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let deadline = if self.node.guard.is_attacked() { None } else { self.core.next_deadline_ms() };
            let deadline = deadline.map(|at| self.started + Duration::from_millis(at));
            tokio::select! {
                event = self.inbox.recv() => match event {
                    Some(Event::Stop(done)) => {
                        self.stop_mining.store(true, Ordering::Relaxed);
                        let _nobody_waits = done.send(());
                        return;
                    }
                    Some(event) => self.event(event).await,
                    None => return,
                },
                Some(news) = self.news.recv() => self.peer_news(news),
                () = sleep_until(deadline) => self.feed(Input::Tick).await,
                () = sleep_until(self.spaced) => {
                    self.spaced = None;
                    self.tell_work().await;
                }
                _ = tick.tick() => self.tick().await,
            }
            if self.quiet.take_end() {
                self.speak().await;
            }
        }
    }

    async fn event(&mut self, event: Event) {
        if let Event::Message(from, message) = &event {
            self.node.inlet.took(from, message);
        }
        let event = match event {
            Event::Healed(chain, done) => return self.healed(*chain, done).await,
            event => event,
        };
        if self.node.guard.is_attacked() {
            self.stop_mining.store(true, Ordering::Relaxed);
            return;
        }
        match event {
            Event::Message(from, message) => {
                if let Some(peer) = self.node.book.by_id(&from) {
                    peer.heard_from(self.node.clock.now().ms());
                }
                self.feed(Input::Message(from, message)).await;
            }
            Event::Work => self.tell_work().await,
            Event::Built(height, round, next) => self.built(height, round, next).await,
            Event::Checked(height, value, verdict, next) => {
                if let Some(next) = next {
                    self.ready.insert(value, *next);
                }
                self.feed(Input::Checked { height, value, verdict }).await;
            }
            Event::Blocks(from, blocks) => self.take_blocks(from, blocks).await,
            Event::Address(name) => self.node.book.meet_announced(&name),
            Event::Healed(..) | Event::Stop(_) => {}
        }
    }

    fn peer_news(&mut self, news: PeerNews) {
        match news {
            PeerNews::Stands(peer, heard) => {
                let known_members = known_members(&self.node, &self.node.chain());
                self.quiet.hear(&peer, heard.height, known_members, self.node.membership().is_some());
                if heard.height > self.node.memory.height() && !heard.attacked {
                    self.fetch_blocks(&peer);
                }
            }
            PeerNews::Addresses(announcements) => self.node.book.take_addresses(&announcements),
        }
    }

    async fn tick(&mut self) {
        if self.node.guard.is_attacked() {
            return;
        }
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(TELL_AGAIN_TICKS) {
            // Younger ones are still on their way.
            let (promises, next) = {
                let mempool = self.node.mempool();
                (mempool.promised_before(self.told_before, TELL_AGAIN), mempool.next_number())
            };
            self.told_before = next;
            tell_of(&promises, &self.node.membership, &self.node.book);
        }
        self.tell_work().await;
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Tells consensus whether there is something to decide.
    async fn tell_work(&mut self) {
        if self.node.guard.is_attacked() {
            return;
        }
        let waits = self.node.mempool().has_work();
        let work = self.spaced.is_none() && (waits || self.heartbeat_is_due());
        self.feed(Input::Work(work)).await;
    }

    fn heartbeat_is_due(&self) -> bool {
        let chain = self.node.chain();
        let heartbeat = chain.state().parameters().heartbeat_ms;
        self.node.clock.now().unsigned_ms() >= chain.tip().time_ms.saturating_add(heartbeat)
    }

    async fn feed(&mut self, input: Input) {
        let now = self.now_ms();
        let outputs = self.core.handle(now, input);
        self.carry_out(outputs).await;
    }

    async fn carry_out(&mut self, outputs: Vec<Output>) {
        let mut queue = std::collections::VecDeque::from(outputs);
        while let Some(output) = queue.pop_front() {
            match output {
                Output::Append(record) => or_die(self.log().and_then(|log| log.append(&record))),
                Output::Sync => or_die(self.log().and_then(Wal::sync)),
                Output::ResetLog(height) => or_die(self.log().and_then(|log| log.reset(height))),
                Output::Send(message) => {
                    // Nothing leaves a node whose store is not what it was.
                    if message.commits_the_sender() {
                        let read_set = self.ready.values().flat_map(|next| &next.read_set).copied().collect();
                        match self.node.guard.store_is_sound(&read_set).await {
                            Soundness::Sound => {}
                            Soundness::Attacked => return,
                            // It is sent again when the rebroadcast is due.
                            Soundness::Unknown => continue,
                        }
                    }
                    let item = Item::Consensus(message.height(), message.encode().into());
                    self.node.book.tell_all(&item);
                }
                Output::Build { height, round } => self.build(height, round),
                Output::Check { height, value, block, vouched } => {
                    let examined = self.ready.get(&value).map(|next| next.block.header);
                    self.node.check_aside((height, value), block, examined, vouched);
                }
                Output::Commit { block, certificate } => {
                    let more = self.decided(&block, &certificate).await;
                    queue.extend(more);
                }
                Output::Behind(member, _) => {
                    if let Some(peer) = self.node.book.by_id(&member) {
                        self.fetch_blocks(&peer);
                    }
                }
                Output::Evidence(evidence) => self.keep_evidence(&evidence),
            }
        }
    }

    fn log(&mut self) -> std::io::Result<&mut Wal> {
        self.wal.as_mut().ok_or_else(|| std::io::Error::other("there is no log while the store is attacked"))
    }

    fn build(&mut self, height: u64, round: u32) {
        self.stop_mining.store(true, Ordering::Relaxed);
        self.stop_mining = Arc::new(AtomicBool::new(false));
        let allow_empty = round > 0 || self.heartbeat_is_due();
        let spaced = self.spaced.map_or(Duration::ZERO, |due| due.saturating_duration_since(Instant::now()));
        let wait = spaced.max(self.node.until_earliest());
        self.node.build_after(wait, (height, round), allow_empty, self.stop_mining.clone());
    }

    async fn built(&mut self, height: u64, round: u32, next: Option<Box<NextBlock>>) {
        let Some(next) = next.filter(|next| next.block.header.height == self.core.height()) else {
            self.feed(Input::NotBuilt { height, round }).await;
            return;
        };
        let (value, block) = (next.value, BlockBytes::from(next.block.to_bytes()));
        self.ready.insert(value, *next);
        self.feed(Input::Built { height, round, value, block }).await;
    }

    /// Makes a decision durable and goes on to the next height.
    async fn decided(&mut self, bytes: &BlockBytes, certificate: &Certificate) -> Vec<Output> {
        let next = match self.ready.remove(&certificate.value) {
            Some(next) => Some(next),
            // After a restart the block comes from the log.
            None => self.node.examine_certified(bytes),
        };
        let Some(next) = next else {
            tracing::error!(
                block.height = certificate.height,
                "ALARM: a decided block breaks a rule on this node"
            );
            return Vec::new();
        };
        let note = self.node.note(certificate).to_note();
        let outputs = self.commit(next, note).await;
        self.quiet.decided(certificate.height, MemberSet::of(self.node.chain().state().members()).len());
        outputs
    }

    /// Stores a block that is certified and takes it as the new tip.
    async fn commit(&mut self, next: NextBlock, note: String) -> Vec<Output> {
        self.stop_mining.store(true, Ordering::Relaxed);
        self.ready.clear();
        let height = next.block.header.height;
        let decided = Instant::now();
        if !self.node.commit_block(next, note).await {
            return Vec::new();
        }
        let members = MemberSet::of(self.node.chain().state().members());
        let spacing = Duration::from_millis(self.node.chain().state().parameters().min_spacing_ms);
        self.spaced = decided.checked_add(spacing).filter(|due| *due > Instant::now());
        let work = self.spaced.is_none() && self.node.mempool().has_work();
        let now = self.now_ms();
        let (key, timing) =
            (self.node.membership().map(|membership| membership.key.clone()), timing(&self.node.chain()));
        let mut outputs = self.core.handle(now, Input::Membership { key, timing });
        outputs.extend(self.core.handle(now, Input::Committed { height, members, work }));
        outputs
    }

    async fn carry_out_now(&mut self, outputs: Vec<Output>) {
        Box::pin(self.carry_out(outputs)).await;
    }

    fn keep_evidence(&self, evidence: &Equivocation) {
        tracing::error!(member.id = %evidence.member, block.height = evidence.height, "ALARM: a member signed two things");
        let accusations = self.node.accusations.clone();
        let Some(evidence) = accusations.double_vote(evidence) else { return };
        // Its own event goes through admission, which waits for this loop.
        tasks::once("accusing a member", async move { accusations.accuse(evidence).await });
    }

    fn fetch_blocks(&mut self, speaker: &Arc<Peer>) {
        let node = &self.node;
        self.catch_up.fetch(
            speaker,
            node.memory.height(),
            &node.book,
            &node.inlet,
            node.membership.membership(),
        );
    }

    /// Takes the blocks that a member sent, and asks another one for the next. One that sent nothing of use is passed
    /// over.
    async fn take_blocks(&mut self, from: Arc<Peer>, blocks: Option<BlocksView>) {
        let fair = self.catch_up.ended(blocks.as_ref());
        let before = self.node.memory.height();
        let tip = blocks.as_ref().map_or(0, |view| view.tip);
        let whole = match blocks {
            Some(view) => self.take_all(&from, view.blocks).await,
            None => false,
        };
        let height = self.node.memory.height();
        self.catch_up.rate(&from.name, whole && fair);
        let ahead = self.node.book.healthy().into_iter().find(|peer| peer.height() > height);
        let next = ahead.or((whole && height > before && height < tip).then_some(from));
        self.node.guard.change_condition(|condition| condition.syncing = next.is_some());
        if let Some(peer) = next.filter(|peer| height > before || !self.catch_up.failed_lately(&peer.name)) {
            self.fetch_blocks(&peer);
        }
    }

    /// Who signed this block and told this node something else shows now, or never.
    async fn compare(&mut self, certificate: &str) {
        let Ok(note) = Note::parse(certificate) else { return };
        let certificate = self.node.certificate(&note);
        let outputs = self.core.handle(self.now_ms(), Input::Certified(certificate));
        self.carry_out_now(outputs).await;
    }

    /// Commits blocks as long as they hold; false at the first that does not.
    async fn take_all(&mut self, from: &Arc<Peer>, blocks: Vec<BlockView>) -> bool {
        for view in blocks {
            if view.height <= self.node.memory.height() {
                continue;
            }
            let examined = {
                let known = |txid: &Digest| self.node.mempool().get(txid).cloned();
                examine_fetched(&self.node.chain(), &view, &known)
            };
            match examined {
                Ok(next) => {
                    self.compare(&view.certificate).await;
                    let outputs = self.commit(next, view.certificate).await;
                    self.carry_out_now(outputs).await;
                }
                Err(reason) => {
                    tracing::error!(
                        peer.name = %from.name, block.height = view.height, block.reason = %reason,
                        "ALARM: a member's block is not certified or does not continue this chain"
                    );
                    return false;
                }
            }
        }
        true
    }

    /// Takes part again with a healed store.
    async fn healed(&mut self, chain: Chain, done: oneshot::Sender<()>) {
        let node = self.node.clone();
        self.stop_mining.store(true, Ordering::Relaxed);
        self.ready.clear();
        self.catch_up = CatchUp::default();
        let found = or_die(look(&node.guard.data().wal()));
        // How far the log was when the damage was found is compared at the start; it is this process's since.
        let known_members = KnownMembers { tip: None, ..known_members(&node, &chain) };
        self.quiet.renew(or_die(double_sign_protection(node.guard.data(), &found, known_members)));
        let (wal, records) = or_die(restore(node.guard.data(), found, chain.height()));
        let (identity, tip) = (node.membership.identity(&chain), chain.height());
        let state = Boot {
            tip,
            members: MemberSet::of(chain.state().members()),
            records,
            abstaining: self.quiet.is_abstaining(),
        };
        node.membership.update_membership(&chain);
        node.book.take_seats(&chain);
        node.memory.replace(chain);
        if let Err(error) = node.pool.restore_promises().await {
            tracing::error!(error = %error, "Promises cannot be restored from the healed store");
            node.guard.mark_again();
            return;
        }
        let (core, first) = Core::boot(self.now_ms(), identity, state);
        (self.core, self.wal) = (core, Some(wal));
        node.guard.mark_gone();
        let _nobody_waits = done.send(());
        self.carry_out_now(first).await;
        self.tell_work().await;
    }

    /// Ends double-sign protection. Consensus is replayed from the log once more: what it would have voted while it
    /// abstained it votes now, for it will not be asked again.
    async fn speak(&mut self) {
        if !self.quiet.is_abstaining() || self.node.guard.is_attacked() {
            return;
        }
        let found = or_die(look(&self.node.guard.data().wal()));
        let known_members = known_members(&self.node, &self.node.chain());
        if found.is_lost(known_members.tip) {
            tracing::error!("The write-ahead log was changed while the node abstained; it still does");
            self.quiet.begin_anew();
            return;
        }
        self.quiet.end();
        or_die(self.node.guard.data().speak());
        let (identity, state, wal) = {
            let chain = self.node.chain();
            let (tip, members) = (chain.height(), MemberSet::of(chain.state().members()));
            let (wal, records) = or_die(restore(self.node.guard.data(), found, tip));
            (self.node.membership.identity(&chain), Boot { tip, members, records, abstaining: false }, wal)
        };
        let (core, first) = Core::boot(self.now_ms(), identity, state);
        (self.core, self.wal) = (core, Some(wal));
        tracing::info!(node.name = %self.node.name(), block.height = self.core.height(), "The node signs again");
        self.carry_out_now(first).await;
        self.tell_work().await;
    }
}

/// Who there is to contradict, as this node has it with this chain.
fn known_members(node: &Node, chain: &Chain) -> KnownMembers {
    let (tip, members) = (Some(chain.height()), MemberSet::of(chain.state().members()).len());
    KnownMembers { tip, members, peers: node.book.count_configured() }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
