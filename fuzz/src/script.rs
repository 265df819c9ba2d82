//! One member of four, told what to hear: by a liar that signs anything, by an honest member that signs one thing per
//! round and step, by the clock, by crashes. It must never contradict itself, accuse the honest, or commit what is not certified.

use std::collections::BTreeMap;

use hbc_chain::testing::named::secret;
use hbc_consensus::sign_bytes::SignBytes;
use hbc_consensus::wal::Record;
use hbc_consensus::{
    BlockBytes, BlockId, Boot, Consensus, Core, Identity, Input, Member, MemberId, MemberSet, Message,
    Output, Timing, Verdict,
};
use hbc_types::Digest;

use super::fixture::MEMBERS;

/// Steps of one script, and what one step may make the member do.
const MAX_STEPS: usize = 200;
const MAX_OUTPUTS: usize = 1_000;

fn block(number: u8) -> BlockBytes {
    vec![number; 8].into()
}

fn value(number: u8) -> BlockId {
    let hash = Digest::of(&block(number));
    BlockId { hash, log_size: u64::from(number), log_root: Digest::of(hash.as_bytes()) }
}

fn id(name: &str) -> MemberId {
    Member::new(secret(name).verifying_key().to_bytes()).id
}

struct Script {
    sign_bytes: SignBytes,
    set: MemberSet,
    core: Core,
    now: u64,
    tip: u64,
    synced: Vec<Record>,
    unsynced: Vec<Record>,
    /// What the member signed at each height, round and step.
    signed: BTreeMap<(u64, (u8, u32)), Vec<u8>>,
    /// What the honest neighbour signed.
    peer: BTreeMap<(u64, u32, u8), Option<u8>>,
    /// What the member wants looked at.
    asked: Vec<(u64, BlockId, BlockBytes, bool)>,
    /// Blocks it wants built.
    wanted: Vec<(u64, u32)>,
}

/// Takes bytes off the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn some(&mut self, length: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        head
    }
}

/// Runs one script.
pub fn run(data: &[u8]) {
    let sign_bytes = SignBytes { chain: Digest::of(b"fuzzed chain"), origin: "hbc.fuzz/hbc/0".to_owned() };
    let members = MEMBERS.iter().map(|name| Member::new(secret(name).verifying_key().to_bytes())).collect();
    let set = MemberSet::new(members);
    let (core, outputs) = boot(&sign_bytes, &set, 0, 0, Vec::new());
    let mut script = Script {
        sign_bytes,
        set,
        core,
        now: 0,
        tip: 0,
        synced: Vec::new(),
        unsynced: Vec::new(),
        signed: BTreeMap::new(),
        peer: BTreeMap::new(),
        asked: Vec::new(),
        wanted: Vec::new(),
    };
    script.carry_out(outputs);
    let mut bytes = Bytes(data);
    for _ in 0..MAX_STEPS {
        let Some(step) = bytes.next() else { return };
        script.step(step, &mut bytes);
    }
}

fn boot(
    sign_bytes: &SignBytes,
    set: &MemberSet,
    now: u64,
    tip: u64,
    records: Vec<Record>,
) -> (Core, Vec<Output>) {
    let identity =
        Identity { key: secret(MEMBERS[0]), sign_bytes: sign_bytes.clone(), timing: Timing::default() };
    Core::boot(now, identity, Boot { tip, members: set.clone(), records, abstaining: false })
}

impl Script {
    fn step(&mut self, step: u8, bytes: &mut Bytes<'_>) {
        let input = match step % 10 {
            0 => {
                self.now += 50 * u64::from(bytes.next().unwrap_or(1));
                Input::Tick
            }
            1 => Input::Work(bytes.next().is_some_and(|byte| byte % 2 == 0)),
            // Raw bytes in the name of anybody.
            2 => {
                let from = id(MEMBERS[usize::from(bytes.next().unwrap_or(0) % 4)]);
                let length = usize::from(bytes.next().unwrap_or(0)) * 4;
                let Ok(message) = Message::decode(bytes.some(length)) else { return };
                Input::Message(from, message)
            }
            3 => return self.proposal(bytes),
            4 | 5 => return self.vote(step % 10 == 5, bytes),
            6 => {
                let Some((height, value, block, vouched)) = self.asked.pop() else { return };
                let fits = block.first().is_some_and(|number| self::value(*number) == value);
                let verdict = match bytes.next() {
                    _ if !fits => Verdict::Damaged,
                    Some(byte) if byte % 4 == 0 => Verdict::Invalid,
                    Some(byte) if byte % 4 == 1 && !vouched => {
                        Verdict::Early { wait_ms: u64::from(byte) * 20 }
                    }
                    _ => Verdict::Valid,
                };
                Input::Checked { height, value, verdict }
            }
            7 => {
                let Some((height, round)) = self.wanted.pop() else { return };
                let number = bytes.next().unwrap_or(0);
                if number == 255 {
                    Input::NotBuilt { height, round }
                } else {
                    Input::Built { height, round, value: value(number), block: block(number) }
                }
            }
            8 => return self.crash(bytes.next().unwrap_or(0)),
            // Somebody else's certified block arrives.
            _ => {
                self.tip += 1;
                let work = bytes.next().is_some_and(|byte| byte % 2 == 0);
                Input::Committed { height: self.tip, members: self.set.clone(), work }
            }
        };
        self.feed(input);
    }

    /// The liar proposes anything, in its own name.
    fn proposal(&mut self, bytes: &mut Bytes<'_>) {
        let (height, round) = self.place(bytes);
        let number = bytes.next().unwrap_or(0);
        let content = if number % 16 == 15 { 0 } else { number };
        let key = secret(MEMBERS[3]);
        let message =
            Message::proposal(&self.sign_bytes, &key, (height, round), value(number), block(content));
        self.feed(Input::Message(id(MEMBERS[3]), message));
    }

    /// The liar votes anything; the neighbour votes one thing per round and step.
    fn vote(&mut self, precommit: bool, bytes: &mut Bytes<'_>) {
        let (height, round) = self.place(bytes);
        let wish = bytes.next().unwrap_or(0);
        let mut number = (wish % 8 != 7).then_some(wish % 8);
        let name = MEMBERS[if wish >= 128 { 3 } else { 1 }];
        if name == MEMBERS[1] {
            number = *self.peer.entry((height, round, u8::from(precommit))).or_insert(number);
        }
        let message =
            Message::vote(&self.sign_bytes, &secret(name), (height, round), precommit, number.map(value));
        self.feed(Input::Message(id(name), message));
    }

    fn place(&self, bytes: &mut Bytes<'_>) -> (u64, u32) {
        let byte = bytes.next().unwrap_or(0);
        (self.tip + 1 + u64::from(byte >> 6), u32::from(byte % 8))
    }

    fn crash(&mut self, kept: u8) {
        self.unsynced.truncate(usize::from(kept) % (self.unsynced.len() + 1));
        self.synced.append(&mut self.unsynced);
        self.asked.clear();
        self.wanted.clear();
        let (core, outputs) = boot(&self.sign_bytes, &self.set, self.now, self.tip, self.synced.clone());
        self.core = core;
        self.carry_out(outputs);
    }

    fn feed(&mut self, input: Input) {
        let outputs = self.core.handle(self.now, input);
        self.carry_out(outputs);
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        assert!(outputs.len() < MAX_OUTPUTS, "{} outputs of one input", outputs.len());
        for output in outputs {
            match output {
                Output::Append(record) => self.unsynced.push(record),
                Output::Sync => self.synced.append(&mut self.unsynced),
                Output::ResetLog(_) => {
                    self.unsynced.clear();
                    self.synced.clear();
                }
                Output::Send(message) => {
                    assert_eq!(Message::decode(&message.encode()).as_ref(), Ok(&message));
                    let Some((member, step, text)) = message.signed_text(&self.sign_bytes) else { continue };
                    if member == id(MEMBERS[0]) {
                        assert!(self.unsynced.is_empty(), "sent before the log was durable");
                        let before = self.signed.entry((message.height(), step)).or_insert(text.clone());
                        assert_eq!(*before, text, "contradicts itself");
                    }
                }
                Output::Build { height, round } => self.wanted.push((height, round)),
                Output::Check { height, value, block, vouched } => {
                    self.asked.push((height, value, block, vouched));
                }
                Output::Commit { block, certificate } => {
                    assert_eq!(self.sign_bytes.verify(&certificate, &self.set), Ok(()));
                    assert!(block.first().is_some_and(|number| value(*number) == certificate.value));
                    assert_eq!(certificate.height, self.tip + 1);
                    self.tip += 1;
                    let members = self.set.clone();
                    self.feed(Input::Committed { height: self.tip, members, work: false });
                    return;
                }
                Output::Behind(..) => {}
                Output::Evidence(pair) => {
                    assert_eq!(pair.member, id(MEMBERS[3]), "an honest member is accused");
                    assert!(self.sign_bytes.proves(&pair, self.set.get(&pair.member).unwrap()));
                }
            }
        }
    }
}

/// Scripts that get somewhere: a decision, an equivocation, a crash between, and single messages as they are on the wire.
pub fn seeds() -> Vec<Vec<u8>> {
    let sign_bytes = SignBytes { chain: Digest::of(b"fuzzed chain"), origin: "hbc.fuzz/hbc/0".to_owned() };
    let key = secret(MEMBERS[3]);
    let messages = [
        Message::vote(&sign_bytes, &key, (1, 0), false, Some(value(1))),
        Message::vote(&sign_bytes, &key, (1, 0), true, None),
        Message::proposal(&sign_bytes, &key, (1, 0), value(1), block(1)),
    ];
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for message in &messages {
        let bytes = message.encode();
        seeds.push([&[0], bytes.as_slice()].concat());
        let padded = bytes.len().div_ceil(4) as u8;
        seeds.push([&[2, 2, 3, padded], bytes.as_slice()].concat());
    }
    let mut log = b"HBCWAL2\n".to_vec();
    log.extend(hbc_consensus::wal::frame(&Record { height: 1, payload: vec![0] }));
    log.extend(hbc_consensus::wal::frame(&Record { height: 1, payload: vec![8] }));
    seeds.push([&[1], log.as_slice()].concat());
    for round in 0..4 {
        // Work, a proposal, its check, two votes of each kind, the clock.
        let decide = [1, 0, 7, 1, 3, round, 1, 6, 1, 4, round, 1, 4, round, 129, 5, round, 1, 5, round, 129];
        seeds.push([&[2_u8], decide.as_slice(), &[0, 30, 0, 30, 0, 60]].concat());
        seeds.push([&[2_u8], decide.as_slice(), &[8, 1], decide.as_slice()].concat());
        let twice = [1, 0, 3, round, 1, 3, round, 2, 4, round, 129, 4, round, 130, 8, 0, 0, 60, 0, 60];
        seeds.push([&[2_u8], twice.as_slice(), decide.as_slice()].concat());
    }
    seeds
}
