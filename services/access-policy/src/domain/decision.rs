//! A decision about one patient's records: each label set is tried under each grant that could cover the caller.

use hbc_types::Timestamp;
use hbc_types::ids::{GrantId, PatientId};
use hbc_types::purpose::{Action, Purpose};
use hbc_types::wire::access::Labels;

use crate::domain::grant::{Grant, NumberLimits};
use crate::domain::policy::{PolicyEngine, Principal, Question};

/// Everything about a request but the labels.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// Who calls.
    pub principal: &'a Principal,
    /// Whose records.
    pub patient: &'a PatientId,
    /// The grants that may cover the caller, widest first ([`crate::domain::rights::Rights::candidates`]).
    pub candidates: &'a [Grant],
    /// What they want to do.
    pub action: Action,
    /// Why.
    pub purpose: Purpose,
    /// When.
    pub now: Timestamp,
}

/// The verdict about one label set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Allowed.
    Allowed {
        /// The deciding policy.
        rule: String,
        /// The grant it rests on; none for the patient's own records and the directory.
        grant: Option<GrantId>,
        /// What is older than the grant only, where it does not cover future records.
        limit: Option<PastOnly>,
    },
    /// Denied.
    Denied {
        /// The deciding policy, or why there was none.
        rule: String,
        /// The grant that came nearest.
        grant: Option<GrantId>,
    },
}

/// The limit of a grant without future records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastOnly {
    /// Only records created before this.
    pub created_before: Timestamp,
    /// Only numbers that existed when the grant was signed: storage cannot shift those.
    pub numbers: NumberLimits,
}

impl PastOnly {
    /// Whether a record of this age and number is old enough.
    #[must_use]
    pub fn covers(&self, labels: Labels, n: u64, created_at: Timestamp) -> bool {
        created_at < self.created_before && n <= self.numbers.get(&labels).copied().unwrap_or(0)
    }
}

impl Verdict {
    /// Whether it allows anything.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }

    /// The deciding rule.
    #[must_use]
    pub fn rule(&self) -> &str {
        match self {
            Self::Allowed { rule, .. } | Self::Denied { rule, .. } => rule,
        }
    }

    /// The grant it speaks of.
    #[must_use]
    pub const fn grant(&self) -> Option<&GrantId> {
        match self {
            Self::Allowed { grant, .. } | Self::Denied { grant, .. } => grant.as_ref(),
        }
    }
}

/// Decides about one label set. The first grant that opens it wins; if none does, the rules of the one that came nearest
/// are told.
#[must_use]
pub fn decide(engine: &PolicyEngine, situation: &Situation<'_>, labels: Labels) -> Verdict {
    let question = |grant| Question {
        principal: situation.principal,
        action: situation.action,
        patient: situation.patient,
        labels,
        purpose: situation.purpose,
        now: situation.now,
        grant,
    };
    let mut nearest: Option<(usize, Verdict)> = None;
    for grant in situation.candidates {
        let ruling = engine.rule(&question(Some(grant)));
        if ruling.allowed {
            return Verdict::Allowed {
                rule: ruling.rule().to_owned(),
                grant: (ruling.rule() == "grant").then(|| grant.id.clone()),
                limit: past_only(grant),
            };
        }
        if nearest.as_ref().is_none_or(|(rules, _)| ruling.rules.len() < *rules) {
            let denied = Verdict::Denied { rule: ruling.rule().to_owned(), grant: Some(grant.id.clone()) };
            nearest = Some((ruling.rules.len(), denied));
        }
    }
    if let Some((_, denied)) = nearest {
        return denied;
    }
    let ruling = engine.rule(&question(None));
    let rule = ruling.rule().to_owned();
    if ruling.allowed {
        Verdict::Allowed { rule, grant: None, limit: None }
    } else {
        Verdict::Denied { rule, grant: None }
    }
}

fn past_only(grant: &Grant) -> Option<PastOnly> {
    (!grant.scope.future_records)
        .then(|| PastOnly { created_before: grant.given_at, numbers: grant.numbers.clone() })
}
