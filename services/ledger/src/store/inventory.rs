//! What this node wrote beside its blocks, as memory knows it: the MAC of every promise, refusal and piece of evidence.
//! The database has the same as one row, the multiset hash, so that a row that goes while the node is stopped is missed
//! too.
//!
//! The multiset hash is a keyed hash of a set: a digest of the number of rows and a fresh nonce, XORed with one digest
//! per row. It changes by one hash per row and not by all (MSet-XOR-Hash: Clarke, Devadas, van Dijk, Gassend and Suh,
//! 2003).
//!
//! Why: decision 0094.

use std::collections::{HashMap, VecDeque};

use hbc_types::{Digest, Random};
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::rows::Carried;
use super::{MacKey, StoreError, Table, digest, signed, unsigned};

/// What a transaction of this node's own adds and removes.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub added: Vec<(Table, Digest, Digest)>,
    pub removed: Vec<(Table, Digest)>,
}

impl Change {
    /// True if it changes nothing.
    pub(super) const fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

/// The MACs of all rows by what the rows are about: a transaction or a document.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    promises: HashMap<Digest, Digest>,
    refusals: HashMap<Digest, Digest>,
    evidence: HashMap<Digest, Digest>,
    /// The refused transactions, oldest first.
    refused: VecDeque<Digest>,
}

/// The row that stands for all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MultisetHash {
    entries: u64,
    nonce: Vec<u8>,
    digest: Digest,
}

impl Inventory {
    /// What these rows are.
    pub(super) fn of(carried: &Carried) -> Self {
        let mut inventory = Self::default();
        let mut change = Change::default();
        for row in &carried.promises {
            change.added.push((Table::Promises, row.row.txid, row.mac));
        }
        for row in &carried.refusals {
            change.added.push((Table::Refusals, row.row.txid, row.mac));
        }
        for row in &carried.evidence {
            change.added.push((Table::Evidence, Digest::of(&row.row.detail), row.mac));
        }
        inventory.apply(change);
        inventory
    }

    const fn rows(&self, table: Table) -> &HashMap<Digest, Digest> {
        match table {
            Table::Promises => &self.promises,
            Table::Refusals => &self.refusals,
            Table::Evidence => &self.evidence,
        }
    }

    const fn rows_mut(&mut self, table: Table) -> &mut HashMap<Digest, Digest> {
        match table {
            Table::Promises => &mut self.promises,
            Table::Refusals => &mut self.refusals,
            Table::Evidence => &mut self.evidence,
        }
    }

    /// Whether a row about this is there.
    pub(super) fn has(&self, table: Table, id: &Digest) -> bool {
        self.rows(table).contains_key(id)
    }

    /// The MAC of the row about this.
    pub(super) fn mac_of(&self, table: Table, id: &Digest) -> Option<Digest> {
        self.rows(table).get(id).copied()
    }

    /// How many rows a table has.
    #[must_use]
    pub fn count(&self, table: Table) -> usize {
        self.rows(table).len()
    }

    /// The oldest refusals beyond the newest `kept`, once `more` are added.
    pub(super) fn surplus_refusals(&self, more: usize, kept: usize) -> impl Iterator<Item = &Digest> {
        let surplus = self.refused.len().saturating_add(more).saturating_sub(kept);
        self.refused.iter().take(surplus)
    }

    pub(super) fn apply(&mut self, change: Change) {
        for (table, id) in change.removed {
            self.rows_mut(table).remove(&id);
            if table == Table::Refusals {
                self.refused.retain(|refused| *refused != id);
            }
        }
        for (table, id, mac) in change.added {
            self.rows_mut(table).insert(id, mac);
            if table == Table::Refusals {
                self.refused.push_back(id);
            }
        }
    }

    /// The first table in which `found` is not just this.
    pub(super) fn difference(&self, found: &Self) -> Option<Table> {
        Table::ALL.into_iter().find(|table| self.rows(*table) != found.rows(*table))
    }

    /// How many of these rows are not among `found`, by table.
    pub(super) fn missing(&self, found: &Self) -> impl Iterator<Item = (Table, usize)> {
        Table::ALL.into_iter().map(move |table| {
            let there = found.rows(table);
            let gone = self.rows(table).keys().filter(|id| !there.contains_key(id)).count();
            (table, gone)
        })
    }

    fn macs(&self) -> impl Iterator<Item = &Digest> {
        Table::ALL.into_iter().flat_map(|table| self.rows(table).values())
    }

    /// How many rows there are in all.
    pub(super) fn entries(&self) -> u64 {
        let entries = self.promises.len() + self.refusals.len() + self.evidence.len();
        u64::try_from(entries).unwrap_or(u64::MAX)
    }
}

/// The digests of all rows, XORed: what the multiset hash is made of, kept so that a change costs its own rows only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum([u8; 32]);

impl Sum {
    pub(super) fn of(inventory: &Inventory, key: &MacKey) -> Self {
        let mut sum = Self::default();
        inventory.macs().for_each(|mac| sum.turn(&key.multiset_row(mac)));
        sum
    }

    /// Takes a row in, or out again.
    fn turn(&mut self, row: &Digest) {
        self.0.iter_mut().zip(row.as_bytes()).for_each(|(byte, other)| *byte ^= other);
    }

    /// As it will be once `inventory` has changed.
    pub(super) fn after(mut self, inventory: &Inventory, change: &Change, key: &MacKey) -> (Self, u64) {
        let mut entries = inventory.entries();
        for (table, id) in &change.removed {
            if let Some(mac) = inventory.rows(*table).get(id) {
                self.turn(&key.multiset_row(mac));
                entries = entries.saturating_sub(1);
            }
        }
        for (_, _, mac) in &change.added {
            self.turn(&key.multiset_row(mac));
            entries = entries.saturating_add(1);
        }
        (self, entries)
    }
}

impl MultisetHash {
    /// Of so many rows with this sum, under a fresh nonce.
    pub(super) fn new(sum: Sum, entries: u64, key: &MacKey) -> Self {
        let nonce: [u8; 32] = Random::system().bytes();
        Self { entries, digest: masked(sum, entries, &nonce, key), nonce: nonce.to_vec() }
    }

    /// Whether it is that of these rows, under this key.
    pub(super) fn fits(&self, inventory: &Inventory, key: &MacKey) -> bool {
        let digest = masked(Sum::of(inventory, key), self.entries, &self.nonce, key);
        self.entries == inventory.entries() && self.digest == digest
    }

    /// The stored one; a file without it, or with another row in its place, was changed.
    pub(super) async fn read(connection: &mut SqliteConnection) -> Result<Option<Self>, StoreError> {
        let row = sqlx::query("SELECT entries, nonce, digest FROM multiset_hash WHERE id = 1")
            .fetch_optional(connection)
            .await?;
        row.map(|row| {
            let entries = unsigned(row.try_get("entries")?)?;
            Ok(Self { entries, nonce: row.try_get("nonce")?, digest: digest(&row, "digest")? })
        })
        .transpose()
    }

    pub(super) async fn write(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO multiset_hash (id, entries, nonce, digest) VALUES (1, $1, $2, $3)
             ON CONFLICT (id) DO UPDATE SET entries = $1, nonce = $2, digest = $3",
        )
        .bind(signed(self.entries)?)
        .bind(self.nonce.as_slice())
        .bind(self.digest.as_bytes().as_slice())
        .execute(connection)
        .await?;
        Ok(())
    }
}

fn masked(sum: Sum, entries: u64, nonce: &[u8], key: &MacKey) -> Digest {
    let mut masked = sum;
    masked.turn(&key.multiset_mask(entries, nonce));
    Digest::from_bytes(masked.0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::store::row_mac::Authenticated;
    use crate::store::{StoredEvidence, StoredPromise, StoredRefusal};

    fn key(n: u8) -> MacKey {
        MacKey::of(&ed25519_dalek::SigningKey::from_bytes(&[n; 32]))
    }

    /// The vector of FORMATS §12.
    #[test]
    fn macs_of_rows_are_those_of_the_format() {
        let key = key(7);
        let (txid, by) = (Digest::of(b"tx"), Digest::of(b"by"));
        let (jws, reason, seen) = (b"jws".to_vec(), "seen".to_owned(), 1_790_000_000_000_i64);
        let promise = StoredPromise { txid, jws: jws.clone() };
        let refusal = StoredRefusal { txid, jws: jws.clone(), reason, excluded_by: Some(by) };
        let alone = StoredRefusal { excluded_by: None, ..refusal.clone() };
        let kind = std::borrow::Cow::Borrowed("equivocation");
        let evidence = StoredEvidence { kind, member: Some([5; 32]), height: 3, detail: b"{}".to_vec() };
        let (text, number) = (|text: &str| json!({"text": text}), |number: i64| json!({"number": number}));
        let bytes = |bytes: &[u8]| json!({"hex": hex::encode(bytes)});
        let (id, jws) = (bytes(txid.as_bytes()), bytes(&jws));
        let rows = [
            ("promises", vec![id.clone(), jws.clone(), number(seen)], promise.mac(&key, seen)),
            (
                "refusals",
                vec![id.clone(), jws.clone(), text("seen"), bytes(by.as_bytes()), number(seen)],
                refusal.mac(&key, seen),
            ),
            ("refusals", vec![id, jws, text("seen"), Value::Null, number(seen)], alone.mac(&key, seen)),
            (
                "evidence",
                vec![text("equivocation"), bytes(&[5; 32]), number(3), bytes(b"{}"), number(seen)],
                evidence.mac(&key, seen),
            ),
        ];
        let mut sum = Sum::default();
        rows.iter().for_each(|(_, _, mac)| sum.turn(&key.multiset_row(mac)));
        let (entries, nonce) = (rows.len() as u64, [9; 32]);
        let digest = masked(sum, entries, &nonce, &key);
        let rows: Vec<Value> = rows
            .iter()
            .map(|(table, columns, mac)| json!({"table": table, "columns": columns, "mac": mac}))
            .collect();
        let multiset = json!({"entries": entries, "nonce": hex::encode(nonce), "digest": digest});
        let seed = hex::encode([7; 32]);
        hbc_chain::testing::check_vector("rows", &json!({"seed": seed, "rows": rows, "multiset": multiset}));
    }

    fn rows(numbers: impl IntoIterator<Item = u8>) -> Change {
        let row = |n: u8| {
            let table = Table::ALL[usize::from(n) % 3];
            (table, Digest::of(&[n]), Digest::of(&[n, n]))
        };
        Change { added: numbers.into_iter().map(row).collect(), removed: Vec::new() }
    }

    fn inventory(numbers: impl IntoIterator<Item = u8>) -> Inventory {
        let mut inventory = Inventory::default();
        inventory.apply(rows(numbers));
        inventory
    }

    fn multiset_hash(inventory: &Inventory, key: &MacKey) -> MultisetHash {
        MultisetHash::new(Sum::of(inventory, key), inventory.entries(), key)
    }

    #[test]
    fn a_multiset_hash_fits_its_rows_and_no_others() {
        let whole = inventory(0..20);
        let multiset_hash = multiset_hash(&whole, &key(1));
        assert!(multiset_hash.fits(&whole, &key(1)));
        assert!(!multiset_hash.fits(&whole, &key(2)), "another member's");
        for gone in 0..20 {
            assert!(
                !multiset_hash.fits(&inventory((0..20).filter(|n| *n != gone)), &key(1)),
                "without row {gone}"
            );
            let put = (0..20).filter(|n| *n != gone).chain([99]);
            assert!(!multiset_hash.fits(&inventory(put), &key(1)), "another in the place of row {gone}");
        }
        assert!(!multiset_hash.fits(&inventory(0..21), &key(1)));
        let fewer = MultisetHash { entries: 19, ..multiset_hash.clone() };
        assert!(!fewer.fits(&inventory(0..19), &key(1)));
        let other = MultisetHash { nonce: vec![0; 32], ..multiset_hash };
        assert!(!other.fits(&whole, &key(1)));
    }

    #[test]
    fn a_change_leads_to_the_multiset_hash_of_what_it_leaves() {
        let key = key(1);
        let mut inventory = inventory(0..20);
        let sum = Sum::of(&inventory, &key);
        let mut change = rows(30..34);
        change.removed = (3..9).map(|n: u8| (Table::ALL[usize::from(n) % 3], Digest::of(&[n]))).collect();
        let (after, entries) = sum.after(&inventory, &change, &key);
        inventory.apply(change);
        assert_eq!((after, entries), (Sum::of(&inventory, &key), 18));
        assert!(MultisetHash::new(after, entries, &key).fits(&inventory, &key));
    }

    #[test]
    fn the_oldest_refusals_are_the_surplus() {
        let ids: Vec<Digest> = (0..5_u8).map(|n| Digest::of(&[n])).collect();
        let mut inventory = Inventory::default();
        let added = ids.iter().map(|id| (Table::Refusals, *id, *id)).collect();
        inventory.apply(Change { added, removed: vec![] });
        assert_eq!(inventory.surplus_refusals(0, 5).count(), 0);
        assert_eq!(inventory.surplus_refusals(2, 5).copied().collect::<Vec<_>>(), ids[..2]);
        inventory.apply(Change { added: vec![], removed: vec![(Table::Refusals, ids[0])] });
        assert_eq!(inventory.surplus_refusals(2, 5).copied().collect::<Vec<_>>(), [ids[1]]);
    }

    #[test]
    fn a_difference_names_its_table() {
        assert_eq!(inventory(0..9).difference(&inventory(0..9)), None);
        assert_eq!(inventory(0..9).difference(&inventory(1..9)), Some(Table::Promises));
        assert_eq!(inventory(0..9).difference(&inventory((0..9).filter(|n| *n != 4))), Some(Table::Refusals));
        let missing: Vec<_> = inventory(0..9).missing(&inventory((0..9).filter(|n| *n != 5))).collect();
        assert_eq!(missing, [(Table::Promises, 0), (Table::Refusals, 0), (Table::Evidence, 1)]);
    }
}
