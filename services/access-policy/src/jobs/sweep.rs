//! Sweeping: grants whose period is over end, and what nobody needs any more is forgotten.

use std::time::Duration;

use hbc_app::jobs::{JobError, Periodic};
use hbc_db::Lock;
use hbc_types::Timestamp;
use hbc_types::ids::PatientId;

use crate::app::App;
use crate::domain::floors::KINDS;
use crate::error::Error;
use crate::flows::decide::close_fold;
use crate::store;

/// How often what is over is swept away.
const SWEEP: Duration = Duration::from_secs(30);
/// How long an unsigned draft is kept.
const DRAFTS: Duration = Duration::from_secs(60 * 60);

/// Sweeps.
pub struct Sweep;

impl Periodic for Sweep {
    type App = App;
    const KIND: &'static str = "grants.sweep";

    fn period(_app: &App) -> Duration {
        SWEEP
    }

    async fn run(app: &App) -> Result<(), JobError> {
        Ok(sweep(app).await?)
    }
}

/// Ends grants whose period is over and forgets what nobody needs any more.
pub async fn sweep(app: &App) -> Result<(), Error> {
    let now = app.clock.now();
    app.journal.floors().forget(KINDS, now);
    app.db
        .write(move |db| {
            Box::pin(async move {
                store::requests::expire(db, now).await?;
                store::sessions::forget(db, now).await?;
                store::grants::forget_drafts(db, now.minus(DRAFTS)).await?;
                Ok::<(), Error>(())
            })
        })
        .await?;
    let mut conn = app.db.reads().acquire().await.map_err(hbc_db::DbError::from)?;
    let patients = store::grants::patients_with_expired(&mut conn, now).await?;
    let folds = store::receipts::folds_over(&mut conn, now).await?;
    drop(conn);
    for (fingerprint, patient) in folds {
        let this = app.clone();
        let closed: Result<(), Error> = app
            .db
            .write_locked(vec![Lock::exclusive(patient.as_str())], move |db| {
                Box::pin(async move { close_fold(&this, db, fingerprint, now).await })
            })
            .await;
        if let Err(error) = closed {
            tracing::error!(error = &error as &dyn std::error::Error, "Denials could not be closed");
        }
    }
    for patient in patients {
        // One patient's broken rows must not keep the others' grants alive.
        if let Err(error) = sweep_patient(app, patient, now).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "A patient's grants could not be swept"
            );
        }
    }
    Ok(())
}

async fn sweep_patient(app: &App, patient: PatientId, now: Timestamp) -> Result<(), Error> {
    let this = app.clone();
    app.change(vec![Lock::exclusive(patient.as_str())], move |db, changes| {
        Box::pin(async move {
            let Some(mut rights) = store::rights::rights(db, &this.protection, &patient).await? else {
                return Ok(());
            };
            let mut changed = false;
            for grant in &mut rights.grants {
                if grant.sweep(now) {
                    store::grants::update(db, &this.protection, grant).await?;
                    changed = true;
                }
            }
            if changed {
                store::rights::commit(db, &this.protection, rights, (&changes, now)).await?;
            }
            Ok::<(), Error>(())
        })
    })
    .await
}
