//! The simulator: members as machines, and between them a network, disks and a clock that obey a seed. What was not
//! synced is lost in a crash, what is under way is dropped, doubled, delayed and overtaken; a liar runs twice under one
//! key and makes things up ([`super::forger`]); a cut keeps two sides from hearing each other.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use hbc_ledger::consensus::texts::Texts;
use hbc_ledger::consensus::wal::Record;
use hbc_ledger::consensus::{
    Agreement, BlockBytes, BlockId, Boot, Certificate, Core, Identity, Input, Member, MemberId, MemberSet,
    Message, Output, Timing, Verdict,
};
use hbc_types::{Digest, Random};

/// Small deterministic generator: the simulator draws millions of numbers.
pub struct Rng(u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
    pub fn one_in(&mut self, n: u64) -> bool {
        n != 0 && self.below(n) == 0
    }
}

/// What a seed is played with.
#[derive(Clone, Copy)]
pub struct Plan {
    pub members: usize,
    /// The first so many members lie.
    pub liars: usize,
    pub transactions: u32,
    /// Faults end here; from then on everything must become final.
    pub calm_ms: u64,
    pub drop_one_in: u64,
    pub double_one_in: u64,
    pub longest_delay_ms: u64,
    pub crash_one_in: u64,
    /// With each message the liars send, one in so many times, something made up.
    pub forge_one_in: u64,
    /// Up to so many times the network falls into two sides.
    pub cuts: u64,
    /// One more member joins by a transaction, and another one leaves.
    pub change_members: bool,
    pub keep_log: bool,
    /// The liars tell two halves of the honest members two stories (the fork control).
    pub two_stories: bool,
}

/// How often a member asks the others how far they are.
const PING_MS: u64 = 4_000;
/// The transaction by which the last key becomes a member, and the one by which the second stops being one.
const JOIN: u32 = 1_000;
const LEAVE: u32 = 1_001;

enum Event {
    Deliver {
        to: usize,
        from: MemberId,
        bytes: Arc<[u8]>,
    },
    Tick {
        slot: usize,
        life: u32,
    },
    Built {
        slot: usize,
        life: u32,
        height: u64,
        round: u32,
    },
    Checked {
        slot: usize,
        life: u32,
        height: u64,
        value: BlockId,
        verdict: Verdict,
    },
    Sync {
        slot: usize,
        from: usize,
    },
    /// Asks the others how far they are, as nodes do when nothing else is said.
    Ping {
        slot: usize,
    },
    Restart {
        slot: usize,
    },
    Transaction(u32),
}

pub struct Slot {
    pub member: usize,
    core: Option<Core>,
    life: u32,
    synced: Vec<Record>,
    unsynced: Vec<Record>,
    pub chain: Vec<(BlockBytes, Certificate)>,
    /// Members of the next height.
    set: MemberSet,
    pending: BTreeSet<u32>,
    done: BTreeSet<u32>,
    tick_at: Option<u64>,
}

pub struct Sim {
    pub plan: Plan,
    pub rng: Rng,
    pub now: u64,
    sequence: u64,
    events: BTreeMap<(u64, u64), Event>,
    due: BinaryHeap<Reverse<(u64, u64)>>,
    pub keys: Vec<SigningKey>,
    pub texts: Texts,
    pub slots: Vec<Slot>,
    /// When the network is in two sides, and who is on the first of them.
    cuts: Vec<(u64, u64, u64)>,
    /// Messages seen by the liars, to be sent again or altered.
    pub heard: Vec<Message>,
    signed: BTreeMap<(MemberId, u64, (u8, u32)), Vec<u8>>,
    pub contradictions: u32,
    pub evidence: BTreeSet<MemberId>,
    pub crashes: u32,
    pub forged: u32,
    /// Bytes that were no message, and answers to a catch-up that certified nothing.
    pub refused: u32,
    /// A digest of everything that was delivered, in order: the story that the seed tells.
    pub story: Digest,
}

pub fn identify(height: u64, block: &[u8]) -> BlockId {
    let hash = Digest::of(block);
    BlockId { hash, log_size: height, log_root: Digest::of(hash.as_bytes()) }
}

fn transactions_of(block: &[u8]) -> BTreeSet<u32> {
    let text = String::from_utf8_lossy(block).into_owned();
    text.split_whitespace().skip(4).filter_map(|word| word.parse().ok()).collect()
}

impl Sim {
    pub fn new(seed: u64, plan: Plan) -> Self {
        let random = Random::seeded(seed);
        let count = plan.members + usize::from(plan.change_members);
        let keys: Vec<_> = (0..count).map(|_| SigningKey::from_bytes(&random.bytes())).collect();
        let set = set_of(keys.iter().take(plan.members));
        let chain = Digest::of(b"simulated chain");
        let mut sim = Self {
            plan,
            rng: Rng(seed),
            now: 0,
            sequence: 0,
            events: BTreeMap::new(),
            due: BinaryHeap::new(),
            keys,
            texts: Texts { chain, origin: "test/hbc/0000".to_owned() },
            slots: Vec::new(),
            cuts: Vec::new(),
            heard: Vec::new(),
            signed: BTreeMap::new(),
            contradictions: 0,
            evidence: BTreeSet::new(),
            crashes: 0,
            forged: 0,
            refused: 0,
            story: Digest::ZERO,
        };
        // Every member has a slot; each liar has a twin with the same key.
        for member in (0..count).chain(0..plan.liars) {
            sim.slots.push(Slot {
                member,
                core: None,
                life: 0,
                synced: Vec::new(),
                unsynced: Vec::new(),
                chain: Vec::new(),
                set: set.clone(),
                pending: BTreeSet::new(),
                done: BTreeSet::new(),
                tick_at: None,
            });
        }
        for slot in 0..sim.slots.len() {
            sim.boot(slot);
            let at = sim.rng.below(PING_MS);
            sim.schedule(at, Event::Ping { slot });
        }
        let changes = [JOIN, LEAVE].into_iter().filter(|_| plan.change_members);
        for number in (0..plan.transactions).chain(changes) {
            let at = sim.rng.below(plan.calm_ms);
            sim.schedule(at, Event::Transaction(number));
        }
        for _ in 0..plan.cuts {
            let from = sim.rng.below(plan.calm_ms);
            let to = (from + sim.rng.below(plan.calm_ms)).min(plan.calm_ms);
            let side = sim.rng.next();
            sim.cuts.push((from, to, side));
        }
        sim
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
        self.due.push(Reverse((at, self.sequence)));
    }

    pub fn id(&self, member: usize) -> MemberId {
        Member::new(self.keys[member].verifying_key().to_bytes()).id
    }

    pub fn honest(&self, slot: usize) -> bool {
        self.slots[slot].member >= self.plan.liars
    }

    fn calm(&self) -> bool {
        self.now >= self.plan.calm_ms
    }

    fn boot(&mut self, slot: usize) {
        let identity = Identity {
            key: self.keys[self.slots[slot].member].clone(),
            texts: self.texts.clone(),
            timing: Timing::default(),
        };
        let tip = self.slots[slot].chain.len() as u64;
        let records = self.slots[slot].synced.clone();
        let boot = Boot { tip, members: self.slots[slot].set.clone(), records };
        let (core, outputs) = Core::boot(self.now, identity, boot);
        self.slots[slot].core = Some(core);
        self.carry_out(slot, outputs);
        let work = !self.slots[slot].pending.is_empty();
        self.feed(slot, Input::Work(work));
    }

    fn feed(&mut self, slot: usize, input: Input) {
        let now = self.now;
        let Some(core) = &mut self.slots[slot].core else { return };
        let outputs = core.handle(now, input);
        self.carry_out(slot, outputs);
        self.arm(slot);
    }

    fn arm(&mut self, slot: usize) {
        let deadline = self.slots[slot].core.as_ref().and_then(Agreement::next_deadline_ms);
        if let Some(deadline) = deadline.filter(|deadline| self.slots[slot].tick_at != Some(*deadline)) {
            self.slots[slot].tick_at = Some(deadline);
            let life = self.slots[slot].life;
            self.schedule(deadline.max(self.now), Event::Tick { slot, life });
        }
    }

    fn crash(&mut self, slot: usize) {
        self.crashes += 1;
        let kept = self.rng.below(self.slots[slot].unsynced.len() as u64 + 1) as usize;
        let state = &mut self.slots[slot];
        state.unsynced.truncate(kept);
        let rest = std::mem::take(&mut state.unsynced);
        state.synced.extend(rest);
        if !self.plan.keep_log {
            state.synced.clear();
        }
        state.core = None;
        state.life += 1;
        state.tick_at = None;
        let at = self.now + 20 + self.rng.below(1_500);
        self.schedule(at, Event::Restart { slot });
    }

    fn carry_out(&mut self, slot: usize, outputs: Vec<Output>) {
        for output in outputs {
            if !self.calm() && self.honest(slot) && self.rng.one_in(self.plan.crash_one_in) {
                self.crash(slot);
                return;
            }
            match output {
                Output::Append(record) => self.slots[slot].unsynced.push(record),
                Output::Sync => {
                    let rest = std::mem::take(&mut self.slots[slot].unsynced);
                    self.slots[slot].synced.extend(rest);
                }
                Output::ResetLog(_) => {
                    self.slots[slot].unsynced.clear();
                    self.slots[slot].synced.clear();
                }
                Output::Send(message) => self.send(slot, &message),
                Output::Build { height, round } => {
                    let (at, life) = (self.now + 1 + self.rng.below(150), self.slots[slot].life);
                    self.schedule(at, Event::Built { slot, life, height, round });
                }
                Output::Check { height, value, block } => {
                    let verdict = self.check(slot, height, value, &block);
                    let (at, life) = (self.now + self.rng.below(10), self.slots[slot].life);
                    self.schedule(at, Event::Checked { slot, life, height, value, verdict });
                }
                Output::Commit { block, certificate } => {
                    let height = certificate.height;
                    let set = &self.slots[slot].set;
                    self.texts.verify(&certificate, set).expect("own certificate verifies");
                    self.commit(slot, height, block, certificate);
                    return;
                }
                Output::Behind(member, _) => {
                    if let Some(from) =
                        (0..self.slots.len()).find(|s| self.id(self.slots[*s].member) == member)
                    {
                        self.schedule(self.now + 5, Event::Sync { slot, from });
                    }
                }
                Output::Evidence(pair) => {
                    let member = *self.slots[slot].set.get(&pair.member).expect("a member");
                    assert!(self.texts.proves(&pair, &member), "evidence proves nothing");
                    if self.honest(slot) {
                        self.evidence.insert(pair.member);
                    }
                }
            }
        }
    }

    fn commit(&mut self, slot: usize, height: u64, block: BlockBytes, certificate: Certificate) {
        let state = &mut self.slots[slot];
        if state.chain.len() as u64 + 1 != height {
            return;
        }
        let numbers = transactions_of(&block);
        for number in &numbers {
            assert!(state.pending.remove(number) || !state.done.contains(number), "{number} is final twice");
            state.done.insert(*number);
        }
        state.chain.push((block, certificate));
        if numbers.contains(&JOIN) || numbers.contains(&LEAVE) {
            let done = state.done.clone();
            let joined = self.plan.members + usize::from(done.contains(&JOIN));
            let left = done.contains(&LEAVE).then_some(1);
            let keys = self.keys.iter().take(joined).enumerate();
            self.slots[slot].set = set_of(keys.filter(|(n, _)| Some(*n) != left).map(|(_, key)| key));
        }
        let members = self.slots[slot].set.clone();
        let work = !self.slots[slot].pending.is_empty();
        self.feed(slot, Input::Work(work));
        self.feed(slot, Input::Committed { height, members });
    }

    fn send(&mut self, slot: usize, message: &Message) {
        if self.honest(slot)
            && let Some((member, step, text)) = message.signed_text(&self.texts)
            && member == self.id(self.slots[slot].member)
        {
            let before = self.signed.entry((member, message.height(), step)).or_insert(text.clone());
            if *before != text {
                self.contradictions += 1;
            }
        }
        if !self.honest(slot) && self.rng.one_in(self.plan.forge_one_in) {
            self.forge(slot);
        }
        self.spread(slot, message.encode());
    }

    /// Sends bytes to everybody else, by the network's will.
    pub fn spread(&mut self, slot: usize, bytes: impl Into<Arc<[u8]>>) {
        let bytes = bytes.into();
        let from = self.id(self.slots[slot].member);
        for to in 0..self.slots.len() {
            if self.slots[to].member == self.slots[slot].member || self.is_cut(slot, to) {
                continue;
            }
            let mut delay = 1 + self.rng.below(15);
            if self.plan.two_stories {
                if self.world(slot).is_some_and(|mine| self.world(to).is_some_and(|other| mine != other)) {
                    delay = 60_000;
                }
            } else if !self.honest(slot) && self.rng.one_in(2) {
                continue;
            }
            if !self.calm() {
                if self.rng.one_in(self.plan.drop_one_in) {
                    continue;
                }
                if self.rng.one_in(4) {
                    delay += self.rng.below(self.plan.longest_delay_ms.max(1));
                }
                if self.rng.one_in(self.plan.double_one_in) {
                    let later = self.now + delay + self.rng.below(500);
                    self.schedule(later, Event::Deliver { to, from, bytes: bytes.clone() });
                }
            }
            self.schedule(self.now + delay, Event::Deliver { to, from, bytes: bytes.clone() });
        }
    }

    /// Whether two members are on different sides now.
    fn is_cut(&self, one: usize, other: usize) -> bool {
        let side = |slot: usize, sides: u64| sides >> self.slots[slot].member & 1;
        let mut open = self.cuts.iter().filter(|(from, to, _)| (*from..*to).contains(&self.now));
        open.any(|(_, _, sides)| side(one, *sides) != side(other, *sides))
    }

    /// In the fork control the slots live in two worlds that do not hear each other.
    fn world(&self, slot: usize) -> Option<usize> {
        if self.honest(slot) { Some(slot % 2) } else { Some(usize::from(slot >= self.plan.members)) }
    }

    pub fn check(&self, slot: usize, height: u64, value: BlockId, block: &[u8]) -> Verdict {
        if identify(height, block) != value {
            return Verdict::Damaged;
        }
        let previous = self.slots[slot].chain.last().map(|(_, certificate)| certificate.value.hash);
        let expected = format!("{height} {}", previous.unwrap_or(Digest::ZERO));
        let early = transactions_of(block).contains(&LEAVE) && !self.slots[slot].done.contains(&JOIN);
        if block.starts_with(expected.as_bytes()) && !early { Verdict::Valid } else { Verdict::Invalid }
    }

    /// Members of the height that the slot works on.
    pub fn members_of(&self, slot: usize) -> MemberSet {
        self.slots[slot].set.clone()
    }

    pub fn build(&mut self, slot: usize, height: u64, round: u32) -> BlockBytes {
        let state = &self.slots[slot];
        let previous = state.chain.last().map_or(Digest::ZERO, |(_, certificate)| certificate.value.hash);
        // Three members bear no fault, so nobody leaves before the fifth has come.
        let fits = |number: &&u32| **number != LEAVE || state.done.contains(&JOIN);
        let list: Vec<String> = state.pending.iter().filter(fits).map(ToString::to_string).collect();
        // The slot makes twins offer different blocks; the nonce makes a restarted member offer another one.
        let nonce = self.rng.below(1 << 30);
        format!("{height} {previous} r{round}s{slot} n{nonce} {}", list.join(" ")).into_bytes().into()
    }

    pub fn run(&mut self) -> Result<(), String> {
        while let Some(Reverse(key)) = self.due.pop() {
            self.now = key.0;
            let Some(event) = self.events.remove(&key) else { continue };
            if self.now > self.plan.calm_ms + 240_000 {
                return Err(self.describe("not final four minutes after the last fault"));
            }
            self.step(event)?;
            if self.calm() && self.finished() {
                return Ok(());
            }
        }
        if self.finished() { Ok(()) } else { Err(self.describe("silent, but not final")) }
    }

    fn step(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Deliver { to, from, bytes } => {
                let told =
                    [self.story.as_bytes().as_slice(), &[to as u8], &self.now.to_be_bytes(), &bytes].concat();
                self.story = Digest::of(&told);
                let Ok(message) = Message::decode(&bytes) else {
                    self.refused += 1;
                    return Ok(());
                };
                if !self.honest(to) && self.plan.forge_one_in != 0 {
                    self.heard.push(message.clone());
                }
                let old = message.height() <= self.slots[to].chain.len() as u64;
                if old && self.slots[to].core.is_some() {
                    for slot in 0..self.slots.len() {
                        if self.id(self.slots[slot].member) == from {
                            self.schedule(self.now + 5, Event::Sync { slot, from: to });
                        }
                    }
                }
                self.feed(to, Input::Message(from, message));
            }
            Event::Tick { slot, life } => {
                if self.slots[slot].life == life {
                    self.slots[slot].tick_at = None;
                    self.feed(slot, Input::Tick);
                }
            }
            Event::Built { slot, life, height, round } => {
                if self.slots[slot].life == life {
                    let block = self.build(slot, height, round);
                    let value = identify(height, &block);
                    self.feed(slot, Input::Built { height, round, value, block });
                }
            }
            Event::Checked { slot, life, height, value, verdict } => {
                if self.slots[slot].life == life {
                    self.feed(slot, Input::Checked { height, value, verdict });
                }
            }
            Event::Sync { slot, from } => self.catch_up(slot, from)?,
            Event::Ping { slot } => {
                for from in (0..self.slots.len()).filter(|from| *from != slot) {
                    if self.slots[from].chain.len() > self.slots[slot].chain.len() {
                        let at = self.now + 5 + self.rng.below(50);
                        self.schedule(at, Event::Sync { slot, from });
                    }
                }
                self.schedule(self.now + PING_MS, Event::Ping { slot });
            }
            Event::Restart { slot } => self.boot(slot),
            Event::Transaction(number) => {
                for slot in 0..self.slots.len() {
                    if !self.slots[slot].done.contains(&number) {
                        self.slots[slot].pending.insert(number);
                        self.feed(slot, Input::Work(true));
                    }
                }
            }
        }
        Ok(())
    }

    fn catch_up(&mut self, slot: usize, from: usize) -> Result<(), String> {
        if self.slots[from].core.is_none() || self.slots[slot].core.is_none() || self.is_cut(slot, from) {
            return Ok(());
        }
        if !self.honest(from) && self.rng.one_in(self.plan.forge_one_in) {
            return self.lie_about_blocks(slot, from);
        }
        while let Some((block, certificate)) =
            self.slots[from].chain.get(self.slots[slot].chain.len()).cloned()
        {
            let height = self.slots[slot].chain.len() as u64 + 1;
            self.texts.verify(&certificate, &self.slots[slot].set).map_err(|error| error.to_string())?;
            if self.check(slot, height, certificate.value, &block) != Verdict::Valid {
                return Err(self.describe("a certified block does not continue the chain"));
            }
            self.commit(slot, height, block, certificate);
            if self.slots[slot].core.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Everything is final at every honest member; one that left hears no more.
    fn finished(&self) -> bool {
        let honest = || (0..self.slots.len()).filter(|slot| self.honest(*slot));
        let longest = honest().map(|slot| self.slots[slot].chain.len()).max().unwrap_or(0);
        let stays = |slot: &usize| !(self.plan.change_members && self.slots[*slot].member == 1);
        honest().filter(stays).all(|slot| {
            let state = &self.slots[slot];
            state.core.is_some() && state.pending.is_empty() && state.chain.len() == longest
        })
    }

    pub fn forks(&self) -> usize {
        let mut forks = 0;
        let mut at: BTreeMap<usize, Digest> = BTreeMap::new();
        for slot in (0..self.slots.len()).filter(|slot| self.honest(*slot)) {
            for (height, (_, certificate)) in self.slots[slot].chain.iter().enumerate() {
                if *at.entry(height).or_insert(certificate.value.hash) != certificate.value.hash {
                    forks += 1;
                }
            }
        }
        forks
    }

    fn describe(&self, what: &str) -> String {
        let round = |slot: &Slot| slot.core.as_ref().and_then(Agreement::round);
        let stand = |slot: &Slot| (slot.chain.len(), slot.set.len(), slot.pending.len(), round(slot));
        let stands: Vec<_> = self.slots.iter().map(stand).collect();
        format!("{what}: at {} ms, (blocks, members, waiting, round) {stands:?}", self.now)
    }
}

fn set_of<'a>(keys: impl Iterator<Item = &'a SigningKey>) -> MemberSet {
    MemberSet::new(keys.map(|key| Member::new(key.verifying_key().to_bytes())).collect())
}
