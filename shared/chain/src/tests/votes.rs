//! The rules of what several signers decide together.

use super::*;
use crate::genesis::{MAX_MEMBERS, MAX_OPERATORS};
use crate::payload::{NodeEvent, ServiceKeyChange, Staff, StaffStatus};

impl Ground {
    fn service_key(&mut self, name: &str, role: ServiceRole, status: KeyStatus) -> Payload {
        let nonce = self.state.changes(&format!("service:{}", kid(name)));
        Payload::ServiceKey(ServiceKeyChange {
            chain: self.chain,
            iat: self.iat(),
            key: kid(name),
            nonce,
            public: public(name),
            role,
            status,
        })
    }

    pub fn service_votes(&mut self, members: &[&str], name: &str, role: ServiceRole, status: KeyStatus) {
        let votes: Vec<_> = members
            .iter()
            .map(|member| {
                let payload = self.service_key(name, role, status);
                signed(member, &payload)
            })
            .collect();
        self.block(&votes);
    }

    fn staff(&mut self, name: &str, status: StaffStatus) -> Payload {
        let nonce = self.state.changes(&format!("staff:{}", kid(name)));
        Payload::Staff(Staff {
            chain: self.chain,
            commitment: Digest::of(b"salted name"),
            iat: self.iat(),
            key: kid(name),
            nonce,
            organisation: "General Hospital".to_owned(),
            public: public(name),
            role: "hospital".to_owned(),
            status,
        })
    }

    pub fn staff_votes(&mut self, signers: &[&str], name: &str, status: StaffStatus) {
        let votes: Vec<_> = signers
            .iter()
            .map(|signer| {
                let payload = self.staff(name, status);
                signed(signer, &payload)
            })
            .collect();
        self.block(&votes);
    }

    fn staff_status(&self, name: &str) -> Option<StaffStatus> {
        self.state.staff(&kid(name)).map(|staff| staff.status)
    }

    fn event(&mut self, node: &str, height: u64) -> Payload {
        Payload::NodeEvent(NodeEvent {
            chain: self.chain,
            event: "attacked".to_owned(),
            evidence: Digest::of(b"evidence"),
            height,
            iat: self.iat(),
            node: node.to_owned(),
        })
    }

    fn member_names(&self) -> Vec<&str> {
        self.state.members().iter().map(|member| member.name.as_str()).collect()
    }
}

fn took_effect(ground: &Ground, told: &Payload) -> bool {
    ground.state.took_effect(&told.ballot()).is_some()
}

#[test]
fn a_change_of_parameters_needs_more_than_two_thirds() {
    let mut ground = Ground::new();
    let before = *ground.state.parameters();
    ground.votes(&["m1", "m2"], "parameter:heartbeat_ms", "5000");
    assert_eq!(*ground.state.parameters(), before);
    ground.votes(&["m3"], "parameter:heartbeat_ms", "5000");
    assert_eq!(ground.state.parameters().heartbeat_ms, 5000);
    assert_eq!(ground.state.changes("parameter:heartbeat_ms"), 1);
}

#[test]
fn only_members_vote() {
    let mut ground = Ground::new();
    let (vote, key) = (
        ground.vote("parameter:heartbeat_ms", "5000"),
        ground.service_key("new", ServiceRole::Auth, KeyStatus::Active),
    );
    for foreign in ["o1", "auth", "storage", "nobody"] {
        assert_eq!(ground.verdict(foreign, &vote), no_right(&ground, foreign), "{foreign}");
        assert_eq!(ground.verdict(foreign, &key), no_right(&ground, foreign), "{foreign}");
    }
}

#[test]
fn a_vote_counts_once_and_the_latest_counts() {
    let mut ground = Ground::new();
    let vote = ground.vote("parameter:heartbeat_ms", "5000");
    let txid = ground.make_final("m1", &vote);
    let again = ground.vote("parameter:heartbeat_ms", "5000");
    assert_eq!(ground.verdict("m1", &again), excluded(Rule::AlreadyVoted, txid));
    // m1 changes its mind; m2 and m3 alone are no quorum for 5000.
    let other = ground.vote("parameter:heartbeat_ms", "6000");
    ground.make_final("m1", &other);
    ground.votes(&["m2", "m3"], "parameter:heartbeat_ms", "5000");
    assert_eq!(ground.state.parameters().heartbeat_ms, 600_000);
    ground.votes(&["m1"], "parameter:heartbeat_ms", "5000");
    assert_eq!(ground.state.parameters().heartbeat_ms, 5000);
}

#[test]
fn different_values_do_not_add_up() {
    let mut ground = Ground::new();
    ground.votes(&["m1", "m2"], "parameter:heartbeat_ms", "5000");
    ground.votes(&["m3", "m4"], "parameter:heartbeat_ms", "6000");
    assert_eq!(ground.state.parameters().heartbeat_ms, 600_000);
}

#[test]
fn a_vote_is_for_one_change_only() {
    let mut ground = Ground::new();
    let late = ground.vote("parameter:heartbeat_ms", "5000");
    ground.votes(&["m1", "m2", "m3"], "parameter:heartbeat_ms", "5000");
    let by = match ground.verdict("m4", &late) {
        Err(Refusal::Never { rule: Rule::NonceTaken, excluded_by: Some(by) }) => by,
        other => panic!("{other:?}"),
    };
    assert_eq!(ground.state.place(&by).unwrap().height, 1);
    let mut early = ground.vote("parameter:heartbeat_ms", "6000");
    if let Payload::MemberVote(vote) = &mut early {
        vote.nonce += 1;
    }
    assert_eq!(ground.verdict("m4", &early), not_yet(Rule::NonceAhead));
}

#[test]
fn votes_for_service_keys_and_profiles_are_for_one_change_too() {
    let mut ground = Ground::new();
    let (active, revoked) = (KeyStatus::Active, KeyStatus::Revoked);
    let late_key = ground.service_key("new", ServiceRole::Storage, revoked);
    ground.service_votes(&["m1", "m2", "m3"], "new", ServiceRole::Storage, active);
    assert!(matches!(
        ground.verdict("m4", &late_key),
        Err(Refusal::Never { rule: Rule::NonceTaken, excluded_by: Some(_) })
    ));
    let late_profile = ground.staff("doctor", StaffStatus::Active);
    ground.staff_votes(&["auth", "o1", "o2"], "doctor", StaffStatus::Active);
    let took_effect = ground.state.staff(&kid("doctor")).unwrap().txid;
    assert_eq!(ground.verdict("o3", &late_profile), excluded(Rule::NonceTaken, took_effect));
    let mut early = ground.staff("doctor", StaffStatus::Active);
    if let Payload::Staff(staff) = &mut early {
        staff.nonce += 1;
    }
    assert_eq!(ground.verdict("o3", &early), not_yet(Rule::NonceAhead));
}

#[test]
fn votes_are_gone_when_the_change_takes_effect() {
    let mut ground = Ground::new();
    let subject = "parameter:heartbeat_ms";
    let ballots = |ground: &Ground| ground.state.prove(crate::entry::Kind::Ballots, subject).value;
    ground.votes(&["m4"], subject, "6000");
    ground.votes(&["m1", "m2"], subject, "5000");
    assert!(ballots(&ground).is_some());
    ground.votes(&["m3"], subject, "5000");
    assert_eq!(ballots(&ground), None);
}

#[test]
fn members_come_and_go_from_the_next_height_on() {
    let mut ground = Ground::new();
    let key = public("m5").to_string();
    ground.votes(&["m1", "m2", "m3"], "member:m5", &key);
    assert_eq!(ground.member_names(), ["m1", "m2", "m3", "m4", "m5"]);
    // Of five, three are not more than two thirds.
    ground.votes(&["m1", "m2", "m5"], "member:m4", "none");
    assert_eq!(ground.member_names().len(), 5);
    ground.votes(&["m3"], "member:m4", "none");
    assert_eq!(ground.member_names(), ["m1", "m2", "m3", "m5"]);
    let vote = ground.vote("member:m4", "none");
    let left = ground.state.changed_by("member:m4").unwrap();
    assert_eq!(ground.verdict("m4", &vote), excluded(Rule::Signer, left));
    assert_eq!(ground.state.public_key(&kid("m5")), Some(public("m5")));
    assert_eq!(ground.state.public_key(&kid("m4")), Some(public("m4")), "what it signed stays provable");
}

#[test]
fn a_block_is_validated_by_the_members_before_it() {
    let mut ground = Ground::new();
    let key = public("m5").to_string();
    let mut txs = Vec::new();
    for member in ["m1", "m2", "m3"] {
        let vote = ground.vote("member:m5", &key);
        txs.push(signed(member, &vote));
    }
    let vote = ground.vote("parameter:heartbeat_ms", "5000");
    let (mut draft, newcomer) = (ground.state.draft(ground.now().unsigned_ms()), signed("m5", &vote));
    for tx in &txs {
        draft.apply(tx).unwrap();
    }
    assert_eq!(draft.apply(&newcomer), not_yet(Rule::Signer), "not in the same block");
    drop(draft);
    ground.block(&txs);
    assert_eq!(ground.verdict("m5", &vote), Ok(()));
}

#[test]
fn the_vote_of_a_member_that_left_does_not_count() {
    let mut ground = Ground::new();
    ground.votes(&["m4"], "parameter:heartbeat_ms", "5000");
    ground.votes(&["m1", "m2", "m3"], "member:m4", "none");
    ground.votes(&["m1", "m2"], "parameter:heartbeat_ms", "5000");
    assert_eq!(ground.state.parameters().heartbeat_ms, 600_000);
    ground.votes(&["m3"], "parameter:heartbeat_ms", "5000");
    assert_eq!(ground.state.parameters().heartbeat_ms, 5000);
}

#[test]
fn changes_that_would_not_hold_are_refused() {
    let mut ground = Ground::new();
    let [m2, auth, o1] = ["m2", "auth", "o1"].map(|name| public(name).to_string());
    let cases = [
        ("member:m9", "none", Rule::NoChange),
        ("member:m2", m2.as_str(), Rule::NoChange),
        ("member:m9", m2.as_str(), Rule::BadChange),
        ("member:m9", auth.as_str(), Rule::KeyTaken),
        ("member:m9", o1.as_str(), Rule::KeyTaken),
        ("operator:o9", m2.as_str(), Rule::KeyTaken),
        ("operator:o9", auth.as_str(), Rule::KeyTaken),
        ("parameter:heartbeat_ms", "600000", Rule::NoChange),
        ("parameter:heartbeat_ms", "1", Rule::BadChange),
        ("parameter:approvals", "4", Rule::BadChange),
        ("parameter:target", "1", Rule::BadChange),
    ];
    for (subject, value, rule) in cases {
        let vote = ground.vote(subject, value);
        assert_eq!(ground.verdict("m1", &vote), never(rule), "{subject} {value}");
    }
    ground.votes(&["m1", "m2", "m3"], "operator:o1", "none");
    let vote = ground.vote("operator:o2", "none");
    assert_eq!(ground.verdict("m1", &vote), never(Rule::BadChange), "two approvals need two operators");
}

#[test]
fn exactly_a_third_of_the_members_is_not_more_than_a_third() {
    let mut three = genesis();
    three.members.truncate(3);
    let mut ground = Ground::of(&three);
    let told = ground.event("m3", 1);
    ground.make_final("m1", &told);
    assert!(!took_effect(&ground, &told), "one of three");
    let seconded = ground.event("m3", 1);
    ground.make_final("m2", &seconded);
    assert!(took_effect(&ground, &told), "two of three");
    // Of three, two are exactly two thirds.
    ground.votes(&["m1", "m2"], "parameter:heartbeat_ms", "5000");
    assert_eq!(ground.state.parameters().heartbeat_ms, 600_000);
}

#[test]
fn lists_stay_inside_their_limits() {
    let mut full = genesis();
    let members: Vec<String> = (0..MAX_MEMBERS).map(|n| format!("m{n:03}")).collect();
    full.members = named(&members.iter().map(String::as_str).collect::<Vec<_>>());
    let operators: Vec<String> = (0..MAX_OPERATORS).map(|n| format!("o{n:04}")).collect();
    full.operators = named(&operators.iter().map(String::as_str).collect::<Vec<_>>());
    let mut ground = Ground::of(&full);
    let new = public("new").to_string();
    for subject in ["member:one-more", "operator:one-more"] {
        let vote = ground.vote(subject, &new);
        assert_eq!(ground.verdict("m000", &vote), never(Rule::BadChange), "{subject}");
    }
    for subject in ["member:m001", "operator:o0001"] {
        let vote = ground.vote(subject, &new);
        assert_eq!(ground.verdict("m000", &vote), Ok(()), "{subject} may change its key");
    }
}

#[test]
fn no_list_and_no_service_gets_a_key_that_is_none() {
    let mut ground = Ground::new();
    // Off the curve, of small order, and a point with y + p for y.
    for bytes in [[2; 32], [0; 32], not_canonical()] {
        let none = PublicKey::from_bytes(bytes);
        for subject in ["member:m9", "operator:o9"] {
            let vote = ground.vote(subject, &none.to_string());
            assert_eq!(ground.verdict("m1", &vote), never(Rule::BadChange), "{subject} {none}");
        }
        let service = Payload::ServiceKey(ServiceKeyChange {
            chain: ground.chain,
            iat: ground.iat(),
            key: none.kid(),
            nonce: 0,
            public: none,
            role: ServiceRole::Storage,
            status: KeyStatus::Active,
        });
        let staff = Payload::Staff(Staff {
            chain: ground.chain,
            commitment: Digest::of(b"person"),
            iat: ground.iat(),
            key: none.kid(),
            nonce: 0,
            organisation: "Spital Süd".to_owned(),
            public: none,
            role: "doctor".to_owned(),
            status: StaffStatus::Active,
        });
        for payload in [service, staff] {
            let text = crate::tx::sign(&secret("m1"), &payload).unwrap();
            let refusal = Tx::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(refusal.contains("`pub`: not an Ed25519 public key"), "{none}: {refusal}");
        }
    }
}

/// A key of the library's that is none of ours: y is 3 + p.
fn not_canonical() -> [u8; 32] {
    let mut bytes = [0xff; 32];
    (bytes[0], bytes[31]) = (0xf0, 0x7f);
    assert!(ed25519_dalek::VerifyingKey::from_bytes(&bytes).is_ok_and(|key| !key.is_weak()));
    bytes
}

#[test]
fn the_last_member_stays() {
    let mut alone = genesis();
    alone.members.truncate(1);
    let mut ground = Ground::of(&alone);
    let vote = ground.vote("member:m1", "none");
    assert_eq!(ground.verdict("m1", &vote), never(Rule::BadChange));
}

#[test]
fn two_changes_in_one_block_both_act() {
    let mut ground = Ground::new();
    let (five, six) = (public("m5").to_string(), public("m6").to_string());
    let mut txs = Vec::new();
    for member in ["m1", "m2", "m3"] {
        for (subject, key) in [("member:m5", &five), ("member:m6", &six)] {
            let vote = ground.vote(subject, key);
            txs.push(signed(member, &vote));
        }
    }
    ground.block(&txs);
    assert_eq!(ground.member_names(), ["m1", "m2", "m3", "m4", "m5", "m6"]);
}

#[test]
fn one_key_cannot_get_two_names_in_one_block() {
    let mut ground = Ground::new();
    let key = public("new").to_string();
    let mut txs = Vec::new();
    for (subject, members) in [("member:m5", ["m1", "m2", "m3"]), ("operator:o5", ["m1", "m2", "m3"])] {
        for member in members {
            let vote = ground.vote(subject, &key);
            txs.push(signed(member, &vote));
        }
    }
    let mut draft = ground.state.draft(ground.now().unsigned_ms());
    let verdicts: Vec<_> = txs.iter().map(|tx| draft.apply(tx)).collect();
    assert_eq!(verdicts[2], Ok(()));
    assert_eq!(verdicts[3], never(Rule::KeyTaken));
}

#[test]
fn a_target_changes_only_by_vote_and_then_binds() {
    let mut ground = Ground::new();
    let target = Parameters::with_zero_bits(4, 2).unwrap().target.to_string();
    ground.votes(&["m1", "m2", "m3"], "parameter:target", &target);
    assert_eq!(ground.state.header().target.zero_bits(), 8, "the deciding block still has the old one");
    ground.block(&[]);
    assert_eq!(ground.state.header().target.zero_bits(), 4);
}

#[test]
fn service_keys_come_by_vote_and_end_for_ever() {
    let mut ground = Ground::new();
    let (active, revoked) = (KeyStatus::Active, KeyStatus::Revoked);
    ground.service_votes(&["m1", "m2"], "new", ServiceRole::Storage, active);
    assert_eq!(ground.state.service(&kid("new")), None);
    ground.service_votes(&["m4"], "new", ServiceRole::Storage, active);
    let anchor = ground.anchor(&["a"]);
    assert_eq!(ground.verdict("new", &anchor), Ok(()));
    let other_role = ground.service_key("new", ServiceRole::Auth, revoked);
    assert_eq!(ground.verdict("m1", &other_role), never(Rule::BadChange));
    let same = ground.service_key("new", ServiceRole::Storage, active);
    assert_eq!(ground.verdict("m1", &same), never(Rule::NoChange));
    ground.service_votes(&["m1", "m2", "m3"], "new", ServiceRole::Storage, revoked);
    let ended = ground.state.service(&kid("new")).unwrap().txid.unwrap();
    assert_eq!(ground.verdict("new", &anchor), excluded(Rule::Signer, ended));
    let back = ground.service_key("new", ServiceRole::Storage, active);
    assert_eq!(ground.verdict("m1", &back), excluded(Rule::Ended, ended));
    let unknown = ground.service_key("unknown", ServiceRole::Storage, revoked);
    assert_eq!(ground.verdict("m1", &unknown), never(Rule::NoChange));
    for taken in ["m2", "o1"] {
        let key = ground.service_key(taken, ServiceRole::Storage, active);
        assert_eq!(ground.verdict("m1", &key), never(Rule::KeyTaken), "{taken}");
    }
}

#[test]
fn staff_needs_auth_and_enough_operators() {
    let active = StaffStatus::Active;
    for (signers, takes_effect) in [
        (&["auth", "o1"][..], false),
        (&["o1", "o2", "o3"], false),
        (&["auth", "o1", "o2"], true),
        (&["o3", "o1", "auth"], true),
    ] {
        let mut ground = Ground::new();
        ground.staff_votes(signers, "doctor", active);
        assert_eq!(ground.staff_status("doctor"), takes_effect.then_some(active), "{signers:?}");
    }
    let mut ground = Ground::new();
    let profile = ground.staff("doctor", active);
    for foreign in ["m1", "storage", "access-policy", "nobody"] {
        assert_eq!(ground.verdict(foreign, &profile), no_right(&ground, foreign), "{foreign}");
    }
    assert_eq!(ground.verdict("doctor", &profile), never(Rule::Signer), "nobody vouches for themselves");
}

#[test]
fn votes_for_different_profiles_do_not_add_up() {
    let mut ground = Ground::new();
    ground.staff_votes(&["auth", "o1"], "doctor", StaffStatus::Active);
    let mut other = ground.staff("doctor", StaffStatus::Active);
    if let Payload::Staff(staff) = &mut other {
        staff.role = "government".to_owned();
    }
    ground.make_final("o2", &other);
    assert_eq!(ground.staff_status("doctor"), None);
}

#[test]
fn one_operator_suspends_and_all_are_needed_again() {
    let mut ground = Ground::new();
    let suspension = ground.staff("doctor", StaffStatus::Suspended);
    assert_eq!(ground.verdict("o1", &suspension), never(Rule::NoChange), "there is nobody to suspend");
    ground.staff_votes(&["auth", "o1", "o2"], "doctor", StaffStatus::Active);
    ground.staff_votes(&["auth"], "doctor", StaffStatus::Suspended);
    assert_eq!(ground.staff_status("doctor"), Some(StaffStatus::Active), "auth alone suspends nobody");
    ground.staff_votes(&["o3"], "doctor", StaffStatus::Suspended);
    assert_eq!(ground.staff_status("doctor"), Some(StaffStatus::Suspended));
    ground.staff_votes(&["auth", "o1"], "doctor", StaffStatus::Active);
    assert_eq!(ground.staff_status("doctor"), Some(StaffStatus::Suspended));
    ground.staff_votes(&["o2"], "doctor", StaffStatus::Active);
    assert_eq!(ground.staff_status("doctor"), Some(StaffStatus::Active));
}

#[test]
fn a_revoked_profile_stays_so() {
    let mut ground = Ground::new();
    ground.staff_votes(&["auth", "o1", "o2"], "doctor", StaffStatus::Active);
    ground.staff_votes(&["o1"], "doctor", StaffStatus::Revoked);
    let by = ground.state.staff(&kid("doctor")).unwrap().txid;
    let back = ground.staff("doctor", StaffStatus::Active);
    assert_eq!(ground.verdict("auth", &back), excluded(Rule::Ended, by));
}

#[test]
fn an_event_is_told_by_the_node_itself_or_by_more_than_a_third() {
    let mut ground = Ground::new();
    let own = ground.event("m3", 1);
    let txid = ground.make_final("m3", &own);
    assert!(took_effect(&ground, &own));
    let again = ground.event("m3", 1);
    assert_eq!(ground.verdict("m1", &again), excluded(Rule::Seen, txid));

    let told = ground.event("m3", 2);
    ground.make_final("m1", &told);
    assert!(!took_effect(&ground, &told), "one of four is not more than a third");
    let seconded = ground.event("m3", 2);
    ground.make_final("m2", &seconded);
    assert!(took_effect(&ground, &told));

    for foreign in ["o1", "auth", "nobody"] {
        assert_eq!(ground.verdict(foreign, &own), no_right(&ground, foreign), "{foreign}");
    }
    let nobody = ground.event("m9", 1);
    assert_eq!(ground.verdict("m1", &nobody), never(Rule::NodeUnknown));
}

/// A flood of accusations that nobody joins leaves one vote, and does not keep a true one from taking effect.
#[test]
fn of_what_a_member_says_about_a_node_one_vote_waits() {
    let mut ground = Ground::new();
    let subject = "event:m3";
    let first = ground.event("m3", 1);
    ground.make_final("m1", &first);
    let map_before = ground.state.roots().map;
    let mut last = first.clone();
    for height in 2..50 {
        last = ground.event("m3", height);
        ground.make_final("m4", &last);
        assert_eq!(ground.state.votes(subject).len(), 2, "one of m1, one of m4");
    }
    assert_ne!(ground.state.roots().map, map_before);
    // m4 takes its words back by telling another thing; m1's waits on, and takes effect with m2's.
    let seconded = ground.event("m3", 1);
    ground.make_final("m2", &seconded);
    assert!(ground.state.took_effect(&first.ballot()).is_some());
    let waiting: Vec<_> = ground.state.votes(subject).iter().map(|vote| vote.ballot).collect();
    assert_eq!(waiting, [last.ballot()], "what took effect waits no more, the other vote does");
    // The node's own word takes effect at once and clears nobody's away.
    let own = ground.event("m3", 99);
    ground.make_final("m3", &own);
    assert!(ground.state.took_effect(&own.ballot()).is_some());
    assert_eq!(ground.state.votes(subject).len(), 1);
    let joined = ground.event("m3", 49);
    ground.make_final("m1", &joined);
    assert!(ground.state.votes(subject).is_empty());
}

/// A target that nobody can meet would stop the chain for ever: without a block no vote takes it back.
#[test]
fn no_target_is_voted_in_that_no_block_can_meet() {
    let mut ground = Ground::new();
    for (bits, taken) in [(40, true), (41, false), (200, false)] {
        let target = crate::header::Target::from_zero_bits(bits).unwrap().compact();
        let vote = ground.vote("parameter:target", &target.to_string());
        let verdict = ground.verdict("m1", &vote);
        assert_eq!(verdict, if taken { Ok(()) } else { never(Rule::BadChange) }, "{bits} bits");
    }
}
