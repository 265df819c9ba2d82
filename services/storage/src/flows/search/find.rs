//! Finding: candidate rows, their facts, FHIR's rules.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use hbc_types::classify::type_categories;
use hbc_types::ids::{PatientId, RecordId};

use crate::app::{App, blocking};
use crate::domain::index::{Identifier, Sought as Identified};
use crate::domain::moment::Span;
use crate::domain::reference::Bases;
use crate::domain::resource::fhir_id;
use crate::domain::search::facts::{Fact, Facts};
use crate::domain::search::matching::{Clause, OWN_CATEGORY, Test, Token};
use crate::domain::search::parameters::parameters;
use crate::domain::search::sorting::{By, keys};
use crate::error::Error;
use crate::flows::indexing;
use crate::flows::opened::Opened;
use crate::flows::read::{self, Range};
use crate::flows::search::{AT_ONCE, Found, Hit, MOST_CANDIDATES, Searcher, Sought, TOO_MANY};
use crate::store::{Filter, StoredRecord, TrustedRow};

/// Records that are opened for one search because they are indexed in an earlier way, at most.
const MOST_OUTDATED: usize = 1_000;
/// Of them, at once: as many as one read brings up to date.
const OPENED_AT_ONCE: usize = 50;

/// Finds what meets a query in a range, in no order.
pub async fn find(app: &App, searcher: &Searcher, range: &Range, sought: &Sought) -> Result<Found, Error> {
    let judge = Arc::new(Judge::new(app, searcher, range, sought)?);
    let mut filter = narrowed(app, range, sought);
    let (mut found, mut outdated, mut looked_at) = (Found::default(), Vec::new(), 0);
    loop {
        let rows = app.store.list(&range.token, &range.sets, &filter).await?;
        let ended = rows.len() < AT_ONCE as usize;
        looked_at += rows.len();
        if looked_at > MOST_CANDIDATES {
            return Err(Error::TooCostly(TOO_MANY));
        }
        filter.after = rows.last().map(|row| (row.row.created_at, row.row.id.as_str().to_owned()));
        let this = Arc::clone(&judge);
        let (hits, earlier) = blocking(move || this.judge(rows)).await?;
        found.hits.extend(hits);
        outdated.extend(earlier);
        if outdated.len() > MOST_OUTDATED {
            bring_up_to_date(app, searcher, &judge, outdated).await?;
            return Err(Error::TooCostly("records are being indexed anew: ask again"));
        }
        if ended {
            break;
        }
    }
    if !outdated.is_empty() {
        // By its days a lost one may be known not to be meant.
        let meant: Vec<RecordId> =
            outdated.iter().filter(|row| filter.touches(&row.row)).map(|row| row.row.id.clone()).collect();
        let opened = bring_up_to_date(app, searcher, &judge, outdated).await?;
        let seen: HashSet<&RecordId> = opened.iter().map(|one| &one.trusted.row.id).collect();
        found.incomplete = meant.iter().any(|id| !seen.contains(id));
        for one in &opened {
            let facts = indexing::read(&one.trusted.row.kind, &one.applied()?)?;
            found.hits.extend(judge.weigh(one.trusted.clone(), facts));
        }
    }
    // One that was changed while this looked comes twice: its newest version counts.
    let mut newest: HashMap<RecordId, u32> = HashMap::new();
    for Hit { trusted, .. } in &found.hits {
        let version = newest.entry(trusted.row.id.clone()).or_default();
        *version = trusted.row.version.max(*version);
    }
    found.hits.retain(|hit| newest.get(&hit.trusted.row.id) == Some(&hit.trusted.row.version));
    Ok(found)
}

/// What the database can leave out by itself: by days, where they are those of the parameter, and by one exact identifier or code.
fn narrowed(app: &App, range: &Range, sought: &Sought) -> Filter {
    let mut filter = Filter { undated: true, ..sought.filter() };
    // Of these types, FHIR's `date` is what the days of a record are of.
    let dated = matches!(
        sought.kind.as_str(),
        "Observation" | "DiagnosticReport" | "Procedure" | "Encounter" | "Immunization"
    );
    for clause in &sought.clauses {
        match &clause.test {
            Test::When(dates) if clause.name == "date" && dated && filter.dates.is_empty() => {
                filter.dates = dates.clone();
            }
            Test::Token(tokens) if filter.token.is_none() => {
                filter.token = stored_token(app, range, sought, &clause.name, tokens);
            }
            _ => {}
        }
    }
    filter
}

/// The token that stands in the database for the one identifier or code that is asked for.
fn stored_token(app: &App, range: &Range, sought: &Sought, name: &str, tokens: &[Token]) -> Option<String> {
    let [Token { system, code: Some(code) }] = tokens else { return None };
    let kind = sought.kind.as_str();
    let parameter = parameters().ok()?.find(kind, name)?;
    match (name, system) {
        ("identifier", system) if parameter.path == format!("{kind}.identifier") => {
            let value = code.clone();
            let identified = match system.clone() {
                Some(system) => Identified::Exact(Identifier { system, value }),
                None => Identified::Value(value),
            };
            Some(app.index.sought(&range.patient, kind, &identified))
        }
        ("code", Some(system)) if parameter.path == format!("{kind}.code") && !system.is_empty() => {
            // An element that is a code alone has no token.
            matches!(kind, "Observation" | "Condition" | "Procedure" | "DiagnosticReport")
                .then(|| app.index.code(&range.patient, system, code))
        }
        _ => None,
    }
}

/// Opens records that are indexed in an earlier way; whoever may read them brings them up to date by it.
async fn bring_up_to_date(
    app: &App,
    searcher: &Searcher,
    judge: &Judge,
    rows: Vec<TrustedRow>,
) -> Result<Vec<Opened>, Error> {
    let mut opened = Vec::with_capacity(rows.len());
    let mut rows = rows.into_iter().take(MOST_OUTDATED).peekable();
    while rows.peek().is_some() {
        let (mut some, mut bytes) = (Vec::new(), 0_u64);
        while let Some(row) = rows.next_if(|row| {
            some.is_empty() || (some.len() < OPENED_AT_ONCE && bytes + row.row.length <= read::MAX_BYTES)
        }) {
            bytes += row.row.length;
            some.push(row);
        }
        // One that is lost spoils no search.
        let found = read::open(app, &searcher.reader, &judge.range.patient, some, |_lost| true).await?;
        opened.extend(found.records);
    }
    Ok(opened)
}

/// Looks at rows.
struct Judge {
    app: App,
    range: Range,
    clauses: Vec<Clause>,
    order: Vec<By>,
    told: Option<String>,
    bases: Bases,
    /// Whether FHIR has no `date` for the type: then it is when what a record tells of happened.
    own_date: bool,
}

impl Judge {
    fn new(app: &App, searcher: &Searcher, range: &Range, sought: &Sought) -> Result<Self, Error> {
        Ok(Self {
            app: app.clone(),
            range: range.clone(),
            clauses: sought.clauses.clone(),
            order: sought.order.clone(),
            told: sought.told.clone(),
            bases: searcher.bases.clone(),
            own_date: parameters()?.find(&sought.kind, "date").is_none(),
        })
    }

    /// The rows that meet what is asked, and those of which it is not known.
    fn judge(&self, rows: Vec<StoredRecord>) -> Result<(Vec<Hit>, Vec<TrustedRow>), Error> {
        let (mut hits, mut outdated) = (Vec::new(), Vec::new());
        for row in rows {
            let mut trusted = self.range.open(&self.app, row)?;
            if !self.range.readable.covers(trusted.labels(), trusted.row.created_at) {
                continue;
            }
            let facts = if trusted.is_outdated() { None } else { indexing::open(&self.app, &trusted.row)? };
            trusted.row.facts = None;
            match facts {
                Some(facts) => hits.extend(self.weigh(trusted, facts)),
                None => outdated.push(trusted),
            }
        }
        Ok((hits, outdated))
    }

    fn weigh(&self, trusted: TrustedRow, mut facts: Facts) -> Option<Hit> {
        add_row(&mut facts, &trusted, self.own_date);
        let meant = self.clauses.iter().all(|clause| clause.holds(&facts, &self.bases));
        let told = |name: &String| facts.get(name).to_vec();
        meant.then(|| Hit {
            keys: keys(&facts, &self.order),
            told: self.told.as_ref().map(told).unwrap_or_default(),
            trusted,
        })
    }
}

/// Adds what a row says of its record: by which id it is known, when it was written, HBC's category.
pub fn add_row(facts: &mut Facts, trusted: &TrustedRow, own_date: bool) {
    let row = &trusted.row;
    let id = fhir_id(&row.kind, &row.id, &trusted.secret.patient);
    facts.add("_id", Fact::Code(id.to_owned()));
    if id != row.id.as_str() {
        // The account's Patient was called by its record once.
        facts.add("_id", Fact::Code(row.id.as_str().to_owned()));
    }
    let updated = row.created_at.ms().saturating_mul(1_000);
    facts.add("_lastUpdated", Fact::When(Span(Some(updated), Some(updated.saturating_add(999)))));
    facts.add(OWN_CATEGORY, Fact::Code(row.category.code().to_owned()));
    if own_date && let Some(when) = trusted.secret.when {
        facts.add("date", Fact::When(when));
    }
}

/// What a reader may read of a type, or nothing where that is nothing: whoever asks beside what is searched is not refused.
async fn range_of(app: &App, searcher: &Searcher, kind: &str) -> Result<Option<Range>, Error> {
    match read::range(app, &searcher.reader, &searcher.patient, type_categories(kind)).await {
        Ok(range) => Ok(Some(range)),
        Err(Error::Denied { .. } | Error::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Records of a type that may be read and meet some clauses, wherever such records can be.
pub async fn find_beside(
    app: &App,
    searcher: &Searcher,
    kind: &str,
    clauses: &[Clause],
    told: Option<&str>,
) -> Result<Vec<(PatientId, Hit)>, Error> {
    let mut all = Vec::new();
    for account in searcher.accounts(kind) {
        let there = searcher.within(&account);
        let Some(range) = range_of(app, &there, kind).await? else { continue };
        let found = find(app, &there, &range, &Sought::of(kind, clauses.to_vec(), told)).await?;
        all.extend(found.hits.into_iter().map(|hit| (account.clone(), hit)));
    }
    Ok(all)
}
