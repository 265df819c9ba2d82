//! What a grant covers: whether a scope makes sense, and whether one is no wider than another.

use std::time::Duration;

use hbc_types::Timestamp;
use hbc_types::ids::GranteeId;
use hbc_types::purpose::{Action, Purpose};
use hbc_types::wire::access::Scope;

/// A grant or request of more than ten years is a slip of the pen.
const LONGEST: Duration = Duration::from_secs(3653 * 24 * 60 * 60);

/// How long an app may have access (FORMATS §2).
const APP_LONGEST: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// A field of a scope that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct ScopeError {
    /// The field's name within the scope.
    pub field: &'static str,
    /// What is wrong with it.
    pub message: &'static str,
}

const fn wrong(field: &'static str, message: &'static str) -> ScopeError {
    ScopeError { field, message }
}

/// Sorts the lists and drops repetitions, so that equal scopes have equal texts, and checks what is left.
pub fn normalise(scope: Scope, grantee: &GranteeId, now: Timestamp) -> Result<Scope, ScopeError> {
    let scope = ordered(scope);
    // Without `..`, here and below: a field that is added does not compile until it is named.
    let Scope { actions, categories, sensitivities, purposes, from, until, future_records: _either } = &scope;
    if actions.is_empty() {
        return Err(wrong("actions", "at least one is needed"));
    }
    if categories.is_empty() {
        return Err(wrong("categories", "at least one is needed"));
    }
    if sensitivities.is_empty() {
        return Err(wrong("sensitivities", "at least one is needed"));
    }
    if purposes.is_empty() {
        return Err(wrong("purposes", "at least one is needed"));
    }
    check_kind(&scope, grantee)?;
    if until <= from {
        return Err(wrong("until", "must be later than `from`"));
    }
    if *until <= now {
        return Err(wrong("until", "must be in the future"));
    }
    if until.since(*from) > LONGEST {
        return Err(wrong("until", "must be within ten years of `from`"));
    }
    Ok(scope)
}

/// What only some grantees get: an app reads, a device writes, both for the patient and for no purpose of their own.
fn check_kind(scope: &Scope, grantee: &GranteeId) -> Result<(), ScopeError> {
    let Scope { actions, purposes, from, until, categories: _, sensitivities: _, future_records: _ } = scope;
    let only = match grantee {
        GranteeId::Agency(_) => {
            return if purposes.contains(&Purpose::PatientRequest) {
                Err(wrong(
                    "purposes",
                    "PATRQT is the patient's own purpose, and that of their apps and devices",
                ))
            } else {
                Ok(())
            };
        }
        GranteeId::App(_) | GranteeId::Link(_) => Action::Read,
        GranteeId::Device(_) => Action::Write,
    };
    if actions.iter().any(|action| *action != only) {
        return Err(wrong("actions", "an app only reads, a device only writes"));
    }
    if purposes.iter().any(|purpose| *purpose != Purpose::PatientRequest) {
        return Err(wrong("purposes", "an app and a device act for the patient: PATRQT"));
    }
    if matches!(grantee, GranteeId::App(_)) && until.since(*from) > APP_LONGEST {
        return Err(wrong("until", "an app has access for 90 days at most"));
    }
    Ok(())
}

/// The same scope with its lists ascending, each entry once.
#[must_use]
pub fn ordered(mut scope: Scope) -> Scope {
    tidy(&mut scope.actions);
    tidy(&mut scope.categories);
    tidy(&mut scope.sensitivities);
    tidy(&mut scope.purposes);
    scope
}

fn tidy<T: Ord>(list: &mut Vec<T>) {
    list.sort();
    list.dedup();
}

/// Governments never read, whoever grants it: a scope that says so would be a promise that no decision keeps.
pub fn check_reader(scope: &Scope, government: bool) -> Result<(), ScopeError> {
    if government && scope.actions.contains(&Action::Read) {
        return Err(wrong("actions", "`read` is not open to governments and their members"));
    }
    Ok(())
}

/// The first field in which `inner` is wider than `outer`, if there is one.
#[must_use]
pub fn wider_field(inner: &Scope, outer: &Scope) -> Option<&'static str> {
    fn within<T: PartialEq>(inner: &[T], outer: &[T]) -> bool {
        inner.iter().all(|item| outer.contains(item))
    }
    let Scope { actions, categories, sensitivities, purposes, from, until, future_records } = inner;
    let checks = [
        ("actions", within(actions, &outer.actions)),
        ("categories", within(categories, &outer.categories)),
        ("sensitivities", within(sensitivities, &outer.sensitivities)),
        ("purposes", within(purposes, &outer.purposes)),
        ("from", *from >= outer.from),
        ("until", *until <= outer.until),
        ("future_records", outer.future_records || !future_records),
    ];
    checks.into_iter().find(|(_, holds)| !holds).map(|(field, _)| field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hbc_types::Random;
    use hbc_types::ids::{AgencyId, AppId, DeviceId};
    use hbc_types::labels::{Category, Sensitivity};

    fn scope() -> Scope {
        Scope {
            actions: vec![Action::Read],
            categories: vec![Category::VitalSigns, Category::Laboratory, Category::Laboratory],
            sensitivities: vec![Sensitivity::Normal],
            purposes: vec![Purpose::Treatment],
            from: Timestamp::from_ms(1_000),
            until: Timestamp::from_ms(9_000),
            future_records: true,
        }
    }

    fn agency() -> GranteeId {
        GranteeId::Agency(AgencyId::random(&Random::seeded(1)))
    }

    #[test]
    fn an_app_reads_and_a_device_writes_for_the_patient() {
        let now = Timestamp::from_ms(2_000);
        let app = GranteeId::App(AppId::random(&Random::seeded(1)));
        let device = GranteeId::Device(DeviceId::random(&Random::seeded(1)));
        let reading = Scope { purposes: vec![Purpose::PatientRequest], ..scope() };
        let writing = Scope { actions: vec![Action::Write], ..reading.clone() };
        let field = |scope: &Scope, grantee: &GranteeId| {
            normalise(scope.clone(), grantee, now).map_err(|error| error.field).err()
        };
        assert_eq!((field(&reading, &app), field(&writing, &device)), (None, None));
        assert_eq!((field(&writing, &app), field(&reading, &device)), (Some("actions"), Some("actions")));
        assert_eq!((field(&scope(), &app), field(&writing, &agency())), (Some("purposes"), Some("purposes")));
        let longest = Scope { until: reading.from.plus(APP_LONGEST), ..reading };
        assert_eq!(field(&longest, &app), None);
        let longer = Scope { until: longest.until.plus(Duration::from_millis(1)), ..longest };
        assert_eq!(field(&longer, &app), Some("until"));
        assert_eq!(field(&Scope { actions: vec![Action::Write], ..longer }, &device), None);
    }

    #[test]
    fn lists_are_sorted_and_unique() {
        let scope = normalise(scope(), &agency(), Timestamp::from_ms(2_000)).unwrap();
        assert_eq!(scope.categories, vec![Category::Laboratory, Category::VitalSigns]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let now = Timestamp::from_ms(2_000);
        let empty = Scope { actions: vec![], ..scope() };
        assert_eq!(normalise(empty, &agency(), now).unwrap_err().field, "actions");
        let turned = Scope { until: Timestamp::from_ms(10), ..scope() };
        assert_eq!(normalise(turned, &agency(), now).unwrap_err().field, "until");
        assert_eq!(normalise(scope(), &agency(), Timestamp::from_ms(9_000)).unwrap_err().field, "until");
        let endless = Scope { until: Timestamp::from_ms(i64::MAX), ..scope() };
        assert_eq!(normalise(endless, &agency(), now).unwrap_err().field, "until");
        let own = Scope { purposes: vec![Purpose::Treatment, Purpose::PatientRequest], ..scope() };
        assert_eq!(normalise(own, &agency(), now).unwrap_err().field, "purposes", "the patient's own");
    }

    #[test]
    fn no_scope_lets_a_government_read() {
        assert_eq!(check_reader(&scope(), true).unwrap_err().field, "actions");
        assert_eq!(check_reader(&scope(), false), Ok(()));
        assert_eq!(check_reader(&Scope { actions: vec![Action::Answer], ..scope() }, true), Ok(()));
    }

    #[test]
    fn wider_is_named() {
        let outer = scope();
        assert_eq!(wider_field(&outer, &outer), None);
        let wider = Scope { actions: vec![Action::Read, Action::Write], ..scope() };
        assert_eq!(wider_field(&wider, &outer), Some("actions"));
        assert_eq!(wider_field(&outer, &wider), None);
        let longer = Scope { until: Timestamp::from_ms(9_001), ..scope() };
        assert_eq!(wider_field(&longer, &outer), Some("until"));
        let past_only = Scope { future_records: false, ..scope() };
        assert_eq!(wider_field(&outer, &past_only), Some("future_records"));
        assert_eq!(wider_field(&past_only, &outer), None);
    }
}
