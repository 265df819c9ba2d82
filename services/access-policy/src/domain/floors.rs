//! What was done once and must never seem undone: the least version of each patient's rights and of each account, and the
//! sessions that ended. Whatever the database says below that was put there by another hand.
//!
//! Pure memory: [`crate::store::journal`] keeps it on disk, outside the database. Nobody is named here or there: ids stand
//! as keyed hashes.
//!
//! Why: decision 0113.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hbc_db::{Column, RowMac};
use hbc_types::codes::codes;
use hbc_types::ids::{AccountId, PatientId, SessionId};
use hbc_types::secret::Key32;
use hbc_types::{Digest, Timestamp};

/// One change of rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A patient's rights reached this consent version.
    Rights(PatientId, u64),
    /// An account's row was written at this time (Unix ms); each writing is later than the one before.
    Account(AccountId, i64),
    /// A staff profile had so many changes take effect.
    Staff(Digest, u64),
    /// The affiliation of these two staff keys, an organisation's and a person's, had so many changes.
    Affiliation(Digest, Digest, u64),
    /// A session ended; its tokens have expired at this time (Unix ms).
    Session(SessionId, i64),
}

codes! {
    /// What a floor is of.
    Kind {
        /// A patient's rights.
        Rights = "rights",
        /// An account.
        Account = "account",
        /// A staff profile.
        Staff = "staff",
        /// An affiliation.
        Affiliation = "affiliation",
        /// An ended session.
        Session = "session",
    }
}

/// Bytes of a keyed hash of an id.
const NAME: usize = 16;

/// A floor: of what, and how high.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    kind: Kind,
    name: [u8; NAME],
    number: i64,
}

impl Floor {
    /// As a line of the journal: kind, keyed hash of the id, number.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} {} {}", self.kind.code(), hex::encode(self.name), self.number)
    }

    /// Reads what [`Floor::line`] wrote.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (kind, name, number) = (words.next()?, words.next()?, words.next()?);
        let name = hex::decode(name).ok()?.try_into().ok()?;
        let floor = Self { kind: Kind::parse(kind)?, name, number: number.parse().ok()? };
        words.next().is_none().then_some(floor)
    }
}

/// A row is older than the last change of it that was committed: another hand set it back, unless the transaction that
/// read it began before that change. Reading it in a new transaction tells: a floor rises after its change is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a row of `{table}` is older than the last change of it")]
pub struct SetBackError {
    /// Which table.
    pub table: &'static str,
    /// Below which floor it is.
    pub floor: Floor,
}

/// Gathers what a transaction changes. A transaction that is tried again begins with an empty one.
#[derive(Clone, Debug, Default)]
pub struct Changes(Arc<Mutex<Vec<Change>>>);

impl Changes {
    /// One more.
    pub fn push(&self, change: Change) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(change);
    }

    /// All so far.
    #[must_use]
    pub fn take(&self) -> Vec<Change> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

type Known = HashMap<(Kind, [u8; NAME]), i64>;

/// The floors. Clones share them.
#[derive(Clone)]
pub struct Floors(Arc<Shared>);

struct Shared {
    macs: RowMac,
    known: RwLock<Known>,
}

impl std::fmt::Debug for Floors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Floors(…)")
    }
}

impl Default for Floors {
    /// None, under a key that nobody needs.
    fn default() -> Self {
        Self::new(RowMac::new(Key32::new([0; 32])))
    }
}

impl Floors {
    /// None yet; ids are hashed under this key.
    #[must_use]
    pub fn new(macs: RowMac) -> Self {
        Self(Arc::new(Shared { macs, known: RwLock::default() }))
    }

    /// The floor that a change puts in.
    #[must_use]
    pub fn of(&self, change: &Change) -> Floor {
        let signed = |number: &u64| i64::try_from(*number).unwrap_or(i64::MAX);
        let (kind, id, number) = match change {
            Change::Rights(patient, version) => (Kind::Rights, patient.to_string(), signed(version)),
            Change::Account(account, at) => (Kind::Account, account.to_string(), *at),
            Change::Staff(key, round) => (Kind::Staff, key.to_string(), signed(round)),
            Change::Affiliation(organisation, key, count) => {
                (Kind::Affiliation, format!("{organisation}/{key}"), signed(count))
            }
            Change::Session(session, until) => (Kind::Session, session.to_string(), *until),
        };
        Floor { kind, name: self.name(kind, &id), number }
    }

    fn name(&self, kind: Kind, id: &str) -> [u8; NAME] {
        let mac = self.0.macs.compute("floor", &[Column::Text(kind.code()), Column::Text(id)]);
        let mut name = [0; NAME];
        for (to, from) in name.iter_mut().zip(mac) {
            *to = from;
        }
        name
    }

    /// Puts a floor in, unless there is a higher one.
    pub fn raise(&self, floor: Floor) {
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        let number = known.entry((floor.kind, floor.name)).or_insert(i64::MIN);
        *number = (*number).max(floor.number);
    }

    /// Whether a row of `table`, as `written` by its last change, is no older than the last change that is known.
    pub fn check(&self, table: &'static str, written: &Change) -> Result<(), SetBackError> {
        let found = self.of(written);
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        match known.get(&(found.kind, found.name)) {
            Some(number) if found.number < *number => {
                Err(SetBackError { table, floor: Floor { number: *number, ..found } })
            }
            _ => Ok(()),
        }
    }

    fn get(&self, kind: Kind, id: &str) -> Option<i64> {
        let name = self.name(kind, id);
        self.0.known.read().unwrap_or_else(PoisonError::into_inner).get(&(kind, name)).copied()
    }

    /// The least consent version that this patient's rights can have.
    #[must_use]
    pub fn rights(&self, patient: &PatientId) -> u64 {
        self.get(Kind::Rights, patient.as_str()).and_then(|version| u64::try_from(version).ok()).unwrap_or(0)
    }

    /// The earliest time at which this account's row can have been written last (Unix ms).
    #[must_use]
    pub fn account(&self, account: &AccountId) -> i64 {
        self.get(Kind::Account, account.as_str()).unwrap_or(i64::MIN)
    }

    /// Whether a session ended.
    #[must_use]
    pub fn has_ended(&self, session: &SessionId) -> bool {
        self.get(Kind::Session, session.as_str()).is_some()
    }

    /// Forgets sessions whose tokens have expired anyway.
    pub fn forget_sessions(&self, now: Timestamp) {
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(kind, _), until| *kind != Kind::Session || *until > now.ms());
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.known.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Floor> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .map(|((kind, name), number)| Floor { kind: *kind, name: *name, number: *number })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use hbc_types::Random;
    use hbc_types::ids::AgencyId;
    use proptest::prelude::*;

    use super::*;

    fn change() -> impl Strategy<Value = Change> {
        (0..5_u8, 0..4_u64, 0..50_i64).prop_map(|(kind, seed, number)| {
            let random = Random::seeded(seed);
            match kind {
                0 => Change::Rights(PatientId::random(&random), number.unsigned_abs()),
                1 => Change::Account(AccountId::Agency(AgencyId::random(&random)), number),
                2 => Change::Staff(Digest::of(&seed.to_be_bytes()), number.unsigned_abs()),
                3 => {
                    Change::Affiliation(Digest::of(&seed.to_be_bytes()), Digest::ZERO, number.unsigned_abs())
                }
                _ => Change::Session(SessionId::random(&random), number),
            }
        })
    }

    proptest! {
        #[test]
        fn floors_only_rise_and_survive_being_written_down(changes in proptest::collection::vec(change(), 0..40)) {
            let (floors, mut past) = (Floors::default(), Vec::new());
            for change in &changes {
                past.push(change.clone());
                floors.raise(floors.of(change));
                let again = Floors::default();
                for line in floors.all().iter().map(Floor::line) {
                    again.raise(Floor::parse(&line).unwrap());
                }
                for old in &past {
                    match old {
                        Change::Rights(id, version) => prop_assert!(again.rights(id) >= *version),
                        Change::Account(id, at) => prop_assert!(again.account(id) >= *at),
                        Change::Session(id, _) => prop_assert!(again.has_ended(id)),
                        Change::Staff(..) | Change::Affiliation(..) => {}
                    }
                    // A row is as old as the change that wrote it; the last change of a thing is the youngest.
                    let later = past.iter().map(|change| again.of(change));
                    let same = later.filter(|floor| floor.kind == again.of(old).kind && floor.name == again.of(old).name);
                    let highest = same.max_by_key(|floor| floor.number).unwrap();
                    let expected = if highest == again.of(old) {
                        Ok(())
                    } else {
                        Err(SetBackError { table: "rows", floor: highest })
                    };
                    prop_assert_eq!(again.check("rows", old), expected);
                }
            }
        }
    }
}
