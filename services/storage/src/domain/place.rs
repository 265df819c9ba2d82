//! A place in a resource, as FHIRPath: `Observation.component[0].code`.

use std::fmt;

/// A place, step by step: written out only where something is said about it.
#[derive(Clone, Copy, Debug)]
pub enum Place<'p> {
    /// Where the resource itself stands.
    Root(&'p str),
    /// An element, by the name that FHIR gives it: `value`, not `valueQuantity`.
    Element(&'p Place<'p>, &'p str),
    /// One of a list.
    Item(&'p Place<'p>, usize),
}

impl Place<'_> {
    /// Whether it is a value of an element, or one of its values.
    #[must_use]
    pub fn is_in(&self, element: &str) -> bool {
        match self {
            Self::Root(_) => false,
            Self::Element(_, name) => *name == element,
            Self::Item(list, _) => list.is_in(element),
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(text) => f.write_str(text),
            Self::Element(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(list, index) => write!(f, "{list}[{index}]"),
        }
    }
}
