//! What a change of rights is here: what the journal beside the database keeps of it, below which no row may fall.
//!
//! Why: decision 0113.

use hbc_db::floors::{self, Kinds};
use hbc_types::Digest;
use hbc_types::ids::{AccountId, PatientId, SessionId};

/// Kinds of changes.
pub const KINDS: Kinds =
    Kinds { lasting: &[RIGHTS, ROOT, ACCOUNT, CLOSED, "staff", "affiliation"], passing: SESSION };
/// Of a patient's rights.
const RIGHTS: &str = "rights";
/// Of a patient's root key.
const ROOT: &str = "root";
/// Of an account.
const ACCOUNT: &str = "account";
/// Of an account that was closed.
const CLOSED: &str = "closed";
/// Of an ended session.
const SESSION: &str = "session";

/// What a transaction changes.
pub type Changes = floors::Changes<Change>;

/// One change of rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A patient's rights reached this consent version.
    Rights(PatientId, u64),
    /// A patient's keys took the place of others by a certificate of this time (Unix ms); each is later than the one before.
    Root(PatientId, i64),
    /// An account's row was written at this time (Unix ms); each writing is later than the one before.
    Account(AccountId, i64),
    /// An account was closed: nothing that its row says counts any more.
    Closed(AccountId),
    /// A staff profile had so many changes take effect.
    Staff(Digest, u64),
    /// The affiliation of these two staff keys, an organisation's and a person's, had so many changes.
    Affiliation(Digest, Digest, u64),
    /// A session ended; its tokens have expired at this time (Unix ms).
    Session(SessionId, i64),
}

impl floors::Change for Change {
    fn parts(&self) -> (&'static str, String, i64) {
        let signed = |number: &u64| i64::try_from(*number).unwrap_or(i64::MAX);
        match self {
            Self::Rights(patient, version) => (RIGHTS, patient.to_string(), signed(version)),
            Self::Root(patient, at) => (ROOT, patient.to_string(), *at),
            Self::Account(account, at) => (ACCOUNT, account.to_string(), *at),
            Self::Closed(account) => (CLOSED, account.to_string(), 1),
            Self::Staff(key, round) => ("staff", key.to_string(), signed(round)),
            Self::Affiliation(organisation, key, count) => {
                ("affiliation", format!("{organisation}/{key}"), signed(count))
            }
            Self::Session(session, until) => (SESSION, session.to_string(), *until),
        }
    }
}

/// The least consent version that this patient's rights can have.
#[must_use]
pub fn rights(floors: &floors::Floors, patient: &PatientId) -> u64 {
    floors.get(RIGHTS, patient.as_str()).and_then(|version| u64::try_from(version).ok()).unwrap_or(0)
}

/// When the certificate of this patient's present keys was signed at the earliest (Unix ms); 0 for the first ones.
#[must_use]
pub fn root(floors: &floors::Floors, patient: &PatientId) -> i64 {
    floors.get(ROOT, patient.as_str()).unwrap_or(0)
}

/// The earliest time at which this account's row can have been written last (Unix ms).
#[must_use]
pub fn account(floors: &floors::Floors, account: &AccountId) -> i64 {
    floors.get(ACCOUNT, account.as_str()).unwrap_or(i64::MIN)
}

/// Whether an account was closed.
#[must_use]
pub fn is_closed(floors: &floors::Floors, account: &str) -> bool {
    floors.get(CLOSED, account).is_some()
}

/// Whether a session ended.
#[must_use]
pub fn has_ended(floors: &floors::Floors, session: &SessionId) -> bool {
    floors.get(SESSION, session.as_str()).is_some()
}
