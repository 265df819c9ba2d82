//! What an expression consists of, once it is read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use regex_lite::Regex;

/// The elements of several types: their names, and the types that end the names of their members.
#[derive(Clone, Debug, Default)]
pub struct Choices(HashMap<String, Arc<HashSet<String>>>);

impl Choices {
    /// From pairs of a name (`value`) and a type as it ends the member's name (`Quantity`).
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut all: HashMap<String, HashSet<String>> = HashMap::new();
        for (name, kind) in pairs {
            all.entry(name.to_owned()).or_default().insert(kind.to_owned());
        }
        Self(all.into_iter().map(|(name, kinds)| (name, Arc::new(kinds))).collect())
    }

    pub(crate) fn step(&self, name: &str) -> Step {
        let name = name.to_owned();
        Step { beside: format!("_{name}"), kinds: self.0.get(&name).cloned(), name }
    }
}

/// A step to the elements of a name.
#[derive(Debug)]
pub(crate) struct Step {
    pub name: String,
    /// The member beside that of a primitive.
    pub beside: String,
    /// If the element is a choice: the types that may end its member's name.
    pub kinds: Option<Arc<HashSet<String>>>,
}

/// An expression. Each is evaluated for one item, `$this`.
#[derive(Debug)]
pub(crate) enum Node {
    This,
    /// `%resource`
    Resource,
    /// `%context`
    Context,
    Text(Arc<str>),
    Number(f64),
    Boolean(bool),
    /// `base.name`
    Child(Box<Node>, Step),
    /// `Appointment` at the beginning: the item, if it is of this type.
    Root(String),
    /// `base.function()`
    Call(Box<Node>, Function),
    /// `iif(condition, then, otherwise)`
    Iif(Box<Node>, Box<Node>, Option<Box<Node>>),
    Binary(Operator, Box<Node>, Box<Node>),
}

#[derive(Debug)]
pub(crate) enum Function {
    Exists,
    Empty,
    Not,
    HasValue,
    Count,
    First,
    Tail,
    Children,
    Descendants,
    IsDistinct,
    ToText,
    ToInteger,
    All(Box<Node>),
    Where(Box<Node>),
    Select(Box<Node>),
    StartsWith(Box<Node>),
    Contains(Box<Node>),
    Intersect(Box<Node>),
    Combine(Box<Node>),
    Matches(Regex),
    ReplaceMatches(Regex, String),
    Is(String),
    OfType(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Implies,
    Or,
    Xor,
    And,
    In,
    Contains,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Union,
    Plus,
    Concat,
}
