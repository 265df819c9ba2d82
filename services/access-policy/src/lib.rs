//! Access requests, grants, decisions, key hierarchy, receipts.
//!
//! access-policy decides who may do what with which records and gives out the keys to do it. It signs no consent and holds
//! no record. What must always hold:
//!
//! - a key leaves only in the transaction that durably wrote the receipt of it;
//! - nothing but a live, final grant that the patient signed opens a record to somebody else;
//! - a revocation, freeze or denial takes effect before its call returns;
//! - a row that gives or takes rights and was written by another hand is a denial and an alarm;
//! - every number of a record ends up final or void, so that a withheld record shows.
//!
//! `domain` decides and computes, `store` holds the SQL, `flows` puts them together in transactions, `routes` speaks HTTP,
//! `jobs` runs in the background, `ledger` says what final transactions mean.

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

use hbc_app::jobs::Jobs;
use hbc_app::{Base, Service, TokenKeys};
use hbc_db::Migration;
use hbc_service::Routes;
use hbc_types::account::ServiceRole;

pub use crate::config::Config;

/// The service, ready to answer.
pub type Application = hbc_app::Application<AccessPolicy>;

/// What access-policy consists of.
#[derive(Clone, Copy, Debug)]
pub struct AccessPolicy;

impl Service for AccessPolicy {
    const NAME: &'static str = "access-policy";
    const ROLE: ServiceRole = ServiceRole::AccessPolicy;
    const TITLE: &'static str = "HBC access-policy";
    const ABOUT: &'static str =
        "Access requests, grants, decisions, keys of records, and the patient's access log.";
    const MIGRATIONS: &'static [Migration] = store::MIGRATIONS;
    type Config = Config;
    type Parts = ();
    type App = app::App;
    type Events = ledger::Events;

    fn routes(table: &mut Routes<'_>) {
        routes::table(table);
    }

    fn tokens(config: &Config) -> anyhow::Result<TokenKeys> {
        Ok(TokenKeys::Auth(config.auth_url.clone()))
    }

    async fn open(config: &Config, base: Base, (): ()) -> anyhow::Result<app::App> {
        base.check_key("rows key", &config.rows_key_file).await?;
        base.check_key("master key", &config.master_key_file).await?;
        let app = app::App::open(config, base)?;
        app.accept_journal(config).await?;
        flows::accounts::prepare(&app).await?;
        Ok(app)
    }

    fn events(app: &app::App) -> ledger::Events {
        ledger::Events(app.clone())
    }

    fn jobs() -> Jobs<app::App> {
        jobs::list()
    }
}
