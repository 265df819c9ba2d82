//! Who may call what: the one list, kept in `data/callers.txt`, that the tests of every service and of the whole stack hold
//! their operations against.

use hbc_types::account::{Role, ServiceRole};

const TABLE: &str = include_str!("../data/callers.txt");

/// An operation and the kinds of callers of whom some are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// `auth`, `access-policy`, `storage` or `ledger`.
    pub service: &'static str,
    /// `GET`, `POST` and so on.
    pub method: &'static str,
    /// The path's template.
    pub path: &'static str,
    callers: Vec<&'static str>,
}

impl Operation {
    /// `METHOD /path`, as a service's description of its own operations names it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// True if no credentials are needed.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.callers == ["anybody"]
    }

    /// True if users call it with their own token, and no service for them.
    #[must_use]
    pub fn is_for_users(&self) -> bool {
        ROLES.iter().any(|role| self.serves(*role))
    }

    /// True if some users of this role are served.
    #[must_use]
    pub fn serves(&self, role: Role) -> bool {
        self.callers.contains(&role.code())
    }

    /// The roles of which nobody is served, where users call it at all.
    #[must_use]
    pub fn strangers(&self) -> Vec<Role> {
        if !self.is_for_users() {
            return Vec::new();
        }
        ROLES.into_iter().filter(|role| !self.serves(*role)).collect()
    }

    /// The service that alone may call it.
    #[must_use]
    pub fn caller(&self) -> Option<ServiceRole> {
        let roles = [ServiceRole::AccessPolicy, ServiceRole::Auth, ServiceRole::Storage];
        roles.into_iter().find(|role| self.callers == [role.code()])
    }
}

/// Everybody who holds a token.
const ROLES: [Role; 3] = [Role::Patient, Role::Agency, Role::Operator];

/// The whole list.
///
/// # Panics
/// If a line is none.
#[must_use]
#[expect(clippy::expect_used, reason = "a list that cannot be read fails every test that uses it")]
pub fn all() -> Vec<Operation> {
    let line = |line: &'static str| {
        let (operation, callers) = line.split_once(": ")?;
        let mut words = operation.split(' ');
        let (service, method, path) = (words.next()?, words.next()?, words.next()?);
        Some(Operation { service, method, path, callers: callers.split(' ').collect() })
    };
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    lines.map(|text| line(text).expect("`service METHOD /path: callers`")).collect()
}

/// The operations of one service.
#[must_use]
pub fn of(service: &str) -> Vec<Operation> {
    all().into_iter().filter(|operation| operation.service == service).collect()
}

/// Names of the operations of one service, sorted.
#[must_use]
pub fn names(service: &str) -> Vec<String> {
    sorted(of(service).iter())
}

/// Names of a service's operations that anybody may call, sorted.
#[must_use]
pub fn public(service: &str) -> Vec<String> {
    sorted(of(service).iter().filter(|operation| operation.is_public()))
}

fn sorted<'a>(operations: impl Iterator<Item = &'a Operation>) -> Vec<String> {
    let mut names: Vec<String> = operations.map(Operation::name).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_names_known_callers_and_stands_once() {
        let known = ["anybody", "patient", "agency", "operator", "device", "auth", "storage", "member"];
        let all = all();
        for operation in &all {
            assert!(!operation.callers.is_empty(), "{operation:?}");
            assert!(operation.callers.iter().all(|caller| known.contains(caller)), "{operation:?}");
            assert!(!operation.callers.contains(&"anybody") || operation.is_public(), "{operation:?}");
            let same = all
                .iter()
                .filter(|other| (other.service, other.name()) == (operation.service, operation.name()));
            assert_eq!(same.count(), 1, "{operation:?}");
        }
    }
}
