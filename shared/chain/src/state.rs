//! The ledger's state after a block: every right and every fact that later transactions are checked against. It is the
//! state map itself, so nothing counts that the header's state root does not commit to. What a transaction may do is in
//! [`super::rules`], what a block must be in [`super::block`].
//!
//! Memory: about 330 bytes per key or grant, 270 per segment or batch of receipts, 80 per transaction (its place), 100 per
//! anchor. What a node with a million transactions has in all is in decision 0089.

use std::collections::HashMap;
use std::sync::Arc;

use hbc_types::account::ServiceRole;
use hbc_types::ids::GrantId;
use hbc_types::keys::{Kid, PublicKey};
use hbc_types::{Digest, hash};

use crate::anchors::{AnchorDraft, Anchors};
use crate::entry::{
    AffiliationEntry, ChangesEntry, Entry, GrantEntry, KeyEntry, Kind, StaffEntry, Vote, affiliation_id,
    grant_id,
};
use crate::genesis::{Genesis, GenesisError, Named, Parameters, ServiceEntry};
use crate::header::Header;
use crate::map::{Map, MapProof};
use crate::merkle::Frontier;
use crate::payload::KeyStatus;
use crate::rtree::AnchorLeaf;
use crate::tx::Tx;

/// The state after the block of some height.
#[derive(Debug)]
pub struct State {
    chain: Digest,
    header: Header,
    tip: Digest,
    log: Frontier,
    map: Map<Entry>,
    authority: Authority,
    anchors: Anchors,
    places: HashMap<Digest, (u64, u32)>,
    /// For each height the log's size before its transactions.
    log_starts: Vec<u64>,
}

/// Who decides at a height: as the block before left it, whatever the block itself changes.
#[derive(Debug, Clone)]
pub struct Authority {
    /// The members, by name.
    pub members: Arc<Vec<Named>>,
    /// The operators, by name.
    pub operators: Arc<Vec<Named>>,
    /// The parameters.
    pub parameters: Arc<Parameters>,
    /// All members and operators there ever were: what those who left have signed stays provable.
    parties: HashMap<Kid, Party>,
}

/// A key that serves, or served, as a member's or operator's.
#[derive(Debug, Clone)]
struct Party {
    key: PublicKey,
    /// What votes about it are about.
    subject: Arc<str>,
}

impl Authority {
    fn new(members: Arc<Vec<Named>>, operators: Arc<Vec<Named>>, parameters: Arc<Parameters>) -> Self {
        let mut authority = Self { members, operators, parameters, parties: HashMap::new() };
        authority.note_parties();
        authority
    }

    fn note_parties(&mut self) {
        for (role, list) in [("member", &self.members), ("operator", &self.operators)] {
            for named in list.iter() {
                let subject = format!("{role}:{}", named.name).into();
                self.parties.insert(named.kid(), Party { key: named.key, subject });
            }
        }
    }

    /// What votes about a key that served once are about; none while it serves, or if it never did.
    fn left(&self, kid: &Kid) -> Option<&str> {
        let serves = |list: &[Named]| list.iter().any(|named| named.kid() == *kid);
        let party = self.parties.get(kid)?;
        (!serves(&self.members) && !serves(&self.operators)).then_some(&party.subject)
    }
}

/// Where a final transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Height of its block.
    pub height: u64,
    /// Its place in the block.
    pub index: u32,
    /// Its leaf's place in the log.
    pub leaf: u64,
}

/// The three roots that a state root is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateRoots {
    /// The state map's.
    pub map: Digest,
    /// RFC 6962 over all anchors.
    pub anchors: Digest,
    /// RFC 6962 over the roots of the encrypted R-tree pages.
    pub pages: Digest,
}

impl StateRoots {
    /// `H("hbc/state/v1", map, anchors, pages)`.
    #[must_use]
    pub fn root(&self) -> Digest {
        hash::state(&self.map, &self.anchors, &self.pages)
    }
}

/// What the state map says under a key, with its proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proved {
    /// The value's JCS form, if there is one.
    pub value: Option<Vec<u8>>,
    /// The path.
    pub proof: MapProof,
}

impl State {
    /// The state after block 0.
    ///
    /// # Errors
    /// When the document founds no chain.
    pub fn genesis(genesis: &Genesis) -> Result<Self, GenesisError> {
        let header = genesis.header()?;
        let authority = Authority::new(
            Arc::new(genesis.members.clone()),
            Arc::new(genesis.operators.clone()),
            Arc::new(genesis.parameters),
        );
        let mut map = Map::new();
        map.insert(Kind::Members.key(""), Entry::Members(Arc::clone(&authority.members)));
        map.insert(Kind::Operators.key(""), Entry::Operators(Arc::clone(&authority.operators)));
        map.insert(Kind::Parameters.key(""), Entry::Parameters(Arc::clone(&authority.parameters)));
        for service in &genesis.services {
            let entry = ServiceEntry {
                public: service.key,
                role: service.role,
                status: KeyStatus::Active,
                txid: None,
            };
            map.insert(Kind::Service.digest_key(&service.key.kid()), Entry::Service(Box::new(entry)));
        }
        let tip = header.hash();
        Ok(Self {
            chain: tip,
            header,
            tip,
            log: Frontier::new(),
            map,
            authority,
            anchors: Anchors::default(),
            places: HashMap::new(),
            log_starts: vec![0],
        })
    }

    /// The chain.
    #[must_use]
    pub const fn chain(&self) -> Digest {
        self.chain
    }

    /// Header of the last block.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Hash of the last block.
    #[must_use]
    pub const fn tip(&self) -> Digest {
        self.tip
    }

    /// Height of the last block.
    #[must_use]
    pub const fn height(&self) -> u64 {
        self.header.height
    }

    /// The log over all leaves so far.
    #[must_use]
    pub const fn log(&self) -> &Frontier {
        &self.log
    }

    /// Who decides at the next height.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The members of the next height, by name.
    #[must_use]
    pub fn members(&self) -> &[Named] {
        &self.authority.members
    }

    /// The operators of the next height, by name.
    #[must_use]
    pub fn operators(&self) -> &[Named] {
        &self.authority.operators
    }

    /// The parameters of the next height.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.authority.parameters
    }

    /// The anchors so far.
    #[must_use]
    pub const fn anchors(&self) -> &Anchors {
        &self.anchors
    }

    /// The raw key of any party that the state knows or knew: member, operator, service, consent key or staff. Whether it
    /// may sign anything is for the rules.
    #[must_use]
    pub fn public_key(&self, kid: &Kid) -> Option<PublicKey> {
        let found = self.authority.parties.get(kid).map(|party| party.key);
        found
            .or_else(|| self.key(kid).map(|entry| entry.public))
            .or_else(|| self.service(kid).map(|entry| entry.public))
            .or_else(|| self.staff(kid).map(|entry| entry.public))
    }

    /// A consent key.
    #[must_use]
    pub fn key(&self, kid: &Kid) -> Option<&KeyEntry> {
        key(&self.map, kid)
    }

    /// A grant, live or revoked.
    #[must_use]
    pub fn grant(&self, kid: &Kid, grant: &GrantId) -> Option<&GrantEntry> {
        find_grant(&self.map, kid, grant)
    }

    /// Whether a grant is in force: it and its key are active.
    #[must_use]
    pub fn in_force(&self, kid: &Kid, grant: &GrantId) -> bool {
        let active = KeyStatus::Active;
        self.grant(kid, grant).is_some_and(|grant| grant.status == active)
            && self.key(kid).is_some_and(|key| key.status == active)
    }

    /// A staff profile.
    #[must_use]
    pub fn staff(&self, kid: &Kid) -> Option<&StaffEntry> {
        staff(&self.map, kid)
    }

    /// Who acts, or acted, for an organisation.
    #[must_use]
    pub fn affiliation(&self, organisation: &Kid, key: &Kid) -> Option<&AffiliationEntry> {
        affiliation(&self.map, &affiliation_id(organisation, key))
    }

    /// A service's key.
    #[must_use]
    pub fn service(&self, kid: &Kid) -> Option<&ServiceEntry> {
        service(&self.map, kid)
    }

    /// The transaction with which an event of a node took effect, by its ballot.
    #[must_use]
    pub fn took_effect(&self, ballot: &Digest) -> Option<Digest> {
        match self.map.get(&Kind::Event.digest_key(ballot)) {
            Some(Entry::Seen(entry)) => Some(entry.txid),
            _ => None,
        }
    }

    /// How often a subject changed: the nonce of its next change.
    #[must_use]
    pub fn changes(&self, subject: &str) -> u64 {
        changes(&self.map, subject).map_or(0, |entry| entry.count)
    }

    /// Votes on a subject that have not reached their threshold.
    #[must_use]
    pub fn votes(&self, subject: &str) -> &[Vote] {
        match self.map.get(&Kind::Ballots.key(subject)) {
            Some(Entry::Ballots(votes)) => votes,
            _ => &[],
        }
    }

    /// The transaction with which a subject changed last.
    #[must_use]
    pub fn changed_by(&self, subject: &str) -> Option<Digest> {
        changes(&self.map, subject).map(|entry| entry.txid)
    }

    /// Where a final transaction stands.
    #[must_use]
    pub fn place(&self, txid: &Digest) -> Option<Place> {
        let (height, index) = *self.places.get(txid)?;
        let start = *self.log_starts.get(usize::try_from(height).ok()?)?;
        Some(Place { height, index, leaf: start.saturating_add(u64::from(index)) })
    }

    /// The roots that the header's state root is made of.
    #[must_use]
    pub fn roots(&self) -> StateRoots {
        let (anchors, pages) = self.anchors.roots();
        StateRoots { map: self.map.root(), anchors, pages }
    }

    /// What the map says about an entry, with its proof.
    #[must_use]
    pub fn prove(&self, kind: Kind, id: &str) -> Proved {
        let key = kind.key(id);
        Proved { value: self.map.get(&key).map(Entry::to_bytes), proof: self.map.prove(&key) }
    }

    /// How many entries the map has.
    #[must_use]
    pub const fn entries(&self) -> usize {
        self.map.len()
    }

    /// Begins the next block, at this time.
    #[must_use]
    pub fn draft(&self, time_ms: u64) -> Draft<'_> {
        let work = Work { map: self.map.clone(), txids: HashMap::new(), anchors: self.anchors.draft() };
        Draft { state: self, height: self.height().saturating_add(1), time_ms, work }
    }

    /// Takes a checked block as the next one.
    ///
    /// # Errors
    /// Gives it back when it was not checked against this tip.
    pub fn commit(&mut self, checked: Checked) -> Result<(), Box<Checked>> {
        if checked.header.prev_hash != self.tip || checked.header.height != self.height().saturating_add(1) {
            return Err(Box::new(checked));
        }
        let Checked { header, hash, log, work, .. } = checked;
        self.log_starts.push(self.log.size().saturating_add(1));
        self.header = header;
        self.tip = hash;
        self.log = log;
        self.map = work.map;
        self.anchors.commit(work.anchors);
        self.places.extend(work.txids.into_iter().map(|(txid, index)| (txid, (header.height, index))));
        self.refresh_authority();
        Ok(())
    }

    /// Takes what the block left; nothing to do when it left the same lists.
    fn refresh_authority(&mut self) {
        let (members, operators, parameters) = authority_of(&self.map, &self.authority);
        let same = Arc::ptr_eq(&members, &self.authority.members)
            && Arc::ptr_eq(&operators, &self.authority.operators);
        self.authority.parameters = parameters;
        if !same {
            (self.authority.members, self.authority.operators) = (members, operators);
            self.authority.note_parties();
        }
    }
}

/// Members, operators and parameters as a map has them.
pub(super) fn authority_of(
    map: &Map<Entry>,
    before: &Authority,
) -> (Arc<Vec<Named>>, Arc<Vec<Named>>, Arc<Parameters>) {
    let members = match map.get(&Kind::Members.key("")) {
        Some(Entry::Members(list)) => list,
        _ => &before.members,
    };
    let operators = match map.get(&Kind::Operators.key("")) {
        Some(Entry::Operators(list)) => list,
        _ => &before.operators,
    };
    let parameters = match map.get(&Kind::Parameters.key("")) {
        Some(Entry::Parameters(parameters)) => parameters,
        _ => &before.parameters,
    };
    (Arc::clone(members), Arc::clone(operators), Arc::clone(parameters))
}

/// A block that may be committed to the state it was checked against.
#[derive(Debug)]
pub struct Checked {
    /// Its header.
    pub header: Header,
    /// Its hash.
    pub hash: Digest,
    /// Its transactions, in order.
    pub txs: Vec<Arc<Tx>>,
    pub(super) log: Frontier,
    pub(super) work: Work,
}

impl Checked {
    /// Leaves of the log with this block.
    #[must_use]
    pub const fn log_size(&self) -> u64 {
        self.log.size()
    }

    /// Root of the log with this block.
    #[must_use]
    pub fn log_root(&self) -> Digest {
        self.log.root()
    }
}

/// A block in the making: the state with transactions applied on top, which no one else sees.
#[derive(Debug)]
pub struct Draft<'a> {
    pub(super) state: &'a State,
    pub(super) height: u64,
    pub(super) time_ms: u64,
    pub(super) work: Work,
}

/// What a draft has beyond the state under it.
#[derive(Debug)]
pub struct Work {
    pub(super) map: Map<Entry>,
    pub(super) txids: HashMap<Digest, u32>,
    pub(super) anchors: AnchorDraft,
}

impl Draft<'_> {
    /// Height of the block in the making.
    #[must_use]
    pub const fn height(&self) -> u64 {
        self.height
    }

    /// How many transactions were applied.
    #[must_use]
    pub fn len(&self) -> usize {
        self.work.txids.len()
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.work.txids.is_empty()
    }

    /// The root of the state with all that was applied.
    #[must_use]
    pub fn state_root(&self) -> Digest {
        let (anchors, pages) = self.work.anchors.roots();
        StateRoots { map: self.work.map.root(), anchors, pages }.root()
    }

    /// Whether a transaction is final, or applied here.
    #[must_use]
    pub fn has(&self, txid: &Digest) -> bool {
        self.work.txids.contains_key(txid) || self.state.places.contains_key(txid)
    }

    pub(super) fn get(&self, kind: Kind, id: &Digest) -> Option<&Entry> {
        self.work.map.get(&kind.digest_key(id))
    }

    pub(super) fn key(&self, kid: &Kid) -> Option<&KeyEntry> {
        key(&self.work.map, kid)
    }

    pub(super) fn grant(&self, kid: &Kid, grant: &GrantId) -> Option<&GrantEntry> {
        find_grant(&self.work.map, kid, grant)
    }

    pub(super) fn staff(&self, kid: &Kid) -> Option<&StaffEntry> {
        staff(&self.work.map, kid)
    }

    pub(super) fn affiliation(&self, id: &str) -> Option<&AffiliationEntry> {
        affiliation(&self.work.map, id)
    }

    pub(super) fn service(&self, kid: &Kid) -> Option<&ServiceEntry> {
        service(&self.work.map, kid)
    }

    /// Whether anybody introduced this key, as whatever.
    pub(super) fn knows(&self, kid: &Kid) -> bool {
        self.state.authority.parties.contains_key(kid)
            || self.key(kid).is_some()
            || self.service(kid).is_some()
            || self.staff(kid).is_some()
    }

    /// The transaction that ended what this key served as.
    pub(super) fn left_by(&self, kid: &Kid) -> Option<Digest> {
        let subject = self.state.authority.left(kid)?;
        self.changes(subject).map(|entry| entry.txid)
    }

    pub(super) fn is_service(&self, kid: &Kid, role: ServiceRole) -> bool {
        self.service(kid).is_some_and(|entry| entry.role == role && entry.status == KeyStatus::Active)
    }

    pub(super) fn changes(&self, subject: &str) -> Option<&ChangesEntry> {
        changes(&self.work.map, subject)
    }

    pub(super) fn put(&mut self, kind: Kind, id: &Digest, entry: Entry) {
        self.work.map.insert(kind.digest_key(id), entry);
    }

    pub(super) fn put_text(&mut self, kind: Kind, id: &str, entry: Entry) {
        self.work.map.insert(kind.key(id), entry);
    }

    pub(super) fn push_anchor(&mut self, leaf: AnchorLeaf) {
        self.work.anchors.push(self.state.anchors(), leaf);
    }

    pub(super) fn put_grant(&mut self, kid: &Kid, grant: &GrantId, entry: GrantEntry) {
        self.put_text(Kind::Grant, &grant_id(kid, grant), Entry::Grant(Box::new(entry)));
    }
}

fn key<'a>(map: &'a Map<Entry>, kid: &Kid) -> Option<&'a KeyEntry> {
    match map.get(&Kind::Key.digest_key(kid)) {
        Some(Entry::Key(entry)) => Some(entry),
        _ => None,
    }
}

fn find_grant<'a>(map: &'a Map<Entry>, kid: &Kid, grant: &GrantId) -> Option<&'a GrantEntry> {
    match map.get(&Kind::Grant.key(&grant_id(kid, grant))) {
        Some(Entry::Grant(entry)) => Some(entry),
        _ => None,
    }
}

fn staff<'a>(map: &'a Map<Entry>, kid: &Kid) -> Option<&'a StaffEntry> {
    match map.get(&Kind::Staff.digest_key(kid)) {
        Some(Entry::Staff(entry)) => Some(entry),
        _ => None,
    }
}

fn affiliation<'a>(map: &'a Map<Entry>, id: &str) -> Option<&'a AffiliationEntry> {
    match map.get(&Kind::Affiliation.key(id)) {
        Some(Entry::Affiliation(entry)) => Some(entry),
        _ => None,
    }
}

fn service<'a>(map: &'a Map<Entry>, kid: &Kid) -> Option<&'a ServiceEntry> {
    match map.get(&Kind::Service.digest_key(kid)) {
        Some(Entry::Service(entry)) => Some(entry),
        _ => None,
    }
}

fn changes<'a>(map: &'a Map<Entry>, subject: &str) -> Option<&'a ChangesEntry> {
    match map.get(&Kind::Changes.key(subject)) {
        Some(Entry::Changes(entry)) => Some(entry),
        _ => None,
    }
}
