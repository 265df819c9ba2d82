//! Paging by keyset: a page ends with a cursor that says where the next one begins. To clients it is opaque; here
//! it is strictly read, and a query that uses its values still applies the caller's own conditions.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Problem, parse_strict};

/// Items on a page unless the client says otherwise.
const DEFAULT: u32 = 50;
/// Items on a page at most.
const MOST: u32 = 200;
/// Longest cursor that is read.
const LONGEST: usize = 1024;
/// First byte of a cursor.
const VERSION: u8 = 1;

/// `?limit=&cursor=` of a listing: take it as `web::Query<PageQuery>`.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Items on the page: 1 to 200, 50 unless given.
    #[serde(default)]
    pub limit: Option<u32>,
    /// `next` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
}

impl PageQuery {
    /// How many items are asked for.
    pub fn limit(&self) -> Result<u32, Problem> {
        match self.limit.unwrap_or(DEFAULT) {
            limit @ 1..=MOST => Ok(limit),
            _ => Err(Problem::invalid("limit", format!("must be 1 to {MOST}"))),
        }
    }

    /// Where the page begins: nothing for the first.
    pub fn after<K: DeserializeOwned>(&self) -> Result<Option<K>, Problem> {
        self.cursor.as_deref().map(decode).transpose()
    }
}

/// The cursor after the item with this key.
#[must_use]
pub fn cursor<K: Serialize>(key: &K) -> Option<String> {
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, key).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

fn decode<K: DeserializeOwned>(cursor: &str) -> Result<K, Problem> {
    let refuse = || Problem::invalid("cursor", "is not a cursor of this listing");
    if cursor.len() > LONGEST {
        return Err(refuse());
    }
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_not_base64url| refuse())?;
    match bytes.split_first() {
        Some((&VERSION, json)) => parse_strict(json).map_err(|_other_json| refuse()),
        _ => Err(refuse()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    #[serde(deny_unknown_fields)]
    struct Key {
        at: i64,
        id: String,
    }

    #[test]
    fn cursors_come_back_and_others_are_refused() {
        let key = Key { at: 5, id: "x".to_owned() };
        let text = cursor(&key).unwrap();
        let query = |cursor: &str| PageQuery { limit: None, cursor: Some(cursor.to_owned()) };
        assert_eq!(query(&text).after::<Key>().unwrap(), Some(key));
        for bad in ["", "!", "AQ", "eyJhdCI6MX0", &format!("{text}="), &"A".repeat(2000)] {
            assert!(query(bad).after::<Key>().is_err(), "{bad}");
        }
        assert!(PageQuery { limit: Some(0), cursor: None }.limit().is_err());
        assert_eq!(PageQuery::default().limit().unwrap(), 50);
    }
}
