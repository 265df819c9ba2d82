//! What a client may ask for: SMART's scopes (HL7 SMART App Launch 2.2, "SMART's scopes"). A back office has
//! `system/{type}.{permissions}`, an app `patient/{type}.{permissions}`, maybe of one category of observations, and words beside
//! them. Reading (`r`), searching (`s`) and creating (`c`) are given; version 1's `.read` means the first two.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::classify::type_categories;
use crate::codes::codes;
use crate::labels::Category;

/// Longest text of scopes, in bytes.
const LONGEST: usize = 2_000;
/// The code system of [`CATEGORIES`], where a scope names one.
const CATEGORY_SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/observation-category";
/// Categories of observations that a scope may name, which are ours by the same names.
const CATEGORIES: [Category; 4] =
    [Category::Laboratory, Category::VitalSigns, Category::SocialHistory, Category::Imaging];

/// What is asked for at `/fhir`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interaction {
    /// One resource by its id.
    Read,
    /// Several by what they hold.
    Search,
    /// A new one.
    Create,
}

codes! {
    /// In whose name a client asks.
    Level {
        /// An app, for the patient who let it in.
        Patient = "patient",
        /// A back office or a gateway, in its own.
        System = "system",
    }
}

codes! {
    /// What an app asks for beside records.
    ScopeWord {
        /// Which patient it is about.
        LaunchPatient = "launch/patient",
        /// Who signed in: an ID token (OpenID Connect Core 1.0).
        OpenId = "openid",
        /// The FHIR resource of who signed in, in the ID token.
        FhirUser = "fhirUser",
        /// New tokens as long as the patient is there.
        OnlineAccess = "online_access",
        /// New tokens when the patient is not there, too.
        OfflineAccess = "offline_access",
    }
}

/// One scope about records; `*` is every type.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Scope {
    level: Level,
    kind: String,
    /// Of observations: those of one category.
    category: Option<Category>,
    create: bool,
    read: bool,
    search: bool,
}

impl Scope {
    fn parse(text: &str) -> Option<Self> {
        let (level, rest) = text.split_once('/')?;
        let (kind, rest) = rest.split_once('.')?;
        let (permissions, query) = match rest.split_once('?') {
            Some((permissions, query)) => (permissions, Some(query)),
            None => (rest, None),
        };
        let named = kind.bytes().all(|b| b.is_ascii_alphabetic())
            && kind.starts_with(|c: char| c.is_ascii_uppercase());
        if kind != "*" && !named {
            return None;
        }
        let category = match query {
            None => None,
            Some(query) if kind == "Observation" => Some(category_of(query)?),
            Some(_) => return None,
        };
        // The letters in the order that SMART gives them.
        let letters = if permissions == "read" { "rs" } else { permissions };
        let mut left = letters;
        let mut take = |letter: char| match left.strip_prefix(letter) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        };
        let (create, read, search) = (take('c'), take('r'), take('s'));
        let is_whole = left.is_empty() && (create || read || search);
        is_whole.then_some(Self {
            level: Level::parse(level)?,
            kind: kind.to_owned(),
            category,
            create,
            read,
            search,
        })
    }

    /// What of an app's wish is given: it wishes for more than there is, in both of SMART's versions.
    fn wished(text: &str) -> Option<Self> {
        let (head, query) = match text.split_once('?') {
            Some((head, query)) => (head, Some(query)),
            None => (text, None),
        };
        let (kind, permissions) = head.rsplit_once('.')?;
        let given = match permissions {
            "read" | "*" => "rs".to_owned(),
            letters if letters.bytes().all(|b| b"cruds".contains(&b)) => {
                letters.chars().filter(|letter| matches!(letter, 'r' | 's')).collect()
            }
            _ => return None,
        };
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        Self::parse(&format!("{kind}.{given}{query}")).filter(|scope| scope.level == Level::Patient)
    }

    /// What two scopes both cover.
    fn meet(&self, other: &Self) -> Option<Self> {
        let kind = match (self.kind.as_str(), other.kind.as_str()) {
            (one, "*") => one,
            ("*", other) => other,
            (one, other) if one == other => one,
            _ => return None,
        };
        let category = match (self.category, other.category) {
            (Some(one), Some(other)) if one != other => return None,
            (one, other) => one.or(other),
        };
        let (create, read) = (self.create && other.create, self.read && other.read);
        let search = self.search && other.search;
        (self.level == other.level && (create || read || search)).then(|| Self {
            level: self.level,
            kind: kind.to_owned(),
            category,
            create,
            read,
            search,
        })
    }

    const fn permits(&self, interaction: Interaction) -> bool {
        match interaction {
            Interaction::Read => self.read,
            Interaction::Search => self.search,
            Interaction::Create => self.create,
        }
    }

    fn covers(&self, kind: &str, interaction: Interaction) -> bool {
        self.permits(interaction) && (self.kind == "*" || self.kind == kind)
    }
}

fn category_of(query: &str) -> Option<Category> {
    let token = query.strip_prefix("category=")?;
    let code = match token.split_once('|') {
        Some((CATEGORY_SYSTEM | "", code)) => code,
        Some(_) => return None,
        None => token,
    };
    CATEGORIES.into_iter().find(|category| category.code() == code)
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, kind, category, create, read, search } = self;
        write!(f, "{level}/{kind}.")?;
        for (letter, given) in [("c", create), ("r", read), ("s", search)] {
            f.write_str(if *given { letter } else { "" })?;
        }
        match category {
            Some(category) => write!(f, "?category={CATEGORY_SYSTEM}|{category}"),
            None => Ok(()),
        }
    }
}

/// Scopes, at least one, each once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scopes {
    records: Vec<Scope>,
    words: BTreeSet<ScopeWord>,
}

/// The text is not scopes that are given here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no scope that is given here: system/*.rs or patient/*.rs, with a resource type in the place of *, and .r, .s or .rs"
)]
pub struct ScopeError(String);

fn unknown(text: &str) -> ScopeError {
    ScopeError(text.chars().take(80).collect())
}

impl Scopes {
    /// Reads scopes with spaces between them.
    pub fn parse(text: &str) -> Result<Self, ScopeError> {
        if text.len() > LONGEST {
            return Err(unknown(text));
        }
        let (mut records, mut words) = (Vec::new(), BTreeSet::new());
        for word in text.split_ascii_whitespace() {
            match ScopeWord::parse(word) {
                Some(word) => {
                    words.insert(word);
                }
                None => records.push(Scope::parse(word).ok_or_else(|| unknown(word))?),
            }
        }
        Self::of(records, words)
    }

    fn of(mut records: Vec<Scope>, words: BTreeSet<ScopeWord>) -> Result<Self, ScopeError> {
        records.sort();
        records.dedup();
        let scopes = Self { records, words };
        // What is kept is what is written, and it must be read again.
        let written = scopes.to_string();
        if scopes.records.is_empty() || written.len() > LONGEST { Err(unknown(&written)) } else { Ok(scopes) }
    }

    /// What an app gets of what it wishes for: it may wish for more (RFC 6749 §3.3).
    pub fn wished(text: &str) -> Result<Self, ScopeError> {
        if text.len() > LONGEST {
            return Err(unknown(text));
        }
        let words = text.split_ascii_whitespace().filter_map(ScopeWord::parse).collect();
        let records = text.split_ascii_whitespace().filter_map(Scope::wished).collect();
        Self::of(records, words)
    }

    /// Whether they allow this for a type; `*`: for every type.
    #[must_use]
    pub fn allow(&self, kind: &str, interaction: Interaction) -> bool {
        self.records.iter().any(|scope| scope.covers(kind, interaction))
    }

    /// Whether they allow this for some type.
    #[must_use]
    pub fn allow_somewhere(&self, interaction: Interaction) -> bool {
        self.records.iter().any(|scope| scope.permits(interaction))
    }

    /// Whether others allow all that these do.
    #[must_use]
    pub fn are_within(&self, others: &Self) -> bool {
        let all = [Interaction::Read, Interaction::Search, Interaction::Create];
        self.words.is_subset(&others.words)
            && self.records.iter().all(|scope| {
                all.into_iter().all(|interaction| {
                    !scope.permits(interaction)
                        || others.records.iter().any(|other| {
                            other.level == scope.level
                                && other.covers(&scope.kind, interaction)
                                && (other.category.is_none() || other.category == scope.category)
                        })
                })
            })
    }

    /// Whether all of them are of this level, and ask for no more than reading or, of a gateway, creating.
    #[must_use]
    pub fn are_all(&self, level: Level, interactions: &[Interaction]) -> bool {
        let all = [Interaction::Read, Interaction::Search, Interaction::Create];
        self.records.iter().all(|scope| {
            scope.level == level
                && all.into_iter().all(|one| !scope.permits(one) || interactions.contains(&one))
        })
    }

    /// These about records, with the words of others: what an app may do is narrowed, not under which conditions.
    #[must_use]
    pub fn with_words_of(self, others: &Self) -> Self {
        Self { words: others.words.clone(), ..self }
    }

    /// What both these and others allow, if there is anything about records in it.
    #[must_use]
    pub fn within(&self, others: &Self) -> Option<Self> {
        let pairs = self.records.iter().flat_map(|one| others.records.iter().map(move |other| (one, other)));
        let records = pairs.filter_map(|(one, other)| one.meet(other)).collect();
        Self::of(records, self.words.intersection(&others.words).copied().collect()).ok()
    }

    /// Whether this word is among them.
    #[must_use]
    pub fn say(&self, word: ScopeWord) -> bool {
        self.words.contains(&word)
    }

    /// Whether there are no words among them.
    #[must_use]
    pub fn have_no_words(&self) -> bool {
        self.words.is_empty()
    }

    /// Categories of records that they can reach; nothing for all of them. Two scopes reach together what either does: one of
    /// laboratory observations and one of all reports reach laboratory and all categories of reports.
    #[must_use]
    pub fn categories(&self) -> Option<BTreeSet<Category>> {
        let mut categories = BTreeSet::new();
        for scope in &self.records {
            match scope.category {
                Some(category) => {
                    categories.insert(category);
                }
                None if scope.kind == "*" => return None,
                None => categories.extend(type_categories(&scope.kind)),
            }
        }
        Some(categories)
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
        let words = self.words.iter().map(|word| word.code().to_owned());
        let all: Vec<String> = words.chain(self.records.iter().map(ToString::to_string)).collect();
        f.write_str(&all.join(" "))
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
        crate::schema::text(PATTERN, "SMART scopes").into()
    }
}

/// One scope after the other, with spaces between them.
const PATTERN: &str = concat!(
    r"^((system|patient)/(\*|[A-Z][A-Za-z]*)\.(c?rs?|cs?|s|read)(\?category=[!-~]+)?|[a-zA-Z_]+|launch/patient)",
    r"( +((system|patient)/(\*|[A-Z][A-Za-z]*)\.(c?rs?|cs?|s|read)(\?category=[!-~]+)?|[a-zA-Z_]+|launch/patient))*$"
);

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
        let app =
            "offline_access patient/Observation.rs?category=laboratory launch/patient patient/Condition.r";
        assert_eq!(
            scopes(app).to_string(),
            "launch/patient offline_access patient/Condition.r \
             patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory"
        );
        assert_eq!(scopes(&scopes(app).to_string()), scopes(app));
        assert_eq!(scopes("system/Observation.crs").to_string(), "system/Observation.crs");
        for bad in [
            "",
            " ",
            "openid",
            "launch",
            "system/*",
            "system/*.",
            "system/*.cruds",
            "system/*.write",
            "system/*.*",
            "system/*.sr",
            "system/*.rr",
            "user/*.rs",
            "system/patient.rs",
            "System/*.rs",
            "system/.rs",
            "patient/Condition.rs?category=laboratory",
            "patient/Observation.rs?category=",
            "patient/Observation.rs?category=exam",
            "patient/Observation.rs?category=http://example.org|laboratory",
            "patient/Observation.rs?code=1",
            "patient/*.rs?category=laboratory",
        ] {
            assert!(Scopes::parse(bad).is_err(), "{bad}");
        }
        assert!(Scopes::parse(&"system/*.rs ".repeat(200)).is_err());
        // Short as it is typed, and too long as it is written.
        let permissions = ["c", "r", "s", "cr", "cs", "rs", "crs"];
        let all: Vec<String> = ["laboratory", "vital-signs", "social-history", "imaging"]
            .iter()
            .flat_map(|category| {
                permissions.map(|letters| format!("patient/Observation.{letters}?category={category}"))
            })
            .collect();
        assert!(all.join(" ").len() < LONGEST && Scopes::parse(&all.join(" ")).is_err());
        let some = scopes(&all[..14].join(" "));
        assert_eq!(scopes(&some.to_string()), some);
        assert_eq!(
            some.within(&scopes(&all[..14].join(" "))).map(|both| scopes(&both.to_string())),
            Some(some)
        );
    }

    #[test]
    fn an_app_gets_what_there_is_of_what_it_wishes_for() {
        let wished = |text: &str| Scopes::wished(text).map(|scopes| scopes.to_string()).ok();
        assert_eq!(
            wished(
                "launch launch/patient openid fhirUser profile patient/*.cruds patient/Condition.write user/*.rs"
            ),
            Some("launch/patient openid fhirUser patient/*.rs".to_owned())
        );
        assert_eq!(wished("patient/*.*").as_deref(), Some("patient/*.rs"));
        assert_eq!(wished("patient/Observation.read").as_deref(), Some("patient/Observation.rs"));
        assert_eq!(wished("patient/Observation.rs?category=exam"), None);
        assert_eq!(wished("system/*.rs offline_access"), None);
        assert_eq!(wished("patient/*.c"), None);
    }

    #[test]
    fn a_scope_allows_its_type_and_no_more() {
        use Interaction::{Create, Read, Search};
        let some = scopes("system/Observation.rs system/Patient.r");
        assert!(
            some.allow("Observation", Read)
                && some.allow("Observation", Search)
                && some.allow("Patient", Read)
        );
        assert!(!some.allow("Patient", Search) && !some.allow("Condition", Read) && !some.allow("*", Search));
        assert!(
            !some.allow("Observation", Create) && scopes("system/Observation.c").allow("Observation", Create)
        );
        let all = scopes("system/*.rs");
        assert!(all.allow("Condition", Read) && all.allow("*", Search));
        assert!(some.are_within(&all) && !all.are_within(&some) && some.are_within(&some));
        assert!(!scopes("system/Patient.rs").are_within(&some));
        assert!(scopes("system/Patient.rs").are_within(&scopes("system/*.r system/Patient.s")));
        assert!(!scopes("patient/Patient.rs").are_within(&all), "another level");
        let laboratory = scopes("patient/Observation.rs?category=laboratory");
        let observations = scopes("patient/Observation.rs");
        assert!(laboratory.are_within(&observations) && !observations.are_within(&laboratory));
        assert!(!scopes("patient/Observation.rs offline_access").are_within(&observations));
    }

    #[test]
    fn what_two_allow() {
        let within = |one: &str, other: &str| scopes(one).within(&scopes(other)).map(|both| both.to_string());
        let some = "launch/patient patient/Observation.rs patient/Condition.r";
        assert_eq!(
            within("launch/patient openid patient/*.rs", some).as_deref(),
            Some("launch/patient patient/Condition.r patient/Observation.rs")
        );
        assert_eq!(within("patient/Observation.rs?category=laboratory", some), Some(
            "patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory"
                .to_owned()
        ));
        assert_eq!(within("patient/Patient.rs", some), None);
        assert_eq!(within("patient/Condition.s", some), None);
        assert_eq!(within("system/*.rs", some), None);
    }

    #[test]
    fn scopes_reach_categories() {
        let reach = |text: &str| scopes(text).categories().map(|all| all.into_iter().collect::<Vec<_>>());
        assert_eq!(reach("patient/*.rs"), None);
        assert_eq!(reach("patient/Observation.rs?category=laboratory"), Some(vec![Category::Laboratory]));
        assert_eq!(
            reach("patient/Condition.rs patient/Observation.rs?category=vital-signs"),
            Some(vec![Category::Condition, Category::VitalSigns])
        );
        assert!(reach("patient/Observation.rs").unwrap().contains(&Category::Observation));
    }
}
