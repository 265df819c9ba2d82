//! The order of results: by the values of parameters, what has none last.
//!
//! Source: <https://hl7.org/fhir/R4/search.html#sort>.

use std::cmp::Ordering;

use crate::domain::moment::Span;
use crate::domain::search::decimal::Decimal;
use crate::domain::search::facts::{Fact, Facts};
use crate::domain::search::text::plain;

/// One of the parameters that results are ordered by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    /// The parameter's name.
    pub name: String,
    /// Whether the greatest comes first.
    pub descending: bool,
}

/// What a record is ordered by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A number.
    Number(Decimal),
    /// A beginning, in microseconds.
    Time(i64),
    /// A text.
    Text(String),
}

/// A record's place by every parameter of an order: nothing where it has no value.
#[must_use]
pub fn keys(facts: &Facts, order: &[By]) -> Vec<Option<Key>> {
    let of = |by: &By| {
        let all = facts.get(&by.name).iter().filter_map(key);
        // Of several values the first in the order counts.
        if by.descending { all.max() } else { all.min() }
    };
    order.iter().map(of).collect()
}

fn key(fact: &Fact) -> Option<Key> {
    match fact {
        Fact::Token(_, code) => code.clone().map(Key::Text),
        Fact::Code(code) => Some(Key::Text(code.clone())),
        Fact::When(Span(first, _)) => Some(Key::Time(first.unwrap_or(i64::MIN))),
        Fact::Reference(text, _, _) => text.clone().map(Key::Text),
        Fact::Text(text) => Some(Key::Text(plain(text))),
        Fact::Amount { least, most, .. } => {
            least.as_ref().or(most.as_ref()).and_then(|text| Decimal::parse(text)).map(Key::Number)
        }
        Fact::Uri(uri) => Some(Key::Text(uri.clone())),
        Fact::Other => None,
    }
}

/// Which of two records comes first.
#[must_use]
pub fn compare(one: &[Option<Key>], other: &[Option<Key>], order: &[By]) -> Ordering {
    let pairs = one.iter().zip(other).zip(order);
    let orders = pairs.map(|((one, other), by)| match (one, other) {
        (Some(one), Some(other)) if by.descending => other.cmp(one),
        (Some(one), Some(other)) => one.cmp(other),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    });
    orders.fold(Ordering::Equal, Ordering::then)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_value_is_last_either_way() {
        let text = |text: &str| vec![Some(Key::Text(text.to_owned()))];
        for descending in [false, true] {
            let order = [By { name: "code".to_owned(), descending }];
            let expected = if descending { Ordering::Greater } else { Ordering::Less };
            assert_eq!(compare(&text("a"), &text("b"), &order), expected);
            assert_eq!(compare(&text("a"), &[None], &order), Ordering::Less);
            assert_eq!(compare(&[None], &[None], &order), Ordering::Equal);
        }
    }

    #[test]
    fn of_several_values_the_first_in_the_order_counts() {
        let mut facts = Facts::default();
        for name in ["Bo", "Ánna", "Zoe"] {
            facts.add("name", Fact::Text(name.to_owned()));
        }
        let by = |descending| [By { name: "name".to_owned(), descending }];
        assert_eq!(keys(&facts, &by(false)), [Some(Key::Text("anna".to_owned()))]);
        assert_eq!(keys(&facts, &by(true)), [Some(Key::Text("zoe".to_owned()))]);
    }
}
