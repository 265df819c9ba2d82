//! What blocks say beyond the state: facts of each block, who signed what and of which type, pending votes, changes
//! that took effect, events of nodes. Made from verified blocks only, kept in memory, made anew at each start; no rule
//! asks it, so a node could do without.
//!
//! Memory: 24 bytes per block, 16 to 32 per transaction, about 120 per author; votes, changes and events are few.
//!
//! Why: decision 0081.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use hbc_types::Digest;
use hbc_types::keys::{Kid, PublicKey};

use crate::genesis::{Genesis, Named};
use crate::header::{Header, miner_id};
use crate::payload::Payload;
use crate::state::State;
use crate::tx::Tx;

/// How subjects about members begin.
const MEMBER: &str = "member:";

/// What is kept of a block beside its hash and its log's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockFacts {
    /// Its time, Unix milliseconds.
    pub time_ms: u64,
    /// Bytes of its encoding.
    pub bytes: u32,
    /// The round that decided it.
    pub round: u32,
    /// Who found its work.
    pub miner: [u8; 8],
}

/// A pending vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingVote {
    /// The member's name when it spoke.
    pub member: String,
    /// The key that signed.
    pub kid: Kid,
    /// The change of its subject that it is for.
    pub nonce: u64,
    /// What it wants.
    pub value: String,
    /// Height of its block.
    pub height: u64,
}

/// A change that took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// What changed: `member:…`, `operator:…`, `parameter:…` or `service:<kid>`.
    pub subject: String,
    /// To what.
    pub value: String,
    /// By whose votes.
    pub votes: Vec<String>,
    /// The transaction that reached the threshold.
    pub txid: Digest,
    /// Height of its block; the change is in force from the next one on.
    pub height: u64,
    /// Time of its block.
    pub time_ms: u64,
}

/// What a node said of itself, or enough members of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// What.
    pub event: String,
    /// At which height of that node's chain.
    pub about_height: u64,
    /// Digest of the evidence.
    pub evidence: Digest,
    /// The transaction.
    pub txid: Digest,
    /// Height of its block.
    pub height: u64,
    /// Time of its block.
    pub time_ms: u64,
}

/// A block that was just added to the state.
#[derive(Debug, Clone, Copy)]
pub struct Added<'a> {
    /// Its header.
    pub header: &'a Header,
    /// Its transactions.
    pub txs: &'a [Arc<Tx>],
    /// Bytes of its encoding.
    pub bytes: usize,
    /// The round that decided it.
    pub round: u32,
    /// Place of its first transaction in the log.
    pub first_leaf: u64,
    /// The members that were asked about it: those of its height.
    pub members: &'a [Named],
}

/// Pending votes of one subject, by transaction.
type Votes = BTreeMap<Digest, PendingVote>;

/// The secondary index.
#[derive(Debug)]
pub struct SecondaryIndex {
    blocks: Vec<BlockFacts>,
    by_author: HashMap<Kid, Vec<u64>>,
    by_type: BTreeMap<&'static str, Vec<u64>>,
    pending: BTreeMap<String, Votes>,
    changes: Vec<Changed>,
    events: BTreeMap<String, Happened>,
    /// Fingerprints of all services' keys there ever were.
    services: Vec<Kid>,
    /// Names of all members there ever were, as headers name them.
    miners: HashMap<[u8; 8], String>,
}

impl SecondaryIndex {
    /// Of a chain that only has its block 0.
    #[must_use]
    pub fn begin(genesis: &Genesis, header: &Header, bytes: usize) -> Self {
        let mut secondary_index = Self {
            blocks: vec![facts(header, bytes, 0)],
            by_author: HashMap::new(),
            by_type: BTreeMap::new(),
            pending: BTreeMap::new(),
            changes: Vec::new(),
            events: BTreeMap::new(),
            services: genesis.services.iter().map(|service| service.key.kid()).collect(),
            miners: HashMap::new(),
        };
        secondary_index.note_miners(&genesis.members);
        secondary_index
    }

    fn note_miners(&mut self, members: &[Named]) {
        self.miners.extend(members.iter().map(|member| (miner_id(&member.kid()), member.name.clone())));
    }

    /// Takes a block in. `state` is the one after it.
    pub fn note(&mut self, state: &State, added: &Added<'_>) {
        self.blocks.push(facts(added.header, added.bytes, added.round));
        let mut spoken: HashSet<String> = HashSet::new();
        let mut last: BTreeMap<(String, u64), Digest> = BTreeMap::new();
        for (leaf, tx) in (added.first_leaf..).zip(added.txs) {
            self.by_author.entry(tx.kid()).or_default().push(leaf);
            self.by_type.entry(tx.payload().kind()).or_default().push(leaf);
            if let Some((subject, pending_vote)) = pending_vote(tx, added) {
                last.insert((subject.clone(), pending_vote.nonce), tx.txid());
                // One vote per party and subject, the latest.
                let votes = self.pending.entry(subject.clone()).or_default();
                votes.retain(|_, other| other.kid != pending_vote.kid);
                votes.insert(tx.txid(), pending_vote);
                spoken.insert(subject);
            }
            if let Payload::NodeEvent(event) = tx.payload()
                && state.took_effect(&tx.payload().ballot()) == Some(tx.txid())
            {
                let happened = Happened {
                    event: event.event.clone(),
                    about_height: event.height,
                    evidence: event.evidence,
                    txid: tx.txid(),
                    height: added.header.height,
                    time_ms: added.header.time_ms,
                };
                self.events.insert(event.node.clone(), happened);
            }
        }
        if state.members() != added.members {
            self.note_miners(state.members());
        }
        for ((subject, nonce), txid) in last {
            if nonce < state.changes(&subject) {
                self.note_service(&subject);
                self.took_effect(subject, &txid, added);
            }
        }
        for subject in spoken {
            self.settle(state, &subject);
        }
    }

    fn note_service(&mut self, subject: &str) {
        let kid = subject.strip_prefix("service:").and_then(|kid| Kid::parse(kid).ok());
        if let Some(kid) = kid.filter(|kid| !self.services.contains(kid)) {
            self.services.push(kid);
        }
    }

    /// The last vote on a change that took effect is the one that completed it. Those of members that had left by then
    /// are kept with the subject, and did not count.
    fn took_effect(&mut self, subject: String, txid: &Digest, added: &Added<'_>) {
        let Some(votes) = self.pending.get(&subject) else { return };
        let Some(last) = votes.get(txid) else { return };
        let counts = |kid: Kid| added.members.iter().any(|member| member.kid() == kid);
        let same = |pending_vote: &&PendingVote| {
            pending_vote.nonce == last.nonce && pending_vote.value == last.value && counts(pending_vote.kid)
        };
        let mut names: Vec<String> =
            votes.values().filter(same).map(|pending_vote| pending_vote.member.clone()).collect();
        names.sort();
        names.dedup();
        let (value, height, time_ms) = (last.value.clone(), added.header.height, added.header.time_ms);
        self.changes.push(Changed { subject, value, votes: names, txid: *txid, height, time_ms });
    }

    /// Keeps the votes that the state still counts.
    fn settle(&mut self, state: &State, subject: &str) {
        let counted: HashSet<Digest> = state.votes(subject).iter().map(|vote| vote.txid).collect();
        if let Some(votes) = self.pending.get_mut(subject) {
            votes.retain(|txid, _| counted.contains(txid));
            if votes.is_empty() {
                self.pending.remove(subject);
            }
        }
    }

    /// Facts of a block.
    #[must_use]
    pub fn block(&self, height: u64) -> Option<BlockFacts> {
        self.blocks.get(usize::try_from(height).ok()?).copied()
    }

    /// The member that a header names as its miner.
    #[must_use]
    pub fn miner(&self, id: &[u8; 8]) -> Option<&str> {
        self.miners.get(id).map(String::as_str)
    }

    /// Places in the log of what an author signed, ascending.
    #[must_use]
    pub fn by_author(&self, kid: &Kid) -> &[u64] {
        self.by_author.get(kid).map_or(&[], Vec::as_slice)
    }

    /// Places in the log of transactions of a type, ascending.
    #[must_use]
    pub fn by_type(&self, kind: &str) -> &[u64] {
        self.by_type.get(kind).map_or(&[], Vec::as_slice)
    }

    /// Subjects with pending votes, by name, from `first` on.
    pub fn pending_from(&self, first: &str) -> impl Iterator<Item = (&str, &BTreeMap<Digest, PendingVote>)> {
        let from = (Bound::Included(first), Bound::Unbounded);
        self.pending.range::<str, _>(from).map(|(subject, votes)| (subject.as_str(), votes))
    }

    /// Those of one subject.
    #[must_use]
    pub fn pending_on(&self, subject: &str) -> Option<&BTreeMap<Digest, PendingVote>> {
        self.pending.get(subject)
    }

    /// Members that somebody wants: they may say where they are before they take part.
    #[must_use]
    pub fn candidates(&self) -> Vec<Named> {
        let mut found = Vec::new();
        for (subject, votes) in self.pending_from(MEMBER) {
            let Some(name) = subject.strip_prefix(MEMBER) else { break };
            let keys = votes.values().filter_map(|pending_vote| PublicKey::parse(&pending_vote.value).ok());
            found.extend(keys.map(|key| Named { key, name: name.to_owned() }));
        }
        found
    }

    /// Changes that took effect, oldest first.
    #[must_use]
    pub fn changes(&self) -> &[Changed] {
        &self.changes
    }

    /// Fingerprints of all services' keys there ever were, in the order in which they came.
    #[must_use]
    pub fn services(&self) -> &[Kid] {
        &self.services
    }

    /// The last event of a node.
    #[must_use]
    pub fn event(&self, node: &str) -> Option<&Happened> {
        self.events.get(node)
    }
}

fn facts(header: &Header, bytes: usize, round: u32) -> BlockFacts {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    BlockFacts { time_ms: header.time_ms, bytes, round, miner: header.miner }
}

/// The vote that a transaction is, with its subject.
fn pending_vote(tx: &Tx, added: &Added<'_>) -> Option<(String, PendingVote)> {
    let (subject, nonce, value) = match tx.payload() {
        Payload::MemberVote(vote) => (vote.subject.clone(), vote.nonce, vote.value.clone()),
        Payload::ServiceKey(change) => {
            let value = format!("{} {} {}", change.role, change.status, change.public);
            (format!("service:{}", change.key), change.nonce, value)
        }
        // Operators and auth vote on staff, nodes on events: both are no votes of members about the network.
        Payload::Staff(_)
        | Payload::Affiliation(_)
        | Payload::Order(_)
        | Payload::NodeEvent(_)
        | Payload::ConsentKey(_)
        | Payload::Anchor(_)
        | Payload::Erase(_)
        | Payload::Grant(_)
        | Payload::Alter(_)
        | Payload::Revoke(_)
        | Payload::Receipts(_)
        | Payload::Release(_) => return None,
    };
    let kid = tx.kid();
    let member = added.members.iter().find(|member| member.kid() == kid);
    let member = member.map(|member| member.name.clone()).unwrap_or_default();
    Some((subject, PendingVote { member, kid, nonce, value, height: added.header.height }))
}
