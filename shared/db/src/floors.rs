//! What was done once and must never seem undone: of each row that gives or takes rights, the number of its last change. Whatever
//! the database says below that was put there by another hand.
//!
//! Pure memory: [`crate::journal`] keeps it on disk, outside the database. Nobody is named here or there: ids stand as
//! keyed hashes.
//!
//! Why: decision 0113.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hbc_types::secret::Key32;
use hbc_types::{Digest, Timestamp};

use crate::{Column, RowMac};

/// One change of rights, as a service knows it.
pub trait Change {
    /// What it is of ([`Kinds`]), that thing's id, and the number of the change: greater than that of each one before it. Of
    /// the kind that is forgotten it is the time (Unix ms) after which nobody needs to know.
    fn parts(&self) -> (&'static str, String, i64);
}

/// What the floors of a service are of.
#[derive(Clone, Copy, Debug)]
pub struct Kinds {
    /// Their names: lowercase words.
    pub lasting: &'static [&'static str],
    /// The kind whose number is the time after which it is forgotten.
    pub passing: &'static str,
}

impl Kinds {
    fn named(self, name: &str) -> Option<&'static str> {
        self.lasting.iter().copied().chain([self.passing, HEAD]).find(|kind| *kind == name)
    }
}

/// The kind of a journal's own heads that were told elsewhere: a journal that does not know one is an older one.
const HEAD: &str = "head";

/// Heads that are kept: as many as may be told while the ledger does not answer for some days.
const HEADS: usize = 100_000;

/// A head of the journal, and which it is of those that were told.
pub(crate) struct Head(pub(crate) Digest, pub(crate) i64);

impl Change for Head {
    fn parts(&self) -> (&'static str, String, i64) {
        (HEAD, self.0.to_string(), self.1)
    }
}

/// Bytes of a keyed hash of an id.
const NAME: usize = 16;

/// A floor: of what, and how high.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    kind: &'static str,
    name: [u8; NAME],
    number: i64,
}

impl Floor {
    /// As a line of the journal: kind, keyed hash of the id, number.
    pub(crate) fn line(&self) -> String {
        format!("{} {} {}", self.kind, hex::encode(self.name), self.number)
    }

    /// Reads what [`Floor::line`] wrote.
    pub(crate) fn parse(line: &str, kinds: Kinds) -> Option<Self> {
        let mut words = line.split(' ');
        let (kind, name, number) = (words.next()?, words.next()?, words.next()?);
        let name = hex::decode(name).ok()?.try_into().ok()?;
        let floor = Self { kind: kinds.named(kind)?, name, number: number.parse().ok()? };
        words.next().is_none().then_some(floor)
    }
}

/// A row is older than the last change of it that was committed: another hand set it back, unless the transaction that
/// read it began before that change. Reading it in a new transaction tells ([`Rereading`]): a floor rises after its change is
/// committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a row of `{table}` is older than the last change of it")]
pub struct SetBackError {
    /// Which table.
    pub table: &'static str,
    /// Below which floor it is.
    pub floor: Floor,
}

/// Whether a transaction must be done again because what it read changed after it began: a row is below a floor, which
/// rises once its change is committed, so that a transaction that begins now finds a row that is not. If that one is below
/// the same floor too, the row was set back.
#[derive(Debug, Default)]
pub struct Rereading(Vec<Floor>);

impl Rereading {
    /// Whether this is the first time that such a row is seen.
    pub fn is_called_for(&mut self, error: SetBackError) -> bool {
        let is_new = !self.0.contains(&error.floor);
        if is_new {
            self.0.push(error.floor);
        }
        is_new
    }
}

/// Gathers what a transaction changes. A transaction that is tried again begins with an empty one.
#[derive(Debug)]
pub struct Changes<C>(Arc<Mutex<Vec<C>>>);

impl<C> Default for Changes<C> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<C> Clone for Changes<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C> Changes<C> {
    /// One more.
    pub fn push(&self, change: C) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(change);
    }

    /// All so far.
    #[must_use]
    pub fn take(&self) -> Vec<C> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Numbers by name, of each kind.
type Known = HashMap<&'static str, HashMap<[u8; NAME], i64>>;

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
    pub fn of(&self, change: &impl Change) -> Floor {
        let (kind, id, number) = change.parts();
        Floor { kind, name: self.name(kind, &id), number }
    }

    fn name(&self, kind: &'static str, id: &str) -> [u8; NAME] {
        let mac = self.0.macs.compute("floor", &[Column::Text(kind), Column::Text(id)]);
        let mut name = [0; NAME];
        for (to, from) in name.iter_mut().zip(mac) {
            *to = from;
        }
        name
    }

    /// Puts a floor in, unless there is a higher one.
    pub fn raise(&self, floor: Floor) {
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        let number = known.entry(floor.kind).or_default().entry(floor.name).or_insert(i64::MIN);
        *number = (*number).max(floor.number);
    }

    /// Whether a row of `table`, as `written` by its last change, is no older than the last change that is known.
    pub fn check(&self, table: &'static str, written: &impl Change) -> Result<(), SetBackError> {
        let found = self.of(written);
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        match known.get(found.kind).and_then(|of_kind| of_kind.get(&found.name)) {
            Some(number) if found.number < *number => {
                Err(SetBackError { table, floor: Floor { number: *number, ..found } })
            }
            _ => Ok(()),
        }
    }

    /// The number of the last change of `id` that is known.
    #[must_use]
    pub fn get(&self, kind: &'static str, id: &str) -> Option<i64> {
        let name = self.name(kind, id);
        self.0.known.read().unwrap_or_else(PoisonError::into_inner).get(kind)?.get(&name).copied()
    }

    /// Forgets those of the passing kind whose time is over.
    pub fn forget(&self, kinds: Kinds, now: Timestamp) {
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        known.entry(kinds.passing).or_default().retain(|_name, until| *until > now.ms());
    }

    /// The next head that is told. Of the earlier ones the last [`HEADS`] are known.
    pub(crate) fn next_head(&self, head: Digest) -> Head {
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        let heads = known.entry(HEAD).or_default();
        let next = heads.values().copied().max().unwrap_or(0).saturating_add(1);
        if heads.len() > HEADS {
            let oldest = next.saturating_sub(i64::try_from(HEADS).unwrap_or(i64::MAX));
            heads.retain(|_name, number| *number > oldest);
        }
        Head(head, next)
    }

    /// Whether this head was told from here.
    pub(crate) fn knows_head(&self, head: Digest) -> bool {
        self.get(HEAD, &head.to_string()).is_some()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.known.read().unwrap_or_else(PoisonError::into_inner).values().map(HashMap::len).sum()
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
        let all = known.iter().flat_map(|(kind, names)| names.iter().map(move |floor| (kind, floor)));
        all.map(|(kind, (name, number))| Floor { kind, name: *name, number: *number }).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Kinds as a service has them.
    pub(crate) const KINDS: Kinds = Kinds { lasting: &["rights", "account"], passing: "session" };

    /// A change of one of [`KINDS`].
    #[derive(Clone, Debug)]
    pub(crate) struct Sample(pub(crate) &'static str, pub(crate) u64, pub(crate) i64);

    impl Change for Sample {
        fn parts(&self) -> (&'static str, String, i64) {
            (self.0, self.1.to_string(), self.2)
        }
    }

    fn change() -> impl Strategy<Value = Sample> {
        let kind = prop_oneof![Just("rights"), Just("account"), Just("session")];
        (kind, 0..4_u64, 0..50_i64).prop_map(|(kind, id, number)| Sample(kind, id, number))
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
                    again.raise(Floor::parse(&line, KINDS).unwrap());
                }
                for old in &past {
                    prop_assert!(again.get(old.0, &old.1.to_string()).unwrap() >= old.2);
                    // A row is as old as the change that wrote it; the last change of a thing is the youngest.
                    let later = past.iter().map(|change| again.of(change));
                    let same = later.filter(|floor| floor.kind == old.0 && floor.name == again.of(old).name);
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

    #[test]
    fn only_the_passing_kind_is_forgotten_and_lines_are_strict() {
        let floors = Floors::default();
        for change in [Sample("rights", 1, 5), Sample("session", 1, 5), Sample("session", 2, 6)] {
            floors.raise(floors.of(&change));
        }
        floors.forget(KINDS, Timestamp::from_ms(5));
        assert_eq!(floors.len(), 2);
        assert_eq!((floors.get("session", "1"), floors.get("session", "2")), (None, Some(6)));
        let line = floors.of(&Sample("rights", 1, -5)).line();
        assert_eq!(Floor::parse(&line, KINDS).unwrap().line(), line);
        let spaced = format!("{line} ");
        let shorter = line.replacen(' ', " 0", 1);
        for bad in [spaced.as_str(), &shorter, "", "rights", "rights 00 5", &line.replace("rights", "grants")]
        {
            assert_eq!(Floor::parse(bad, KINDS), None, "{bad}");
        }
    }

    #[test]
    fn a_row_is_read_again_once_for_each_floor_it_is_below() {
        let floors = Floors::default();
        let below = |number| {
            floors.raise(floors.of(&Sample("rights", 1, number)));
            floors.check("rows", &Sample("rights", 1, 0)).unwrap_err()
        };
        let mut rereading = Rereading::default();
        let first = below(5);
        assert!(rereading.is_called_for(first) && !rereading.is_called_for(first));
        assert!(rereading.is_called_for(below(6)), "it changed once more");
    }
}
