//! Records that were indexed in an earlier way are indexed anew when somebody who may read them does: storage cannot open them
//! alone.
//!
//! Why: decision 0135.

use serde_json::Value;

use crate::app::{App, blocking};
use crate::domain::days::{self, Days};
use crate::domain::index;
use crate::domain::resource::{DOCUMENT, codes, identifiers};
use crate::error::Error;
use crate::flows::indexing;
use crate::flows::opened::Opened;
use crate::store::{self, NewRecord};

/// Records that one request indexes anew, at most: the others wait until they are read again.
const AT_ONCE: usize = 50;

/// Indexes what was opened anew, where it must be. A read does not fail by it.
pub async fn bring_up_to_date(app: &App, opened: &[Opened]) {
    let outdated = opened.iter().filter(|opened| opened.trusted.is_outdated());
    let outdated: Vec<Opened> = outdated.take(AT_ONCE).cloned().collect();
    if outdated.is_empty() {
        return;
    }
    if let Err(error) = index_anew(app, outdated).await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "Records that were read could not be indexed anew yet"
        );
    }
}

async fn index_anew(app: &App, outdated: Vec<Opened>) -> Result<(), Error> {
    let this = app.clone();
    let records =
        blocking(move || outdated.iter().map(|opened| record(&this, opened)).collect::<Result<Vec<_>, _>>());
    let records = std::sync::Arc::new(records.await?);
    app.db
        .write(move |tx| {
            Box::pin(async move {
                for record in records.iter() {
                    store::index_anew(tx, record).await?;
                }
                Ok::<_, Error>(())
            })
        })
        .await
}

/// A record as it is indexed now.
fn record(app: &App, opened: &Opened) -> Result<NewRecord, Error> {
    let (mut row, mut secret) = (opened.trusted.row.clone(), opened.trusted.secret.clone());
    let mut tokens = Vec::new();
    // A document says nothing of itself but what its sender said beside it.
    if row.kind != DOCUMENT {
        let resource: Value = serde_json::from_slice(&opened.received).unwrap_or_default();
        secret.when = days::span(&resource);
        (row.date0, row.date1) = Days::of(&resource).map(|days| days.indexed(secret.when)).unzip();
        tokens = app.index.search(&secret.patient, &row.kind, &identifiers(&resource), &codes(&resource));
        row.facts = Some(indexing::facts(app, &row.id, row.version, &row.kind, &opened.applied()?)?);
    }
    row.index_version = index::VERSION;
    row.encrypted = app
        .index
        .encrypt_row(&row.bound(), &secret, &app.random)
        .map_err(|_never| Error::Fault("a row could not be encrypted"))?;
    Ok(NewRecord { row, tokens, condition: None, meets: Vec::new() })
}
