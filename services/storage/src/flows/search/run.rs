//! One search from its query to opened records: in one account, or in all that the caller has live grants of.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use hbc_types::ids::{PatientId, RecordId};
use hbc_types::labels::Category;

use crate::app::App;
use crate::domain::search::query::Query;
use crate::domain::search::sorting::By;
use crate::error::Error;
use crate::flows::opened::Opened;
use crate::flows::read;
use crate::flows::search::chains::resolve;
use crate::flows::search::find::find;
use crate::flows::search::includes::beside;
use crate::flows::search::pages::{Page, Place, page, plain_page};
use crate::flows::search::{Account, Found, Searcher, Sought};
use crate::store::TrustedRow;

/// Patients that one search runs over, at most.
pub const MOST_PATIENTS: usize = 50;

/// A search.
#[derive(Debug)]
pub struct Run<'r> {
    /// The type.
    pub kind: &'r str,
    /// What is asked.
    pub query: &'r Query,
    /// Beside which record the page begins.
    pub place: Option<Place>,
    /// Of each code only so many, the latest.
    pub last: Option<usize>,
}

/// What a search shows.
#[derive(Debug, Default)]
pub struct Results {
    /// The results of the page.
    pub matches: Vec<Opened>,
    /// What is shown beside them.
    pub beside: Vec<Opened>,
    /// How many there are in all, if that is asked and known.
    pub total: Option<u64>,
    /// Where the next page begins.
    pub next: Option<Place>,
    /// Where the page before ends.
    pub previous: Option<Place>,
    /// Categories that the reader may see nothing of.
    pub left_out: Vec<Category>,
    /// Whether records could not be looked at: their bytes are lost.
    pub lost: bool,
    /// Whether more would be shown beside the results.
    pub cut: bool,
}

impl Run<'_> {
    /// Searches one account.
    pub async fn one(&self, app: &App, searcher: Searcher) -> Result<Results, Error> {
        let categories = self.sought().filter().categories();
        let range = read::range(app, &searcher.reader, &searcher.patient, categories).await?;
        self.over(app, &[Account { searcher, range }]).await
    }

    /// Searches the accounts of which the caller has live grants. Where nothing may be read, nothing is found.
    pub async fn granted(&self, app: &App, searcher: &Searcher) -> Result<Results, Error> {
        let patients = app.policy.granted(&searcher.reader.token, MOST_PATIENTS).await?;
        let patients = patients.ok_or(Error::TooCostly("too many patients would be looked at: name one"))?;
        let mut accounts = Vec::with_capacity(patients.len());
        for patient in patients {
            let there = searcher.within(&patient);
            let categories = self.sought().filter().categories();
            match read::range(app, &there.reader, &patient, categories).await {
                Ok(range) => accounts.push(Account { searcher: there, range }),
                Err(Error::Denied { .. } | Error::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        if accounts.is_empty() {
            return match read::absent(app, &searcher.reader).await {
                Error::NotFound => {
                    let total = self.query.shown.total.then_some(0);
                    Ok(Results { total, ..Results::default() })
                }
                refused => Err(refused),
            };
        }
        self.over(app, &accounts).await
    }

    fn sought(&self) -> Sought {
        let latest = || vec![By { name: "date".to_owned(), descending: true }];
        Sought {
            kind: self.kind.to_owned(),
            category: self.query.category,
            clauses: Vec::new(),
            order: self.last.map_or_else(|| self.query.order.clone(), |_| latest()),
            told: self.last.map(|_| "code".to_owned()),
        }
    }

    async fn over(&self, app: &App, accounts: &[Account]) -> Result<Results, Error> {
        let (page, total, lost) = self.page(app, accounts).await?;
        let Page { rows, next, previous, .. } = page;
        let matches = open(app, accounts, rows).await?;
        let mut results = Results { total, next, previous, lost, ..Results::default() };
        for Account { searcher, range } in accounts {
            let own = matches.iter().filter(|one| one.trusted.secret.patient == searcher.patient);
            let own: Vec<Opened> = own.cloned().collect();
            let shown = beside(app, searcher, self.query, &own).await?;
            results.beside.extend(shown.records);
            results.cut |= shown.incomplete;
            results.left_out.extend(&range.left_out);
        }
        // Two patients' results may refer to the same of the directory.
        let mut seen: BTreeSet<RecordId> = BTreeSet::new();
        results.beside.retain(|one| seen.insert(one.trusted.row.id.clone()));
        results.left_out = results.left_out.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        results.matches = matches;
        Ok(results)
    }

    /// The rows of the page, how many there are in all, and whether some could not be looked at.
    async fn page(&self, app: &App, accounts: &[Account]) -> Result<(Page, Option<u64>, bool), Error> {
        let (mut sought, count, place) = (self.sought(), self.query.shown.count, self.place.as_ref());
        if let ([Account { range, .. }], true, None) = (accounts, self.query.is_plain(), self.last) {
            let page = plain_page(app, range, sought.filter(), (place, count), |_any| true).await?;
            let total = match self.query.shown.total {
                true => Some(read::count(app, range, &sought.filter()).await?),
                false => None,
            };
            return Ok((page, total, false));
        }
        let mut found = Found::default();
        for Account { searcher, range } in accounts {
            sought.clauses = resolve(app, searcher, self.kind, self.query).await?;
            found.add(find(app, searcher, range, &sought).await?)?;
        }
        found.sort(&sought.order);
        if let Some(most) = self.last {
            found.keep_of_each_code(most);
        }
        let lost = found.incomplete;
        let page = page(app, accounts, &sought, found, (place, count as usize)).await?;
        let total = (self.query.shown.total && !lost).then_some(page.total);
        Ok((page, total, lost))
    }
}

/// Opens rows of several accounts, in their order.
async fn open(app: &App, accounts: &[Account], rows: Vec<TrustedRow>) -> Result<Vec<Opened>, Error> {
    let places: HashMap<RecordId, usize> =
        rows.iter().enumerate().map(|(place, row)| (row.row.id.clone(), place)).collect();
    let mut of_patient: BTreeMap<PatientId, Vec<TrustedRow>> = BTreeMap::new();
    for row in rows {
        of_patient.entry(row.secret.patient.clone()).or_default().push(row);
    }
    let mut opened = Vec::with_capacity(places.len());
    for Account { searcher, .. } in accounts {
        let rows = of_patient.remove(&searcher.patient).unwrap_or_default();
        opened.extend(
            read::open(app, &searcher.reader, &searcher.patient, rows, |_needed| false).await?.records,
        );
    }
    opened.sort_by_key(|one| places.get(&one.trusted.row.id).copied());
    Ok(opened)
}
