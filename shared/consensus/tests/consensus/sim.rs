//! The simulator: members as machines, and between them a network, disks and a clock that obey a seed. What was not
//! synced is lost in a crash, what is under way is dropped, doubled, delayed and overtaken; a liar runs twice under one
//! key and makes things up ([`super::forger`]); a cut keeps two sides from hearing each other.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use hbc_consensus::sign_bytes::SignBytes;
use hbc_consensus::wal::Record;
use hbc_consensus::{
    BlockBytes, BlockId, Boot, Certificate, Consensus, Core, Identity, Input, Member, MemberId, MemberSet,
    Message, Output, Timing, Verdict,
};
use hbc_types::{Digest, Random};

use super::plan::{Plan, Rng};
use super::rules::{JOIN, LEAVE, LEAVING, REKEY, REKEYED, identify, set_of, transactions_of};

/// How often a member asks the others how far they are.
const PING_MS: u64 = 4_000;
/// How long a member that had nothing to propose waits before it looks again.
const LOOK_AGAIN_MS: u64 = 500;
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
    /// Says again whether transactions wait.
    Work {
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
    pub pending: BTreeSet<u32>,
    pub done: BTreeSet<u32>,
    tick_at: Option<u64>,
    /// How far its clock is ahead of the slowest one's.
    pub clock_ms: u64,
}

/// A time in which some do not hear others: all bits of `sides` that are set are one side.
struct Cut {
    times: std::ops::Range<u64>,
    sides: u64,
    /// The other side still hears this one.
    one_way: bool,
}

pub struct Sim {
    pub plan: Plan,
    pub rng: Rng,
    pub now: u64,
    sequence: u64,
    events: BTreeMap<(u64, u64), Event>,
    due: BinaryHeap<Reverse<(u64, u64)>>,
    pub keys: Vec<SigningKey>,
    pub sign_bytes: SignBytes,
    pub slots: Vec<Slot>,
    cuts: Vec<Cut>,
    /// Messages seen by the liars, to be sent again or altered.
    pub heard: Vec<Message>,
    /// What honest members signed, whichever key they have: by member, height, step and round.
    signed: BTreeMap<(usize, u64, (u8, u32)), Vec<u8>>,
    /// Whether the liars have left.
    left: bool,
    pub contradictions: u32,
    pub evidence: BTreeSet<MemberId>,
    pub crashes: u32,
    pub forged: u32,
    /// Bytes that were no message, and answers to a catch-up that certified nothing.
    pub refused: u32,
    /// A digest of everything that was delivered, in order: the story that the seed tells.
    pub story: Digest,
}

impl Sim {
    pub fn new(seed: u64, plan: Plan) -> Self {
        let random = Random::seeded(seed);
        let count = plan.members + usize::from(plan.change_members);
        // The last one is what the third member changes to.
        let keys: Vec<_> = (0..=count).map(|_| SigningKey::from_bytes(&random.bytes())).collect();
        let set = set_of(keys.iter().take(plan.members));
        let chain = Digest::of(b"simulated chain");
        let mut sim = Self {
            plan,
            rng: Rng::new(seed),
            now: 0,
            sequence: 0,
            events: BTreeMap::new(),
            due: BinaryHeap::new(),
            keys,
            sign_bytes: SignBytes { chain, origin: "test/hbc/0000".to_owned() },
            slots: Vec::new(),
            cuts: Vec::new(),
            heard: Vec::new(),
            signed: BTreeMap::new(),
            left: false,
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
                clock_ms: sim.rng.below(plan.clocks_apart_ms + 1),
            });
        }
        for slot in 0..sim.slots.len() {
            sim.boot(slot);
            let at = sim.rng.below(PING_MS);
            sim.schedule(at, Event::Ping { slot });
        }
        let changes = [JOIN, LEAVE, REKEY].into_iter().filter(|_| plan.change_members);
        for number in (0..plan.transactions).chain(changes) {
            let at = sim.rng.below(plan.calm_ms);
            sim.schedule(at, Event::Transaction(number));
        }
        for _ in 0..plan.cuts {
            let from = sim.rng.below(plan.calm_ms);
            let to = (from + sim.rng.below(plan.calm_ms)).min(plan.calm_ms);
            let (sides, one_way) = (sim.rng.next(), sim.rng.one_in(3));
            sim.cuts.push(Cut { times: from..to, sides, one_way });
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

    /// The key that the slot's member has after the slot's last block.
    fn key(&self, slot: usize) -> &SigningKey {
        let state = &self.slots[slot];
        let rekeyed = state.member == REKEYED && state.done.contains(&REKEY);
        if rekeyed { self.keys.last().expect("there are keys") } else { &self.keys[state.member] }
    }

    fn id_of(&self, slot: usize) -> MemberId {
        Member::new(self.key(slot).verifying_key().to_bytes()).id
    }

    /// The keys of honest members, those they change to included.
    pub fn is_honest_key(&self, id: &MemberId) -> bool {
        let liars = self.keys.iter().take(self.plan.liars);
        !liars.map(|key| Member::new(key.verifying_key().to_bytes()).id).any(|liar| liar == *id)
    }

    pub fn honest(&self, slot: usize) -> bool {
        self.slots[slot].member >= self.plan.liars
    }

    fn calm(&self) -> bool {
        self.now >= self.plan.calm_ms
    }

    fn boot(&mut self, slot: usize) {
        let identity = Identity {
            key: self.key(slot).clone(),
            sign_bytes: self.sign_bytes.clone(),
            timing: Timing::default(),
        };
        let tip = self.slots[slot].chain.len() as u64;
        let records = self.slots[slot].synced.clone();
        let boot = Boot { tip, members: self.slots[slot].set.clone(), records, abstaining: false };
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
        let deadline = self.slots[slot].core.as_ref().and_then(Consensus::next_deadline_ms);
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
                Output::Check { height, value, block, vouched } => {
                    let verdict = self.check(slot, height, value, &block, vouched);
                    let (at, life) = (self.now + self.rng.below(10), self.slots[slot].life);
                    self.schedule(at, Event::Checked { slot, life, height, value, verdict });
                }
                Output::Commit { block, certificate } => {
                    let height = certificate.height;
                    let set = &self.slots[slot].set;
                    self.sign_bytes.verify(&certificate, set).expect("own certificate verifies");
                    self.commit(slot, height, block, certificate);
                    return;
                }
                Output::Behind(member, _) => {
                    if let Some(from) = (0..self.slots.len()).find(|s| self.id_of(*s) == member) {
                        self.schedule(self.now + 5, Event::Sync { slot, from });
                    }
                }
                Output::Evidence(pair) => {
                    let member = *self.slots[slot].set.get(&pair.member).expect("a member");
                    assert!(self.sign_bytes.proves(&pair, &member), "evidence proves nothing");
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
        if [JOIN, LEAVE, REKEY].iter().any(|change| numbers.contains(change)) {
            self.slots[slot].set = self.set_after(&self.slots[slot].done);
        }
        let members = self.slots[slot].set.clone();
        let work = !self.slots[slot].pending.is_empty();
        let key = members.get(&self.id_of(slot)).map(|_| self.key(slot).clone());
        self.feed(slot, Input::Membership { key, timing: Timing::default() });
        self.feed(slot, Input::Committed { height, members, work });
    }

    fn send(&mut self, slot: usize, message: &Message) {
        if self.honest(slot)
            && let Some((signer, step, text)) = message.signed_text(&self.sign_bytes)
            && signer == self.id_of(slot)
        {
            let member = self.slots[slot].member;
            let before = self.signed.entry((member, message.height(), step)).or_insert(text.clone());
            if *before != text {
                self.contradictions += 1;
            }
        }
        if !self.honest(slot) && self.rng.one_in(self.plan.forge_one_in) {
            self.forge(slot);
        }
        self.spread(slot, message.encode());
        if self.plan.liars_leave && !self.honest(slot) {
            let signed = message.signed_text(&self.sign_bytes);
            let for_a_block =
                signed.is_some_and(|(_, (step, _), text)| step == 1 && !text.ends_with(b"nil\n"));
            self.left |= for_a_block && self.rng.one_in(4);
        }
    }

    /// Sends bytes to everybody else, by the network's will.
    pub fn spread(&mut self, slot: usize, bytes: impl Into<Arc<[u8]>>) {
        if self.left && !self.honest(slot) {
            return;
        }
        let bytes = bytes.into();
        let from = self.id_of(slot);
        for to in 0..self.slots.len() {
            if self.slots[to].member == self.slots[slot].member || self.is_cut(slot, to) {
                continue;
            }
            let mut delay = 1 + self.rng.below(15);
            if self.plan.two_stories {
                if self.world(slot).is_some_and(|mine| self.world(to).is_some_and(|other| mine != other)) {
                    delay = 60_000;
                }
            } else if !self.honest(slot) && !self.plan.liars_leave && self.rng.one_in(2) {
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

    /// Whether nothing gets from one slot to the other now.
    fn is_cut(&self, from: usize, to: usize) -> bool {
        let marked = |slot: usize, cut: &Cut| cut.sides >> self.slots[slot].member & 1 == 1;
        let mut open = self.cuts.iter().filter(|cut| cut.times.contains(&self.now));
        open.any(|cut| marked(from, cut) != marked(to, cut) && !(cut.one_way && marked(from, cut)))
    }

    /// In the fork control the slots live in two worlds that do not hear each other.
    fn world(&self, slot: usize) -> Option<usize> {
        if self.honest(slot) { Some(slot % 2) } else { Some(usize::from(slot >= self.plan.members)) }
    }

    /// Members of the height that the slot works on.
    pub fn members_of(&self, slot: usize) -> MemberSet {
        self.slots[slot].set.clone()
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
                        if self.id_of(slot) == from {
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
                if self.slots[slot].life == life && self.rng.one_in(self.plan.unbuilt_one_in) {
                    self.feed(slot, Input::NotBuilt { height, round });
                    self.schedule(self.now + LOOK_AGAIN_MS, Event::Work { slot });
                } else if self.slots[slot].life == life {
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
                self.step(Event::Work { slot })?;
            }
            Event::Restart { slot } => self.boot(slot),
            Event::Work { slot } => {
                let work = !self.slots[slot].pending.is_empty();
                self.feed(slot, Input::Work(work));
            }
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
        let cut = self.is_cut(slot, from) || self.is_cut(from, slot);
        if self.slots[from].core.is_none() || self.slots[slot].core.is_none() || cut {
            return Ok(());
        }
        if !self.honest(from) && self.rng.one_in(self.plan.forge_one_in) {
            return self.lie_about_blocks(slot, from);
        }
        while let Some((block, certificate)) =
            self.slots[from].chain.get(self.slots[slot].chain.len()).cloned()
        {
            let height = self.slots[slot].chain.len() as u64 + 1;
            self.sign_bytes.verify(&certificate, &self.slots[slot].set).map_err(|error| error.to_string())?;
            if self.check(slot, height, certificate.value, &block, true) != Verdict::Valid {
                return Err(self.describe("a certified block does not continue the chain"));
            }
            self.feed(slot, Input::Certified(certificate.clone()));
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
        let stays = |slot: &usize| !(self.plan.change_members && self.slots[*slot].member == LEAVING);
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
        let round = |slot: &Slot| slot.core.as_ref().and_then(Consensus::round);
        let stand = |slot: &Slot| (slot.chain.len(), slot.set.len(), slot.pending.len(), round(slot));
        let stands: Vec<_> = self.slots.iter().map(stand).collect();
        format!("{what}: at {} ms, (blocks, members, waiting, round) {stands:?}", self.now)
    }
}
