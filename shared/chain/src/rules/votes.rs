//! What several must sign. Each sends its own transaction with equal fields but `iat`; the change takes effect in the
//! block that reaches the threshold. `nonce` is the number of earlier changes of the subject that took effect, so a
//! vote counts for one change only. A party has one vote per subject, the latest: nobody can be stuck with a vote that
//! nobody joins.
//!
//! Who is a member, an operator, and how many are needed is taken from the state that the block before left: "membership
//! and parameters change from the next height on".

use std::sync::Arc;

use hbc_types::Digest;
use hbc_types::account::ServiceRole;
use hbc_types::keys::{Kid, PublicKey};

use super::{Refusal, Rule};
use crate::entry::{ChangesEntry, Entry, Kind, OrderEntry, SeenEntry, StaffEntry, Vote, order_id};
use crate::genesis::{MAX_MEMBERS, MAX_OPERATORS, Named, Parameters, ServiceEntry, check_named};
use crate::payload::{Change, KeyStatus, MemberVote, NodeEvent, Order, ServiceKeyChange, Staff, StaffStatus};
use crate::state::{Draft, authority_of};
use crate::tx::Tx;

/// More than two thirds.
const fn is_quorum(votes: usize, members: usize) -> bool {
    votes.saturating_mul(3) > members.saturating_mul(2)
}

/// More than one third: at least one of them is honest.
const fn is_honest(votes: usize, members: usize) -> bool {
    votes.saturating_mul(3) > members
}

fn count(list: &[Named], votes: &[Kid]) -> usize {
    list.iter().filter(|named| votes.contains(&named.kid())).count()
}

/// A list with one party set or removed, sorted by name; None when it stays as it is.
fn with_named(list: &[Named], name: &str, key: Option<PublicKey>) -> Option<Vec<Named>> {
    let mut changed: Vec<Named> = list.iter().filter(|named| named.name != name).cloned().collect();
    changed.extend(key.map(|key| Named { key, name: name.to_owned() }));
    changed.sort_by(|one, next| one.name.cmp(&next.name));
    (changed != list).then_some(changed)
}

impl Draft<'_> {
    /// FORMATS §5.3, `member.vote`: "enough is more than 2/3 of the members".
    pub(super) fn member_vote(&mut self, tx: &Tx, payload: &MemberVote) -> Result<(), Refusal> {
        self.signed_by_member(tx)?;
        self.check_nonce(&payload.subject, payload.nonce)?;
        let change = payload.change().map_err(|_form| Refusal::never(Rule::BadChange))?;
        let (kind, entry) = self.changed(&change)?;
        if self.vote(tx, &payload.subject, Self::is_quorum_of_members)? {
            self.put_text(kind, "", entry);
            self.count_change(tx, &payload.subject);
        }
        Ok(())
    }

    /// What a change would leave, checked against all that this block changed before.
    fn changed(&self, change: &Change) -> Result<(Kind, Entry), Refusal> {
        let bad = Refusal::never(Rule::BadChange);
        let (members, operators, parameters) = self.next_authority();
        match change {
            Change::Member { name, key } => {
                let list = with_named(&members, name, *key).ok_or(Refusal::never(Rule::NoChange))?;
                self.check_free(*key, &operators)?;
                let holds = (1..=MAX_MEMBERS).contains(&list.len()) && check_named(&list).is_ok();
                if holds { Ok((Kind::Members, Entry::Members(Arc::new(list)))) } else { Err(bad) }
            }
            Change::Operator { name, key } => {
                let list = with_named(&operators, name, *key).ok_or(Refusal::never(Rule::NoChange))?;
                self.check_free(*key, &members)?;
                let holds = list.len() <= MAX_OPERATORS
                    && enough_operators(&list, &parameters)
                    && check_named(&list).is_ok();
                if holds { Ok((Kind::Operators, Entry::Operators(Arc::new(list)))) } else { Err(bad) }
            }
            Change::Parameter { name, value } => {
                let changed = parameters.with(name, *value).map_err(|_outside| bad)?;
                if changed == *parameters {
                    return Err(Refusal::never(Rule::NoChange));
                }
                let holds = enough_operators(&operators, &changed);
                if holds { Ok((Kind::Parameters, Entry::Parameters(Arc::new(changed)))) } else { Err(bad) }
            }
        }
    }

    /// "One key serves one party": not a service's, not one of the other list.
    fn check_free(&self, key: Option<PublicKey>, others: &[Named]) -> Result<(), Refusal> {
        let taken = key.is_some_and(|key| {
            self.service(&key.kid()).is_some() || others.iter().any(|named| named.key == key)
        });
        if taken { Err(Refusal::never(Rule::KeyTaken)) } else { Ok(()) }
    }

    /// The lists and parameters that the next height will have, as far as this block has come.
    fn next_authority(&self) -> (Arc<Vec<Named>>, Arc<Vec<Named>>, Arc<Parameters>) {
        authority_of(&self.work.map, self.state.authority())
    }

    /// FORMATS §5.3, `service.key`: "enough is more than 2/3 of the members". A revoked key never serves again, and a key never changes its role.
    pub(super) fn service_key(&mut self, tx: &Tx, payload: &ServiceKeyChange) -> Result<(), Refusal> {
        self.signed_by_member(tx)?;
        let subject = format!("service:{}", payload.key);
        self.check_nonce(&subject, payload.nonce)?;
        match self.service(&payload.key) {
            None if payload.status == KeyStatus::Revoked => return Err(Refusal::never(Rule::NoChange)),
            None => {
                let (members, operators, _) = self.next_authority();
                let curve = Named { key: payload.public, name: "service".to_owned() };
                check_named(&[curve]).map_err(|_weak| Refusal::never(Rule::BadChange))?;
                self.check_free(Some(payload.public), &members)?;
                self.check_free(Some(payload.public), &operators)?;
            }
            Some(known) if known.status == KeyStatus::Revoked => {
                return Err(Refusal::Never { rule: Rule::Ended, excluded_by: known.txid });
            }
            Some(known) if known.role != payload.role => return Err(Refusal::never(Rule::BadChange)),
            Some(known) if known.status == payload.status => return Err(Refusal::never(Rule::NoChange)),
            Some(_) => {}
        }
        if self.vote(tx, &subject, Self::is_quorum_of_members)? {
            let entry = ServiceEntry {
                public: payload.public,
                role: payload.role,
                status: payload.status,
                txid: Some(tx.txid()),
            };
            self.put(Kind::Service, &payload.key, Entry::Service(Box::new(entry)));
            self.count_change(tx, &subject);
        }
        Ok(())
    }

    /// FORMATS §5.3, `identity.staff`: "for `active` enough is an auth key and at least `approvals` operators, for
    /// `suspended` and `revoked` one operator". An end is like a suspension, but for ever.
    pub(super) fn identity_staff(&mut self, tx: &Tx, payload: &Staff) -> Result<(), Refusal> {
        let by_auth = self.is_service(&tx.kid(), ServiceRole::Auth);
        if !by_auth && count(self.state.operators(), &[tx.kid()]) == 0 {
            return Err(self.not_by(tx));
        }
        let subject = format!("staff:{}", payload.key);
        self.check_nonce(&subject, payload.nonce)?;
        match (payload.status, self.staff(&payload.key)) {
            (StaffStatus::Active, None) => {}
            (StaffStatus::Suspended | StaffStatus::Revoked, None) => {
                return Err(Refusal::never(Rule::NoChange));
            }
            (_, Some(known)) => match known.status {
                StaffStatus::Active | StaffStatus::Suspended => {}
                StaffStatus::Revoked => return Err(Refusal::excluded(Rule::Ended, known.txid)),
            },
        }
        let takes_effect = match payload.status {
            StaffStatus::Active => Self::is_approval,
            StaffStatus::Suspended | StaffStatus::Revoked => Self::is_suspension,
        };
        if self.vote(tx, &subject, takes_effect)? {
            let entry = StaffEntry {
                commitment: payload.commitment,
                organisation: payload.organisation.clone(),
                public: payload.public,
                role: payload.role.clone(),
                status: payload.status,
                txid: tx.txid(),
            };
            self.put(Kind::Staff, &payload.key, Entry::Staff(Box::new(entry)));
            self.count_change(tx, &subject);
        }
        Ok(())
    }

    /// FORMATS §5.3, `operator.order`: "enough are `approvals` operators".
    pub(super) fn operator_order(&mut self, tx: &Tx, payload: &Order) -> Result<(), Refusal> {
        if count(self.state.operators(), &[tx.kid()]) == 0 {
            return Err(self.not_by(tx));
        }
        let subject = payload.about();
        self.check_nonce(&subject, payload.nonce)?;
        if self.vote(tx, &subject, Self::is_order)? {
            let entry = OrderEntry { commitment: payload.commitment, txid: tx.txid() };
            let id = order_id(payload.kind, &payload.subject);
            self.put_text(Kind::Order, &id, Entry::Order(Box::new(entry)));
            self.count_change(tx, &subject);
        }
        Ok(())
    }

    /// FORMATS §5.3, `node.event`: "Enough is the key of the member `node` itself", else more than 1/3. A node's own
    /// word needs no supporters. Of what others say about a node each has one vote, the latest: what nobody joins does
    /// not pile up in the state.
    pub(super) fn node_event(&mut self, tx: &Tx, payload: &NodeEvent) -> Result<(), Refusal> {
        self.signed_by_member(tx)?;
        let node = self.state.members().iter().find(|member| member.name == payload.node);
        let own = node.ok_or(Refusal::never(Rule::NodeUnknown))?.kid() == tx.kid();
        let ballot = tx.payload().ballot();
        if let Some(Entry::Seen(known)) = self.get(Kind::Event, &ballot) {
            return Err(Refusal::excluded(Rule::Seen, known.txid));
        }
        let place = Kind::Ballots.key(&format!("event:{}", payload.node));
        let mut votes = if own { self.pending(&place) } else { self.with_vote(tx, &place)? };
        let members = self.state.members();
        if own || is_honest(count(members, &supporters(&votes, &ballot)), members.len()) {
            votes.retain(|vote| vote.ballot != ballot);
            self.put(Kind::Event, &ballot, Entry::Seen(SeenEntry { txid: tx.txid() }));
        }
        self.keep_pending(place, votes);
        Ok(())
    }

    fn signed_by_member(&self, tx: &Tx) -> Result<(), Refusal> {
        let is_member = count(self.state.members(), &[tx.kid()]) == 1;
        if is_member { Ok(()) } else { Err(self.not_by(tx)) }
    }

    fn is_quorum_of_members(&self, votes: &[Kid]) -> bool {
        let members = self.state.members();
        is_quorum(count(members, votes), members.len())
    }

    fn is_approval(&self, votes: &[Kid]) -> bool {
        self.is_order(votes) && votes.iter().any(|kid| self.is_service(kid, ServiceRole::Auth))
    }

    fn is_order(&self, votes: &[Kid]) -> bool {
        let operators = u64::try_from(count(self.state.operators(), votes)).unwrap_or(0);
        operators >= self.state.parameters().approvals
    }

    fn is_suspension(&self, votes: &[Kid]) -> bool {
        count(self.state.operators(), votes) >= 1
    }

    /// FORMATS §5.3: "Refused if `nonce` is not the `count` of (`changes`, subject)".
    fn check_nonce(&self, subject: &str, nonce: u64) -> Result<(), Refusal> {
        let done = self.changes(subject).map_or(0, |entry| entry.count);
        match nonce.cmp(&done) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(Refusal::NotYet(Rule::NonceAhead)),
            std::cmp::Ordering::Less => {
                let excluded_by = self.changes(subject).map(|entry| entry.txid);
                Err(Refusal::Never { rule: Rule::NonceTaken, excluded_by })
            }
        }
    }

    fn count_change(&mut self, tx: &Tx, subject: &str) {
        let count = self.changes(subject).map_or(0, |entry| entry.count).saturating_add(1);
        let entry = ChangesEntry { count, txid: tx.txid() };
        self.put_text(Kind::Changes, subject, Entry::Changes(Box::new(entry)));
    }

    /// Counts a vote. True when `takes_effect` holds for those who gave the same one: then all votes on the subject are
    /// gone.
    fn vote(
        &mut self,
        tx: &Tx,
        subject: &str,
        takes_effect: impl FnOnce(&Self, &[Kid]) -> bool,
    ) -> Result<bool, Refusal> {
        let place = Kind::Ballots.key(subject);
        let votes = self.with_vote(tx, &place)?;
        let took_effect = takes_effect(self, &supporters(&votes, &tx.payload().ballot()));
        self.keep_pending(place, if took_effect { Vec::new() } else { votes });
        Ok(took_effect)
    }

    fn pending(&self, place: &Digest) -> Vec<Vote> {
        match self.work.map.get(place) {
            Some(Entry::Ballots(votes)) => votes.to_vec(),
            _ => Vec::new(),
        }
    }

    /// The votes at a place with this one, in the place of the party's earlier one.
    fn with_vote(&self, tx: &Tx, place: &Digest) -> Result<Vec<Vote>, Refusal> {
        let (key, ballot) = (tx.kid(), tx.payload().ballot());
        let mut votes = self.pending(place);
        if let Some(same) = votes.iter().find(|vote| vote.key == key && vote.ballot == ballot) {
            return Err(Refusal::excluded(Rule::AlreadyVoted, same.txid));
        }
        votes.retain(|vote| vote.key != key);
        votes.push(Vote { ballot, key, txid: tx.txid() });
        votes.sort_by_key(|vote| vote.key);
        Ok(votes)
    }

    fn keep_pending(&mut self, place: Digest, votes: Vec<Vote>) {
        if votes.is_empty() {
            self.work.map.remove(&place);
        } else {
            self.work.map.insert(place, Entry::Ballots(votes.into()));
        }
    }
}

/// Who gave this vote.
fn supporters(votes: &[Vote], ballot: &Digest) -> Vec<Kid> {
    votes.iter().filter(|vote| vote.ballot == *ballot).map(|vote| vote.key).collect()
}

fn enough_operators(operators: &[Named], parameters: &Parameters) -> bool {
    u64::try_from(operators.len()).is_ok_and(|count| count >= parameters.approvals)
}
