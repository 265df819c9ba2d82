//! What crosses HTTP between clients and services, one file a service.

pub mod access;
pub mod apps;
pub mod auth;
pub mod custody;
pub mod devices;
pub mod explorer;
pub mod ledger;
pub mod oauth;
pub mod passkeys;
pub mod preferences;
pub mod storage;
pub mod token;

use serde::{Deserialize, Serialize};

/// One page of a listing; `next` is an opaque cursor, absent on the last page.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Page<T> {
    /// The items of this page.
    pub items: Vec<T>,
    /// Pass it as `cursor` to get the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
