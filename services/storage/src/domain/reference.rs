//! The one reader of FHIR references: whatever decides by what a reference names asks here.
//!
//! A reference is relative (`Patient/1`), absolute (`https://…/Patient/1`), of one version (`…/_history/2`), a `urn:`, a
//! fragment (`#p`) or a condition (`Patient?identifier=…`). Senders also write types in other case, slashes at the end or
//! doubled, and escaped characters: all are read as what they mean. A URL below one of the deployment's own bases means
//! the same as a relative reference.

use hbc_types::classify;

/// The URLs under which the deployment's `/fhir` is reached.
#[derive(Clone, Debug, Default)]
pub struct Bases(Vec<String>);

impl Bases {
    /// From URLs such as `https://records.example/fhir`.
    #[must_use]
    pub fn new<'t>(urls: impl IntoIterator<Item = &'t str>) -> Self {
        Self(urls.into_iter().filter_map(authority_and_path).map(|url| format!("{url}/")).collect())
    }

    /// These, and one more.
    #[must_use]
    pub fn and(&self, url: &str) -> Self {
        let mut all = self.clone();
        all.0.extend(Self::new([url]).0.into_iter().filter(|base| !self.0.contains(base)));
        all
    }

    /// What follows the base in one of the own URLs.
    #[must_use]
    pub fn relative(&self, url: &str) -> Option<String> {
        let url = authority_and_path(url)?;
        let url = format!("{url}/");
        self.0.iter().find_map(|base| url.strip_prefix(base)).map(str::to_owned)
    }
}

/// An absolute URL without its scheme (`http` and `https` name one place), its host in lower case, single slashes, and
/// none at the end; nothing if it is of another scheme.
fn authority_and_path(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once(':')?;
    let rest = rest.strip_prefix("//")?;
    if !(scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")) {
        return None;
    }
    let mut segments = rest.split('/').filter(|segment| !segment.is_empty());
    let mut whole = segments.next()?.to_ascii_lowercase();
    for segment in segments {
        whole.push('/');
        whole.push_str(segment);
    }
    Some(whole)
}

/// What a reference names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A resource inside the one that refers: its id, empty for the container itself.
    Fragment(String),
    /// A resource of this deployment.
    Own {
        /// Its type, as FHIR spells it.
        kind: &'static str,
        /// Its id.
        id: String,
    },
    /// Whatever meets a condition.
    Search {
        /// The type, as FHIR spells it where it is one.
        kind: String,
        /// The query.
        query: String,
    },
    /// A resource of another server.
    Foreign {
        /// Its URL, in one spelling.
        url: String,
        /// Its type, where the URL ends as FHIR's URLs do.
        kind: Option<&'static str>,
    },
    /// A `urn:`, in lower case.
    Urn(String),
    /// Nothing that is understood.
    Unknown,
}

impl Target {
    /// Reads a reference.
    #[must_use]
    pub fn parse(text: &str, bases: &Bases) -> Self {
        let text = text.trim();
        if let Some(id) = text.strip_prefix('#') {
            return Self::Fragment(id.to_owned());
        }
        match scheme(text).map(str::to_ascii_lowercase).as_deref() {
            None => Self::relative(text),
            Some("urn") => Self::Urn(text.to_ascii_lowercase()),
            Some("http" | "https") => match text.split_once('?') {
                // A query stays as it is: of a path alone, slashes do not count.
                Some((path, query)) => match bases.relative(path).filter(|rest| !rest.is_empty()) {
                    Some(rest) => Self::relative(&format!("{rest}?{query}")),
                    None => Self::absolute(text),
                },
                None => match bases.relative(text) {
                    Some(rest) => Self::relative(&rest),
                    None => Self::absolute(text),
                },
            },
            Some(_) => Self::Unknown,
        }
    }

    fn relative(text: &str) -> Self {
        if let Some((kind, query)) = text.split_once('?') {
            let kind = kind.trim_matches('/');
            let kind = resource_type(kind).unwrap_or(kind).to_owned();
            return Self::Search { kind, query: query.to_owned() };
        }
        let steps = steps(text);
        match place(&steps) {
            Some((kind, id, 0)) => Self::Own { kind, id },
            // Something stands before the type: it names another place.
            Some((kind, _, _)) => Self::Foreign { url: steps.join("/"), kind: Some(kind) },
            None => Self::Unknown,
        }
    }

    fn absolute(text: &str) -> Self {
        // Whatever another server finds by it is a matter of that server.
        if let Some((url, query)) = text.split_once('?') {
            let url = authority_and_path(url).unwrap_or_else(|| url.to_owned());
            return Self::Foreign { url: format!("{url}?{query}"), kind: None };
        }
        let without_version = text.split("/_history").next().unwrap_or_default();
        let Some(url) = authority_and_path(without_version) else { return Self::Unknown };
        let steps = steps(&url);
        Self::Foreign { kind: place(&steps).map(|(kind, _, _)| kind), url }
    }

    /// The name under which an entry of a bundle is found, whichever way it is spelled.
    #[must_use]
    pub fn key(&self) -> Option<String> {
        match self {
            Self::Own { kind, id } => Some(format!("{kind}/{id}")),
            Self::Foreign { url, .. } => Some(format!("//{url}")),
            Self::Urn(text) => Some(text.clone()),
            Self::Fragment(_) | Self::Search { .. } | Self::Unknown => None,
        }
    }

    /// The type that it names, where it names one.
    #[must_use]
    pub fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Own { kind, .. } => Some(kind),
            Self::Foreign { kind, .. } => *kind,
            Self::Fragment(_) | Self::Search { .. } | Self::Urn(_) | Self::Unknown => None,
        }
    }
}

/// The type that a text names in whatever case.
#[must_use]
pub fn resource_type(text: &str) -> Option<&'static str> {
    let exact = classify::TYPES.binary_search_by(|(name, _)| (*name).cmp(text)).ok();
    let index =
        exact.or_else(|| classify::TYPES.iter().position(|(name, _)| name.eq_ignore_ascii_case(text)))?;
    classify::TYPES.get(index).map(|(name, _)| *name)
}

fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once(':')?;
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    (scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(is_scheme)).then_some(scheme)
}

/// The steps of a path, unescaped, without empty ones, fragment and version.
fn steps(text: &str) -> Vec<String> {
    let path = text.split('#').next().unwrap_or_default();
    let whole = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    let steps = whole.split('/').map(str::trim).filter(|step| !step.is_empty());
    steps.take_while(|step| *step != "_history").map(str::to_owned).collect()
}

/// The type and id with which a path ends, and how many steps stand before them.
fn place(steps: &[String]) -> Option<(&'static str, String, usize)> {
    let (id, rest) = steps.split_last()?;
    let (kind, before) = rest.split_last()?;
    Some((resource_type(kind)?, id.clone(), before.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Target {
        Target::parse(text, &Bases::new(["https://Records.example/fhir/", "http://10.0.0.1:7003/fhir"]))
    }

    #[test]
    fn every_spelling_of_an_own_resource_is_the_same_resource() {
        let own = Target::Own { kind: "Patient", id: "x-1".to_owned() };
        for text in [
            "Patient/x-1",
            " Patient/x-1 ",
            "patient/x-1",
            "PATIENT/x-1",
            "Patient/x-1/",
            "/Patient/x-1",
            "Patient//x-1",
            "Patient%2Fx-1",
            "%50atient/x-1",
            "Patient/x-1#p",
            "Patient/x-1/_history/1",
            "Patient/x-1/_history/",
            "https://records.example/fhir/Patient/x-1",
            "http://records.example/fhir/Patient/x-1",
            "HTTPS://RECORDS.example/fhir/Patient/x-1/",
            "https://records.example//fhir//patient/x-1/_history/7",
            "http://10.0.0.1:7003/fhir/Patient/x-1",
        ] {
            assert_eq!(parse(text), own, "{text}");
        }
    }

    #[test]
    fn what_is_elsewhere_is_not_here() {
        for text in [
            "https://records.example/Patient/x",
            "https://records.example.evil/fhir/Patient/x",
            "https://evil/fhir/Patient/x",
            "https://evil/?https://records.example/fhir/Patient/x",
            "https://evil/fhir/Patient?identifier=urn:ssn|1",
            "http://example.org/lookup?id=5",
            "fhir/Patient/x",
            "//records.example/fhir/Patient/x",
            "../Patient/x",
        ] {
            let found = parse(text);
            assert!(matches!(found, Target::Foreign { .. }), "{text}: {found:?}");
        }
        let versioned = parse("http://Other.example/fhir/Patient/7/_history/2");
        assert_eq!(versioned, parse("https://other.example/fhir/Patient/7/"));
        assert_eq!(versioned.kind(), Some("Patient"));
        assert_eq!(parse("http://other.example/people/7").kind(), None);
    }

    #[test]
    fn the_url_that_a_request_came_by_is_an_own_one() {
        let bases = Bases::new(["https://records.example/fhir"]).and("http://localhost:7104/fhir");
        let own = Target::Own { kind: "Patient", id: "x".to_owned() };
        for text in ["http://localhost:7104/fhir/Patient/x", "https://records.example/fhir/Patient/x"] {
            assert_eq!(Target::parse(text, &bases), own, "{text}");
        }
        assert!(matches!(
            Target::parse("http://localhost:7105/fhir/Patient/x", &bases),
            Target::Foreign { .. }
        ));
    }

    #[test]
    fn the_other_forms_are_told_apart() {
        assert_eq!(parse("#p"), Target::Fragment("p".to_owned()));
        assert_eq!(parse("#"), Target::Fragment(String::new()));
        assert_eq!(parse("urn:uuid:0A"), Target::Urn("urn:uuid:0a".to_owned()));
        assert_eq!(parse("URN:OID:1.2"), Target::Urn("urn:oid:1.2".to_owned()));
        let search =
            |kind: &str| Target::Search { kind: kind.to_owned(), query: "identifier=a:b|c/d".to_owned() };
        assert_eq!(parse("patient?identifier=a:b|c/d"), search("Patient"));
        assert_eq!(parse("Dog?identifier=a:b|c/d"), search("Dog"));
        let npi = "identifier=http://hl7.org/fhir/sid/us-npi/|1";
        for text in [
            format!("Practitioner?{npi}"),
            format!("https://records.example/fhir/Practitioner?{npi}"),
            format!("http://Records.example//fhir/practitioner/?{npi}"),
        ] {
            let whole = Target::Search { kind: "Practitioner".to_owned(), query: npi.to_owned() };
            assert_eq!(parse(&text), whole, "{text}");
        }
        for text in
            ["", "Patient", "Patient/", "Patient/x/$everything", "mailto:a@b.example", "x/y", "Patients/x"]
        {
            assert_eq!(parse(text), Target::Unknown, "{text}");
        }
    }
}
