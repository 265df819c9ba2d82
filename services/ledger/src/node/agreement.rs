//! Carries out what the agreement says, in its order: log, sync, verify the store, send; build and check
//! blocks on other threads; commit. One task; a disk that fails here ends the process, because a vote whose
//! record is not on disk must not leave it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hbc_chain::evidence::{DoubleVote, Evidence, Signed};
use hbc_chain::memory::{Chain, NextBlock};
use hbc_chain::tx::Tx;
use hbc_consensus::{
    Agreement, BlockBytes, BlockId, Certificate, Core, Equivocation, Input, MemberId, MemberSet, Message,
    Output, Verdict,
};
use hbc_types::keys::{PublicKey, SignatureBytes};
use hbc_types::wire::ledger::BlocksView;
use tokio::sync::{mpsc, oneshot};

use super::Node;
use super::boot::timing;
use super::catch_up::CatchUp;
use super::guardian::Soundness;
use crate::domain::silence::Silence;
use crate::peers::{Item, Peer, PeerNews};
use crate::wal::Wal;

/// How often heartbeat and promises are looked after.
const TICK: Duration = Duration::from_millis(500);
/// How often transactions that wait are told to the others again, in ticks.
const TELL_AGAIN_TICKS: u32 = 6;
/// How many of them at once.
const TELL_AGAIN: usize = 2_000;

/// How many in one queue entry: at most 4 MiB of the largest.
const TOLD_AT_ONCE: usize = 16;

/// What happens to the loop.
pub enum Event {
    /// A member's message.
    Message(MemberId, Message),
    /// Transactions were taken in.
    Work,
    /// A block with its work, or none.
    Built(u64, u32, Option<Box<NextBlock>>),
    /// A proposed block was examined.
    Checked(u64, BlockId, Verdict, Option<Box<NextBlock>>),
    /// Blocks of a peer, or none.
    Blocks(Arc<Peer>, Option<BlocksView>),
    /// A member's announcement of its address was taken.
    Address(String),
    /// The store is repaired: this is its chain. Answered once the node takes part again.
    Healed(Box<Chain>, oneshot::Sender<()>),
    /// End.
    Stop(oneshot::Sender<()>),
}

/// The task that owns the agreement.
pub struct Loop {
    pub(super) node: Arc<Node>,
    pub(super) core: Core,
    /// None while the store is attacked since the start: then nothing is taken up yet.
    pub(super) wal: Option<Wal>,
    inbox: mpsc::Receiver<Event>,
    news: mpsc::Receiver<PeerNews>,
    started: Instant,
    /// Examined or built blocks of this height, those whose time has not come included.
    pub(super) ready: BTreeMap<BlockId, NextBlock>,
    pub(super) stop_mining: Arc<AtomicBool>,
    pub(super) catch_up: CatchUp,
    /// When the next block may be begun at the earliest: so long after the last as the parameters ask.
    spaced: Option<Instant>,
    /// Set while nothing may be signed because the log was lost.
    pub(super) silence: Option<Silence>,
    /// What kept it silent is over.
    pub(super) may_speak: bool,
    ticks: u32,
    /// What arrived before this number was told once already.
    told_before: u64,
}

impl Loop {
    /// The loop of a node whose agreement was just taken up.
    #[must_use]
    pub fn new(
        node: Arc<Node>,
        core: Core,
        wal: Option<Wal>,
        inbox: mpsc::Receiver<Event>,
        news: mpsc::Receiver<PeerNews>,
        started: Instant,
        silence: Option<Silence>,
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
            silence,
            may_speak: false,
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
            let deadline = if self.node.attack().is_some() { None } else { self.core.next_deadline_ms() };
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
            if self.may_speak {
                self.speak().await;
            }
        }
    }

    async fn event(&mut self, event: Event) {
        if let Event::Message(from, message) = &event {
            self.node.inbound.done(from, message.weight());
        }
        let event = match event {
            Event::Healed(chain, done) => return self.healed(*chain, done).await,
            event => event,
        };
        if self.node.attack().is_some() {
            self.stop_mining.store(true, Ordering::Relaxed);
            return;
        }
        match event {
            Event::Message(from, message) => {
                if let Some(peer) = self.node.peers.by_id(&from) {
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
            Event::Address(name) => self.node.meet_announced(&name),
            Event::Healed(..) | Event::Stop(_) => {}
        }
    }

    fn peer_news(&mut self, news: PeerNews) {
        match news {
            PeerNews::Stands(peer, heard) => {
                self.listen_silently(&peer, heard.height);
                if heard.height > self.node.chain().height() && !heard.attacked {
                    self.fetch_blocks(&peer);
                }
            }
            PeerNews::Addresses(announcements) => self.node.take_addresses(&announcements),
        }
    }

    async fn tick(&mut self) {
        if self.node.attack().is_some() {
            return;
        }
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(TELL_AGAIN_TICKS) {
            // Younger ones are still on their way.
            let (promises, next) = {
                let waiting = self.node.waiting();
                (waiting.promised_before(self.told_before, TELL_AGAIN), waiting.next_number())
            };
            self.told_before = next;
            self.node.tell_of(&promises);
        }
        self.tell_work().await;
    }

    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Tells the agreement whether there is something to decide.
    pub(super) async fn tell_work(&mut self) {
        if self.node.attack().is_some() {
            return;
        }
        let waits = self.node.waiting().has_work();
        let work = self.spaced.is_none() && (waits || self.heartbeat_is_due());
        self.feed(Input::Work(work)).await;
    }

    fn heartbeat_is_due(&self) -> bool {
        let chain = self.node.chain();
        let heartbeat = chain.state().parameters().heartbeat_ms;
        self.node.clock.now().unsigned_ms() >= chain.tip().time_ms.saturating_add(heartbeat)
    }

    pub(super) async fn feed(&mut self, input: Input) {
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
                        let relied = self.ready.values().flat_map(|next| &next.relied).copied().collect();
                        match self.node.store_is_sound(&relied).await {
                            Soundness::Sound => {}
                            Soundness::Attacked => return,
                            // It is sent again when the rebroadcast is due.
                            Soundness::Unknown => continue,
                        }
                    }
                    let item = Item::Agreement(message.height(), message.encode().into());
                    self.node.tell_all(&item);
                }
                Output::Build { height, round } => self.build(height, round),
                Output::Check { height, value, block, vouched } => self.check(height, value, block, vouched),
                Output::Commit { block, certificate } => {
                    let more = self.decided(&block, &certificate).await;
                    queue.extend(more);
                }
                Output::Behind(member, _) => {
                    if let Some(peer) = self.node.peers.by_id(&member) {
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
        let (node, stop) = (self.node.clone(), self.stop_mining.clone());
        let allow_empty = round > 0 || self.heartbeat_is_due();
        let spaced = self.spaced.map_or(Duration::ZERO, |due| due.saturating_duration_since(Instant::now()));
        let wait = spaced.max(node.until_earliest());
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let built = tokio::task::spawn_blocking(move || {
                let next = node.build_block(allow_empty, &stop).map(Box::new);
                let _loop_ended = node.events.blocking_send(Event::Built(height, round, next));
            });
            let _panicked = built.await;
        });
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

    /// A block that was found good, but early, is only held against the clock.
    fn check(&self, height: u64, value: BlockId, bytes: BlockBytes, vouched: bool) {
        let node = self.node.clone();
        let examined = self.ready.get(&value).map(|next| next.block.header);
        tokio::task::spawn_blocking(move || {
            let (verdict, next) = match examined {
                Some(header) => (node.judge_time(&header), None),
                None => node.check_block(value, &bytes),
            };
            let verdict = match verdict {
                Verdict::Early { .. } if vouched => Verdict::Valid,
                verdict => verdict,
            };
            let _loop_ended = node.events.blocking_send(Event::Checked(height, value, verdict, next));
        });
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
        self.decided_while_silent(certificate.height);
        outputs
    }

    /// Stores a block that is certified and takes it as the new tip.
    pub(super) async fn commit(&mut self, next: NextBlock, note: String) -> Vec<Output> {
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
        let work = self.spaced.is_none() && self.node.waiting().has_work();
        let now = self.now_ms();
        let (key, timing) = (self.node.seat().map(|seat| seat.key.clone()), timing(&self.node.chain()));
        let mut outputs = self.core.handle(now, Input::Seat { key, timing });
        outputs.extend(self.core.handle(now, Input::Committed { height, members, work }));
        outputs
    }

    pub(super) async fn carry_out_now(&mut self, outputs: Vec<Output>) {
        Box::pin(self.carry_out(outputs)).await;
    }

    fn keep_evidence(&self, evidence: &Equivocation) {
        tracing::error!(member.id = %evidence.member, block.height = evidence.height, "ALARM: a member signed two things");
        let chain = self.node.chain_id;
        let member = MemberSet::of(self.node.chain().state().members()).get(&evidence.member).copied();
        let signed = |(text, signature): &(Vec<u8>, [u8; 64])| {
            let text = String::from_utf8(text.clone()).ok()?;
            Some(Signed { signature: SignatureBytes::from_bytes(*signature), text })
        };
        let (Some(member), Some(one), Some(other)) =
            (member, signed(&evidence.first), signed(&evidence.second))
        else {
            return;
        };
        let public = PublicKey::from_bytes(member.public_key);
        let votes = DoubleVote::new(chain, public, evidence.height, one, other);
        let node = self.node.clone();
        // Its own event goes through admission, which waits for this loop.
        tokio::spawn(async move { node.accuse(Evidence::DoubleVote(votes)).await });
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// The log must not fail: what was signed and not recorded could be contradicted after a restart.
pub(super) fn or_die<T>(result: std::io::Result<T>) -> T {
    result.unwrap_or_else(|error| {
        tracing::error!(error = %error, "The write-ahead log cannot be used; the node ends here");
        std::process::abort();
    })
}

impl Node {
    /// To every other member.
    pub fn tell_all(&self, item: &Item) {
        for peer in self.peers.all().iter() {
            peer.tell(item.clone());
        }
    }

    /// Tells the others of transactions that wait.
    pub(super) fn tell_of(&self, txs: &[Arc<Tx>]) {
        if self.seat().is_none() {
            self.hand_on(txs);
            return;
        }
        for some in txs.chunks(TOLD_AT_ONCE) {
            self.tell_all(&Item::Transactions(some.iter().map(|tx| tx.bytes().into()).collect()));
        }
    }
}
