//! The records of a patient's summary: of each type the latest that the reader may read, without what is sensitive.

use std::cmp::Reverse;

use hbc_types::classify::type_categories;
use hbc_types::labels::{Category, Sensitivity};

use crate::app::App;
use crate::domain::summary::{MOST_ROWS, Shown, kinds};
use crate::error::Error;
use crate::flows::read::{self, MAX_BYTES};
use crate::flows::search::{self, Searcher, Sought};
use crate::store::TrustedRow;

/// Of each code of observation, only the latest is shown.
const OF_EACH_CODE: usize = 1;

/// What a summary shows.
#[derive(Debug, Default)]
pub struct Summary {
    /// The patient's own resource.
    pub patient: Option<Vec<u8>>,
    /// The resources.
    pub shown: Vec<Shown>,
    /// Categories of which the reader may see nothing.
    pub left_out: Vec<Category>,
}

/// Gathers what a summary shows.
pub async fn gather(app: &App, searcher: &Searcher) -> Result<Summary, Error> {
    let (reader, patient) = (&searcher.reader, &searcher.patient);
    let kinds: Vec<&str> = kinds().chain(["Patient"]).collect();
    let mut categories: Vec<Category> = kinds.iter().flat_map(|kind| type_categories(kind)).collect();
    categories.sort_unstable();
    categories.dedup();
    let range = read::range(app, reader, patient, categories).await?;
    let mut rows: Vec<TrustedRow> = Vec::new();
    for kind in kinds {
        let told = (kind == "Observation").then(|| "code".to_owned());
        let sought =
            Sought { kind: kind.to_owned(), category: None, clauses: Vec::new(), order: Vec::new(), told };
        let mut found = search::find(app, searcher, &range, &sought).await?;
        found.hits.retain(|hit| hit.trusted.secret.sensitivity == Sensitivity::Normal);
        found.hits.sort_by_key(|hit| Reverse(hit.trusted.secret.when.and_then(|when| when.0.or(when.1))));
        if kind == "Observation" {
            found.keep_of_each_code(OF_EACH_CODE);
        }
        rows.extend(found.hits.into_iter().take(MOST_ROWS).map(|hit| hit.trusted));
    }
    let mut bytes = 0_u64;
    rows.retain(|row| {
        bytes = bytes.saturating_add(row.row.length);
        bytes <= MAX_BYTES
    });
    let mut summary = Summary { left_out: range.left_out, ..Summary::default() };
    for opened in read::open(app, reader, patient, rows, |_needed| false).await?.records {
        let row = &opened.trusted.row;
        let applied = opened.applied()?;
        if row.kind == "Patient" {
            summary.patient = Some(applied);
            continue;
        }
        let value = serde_json::from_slice(&applied).unwrap_or_default();
        let (kind, id) = (row.kind.clone(), row.id.as_str().to_owned());
        summary.shown.push(Shown { kind, id, category: row.category, applied, value });
    }
    Ok(summary)
}
