//! A decision about one patient's records: each label set is tried under each grant that could cover the caller.

use std::collections::{BTreeMap, HashMap};

use hbc_types::Timestamp;
use hbc_types::ids::{GrantId, PatientId};
use hbc_types::purpose::{Action, Purpose};
use hbc_types::wire::access::Labels;

use crate::domain::grant::{Grant, NumberLimits};
use crate::domain::policy::{PolicyEngine, Principal, Question, Ruling};

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

/// Decides about label sets, each once.
#[must_use]
pub fn decide(
    engine: &PolicyEngine,
    situation: &Situation<'_>,
    labels: impl IntoIterator<Item = Labels>,
) -> BTreeMap<Labels, Verdict> {
    let mut rulings = Rulings { engine, situation, known: HashMap::new() };
    let mut verdicts = BTreeMap::new();
    for labels in labels {
        verdicts.entry(labels).or_insert_with(|| rulings.verdict(labels));
    }
    verdicts
}

/// What the policies said so far. Of a record's labels they see only whether the grant names them, so what they say of one
/// label set holds for every other that the grant names alike: each grant comes before them at most four times, however
/// many label sets are asked about. (A policy that looked further would fail
/// `what_holds_for_one_label_set_holds_for_its_like`.)
struct Rulings<'r> {
    engine: &'r PolicyEngine,
    situation: &'r Situation<'r>,
    /// By candidate and by what it names: the category, the sensitivity.
    known: HashMap<(Option<usize>, bool, bool), Ruling>,
}

impl Rulings<'_> {
    /// The first grant that opens a label set wins; if none does, the rules of the one that came nearest are told.
    fn verdict(&mut self, labels: Labels) -> Verdict {
        let candidates = self.situation.candidates;
        let mut nearest: Option<(usize, Verdict)> = None;
        for (index, grant) in candidates.iter().enumerate() {
            let ruling = self.rule(Some((index, grant)), labels);
            if ruling.allowed {
                return Verdict::Allowed {
                    rule: ruling.rule().to_owned(),
                    grant: (ruling.rule() == "grant").then(|| grant.id.clone()),
                    limit: past_only(grant),
                };
            }
            if nearest.as_ref().is_none_or(|(rules, _)| ruling.rules.len() < *rules) {
                let denied =
                    Verdict::Denied { rule: ruling.rule().to_owned(), grant: Some(grant.id.clone()) };
                nearest = Some((ruling.rules.len(), denied));
            }
        }
        if let Some((_, denied)) = nearest {
            return denied;
        }
        let ruling = self.rule(None, labels);
        let rule = ruling.rule().to_owned();
        if ruling.allowed {
            Verdict::Allowed { rule, grant: None, limit: None }
        } else {
            Verdict::Denied { rule, grant: None }
        }
    }

    fn rule(&mut self, candidate: Option<(usize, &Grant)>, labels: Labels) -> &Ruling {
        let Situation { principal, patient, candidates: _, action, purpose, now } = *self.situation;
        let grant = candidate.map(|(_, grant)| grant);
        let names = |grant: &Grant| {
            let scope = &grant.scope;
            (scope.categories.contains(&labels.category), scope.sensitivities.contains(&labels.sensitivity))
        };
        let (category, sensitivity) = grant.map_or((false, false), names);
        let engine = self.engine;
        self.known.entry((candidate.map(|(index, _)| index), category, sensitivity)).or_insert_with(|| {
            engine.rule(&Question { principal, action, patient, labels, purpose, now, grant })
        })
    }
}

fn past_only(grant: &Grant) -> Option<PastOnly> {
    (!grant.scope.future_records)
        .then(|| PastOnly { created_before: grant.given_at, numbers: grant.numbers.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::grant::tests::active;
    use crate::domain::policy::{Bound, SessionState};
    use hbc_types::account::{AgencyType, Standing};
    use hbc_types::ids::{AccountId, AgencyId, AppId, DeviceId, GranteeId, OperatorId};
    use hbc_types::labels::{Category, Sensitivity};
    use hbc_types::{Digest, Random};

    type Change<T> = fn(&mut T);

    /// One (grant, request) pair: what differs from the base case, and the verdict.
    struct Pair {
        name: &'static str,
        grant: Change<Grant>,
        request: Change<Request>,
        /// The rule, with `+` before it where it allows.
        verdict: &'static str,
    }

    struct Request {
        principal: Principal,
        patient: Option<PatientId>,
        action: Action,
        purpose: Purpose,
        labels: Labels,
        now: i64,
    }

    const SAME_GRANT: Change<Grant> = |_| {};
    const SAME_REQUEST: Change<Request> = |_| {};

    fn doctor(grant: &Grant) -> Principal {
        let GranteeId::Agency(agency) = grant.grantee.clone() else {
            panic!("the base case is to an agency")
        };
        Principal {
            account: AccountId::Agency(agency),
            standing: Standing::Active,
            session: SessionState::Open,
            agency_type: Some(AgencyType::Doctor),
            organisation: None,
            organisation_type: None,
            bound: None,
            device_key: None,
        }
    }

    fn app() -> AppId {
        AppId::random(&Random::seeded(5))
    }

    fn device() -> DeviceId {
        DeviceId::random(&Random::seeded(5))
    }

    fn to_app(grant: &mut Grant) {
        grant.grantee = GranteeId::App(app());
        grant.offline = Some(false);
        grant.scope.purposes = vec![Purpose::PatientRequest];
    }

    /// The app, let in by the patient of the base case.
    fn by_app(request: &mut Request) {
        request.principal.account = AccountId::App(app());
        request.principal.agency_type = None;
        request.principal.bound = Some(Bound { patient: active().patient, offline: false, categories: None });
        request.purpose = Purpose::PatientRequest;
    }

    fn bound(request: &mut Request) -> &mut Bound {
        request.principal.bound.as_mut().unwrap()
    }

    fn to_device(grant: &mut Grant) {
        grant.grantee = GranteeId::Device(device());
        grant.device = Some(Digest::of(b"key"));
        grant.scope.actions = vec![Action::Write];
        grant.scope.purposes = vec![Purpose::PatientRequest];
    }

    fn by_device(request: &mut Request) {
        request.principal.account = AccountId::Device(device());
        request.principal.agency_type = None;
        request.principal.device_key = Some(Digest::of(b"key"));
        request.action = Action::Write;
        request.purpose = Purpose::PatientRequest;
    }

    fn agency_grant(grant: &mut Grant) {
        grant.grantee = GranteeId::Agency(stranger());
    }

    fn stranger() -> AgencyId {
        AgencyId::random(&Random::seeded(77))
    }

    const fn pair(
        name: &'static str,
        grant: Change<Grant>,
        request: Change<Request>,
        verdict: &'static str,
    ) -> Pair {
        Pair { name, grant, request, verdict }
    }

    /// The base case: a final grant for laboratory and vital signs, normal, TREAT, read, 0 to 1,000 s; its grantee, a
    /// doctor in good standing, reads laboratory for TREAT at 500 s.
    #[rustfmt::skip]
    fn table() -> Vec<Pair> {
        vec![
            pair("as granted", SAME_GRANT, SAME_REQUEST, "+grant"),
            pair("the other category", SAME_GRANT, |r| r.labels.category = Category::VitalSigns, "+grant"),
            pair("first instant", SAME_GRANT, |r| r.now = 0, "+grant"),
            pair("last instant", SAME_GRANT, |r| r.now = 999_999, "+grant"),
            pair("end is exclusive", SAME_GRANT, |r| r.now = 1_000_000, "outside-period"),
            pair("long after", SAME_GRANT, |r| r.now = 9_000_000, "outside-period"),
            pair("before its time", |g| g.scope.from = Timestamp::from_ms(600_000), SAME_REQUEST, "outside-period"),
            pair("begins now", |g| g.scope.from = Timestamp::from_ms(500_000), SAME_REQUEST, "+grant"),
            pair("another category", SAME_GRANT, |r| r.labels.category = Category::Condition, "category-not-granted"),
            pair("demographics", SAME_GRANT, |r| r.labels.category = Category::Demographics, "category-not-granted"),
            pair("financial", SAME_GRANT, |r| r.labels.category = Category::Financial, "category-not-granted"),
            pair("category added", |g| g.scope.categories.push(Category::Condition), |r| r.labels.category = Category::Condition, "+grant"),
            pair("category taken", |g| g.scope.categories.retain(|c| *c != Category::Laboratory), SAME_REQUEST, "category-not-granted"),
            pair("payment", SAME_GRANT, |r| r.purpose = Purpose::Payment, "purpose-not-granted"),
            pair("research", SAME_GRANT, |r| r.purpose = Purpose::Research, "purpose-not-granted"),
            pair("emergency is not treatment", SAME_GRANT, |r| r.purpose = Purpose::EmergencyTreatment, "purpose-not-granted"),
            pair("the patient's own purpose", SAME_GRANT, |r| r.purpose = Purpose::PatientRequest, "purpose-not-granted"),
            pair("payment granted", |g| g.scope.purposes = vec![Purpose::Payment], |r| r.purpose = Purpose::Payment, "+grant"),
            pair("payment alone is not treatment", |g| g.scope.purposes = vec![Purpose::Payment], SAME_REQUEST, "purpose-not-granted"),
            pair("both purposes", |g| g.scope.purposes.push(Purpose::Research), |r| r.purpose = Purpose::Research, "+grant"),
            pair("writing", SAME_GRANT, |r| r.action = Action::Write, "write-not-granted"),
            pair("answering", SAME_GRANT, |r| r.action = Action::Answer, "answer-not-granted"),
            pair("writing granted", |g| g.scope.actions.push(Action::Write), |r| r.action = Action::Write, "+grant"),
            pair("writing alone is not reading", |g| g.scope.actions = vec![Action::Write], SAME_REQUEST, "read-not-granted"),
            pair("answers alone are not reading", |g| g.scope.actions = vec![Action::Answer], SAME_REQUEST, "read-not-granted"),
            pair("answers granted", |g| g.scope.actions = vec![Action::Answer], |r| r.action = Action::Answer, "+grant"),
            pair("sensitive, not named", SAME_GRANT, |r| r.labels.sensitivity = Sensitivity::Hiv, "sensitivity-not-granted"),
            pair("sensitive, named", |g| g.scope.sensitivities.push(Sensitivity::Hiv), |r| r.labels.sensitivity = Sensitivity::Hiv, "+grant"),
            pair("another sensitive one named", |g| g.scope.sensitivities.push(Sensitivity::Hiv), |r| r.labels.sensitivity = Sensitivity::Psychiatry, "sensitivity-not-granted"),
            pair("only a sensitive one named", |g| g.scope.sensitivities = vec![Sensitivity::Hiv], SAME_REQUEST, "sensitivity-not-granted"),
            pair("pending", |g| g.final_height = None, SAME_REQUEST, "no-grant"),
            pair("frozen", |g| g.frozen_at = Some(Timestamp::from_ms(1)), SAME_REQUEST, "grant-frozen"),
            pair("altered", |g| g.altered_by = Some(hbc_types::Digest::of(b"alteration")), SAME_REQUEST, "grant-altered"),
            pair("revoked", |g| g.revoked_at = Some(Timestamp::from_ms(1)), SAME_REQUEST, "grant-revoked"),
            pair("ended", |g| g.ended_at = Some(Timestamp::from_ms(1)), SAME_REQUEST, "grant-revoked"),
            pair("revoked and frozen and over", |g| { g.revoked_at = Some(Timestamp::from_ms(1)); g.frozen_at = Some(Timestamp::from_ms(1)); }, |r| r.now = 9_000_000, "grant-revoked"),
            pair("for another agency", agency_grant, SAME_REQUEST, "no-grant"),
            pair("for the organisation", agency_grant, |r| r.principal.organisation = Some(stranger()), "+grant"),
            pair("of another patient", |g| g.patient = PatientId::random(&Random::seeded(5)), SAME_REQUEST, "no-grant"),
            pair("suspended", SAME_GRANT, |r| r.principal.standing = Standing::Suspended, "account-not-active"),
            pair("closed", SAME_GRANT, |r| r.principal.standing = Standing::Closed, "account-not-active"),
            pair("not approved yet", SAME_GRANT, |r| r.principal.standing = Standing::Pending, "account-not-active"),
            pair("session ended", SAME_GRANT, |r| r.principal.session = SessionState::Ended, "session-not-open"),
            pair("session unknown", SAME_GRANT, |r| r.principal.session = SessionState::Unknown, "session-not-open"),
            pair("a government reads", SAME_GRANT, |r| r.principal.agency_type = Some(AgencyType::Government), "government-never-reads"),
            pair("a member of a government reads", SAME_GRANT, |r| { r.principal.organisation = Some(stranger()); r.principal.organisation_type = Some(AgencyType::Government); }, "government-never-reads"),
            pair("a member of a government under its grant", agency_grant, |r| { r.principal.organisation = Some(stranger()); r.principal.organisation_type = Some(AgencyType::Government); }, "government-never-reads"),
            pair("a member of a hospital reads", agency_grant, |r| { r.principal.organisation = Some(stranger()); r.principal.organisation_type = Some(AgencyType::Hospital); }, "+grant"),
            pair("a government gets an answer", |g| g.scope.actions.push(Action::Answer), |r| { r.principal.agency_type = Some(AgencyType::Government); r.action = Action::Answer; }, "+grant"),
            pair("an insurer with a grant", SAME_GRANT, |r| r.principal.agency_type = Some(AgencyType::Insurer), "+grant"),
            pair("no kind at all", SAME_GRANT, |r| r.principal.agency_type = None, "+grant"),
            pair("an operator", SAME_GRANT, |r| r.principal.account = AccountId::Operator(OperatorId::random(&Random::seeded(6))), "no-grant"),
            pair("another patient", SAME_GRANT, |r| r.principal.account = AccountId::Patient(PatientId::random(&Random::seeded(8))), "no-grant"),
            pair("the patient", SAME_GRANT, |r| r.principal.account = AccountId::Patient(active().patient), "+own-records"),
            pair("the patient, sensitive", SAME_GRANT, |r| { r.principal.account = AccountId::Patient(active().patient); r.labels.sensitivity = Sensitivity::Violence; }, "+own-records"),
            pair("the patient writes", SAME_GRANT, |r| { r.principal.account = AccountId::Patient(active().patient); r.action = Action::Write; }, "+own-records"),
            pair("the patient, suspended", SAME_GRANT, |r| { r.principal.account = AccountId::Patient(active().patient); r.principal.standing = Standing::Suspended; }, "account-not-active"),
            pair("the directory", SAME_GRANT, |r| r.patient = Some(PatientId::directory()), "+directory-read"),
            pair("the directory, suspended", SAME_GRANT, |r| { r.patient = Some(PatientId::directory()); r.principal.standing = Standing::Suspended; }, "account-not-active"),
            pair("the directory by a government", SAME_GRANT, |r| { r.patient = Some(PatientId::directory()); r.principal.agency_type = Some(AgencyType::Government); }, "+directory-read"),
            pair("an agency writes the directory", SAME_GRANT, |r| { r.patient = Some(PatientId::directory()); r.action = Action::Write; }, "+directory-write-agency"),
            pair("an unapproved agency writes the directory", SAME_GRANT, |r| { r.patient = Some(PatientId::directory()); r.action = Action::Write; r.principal.standing = Standing::Pending; }, "account-not-active"),
            pair("an operator writes the directory", SAME_GRANT, |r| { r.patient = Some(PatientId::directory()); r.action = Action::Write; r.principal.account = AccountId::Operator(OperatorId::random(&Random::seeded(6))); r.principal.agency_type = None; }, "+directory-write-operator"),
            pair("a patient writes the directory", SAME_GRANT, |r| { r.patient = Some(PatientId::directory()); r.action = Action::Write; r.principal.account = AccountId::Patient(active().patient); }, "no-grant"),
            pair("an app reads", to_app, by_app, "+grant"),
            pair("an app without a grant", SAME_GRANT, by_app, "no-grant"),
            pair("another app", to_app, |r| { by_app(r); r.principal.account = AccountId::App(AppId::random(&Random::seeded(6))); }, "no-grant"),
            pair("an agency under an app's grant", to_app, |r| r.purpose = Purpose::PatientRequest, "no-grant"),
            pair("an app let in by another patient", to_app, |r| { by_app(r); bound(r).patient = PatientId::random(&Random::seeded(6)); }, "app-of-another-patient"),
            pair("an app let in by nobody", to_app, |r| { by_app(r); r.principal.bound = None; }, "app-of-another-patient"),
            pair("an app writes", |g| { to_app(g); g.scope.actions.push(Action::Write); }, |r| { by_app(r); r.action = Action::Write; }, "app-only-reads"),
            pair("an app treats", |g| { to_app(g); g.scope.purposes.push(Purpose::Treatment); }, |r| { by_app(r); r.purpose = Purpose::Treatment; }, "+grant"),
            pair("an app while the patient is away", to_app, |r| { by_app(r); bound(r).offline = true; }, "patient-not-there"),
            pair("an app that may, while the patient is away", |g| { to_app(g); g.offline = Some(true); }, |r| { by_app(r); bound(r).offline = true; }, "+grant"),
            pair("an app, sensitive", to_app, |r| { by_app(r); r.labels.sensitivity = Sensitivity::Hiv; }, "sensitivity-not-granted"),
            pair("an app that was ended", to_app, |r| { by_app(r); r.principal.standing = Standing::Suspended; }, "account-not-active"),
            pair("an app reads the directory", SAME_GRANT, |r| { by_app(r); r.patient = Some(PatientId::directory()); }, "+directory-read"),
            pair("an app writes the directory", SAME_GRANT, |r| { by_app(r); r.patient = Some(PatientId::directory()); r.action = Action::Write; }, "app-only-reads"),
            pair("a device writes", to_device, by_device, "+grant"),
            pair("a device without a grant", SAME_GRANT, by_device, "no-grant"),
            pair("another device", to_device, |r| { by_device(r); r.principal.account = AccountId::Device(DeviceId::random(&Random::seeded(6))); }, "no-grant"),
            pair("a device with another key", to_device, |r| { by_device(r); r.principal.device_key = Some(Digest::of(b"other")); }, "no-grant"),
            pair("a device without a key", to_device, |r| { by_device(r); r.principal.device_key = None; }, "no-grant"),
            pair("a device writes another category", to_device, |r| { by_device(r); r.labels.category = Category::Condition; }, "category-not-granted"),
            pair("a device reads", |g| { to_device(g); g.scope.actions.push(Action::Read); }, |r| { by_device(r); r.action = Action::Read; }, "device-only-writes"),
            pair("a device reads the directory", SAME_GRANT, |r| { by_device(r); r.patient = Some(PatientId::directory()); r.action = Action::Read; }, "device-only-writes"),
            pair("a device writes the directory", SAME_GRANT, |r| { by_device(r); r.patient = Some(PatientId::directory()); }, "no-grant"),
        ]
    }

    fn verdict(engine: &PolicyEngine, pair: &Pair) -> String {
        situated(pair, |situation, labels| {
            let verdict = one(engine, situation, labels);
            format!("{}{}", if verdict.is_allowed() { "+" } else { "" }, verdict.rule())
        })
    }

    fn one(engine: &PolicyEngine, situation: &Situation<'_>, labels: Labels) -> Verdict {
        decide(engine, situation, [labels]).remove(&labels).unwrap()
    }

    /// Hands over the situation of a pair.
    fn situated<T>(pair: &Pair, look: impl FnOnce(&Situation<'_>, Labels) -> T) -> T {
        let base = active();
        let mut grant = base.clone();
        (pair.grant)(&mut grant);
        let mut request = Request {
            principal: doctor(&base),
            patient: None,
            action: Action::Read,
            purpose: Purpose::Treatment,
            labels: Labels { category: Category::Laboratory, sensitivity: Sensitivity::Normal },
            now: 500_000,
        };
        (pair.request)(&mut request);
        let patient = request.patient.clone().unwrap_or_else(|| base.patient.clone());
        // As in production: only grants that could cover the caller are candidates, and the directory has none.
        let candidates: Vec<Grant> = std::iter::once(grant)
            .filter(|grant| request.principal.is_covered_by(grant) && !patient.is_directory())
            .collect();
        let situation = Situation {
            principal: &request.principal,
            patient: &patient,
            candidates: &candidates,
            action: request.action,
            purpose: request.purpose,
            now: Timestamp::from_ms(request.now),
        };
        look(&situation, request.labels)
    }

    /// All label sets at once are decided as each alone: the policies do not tell apart what a grant names alike.
    #[test]
    fn what_holds_for_one_label_set_holds_for_its_like() {
        let engine = PolicyEngine::load().unwrap();
        let all = Category::ALL.iter().flat_map(|category| {
            Sensitivity::ALL
                .iter()
                .map(|sensitivity| Labels { category: *category, sensitivity: *sensitivity })
        });
        let all: Vec<Labels> = all.collect();
        for pair in &table() {
            situated(pair, |situation, _| {
                let together = decide(&engine, situation, all.iter().copied());
                for labels in &all {
                    assert_eq!(together[labels], one(&engine, situation, *labels), "{}", pair.name);
                }
            });
        }
    }

    #[test]
    fn every_pair_of_grant_and_request_has_its_verdict() {
        let engine = PolicyEngine::load().unwrap();
        let table = table();
        assert!(table.len() >= 40);
        for pair in &table {
            assert_eq!(verdict(&engine, pair), pair.verdict, "{}", pair.name);
        }
    }

    #[test]
    fn every_policy_decides_at_least_one_pair() {
        let decided: std::collections::BTreeSet<String> =
            table().iter().map(|pair| pair.verdict.trim_start_matches('+').to_owned()).collect();
        for rule in PolicyEngine::load().unwrap().rules() {
            assert!(decided.contains(&rule), "{rule}");
        }
    }

    #[test]
    fn without_the_filter_of_candidates_the_policies_say_the_same() {
        let engine = PolicyEngine::load().unwrap();
        let mut grant = active();
        agency_grant(&mut grant);
        let principal = doctor(&active());
        let situation = Situation {
            principal: &principal,
            patient: &grant.patient.clone(),
            candidates: &[grant],
            action: Action::Read,
            purpose: Purpose::Treatment,
            now: Timestamp::from_ms(500_000),
        };
        let labels = Labels { category: Category::Laboratory, sensitivity: Sensitivity::Normal };
        assert!(!one(&engine, &situation, labels).is_allowed());
    }

    #[test]
    fn the_widest_of_several_grants_opens() {
        let engine = PolicyEngine::load().unwrap();
        let (mut narrow, mut other) = (active(), active());
        narrow.scope.purposes = vec![Purpose::Payment];
        other.scope.future_records = false;
        let principal = doctor(&narrow);
        let situation = Situation {
            principal: &principal,
            patient: &other.patient.clone(),
            candidates: &[narrow, other],
            action: Action::Read,
            purpose: Purpose::Treatment,
            now: Timestamp::from_ms(500_000),
        };
        let labels = Labels { category: Category::Laboratory, sensitivity: Sensitivity::Normal };
        let Verdict::Allowed { limit: Some(limit), .. } = one(&engine, &situation, labels) else {
            panic!("the second grant opens, with its limit");
        };
        assert!(!limit.covers(labels, 1, Timestamp::from_ms(0)), "it saw no numbers");
    }
}
