//! What `/readyz` answers: a service is ready when every named part of it is. And whether it answers anything else: a service
//! whose database another hand changed decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use serde::Serialize;

/// The parts a service needs, each with how it stands. Clones share the parts.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    parts: Arc<RwLock<BTreeMap<&'static str, Part>>>,
    /// Why nothing is answered.
    halted: Arc<RwLock<BTreeSet<&'static str>>>,
}

/// How a part stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Part {
    /// Whether the service can do its work with it as it is.
    pub(crate) ready: bool,
    /// A few words, safe to show.
    pub(crate) note: String,
}

impl Readiness {
    /// Says how `part` stands; answers whether it was ready before. A part that was never spoken of does not count.
    pub fn set(&self, part: &'static str, ready: bool, note: impl Into<String>) -> bool {
        let entry = Part { ready, note: note.into() };
        let before = self.parts.write().unwrap_or_else(PoisonError::into_inner).insert(part, entry);
        before.is_none_or(|before| before.ready)
    }

    /// Nothing is answered any more but how the service stands, because of this part, or not any more because of it.
    pub fn halt(&self, part: &'static str, halted: bool) {
        let mut reasons = self.halted.write().unwrap_or_else(PoisonError::into_inner);
        if halted {
            reasons.insert(part);
        } else {
            reasons.remove(part);
        }
    }

    /// Whether nothing is answered.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        !self.halted.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether every part is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.parts.read().unwrap_or_else(PoisonError::into_inner).values().all(|part| part.ready)
    }

    pub(crate) fn parts(&self) -> BTreeMap<&'static str, Part> {
        self.parts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
