//! For tests of a whole service: every loop is made to panic, and must be logged and come back.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::Tasks;

/// How often, and how long after each other, a loop is looked for.
const LOOKS: u32 = 1_000;
const PAUSE: Duration = Duration::from_millis(10);
/// Loops of every service on the skeleton.
const COMMON: [&str; 8] = [
    "database health",
    "gauges",
    "jobs",
    "ledger follower",
    "ledger health",
    "ledger outbox",
    "service health",
    "token keys",
];

/// Makes each loop panic once and waits until it runs again; gives the names of those that did, and that were logged.
/// The loops must run on the calling thread: `#[tokio::test]` without further threads.
pub async fn trip_all(tasks: &Tasks) -> BTreeSet<&'static str> {
    let log = Log::default();
    let _listening = tracing::subscriber::set_default(log.clone());
    let mut back = all_come_back(tasks).await;
    let logged = log.0.lock().unwrap_or_else(PoisonError::into_inner);
    back.retain(|name| logged.contains(*name));
    back
}

/// The same without a look at the log, for loops on other threads.
pub async fn all_come_back(tasks: &Tasks) -> BTreeSet<&'static str> {
    let mut back = BTreeSet::new();
    for (name, before) in tasks.starts() {
        // One that has not begun yet begins first.
        let before = before.max(1);
        tasks.trip(name);
        for _ in 0..LOOKS {
            if tasks.starts().get(name).is_some_and(|starts| *starts > before) {
                back.insert(name);
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    back
}

/// The loops that every service on the skeleton has, and `own`.
#[must_use]
pub fn with_common(own: &[&'static str]) -> BTreeSet<&'static str> {
    COMMON.iter().chain(own).copied().collect()
}

/// The names of the loops whose panic was logged as an error.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<BTreeSet<String>>>);

#[derive(Default)]
struct Fields {
    name: Option<String>,
    panicked: bool,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "task.name" => self.name = Some(value.to_owned()),
            "task.reason" => self.panicked = value == "it panicked",
            _ => {}
        }
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn std::fmt::Debug) {}
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if let (Some(name), true) = (fields.name, fields.panicked) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
        }
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}
