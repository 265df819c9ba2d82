//! A chain with everything that a node holds of it, made by hand.

use std::sync::Arc;

use super::*;

pub(super) struct Chain {
    pub genesis: Genesis,
    pub id: Digest,
    pub headers: Vec<Header>,
    pub log: Tree,
    /// Seeds and names of those who certify each height, and of those who will certify the next.
    pub members: Vec<Vec<(u8, Named)>>,
    pub sets: Vec<SetChange>,
    /// The state that the next block leaves.
    pub map: Map<Entry>,
    pub anchors: Digest,
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
    pub fn new(members: u8) -> Self {
        let genesis = sample(members);
        let (header, map, empty) = (genesis.header().unwrap(), first_map(&genesis), merkle::empty_root());
        let founders: Vec<_> = (1..).zip(genesis.members.iter().cloned()).collect();
        Self {
            id: header.hash(),
            genesis,
            headers: vec![header],
            log: Tree::default(),
            members: vec![founders.clone(), founders],
            sets: Vec::new(),
            states: vec![(map.clone(), empty, empty)],
            map,
            anchors: empty,
            pages: empty,
        }
    }

    pub fn origin(&self) -> String {
        log_origin(&self.genesis.origin, &self.id)
    }

    /// Those who certify a height.
    pub fn list(&self, height: usize) -> Vec<Named> {
        self.members[height].iter().map(|(_, member)| member.clone()).collect()
    }

    /// Appends a block that leaves `map`, `anchors` and `pages`, and answers the places of its transactions.
    pub fn append(&mut self, transactions: &[String]) -> Vec<u64> {
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
        self.headers.push(header.mine(&AtomicBool::new(false)).unwrap());
        self.states.push((self.map.clone(), self.anchors, self.pages));
        self.members.push(self.members.last().unwrap().clone());
        places
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
    pub fn with_member(&self, place: usize, seed: u8) -> Vec<(u8, Named)> {
        let mut members = self.members.last().unwrap().clone();
        let named = Named { key: PublicKey::of(&key(seed)), name: format!("node-{seed}") };
        members[place] = (seed, named);
        members
    }

    /// The note of a height by the first so many of these.
    pub fn note_by(&self, height: usize, members: &[(u8, Named)], signers: usize) -> String {
        let header = self.headers[height];
        let checkpoint = Checkpoint {
            origin: self.origin(),
            log_size: header.log_size,
            log_root: header.log_root,
            height: header.height,
            round: 0,
            block: header.hash(),
        };
        let votes: Vec<_> =
            members.iter().take(signers).map(|(n, m)| (m.kid(), checkpoint.sign(&key(*n)))).collect();
        let list: Vec<Named> = members.iter().map(|(_, member)| member.clone()).collect();
        Certificate::assemble(checkpoint, &votes, &list).to_note()
    }

    /// The note of a height by the first so many of its members.
    pub fn note(&self, height: usize, signers: usize) -> String {
        self.note_by(height, &self.members[height], signers)
    }

    /// That the state after a height names its members.
    pub fn named(&self, height: usize) -> MembersProof {
        let (map, anchors, pages) = &self.states[height];
        let proof = map.prove(&Kind::Members.key(""));
        MembersProof { anchors: *anchors, map: map.root(), pages: *pages, proof }
    }

    /// A height certified by all its members, or all but one at even heights.
    pub fn certification(&self, height: usize) -> Certification {
        let absent = usize::from(height.is_multiple_of(2) && self.members[height].len() > 3);
        Certification {
            before: self.headers[height - 1],
            checkpoint: self.note(height, self.members[height].len() - absent),
            header: self.headers[height],
            named: self.named(height - 1),
        }
    }

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
    pub fn entry(&self, height: usize, kind: Kind, id: &str) -> EntryProof {
        let (map, key) = (&self.states[height].0, kind.key(id));
        let value = map.get(&key).map(|entry| serde_json::from_slice(&entry.to_bytes()).unwrap());
        EntryProof { id: id.to_owned(), kind, proof: map.prove(&key), value }
    }

    pub fn sets_before(&self, height: usize) -> Vec<SetChange> {
        let height = u64::try_from(height).unwrap();
        self.sets.iter().filter(|set| set.height() < height).cloned().collect()
    }

    /// The path of a header in the log of a later block; empty for itself.
    pub fn header_path(&self, height: usize, under: usize) -> Vec<Digest> {
        if height == under {
            return Vec::new();
        }
        self.log.inclusion(self.headers[height].log_size, self.headers[under].log_size).unwrap()
    }

    /// The proof of the transaction at `index` of block `height`, under the checkpoint of height `under`.
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
            author: PublicKey::of(&key(author)),
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

    pub fn trust(&self) -> Trust {
        Trust::Genesis(Box::new(self.genesis.clone()))
    }
}

pub(super) fn receipts_tx(chain: &Chain, root: Digest, count: u64) -> String {
    let iat = 1_790_000_000_500;
    tx::sign(&key(202), &Payload::Receipts(Receipts { chain: chain.id, count, iat, root })).unwrap()
}
