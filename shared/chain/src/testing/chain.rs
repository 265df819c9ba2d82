//! A chain with everything that a node holds of it, made by hand: no rule of transactions is asked, so that a test can
//! have what no node would make.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ed25519_dalek::SigningKey;

use super::{certify, genesis as sample, key, public};
use crate::entry::{Entry, Kind};
use crate::genesis::{Genesis, Named, ServiceEntry, log_origin};
use crate::header::{Header, miner_id};
use crate::map::Map;
use crate::merkle::{self, Tree};
use crate::payload::{KeyStatus, Payload};
use crate::proof::{
    BlockEvidence, Certification, EntryProof, MembersProof, SetChange, StateEvidence, TransactionProof, Trust,
};
use crate::tx::{self, Tx};
use hbc_types::digest::Digest;
use hbc_types::hash;
use hbc_types::keys::PublicKey;
use hbc_types::secret::Bytes;
use hbc_types::wire::ledger::BlockView;

/// A certified chain. Its founders are the members 1, 2 and so on of [`super::members`].
#[derive(Clone, Debug)]
pub struct Chain {
    /// The founding document.
    pub genesis: Genesis,
    /// The chain's id.
    pub id: Digest,
    /// All headers by height.
    pub headers: Vec<Header>,
    /// All blocks but block 0, as a node serves them.
    pub blocks: Vec<BlockView>,
    /// The log of all headers before the tip and of all transactions.
    pub log: Tree,
    /// Seeds and names of those who certify each height, and of those who will certify the next.
    pub members: Vec<Vec<(u8, Named)>>,
    /// The changes of members so far.
    pub sets: Vec<SetChange>,
    /// The state that the next block leaves.
    pub map: Map<Entry>,
    /// Root of the anchors that the next block leaves.
    pub anchors: Digest,
    /// Root of the pages that the next block leaves.
    pub pages: Digest,
    /// The state map after each height, and the roots of anchors and pages beside it.
    states: Vec<(Map<Entry>, Digest, Digest)>,
}

fn first_map(genesis: &Genesis) -> Map<Entry> {
    let mut map = Map::new();
    map.insert(Kind::Members.key(""), Entry::Members(Arc::new(genesis.members.clone())));
    map.insert(Kind::Operators.key(""), Entry::Operators(Arc::new(genesis.operators.clone())));
    map.insert(Kind::Parameters.key(""), Entry::Parameters(Arc::new(genesis.parameters)));
    for service in &genesis.services {
        let (public, role, status) = (service.key, service.role, KeyStatus::Active);
        let entry = ServiceEntry { public, role, status, txid: None };
        map.insert(Kind::Service.digest_key(&public.kid()), Entry::Service(Box::new(entry)));
    }
    map
}

impl Chain {
    /// Only block 0, by so many founders.
    #[must_use]
    pub fn new(members: u8) -> Self {
        Self::of(sample(members))
    }

    /// Only block 0 of this founding document, whose members have the seeds 1, 2 and so on.
    #[must_use]
    pub fn of(genesis: Genesis) -> Self {
        let (header, map, empty) = (genesis.header().unwrap(), first_map(&genesis), merkle::empty_root());
        let founders: Vec<_> = (1..).zip(genesis.members.iter().cloned()).collect();
        Self {
            id: header.hash(),
            genesis,
            headers: vec![header],
            blocks: Vec::new(),
            log: Tree::default(),
            members: vec![founders.clone(), founders],
            sets: Vec::new(),
            states: vec![(map.clone(), empty, empty)],
            map,
            anchors: empty,
            pages: empty,
        }
    }

    /// First line of every checkpoint.
    #[must_use]
    pub fn origin(&self) -> String {
        log_origin(&self.genesis.origin, &self.id)
    }

    /// Those who certify a height.
    #[must_use]
    pub fn list(&self, height: usize) -> Vec<Named> {
        self.members[height].iter().map(|(_, member)| member.clone()).collect()
    }

    /// Appends a block that leaves `map`, `anchors` and `pages`, and answers the places of its transactions.
    pub fn append(&mut self, transactions: &[String]) -> Vec<u64> {
        let everybody: Vec<u8> = self.members.last().unwrap().iter().map(|(seed, _)| *seed).collect();
        self.append_by(transactions, &everybody)
    }

    /// The same, its certificate signed by the members of these seeds: too few of them, if a test wants that.
    pub fn append_by(&mut self, transactions: &[String], signers: &[u8]) -> Vec<u64> {
        let parent = *self.headers.last().unwrap();
        self.log.push(parent.leaf_hash());
        let ids: Vec<Digest> = transactions.iter().map(|tx| tx::txid(tx.as_bytes())).collect();
        let mut places = Vec::new();
        for id in &ids {
            places.push(self.log.size());
            self.log.push(*id);
        }
        let header = Header {
            height: parent.height + 1,
            prev_hash: parent.hash(),
            tx_root: merkle::root(&ids),
            log_root: self.log.root(),
            log_size: self.log.size(),
            state_root: hash::state(&self.map.root(), &self.anchors, &self.pages),
            time_ms: parent.time_ms + 1000,
            target: parent.target,
            miner: miner_id(&self.members[0][0].1.kid()),
            nonce: 0,
        };
        let header = header.mine(&AtomicBool::new(false)).unwrap();
        let signers: Vec<SigningKey> = signers.iter().copied().map(key).collect();
        self.blocks.push(BlockView {
            height: header.height,
            hash: header.hash(),
            header: Bytes::new(header.to_bytes().to_vec()),
            transactions: transactions.to_vec(),
            certificate: certify(&self.origin(), &header, &signers, &self.list(self.headers.len())),
        });
        self.headers.push(header);
        self.states.push((self.map.clone(), self.anchors, self.pages));
        self.members.push(self.members.last().unwrap().clone());
        places
    }

    /// From the next block on the members of these seeds certify; the state says nothing of it.
    pub fn certified_by(&mut self, seeds: &[u8]) {
        let members = seeds.iter().copied().zip(super::members(seeds)).collect();
        *self.members.last_mut().unwrap() = members;
    }

    /// Appends a block after which others certify.
    pub fn change(&mut self, members: Vec<(u8, Named)>) {
        let list: Vec<Named> = members.iter().map(|(_, member)| member.clone()).collect();
        self.map.insert(Kind::Members.key(""), Entry::Members(Arc::new(list.clone())));
        self.append(&[]);
        *self.members.last_mut().unwrap() = members;
        let height = self.headers.len() - 1;
        let certified = self.certification(height);
        self.sets.push(SetChange { certified, members: list, named: self.named(height) });
    }

    /// The members now, with the one of this place replaced by `node-<seed>`.
    #[must_use]
    pub fn with_member(&self, place: usize, seed: u8) -> Vec<(u8, Named)> {
        let mut members = self.members.last().unwrap().clone();
        members[place] = (seed, super::members(&[seed]).remove(0));
        members
    }

    /// The note of a height by the first so many of these.
    #[must_use]
    pub fn note_by(&self, height: usize, members: &[(u8, Named)], signers: usize) -> String {
        let keys: Vec<SigningKey> = members.iter().take(signers).map(|(seed, _)| key(*seed)).collect();
        let list: Vec<Named> = members.iter().map(|(_, member)| member.clone()).collect();
        certify(&self.origin(), &self.headers[height], &keys, &list)
    }

    /// The note of a height by the first so many of its members.
    #[must_use]
    pub fn note(&self, height: usize, signers: usize) -> String {
        self.note_by(height, &self.members[height], signers)
    }

    /// That the state after a height names its members.
    #[must_use]
    pub fn named(&self, height: usize) -> MembersProof {
        let (map, anchors, pages) = &self.states[height];
        let proof = map.prove(&Kind::Members.key(""));
        MembersProof { anchors: *anchors, map: map.root(), pages: *pages, proof }
    }

    /// A height certified by all its members, or all but one at even heights.
    #[must_use]
    pub fn certification(&self, height: usize) -> Certification {
        let absent = usize::from(height.is_multiple_of(2) && self.members[height].len() > 3);
        Certification {
            before: self.headers[height - 1],
            checkpoint: self.note(height, self.members[height].len() - absent),
            header: self.headers[height],
            named: self.named(height - 1),
        }
    }

    /// What a proof about the state after a height begins with.
    #[must_use]
    pub fn evidence(&self, height: usize) -> StateEvidence {
        let (map, anchors, pages) = &self.states[height];
        StateEvidence {
            anchors: *anchors,
            certified: self.certification(height),
            map: map.root(),
            pages: *pages,
        }
    }

    /// What the map says after a height.
    #[must_use]
    pub fn entry(&self, height: usize, kind: Kind, id: &str) -> EntryProof {
        let (map, key) = (&self.states[height].0, kind.key(id));
        let value = map.get(&key).map(|entry| serde_json::from_slice(&entry.to_bytes()).unwrap());
        EntryProof { id: id.to_owned(), kind, proof: map.prove(&key), value }
    }

    /// The changes of members that a proof under this height tells.
    #[must_use]
    pub fn sets_before(&self, height: usize) -> Vec<SetChange> {
        let height = u64::try_from(height).unwrap();
        self.sets.iter().filter(|set| set.height() < height).cloned().collect()
    }

    /// The path of a header in the log of a later block; empty for itself.
    #[must_use]
    pub fn header_path(&self, height: usize, under: usize) -> Vec<Digest> {
        if height == under {
            return Vec::new();
        }
        self.log.inclusion(self.headers[height].log_size, self.headers[under].log_size).unwrap()
    }

    /// The proof of the transaction at `index` of block `height`, under the checkpoint of height `under`.
    #[must_use]
    pub fn prove(
        &self,
        author: u8,
        transaction: &str,
        index: u64,
        height: usize,
        under: usize,
    ) -> TransactionProof {
        let path = self.header_path(height, under);
        TransactionProof {
            author: public(author),
            block: BlockEvidence { header: self.headers[height], parent: self.headers[height - 1], path },
            certified: self.certification(under),
            chain: self.id,
            genesis: Some(self.genesis.clone()),
            index,
            path: self.log.inclusion(index, self.headers[under].log_size).unwrap(),
            sets: self.sets_before(under),
            transaction: transaction.to_owned(),
        }
    }

    /// True if a block has this transaction.
    #[must_use]
    pub fn has(&self, txid: &Digest) -> bool {
        self.find(txid).is_some()
    }

    /// Height of a transaction's block, and its place there.
    fn find(&self, txid: &Digest) -> Option<(usize, usize)> {
        let place =
            |block: &BlockView| block.transactions.iter().position(|jws| tx::txid(jws.as_bytes()) == *txid);
        self.blocks.iter().zip(1..).find_map(|(block, height)| Some((height, place(block)?)))
    }

    /// The proof of a transaction of a founding service, or of a consent key that a block registered, under its own block's
    /// checkpoint; none if no block has it.
    #[must_use]
    pub fn prove_transaction(&self, txid: &Digest) -> Option<TransactionProof> {
        let (height, place) = self.find(txid)?;
        let jws = &self.blocks[height - 1].transactions[place];
        let kid = Tx::parse(jws.as_bytes()).ok()?.kid();
        let founding = self.genesis.services.iter().map(|service| service.key);
        let author = founding.chain(self.registered()).find(|key| key.kid() == kid)?;
        // The parent's header is the first leaf of a block.
        let index = self.headers[height - 1].log_size + 1 + u64::try_from(place).ok()?;
        let mut proof = self.prove(super::AUTH, jws, index, height, height);
        proof.author = author;
        proof.certified.checkpoint.clone_from(&self.blocks[height - 1].certificate);
        proof.genesis = None;
        Some(proof)
    }

    /// The consent keys that blocks registered.
    fn registered(&self) -> impl Iterator<Item = PublicKey> {
        let texts = self.blocks.iter().flat_map(|block| &block.transactions);
        texts.filter_map(|jws| {
            let tx = Tx::parse(jws.as_bytes()).ok()?;
            if let Payload::ConsentKey(key) = tx.payload() { key.public } else { None }
        })
    }

    /// Trust in the founding document.
    #[must_use]
    pub fn trust(&self) -> Trust {
        Trust::Genesis(Box::new(self.genesis.clone()))
    }
}
