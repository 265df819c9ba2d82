//! A MAC over the columns of a row whose change would give or take rights, under a key outside the database:
//! whoever can write the database still cannot forge a grant, a password hash or a label.

use hbc_types::secret::Key32;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// One column's value. Every value is tagged and length-prefixed, so that no two rows have the same text.
#[derive(Clone, Copy, Debug)]
pub enum Column<'a> {
    /// NULL.
    Null,
    /// An integer.
    Integer(i64),
    /// A text.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
}

impl<'a> From<&'a str> for Column<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}
impl<'a> From<&'a String> for Column<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text)
    }
}
impl<'a> From<&'a [u8]> for Column<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}
impl From<i64> for Column<'_> {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}
impl<'a, T: Into<Self>> From<Option<T>> for Column<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Column::Null, Into::into)
    }
}

/// A row does not carry the MAC that its columns ask for: it was written or changed by another hand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a row of `{table}` was not written by this service")]
pub struct RowMacError {
    /// The table the row is in.
    pub table: &'static str,
}

/// Computes and checks row MACs.
#[derive(Clone, Debug)]
pub struct RowMac {
    key: Key32,
}

impl RowMac {
    /// Bytes of a MAC.
    pub const BYTES: usize = 32;

    /// Uses `key`, which must not be stored in the database it guards.
    #[must_use]
    pub const fn new(key: Key32) -> Self {
        Self { key }
    }

    /// HMAC-SHA-256 over `hbc/row/v1`, the table's name and `columns` (the row's id first).
    #[must_use]
    pub fn compute(&self, table: &str, columns: &[Column<'_>]) -> [u8; Self::BYTES] {
        self.over(table, columns).finalize().into_bytes().into()
    }

    /// Checks `mac` in constant time.
    pub fn check(&self, table: &'static str, columns: &[Column<'_>], mac: &[u8]) -> Result<(), RowMacError> {
        self.over(table, columns).verify_slice(mac).map_err(|_differs| RowMacError { table })
    }

    fn over(&self, table: &str, columns: &[Column<'_>]) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.expose()).expect("32 bytes are a key");
        mac.update(b"hbc/row/v1\0");
        put(&mut mac, b't', table.as_bytes());
        for column in columns {
            match column {
                Column::Null => put(&mut mac, b'n', &[]),
                Column::Integer(number) => put(&mut mac, b'i', &number.to_be_bytes()),
                Column::Text(text) => put(&mut mac, b's', text.as_bytes()),
                Column::Bytes(bytes) => put(&mut mac, b'b', bytes),
            }
        }
        mac
    }
}

fn put(mac: &mut Hmac<Sha256>, tag: u8, bytes: &[u8]) {
    mac.update(&[tag]);
    mac.update(&(bytes.len() as u64).to_be_bytes());
    mac.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mac() -> RowMac {
        RowMac::new(Key32::new([7; 32]))
    }

    #[test]
    fn a_changed_column_or_table_is_refused() {
        let row = [Column::from("agy-1"), Column::from(4), Column::Null, Column::from(b"x".as_slice())];
        let tag = mac().compute("accounts", &row);
        assert!(mac().check("accounts", &row, &tag).is_ok());
        assert!(mac().check("clients", &row, &tag).is_err());
        let other = [Column::from("agy-1"), Column::from(4), Column::from(""), Column::from(b"x".as_slice())];
        assert_eq!(mac().check("accounts", &other, &tag), Err(RowMacError { table: "accounts" }));
        assert!(mac().check("accounts", &row, &tag[..31]).is_err());
        assert!(mac().check("accounts", &row, &[]).is_err());
        let stranger = RowMac::new(Key32::new([8; 32]));
        assert!(stranger.check("accounts", &row, &tag).is_err());
    }

    proptest! {
        #[test]
        fn moving_a_boundary_changes_the_mac(text in "[a-z]{2,20}", cut in 1_usize..19) {
            prop_assume!(cut < text.len());
            let (a, b) = text.split_at(cut);
            prop_assert_ne!(mac().compute("t", &[a.into(), b.into()]), mac().compute("t", &[text.as_str().into(), "".into()]));
        }
    }
}
