//! One member by itself, told what to hear: what it asks for, says and keeps to itself.

use ed25519_dalek::SigningKey;
use hbc_consensus::sign_bytes::{SignBytes, sign};
use hbc_consensus::wal::Record;
use hbc_consensus::{
    BlockBytes, BlockId, Boot, Certificate, Consensus as _, Core, Identity, Input, Member, MemberId,
    MemberSet, Message, Output, Timing, Verdict,
};
use hbc_types::Digest;

/// The members of a chain at height 1, and the one of them that is looked at.
struct One {
    keys: Vec<SigningKey>,
    set: MemberSet,
    sign_bytes: SignBytes,
    me: SigningKey,
    core: Core,
}

fn id(key: &SigningKey) -> MemberId {
    Member::new(key.verifying_key().to_bytes()).id
}

fn block(text: &str) -> (BlockId, BlockBytes) {
    let bytes: BlockBytes = text.as_bytes().into();
    let hash = Digest::of(&bytes);
    (BlockId { hash, log_size: 1, log_root: hash }, bytes)
}

impl One {
    /// Of four members the one that proposes in `round`; idle.
    fn proposing_in(round: u32) -> Self {
        Self::booted(round, Vec::new(), false).0
    }

    fn booted(round: u32, records: Vec<Record>, abstaining: bool) -> (Self, Vec<Output>) {
        let keys: Vec<_> = (1..=4).map(|n| SigningKey::from_bytes(&[n; 32])).collect();
        let set = MemberSet::new(keys.iter().map(|k| Member::new(k.verifying_key().to_bytes())).collect());
        let sign_bytes = SignBytes { chain: Digest::of(b"chain"), origin: "test/hbc/0000".to_owned() };
        let me = key_of(&keys, &set, round);
        let identity =
            Identity { key: me.clone(), sign_bytes: sign_bytes.clone(), timing: Timing::default() };
        let (core, outputs) =
            Core::boot(0, identity, Boot { tip: 0, members: set.clone(), records, abstaining });
        (Self { keys, set, sign_bytes, me, core }, outputs)
    }

    /// The same, with a transaction that waits: in round 0, waiting for its proposer.
    fn waiting_for_a_proposal() -> Self {
        let mut one = Self::proposing_in(3);
        one.tell(0, Input::Work(true));
        one
    }

    fn tell(&mut self, now_ms: u64, input: Input) -> Vec<Output> {
        self.core.handle(now_ms, input)
    }

    /// Who proposes in this round.
    fn key_of(&self, round: u32) -> SigningKey {
        key_of(&self.keys, &self.set, round)
    }

    fn others(&self) -> Vec<SigningKey> {
        self.keys.iter().filter(|key| id(key) != id(&self.me)).cloned().collect()
    }

    fn proposal(&mut self, now_ms: u64, round: u32, value: BlockId, bytes: BlockBytes) -> Vec<Output> {
        let key = self.key_of(round);
        let message = Message::proposal(&self.sign_bytes, &key, (1, round), value, bytes);
        self.tell(now_ms, Input::Message(id(&key), message))
    }

    fn vote(
        &mut self,
        now_ms: u64,
        key: &SigningKey,
        precommit: bool,
        value: Option<BlockId>,
    ) -> Vec<Output> {
        let message = Message::vote(&self.sign_bytes, key, (1, 0), precommit, value);
        self.tell(now_ms, Input::Message(id(key), message))
    }

    fn checked(&mut self, now_ms: u64, value: BlockId, verdict: Verdict) -> Vec<Output> {
        self.tell(now_ms, Input::Checked { height: 1, value, verdict })
    }

    /// The texts that this member signs in these outputs.
    fn signed(&self, outputs: &[Output]) -> Vec<((u8, u32), String)> {
        let sent = outputs.iter().filter_map(|output| match output {
            Output::Send(message) => message.signed_text(&self.sign_bytes),
            _ => None,
        });
        let own = sent.filter(|(signer, ..)| *signer == id(&self.me));
        own.map(|(_, slot, text)| (slot, String::from_utf8(text).unwrap())).collect()
    }

    fn prevotes(&self, outputs: &[Output], value: BlockId) -> bool {
        let signed = self.signed(outputs);
        signed.iter().any(|(slot, text)| *slot == (1, 0) && text.contains(&value.to_string()))
    }
}

fn key_of(keys: &[SigningKey], set: &MemberSet, round: u32) -> SigningKey {
    let proposer = set.proposer(1, round).unwrap().id;
    keys.iter().find(|key| id(key) == proposer).unwrap().clone()
}

/// The looks that are asked for, and whether others vouch for the block.
fn pending_validations(outputs: &[Output]) -> Vec<(BlockBytes, bool)> {
    let pending_validations = outputs.iter().filter_map(|output| match output {
        Output::Check { block, vouched, .. } => Some((block.clone(), *vouched)),
        _ => None,
    });
    pending_validations.collect()
}

fn accused(outputs: &[Output]) -> Vec<MemberId> {
    let pairs = outputs.iter().filter_map(|output| match output {
        Output::Evidence(pair) => Some(pair.member),
        _ => None,
    });
    pairs.collect()
}

/// A member proposes twenty blocks in each of its rounds: two are looked at in each, and the others' are still looked at.
#[test]
fn a_flood_of_proposals_uses_up_nobody_elses_looks() {
    // This node proposes in round 3, the liar in 0, 4 and 8, an honest one in 1.
    let mut one = One::waiting_for_a_proposal();
    let mut seen = |from: u32, signer: u32, round: u32, number: u32| {
        let (from, signer) = (one.key_of(from), one.key_of(signer));
        let (value, bytes) = block(&format!("block {round} {number}"));
        let message = Message::proposal(&one.sign_bytes, &signer, (1, round), value, bytes);
        pending_validations(&one.tell(1, Input::Message(id(&from), message))).len()
    };
    for round in [0, 4, 8] {
        assert_eq!((0..20).map(|number| seen(0, 0, round, number)).sum::<usize>(), 2, "round {round}");
    }
    assert_eq!(seen(0, 0, 12, 0), 0, "more than ten rounds ahead");
    assert_eq!(seen(0, 1, 1, 0), 0, "passed on by somebody else");
    assert_eq!(seen(1, 1, 1, 0), 1);
}

#[test]
fn an_early_block_is_looked_at_again_when_its_time_has_come_and_is_voted_for_then() {
    let mut one = One::waiting_for_a_proposal();
    let (value, bytes) = block("ahead");
    assert_eq!(pending_validations(&one.proposal(10, 0, value, bytes.clone())), [(bytes.clone(), false)]);
    let outputs = one.checked(20, value, Verdict::Early { wait_ms: 100 });
    assert!(outputs.is_empty(), "neither logged nor voted on: {outputs:?}");
    assert!(one.core.next_deadline_ms().unwrap() <= 120);
    assert!(pending_validations(&one.tell(119, Input::Tick)).is_empty(), "not yet");
    assert_eq!(pending_validations(&one.tell(120, Input::Tick)), [(bytes, false)]);
    let outputs = one.checked(130, value, Verdict::Valid);
    assert!(one.prevotes(&outputs, value), "{outputs:?}");
}

/// Three of four prevoted it: whatever this member's clock says, it takes the block and precommits it.
#[test]
fn an_early_block_that_more_than_two_thirds_prevoted_is_taken_without_asking_the_clock() {
    let mut one = One::waiting_for_a_proposal();
    let (value, bytes) = block("an hour ahead");
    one.proposal(10, 0, value, bytes.clone());
    one.checked(20, value, Verdict::Early { wait_ms: 3_570_000 });
    // It gave up waiting for a proposal, and prevoted nil.
    let outputs = one.tell(2_000, Input::Tick);
    assert!(one.signed(&outputs).iter().any(|(slot, text)| *slot == (1, 0) && text.ends_with("nil\n")));
    let mut last = Vec::new();
    for other in one.others() {
        assert!(pending_validations(&last).is_empty(), "two of four may be a liar and a clock");
        last = one.vote(2_010, &other, false, Some(value));
    }
    assert_eq!(pending_validations(&last), [(bytes, true)]);
    let outputs = one.checked(2_020, value, Verdict::Valid);
    let signed = one.signed(&outputs);
    assert!(signed.iter().any(|(slot, text)| *slot == (2, 0) && text.contains(&value.hash.to_string())));
}

/// The member's clock was an hour behind and is set right.
#[test]
fn an_early_block_is_looked_at_now_and_then_however_far_ahead_it_is() {
    let mut one = One::waiting_for_a_proposal();
    let (value, bytes) = block("an hour ahead");
    one.proposal(10, 0, value, bytes.clone());
    one.checked(20, value, Verdict::Early { wait_ms: u64::MAX });
    let again = 20 + Timing::default().longest_ms;
    assert_eq!(pending_validations(&one.tell(again, Input::Tick)), [(bytes, false)]);
}

#[test]
fn of_many_early_blocks_of_one_member_the_nearest_two_wait() {
    let mut one = One::waiting_for_a_proposal();
    for (round, number, wait_ms) in [(0, 1, 900), (0, 2, 100), (4, 1, 500), (4, 2, 700), (8, 1, 300)] {
        let (value, bytes) = block(&format!("{round} {number}"));
        assert_eq!(pending_validations(&one.proposal(1, round, value, bytes)).len(), 1);
        one.checked(1, value, Verdict::Early { wait_ms });
    }
    let mut again: Vec<_> =
        pending_validations(&one.tell(950, Input::Tick)).into_iter().map(|(bytes, _)| bytes).collect();
    again.sort();
    assert_eq!(again, [block("0 2").1, block("8 1").1]);
}

/// Bytes are not covered by the proposal's signature: damaged ones must not use up the proposal.
#[test]
fn a_good_copy_that_comes_while_a_damaged_one_is_looked_at_is_looked_at_next() {
    let mut one = One::waiting_for_a_proposal();
    let (value, good) = block("good");
    let damaged: BlockBytes = b"gooq".as_slice().into();
    assert_eq!(pending_validations(&one.proposal(1, 0, value, damaged.clone())), [(damaged, false)]);
    assert!(pending_validations(&one.proposal(2, 0, value, good.clone())).is_empty(), "one look at a time");
    assert_eq!(pending_validations(&one.checked(3, value, Verdict::Damaged)), [(good, false)]);
    let outputs = one.checked(4, value, Verdict::Valid);
    assert!(one.prevotes(&outputs, value), "{outputs:?}");
}

#[test]
fn a_second_proposal_of_a_round_is_told_though_its_bytes_are_nothing() {
    let mut one = One::waiting_for_a_proposal();
    let (liar, junk) = (id(&one.key_of(0)), BlockBytes::from(b"junk".as_slice()));
    let first = one.proposal(1, 0, block("one").0, junk.clone());
    assert!(accused(&first).is_empty());
    let second = one.proposal(2, 0, block("two").0, junk);
    assert_eq!(accused(&second), [liar]);
    // The contradicting votes count as well, though there was a pair before.
    let key = one.key_of(0);
    one.vote(3, &key, false, Some(block("one").0));
    let outputs = one.vote(4, &key, false, Some(block("two").0));
    assert_eq!(accused(&outputs), [liar]);
}

/// The liar told this member one thing and the others another; the certificate of their block has both.
#[test]
fn a_fetched_certificate_is_compared_with_the_votes_that_were_heard() {
    let mut one = One::waiting_for_a_proposal();
    let (liar, honest) = (one.key_of(0), one.key_of(1));
    let (told, decided) = (block("told here").0, block("decided").0);
    one.vote(1, &liar, true, Some(told));
    one.vote(2, &honest, true, Some(decided));
    let text = one.sign_bytes.checkpoint(1, 0, &decided);
    let mut signatures: Vec<_> = one.others().iter().map(|key| (id(key), sign(key, &text))).collect();
    signatures.sort_by_key(|(member, _)| *member);
    let certificate = Certificate { height: 1, round: 0, value: decided, signatures };
    let outputs = one.tell(3, Input::Certified(certificate.clone()));
    assert_eq!(accused(&outputs), [id(&liar)]);
    assert!(accused(&one.tell(4, Input::Certified(certificate))).is_empty(), "once");
}

/// One liar, or one clock that is fast, would otherwise have all make empty blocks for ever.
#[test]
fn an_idle_height_begins_for_its_first_proposer_or_for_more_than_a_third_of_the_members() {
    let mut one = One::proposing_in(3);
    let (liar, other) = (one.key_of(1), one.key_of(2));
    for vote in 0..200 {
        let precommit = vote % 2 == 0;
        assert!(one.vote(vote, &liar, precommit, None).is_empty());
        assert_eq!(one.core.round(), None, "one member's votes begin nothing");
    }
    // Its block neither, in a round that is its turn: that would be any height.
    let (value, bytes) = block("not the first's");
    assert!(one.proposal(300, 1, value, bytes).is_empty());
    assert_eq!(one.core.round(), None);
    one.vote(301, &other, false, None);
    assert_eq!(one.core.round(), Some(0), "two of four");
    // The block of whoever is the first to propose is enough, and is looked at.
    let mut one = One::proposing_in(3);
    let (value, bytes) = block("the first's");
    assert_eq!(pending_validations(&one.proposal(1, 0, value, bytes)).len(), 1);
    assert_eq!(one.core.round(), Some(0));
    // So is a transaction of its own.
    let mut one = One::proposing_in(3);
    one.tell(1, Input::Work(true));
    assert_eq!(one.core.round(), Some(0));
}

#[test]
fn an_answer_for_another_height_or_round_ends_no_building() {
    let mut one = One::proposing_in(0);
    let asked = one.tell(0, Input::Work(true));
    assert!(asked.contains(&Output::Build { height: 1, round: 0 }));
    for (height, round) in [(0, 0), (1, 1), (2, 0)] {
        one.tell(1, Input::NotBuilt { height, round });
        assert!(one.tell(2, Input::Work(true)).is_empty(), "still being built");
    }
    one.tell(3, Input::NotBuilt { height: 1, round: 0 });
    let again = one.tell(4, Input::Work(true));
    assert!(again.contains(&Output::Build { height: 1, round: 0 }));
}

/// Nothing else sends a lost proposal again; three times, since a block may be large.
#[test]
fn the_own_proposal_is_sent_again_a_few_times_with_the_votes() {
    let mut one = One::proposing_in(0);
    one.tell(0, Input::Work(true));
    let (value, bytes) = block("mine");
    let mut proposed = Vec::new();
    let built = Input::Built { height: 1, round: 0, value, block: bytes };
    let mut outputs = one.tell(1, built);
    for beat in 1..8 {
        let sent = one.signed(&outputs);
        proposed.push(sent.iter().filter(|(slot, _)| *slot == (0, 0)).count());
        outputs = one.tell(beat * 2_000, Input::Tick);
    }
    assert_eq!(proposed, [1, 1, 1, 1, 0, 0, 0]);
}

/// An abstaining member hears a round and is started again: its log has what the others said, and it must not answer
/// them.
#[test]
fn a_abstaining_member_that_is_started_again_signs_nothing_of_what_it_replays() {
    let (mut one, _) = One::booted(3, Vec::new(), true);
    let (value, bytes) = block("block");
    let mut heard = one.tell(0, Input::Work(true));
    heard.extend(one.proposal(1, 0, value, bytes));
    heard.extend(one.checked(2, value, Verdict::Valid));
    for key in one.others().into_iter().take(2) {
        heard.extend(one.vote(3, &key, false, Some(value)));
    }
    assert!(one.signed(&heard).is_empty());
    let records: Vec<Record> = heard
        .into_iter()
        .filter_map(|output| match output {
            Output::Append(record) => Some(record),
            _ => None,
        })
        .collect();
    assert!(records.len() > 3, "it heard a round");
    let (one, outputs) = One::booted(3, records.clone(), true);
    assert!(one.signed(&outputs).is_empty(), "{:?}", one.signed(&outputs));
    let appended = outputs.iter().filter(|output| matches!(output, Output::Append(_))).count();
    assert_eq!(appended, 0, "and nothing is noted as signed");
    // The control: once it may speak, it says what it held back.
    let (one, outputs) = One::booted(3, records, false);
    assert!(one.prevotes(&outputs, value));
}
