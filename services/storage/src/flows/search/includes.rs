//! `_include` and `_revinclude`: what results refer to and what refers to them, as far as the reader may read it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use hbc_types::classify::type_categories;
use hbc_types::ids::{PatientId, RecordId};
use hbc_types::labels::Category;

use crate::app::App;
use crate::domain::readable::{Readable, every_sensitivity};
use crate::domain::reference::Target;
use crate::domain::resource::DOCUMENT;
use crate::domain::search::facts::Fact;
use crate::domain::search::matching::{Clause, Test};
use crate::domain::search::query::{Include, Query};
use crate::error::Error;
use crate::flows::indexing;
use crate::flows::opened::Opened;
use crate::flows::read;
use crate::flows::search::find::find_beside;
use crate::flows::search::{Searcher, name_of, names_of};
use crate::store::TrustedRow;

/// Resources that are shown beside the results of one page, at most.
const MOST_INCLUDED: usize = 1_000;

/// What is shown beside results.
#[derive(Debug, Default)]
pub struct Beside {
    /// The records.
    pub records: Vec<Opened>,
    /// Whether there would be more.
    pub incomplete: bool,
}

/// What is shown beside the results of a page.
pub async fn beside(
    app: &App,
    searcher: &Searcher,
    query: &Query,
    shown: &[Opened],
) -> Result<Beside, Error> {
    if shown.is_empty() || (query.include.is_empty() && query.revinclude.is_empty()) {
        return Ok(Beside::default());
    }
    let known = names_of(shown.iter().map(|opened| &opened.trusted));
    let mut rows: BTreeMap<String, (PatientId, TrustedRow)> = BTreeMap::new();
    for (account, row) in referred_to(app, searcher, query, shown).await? {
        rows.insert(name_of(&row), (account, row));
    }
    for include in &query.revinclude {
        for (account, row) in referring(app, searcher, include, &known).await? {
            rows.insert(name_of(&row), (account, row));
        }
    }
    rows.retain(|name, _| !known.contains(name));
    let mut incomplete = rows.len() > MOST_INCLUDED;
    let mut left = read::MAX_BYTES.saturating_sub(shown.iter().map(|one| one.trusted.row.length).sum());
    let mut of_account: BTreeMap<PatientId, Vec<TrustedRow>> = BTreeMap::new();
    for (account, row) in rows.into_values().take(MOST_INCLUDED) {
        match left.checked_sub(row.row.length) {
            Some(rest) => {
                left = rest;
                of_account.entry(account).or_default().push(row);
            }
            None => incomplete = true,
        }
    }
    let mut records = Vec::new();
    for (account, rows) in of_account {
        let opened = read::open(app, &searcher.reader, &account, rows, |_needed| false).await?;
        records.extend(opened.records);
    }
    Ok(Beside { records, incomplete })
}

/// The readable records that results refer to.
async fn referred_to(
    app: &App,
    searcher: &Searcher,
    query: &Query,
    shown: &[Opened],
) -> Result<Vec<(PatientId, TrustedRow)>, Error> {
    let mut named: BTreeSet<(&'static str, String)> = BTreeSet::new();
    for opened in shown {
        let kind = &opened.trusted.row.kind;
        let includes: Vec<&Include> = query.include.iter().filter(|include| include.kind == *kind).collect();
        if includes.is_empty() {
            continue;
        }
        let facts = indexing::read(kind, &opened.applied()?)?;
        for include in includes {
            for fact in include.names.iter().flat_map(|name| facts.get(name)) {
                let Fact::Reference(Some(text), _, _) = fact else { continue };
                let Target::Own { kind, id } = Target::parse(text, &searcher.bases) else { continue };
                let wanted = include.target.as_deref().is_none_or(|target| target == kind);
                if wanted && searcher.may_search(kind) {
                    named.insert((kind, id));
                }
            }
        }
    }
    let found = look_up(app, searcher, &named).await?;
    readable(app, searcher, found).await
}

/// The records that have these names, of the account or the directory.
async fn look_up(
    app: &App,
    searcher: &Searcher,
    named: &BTreeSet<(&'static str, String)>,
) -> Result<Vec<TrustedRow>, Error> {
    let (mut ids, mut kinds) = (Vec::new(), HashSet::new());
    for (kind, id) in named {
        let id = match RecordId::parse(id) {
            Ok(id) => Some(id),
            Err(_account) if *kind == "Patient" && id == searcher.patient.as_str() => {
                app.store.patient_record(&app.index.patient(&searcher.patient)).await?
            }
            Err(_foreign) => None,
        };
        if let Some(id) = id {
            kinds.insert((*kind, id.clone()));
            ids.push(id);
        }
    }
    let mut found = Vec::new();
    for stored in app.store.records(&ids).await? {
        let is_meant = kinds.iter().any(|(kind, id)| *id == stored.row.id && *kind == stored.row.kind);
        if !is_meant || stored.row.kind == DOCUMENT || stored.row.deleted != 0 {
            continue;
        }
        let trusted = TrustedRow::open(&app.index, stored)?;
        let patient = &trusted.secret.patient;
        if *patient == searcher.patient || patient.is_directory() {
            found.push(trusted);
        }
    }
    Ok(found)
}

/// Of some records, those that may be read.
async fn readable(
    app: &App,
    searcher: &Searcher,
    rows: Vec<TrustedRow>,
) -> Result<Vec<(PatientId, TrustedRow)>, Error> {
    let mut categories: BTreeMap<PatientId, BTreeSet<Category>> = BTreeMap::new();
    for row in &rows {
        // By the type alone: nothing is asked that a record's own labels would tell.
        let all = categories.entry(row.secret.patient.clone()).or_default();
        all.extend(type_categories(&row.row.kind));
    }
    let mut may: BTreeMap<PatientId, Readable> = BTreeMap::new();
    for (account, categories) in categories {
        let asked = every_sensitivity(categories);
        match read::decide(app, &searcher.reader, &account, asked.clone()).await {
            Ok(answer) => {
                may.insert(account, Readable::of(&asked, answer.allowed));
            }
            Err(Error::Denied { .. } | Error::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    let covers = |row: &TrustedRow| {
        may.get(&row.secret.patient).is_some_and(|may| may.covers(row.labels(), row.row.created_at))
    };
    let rows = rows.into_iter().filter(covers);
    Ok(rows.map(|row| (row.secret.patient.clone(), row)).collect())
}

/// The readable records that refer to results.
async fn referring(
    app: &App,
    searcher: &Searcher,
    include: &Include,
    known: &HashSet<String>,
) -> Result<Vec<(PatientId, TrustedRow)>, Error> {
    if !searcher.may_search(&include.kind) {
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    for name in &include.names {
        let clause = Clause { name: name.clone(), test: Test::Among(known.clone()) };
        let found = find_beside(app, searcher, &include.kind, &[clause], None).await?;
        all.extend(found.into_iter().map(|(account, hit)| (account, hit.trusted)));
    }
    Ok(all)
}
