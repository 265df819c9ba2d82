//! Conditions (`If-None-Exist`, conditional references): FHIR's token search over identifiers.
//!
//! `system|value`, `|value` (of no system), `value` (of whatever system), `system|` (whatever value), and several of them
//! after commas, of which one suffices. `\,`, `\|`, `\$` and `\\` stand for the characters themselves.
//!
//! Source: <https://hl7.org/fhir/R4/search.html#token>, <https://hl7.org/fhir/R4/search.html#escaping>.

use hbc_types::classify;

use crate::domain::index::{Condition, Identifier, Sought};
use crate::domain::reference::Target;

/// Alternatives of one condition at most: each is looked up.
const MOST_ALTERNATIVES: usize = 64;

/// What is said of a condition that is not understood.
pub const FORM: &str = "must be `identifier=system|value`, or what else FHIR's search for identifiers takes";

/// `Type?identifier=…`: the one kind of condition that is understood.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Criteria {
    /// The resource type.
    pub kind: String,
    /// What is looked for: one suffices. In order, each once.
    pub any: Vec<Sought>,
}

impl Criteria {
    /// Parses `identifier=…` for a type.
    #[must_use]
    pub fn parse(kind: &str, query: &str) -> Option<Self> {
        classify::type_category(kind)?;
        if query.contains('&') {
            return None;
        }
        let value = decode(query.strip_prefix("identifier=")?)?;
        if value.chars().any(char::is_control) {
            return None;
        }
        let mut any: Vec<Sought> = split(&value, ',').map(sought).collect::<Option<_>>()?;
        any.sort();
        any.dedup();
        (any.len() <= MOST_ALTERNATIVES).then(|| Self { kind: kind.to_owned(), any })
    }

    /// Of `If-None-Exist` or `ifNoneExist`: the parameters alone, as FHIR has it, or after the address that is searched, as
    /// HAPI's client sends them.
    #[must_use]
    pub fn of_condition(kind: &str, text: &str) -> Option<Self> {
        let query = match text.split_once('?') {
            Some((address, query)) if !address.contains('=') => {
                let searched = address.rsplit('/').next().unwrap_or_default();
                (searched.is_empty() || searched == kind).then_some(query)?
            }
            _ => text,
        };
        Self::parse(kind, query)
    }

    /// Of a conditional reference.
    #[must_use]
    pub fn of_reference(target: &Target) -> Option<Self> {
        match target {
            Target::Search { kind, query } => Self::parse(kind, query),
            _ => None,
        }
    }

    /// What has this identifier.
    #[must_use]
    pub fn identified(kind: &str, identifier: &Identifier) -> Self {
        Self { kind: kind.to_owned(), any: vec![Sought::Exact(identifier.clone())] }
    }

    /// A Patient with this identifier.
    #[must_use]
    pub fn of_patient(identifier: &Identifier) -> Self {
        Self::identified("Patient", identifier)
    }

    /// The one identifier that it names, if it names one.
    #[must_use]
    pub fn identifier(&self) -> Option<&Identifier> {
        match self.any.as_slice() {
            [Sought::Exact(identifier)] => Some(identifier),
            _ => None,
        }
    }

    /// It in one spelling.
    #[must_use]
    pub fn text(&self) -> String {
        let escape = |text: &str| text.replace('\\', "\\\\").replace(',', "\\,").replace('|', "\\|");
        let any = self.any.iter().map(|sought| match sought {
            Sought::Exact(Identifier { system, value }) => format!("{}|{}", escape(system), escape(value)),
            Sought::Value(value) => escape(value),
            Sought::System(system) => format!("{}|", escape(system)),
        });
        any.collect::<Vec<_>>().join(",")
    }

    /// What a record that is created under it is unique by, where `text` is [`Self::text`].
    #[must_use]
    pub fn unique<'c>(&'c self, text: &'c str) -> Condition<'c> {
        self.identifier().map_or(Condition::Any(text), Condition::Identifier)
    }
}

fn sought(text: &str) -> Option<Sought> {
    let mut parts = split(text, '|');
    let first = unescape(parts.next()?)?;
    // A value may have further bars in it.
    let rest = parts.next().map(|second| std::iter::once(second).chain(parts).collect::<Vec<_>>().join("|"));
    match (first, rest.map(|rest| unescape(&rest))) {
        (_, Some(None)) => None,
        (value, None) => (!value.is_empty()).then_some(Sought::Value(value)),
        (system, Some(Some(value))) if value.is_empty() => {
            (!system.is_empty()).then_some(Sought::System(system))
        }
        (system, Some(Some(value))) => Some(Sought::Exact(Identifier { system, value })),
    }
}

/// The parts between separators that no backslash escapes.
pub fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    text.split(move |c: char| {
        let splits = c == separator && !escaped;
        escaped = c == '\\' && !escaped;
        splits
    })
}

/// Without its backslashes; nothing if one escapes nothing.
#[must_use]
pub fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        plain.push(match c {
            '\\' => characters.next().filter(|c| matches!(c, '\\' | ',' | '|' | '$'))?,
            c => c,
        });
    }
    Some(plain)
}

/// Percent-decoding of a query value; `+` stays as it is, because Synthea writes queries unescaped. A `%` without its two
/// digits is refused.
fn decode(text: &str) -> Option<String> {
    let is_whole = |rest: &str| {
        rest.as_bytes().first_chunk::<2>().is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !text.split('%').skip(1).all(is_whole) {
        return None;
    }
    percent_encoding::percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(query: &str) -> Option<Vec<Sought>> {
        Criteria::parse("Location", query).map(|criteria| criteria.any)
    }

    fn exact(system: &str, value: &str) -> Sought {
        Sought::Exact(Identifier { system: system.to_owned(), value: value.to_owned() })
    }

    #[test]
    fn every_form_of_fhirs_token_search_is_read() {
        assert_eq!(any("identifier=s|a"), Some(vec![exact("s", "a")]));
        assert_eq!(any("identifier=|a"), Some(vec![exact("", "a")]));
        assert_eq!(any("identifier=K-9"), Some(vec![Sought::Value("K-9".to_owned())]));
        assert_eq!(any("identifier=s|"), Some(vec![Sought::System("s".to_owned())]));
        assert_eq!(any("identifier=s|b,s|a,s|b"), Some(vec![exact("s", "a"), exact("s", "b")]));
        assert_eq!(any("identifier=s|a%2Cb|c"), Some(vec![exact("b", "c"), exact("s", "a")]));
        assert_eq!(any(r"identifier=s|a\,b\|c\\"), Some(vec![exact("s", r"a,b|c\")]));
        assert_eq!(any("identifier=s|a|b"), Some(vec![exact("s", "a|b")]));
        assert_eq!(any("identifier=https%3A%2F%2Fa.b%2Fs%7Ca%20b"), any("identifier=https://a.b/s|a b"));
        for wrong in [
            "name=x",
            "identifier=",
            "identifier=|",
            "identifier=s|a,",
            "identifier=%zz",
            "identifier=a%00b",
            "identifier=a&name=b",
            r"identifier=a\x",
            "identifier:not=a",
        ] {
            assert_eq!(any(wrong), None, "{wrong}");
        }
        assert_eq!(Criteria::parse("Nonsense", "identifier=x"), None);
        assert_eq!(
            any(&format!("identifier={}", (0..65).map(|n| n.to_string()).collect::<Vec<_>>().join(","))),
            None
        );
    }

    #[test]
    fn a_condition_may_come_with_the_address_that_is_searched() {
        let of = |text: &str| Criteria::of_condition("Location", text);
        let plain = of("identifier=s|a?b");
        assert_eq!(plain.as_ref().map(|criteria| criteria.any.clone()), Some(vec![exact("s", "a?b")]));
        for address in ["", "Location", "/Location", "https://a.b/fhir/Location"] {
            assert_eq!(of(&format!("{address}?identifier=s|a?b")), plain, "{address}");
        }
        assert_eq!((of("Patient?identifier=s|a"), of("Location"), of("Location?name=x")), (None, None, None));
    }

    #[test]
    fn one_condition_has_one_spelling() {
        let text = |query: &str| Criteria::parse("Location", query).unwrap().text();
        assert_eq!(text("identifier=s|b,K-9,t|"), text("identifier=t|,s|b,K-9"));
        assert_ne!(text(r"identifier=a\,b"), text("identifier=a,b"));
        assert_ne!(text(r"identifier=a\|"), text("identifier=a|"));
    }
}
