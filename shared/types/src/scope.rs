//! What a back office may ask for: scopes `system/{type}.{permissions}` (HL7 SMART App Launch 2.2, "SMART's scopes"). Only
//! reading (`r`) and searching (`s`) are open to clients; version 1's `.read` means both.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest text of scopes, in bytes.
const LONGEST: usize = 2_000;

/// What is asked for at `/fhir`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interaction {
    /// One resource by its id.
    Read,
    /// Several by what they hold.
    Search,
}

/// One scope; `*` is every type.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Scope {
    kind: String,
    read: bool,
    search: bool,
}

impl Scope {
    fn parse(text: &str) -> Option<Self> {
        let (kind, permissions) = text.strip_prefix("system/")?.split_once('.')?;
        let named = kind.bytes().all(|b| b.is_ascii_alphabetic())
            && kind.starts_with(|c: char| c.is_ascii_uppercase());
        let (read, search) = match permissions {
            "rs" | "read" => (true, true),
            "r" => (true, false),
            "s" => (false, true),
            _ => return None,
        };
        (kind == "*" || named).then(|| Self { kind: kind.to_owned(), read, search })
    }

    fn covers(&self, kind: &str, interaction: Interaction) -> bool {
        let permitted = match interaction {
            Interaction::Read => self.read,
            Interaction::Search => self.search,
        };
        permitted && (self.kind == "*" || self.kind == kind)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, read, search } = self;
        write!(f, "system/{kind}.{}{}", if *read { "r" } else { "" }, if *search { "s" } else { "" })
    }
}

/// Scopes, at least one, each once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scopes(Vec<Scope>);

/// The text is not scopes that are given here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no scope that is given here: system/*.rs, or system/ with a resource type and .r, .s or .rs"
)]
pub struct ScopeError(String);

impl Scopes {
    /// Reads scopes with spaces between them.
    pub fn parse(text: &str) -> Result<Self, ScopeError> {
        if text.len() > LONGEST {
            return Err(ScopeError(text.chars().take(20).collect()));
        }
        let parse =
            |word: &str| Scope::parse(word).ok_or_else(|| ScopeError(word.chars().take(80).collect()));
        let mut scopes = text.split_ascii_whitespace().map(parse).collect::<Result<Vec<_>, _>>()?;
        scopes.sort();
        scopes.dedup();
        if scopes.is_empty() { Err(ScopeError(String::new())) } else { Ok(Self(scopes)) }
    }

    /// Whether they allow this for a type; `*`: for every type.
    #[must_use]
    pub fn allow(&self, kind: &str, interaction: Interaction) -> bool {
        self.0.iter().any(|scope| scope.covers(kind, interaction))
    }

    /// Whether others allow all that these do.
    #[must_use]
    pub fn are_within(&self, others: &Self) -> bool {
        self.0.iter().all(|scope| {
            (!scope.read || others.allow(&scope.kind, Interaction::Read))
                && (!scope.search || others.allow(&scope.kind, Interaction::Search))
        })
    }
}

impl std::str::FromStr for Scopes {
    type Err = ScopeError;
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        Self::parse(text)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.0.iter().enumerate() {
            write!(f, "{}{scope}", if index == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl utoipa::PartialSchema for Scopes {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        crate::schema::text(
            r"^system/(\*|[A-Z][A-Za-z]*)\.(rs?|s|read)( +system/(\*|[A-Z][A-Za-z]*)\.(rs?|s|read))*$",
            "SMART scopes",
        )
        .into()
    }
}

impl utoipa::ToSchema for Scopes {}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(text: &str) -> Scopes {
        Scopes::parse(text).unwrap()
    }

    #[test]
    fn scopes_are_read_in_both_versions_and_written_in_the_second() {
        assert_eq!(
            scopes("system/Patient.read  system/*.s system/*.s").to_string(),
            "system/*.s system/Patient.rs"
        );
        for bad in [
            "",
            " ",
            "system/*",
            "system/*.",
            "system/*.cruds",
            "system/*.write",
            "system/*.*",
            "system/*.sr",
            "patient/*.rs",
            "user/*.rs",
            "system/patient.rs",
            "system/Observation.rs?category=laboratory",
            "system/Observation.rs offline_access",
            "System/*.rs",
            "system/.rs",
            "openid",
        ] {
            assert!(Scopes::parse(bad).is_err(), "{bad}");
        }
        assert!(Scopes::parse(&"system/*.rs ".repeat(200)).is_err());
    }

    #[test]
    fn a_scope_allows_its_type_and_no_more() {
        use Interaction::{Read, Search};
        let some = scopes("system/Observation.rs system/Patient.r");
        assert!(
            some.allow("Observation", Read)
                && some.allow("Observation", Search)
                && some.allow("Patient", Read)
        );
        assert!(!some.allow("Patient", Search) && !some.allow("Condition", Read) && !some.allow("*", Search));
        let all = scopes("system/*.rs");
        assert!(all.allow("Condition", Read) && all.allow("*", Search));
        assert!(some.are_within(&all) && !all.are_within(&some) && some.are_within(&some));
        assert!(!scopes("system/Patient.rs").are_within(&some));
        assert!(scopes("system/Patient.rs").are_within(&scopes("system/*.r system/Patient.s")));
    }
}
