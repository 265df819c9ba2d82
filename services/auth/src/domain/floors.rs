//! What a change of rights is here: what the journal beside the database keeps of it, below which no row may fall. An older
//! password, a session that ended, a client or a passkey that was removed, a pairing that ended, a recovery code that was used and a
//! staff key that was withdrawn do not come back with an older row.
//!
//! Why: decision 0121.

use hbc_db::floors::{self, Kinds};
use hbc_types::Timestamp;
use hbc_types::ids::{AccountId, AgencyId, AppId, ClientId, PairingId, PasskeyId, SessionId};

/// Kinds of changes.
pub const KINDS: Kinds =
    Kinds { lasting: &[ACCOUNT, APP, CLIENT, CODE, CODES, PAIRING, PASSKEY, STAFF_KEY], passing: SESSION };
/// Of an account.
pub const ACCOUNT: &str = "account";
/// Of a third-party app.
pub const APP: &str = "app";
/// Of an agency's client.
pub const CLIENT: &str = "client";
/// Of a recovery code.
pub const CODE: &str = "code";
/// Of an account's set of recovery codes.
pub const CODES: &str = "codes";
/// Of a passkey.
pub const PASSKEY: &str = "passkey";
/// Of a pairing of a device with a patient.
pub const PAIRING: &str = "pairing";
/// Of a staff key.
pub const STAFF_KEY: &str = "staff-key";
/// Of a session.
pub const SESSION: &str = "session";

/// What a transaction changes.
pub type Changes = floors::Changes<Change>;

/// One change of rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An account's row was written so many times.
    Account(AccountId, i64),
    /// How an app stands changed so many times.
    App(AppId, i64),
    /// The keys of a client, or that it is registered, changed so many times.
    Client(ClientId, i64),
    /// A recovery code was used: its account and the salt of its wrap.
    Code(String, [u8; 16]),
    /// An account's recovery codes were made anew at this time.
    Codes(String, Timestamp),
    /// That a passkey is registered changed so many times.
    Passkey(PasskeyId, i64),
    /// A pairing was made, or ended: so many changes.
    Pairing(PairingId, i64),
    /// This staff key of an agency was made, or changed: so many changes.
    StaffKey(AgencyId, i64, i64),
    /// A session ended, which would have ended by itself at this time.
    Session(SessionId, Timestamp),
}

impl floors::Change for Change {
    fn parts(&self) -> (&'static str, String, i64) {
        match self {
            Self::Account(account, version) => (ACCOUNT, account.to_string(), *version),
            Self::App(app, version) => (APP, app.to_string(), *version),
            Self::Client(client, version) => (CLIENT, client.to_string(), *version),
            Self::Code(account, salt) => (CODE, code(account, salt), 1),
            Self::Codes(account, made) => (CODES, account.clone(), made.ms()),
            Self::Passkey(passkey, version) => (PASSKEY, passkey.to_string(), *version),
            Self::Pairing(pairing, version) => (PAIRING, pairing.to_string(), *version),
            Self::StaffKey(agency, n, version) => (STAFF_KEY, staff_key(agency, *n), *version),
            Self::Session(session, end) => (SESSION, session.to_string(), end.ms()),
        }
    }
}

/// The id of a recovery code.
#[must_use]
pub fn code(account: &str, salt: &[u8; 16]) -> String {
    format!("{account}/{}", hex::encode(salt))
}

/// The id of a staff key: whose, and the how maniest.
#[must_use]
pub fn staff_key(agency: &AgencyId, n: i64) -> String {
    format!("{agency}/{n}")
}

/// Whether a session ended.
#[must_use]
pub fn has_ended(floors: &floors::Floors, session: &SessionId) -> bool {
    floors.get(SESSION, session.as_str()).is_some()
}
