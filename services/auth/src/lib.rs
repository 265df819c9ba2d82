//! Accounts, passwords, sessions, tokens, agency approval, custody of signing keys.
//!
//! auth owns who somebody is and how they prove it, and patients' signing keys in its custody. It decides nothing about
//! records: it says who calls, how accounts stand, and signs what a patient confirmed by password. What must always hold:
//!
//! - a seed in custody opens under a password or a recovery code only, never under a server key alone;
//! - a row that gives rights and was not written by this service is refused, with an alarm in the log;
//! - access-policy is told of suspensions, closed accounts and logouts until it has stored them;
//! - contact data never leaves auth's database.

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
use hbc_service::{Routes, ServerBuilder};
use hbc_types::account::ServiceRole;

pub use crate::config::{AppSettings, Config, PasswordSettings, SessionSettings, WebauthnSettings};
pub use crate::domain::bootstrap::{OperatorEntry, OperatorsFile, operator};
pub use crate::domain::custody::Cost;

/// The service, ready to answer.
pub type Application = hbc_app::Application<Auth>;

/// What auth consists of.
#[derive(Clone, Copy, Debug)]
pub struct Auth;

impl Service for Auth {
    const NAME: &'static str = "auth";
    const ROLE: ServiceRole = ServiceRole::Auth;
    const TITLE: &'static str = "HBC auth";
    const ABOUT: &'static str = "Accounts, sessions, agency approval, and custody of signing keys.";
    const MIGRATIONS: &'static [Migration] = store::MIGRATIONS;
    type Config = Config;
    /// What a password hash costs.
    type Parts = Cost;
    type App = app::App;
    type Events = ledger::Events;

    fn routes(table: &mut Routes<'_>) {
        routes::table(table);
    }

    fn tokens(config: &Config) -> anyhow::Result<TokenKeys> {
        Ok(TokenKeys::Known(config.token_keys()?))
    }

    async fn open(config: &Config, base: Base, cost: Cost) -> anyhow::Result<app::App> {
        base.check_key("rows key", &config.rows_key_file).await?;
        let app = app::App::open(config, base, cost)?;
        if let Some(file) = &config.operators_file {
            flows::operators::import(&app, file).await?;
        }
        Ok(app)
    }

    fn serve(server: ServerBuilder) -> ServerBuilder {
        server.dialect(routes::oauth::dialect()).cross_origin(&["/oauth/", "/.well-known/"])
    }

    fn events(app: &app::App) -> ledger::Events {
        ledger::Events(app.clone())
    }

    fn jobs() -> Jobs<app::App> {
        jobs::list()
    }
}
