//! `hbc jobs`: what the services of a deployment owe to do, and beginning anew what failed for good.
//!
//! It opens the services' databases themselves, as `hbc migrate` does, and works whether they run or not. It makes no
//! database and no table.

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum as _;
use hbc_app::Settings as ServiceBase;
use hbc_db::jobs::listing::{self, Listed};
use hbc_db::{Db, DbError, DbOptions};
use hbc_service::config;
use hbc_types::Clock;

use crate::cli::{JobsList, JobsRetry, Role};
use crate::deployment::Deployment;
use crate::say;
use crate::settings::{ServiceSettings, Settings};

/// Jobs read at once.
const PAGE: u32 = 500;

/// Prints the jobs of every service, or of one.
pub async fn list(args: &JobsList, clock: &Clock) -> Result<()> {
    let deployment = Deployment::at(&args.dir)?;
    let services = with_jobs(&deployment, args.service.as_deref())?;
    say(&format!(
        "{:<14} {:>8} {:<9} {:<18} {:>5} {:>9} {:<20} {}",
        "service", "job", "state", "kind", "tries", "owed s", "last error", "about"
    ))?;
    for service in services {
        let db = open(&deployment, &service).await?;
        let mut after = 0;
        loop {
            let page = listing::list(db.reads(), args.failed, after, PAGE)
                .await
                .context("the jobs cannot be read")?;
            for job in &page {
                say(&line(&service.name, job, clock))?;
            }
            match page.last() {
                Some(last) if page.len() == PAGE as usize => after = last.seq,
                _ => break,
            }
        }
        db.close().await;
    }
    Ok(())
}

fn line(service: &str, job: &Listed, clock: &Clock) -> String {
    let owed = clock.now().since(job.owed_at).as_secs();
    let (state, error) = (job.state.name(), job.error.as_deref().unwrap_or("-"));
    let Listed { seq, kind, attempts, key, .. } = job;
    format!("{service:<14} {seq:>8} {state:<9} {kind:<18} {attempts:>5} {owed:>9} {error:<20} {key}")
}

/// Begins jobs of one service anew that failed for good.
pub async fn retry(args: &JobsRetry, clock: &Clock) -> Result<()> {
    let deployment = Deployment::at(&args.dir)?;
    let services = with_jobs(&deployment, Some(&args.service))?;
    let service = services.first().context("no such service")?;
    let db = open(&deployment, service).await?;
    let seqs = if args.all { failed(&db).await? } else { args.jobs.clone() };
    ensure!(!seqs.is_empty(), "no job of {} has failed for good", args.service);
    let mut wrong = Vec::new();
    for seq in seqs {
        let now = clock.now();
        let begun: Result<bool, DbError> =
            db.write(move |tx| Box::pin(async move { listing::retry(tx, seq, now).await })).await;
        if begun.context("the job cannot be changed")? {
            say(&format!("job {seq} of {} begins anew", args.service))?;
        } else {
            wrong.push(seq.to_string());
        }
    }
    db.close().await;
    ensure!(wrong.is_empty(), "not failed for good, or not there: {}", wrong.join(", "));
    Ok(())
}

/// The rows of all jobs that failed for good.
async fn failed(db: &Db) -> Result<Vec<i64>> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let page = listing::list(db.reads(), true, after, PAGE).await.context("the jobs cannot be read")?;
        all.extend(page.iter().map(|job| job.seq));
        match page.last() {
            Some(last) if page.len() == PAGE as usize => after = last.seq,
            _ => return Ok(all),
        }
    }
}

/// The services of the deployment that have jobs, or the one that is named.
fn with_jobs(deployment: &Deployment, name: Option<&str>) -> Result<Vec<ServiceSettings>> {
    let mut services = Settings::read(&deployment.settings())?.services;
    services.retain(|service| service.role != Role::Ledger && name.is_none_or(|name| service.name == name));
    if services.is_empty() {
        bail!("this deployment has no such service with jobs");
    }
    Ok(services)
}

/// Opens a service's database as its configuration names it.
async fn open(deployment: &Deployment, service: &ServiceSettings) -> Result<Db> {
    let role = service.role.to_possible_value().context("a role without a name")?;
    let base: ServiceBase = config::load(role.get_name(), &deployment.config(&service.name))?;
    let options =
        DbOptions { create: false, read_connections: 1, write_connections: 1, ..DbOptions::default() };
    Db::connect(base.database_url()?.expose(), options)
        .await
        .with_context(|| format!("the database of {} cannot be opened", service.name))
}
