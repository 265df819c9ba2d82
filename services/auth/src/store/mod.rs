//! All SQL of auth. Functions that take an executor work on the read pool and inside a write job alike.
//!
//! Rows that give rights are read and written only through the types here, which MAC and check their MAC: a row that
//! another hand wrote comes back as [`StoreError::Tampered`] and is logged as an alarm where that happens. Each list of
//! columns takes its row apart without `..`: a field that is added does not compile until the MAC covers it.

pub mod accounts;
pub mod consent_keys;
pub mod factors;
pub mod memberships;
pub mod sessions;
pub mod staff;
pub mod throttle;
pub mod wrapped_keys;

use hbc_app::jobs::JobError;
use hbc_db::{Column, Db, DbError, Migration, RowMac, RowMacError, migrations};

/// The schema, embedded.
pub const MIGRATIONS: &[Migration] = migrations![
    1 "accounts" "../../migrations/0001_accounts.sql",
    2 "keys" "../../migrations/0002_keys.sql",
    3 "jobs" "../../migrations/0003_jobs.sql",
    4 "memberships" "../../migrations/0004_memberships.sql",
    5 "consent keys by time" "../../migrations/0005_consent_keys_by_time.sql",
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
}

impl From<StoreError> for JobError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Db(error) => error.into(),
            StoreError::Tampered(_) => Self::fault("row_tampered").because(error),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(error.into())
    }
}

/// MACs and checks rows. Clones share the key.
#[derive(Clone, Debug)]
pub struct Rows {
    mac: RowMac,
}

impl Rows {
    /// Uses `mac`.
    #[must_use]
    pub const fn new(mac: RowMac) -> Self {
        Self { mac }
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

fn alarm(table: &'static str) {
    tracing::error!(
        alarm = "row_tampered",
        db.table = table,
        "A row was not written by this service: whoever it would have let in is refused"
    );
}

/// The database and the key that MACs its rows.
#[derive(Clone, Debug)]
pub struct Store {
    /// The database.
    pub db: Db,
    /// Access to its rows.
    pub rows: Rows,
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
        let rows = Rows::new(RowMac::new(Key32::new([1; 32])));
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
