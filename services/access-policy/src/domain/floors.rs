//! What was done once and must never seem undone: the least version of each patient's rights and of each account, and the
//! sessions that ended. Whatever the database says below that was put there by another hand.
//!
//! Pure memory: [`crate::store::journal`] keeps it on disk, outside the database.
//!
//! Why: decision 0113.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hbc_types::Timestamp;
use hbc_types::ids::{AccountId, PatientId, SessionId};

/// One change of rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A patient's rights reached this consent version.
    Rights(PatientId, u64),
    /// An account's row was written at this time (Unix ms); each writing is later than the one before.
    Account(AccountId, i64),
    /// A session ended; its tokens have expired at this time (Unix ms).
    Session(SessionId, i64),
}

impl Change {
    /// As a line of the journal: kind, id, number.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Rights(patient, version) => format!("rights {patient} {version}"),
            Self::Account(account, at) => format!("account {account} {at}"),
            Self::Session(session, until) => format!("session {session} {until}"),
        }
    }

    /// Reads what [`Change::line`] wrote.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (kind, id, number) = (words.next()?, words.next()?, words.next()?);
        let change = match kind {
            "rights" => Self::Rights(PatientId::parse(id).ok()?, number.parse().ok()?),
            "account" => Self::Account(AccountId::parse(id).ok()?, number.parse().ok()?),
            "session" => Self::Session(SessionId::parse(id).ok()?, number.parse().ok()?),
            _ => return None,
        };
        words.next().is_none().then_some(change)
    }
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

#[derive(Debug, Default)]
struct Known {
    rights: HashMap<PatientId, u64>,
    accounts: HashMap<AccountId, i64>,
    sessions: HashMap<SessionId, i64>,
}

/// The floors. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Floors(Arc<RwLock<Known>>);

impl Floors {
    /// Raises what a change raises; nothing is ever lowered.
    pub fn raise(&self, change: &Change) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match change {
            Change::Rights(patient, version) => {
                let floor = known.rights.entry(patient.clone()).or_insert(0);
                *floor = (*floor).max(*version);
            }
            Change::Account(account, at) => {
                let floor = known.accounts.entry(account.clone()).or_insert(i64::MIN);
                *floor = (*floor).max(*at);
            }
            Change::Session(session, until) => {
                let end = known.sessions.entry(session.clone()).or_insert(i64::MIN);
                *end = (*end).max(*until);
            }
        }
    }

    fn read<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The least consent version that this patient's rights can have.
    #[must_use]
    pub fn rights(&self, patient: &PatientId) -> u64 {
        self.read(|known| known.rights.get(patient).copied().unwrap_or(0))
    }

    /// The earliest time at which this account's row can have been written last (Unix ms).
    #[must_use]
    pub fn account(&self, account: &AccountId) -> i64 {
        self.read(|known| known.accounts.get(account).copied().unwrap_or(i64::MIN))
    }

    /// Whether a session ended.
    #[must_use]
    pub fn has_ended(&self, session: &SessionId) -> bool {
        self.read(|known| known.sessions.contains_key(session))
    }

    /// Forgets sessions whose tokens have expired anyway.
    pub fn forget_sessions(&self, now: Timestamp) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.sessions.retain(|_, until| *until > now.ms());
    }

    /// Everything that must be remembered, as few changes as say it.
    #[must_use]
    pub fn all(&self) -> Vec<Change> {
        self.read(|known| {
            let rights = known.rights.iter().map(|(id, version)| Change::Rights(id.clone(), *version));
            let accounts = known.accounts.iter().map(|(id, at)| Change::Account(id.clone(), *at));
            let sessions = known.sessions.iter().map(|(id, until)| Change::Session(id.clone(), *until));
            rights.chain(accounts).chain(sessions).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use hbc_types::Random;
    use hbc_types::ids::AgencyId;
    use proptest::prelude::*;

    use super::*;

    fn change() -> impl Strategy<Value = Change> {
        (0..3_u8, 0..4_u64, 0..50_i64).prop_map(|(kind, seed, number)| {
            let random = Random::seeded(seed);
            match kind {
                0 => Change::Rights(PatientId::random(&random), number.unsigned_abs()),
                1 => Change::Account(AccountId::Agency(AgencyId::random(&random)), number),
                _ => Change::Session(SessionId::random(&random), number),
            }
        })
    }

    proptest! {
        #[test]
        fn floors_only_rise_and_survive_being_written_down(changes in proptest::collection::vec(change(), 0..40)) {
            let floors = Floors::default();
            for change in &changes {
                let before = floors.all();
                floors.raise(change);
                let again = Floors::default();
                for line in floors.all().iter().map(Change::line) {
                    again.raise(&Change::parse(&line).unwrap());
                }
                for old in before.iter().chain([change]) {
                    match old {
                        Change::Rights(id, version) => prop_assert!(again.rights(id) >= *version),
                        Change::Account(id, at) => prop_assert!(again.account(id) >= *at),
                        Change::Session(id, _) => prop_assert!(again.has_ended(id)),
                    }
                }
            }
        }
    }
}
