//! All SQL of auth. Functions that take an executor work on the read pool and inside a write job alike.
//!
//! Rows that give rights are read and written only through the types here, which MAC and check their MAC: a row that
//! another hand wrote comes back as [`StoreError::Tampered`] and is logged as an alarm where that happens. Each list of
//! columns takes its row apart without `..`: a field that is added does not compile until the MAC covers it.

pub mod accounts;
pub mod apps;
pub mod authorizations;
pub mod clients;
pub mod consent_keys;
pub mod devices;
pub mod factors;
pub mod key_addresses;
pub mod memberships;
pub mod pairings;
pub mod passkeys;
pub mod preferences;
pub mod root_claims;
pub mod root_wraps;
pub mod sessions;
pub mod staff;
pub mod staff_keys;
pub mod throttle;
pub mod wrapped_keys;

use hbc_app::jobs::JobError;
use hbc_db::floors::{Change as _, Floors, SetBackError};
use hbc_db::{Column, DbError, Migration, RowMac, RowMacError, migrations};

use crate::domain::floors::{Change, Changes};

/// The schema, embedded.
pub const MIGRATIONS: &[Migration] = migrations![
    1 "accounts" "../../migrations/0001_accounts.sql",
    2 "keys" "../../migrations/0002_keys.sql",
    3 "jobs" "../../migrations/0003_jobs.sql",
    4 "memberships" "../../migrations/0004_memberships.sql",
    5 "consent keys by time" "../../migrations/0005_consent_keys_by_time.sql",
    6 "account versions" "../../migrations/0006_account_versions.sql",
    7 "session clients" "../../migrations/0007_session_clients.sql",
    8 "reasons" "../../migrations/0008_reasons.sql",
    9 "clients" "../../migrations/0009_clients.sql",
    10 "passkeys" "../../migrations/0010_passkeys.sql",
    11 "preferences" "../../migrations/0011_preferences.sql",
    12 "apps" "../../migrations/0012_apps.sql",
    13 "devices" "../../migrations/0013_devices.sql",
    14 "key addresses" "../../migrations/0014_key_addresses.sql",
    15 "staff keys" "../../migrations/0015_staff_keys.sql",
    16 "custody" "../../migrations/0016_custody.sql",
];

/// What goes wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A row was written or changed by another hand.
    #[error(transparent)]
    Tampered(#[from] RowMacError),
    /// A row is older than the last change of it, or the transaction began before that change: `Store::write` finds out.
    #[error(transparent)]
    SetBack(#[from] SetBackError),
}

impl From<StoreError> for JobError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Db(error) => error.into(),
            StoreError::Tampered(_) | StoreError::SetBack(_) => Self::fault("row_tampered").because(error),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(error.into())
    }
}

/// MACs and checks rows. Clones share the key, and what a transaction changes.
#[derive(Clone, Debug)]
pub struct Rows {
    mac: RowMac,
    floors: Floors,
    /// Of the transaction that they are for; none for reads.
    changes: Option<Changes>,
}

impl Rows {
    /// Uses `mac`; no row counts below `floors`.
    #[must_use]
    pub const fn new(mac: RowMac, floors: Floors) -> Self {
        Self { mac, floors, changes: None }
    }

    /// The same for one transaction, which notes its changes.
    #[must_use]
    pub fn noting(&self, changes: Changes) -> Self {
        Self { changes: Some(changes), ..self.clone() }
    }

    /// Notes a change. It must not happen outside of a transaction whose changes reach the journal.
    fn note(&self, change: Change) -> Result<(), StoreError> {
        let unnoted = || DbError::Configuration("a change of rights that nobody notes".to_owned());
        let changes = self.changes.as_ref().ok_or_else(unnoted)?;
        changes.push(change);
        Ok(())
    }

    /// Whether a row, as `written` by its last change, is no older than the last change that was `known` before the row was
    /// read.
    fn check_age(&self, table: &'static str, written: &Change, known: Option<i64>) -> Result<(), StoreError> {
        if known.is_none() {
            return Ok(());
        }
        match (self.floors.check(table, written), &self.changes) {
            (Ok(()), _) => Ok(()),
            (Err(error), Some(_transaction)) => Err(error.into()),
            (Err(_), None) if written.parts().2 >= known.unwrap_or(i64::MIN) => Ok(()),
            (Err(_), None) => {
                alarm(table);
                Err(RowMacError { table }.into())
            }
        }
    }

    /// A keyed fingerprint of a request's body.
    #[must_use]
    pub fn fingerprint(&self, body: hbc_types::Digest) -> hbc_types::Digest {
        hbc_types::Digest::from_bytes(self.mac.compute("request_body", &[body.as_bytes().as_slice().into()]))
    }

    fn mac_of(&self, table: &'static str, columns: &[Column<'_>]) -> Vec<u8> {
        self.mac.compute(table, columns).to_vec()
    }

    /// Checks a row's MAC; a mismatch is an alarm.
    fn check(&self, table: &'static str, columns: &[Column<'_>], mac: &[u8]) -> Result<(), StoreError> {
        self.mac.check(table, columns, mac).map_err(|error| {
            alarm(table);
            StoreError::Tampered(error)
        })
    }
}

/// The rows that are not of another hand.
fn trusted<T>(read: impl Iterator<Item = Result<T, StoreError>>) -> Result<Vec<T>, StoreError> {
    read.filter(|row| !matches!(row, Err(StoreError::Tampered(_alarmed)))).collect()
}

/// Says that a row is of another hand.
pub fn alarm(table: &'static str) {
    tracing::error!(
        alarm = "row_tampered",
        db.table = table,
        "A row was not written by this service: whoever it would have let in is refused"
    );
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use hbc_types::secret::Key32;
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    use super::*;

    /// Keeps the alarms that are logged.
    #[derive(Clone, Default)]
    struct Alarms(Arc<Mutex<Vec<(Level, String)>>>);

    struct Named<'a>(&'a str, Option<String>);

    impl Visit for Named<'_> {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            if field.name() == self.0 {
                self.1 = Some(format!("{value:?}"));
            }
        }
    }

    impl Subscriber for Alarms {
        fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _span: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _span: &Id, _values: &Record<'_>) {}
        fn record_follows_from(&self, _span: &Id, _follows: &Id) {}
        fn event(&self, event: &Event<'_>) {
            let mut alarm = Named("alarm", None);
            event.record(&mut alarm);
            if let Some(alarm) = alarm.1 {
                self.0.lock().unwrap().push((*event.metadata().level(), alarm));
            }
        }
        fn enter(&self, _span: &Id) {}
        fn exit(&self, _span: &Id) {}
    }

    #[test]
    fn a_row_of_another_hand_is_refused_with_an_alarm_in_the_log() {
        let rows = Rows::new(RowMac::new(Key32::new([1; 32])), Floors::default());
        let row = ["pat-1".into(), "hash".into()];
        let mac = rows.mac_of("accounts", &row);
        let alarms = Alarms::default();
        tracing::subscriber::with_default(alarms.clone(), || {
            assert!(rows.check("accounts", &row, &mac).is_ok());
            assert!(alarms.0.lock().unwrap().is_empty());
            let copied = ["pat-2".into(), "hash".into()];
            let refused = rows.check("accounts", &copied, &mac);
            assert!(matches!(refused, Err(StoreError::Tampered(_))));
        });
        assert_eq!(*alarms.0.lock().unwrap(), [(Level::ERROR, "\"row_tampered\"".to_owned())]);
    }
}
