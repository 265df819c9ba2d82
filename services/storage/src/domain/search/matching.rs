//! Whether a record meets what a query asks: FHIR's rules, kind by kind.
//!
//! Source: <https://hl7.org/fhir/R4/search.html#ptypes>.

use std::collections::HashSet;

use crate::domain::date_search::{Dates, Prefix};
use crate::domain::reference::{Bases, Target};
use crate::domain::search::decimal::Decimal;
use crate::domain::search::facts::{Fact, Facts};
use crate::domain::search::text::plain;

/// Under this name a record's own category stands among its facts: it is no element of the resource.
pub const OWN_CATEGORY: &str = "_category";

/// One parameter of a query: it must hold.
#[derive(Clone, Debug)]
pub struct Clause {
    /// The parameter's name.
    pub name: String,
    /// What is asked of its values.
    pub test: Test,
}

/// What is asked of the values of a parameter; of several alternatives one suffices.
#[derive(Clone, Debug)]
pub enum Test {
    /// Whether there are none.
    Missing(bool),
    /// Some value is one of these.
    Token(Vec<Token>),
    /// No value is one of these.
    NotToken(Vec<Token>),
    /// When.
    When(Dates),
    /// A reference names one of these.
    Reference(Vec<Named>),
    /// A reference has one of these identifiers.
    Identifier(Vec<Token>),
    /// A text begins like, is or contains one of these.
    Text(How, Vec<String>),
    /// An amount is within one of these.
    Amount(Vec<Amount>),
    /// A URI is, begins with or is the beginning of one of these.
    Uri(How, Vec<String>),
    /// A reference, or an id, names one of many: `Type/id`.
    Among(HashSet<String>),
}

/// How texts are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It begins like it.
    Begins,
    /// It is it.
    Exact,
    /// It has it in it.
    Contains,
    /// It is a beginning of it.
    Above,
}

/// `code`, `system|code`, `|code`, `system|`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The system: nothing if any, empty if none.
    pub system: Option<String>,
    /// The code; nothing if any.
    pub code: Option<String>,
}

/// What a reference is asked to name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A resource of this deployment by its id alone.
    Id(String),
    /// A resource in one spelling ([`Target::key`]), and as it is written.
    Key(String, String),
    /// As it is written.
    Text(String),
    /// Nothing: the type that is asked for is not the one that is named.
    Nothing,
}

/// An amount that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amount {
    /// How it is compared.
    pub prefix: Prefix,
    /// The number.
    pub number: Decimal,
    /// The system of its unit: nothing if any.
    pub system: Option<String>,
    /// The unit: nothing if any.
    pub unit: Option<String>,
}

impl Clause {
    /// Whether a record's facts meet it; URLs below `bases` are own ones.
    #[must_use]
    pub fn holds(&self, facts: &Facts, bases: &Bases) -> bool {
        let values = facts.get(&self.name);
        let own: &[Fact] = if self.name == "category" { facts.get(OWN_CATEGORY) } else { &[] };
        let is_one = |tokens: &[Token]| {
            let of_own = |token: &Token| token.system.is_none() && own.iter().any(|fact| token.is(fact));
            tokens.iter().any(|token| values.iter().any(|fact| token.is(fact)) || of_own(token))
        };
        match &self.test {
            Test::Missing(missing) => values.is_empty() == *missing,
            Test::Token(tokens) => is_one(tokens),
            Test::NotToken(tokens) => !is_one(tokens),
            Test::When(dates) => values.iter().any(|fact| match fact {
                Fact::When(span) => dates.hold(Some(*span)),
                _ => false,
            }),
            Test::Reference(named) => values.iter().any(|fact| match fact {
                Fact::Reference(Some(text), _, _) => {
                    let target = Target::parse(text, bases);
                    named.iter().any(|named| named.is(text, &target))
                }
                _ => false,
            }),
            Test::Identifier(tokens) => values.iter().any(|fact| match fact {
                Fact::Reference(_, _, Some((system, value))) => {
                    let identifier = Fact::Token(system.clone(), value.clone());
                    tokens.iter().any(|token| token.is(&identifier))
                }
                _ => false,
            }),
            Test::Text(how, texts) => values.iter().any(|fact| match fact {
                Fact::Text(text) => texts.iter().any(|sought| how.is(text, sought)),
                _ => false,
            }),
            Test::Amount(amounts) => amounts.iter().any(|amount| values.iter().any(|fact| amount.is(fact))),
            Test::Uri(how, uris) => values.iter().any(|fact| match fact {
                Fact::Uri(uri) => uris.iter().any(|sought| how.is_uri(uri, sought)),
                _ => false,
            }),
            Test::Among(set) => values.iter().any(|fact| match fact {
                Fact::Reference(Some(text), _, _) => {
                    Target::parse(text, bases).key().is_some_and(|key| set.contains(&key))
                }
                Fact::Code(id) => set.contains(id),
                _ => false,
            }),
        }
    }
}

impl Token {
    /// Whether a value is this one. A code whose system is known without being said is of whatever system is asked for.
    #[must_use]
    pub fn is(&self, fact: &Fact) -> bool {
        match fact {
            Fact::Token(system, code) => {
                let of_system = match self.system.as_deref() {
                    None => true,
                    Some("") => system.is_none(),
                    wanted => system.as_deref() == wanted,
                };
                of_system && self.code.as_ref().is_none_or(|wanted| code.as_ref() == Some(wanted))
            }
            Fact::Code(code) => self.code.as_ref() == Some(code),
            _ => false,
        }
    }
}

impl Named {
    fn is(&self, text: &str, target: &Target) -> bool {
        let written = |sought: &str| text == sought || text.split('|').next() == Some(sought);
        match self {
            Self::Id(sought) => matches!(target, Target::Own { id, .. } if id == sought) || written(sought),
            Self::Key(key, sought) => target.key().as_ref() == Some(key) || written(sought),
            Self::Text(sought) => written(sought),
            Self::Nothing => false,
        }
    }
}

impl How {
    /// `sought` is [`plain`] already, but where texts are compared as they are.
    fn is(self, text: &str, sought: &str) -> bool {
        match self {
            Self::Exact => text == sought,
            Self::Begins => plain(text).starts_with(sought),
            Self::Contains => plain(text).contains(sought),
            Self::Above => false,
        }
    }

    fn is_uri(self, uri: &str, sought: &str) -> bool {
        match self {
            Self::Exact => uri == sought,
            Self::Begins => uri.starts_with(sought),
            Self::Above => sought.starts_with(uri),
            Self::Contains => false,
        }
    }
}

impl Amount {
    fn is(&self, fact: &Fact) -> bool {
        let Fact::Amount { least, most, system, code, unit } = fact else { return false };
        let of_system = match self.system.as_deref() {
            None => true,
            wanted => system.as_deref() == wanted,
        };
        let of_unit = match (&self.system, self.unit.as_deref()) {
            (_, None) => true,
            (Some(_), wanted) => code.as_deref() == wanted,
            (None, wanted) => code.as_deref() == wanted || unit.as_deref() == wanted,
        };
        let end = |text: &Option<String>| text.as_deref().and_then(Decimal::parse);
        of_system && of_unit && self.is_within(end(least), end(most))
    }

    fn is_within(&self, least: Option<Decimal>, most: Option<Decimal>) -> bool {
        let (from, to) = self.number.written_like();
        // What has an open end says no number that could lie within anything.
        let is_equal = least.is_some_and(|least| from <= least) && most.is_some_and(|most| most < to);
        let above = most.is_none_or(|most| most > self.number);
        let below = least.is_none_or(|least| least < self.number);
        match self.prefix {
            Prefix::Eq => is_equal,
            Prefix::Ne => !is_equal,
            Prefix::Gt => above,
            Prefix::Lt => below,
            Prefix::Ge => above || most == Some(self.number),
            Prefix::Le => below || least == Some(self.number),
            Prefix::Sa => least.is_some_and(|least| least > self.number),
            Prefix::Eb => most.is_some_and(|most| most < self.number),
            Prefix::Ap => {
                let (from, to) = self.number.about();
                least.is_none_or(|least| least <= to) && most.is_none_or(|most| from <= most)
            }
        }
    }
}
