//! Searching under `/fhir`: the facts of what the reader may read are opened and compared in memory.
//!
//! decision → candidate rows (newest versions of the type, of the label sets that may be read) → their facts → FHIR's rules →
//! order → page. Nothing that may not be read is a candidate: it shows in no total, order, chain or include.
//!
//! Why: decision 0137.

mod chains;
mod find;
mod includes;
mod pages;
mod run;

pub use find::find;
pub use pages::{Place, fitting, plain_page};
pub use run::{Results, Run};

use std::collections::{HashMap, HashSet};

use hbc_types::classify::type_category;
use hbc_types::ids::PatientId;
use hbc_types::labels::Category;
use hbc_types::scope::{Interaction, Scopes};

use crate::domain::reference::Bases;
use crate::domain::resource::fhir_id;
use crate::domain::search::facts::Fact;
use crate::domain::search::matching::Clause;
use crate::domain::search::sorting::{By, Key, compare};
use crate::error::Error;
use crate::flows::read::{Range, RecordReader};
use crate::store::{Filter, TrustedRow};

/// Rows that one search looks at, at most.
const MOST_CANDIDATES: usize = 20_000;
/// Rows that are fetched at once.
const AT_ONCE: u32 = 500;
/// What is said where more would have to be looked at.
const TOO_MANY: &str = "too many records would be looked at: name a patient, dates or codes";

/// Who searches, in what.
#[derive(Clone, Debug)]
pub struct Searcher {
    /// Who reads, and why.
    pub reader: RecordReader,
    /// What a client may ask for; nothing for people.
    pub scopes: Option<Scopes>,
    /// The account, or the directory.
    pub patient: PatientId,
    /// The deployment's own URLs.
    pub bases: Bases,
}

impl Searcher {
    /// Whether resources of a type may be searched at all.
    #[must_use]
    pub fn may_search(&self, kind: &str) -> bool {
        self.scopes.as_ref().is_none_or(|scopes| scopes.allow(kind, Interaction::Search))
    }

    /// The same in another account.
    fn within(&self, patient: &PatientId) -> Self {
        Self { patient: patient.clone(), ..self.clone() }
    }

    /// Where resources of a type can be: types of the directory stand there, too.
    fn accounts(&self, kind: &str) -> Vec<PatientId> {
        let directory = PatientId::directory();
        match type_category(kind) {
            Some(Category::Directory) if self.patient != directory => vec![self.patient.clone(), directory],
            _ => vec![self.patient.clone()],
        }
    }
}

/// An account that is searched, and what may be read there.
#[derive(Clone, Debug)]
pub struct Account {
    /// Who searches there.
    pub searcher: Searcher,
    /// What may be read.
    pub range: Range,
}

/// What is asked of the records of a type.
#[derive(Clone, Debug)]
pub struct Sought {
    /// The type.
    pub kind: String,
    /// Only HBC's category.
    pub category: Option<Category>,
    /// What must hold.
    pub clauses: Vec<Clause>,
    /// How they are ordered.
    pub order: Vec<By>,
    /// The parameter whose values are told of each.
    pub told: Option<String>,
}

impl Sought {
    /// Of a type, in no order.
    fn of(kind: &str, clauses: Vec<Clause>, told: Option<&str>) -> Self {
        let told = told.map(str::to_owned);
        Self { kind: kind.to_owned(), category: None, clauses, order: Vec::new(), told }
    }

    /// The rows that may be meant.
    #[must_use]
    pub fn filter(&self) -> Filter {
        Filter {
            category: self.category,
            kind: Some(self.kind.clone()),
            resources: true,
            limit: AT_ONCE,
            ..Filter::default()
        }
    }
}

/// A record that meets what is asked.
#[derive(Clone, Debug)]
pub struct Hit {
    /// Its row, without its facts: there may be many.
    pub trusted: TrustedRow,
    /// The values of the parameter that is to be told.
    pub told: Vec<Fact>,
    /// Its place in the order.
    pub keys: Vec<Option<Key>>,
}

/// What a search finds.
#[derive(Debug, Default)]
pub struct Found {
    /// In their order.
    pub hits: Vec<Hit>,
    /// Whether records that are indexed in an earlier way could not be looked at: their bytes are lost.
    pub incomplete: bool,
}

impl Found {
    /// Adds what another account has.
    fn add(&mut self, other: Self) -> Result<(), Error> {
        self.hits.extend(other.hits);
        self.incomplete |= other.incomplete;
        if self.hits.len() > MOST_CANDIDATES { Err(Error::TooCostly(TOO_MANY)) } else { Ok(()) }
    }

    /// Brings them into an order; what is equal is in the order in which it was written.
    fn sort(&mut self, order: &[By]) {
        let place = |hit: &Hit| (hit.trusted.row.created_at, hit.trusted.row.id.clone());
        self.hits.sort_by(|one, other| {
            compare(&one.keys, &other.keys, order).then_with(|| place(one).cmp(&place(other)))
        });
    }

    /// Leaves of each code the first ones. What has no coding stands for itself.
    pub fn keep_of_each_code(&mut self, most: usize) {
        let mut seen: HashMap<String, usize> = HashMap::new();
        self.hits.retain(|hit| {
            let code = hit.told.iter().find_map(|fact| match fact {
                Fact::Token(system, Some(code)) => {
                    Some(format!("{}|{code}", system.as_deref().unwrap_or_default()))
                }
                _ => None,
            });
            let Some(code) = code else { return true };
            let count = seen.entry(code).or_default();
            *count += 1;
            *count <= most
        });
    }
}

/// `Type/id` of a record, as references name it.
fn name_of(trusted: &TrustedRow) -> String {
    let row = &trusted.row;
    format!("{}/{}", row.kind, fhir_id(&row.kind, &row.id, &trusted.secret.patient))
}

/// `Type/id` of records.
fn names_of<'t>(rows: impl Iterator<Item = &'t TrustedRow>) -> HashSet<String> {
    rows.map(name_of).collect()
}
