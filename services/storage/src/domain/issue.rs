//! What is wrong with a resource, and where.

/// More faults than this are not listed.
pub const MAX_ISSUES: usize = 20;

/// Gathers faults, as many as are listed: a hostile resource of a million faults costs no more.
#[derive(Debug, Default)]
pub struct Issues(Vec<Issue>);

impl Issues {
    /// One more, unless there are enough.
    pub fn push(&mut self, issue: impl FnOnce() -> Issue) {
        if !self.is_full() {
            self.0.push(issue());
        }
    }

    /// Whether no more are kept.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.0.len() >= MAX_ISSUES
    }

    /// Those that were kept, each once.
    #[must_use]
    pub fn into_vec(self) -> Vec<Issue> {
        let mut once: Vec<Issue> = Vec::with_capacity(self.0.len());
        for issue in self.0 {
            if !once.contains(&issue) {
                once.push(issue);
            }
        }
        once
    }
}

/// One fault of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Where, as FHIRPath: `Observation.component[0].code`.
    pub expression: String,
    /// What is wrong, lowercase, without a full stop.
    pub message: String,
    /// What kind of fault it is.
    pub fault: Fault,
}

/// What kind of fault it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// What was sent is not acceptable.
    #[default]
    Form,
    /// It says that it is another resource than the one that is named.
    Another,
    /// Several records meet a condition that one may meet.
    Several,
    /// Another version of it is there, and it stays.
    Stays,
    /// There is nothing that could be changed, as far as the caller may know.
    Missing,
    /// It is there, and others than the caller may change it.
    NotYours,
    /// It has another version than was said.
    Stale,
}

impl Issue {
    /// A fault at a place.
    #[must_use]
    pub fn new(expression: impl Into<String>, message: impl Into<String>) -> Self {
        Self { expression: expression.into(), message: message.into(), fault: Fault::Form }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_faults_are_made_twenty_times() {
        let (mut issues, mut made) = (Issues::default(), 0);
        for index in 0..1_000_000 {
            issues.push(|| {
                made += 1;
                Issue::new(index.to_string(), "")
            });
        }
        assert_eq!((issues.into_vec().len(), made), (MAX_ISSUES, MAX_ISSUES));
    }
}
