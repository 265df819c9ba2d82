//! What expressions speak of: elements of a resource, and values that were made of them.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Map, Value};
use smallvec::SmallVec;

use crate::budget::{Budget, Exhausted};
use crate::expression::Step;

/// A collection. Most have one item or none.
pub(crate) type Items<'v> = SmallVec<[Item<'v>; 1]>;

/// One item of a collection.
#[derive(Clone, Debug)]
pub enum Item<'v> {
    /// An element with elements of its own, and its type where the name of its member says so.
    Object(&'v Map<String, Value>, Option<&'v str>),
    /// A primitive element: its value, what stands beside it, and its type where the name of its member says so.
    Primitive(Option<&'v Value>, Option<&'v Map<String, Value>>, Option<&'v str>),
    /// A truth value that was made.
    Boolean(bool),
    /// A number that was made.
    Number(f64),
    /// A text that was made.
    Text(Arc<str>),
}

/// A primitive value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scalar<'s> {
    Boolean(bool),
    Number(f64),
    Text(&'s str),
}

/// What two items have in common if they are equal.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key<'s> {
    Nothing,
    Boolean(bool),
    Number(u64),
    Text(Cow<'s, str>),
    Object(String),
}

impl<'v> Item<'v> {
    /// An element that is neither a list nor has anything beside it.
    #[must_use]
    pub fn of(value: &'v Value) -> Self {
        match value {
            Value::Object(members) => Self::Object(members, None),
            _ => Self::Primitive(Some(value), None, None),
        }
    }

    pub(crate) fn scalar(&self) -> Option<Scalar<'_>> {
        match self {
            Self::Object(..) => None,
            Self::Primitive(value, ..) => match value {
                Some(Value::Bool(value)) => Some(Scalar::Boolean(*value)),
                Some(Value::Number(number)) => number.as_f64().map(Scalar::Number),
                Some(Value::String(text)) => Some(Scalar::Text(text)),
                Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => None,
            },
            Self::Boolean(value) => Some(Scalar::Boolean(*value)),
            Self::Number(number) => Some(Scalar::Number(*number)),
            Self::Text(text) => Some(Scalar::Text(text)),
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self.scalar()? {
            Scalar::Text(text) => Some(text),
            Scalar::Boolean(_) | Scalar::Number(_) => None,
        }
    }

    pub(crate) fn key(&self, budget: &Budget) -> Result<Key<'_>, Exhausted> {
        Ok(match (self.scalar(), self) {
            (Some(Scalar::Boolean(value)), _) => Key::Boolean(value),
            // Zero has one sign.
            (Some(Scalar::Number(number)), _) => Key::Number((number + 0.0).to_bits()),
            (Some(Scalar::Text(text)), _) => {
                budget.spend_bytes(text.len())?;
                Key::Text(Cow::Borrowed(text))
            }
            (None, Self::Object(members, _)) => {
                let mut text = String::new();
                write_object(members, &mut text);
                budget.spend_bytes(text.len().saturating_mul(4))?;
                Key::Object(text)
            }
            (None, _) => Key::Nothing,
        })
    }

    /// Whether it is of a type, as far as the JSON says.
    pub(crate) fn is(&self, kind: &str) -> bool {
        match self {
            Self::Object(members, known) => {
                *known == Some(kind) || members.get("resourceType").and_then(Value::as_str) == Some(kind)
            }
            Self::Primitive(_, _, known) => *known == Some(kind),
            Self::Boolean(_) => kind == "Boolean",
            Self::Number(_) => kind == "Decimal" || kind == "Integer",
            Self::Text(_) => kind == "String",
        }
    }

    /// The elements of it that a step reaches.
    pub(crate) fn step(&self, step: &Step, into: &mut Items<'v>, budget: &Budget) -> Result<(), Exhausted> {
        let (members, primitive) = match self {
            Self::Object(members, _) => (*members, false),
            Self::Primitive(_, Some(beside), _) => (*beside, true),
            Self::Primitive(_, None, _) | Self::Boolean(_) | Self::Number(_) | Self::Text(_) => return Ok(()),
        };
        budget.spend(1)?;
        push(members.get(&step.name), members.get(&step.beside), None, into, budget)?;
        let Some(kinds) = step.kinds.as_ref().filter(|_| !primitive) else { return Ok(()) };
        budget.spend(members.len() / 8)?;
        for (name, value) in members {
            let plain = name.strip_prefix('_').unwrap_or(name);
            let kind = plain.strip_prefix(step.name.as_str()).filter(|kind| kinds.contains(*kind));
            let Some(kind) = kind else { continue };
            if plain.len() == name.len() {
                push(Some(value), beside(members, name), Some(kind), into, budget)?;
            } else if !members.contains_key(plain) {
                push(None, Some(value), Some(kind), into, budget)?;
            }
        }
        Ok(())
    }

    /// All its elements.
    pub(crate) fn children(&self, into: &mut Items<'v>, budget: &Budget) -> Result<(), Exhausted> {
        let members = match self {
            Self::Object(members, _) | Self::Primitive(_, Some(members), _) => *members,
            Self::Primitive(_, None, _) | Self::Boolean(_) | Self::Number(_) | Self::Text(_) => return Ok(()),
        };
        for (name, value) in members.iter().filter(|(name, _)| name.as_str() != "resourceType") {
            budget.spend(1)?;
            match name.strip_prefix('_') {
                None => push(Some(value), beside(members, name), None, into, budget)?,
                Some(plain) if !members.contains_key(plain) => push(None, Some(value), None, into, budget)?,
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// What stands beside the member of a name.
fn beside<'v>(members: &'v Map<String, Value>, name: &str) -> Option<&'v Value> {
    members.get(&format!("_{name}"))
}

fn push<'v>(
    value: Option<&'v Value>,
    beside: Option<&'v Value>,
    kind: Option<&'v str>,
    into: &mut Items<'v>,
    budget: &Budget,
) -> Result<(), Exhausted> {
    let list = |value: Option<&'v Value>| value.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if !matches!(value, Some(Value::Array(_))) && !matches!((value, beside), (None, Some(Value::Array(_)))) {
        into.extend(item(value, beside, kind));
        return Ok(());
    }
    let (values, besides) = (list(value), list(beside));
    let length = values.len().max(besides.len());
    budget.spend(length)?;
    into.extend((0..length).filter_map(|index| item(values.get(index), besides.get(index), kind)));
    Ok(())
}

fn item<'v>(value: Option<&'v Value>, beside: Option<&'v Value>, kind: Option<&'v str>) -> Option<Item<'v>> {
    let beside = beside.and_then(Value::as_object);
    match value {
        Some(Value::Object(members)) => Some(Item::Object(members, kind)),
        Some(value @ (Value::Bool(_) | Value::Number(_) | Value::String(_))) => {
            Some(Item::Primitive(Some(value), beside, kind))
        }
        Some(Value::Null | Value::Array(_)) | None => {
            beside.map(|beside| Item::Primitive(None, Some(beside), kind))
        }
    }
}

/// An object as JSON, its members by their names: in which order they came does not count.
fn write_object(members: &Map<String, Value>, text: &mut String) {
    let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    text.push('{');
    for (name, member) in sorted {
        text.push_str(&Value::from(name.as_str()).to_string());
        text.push(':');
        write_value(member, text);
        text.push(',');
    }
    text.push('}');
}

fn write_value(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => write_object(members, text),
        Value::Array(items) => {
            text.push('[');
            for item in items {
                write_value(item, text);
                text.push(',');
            }
            text.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            text.push_str(&value.to_string());
        }
    }
}
