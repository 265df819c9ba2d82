//! Where programs and apps have their keys, if not with us alone.

use hbc_client::assertion::ClientKeys;
use hbc_db::row::Reader;
use hbc_db::{Column, DbError};
use hbc_types::Timestamp;

use super::StoreError;

/// The address of a key set, and when what is kept of it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyAddress {
    /// `jwks_uri`.
    pub uri: String,
    /// When the fetch of the kept set began.
    pub fetched_at: Timestamp,
}

impl KeyAddress {
    /// Reads the columns of a row. One without the other was written by another hand: the row's MAC does not fit what is made of
    /// it here.
    pub fn read(row: &Reader<'_>) -> Result<Option<Self>, StoreError> {
        Ok(match (row.text_opt("jwks_uri")?, row.time_opt("jwks_fetched_at_ms")?) {
            (None, None) => None,
            (uri, fetched_at) => Some(Self {
                uri: uri.unwrap_or_default(),
                fetched_at: fetched_at.unwrap_or(Timestamp::from_ms(0)),
            }),
        })
    }

    /// What the MAC of a row covers behind its other columns; of a row without address it is what it was before there were any.
    pub fn columns(&self) -> [Column<'_>; 2] {
        let Self { uri, fetched_at } = self;
        [uri.into(), fetched_at.ms().into()]
    }
}

/// The keys that a row keeps.
pub fn kept(jwks: &str) -> Result<ClientKeys, StoreError> {
    let corrupt = || DbError::Configuration("a client's key set cannot be read".to_owned());
    let set = serde_json::from_str(jwks).map_err(|_not_json| corrupt())?;
    if set == ClientKeys::none().to_json() {
        return Ok(ClientKeys::none());
    }
    Ok(ClientKeys::parse(&set).map_err(|_not_keys| corrupt())?)
}
