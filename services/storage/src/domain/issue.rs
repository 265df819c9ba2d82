//! What is wrong with a resource, and where.

/// More faults than this are not listed.
pub const MAX_ISSUES: usize = 20;

/// Gathers faults, as many as are listed: a hostile resource of a million faults costs no more.
#[derive(Debug, Default)]
pub struct Issues(Vec<Issue>);

impl Issues {
    /// One more, unless there are enough.
    pub fn push(&mut self, issue: impl FnOnce() -> Issue) {
        if self.0.len() < MAX_ISSUES {
            self.0.push(issue());
        }
    }

    /// Those that were kept.
    #[must_use]
    pub fn into_vec(self) -> Vec<Issue> {
        self.0
    }
}

/// One fault of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Where, as FHIRPath: `Observation.component[0].code`.
    pub expression: String,
    /// What is wrong, lowercase, without a full stop.
    pub message: String,
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
                Issue { expression: index.to_string(), message: String::new() }
            });
        }
        assert_eq!((issues.into_vec().len(), made), (MAX_ISSUES, MAX_ISSUES));
    }
}
