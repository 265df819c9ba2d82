//! Random schedules of consent events sent to different nodes that lag, crash and lose what was passed on: a revoked
//! grant is never in force again, and whatever a node acknowledged ends in the chain exactly once, or in a refusal that
//! names the final transaction by which it is excluded. Real chains, real mempools; only disk and network are played.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "test code"
)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ed25519_dalek::SigningKey;
use hbc_chain::genesis::{Genesis, Parameters};
use hbc_chain::header::Block;
use hbc_chain::memory::Chain;
use hbc_chain::payload::{Consent, ConsentKey, KeyStatus, Payload, Revoke};
use hbc_chain::rules::Refusal;
use hbc_chain::tx::{self, Tx};
use hbc_ledger::domain::fair_queue::QueueLimits;
use hbc_ledger::node::mempool::{Impossible, Mempool};
use hbc_ledger::node::validation::{Source, Validated, validate};
use hbc_testkit::chain::named::{self, secret};
use hbc_types::account::Custody;
use hbc_types::ids::GrantId;
use hbc_types::keys::{Kid, PublicKey, SignatureBytes, possession_text};
use hbc_types::{Digest, Timestamp};
use proptest::prelude::*;

const NODES: usize = 3;
const KEYS: u8 = 2;
const GRANTS: u8 = 3;
const START_MS: u64 = 1_800_000_000_000;

#[derive(Debug, Clone, Copy)]
enum Said {
    SecondaryIndex,
    Grant(u8),
    Alter(u8),
    Revoke(u8),
    RevokeKey,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// A key's holder says something to a node. Forked: by a device that knows only what that node holds for final.
    Say { node: usize, key: u8, said: Said, forked: bool },
    /// One node tells another what it promised.
    Pass { from: usize, to: usize },
    /// A node's turn: it catches up, makes a block, and has it decided.
    Decide { node: usize },
    /// A node hears of the next blocks.
    Hear { node: usize },
    /// A node forgets everything but its chain and its promises.
    Crash { node: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..NODES;
    let said = prop_oneof![
        2 => Just(Said::SecondaryIndex),
        5 => (0..GRANTS).prop_map(Said::Grant),
        4 => (0..GRANTS).prop_map(Said::Alter),
        3 => (0..GRANTS).prop_map(Said::Revoke),
        1 => Just(Said::RevokeKey),
    ];
    prop_oneof![
        10 => (node.clone(), 0..KEYS, said, prop::bool::weighted(0.3))
            .prop_map(|(node, key, said, forked)| Step::Say { node, key, said, forked }),
        4 => (node.clone(), node.clone()).prop_map(|(from, to)| Step::Pass { from, to }),
        2 => node.clone().prop_map(|node| Step::Decide { node }),
        3 => node.clone().prop_map(|node| Step::Hear { node }),
        1 => node.prop_map(|node| Step::Crash { node }),
    ]
}

fn holder(key: u8) -> SigningKey {
    secret(&format!("holder {key}"))
}

fn kid(key: u8) -> Kid {
    PublicKey::of(&holder(key)).kid()
}

fn grant(number: u8) -> GrantId {
    GrantId::parse(&format!("grt-{number:032x}")).unwrap()
}

fn genesis() -> Genesis {
    let members: Vec<String> = (0..NODES).map(|n| format!("m{n}")).collect();
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    Genesis { parameters: Parameters::with_zero_bits(0, 1).unwrap(), ..named::genesis(&members, &["o"]) }
}

/// One node: its chain, what waits, and what its disk keeps.
struct Replica {
    chain: Chain,
    mempool: Mempool,
    promises: BTreeMap<Digest, Arc<Tx>>,
    refusals: BTreeMap<Digest, Option<Digest>>,
}

struct World {
    nodes: Vec<Replica>,
    /// Decided, in order.
    blocks: Vec<Block>,
    now: u64,
    /// What each key's holder said last and was told to be taken: its number and txid.
    last: HashMap<u8, (u64, Digest)>,
    /// (node, transaction) that was acknowledged.
    acknowledged: Vec<(usize, Digest)>,
    /// Grants whose end is final.
    dead: BTreeSet<(u8, u8)>,
}

impl World {
    fn new() -> Self {
        let replica = |_| Replica {
            chain: Chain::found(genesis()).unwrap(),
            mempool: Mempool::new(QueueLimits::default()),
            promises: BTreeMap::new(),
            refusals: BTreeMap::new(),
        };
        Self {
            nodes: (0..NODES).map(replica).collect(),
            blocks: Vec::new(),
            now: START_MS,
            last: HashMap::new(),
            acknowledged: Vec::new(),
            dead: BTreeSet::new(),
        }
    }

    fn take(&mut self, step: Step) {
        self.now += 7;
        match step {
            Step::Say { node, key, said, forked } => self.say(node, key, said, forked),
            Step::Pass { from, to } => self.pass(from, to),
            Step::Decide { node } => self.decide(node),
            Step::Hear { node } => self.hear(node),
            Step::Crash { node } => self.crash(node),
        }
    }

    fn say(&mut self, node: usize, key: u8, said: Said, forked: bool) {
        let chain = &self.nodes[node].chain;
        let entry = chain.state().key(&kid(key));
        let of_chain = entry.map_or((0, None), |entry| (entry.seq, entry.prev));
        let own = self.last.get(&key).map(|(seq, txid)| (*seq, Some(*txid)));
        let (seq, prev) = if forked { of_chain } else { own.unwrap_or(of_chain) };
        let (chain, iat, kid) = (chain.id(), self.now, kid(key));
        let consent = |number: u8| Consent {
            chain,
            commitment: Digest::of(&self.now.to_be_bytes()),
            custody: Custody::Client,
            grant: grant(number),
            iat,
            key: kid,
            prev,
            seq: seq + 1,
        };
        let (signer, payload) = match said {
            Said::SecondaryIndex => {
                let pop = SignatureBytes::sign(&holder(key), &possession_text(&chain, &kid));
                let public = Some(PublicKey::of(&holder(key)));
                let status = KeyStatus::Active;
                (
                    secret("auth"),
                    Payload::ConsentKey(ConsentKey { chain, iat, key: kid, pop: Some(pop), public, status }),
                )
            }
            Said::Grant(number) => (holder(key), Payload::Grant(consent(number))),
            Said::Alter(number) => (holder(key), Payload::Alter(consent(number))),
            Said::Revoke(number) => {
                (holder(key), Payload::Revoke(Revoke { chain, grant: grant(number), iat, key: kid }))
            }
            Said::RevokeKey => {
                let status = KeyStatus::Revoked;
                (
                    holder(key),
                    Payload::ConsentKey(ConsentKey { chain, iat, key: kid, pop: None, public: None, status }),
                )
            }
        };
        let tx = Arc::new(Tx::parse(tx::sign(&signer, &payload).unwrap().as_bytes()).unwrap());
        if self.nodes[node].admit(&tx, true, self.now) {
            self.acknowledged.push((node, tx.txid()));
            if matches!(said, Said::Grant(_) | Said::Alter(_)) {
                self.last.insert(key, (seq + 1, tx.txid()));
            }
        }
    }

    fn pass(&mut self, from: usize, to: usize) {
        let told: Vec<_> = self.nodes[from].mempool.promises(1_000);
        for tx in told {
            self.nodes[to].admit(&tx, false, self.now);
        }
    }

    fn decide(&mut self, node: usize) {
        while self.nodes[node].chain.height() < self.blocks.len() as u64 {
            self.hear(node);
        }
        let now = Timestamp::from_ms(i64::try_from(self.now).unwrap());
        let replica = &self.nodes[node];
        let candidates = replica.mempool.candidates(100, 1 << 20);
        let draft = replica.chain.draft(&candidates, now, &genesis().members[node].kid());
        if draft.is_empty() {
            return;
        }
        self.blocks.push(draft.mine(&AtomicBool::new(false)).unwrap().block);
        self.hear(node);
    }

    fn hear(&mut self, node: usize) {
        let replica = &mut self.nodes[node];
        let next = usize::try_from(replica.chain.height()).unwrap();
        let Some(block) = self.blocks.get(next).cloned() else { return };
        replica.commit(block, self.now);
        for (key, number) in (0..KEYS).flat_map(|key| (0..GRANTS).map(move |number| (key, number))) {
            let state = self.nodes[node].chain.state();
            let ended = state.key(&kid(key)).is_some_and(|entry| entry.status == KeyStatus::Revoked)
                || state
                    .grant(&kid(key), &grant(number))
                    .is_some_and(|entry| entry.status == KeyStatus::Revoked);
            // Only the longest chain tells what is dead; whoever lags does not know yet.
            if next + 1 == self.blocks.len() {
                let in_force = state.in_force(&kid(key), &grant(number));
                assert!(
                    !(in_force && self.dead.contains(&(key, number))),
                    "grant {number} of key {key} came back"
                );
                if ended {
                    self.dead.insert((key, number));
                }
            }
        }
    }

    fn crash(&mut self, node: usize) {
        let now = self.now;
        let replica = &mut self.nodes[node];
        replica.mempool = Mempool::new(QueueLimits::default());
        for tx in replica.promises.values() {
            replica.mempool.resume(tx.clone());
        }
        let impossible = replica.mempool.recompute(&replica.chain, now);
        replica.refuse(&impossible);
    }

    /// Everybody hears everything, until nothing can become final any more.
    fn come_to_rest(&mut self) {
        for _ in 0..20 {
            let height = self.blocks.len();
            for (from, to) in (0..NODES).flat_map(|from| (0..NODES).map(move |to| (from, to))) {
                self.pass(from, to);
            }
            for node in 0..NODES {
                self.now += 7;
                self.decide(node);
            }
            for node in 0..NODES {
                while self.nodes[node].chain.height() < self.blocks.len() as u64 {
                    self.hear(node);
                }
            }
            if self.blocks.len() == height {
                return;
            }
        }
    }
}

impl Replica {
    /// By the node's own validation. True if it answers for it.
    fn admit(&mut self, tx: &Arc<Tx>, promise: bool, now: u64) -> bool {
        let txs = std::slice::from_ref(tx);
        let source = if promise { Source::Client } else { Source::Member };
        match validate(&self.chain, &mut self.mempool, txs, source, now).pop().expect("one answer") {
            Validated::Final(_) | Validated::Promised => true,
            Validated::Refused(_) => false,
            Validated::Waits => {
                if promise {
                    for tx in self.mempool.with_predecessors(txs) {
                        self.mempool.promise(&tx.txid());
                        self.promises.insert(tx.txid(), tx);
                    }
                }
                true
            }
        }
    }

    fn commit(&mut self, block: Block, now: u64) {
        let next =
            self.chain.examine(block, &|txid| self.mempool.get(txid).cloned()).expect("peers accept it");
        let txids: Vec<_> = next.txids().collect();
        for txid in &txids {
            self.promises.remove(txid);
        }
        self.mempool.speculate(&self.chain, next.txs(), now);
        assert!(self.chain.extend(next, String::new()));
        let impossible = self.mempool.settle(&self.chain, &txids, now);
        self.refuse(&impossible);
    }

    fn refuse(&mut self, impossible: &[Impossible]) {
        for Impossible { tx, error } in impossible {
            let Refusal::Never { excluded_by, .. } = error else {
                panic!("refused what may still come: {error}")
            };
            self.promises.remove(&tx.txid());
            self.refusals.insert(tx.txid(), *excluded_by);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_acknowledged_is_final_once_or_named_as_excluded_and_the_dead_stay_dead(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        world.come_to_rest();
        let mut times: BTreeMap<Digest, u32> = BTreeMap::new();
        for txid in world.blocks.iter().flat_map(Block::txids) {
            *times.entry(txid).or_default() += 1;
        }
        prop_assert!(times.values().all(|times| *times == 1), "something is final twice");
        for (node, txid) in &world.acknowledged {
            let refusal = world.nodes[*node].refusals.get(txid);
            match (times.contains_key(txid), refusal) {
                (true, None) => {}
                (false, Some(Some(by))) => {
                    prop_assert!(times.contains_key(by), "excluded by something that is not final");
                }
                other => prop_assert!(false, "acknowledged by node {node} and then {other:?}"),
            }
        }
        for pair in world.nodes.windows(2) {
            prop_assert_eq!(pair[0].chain.tip_hash(), pair[1].chain.tip_hash());
        }
    }
}
