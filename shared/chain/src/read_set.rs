//! Which blocks a transaction relies on: those of the records that decide whether it is allowed. The state's entries
//! name the transactions that made them; where those stand is looked up here, and what lies there is read again before
//! anything is promised or voted upon. No I/O.

use std::collections::{BTreeSet, HashMap, HashSet};

use hbc_types::Digest;
use hbc_types::keys::Kid;

use crate::genesis::Named;
use crate::payload::Payload;
use crate::state::State;
use crate::tx::Tx;

/// Heights of the blocks that these transactions rely on. What the genesis says lies in no block.
#[must_use]
pub fn heights<'a>(state: &State, txs: impl Iterator<Item = &'a Tx>) -> BTreeSet<u64> {
    let named = |role: &'static str, list: &[Named]| -> Vec<(Kid, String)> {
        list.iter().map(|named| (named.kid(), format!("{role}:{}", named.name))).collect()
    };
    let parties = [named("member", state.members()), named("operator", state.operators())];
    let parties = parties.into_iter().flatten().collect();
    let mut read_set = ReadSet { state, parties, signers: HashSet::new(), heights: BTreeSet::new() };
    for tx in txs {
        read_set.signer(&tx.kid());
        read_set.subject(tx.payload());
    }
    read_set.heights
}

struct ReadSet<'a> {
    state: &'a State,
    /// The subjects by which members and operators were voted for, by their keys.
    parties: HashMap<Kid, String>,
    /// Those that were looked at.
    signers: HashSet<Kid>,
    heights: BTreeSet<u64>,
}

impl ReadSet<'_> {
    fn on(&mut self, txid: Option<Digest>) {
        let place = txid.and_then(|txid| self.state.place(&txid));
        self.heights.extend(place.map(|place| place.height));
    }

    /// What gave the signer its right: a registration, a vote.
    fn signer(&mut self, kid: &Kid) {
        if !self.signers.insert(*kid) {
            return;
        }
        self.on(self.state.service(kid).and_then(|entry| entry.txid));
        self.key(kid);
        if let Some(subject) = self.parties.get(kid) {
            self.on(self.state.changed_by(subject));
        }
    }

    /// A consent key's registration and its last event.
    fn key(&mut self, kid: &Kid) {
        let entry = self.state.key(kid).map(|entry| (entry.txid, entry.prev));
        if let Some((registration, last)) = entry {
            self.on(Some(registration));
            self.on(last);
        }
    }

    /// The entry that the transaction goes on from.
    fn subject(&mut self, payload: &Payload) {
        match payload {
            Payload::Grant(consent) | Payload::Alter(consent) => {
                self.key(&consent.key);
                self.on(self.state.grant(&consent.key, &consent.grant).map(|entry| entry.txid));
            }
            Payload::Revoke(revoke) => {
                self.key(&revoke.key);
                self.on(self.state.grant(&revoke.key, &revoke.grant).map(|entry| entry.txid));
            }
            Payload::ConsentKey(key) => self.key(&key.key),
            Payload::Staff(staff) => {
                self.on(self.state.staff(&staff.key).map(|entry| entry.txid));
                self.on(self.state.changed_by(&format!("staff:{}", staff.key)));
            }
            Payload::Affiliation(member) => {
                for key in [&member.organisation, &member.key] {
                    self.on(self.state.staff(key).map(|entry| entry.txid));
                }
                self.on(self.state.affiliation(&member.organisation, &member.key).map(|entry| entry.txid));
            }
            Payload::Order(order) => self.on(self.state.changed_by(&order.about())),
            Payload::ServiceKey(change) => {
                self.on(self.state.service(&change.key).and_then(|entry| entry.txid));
                self.on(self.state.changed_by(&format!("service:{}", change.key)));
            }
            Payload::MemberVote(vote) => self.on(self.state.changed_by(&vote.subject)),
            // Facts of one service: its key is all that they rely on. That a root was not seen before is known from
            // memory alone, since what is not there lies nowhere.
            Payload::Anchor(_)
            | Payload::Erase(_)
            | Payload::Receipts(_)
            | Payload::Release(_)
            | Payload::NodeEvent(_) => {}
        }
    }
}
