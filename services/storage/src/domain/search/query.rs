//! What a query asks: `code=a,b&date=ge2020&_sort=-date&_include=Observation:subject`, read against the table of parameters.
//!
//! A parameter that is not known, or says nothing, is told and left out: whether that is an error, the caller decides. A
//! modifier that is not known, or a value that is none, is an error.
//!
//! Source: <https://hl7.org/fhir/R4/search.html>.

use hbc_types::Timestamp;
use hbc_types::classify::{type_categories, type_category};
use hbc_types::labels::Category;

use crate::domain::criteria::unescape;
use crate::domain::date_search::Dates;
use crate::domain::reference::{Bases, Target};
use crate::domain::search::matching::{Clause, How, Named, Test};
use crate::domain::search::parameters::{Kind, Parameter, Parameters};
use crate::domain::search::results::Part;
use crate::domain::search::sorting::By;
use crate::domain::search::values::{
    DEFAULT_COUNT, MOST, QueryError, alternatives, count, number, plain_text, quantity, token, wrong,
};

/// Types that one chain looks at, at most.
const MOST_TYPES: usize = 8;
/// Searches of other records that one query makes for chains and `_has`, at most.
const MOST_OTHERS: usize = 8;
/// Searches of other records that one query makes for `_revinclude`, at most.
const MOST_REVINCLUDED: usize = 40;

/// What a query is read with.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'r> {
    /// The table.
    pub all: &'r Parameters,
    /// The type that is searched.
    pub kind: &'r str,
    /// The deployment's own URLs.
    pub bases: &'r Bases,
    /// Now.
    pub now: Timestamp,
}

/// A parameter of what a reference names: `performer:Practitioner.name=x`.
#[derive(Clone, Debug)]
pub struct Chain {
    /// The parameter that refers.
    pub name: String,
    /// What is asked of resources of which types; one suffices.
    pub any: Vec<(String, Clause)>,
}

/// A parameter of what refers here: `_has:Observation:patient:code=x`.
#[derive(Clone, Debug)]
pub struct Reverse {
    /// The type that refers.
    pub kind: String,
    /// By which parameter.
    pub name: String,
    /// What is asked of it.
    pub clause: Clause,
}

/// What is shown beside the results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Include {
    /// The type that refers.
    pub kind: String,
    /// By which parameters.
    pub names: Vec<String>,
    /// Only resources of this type.
    pub target: Option<String>,
}

/// What is told of how many results there are, and which part of them is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// On a page.
    pub count: u32,
    /// Whether it is told how many there are in all.
    pub total: bool,
    /// Which part of each.
    pub part: Part,
}

/// A query.
#[derive(Clone, Debug)]
pub struct Query {
    /// Whose records.
    pub subject: Option<String>,
    /// The one category of HBC's own that is asked for.
    pub category: Option<Category>,
    /// What must hold.
    pub clauses: Vec<Clause>,
    /// What must hold of what is referred to.
    pub chains: Vec<Chain>,
    /// What must hold of what refers.
    pub reverse: Vec<Reverse>,
    /// The order.
    pub order: Vec<By>,
    /// What is shown of what results refer to.
    pub include: Vec<Include>,
    /// What is shown of what refers to results.
    pub revinclude: Vec<Include>,
    /// How it is shown.
    pub shown: Shown,
    /// Where the page begins, from a link.
    pub cursor: Option<String>,
    /// Parameters that were left out.
    pub ignored: Vec<String>,
    /// Those that were used, as they came.
    pub used: Vec<(String, String)>,
}

impl Query {
    /// Each chain and each `_has` is a search of its own.
    fn check_others(&self, name: &str) -> Result<bool, QueryError> {
        let chained = self.chains.iter().map(|chain| chain.any.len()).sum::<usize>();
        match chained + self.reverse.len() {
            count if count > MOST_OTHERS => Err(wrong(name, "is one search of other records too many")),
            _ => Ok(true),
        }
    }

    /// Whether records themselves need not be looked at: whose they are, and their category, is all that is asked.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.clauses.is_empty() && self.chains.is_empty() && self.reverse.is_empty() && self.order.is_empty()
    }

    fn new() -> Self {
        Self {
            subject: None,
            category: None,
            clauses: Vec::new(),
            chains: Vec::new(),
            reverse: Vec::new(),
            order: Vec::new(),
            include: Vec::new(),
            revinclude: Vec::new(),
            shown: Shown { count: DEFAULT_COUNT, total: true, part: Part::Whole },
            cursor: None,
            ignored: Vec::new(),
            used: Vec::new(),
        }
    }
}

impl Reader<'_> {
    /// Reads the parameters of a query.
    pub fn read(&self, pairs: &[(String, String)]) -> Result<Query, QueryError> {
        if pairs.len() > MOST {
            return Err(wrong("_query", "has too many parameters"));
        }
        let mut query = Query::new();
        for (name, value) in pairs {
            let is_used = self.control(&mut query, name, value)? || self.filter(&mut query, name, value)?;
            match is_used {
                true => query.used.push((name.clone(), value.clone())),
                false => query.ignored.push(name.clone()),
            }
        }
        Ok(query)
    }

    /// What a query says of its answer.
    fn control(&self, query: &mut Query, name: &str, value: &str) -> Result<bool, QueryError> {
        match name {
            "patient" | "patient:Patient" | "subject:Patient" if query.subject.is_none() => {
                query.subject = Some(value.to_owned());
            }
            "subject" if query.subject.is_none() && self.names_patient(value) => {
                query.subject = Some(value.to_owned());
            }
            "_count" => query.shown.count = count(value)?,
            "_total" => {
                query.shown.total = match value {
                    "none" => false,
                    "estimate" | "accurate" => true,
                    _ => return Err(wrong(name, "must be `none`, `estimate` or `accurate`")),
                }
            }
            "_summary" => match value {
                "true" => query.shown.part = Part::Summary,
                "text" => query.shown.part = Part::Text,
                "data" => query.shown.part = Part::Data,
                "false" => query.shown.part = Part::Whole,
                "count" => query.shown.count = 0,
                _ => return Err(wrong(name, "must be `true`, `text`, `data`, `count` or `false`")),
            },
            "_elements" => {
                let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
                let own =
                    |name: &str| name.strip_prefix(&format!("{}.", self.kind)).unwrap_or(name).to_owned();
                query.shown.part = Part::Elements(names.map(own).collect());
            }
            "_sort" => return self.sort(query, value),
            "_include" => return self.include(query, value),
            "_revinclude" => return self.revinclude(query, value),
            "_cursor" => query.cursor = Some(value.to_owned()),
            "_format" | "_pretty" => {}
            _ if name.starts_with("_include:") || name.starts_with("_revinclude:") => {
                return Err(wrong(name, "has a modifier that is not known here"));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether a `subject` is a patient, or may be: then it says whose records are searched.
    fn names_patient(&self, value: &str) -> bool {
        match Target::parse(value, self.bases) {
            Target::Own { kind, .. } => kind == "Patient",
            Target::Unknown => !value.contains([',', '/']),
            _ => false,
        }
    }

    fn sort(&self, query: &mut Query, value: &str) -> Result<bool, QueryError> {
        let mut order = Vec::new();
        for part in value.split(',') {
            let (name, descending) = match part.strip_prefix('-') {
                Some(name) => (name, true),
                None => (part, false),
            };
            let known = self.all.find(self.kind, name).is_some() || name == "date";
            if !known {
                return Ok(false);
            }
            order.push(By { name: name.to_owned(), descending });
        }
        if order.len() > MOST {
            return Err(wrong("_sort", "has too many parameters"));
        }
        query.order = order;
        Ok(true)
    }

    /// `Type:parameter`, `Type:parameter:Target`, `Type:*`, or for what results refer to also `*`.
    fn include(&self, query: &mut Query, value: &str) -> Result<bool, QueryError> {
        let found = match value {
            "*" => self.named(self.kind, "*", None),
            value => parts(value).and_then(|(kind, name, target)| {
                (kind == self.kind).then(|| self.named(kind, name, target)).flatten()
            }),
        };
        query.include.extend(found.clone());
        Ok(found.is_some() && query.include.len() <= MOST)
    }

    fn revinclude(&self, query: &mut Query, value: &str) -> Result<bool, QueryError> {
        let found = parts(value).and_then(|(kind, name, target)| {
            let meant = target.is_none_or(|target| target == self.kind);
            let mut include = self.named(kind, name, None).filter(|_| meant)?;
            include.names.retain(|name| self.all.find(kind, name).is_some_and(|one| one.can_name(self.kind)));
            (!include.names.is_empty()).then_some(include)
        });
        query.revinclude.extend(found.clone());
        if query.revinclude.iter().map(|include| include.names.len()).sum::<usize>() > MOST_REVINCLUDED {
            return Err(wrong("_revinclude", "is asked for too often"));
        }
        Ok(found.is_some())
    }

    fn named(&self, kind: &str, name: &str, target: Option<&str>) -> Option<Include> {
        let refer = self.all.own(kind).iter().filter(|one| one.kind == Kind::Reference);
        let names: Vec<String> =
            refer.filter(|one| name == "*" || one.name == name).map(|one| one.name.clone()).collect();
        if names.is_empty() && name != "*" {
            return None;
        }
        Some(Include { kind: kind.to_owned(), names, target: target.map(str::to_owned) })
    }

    /// What a query asks of records; whether it was understood.
    fn filter(&self, query: &mut Query, name: &str, value: &str) -> Result<bool, QueryError> {
        if let Some(rest) = name.strip_prefix("_has:") {
            query.reverse.push(self.has(name, rest, value)?);
            return query.check_others(name);
        }
        if let Some((first, rest)) = name.split_once('.') {
            return self.chain(query, (name, first, rest), value);
        }
        let (plain_name, modifier) = match name.split_once(':') {
            Some((name, modifier)) => (name, Some(modifier)),
            None => (name, None),
        };
        if plain_name == "category" && modifier.is_none() && self.own_category(query, value) {
            return Ok(true);
        }
        let Some(parameter) = self.all.find(self.kind, plain_name) else {
            return self.own_date(query, plain_name, modifier, value);
        };
        query.clauses.push(self.clause(parameter, modifier, value)?);
        Ok(true)
    }

    /// One of HBC's own categories: if resources of the type can be of it, or know no other.
    fn own_category(&self, query: &mut Query, value: &str) -> bool {
        // With a system, it is FHIR's element that is meant.
        let Some(category) = Category::parse(value) else { return false };
        let meant =
            type_categories(self.kind).contains(&category) || self.all.find(self.kind, "category").is_none();
        if !meant || query.category.is_some() {
            return false;
        }
        query.category = Some(category);
        true
    }

    /// When what a record tells of happened, for types of which FHIR has no `date`.
    fn own_date(
        &self,
        query: &mut Query,
        name: &str,
        modifier: Option<&str>,
        value: &str,
    ) -> Result<bool, QueryError> {
        if name == "category" {
            return Err(wrong(name, "is not known here"));
        }
        if name != "date" {
            return Ok(false);
        }
        if modifier.is_some() {
            return Err(wrong(name, "has a modifier that is not known here"));
        }
        query.clauses.push(Clause { name: name.to_owned(), test: self.dates(name, value)? });
        Ok(true)
    }

    fn has(&self, name: &str, rest: &str, value: &str) -> Result<Reverse, QueryError> {
        let form = || wrong(name, "must be `_has:Type:parameter:parameter`, one step");
        let (kind, rest) = rest.split_once(':').ok_or_else(form)?;
        let (refers, asked) = rest.split_once(':').ok_or_else(form)?;
        type_category(kind).ok_or_else(form)?;
        let refers = self.all.find(kind, refers).filter(|one| one.can_name(self.kind)).ok_or_else(form)?;
        if asked.contains('.') || asked.starts_with("_has") {
            return Err(form());
        }
        let clause = Reader { kind, ..*self }.one(asked, value).ok_or_else(form)??;
        Ok(Reverse { kind: kind.to_owned(), name: refers.name.clone(), clause })
    }

    fn chain(
        &self,
        query: &mut Query,
        (name, first, rest): (&str, &str, &str),
        value: &str,
    ) -> Result<bool, QueryError> {
        let (first, wanted) = match first.split_once(':') {
            Some((first, kind)) => (first, Some(kind)),
            None => (first, None),
        };
        let Some(parameter) = self.all.find(self.kind, first).filter(|one| one.kind == Kind::Reference)
        else {
            return Ok(false);
        };
        if rest.contains('.') || rest.starts_with("_has") {
            return Err(wrong(name, "is more than one step"));
        }
        let kinds: Vec<&str> = match wanted {
            Some(kind) if parameter.can_name(kind) && type_category(kind).is_some() => vec![kind],
            Some(_) => return Err(wrong(name, "names a type that this cannot be")),
            None => parameter.targets.iter().map(String::as_str).collect(),
        };
        if kinds.len() > MOST_TYPES || kinds.contains(&"*") {
            return Err(wrong(name, "can be of many types: name one, as in `subject:Patient.name`"));
        }
        let mut any = Vec::new();
        for kind in kinds {
            if let Some(clause) = (Reader { kind, ..*self }).one(rest, value) {
                any.push((kind.to_owned(), clause?));
            }
        }
        if any.is_empty() {
            return Ok(false);
        }
        query.chains.push(Chain { name: parameter.name.clone(), any });
        query.check_others(name)
    }

    /// A parameter of the type with its modifier; nothing if there is none of this name.
    fn one(&self, name: &str, value: &str) -> Option<Result<Clause, QueryError>> {
        let (plain_name, modifier) = match name.split_once(':') {
            Some((name, modifier)) => (name, Some(modifier)),
            None => (name, None),
        };
        let parameter = self.all.find(self.kind, plain_name)?;
        Some(self.clause(parameter, modifier, value))
    }

    fn clause(
        &self,
        parameter: &Parameter,
        modifier: Option<&str>,
        value: &str,
    ) -> Result<Clause, QueryError> {
        let name = &parameter.name;
        let test = match (parameter.kind, modifier) {
            (_, Some("missing")) => Test::Missing(match value {
                "true" => true,
                "false" => false,
                _ => return Err(wrong(name, "`missing` is `true` or `false`")),
            }),
            (Kind::Token, None) => Test::Token(alternatives(name, value, token)?),
            (Kind::Token, Some("not")) => Test::NotToken(alternatives(name, value, token)?),
            (Kind::Date, None) => self.dates(name, value)?,
            (Kind::Reference, Some("identifier")) => Test::Identifier(alternatives(name, value, token)?),
            (Kind::Reference, None) => {
                Test::Reference(alternatives(name, value, |text| self.named_by(text))?)
            }
            (Kind::Reference, Some(kind)) if parameter.can_name(kind) && type_category(kind).is_some() => {
                Test::Reference(alternatives(name, value, |text| self.named_of(kind, text))?)
            }
            (Kind::String, None) => Test::Text(How::Begins, alternatives(name, value, plain_text)?),
            (Kind::String, Some("contains")) => {
                Test::Text(How::Contains, alternatives(name, value, plain_text)?)
            }
            (Kind::String, Some("exact")) => Test::Text(How::Exact, alternatives(name, value, unescape)?),
            (Kind::Quantity, None) => Test::Amount(alternatives(name, value, quantity)?),
            (Kind::Number, None) => Test::Amount(alternatives(name, value, number)?),
            (Kind::Uri, None) => Test::Uri(How::Exact, alternatives(name, value, unescape)?),
            (Kind::Uri, Some("below")) => Test::Uri(How::Begins, alternatives(name, value, unescape)?),
            (Kind::Uri, Some("above")) => Test::Uri(How::Above, alternatives(name, value, unescape)?),
            _ => return Err(wrong(name, "has a modifier that is not known here")),
        };
        Ok(Clause { name: name.clone(), test })
    }

    fn dates(&self, name: &str, value: &str) -> Result<Test, QueryError> {
        // The `+` of an offset that was not escaped arrives as a space.
        let value = value.replace(' ', "+");
        let mut dates = Dates::default();
        let form = "must be a date, with one of the prefixes eq ne gt lt ge le sa eb ap";
        dates.add(&value, self.now.ms().saturating_mul(1_000)).ok_or_else(|| wrong(name, form))?;
        Ok(Test::When(dates))
    }

    fn named_by(&self, text: &str) -> Option<Named> {
        let text = unescape(text)?;
        let target = Target::parse(&text, self.bases);
        Some(match (&target, target.key()) {
            (Target::Unknown, _) if !text.contains('/') => Named::Id(text),
            (_, Some(key)) => Named::Key(key, text),
            (_, None) => Named::Text(text),
        })
    }

    fn named_of(&self, kind: &str, text: &str) -> Option<Named> {
        Some(match self.named_by(text)? {
            Named::Id(id) => Named::Key(format!("{kind}/{id}"), text.to_owned()),
            named => match Target::parse(text, self.bases).kind() {
                Some(other) if other != kind => Named::Nothing,
                _ => named,
            },
        })
    }
}

/// `Type:parameter:Target`
fn parts(value: &str) -> Option<(&str, &str, Option<&str>)> {
    let mut parts = value.splitn(3, ':');
    let (kind, name) = (parts.next()?, parts.next()?);
    type_category(kind)?;
    Some((kind, name, parts.next()))
}

#[cfg(test)]
mod tests;
