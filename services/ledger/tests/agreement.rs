//! The agreement under a seeded simulator: drops, doubles, delays, crashes inside a step that lose what was
//! not synced, and a lying member that runs twice under one key. Both controls must bite: without the log
//! honest members contradict themselves, and two liars of four fork the chain. A failing seed is printed.
#![allow(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "a simulator of fixed size: a broken index is a failing test"
)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use ed25519_dalek::SigningKey;
use hbc_ledger::consensus::texts::Texts;
use hbc_ledger::consensus::wal::Record;
use hbc_ledger::consensus::{
    Agreement, BlockBytes, BlockId, Boot, Certificate, Core, Identity, Input, Member, MemberId, MemberSet,
    Message, Output, Timing, Verdict,
};
use hbc_types::{Digest, Random};

/// Small deterministic generator: the simulator draws millions of numbers.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
    fn one_in(&mut self, n: u64) -> bool {
        n != 0 && self.below(n) == 0
    }
}

#[derive(Clone, Copy)]
struct Plan {
    members: usize,
    liars: usize,
    transactions: u32,
    /// Faults end here; from then on everything must become final.
    calm_ms: u64,
    drop_one_in: u64,
    double_one_in: u64,
    longest_delay_ms: u64,
    crash_one_in: u64,
    keep_log: bool,
    /// The liars tell two halves of the honest members two stories (the fork control).
    two_stories: bool,
}

const ROUGH: Plan = Plan {
    members: 4,
    liars: 0,
    transactions: 8,
    calm_ms: 15_000,
    drop_one_in: 8,
    double_one_in: 10,
    longest_delay_ms: 1_500,
    crash_one_in: 150,
    keep_log: true,
    two_stories: false,
};

enum Event {
    Deliver { to: usize, from: MemberId, bytes: Vec<u8> },
    Tick { slot: usize, life: u32 },
    Built { slot: usize, life: u32, height: u64, round: u32 },
    Checked { slot: usize, life: u32, height: u64, value: BlockId, verdict: Verdict },
    Sync { slot: usize, from: usize },
    Restart { slot: usize },
    Transaction(u32),
}

struct Slot {
    member: usize,
    core: Option<Core>,
    life: u32,
    synced: Vec<Record>,
    unsynced: Vec<Record>,
    chain: Vec<(BlockBytes, Certificate)>,
    pending: BTreeSet<u32>,
    tick_at: Option<u64>,
}

struct Sim {
    plan: Plan,
    rng: Rng,
    now: u64,
    sequence: u64,
    events: BTreeMap<(u64, u64), Event>,
    due: BinaryHeap<Reverse<(u64, u64)>>,
    keys: Vec<SigningKey>,
    set: MemberSet,
    texts: Texts,
    slots: Vec<Slot>,
    signed: BTreeMap<(MemberId, u64, (u8, u32)), Vec<u8>>,
    contradictions: u32,
    evidence: BTreeSet<MemberId>,
    crashes: u32,
}

fn identify(height: u64, block: &[u8]) -> BlockId {
    let hash = Digest::of(block);
    BlockId { hash, log_size: height, log_root: Digest::of(hash.as_bytes()) }
}

fn transactions_of(block: &[u8]) -> BTreeSet<u32> {
    let text = String::from_utf8_lossy(block).into_owned();
    text.split_whitespace().skip(4).filter_map(|word| word.parse().ok()).collect()
}

impl Sim {
    fn new(seed: u64, plan: Plan) -> Self {
        let random = Random::seeded(seed);
        let keys: Vec<_> = (0..plan.members).map(|_| SigningKey::from_bytes(&random.bytes())).collect();
        let set = MemberSet::new(keys.iter().map(|k| Member::new(k.verifying_key().to_bytes())).collect());
        let chain = Digest::of(b"simulated chain");
        let mut sim = Self {
            plan,
            rng: Rng(seed),
            now: 0,
            sequence: 0,
            events: BTreeMap::new(),
            due: BinaryHeap::new(),
            keys,
            set,
            texts: Texts { chain, origin: "test/hbc/0000".to_owned() },
            slots: Vec::new(),
            signed: BTreeMap::new(),
            contradictions: 0,
            evidence: BTreeSet::new(),
            crashes: 0,
        };
        // Every member has a slot; each liar has a twin with the same key.
        for member in (0..plan.members).chain(0..plan.liars) {
            sim.slots.push(Slot {
                member,
                core: None,
                life: 0,
                synced: Vec::new(),
                unsynced: Vec::new(),
                chain: Vec::new(),
                pending: BTreeSet::new(),
                tick_at: None,
            });
        }
        for slot in 0..sim.slots.len() {
            sim.boot(slot);
        }
        for number in 0..plan.transactions {
            let at = sim.rng.below(plan.calm_ms);
            sim.schedule(at, Event::Transaction(number));
        }
        sim
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
        self.due.push(Reverse((at, self.sequence)));
    }

    fn id(&self, member: usize) -> MemberId {
        Member::new(self.keys[member].verifying_key().to_bytes()).id
    }

    fn honest(&self, slot: usize) -> bool {
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
        let boot = Boot { tip, members: self.set.clone(), records };
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
                    self.texts.verify(&certificate, &self.set).expect("own certificate verifies");
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
                    let member = *self.set.get(&pair.member).expect("a member");
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
        for number in transactions_of(&block) {
            state.pending.remove(&number);
        }
        state.chain.push((block, certificate));
        let members = self.set.clone();
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
        let from = self.id(self.slots[slot].member);
        let bytes = message.encode();
        for to in 0..self.slots.len() {
            if self.slots[to].member == self.slots[slot].member {
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

    /// In the fork control the slots live in two worlds that do not hear each other.
    fn world(&self, slot: usize) -> Option<usize> {
        if self.honest(slot) { Some(slot % 2) } else { Some(usize::from(slot >= self.plan.members)) }
    }

    fn check(&self, slot: usize, height: u64, value: BlockId, block: &[u8]) -> Verdict {
        if identify(height, block) != value {
            return Verdict::Damaged;
        }
        let previous = self.slots[slot].chain.last().map(|(_, certificate)| certificate.value.hash);
        let expected = format!("{height} {}", previous.unwrap_or(Digest::ZERO));
        if block.starts_with(expected.as_bytes()) { Verdict::Valid } else { Verdict::Invalid }
    }

    fn build(&mut self, slot: usize, height: u64, round: u32) -> BlockBytes {
        let state = &self.slots[slot];
        let previous = state.chain.last().map_or(Digest::ZERO, |(_, certificate)| certificate.value.hash);
        let list: Vec<String> = state.pending.iter().map(ToString::to_string).collect();
        // The slot makes twins offer different blocks; the nonce makes a restarted member offer another one.
        let nonce = self.rng.below(1 << 30);
        format!("{height} {previous} r{round}s{slot} n{nonce} {}", list.join(" ")).into_bytes().into()
    }

    fn run(&mut self) -> Result<(), String> {
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
                let message = Message::decode(&bytes).map_err(|error| error.to_string())?;
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
            Event::Restart { slot } => self.boot(slot),
            Event::Transaction(number) => {
                for slot in 0..self.slots.len() {
                    let known =
                        self.slots[slot].chain.iter().any(|(b, _)| transactions_of(b).contains(&number));
                    if !known {
                        self.slots[slot].pending.insert(number);
                        self.feed(slot, Input::Work(true));
                    }
                }
            }
        }
        Ok(())
    }

    fn catch_up(&mut self, slot: usize, from: usize) -> Result<(), String> {
        if self.slots[from].core.is_none() || self.slots[slot].core.is_none() {
            return Ok(());
        }
        while let Some((block, certificate)) =
            self.slots[from].chain.get(self.slots[slot].chain.len()).cloned()
        {
            let height = self.slots[slot].chain.len() as u64 + 1;
            self.texts.verify(&certificate, &self.set).map_err(|error| error.to_string())?;
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

    fn finished(&self) -> bool {
        let honest = || (0..self.slots.len()).filter(|slot| self.honest(*slot));
        let longest = honest().map(|slot| self.slots[slot].chain.len()).max().unwrap_or(0);
        honest().all(|slot| {
            let state = &self.slots[slot];
            state.core.is_some() && state.pending.is_empty() && state.chain.len() == longest
        })
    }

    fn forks(&self) -> usize {
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
        let lengths: Vec<_> = self.slots.iter().map(|s| (s.chain.len(), s.pending.len())).collect();
        format!("{what}: at {} ms, (blocks, waiting) {lengths:?}", self.now)
    }
}

fn survive(name: &str, seeds: std::ops::Range<u64>, plan: Plan) -> (u32, BTreeSet<u64>) {
    let (mut crashes, mut accused) = (0, BTreeSet::new());
    for seed in seeds {
        let mut sim = Sim::new(seed, plan);
        let result = sim.run();
        assert!(result.is_ok(), "{name}, seed {seed}: {result:?}");
        assert_eq!(sim.forks(), 0, "{name}, seed {seed}: the chain forked");
        assert_eq!(sim.contradictions, 0, "{name}, seed {seed}: an honest member contradicted itself");
        for member in &sim.evidence {
            let liar = (0..plan.liars).any(|index| sim.id(index) == *member);
            assert!(liar, "{name}, seed {seed}: an honest member is accused");
            accused.insert(seed);
        }
        crashes += sim.crashes;
    }
    (crashes, accused)
}

#[test]
fn four_honest_members_agree_through_drops_doubles_delays_and_crashes() {
    let (crashes, _) = survive("rough", 0..200, ROUGH);
    assert!(crashes > 100, "the simulator must crash members, it did {crashes} times");
}

#[test]
fn one_liar_of_four_neither_forks_nor_stops_the_chain() {
    let (_, accused) = survive("one liar", 1_000..1_120, Plan { liars: 1, ..ROUGH });
    assert!(accused.len() > 30, "the liar must be seen lying, it was in {} runs", accused.len());
}

#[test]
fn seven_members_with_two_liars_agree() {
    let plan = Plan { members: 7, liars: 2, transactions: 4, ..ROUGH };
    survive("two of seven", 2_000..2_015, plan);
}

#[test]
fn one_member_alone_decides() {
    let plan = Plan { members: 1, ..ROUGH };
    survive("alone", 3_000..3_030, plan);
}

#[test]
fn control_without_the_log_members_contradict_themselves() {
    let plan = Plan { keep_log: false, crash_one_in: 40, ..ROUGH };
    let mut contradictions = 0;
    for seed in 0..60 {
        let mut sim = Sim::new(seed, plan);
        // Without a log even a fork may come; only the count matters here.
        let _ = sim.run();
        contradictions += sim.contradictions;
    }
    assert!(contradictions > 0, "a simulator that cannot see a missing log proves nothing");
}

#[test]
fn control_two_liars_of_four_fork_the_chain() {
    let plan = Plan { liars: 2, two_stories: true, drop_one_in: 0, crash_one_in: 0, ..ROUGH };
    let mut forks = 0;
    for seed in 0..5 {
        let mut sim = Sim::new(seed, plan);
        let _ = sim.run();
        forks += sim.forks();
    }
    assert!(forks > 0, "a simulator that cannot see a fork proves nothing");
}
