//! Consensus as a machine without I/O: [`Input`]s in, [`Output`]s out, in the order in which they must
//! be done. It tells the time only by what it is told. The traps of the library underneath are met here:
//! checks before `ProposedValue`, one height at a time and only on demand, `Decide` as a flag, no timers
//! between heights, proposals answered late or not at all.
//!
//! Why: decision 0093.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use ed25519_dalek::SigningKey;
use malachite_core::{
    Error as CoreError, Input as CoreInput, LocallyProposedValue, Params, ProposedValue, State, process,
};
use malachite_types as mt;
use mt::{Round, Validity, ValueOrigin, ValuePayload, VoteExtensionPolicy};

use crate::codec::{Kind, Message};
use crate::context::{Context, Height, SignedProposal, Value};
use crate::host::Host;
use crate::interface::{Boot, Consensus, Identity, Input, Output, Timing};
use crate::pending_validations::PendingValidations;
use crate::types::{BlockBytes, BlockId, Member, MemberId, MemberSet, Verdict};
use crate::wal::{Entry, Record};

/// Proposals of rounds further ahead are dropped, as the library drops votes.
const MAX_ROUNDS_AHEAD: u32 = 10;
/// Messages kept per member for heights to come, and their bytes.
const MAX_EARLY_MESSAGES: usize = 64;
const MAX_EARLY_BYTES: usize = 20 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Running,
    Decided,
}

/// [`Consensus`] by Malachite's core.
pub struct Core {
    state: State<Context>,
    host: Host,
    phase: Phase,
    work: bool,
    building: Option<u32>,
    pending_validations: PendingValidations,
    early: BTreeMap<MemberId, VecDeque<Message>>,
    /// Members that spoke of the waiting height.
    callers: BTreeSet<MemberId>,
    /// Who this node is from the next committed height on, if that changes.
    membership: Option<(Option<SigningKey>, Timing)>,
}

impl Core {
    /// Takes up after a start: replays the log of the height that was running, if any.
    #[must_use]
    pub fn boot(now_ms: u64, identity: Identity, boot: Boot) -> (Self, Vec<Output>) {
        let me = Member::new(identity.key.verifying_key().to_bytes());
        let height = boot.tip + 1;
        let state = fresh(me.id, height, boot.members.clone());
        let host = Host::new(me, identity.key, identity.sign_bytes, identity.timing, boot.members, height);
        let mut core = Self {
            state,
            host,
            phase: Phase::Idle,
            work: false,
            building: None,
            pending_validations: PendingValidations::default(),
            early: BTreeMap::new(),
            callers: BTreeSet::new(),
            membership: None,
        };
        core.host.now_ms = now_ms;
        core.host.abstaining = boot.abstaining;
        core.replay(boot.records);
        let out = core.settle();
        (core, out)
    }

    fn replay(&mut self, records: Vec<Record>) {
        let height = self.host.height;
        let records: Vec<_> = records.into_iter().filter(|record| record.height == height).collect();
        if records.is_empty() || !self.host.is_member() {
            return;
        }
        let mut inputs = Vec::new();
        let mut logged = HashSet::new();
        for record in records {
            match Entry::read(&record) {
                Ok(Entry::Vote(vote)) => inputs.push(CoreInput::Vote(vote)),
                Ok(Entry::Proposal(proposal)) => inputs.push(CoreInput::Proposal(proposal)),
                Ok(Entry::Timeout(timeout)) => inputs.push(CoreInput::TimeoutElapsed(timeout)),
                Ok(Entry::Value(value)) => {
                    inputs.push(CoreInput::ProposedValue(value, ValueOrigin::Consensus));
                }
                Ok(Entry::Polka(certificate)) => inputs.push(CoreInput::PolkaCertificate(certificate)),
                Ok(Entry::Block(value, block)) => {
                    self.host.blocks.insert(value, block);
                }
                Ok(Entry::Signed { step, round, text }) => {
                    self.host.guard.entry((step, round)).or_insert(text);
                }
                // A member alone has nobody to contradict it.
                Err(_) => self.host.muted = self.host.members.len() > 1,
            }
            logged.insert(record.payload);
        }
        self.host.logged = Some(logged);
        self.start();
        self.state.index_wal_entries(inputs.iter());
        for input in inputs {
            // Two timers with one name (rebroadcast) and late inputs are the library's to ignore.
            self.process(input);
        }
        self.state.reset_entries_index();
        self.host.logged = None;
    }

    /// Starts the waiting height.
    fn start(&mut self) {
        if !self.host.is_member() {
            return;
        }
        self.phase = Phase::Running;
        let (height, members) = (Height(self.host.height), self.host.members.clone());
        self.process(CoreInput::StartHeight(height, members, false, None, VoteExtensionPolicy::Disabled));
    }

    /// Starts the height and then hears what came early.
    fn start_and_listen(&mut self) {
        self.start();
        for (member, message) in self.take_early() {
            self.message(member, message);
        }
    }

    /// What came early for the height that is next now.
    fn take_early(&mut self) -> Vec<(MemberId, Message)> {
        let height = self.host.height;
        let queues = self.early.iter_mut().flat_map(|(member, queue)| {
            let (now, later) = queue.drain(..).partition(|message| message.height() <= height);
            *queue = later;
            let now: VecDeque<Message> = now;
            now.into_iter().map(|message| (*member, message))
        });
        queues.filter(|(_, message)| message.height() == height).collect()
    }

    fn process(&mut self, input: CoreInput<Context>) {
        let host = &mut self.host;
        let result: Result<(), CoreError<Context>> = process!(
            input: input,
            state: &mut self.state,
            metrics: &(),
            with: effect => Ok::<_, std::convert::Infallible>(host.effect(effect))
        );
        match result {
            Ok(()) => {}
            Err(error @ CoreError::ReplayDivergence(..)) => {
                tracing::error!(error = %error, block.height = self.host.height, "Nothing is signed at this height");
                self.host.muted = true;
            }
            Err(error) => tracing::warn!(error = %error, block.height = self.host.height, "Input refused"),
        }
    }

    fn message(&mut self, from: MemberId, message: Message) {
        let next = self.host.height;
        if message.height() < next || self.phase == Phase::Decided {
            return;
        }
        if message.height() > next {
            self.host.out.push(Output::Behind(from, message.height() - 1));
            self.keep_early(from, message);
            return;
        }
        if !self.host.is_member() {
            return;
        }
        if self.phase == Phase::Idle {
            if self.is_called(from, message) {
                self.start_and_listen();
            }
            return;
        }
        match message.0 {
            Kind::Vote(vote) => self.process(CoreInput::Vote(vote)),
            Kind::Polka(certificate) => self.process(CoreInput::PolkaCertificate(certificate)),
            Kind::Round(certificate) => self.process(CoreInput::RoundCertificate(certificate)),
            // From its proposer only: whoever passes it on could spoil the bytes and use up the looks.
            Kind::Proposal(proposal, block) => {
                if proposal.message.proposer == from {
                    self.proposal(proposal, block);
                }
            }
        }
    }

    /// A waiting height begins for its first proposer's block, or once more than a third of the members speak of it:
    /// one member alone, or one clock that is fast, wakes nobody.
    fn is_called(&mut self, from: MemberId, message: Message) -> bool {
        if !self.host.is_from_members(&message) {
            return false;
        }
        let members = &self.host.members;
        let first = members.proposer(self.host.height, 0).map(|member| member.id);
        let called = match &message.0 {
            Kind::Vote(vote) => {
                self.callers.insert(vote.message.voter);
                self.callers.len() >= members.honest()
            }
            Kind::Proposal(proposal, _) => {
                let proposer = proposal.message.proposer;
                self.callers.insert(proposer);
                (proposal.message.round == Round::new(0) && first == Some(proposer) && proposer == from)
                    || self.callers.len() >= members.honest()
            }
            // As many stand behind each.
            Kind::Polka(_) | Kind::Round(_) => true,
        };
        self.keep_early(from, message);
        called
    }

    fn keep_early(&mut self, from: MemberId, message: Message) {
        if self.host.members.get(&from).is_none() {
            return;
        }
        let queue = self.early.entry(from).or_default();
        queue.push_back(message);
        while queue.len() > MAX_EARLY_MESSAGES
            || queue.iter().map(Message::weight).sum::<usize>() > MAX_EARLY_BYTES
        {
            queue.pop_front();
        }
    }

    /// A proposal is heard only after its proposer, its signature and its block were checked.
    fn proposal(&mut self, proposal: SignedProposal, block: BlockBytes) {
        let message = &proposal.message;
        let Some(round) = message.round.as_u32() else { return };
        let own = self.state.round().as_u32().unwrap_or(0);
        let turn = self.host.members.proposer(self.host.height, round);
        if round > own.saturating_add(MAX_ROUNDS_AHEAD)
            || turn.is_none_or(|member| member.id != message.proposer)
            || !self.host.proposal_is_authentic(&proposal)
        {
            return;
        }
        let value = message.value.0;
        let known = self.state.get_proposed_value_by_id(message.height, message.round, &value).is_some();
        if known {
            self.process(CoreInput::Proposal(proposal));
        } else if let Some(block) = self.pending_validations.offer(round, proposal, block) {
            self.look(value, block);
        }
    }

    fn look(&mut self, value: BlockId, block: BlockBytes) {
        let (height, vouched) = (self.host.height, self.is_vouched(&value));
        self.host.out.push(Output::Check { height, value, block, vouched });
    }

    /// True if more than two thirds prevoted the value in one round: at least one of them is honest and found its time
    /// right, so that this node's clock has no say any more.
    fn is_vouched(&self, value: &BlockId) -> bool {
        self.state.driver.polka_certificates().iter().any(|polka| polka.value_id == *value)
    }

    fn checked(&mut self, height: u64, value: BlockId, verdict: Verdict) {
        if height != self.host.height || self.phase != Phase::Running {
            return;
        }
        let validity = match verdict {
            Verdict::Damaged => {
                if let Some(block) = self.pending_validations.damaged(&value) {
                    self.look(value, block);
                }
                return;
            }
            Verdict::Early { wait_ms } => {
                // The clock may be set right before that.
                let wait_ms = wait_ms.min(self.host.timing.longest_ms);
                return self.pending_validations.postpone(&value, self.host.now_ms.saturating_add(wait_ms));
            }
            Verdict::Valid => Validity::Valid,
            Verdict::Invalid => Validity::Invalid,
        };
        let Some(look) = self.pending_validations.end(&value) else { return };
        if validity.is_valid() {
            self.hold(value, look.block);
        }
        let Some(first) = look.proposals.first() else { return };
        let proposed = ProposedValue {
            height: Height(height),
            round: first.message.round,
            valid_round: first.message.pol_round,
            proposer: first.message.proposer,
            value: Value(value),
            validity,
        };
        self.process(CoreInput::ProposedValue(proposed, ValueOrigin::Consensus));
        for proposal in look.proposals {
            self.process(CoreInput::Proposal(proposal));
        }
    }

    /// Blocks whose time has come meanwhile, or for which enough others voted.
    fn look_again(&mut self) {
        for value in self.pending_validations.postponed() {
            let vouched = self.is_vouched(&value);
            if let Some(block) = self.pending_validations.again(&value, self.host.now_ms, vouched) {
                self.look(value, block);
            }
        }
    }

    /// Keeps the bytes of a value, in the log too, before the value itself is logged.
    fn hold(&mut self, value: BlockId, block: BlockBytes) {
        let record = Entry::Block(value, block.clone()).record(self.host.height);
        self.host.append(record);
        self.host.blocks.insert(value, block);
    }

    fn built(&mut self, height: u64, round: u32, value: BlockId, block: BlockBytes) {
        if height != self.host.height || self.phase != Phase::Running {
            return;
        }
        if self.building == Some(round) {
            self.building = None;
        }
        if !self.may_propose(round) {
            return;
        }
        self.hold(value, block);
        let proposed = LocallyProposedValue::new(Height(height), Round::new(round), Value(value));
        self.host.wanted_round = None;
        self.process(CoreInput::Propose(proposed));
    }

    fn may_propose(&self, round: u32) -> bool {
        self.host.wanted_round == Some(round)
            && self.state.round() == Round::new(round)
            && self.state.driver.step_is_propose()
            && !self.host.has_proposed(round)
            && !self.host.muted
    }

    fn committed(&mut self, height: u64, members: MemberSet, work: bool) {
        if height < self.host.height {
            return;
        }
        self.early.retain(|member, _| members.get(member).is_some());
        self.host.move_to(height + 1, members);
        self.update_membership();
        self.phase = Phase::Idle;
        self.work = work;
        self.building = None;
        self.pending_validations.clear();
        self.callers.clear();
        self.host.out.push(Output::ResetLog(height + 1));
        if work {
            return self.start_and_listen();
        }
        for (member, message) in self.take_early() {
            self.message(member, message);
        }
    }

    /// Signs with another key, or with none, from this height on. What the log's guard holds is by height, round and
    /// step, whichever key signed it.
    fn update_membership(&mut self) {
        let Some((key, timing)) = self.membership.take() else { return };
        self.host.timing = timing;
        self.host.has_key = key.is_some();
        let Some(key) = key else { return };
        let me = Member::new(key.verifying_key().to_bytes());
        if me.id != self.host.me.id {
            self.state = fresh(me.id, self.host.height, self.host.members.clone());
            (self.host.me, self.host.key) = (me, key);
        }
    }

    /// What follows from the input just handled: a decision to commit, or a block to build.
    fn settle(&mut self) -> Vec<Output> {
        if self.phase == Phase::Running {
            self.settle_decision();
        }
        if self.phase == Phase::Running {
            self.look_again();
        }
        if self.phase == Phase::Running && self.building.is_none() {
            // Round 0 waits for a transaction; a later round has waited long enough.
            let wanted = self.host.wanted_round.filter(|round| self.work || *round > 0);
            if let Some(round) = wanted.filter(|round| self.may_propose(*round)) {
                self.building = Some(round);
                self.host.out.push(Output::Build { height: self.host.height, round });
            }
        }
        std::mem::take(&mut self.host.out)
    }

    fn settle_decision(&mut self) {
        let Some(certificate) = self.host.decided.take() else { return };
        self.host.clear_timers();
        self.pending_validations.clear();
        self.phase = Phase::Decided;
        match self.host.blocks.get(&certificate.value).cloned() {
            Some(block) => self.host.out.push(Output::Commit { block, certificate }),
            None => {
                // Every value is logged behind its bytes, so only a damaged log leads here: catch up instead.
                tracing::error!(block.height = certificate.height, "Decided a block whose bytes are lost");
                let others = self.host.members.iter().find(|member| member.id != self.host.me.id);
                if let Some(other) = others {
                    self.host.out.push(Output::Behind(other.id, certificate.height));
                }
            }
        }
    }
}

/// The library's state for a member that has done nothing yet.
fn fresh(address: MemberId, height: u64, members: MemberSet) -> State<Context> {
    let params = Params {
        address,
        threshold_params: mt::ThresholdParams::default(),
        value_payload: ValuePayload::ProposalAndParts,
        enabled: true,
    };
    State::new(Context, Height(height), members, params, 4, 256)
}

impl Consensus for Core {
    fn handle(&mut self, now_ms: u64, input: Input) -> Vec<Output> {
        self.host.now_ms = self.host.now_ms.max(now_ms);
        match input {
            Input::Tick => {
                while let Some(timeout) = self.host.take_due() {
                    if self.phase == Phase::Running && self.host.decided.is_none() {
                        self.process(CoreInput::TimeoutElapsed(timeout));
                    }
                }
            }
            Input::Work(work) => {
                self.work = work;
                if work && self.phase == Phase::Idle {
                    self.start_and_listen();
                }
            }
            Input::Message(from, message) => self.message(from, message),
            Input::Built { height, round, value, block } => self.built(height, round, value, block),
            Input::NotBuilt { height, round } => {
                if height == self.host.height && self.building == Some(round) {
                    // Not asked again before somebody says that there is work.
                    self.building = None;
                    self.work = false;
                }
            }
            Input::Checked { height, value, verdict } => self.checked(height, value, verdict),
            Input::Membership { key, timing } => self.membership = Some((key, timing)),
            Input::Certified(certificate) => self.host.compare(&certificate),
            Input::Committed { height, members, work } => self.committed(height, members, work),
        }
        self.settle()
    }

    fn next_deadline_ms(&self) -> Option<u64> {
        self.host.next_deadline_ms().into_iter().chain(self.pending_validations.next_ms()).min()
    }

    fn height(&self) -> u64 {
        self.host.height
    }

    fn round(&self) -> Option<u32> {
        (self.phase == Phase::Running).then(|| self.state.round().as_u32()).flatten()
    }
}
