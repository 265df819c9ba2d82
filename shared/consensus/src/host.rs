//! What the consensus library asks for while it works: signatures, checks, timers, the log. Everything is
//! answered at once and nothing here fails or blocks: effects on the world become [`Output`]s in order.

use std::collections::{BTreeMap, HashSet};

use ed25519_dalek::SigningKey;
use malachite_core::{Effect, Input as CoreInput, LivenessMsg, Resumable as _, Resume, SignedConsensusMsg};
use malachite_types::{CommitCertificate, Round, SignedMessage, Timeout, TimeoutKind, VoteType};

use crate::codec::{Kind, Message};
use crate::context::{Context, SignedProposal, SignedVote};
use crate::contradictions::Contradictions;
use crate::interface::{Output, Timing};
use crate::sign_bytes::{SignBytes, sign};
use crate::types::{BlockBytes, BlockId, Certificate, Member, MemberSet};
use crate::wal::{Entry, Record};

/// The steps for which a node signs, as the guard files them.
pub(super) const PROPOSAL: u8 = 0;
pub(super) const PREVOTE: u8 = 1;
pub(super) const PRECOMMIT: u8 = 2;

/// How often an own proposal is sent again in its round: a block may have 8 MiB.
const PROPOSED_AGAIN: u32 = 3;

/// A signature that fits nothing: what a muted node hands to the library.
const NO_SIGNATURE: [u8; 64] = [0; 64];

/// The library's surroundings during one input.
pub(super) struct Host {
    pub(super) me: Member,
    pub(super) key: SigningKey,
    pub(super) sign_bytes: SignBytes,
    pub(super) timing: Timing,
    pub(super) members: MemberSet,
    pub(super) now_ms: u64,
    pub(super) height: u64,
    pub(super) out: Vec<Output>,
    /// Blocks of the running height, by value.
    pub(super) blocks: BTreeMap<BlockId, BlockBytes>,
    /// The round for which the library wants a value from us.
    pub(super) wanted_round: Option<u32>,
    pub(super) decided: Option<Certificate>,
    /// False while the node only follows.
    pub(super) has_key: bool,
    /// Signs nothing at this height: what was signed before is not known for sure.
    pub(super) muted: bool,
    /// Signs nothing at all: the log was lost.
    pub(super) abstaining: bool,
    /// During replay: the records that the log already holds.
    pub(super) logged: Option<HashSet<Vec<u8>>>,
    /// The one text signed per (step, round) of this height.
    pub(super) guard: BTreeMap<(u8, u32), Vec<u8>>,
    timers: Vec<(u64, Timeout)>,
    unsynced: bool,
    pub(super) contradictions: Contradictions,
    /// The own proposal sent last, and how often it may be sent again.
    proposed: Option<(SignedProposal, u32)>,
}

impl Host {
    pub(super) fn new(
        me: Member,
        key: SigningKey,
        sign_bytes: SignBytes,
        timing: Timing,
        members: MemberSet,
        height: u64,
    ) -> Self {
        Self {
            me,
            key,
            sign_bytes,
            timing,
            members,
            now_ms: 0,
            height,
            out: Vec::new(),
            blocks: BTreeMap::new(),
            wanted_round: None,
            decided: None,
            has_key: true,
            muted: false,
            abstaining: false,
            logged: None,
            guard: BTreeMap::new(),
            timers: Vec::new(),
            unsynced: false,
            contradictions: Contradictions::default(),
            proposed: None,
        }
    }

    /// Forgets the height that ended and begins to listen for the next.
    pub(super) fn move_to(&mut self, height: u64, members: MemberSet) {
        self.height = height;
        self.members = members;
        self.blocks.clear();
        self.guard.clear();
        self.timers.clear();
        self.contradictions.clear();
        self.proposed = None;
        self.wanted_round = None;
        self.decided = None;
        self.muted = false;
        self.unsynced = false;
    }

    /// Whether this node's key is one of the height's.
    pub(super) fn is_member(&self) -> bool {
        self.has_key && self.members.get(&self.me.id).is_some()
    }

    pub(super) fn clear_timers(&mut self) {
        self.timers.clear();
    }

    /// When the next timer is due.
    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        self.timers.iter().map(|(deadline, _)| *deadline).min()
    }

    /// Takes the earliest timer that is due.
    pub(super) fn take_due(&mut self) -> Option<Timeout> {
        let now = self.now_ms;
        let (index, _) = self
            .timers
            .iter()
            .enumerate()
            .filter(|(_, (deadline, _))| *deadline <= now)
            .min_by_key(|(_, (deadline, _))| *deadline)?;
        Some(self.timers.swap_remove(index).1)
    }

    /// True if a proposal of ours for this round was ever signed.
    pub(super) fn has_proposed(&self, round: u32) -> bool {
        self.guard.contains_key(&(PROPOSAL, round))
    }

    /// Answers one request of the library.
    pub(super) fn effect(&mut self, effect: Effect<Context>) -> Resume<Context> {
        match effect {
            Effect::CancelAllTimeouts(r) => {
                self.timers.clear();
                r.resume_with(())
            }
            Effect::CancelTimeout(timeout, r) => {
                self.timers.retain(|(_, other)| *other != timeout);
                r.resume_with(())
            }
            Effect::ScheduleTimeout(timeout, r) => {
                self.schedule(timeout);
                r.resume_with(())
            }
            Effect::StartRound(_, _, _, _, r) => {
                self.wanted_round = None;
                r.resume_with(())
            }
            Effect::GetValue(_, round, _, r) => {
                self.wanted_round = round.as_u32();
                r.resume_with(())
            }
            // Blocks travel with their proposals, and catching up goes by certificate outside the library.
            Effect::RestreamProposal(_, _, _, _, _, r)
            | Effect::CertVerifiedSyncValue(_, _, r)
            // What members contradicted themselves in is told when it is seen.
            | Effect::Finalize(_, _, _, r)
            | Effect::CertRejectedSyncValue(_, _, _, r) => r.resume_with(()),
            Effect::ExtendVote(_, _, _, _, r) => r.resume_with(None),
            Effect::VerifyVoteExtension(_, _, _, _, _, _, r) => r.resume_with(Ok(())),
            Effect::Decide(certificate, _, r) => {
                self.decided = Some(Self::certificate(&certificate));
                r.resume_with(())
            }
            effect => self.publish_or_prove(effect),
        }
    }

    /// The second half of [`Self::effect`]: what leaves the node, and what needs a key.
    fn publish_or_prove(&mut self, effect: Effect<Context>) -> Resume<Context> {
        match effect {
            Effect::PublishConsensusMsg(message, r) => {
                match message {
                    SignedConsensusMsg::Vote(vote) => self.send_vote(vote),
                    SignedConsensusMsg::Proposal(proposal) => {
                        if proposal.message.proposer == self.me.id {
                            self.proposed = Some((proposal.clone(), PROPOSED_AGAIN));
                        }
                        self.send_proposal(proposal);
                    }
                }
                r.resume_with(())
            }
            Effect::PublishLivenessMsg(message, r) => {
                match message {
                    LivenessMsg::Vote(vote) => self.send_vote(vote),
                    LivenessMsg::PolkaCertificate(polka) => self.send(Kind::Polka(polka)),
                    LivenessMsg::SkipRoundCertificate(round) => self.send(Kind::Round(round)),
                }
                r.resume_with(())
            }
            Effect::RepublishVote(vote, r) => {
                if vote.message.kind == VoteType::Prevote {
                    self.propose_again(vote.message.round);
                }
                self.send_vote(vote);
                r.resume_with(())
            }
            Effect::RepublishRoundCertificate(certificate, r) => {
                self.send(Kind::Round(certificate));
                r.resume_with(())
            }
            Effect::WalAppend(_, input, r) => {
                self.log(input);
                r.resume_with(())
            }
            Effect::SignVote(vote, r) => {
                let text = self.sign_bytes.vote(&vote);
                let step = if vote.kind == VoteType::Prevote { PREVOTE } else { PRECOMMIT };
                let signature = self.sign_once(step, vote.round.as_u32().unwrap_or(u32::MAX), text);
                r.resume_with(SignedMessage::new(vote, signature))
            }
            Effect::SignProposal(proposal, r) => {
                let text = self.sign_bytes.proposal(&proposal);
                let signature = self.sign_once(PROPOSAL, proposal.round.as_u32().unwrap_or(u32::MAX), text);
                r.resume_with(SignedMessage::new(proposal, signature))
            }
            Effect::VerifySignature(message, _, r) => r.resume_with(self.is_authentic(&message)),
            Effect::VerifyCommitCertificate(certificate, _, _, r) => {
                let checked = self.check_commit(&certificate);
                r.resume_with(self.note_if_counted(checked).map_err(|error| *error))
            }
            Effect::VerifyExtendedCommitCertificate(certificate, _, _, _, r) => {
                let checked = self.check_commit(&certificate.trim_vote_extensions());
                r.resume_with(self.note_if_counted(checked).map_err(|error| *error))
            }
            Effect::VerifyPolkaCertificate(certificate, _, _, r) => {
                let checked = self.check_polka(&certificate);
                r.resume_with(self.note_if_counted(checked).map_err(|error| *error))
            }
            Effect::VerifyRoundCertificate(certificate, _, _, r) => {
                let checked = self.check_round(&certificate);
                r.resume_with(self.note_if_counted(checked).map_err(|error| *error))
            }
            _handled_before => Resume::Continue,
        }
    }

    fn schedule(&mut self, timeout: Timeout) {
        let deadline = self.now_ms.saturating_add(self.timing.duration_ms(timeout));
        self.timers.retain(|(_, other)| *other != timeout);
        self.timers.push((deadline, timeout));
    }

    /// Signs one text per (height, step, round), for ever: the guard is in the log before anything is sent.
    fn sign_once(&mut self, step: u8, round: u32, text: Vec<u8>) -> [u8; 64] {
        if self.muted || self.abstaining {
            return NO_SIGNATURE;
        }
        match self.guard.get(&(step, round)) {
            Some(signed) if *signed == text => return sign(&self.key, &text),
            Some(_) => {
                tracing::error!(
                    block.height = self.height,
                    block.round = round,
                    block.step = step,
                    "Refused to sign a second text"
                );
                self.muted = true;
                return NO_SIGNATURE;
            }
            None => {}
        }
        let signature = sign(&self.key, &text);
        self.append(Entry::Signed { step, round, text: text.clone() }.record(self.height));
        self.guard.insert((step, round), text);
        signature
    }

    pub(super) fn append(&mut self, record: Record) {
        if self.logged.as_ref().is_some_and(|logged| logged.contains(&record.payload)) {
            return;
        }
        self.unsynced = true;
        self.out.push(Output::Append(record));
    }

    fn log(&mut self, input: CoreInput<Context>) {
        let entry = match input {
            CoreInput::Vote(vote) => Entry::Vote(vote),
            CoreInput::Proposal(proposal) => Entry::Proposal(proposal),
            CoreInput::TimeoutElapsed(timeout) => Entry::Timeout(timeout),
            CoreInput::ProposedValue(value, _) => Entry::Value(value),
            CoreInput::PolkaCertificate(certificate) => Entry::Polka(certificate),
            CoreInput::StartHeight(..)
            | CoreInput::RoundCertificate(_)
            | CoreInput::Propose(_)
            | CoreInput::SyncValueResponse(_) => return,
        };
        let record = entry.record(self.height);
        self.append(record);
    }

    fn send(&mut self, kind: Kind) {
        if self.unsynced {
            self.out.push(Output::Sync);
            self.unsynced = false;
        }
        self.out.push(Output::Send(Message(kind)));
    }

    fn send_vote(&mut self, vote: SignedVote) {
        if vote.signature != NO_SIGNATURE {
            self.send(Kind::Vote(vote));
        }
    }

    fn send_proposal(&mut self, proposal: SignedProposal) {
        let Some(block) = self.blocks.get(&proposal.message.value.0).cloned() else { return };
        if proposal.signature != NO_SIGNATURE {
            self.send(Kind::Proposal(proposal, block));
        }
    }

    /// The proposal that was lost on its way is asked for by nobody.
    fn propose_again(&mut self, round: Round) {
        let Some((proposal, left)) = &mut self.proposed else { return };
        if proposal.message.round != round || *left == 0 {
            return;
        }
        *left -= 1;
        let proposal = proposal.clone();
        self.send_proposal(proposal);
    }

    fn certificate(commit: &CommitCertificate<Context>) -> Certificate {
        let mut signatures: Vec<_> =
            commit.commit_signatures.iter().map(|s| (s.address, s.signature)).collect();
        signatures.sort_by_key(|(member, _)| *member);
        Certificate {
            height: commit.height.0,
            round: commit.round.as_u32().unwrap_or(u32::MAX),
            value: commit.value_id,
            signatures,
        }
    }
}

impl Timing {
    /// How long a timer runs; later rounds wait longer.
    fn duration_ms(&self, timeout: Timeout) -> u64 {
        let base = match timeout.kind {
            TimeoutKind::Propose => self.propose_ms,
            TimeoutKind::Prevote => self.prevote_ms,
            TimeoutKind::Precommit => self.precommit_ms,
            TimeoutKind::Rebroadcast => self.rebroadcast_ms,
            TimeoutKind::FinalizeHeight(duration) => {
                return u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
            }
        };
        let round = u64::from(timeout.round.as_u32().unwrap_or(0));
        base.saturating_add(self.step_ms.saturating_mul(round)).min(self.longest_ms)
    }
}
