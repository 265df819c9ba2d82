//! Storage: records as encrypted bytes on IPFS, anchored on the ledger, served as FHIR R4 and as they were received.
//!
//! It owns records, segments, the search index and the spool. It holds ciphertext and wrapped keys and can open no record
//! alone: every key comes from access-policy, with a decision and a receipt. What records say to searches it can open, and does
//! after a decision alone. What must always hold:
//!
//! - Received bytes are never re-written; FHIR's changes lie over them (`domain::overlay`).
//! - Nothing leaves before the row's tag, the slice's hash, the record's authentication tag and its commitment verified
//!   (`flows::read`).
//! - An upload is acknowledged when it is encrypted, pinned and committed, or not at all (`flows::upload`, `jobs`).
//! - The database names nobody and no diagnosis (`domain::index`).
//!
//! `routes` speaks HTTP, `flows` says what happens in which order, `store` keeps rows and files, `domain` does no I/O.

mod app;
mod config;
mod domain;
mod error;
mod flows;
mod jobs;
mod ledger;
mod routes;
mod store;
#[doc(hidden)]
pub mod testing;

use std::sync::Arc;

use hbc_app::jobs::Jobs;
use hbc_app::{Base, Service, TokenKeys};
use hbc_db::Migration;
use hbc_service::{Routes, ServerBuilder};
use hbc_types::account::ServiceRole;

pub use crate::config::{AnchorSettings, Config, KuboSettings, ReconcileSettings, RoomSettings};

/// The service, ready to answer.
pub type Application = hbc_app::Application<Storage>;

/// What storage consists of.
#[derive(Clone, Copy, Debug)]
pub struct Storage;

impl Service for Storage {
    const NAME: &'static str = "storage";
    const ROLE: ServiceRole = ServiceRole::Storage;
    const TITLE: &'static str = "HBC storage";
    const ABOUT: &'static str =
        "Records: FHIR R4 resources and documents, encrypted, on IPFS, anchored on the ledger.";
    const MIGRATIONS: &'static [Migration] = store::MIGRATIONS;
    type Config = Config;
    /// A block store in place of the IPFS daemon.
    type Parts = Option<Arc<dyn store::blob::BlobStore>>;
    type App = app::App;
    type Events = ledger::Events;

    fn routes(table: &mut Routes<'_>) {
        routes::table(table);
    }

    fn tokens(config: &Config) -> anyhow::Result<TokenKeys> {
        Ok(TokenKeys::Auth(config.auth_url.clone()))
    }

    async fn open(config: &Config, base: Base, blobs: Self::Parts) -> anyhow::Result<app::App> {
        base.check_key("index key", &config.index_key_file).await?;
        app::App::open(config, base, blobs)
    }

    fn events(app: &app::App) -> ledger::Events {
        ledger::Events(app.clone())
    }

    fn jobs() -> Jobs<app::App> {
        jobs::list()
    }

    fn serve(server: ServerBuilder) -> ServerBuilder {
        server.dialect(routes::fhir_dialect()).restful("/fhir").inflates().cross_origin(&["/fhir"])
    }
}
