//! References within one resource: to what it contains (ref-1), from what it contains and what is contained (dom-3).

use std::collections::HashSet;

use serde_json::{Map, Value};

/// What a resource contains, and which of it is referred to. One at a time: what is contained contains nothing.
#[derive(Debug, Default)]
pub struct Local<'v> {
    ids: HashSet<&'v str>,
    named: HashSet<&'v str>,
    /// Whether what is contained and is walked through now refers to what contains it.
    upward: bool,
    /// The ids of what is contained and neither referred to yet nor refers to what contains it.
    lonely: Vec<&'v str>,
}

impl<'v> Local<'v> {
    /// Of a resource that is not contained.
    #[must_use]
    pub fn of(resource: &'v Map<String, Value>) -> Self {
        let contained = resource.get("contained").and_then(Value::as_array);
        let ids = contained.into_iter().flatten().filter_map(|inner| inner.get("id")?.as_str()).collect();
        Self { ids, ..Self::default() }
    }

    /// Whether a Reference's text is one to nothing here: `#a` where nothing contained has the id `a`.
    #[must_use]
    pub fn is_dangling(&self, reference: &str) -> bool {
        reference.strip_prefix('#').is_some_and(|id| !id.is_empty() && !self.ids.contains(id))
    }

    /// A Reference's text, or a uri, url or canonical, is in the resource or in what it contains.
    pub fn see(&mut self, text: &'v str) {
        match text.strip_prefix('#') {
            Some("") => self.upward = true,
            Some(id) => {
                self.named.insert(id);
            }
            None => {}
        }
    }

    /// A contained resource begins.
    pub const fn enter(&mut self) {
        self.upward = false;
    }

    /// It ends.
    pub fn leave(&mut self, contained: &'v Map<String, Value>) {
        let id = contained.get("id").and_then(Value::as_str);
        self.lonely.extend(id.filter(|_| !self.upward));
    }

    /// Whether everything contained has to do with the resource: to be asked at its end.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.lonely.iter().all(|id| self.named.contains(id))
    }
}
