//! `hbc serve` and `hbc migrate`: one service of the one binary, from its configuration file.

use std::path::Path;

use anyhow::{Context as _, Result};
use hbc_service::config;
use hbc_service::telemetry;

use crate::cli::{Role, Serve};
use crate::stop;

/// Serves until a signal (or the end of input, where asked) stops it.
pub async fn serve(args: &Serve) -> Result<()> {
    // A panic's message may quote what it choked on; where it happened is enough for the log.
    telemetry::hide_panic_messages();
    let stop = stop::requested(args.until_input_closes)?;
    let path = &args.config;
    // One arm per service: their configurations are types of their own.
    match args.role {
        Role::Auth => {
            let config: hbc_auth::Config = config::load("auth", path)?;
            telemetry::init(&config.base.telemetry)?;
            hbc_auth::Application::build(config)
                .await
                .context("auth cannot start")?
                .run_until_stopped(stop)
                .await
        }
        Role::AccessPolicy => {
            let config: hbc_access_policy::Config = config::load("access-policy", path)?;
            telemetry::init(&config.base.telemetry)?;
            let application = hbc_access_policy::Application::build(config).await;
            application.context("access-policy cannot start")?.run_until_stopped(stop).await
        }
        Role::Storage => {
            let config: hbc_storage::Config = config::load("storage", path)?;
            telemetry::init(&config.base.telemetry)?;
            let application = hbc_storage::Application::build(config).await;
            application.context("storage cannot start")?.run_until_stopped(stop).await
        }
        Role::Ledger => {
            let config: hbc_ledger::Config = config::load("ledger", path)?;
            telemetry::init(&config.telemetry)?;
            let application = hbc_ledger::Application::build(config).await;
            application.context("the ledger node cannot start")?.run_until_stopped(stop).await
        }
    }
}

/// Brings the service's database to the present schema.
pub async fn migrate(role: Role, path: &Path) -> Result<()> {
    match role {
        Role::Auth => hbc_app::migrate::<hbc_auth::Auth>(&config::load("auth", path)?).await,
        Role::AccessPolicy => {
            hbc_app::migrate::<hbc_access_policy::AccessPolicy>(&config::load("access-policy", path)?).await
        }
        Role::Storage => hbc_app::migrate::<hbc_storage::Storage>(&config::load("storage", path)?).await,
        Role::Ledger => hbc_ledger::migrate(&config::load("ledger", path)?).await,
    }
}
