//! An app's authorization request (RFC 6749 §4.1.1 with OAuth 2.1's rules, RFC 7636, SMART App Launch 2.2 "Obtain authorization
//! code"): what it may say, where its answer may go, and the code.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hbc_types::codes::codes;
use hbc_types::hash::domain_hash;
use hbc_types::ids::AppId;
use hbc_types::scope::Scopes;
use hbc_types::secret::SecretText;
use hbc_types::{Digest, Random};
use subtle::ConstantTimeEq as _;
use url::Url;
use zeroize::Zeroizing;

/// Longest query.
const LONGEST: usize = 4_096;
/// Longest `state` and `nonce`.
const LONGEST_WORD: usize = 1_024;
/// Longest redirect URI.
const LONGEST_URI: usize = 250;
/// Schemes that run or read something in a browser.
const DANGEROUS: [&str; 10] =
    ["javascript", "data", "file", "blob", "about", "vbscript", "ftp", "ws", "wss", "view-source"];

codes! {
    /// How far an app's question is.
    Step {
        /// The patient did not answer yet.
        Asked = "asked",
        /// The patient said yes: a code is out.
        Allowed = "allowed",
        /// The patient said no.
        Denied = "denied",
        /// The code was used.
        Used = "used",
    }
}

/// A parameter's fault, in OAuth's words (RFC 6749 §4.1.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// `error`.
    pub error: &'static str,
    /// `error_description`: characters that the RFC leaves to it.
    pub words: &'static str,
}

const fn refused(error: &'static str, words: &'static str) -> Refused {
    Refused { error, words }
}

/// A query whose parameters come once each.
#[derive(Clone, Debug)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query; one that names a parameter twice is none (RFC 6749 §3.1).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('?').unwrap_or(text);
        if text.len() > LONGEST {
            return None;
        }
        let pairs: Vec<(String, String)> =
            url::form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        let mut names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.is_sorted_by(|one, next| one < next).then_some(Self(pairs))
    }

    /// A parameter's value; an empty one is as if it were not there (RFC 6749 §3.1).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(found, value)| found == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// The app that it names.
    #[must_use]
    pub fn app(&self) -> Option<AppId> {
        AppId::parse(self.get("client_id")?).ok()
    }

    /// `state`, which goes back with every answer.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.get("state").filter(|state| state.len() <= LONGEST_WORD)
    }
}

/// What an app asks, once it is known who it is and where its answer goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What it gets of what it asks for.
    pub scopes: Scopes,
    /// `code_challenge`.
    pub challenge: Digest,
    /// `nonce` (OpenID Connect Core 1.0 §3.1.2.1).
    pub nonce: Option<String>,
    /// `aud`: the FHIR server that it means to call.
    pub fhir_url: String,
}

/// Reads an app's question. `fhir_urls` are the addresses of the deployment's FHIR server, `registered` the most that the app may
/// ask for.
pub fn question(query: &Query, registered: &Scopes, fhir_url: &str) -> Result<Question, Refused> {
    for unsupported in ["request", "request_uri", "registration"] {
        if query.get(unsupported).is_some() {
            return Err(refused("request_not_supported", "parameters come in the query alone"));
        }
    }
    if query.get("response_type") != Some("code") {
        return Err(refused("unsupported_response_type", "response_type is code"));
    }
    if query.get("response_mode").is_some_and(|mode| mode != "query") {
        return Err(refused("invalid_request", "response_mode is query"));
    }
    if query.get("prompt").is_some_and(|prompt| prompt.split(' ').any(|word| word == "none")) {
        return Err(refused("interaction_required", "the patient is asked each time"));
    }
    if query.get("code_challenge_method") != Some("S256") {
        return Err(refused("invalid_request", "PKCE is needed, by S256"));
    }
    let challenge = query.get("code_challenge").and_then(challenge);
    let challenge =
        challenge.ok_or(refused("invalid_request", "code_challenge is no SHA-256 in base64url"))?;
    if ["state", "nonce"].iter().any(|name| query.get(name).is_some_and(|word| word.len() > LONGEST_WORD)) {
        return Err(refused("invalid_request", "state and nonce have at most 1,024 bytes"));
    }
    let same = |given: &str| given.trim_end_matches('/') == fhir_url.trim_end_matches('/');
    let aud = query.get("aud").or_else(|| query.get("resource"));
    if !aud.is_some_and(same) {
        return Err(refused("invalid_request", "aud is the address of the FHIR server that is meant"));
    }
    let asked = query.get("scope").and_then(|text| Scopes::wished(text).ok());
    let scopes = asked.and_then(|asked| asked.within(registered));
    let scopes = scopes.ok_or(refused("invalid_scope", "nothing of it is open to this app"))?;
    let nonce = query.get("nonce").map(str::to_owned);
    Ok(Question { scopes, challenge, nonce, fhir_url: fhir_url.trim_end_matches('/').to_owned() })
}

/// A challenge: the SHA-256 of the verifier, in base64url without padding.
fn challenge(text: &str) -> Option<Digest> {
    let bytes: [u8; 32] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
    Some(Digest::from_bytes(bytes))
}

/// Whether a verifier is the one of a challenge (RFC 7636 §4.6).
#[must_use]
pub fn verifies(verifier: &str, challenge: &Digest) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let form = (43..=128).contains(&verifier.len()) && verifier.bytes().all(allowed);
    let digest = Digest::of(verifier.as_bytes());
    form && bool::from(digest.as_bytes().as_slice().ct_eq(challenge.as_bytes().as_slice()))
}

/// Why an app may not register such a redirect URI (RFC 9700 §2.1, RFC 8252 §7, RFC 6749 §3.1.2).
pub fn check_redirect_uri(text: &str) -> Result<(), &'static str> {
    if text.len() > LONGEST_URI || text.contains(char::is_whitespace) {
        return Err("may have 250 bytes and no spaces");
    }
    let url = Url::parse(text).map_err(|_not_a_url| "is no absolute address")?;
    if url.fragment().is_some() || text.contains('#') {
        return Err("may have no fragment");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("may name no user");
    }
    match url.scheme() {
        "https" if url.host_str().is_some_and(|host| !host.contains('*')) => Ok(()),
        "http" if is_loopback(&url) => Ok(()),
        "https" | "http" => Err("needs https and a host, or http to the app's own machine"),
        scheme if DANGEROUS.contains(&scheme) => Err("has a scheme that no app may have"),
        scheme if scheme.contains('.') => Ok(()),
        _ => Err("needs https, or a scheme of the app's own: its domain backwards, as in com.example.app"),
    }
}

fn is_loopback(url: &Url) -> bool {
    matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"))
}

/// Whether an answer may go to `asked`: a registered address letter by letter; on the app's own machine with any port (RFC 8252
/// §7.3).
#[must_use]
pub fn may_answer_at(registered: &[String], asked: &str) -> bool {
    registered.iter().any(|known| known == asked || same_but_port(known, asked))
}

fn same_but_port(known: &str, asked: &str) -> bool {
    matches!((loopback(known), loopback(asked)), (Some(known), Some(asked)) if known == asked)
}

/// Host and rest of an address on the app's own machine, without its port. What is compared is what was written: a parser that
/// forgives would let other spellings pass.
fn loopback(uri: &str) -> Option<(&'static str, &str)> {
    let hosts = ["http://127.0.0.1", "http://[::1]"];
    let (host, rest) = hosts.into_iter().find_map(|host| uri.strip_prefix(host).map(|rest| (host, rest)))?;
    let rest = match rest.strip_prefix(':') {
        None => rest,
        Some(port) => {
            let digits = port.find(|c: char| !c.is_ascii_digit()).unwrap_or(port.len());
            let (port, rest) = port.split_at(digits);
            port.parse::<u16>().ok().filter(|port| *port > 0)?;
            rest
        }
    };
    (rest.is_empty() || rest.starts_with(['/', '?'])).then_some((host, rest))
}

/// What a patient can recognise of an address.
#[must_use]
pub fn origin(uri: &str) -> String {
    match Url::parse(uri) {
        Ok(url) if matches!(url.scheme(), "https" | "http") => url.origin().ascii_serialization(),
        Ok(url) => format!("{}:", url.scheme()),
        Err(_) => String::new(),
    }
}

/// An address with an answer in its query (RFC 6749 §4.1.2, RFC 9207 §2).
#[must_use]
pub fn answer(uri: &str, state: Option<&str>, issuer: &str, parameters: &[(&str, &str)]) -> SecretText {
    let Ok(mut url) = Url::parse(uri) else { return SecretText::new(String::new()) };
    {
        let mut query = url.query_pairs_mut();
        query.extend_pairs(parameters);
        query.extend_pairs(state.map(|state| ("state", state)));
        query.append_pair("iss", issuer);
    }
    SecretText::new(url.into())
}

/// A code: 32 random bytes, for one use within a minute.
pub struct Code(Zeroizing<[u8; 32]>);

impl Code {
    /// A fresh one.
    #[must_use]
    pub fn random(random: &Random) -> Self {
        Self(Zeroizing::new(random.bytes()))
    }

    /// Reads the written form.
    #[must_use]
    pub fn parse(text: &SecretText) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        let written = text.expose().strip_prefix("hbc_code_")?;
        let length = URL_SAFE_NO_PAD.decode_slice(written, bytes.as_mut_slice()).ok()?;
        (length == 32).then_some(Self(bytes))
    }

    /// The written form.
    #[must_use]
    pub fn write(&self) -> SecretText {
        SecretText::new(format!("hbc_code_{}", URL_SAFE_NO_PAD.encode(self.0.as_slice())))
    }

    /// What the database knows of it.
    #[must_use]
    pub fn hash(&self) -> Digest {
        domain_hash("hbc/code/v1", &[self.0.as_slice()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FHIR: &str = "https://hbc.example/fhir";

    fn registered() -> Scopes {
        Scopes::parse("launch/patient openid fhirUser offline_access online_access patient/*.rs").unwrap()
    }

    fn asked(change: &[(&str, Option<&str>)]) -> Result<Question, Refused> {
        let mut pairs = vec![
            ("response_type", "code"),
            ("client_id", "app-00000000000000000000000000000001"),
            ("redirect_uri", "https://app.example/back"),
            ("scope", "launch/patient patient/*.rs"),
            ("state", "abc"),
            ("aud", FHIR),
            ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
            ("code_challenge_method", "S256"),
        ];
        for (name, value) in change {
            pairs.retain(|(known, _)| known != name);
            pairs.extend(value.map(|value| (*name, value)));
        }
        let text = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        question(&Query::parse(&text).unwrap(), &registered(), FHIR)
    }

    #[test]
    fn a_question_is_read_by_the_rules() {
        let good = asked(&[]).unwrap();
        assert_eq!(good.scopes.to_string(), "launch/patient patient/*.rs");
        // RFC 7636, appendix B.
        assert!(verifies("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", &good.challenge));
        assert!(!verifies("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXK", &good.challenge));
        assert!(!verifies("short", &Digest::of(b"short")), "a verifier has 43 characters at least");
        assert!(asked(&[("aud", Some("https://hbc.example/fhir/"))]).is_ok());
        assert!(asked(&[("aud", None), ("resource", Some(FHIR))]).is_ok());
        let error =
            |change: &[(&str, Option<&str>)]| asked(change).map_err(|refused| refused.error).unwrap_err();
        let cases: [(&str, Option<&str>, &str); 15] = [
            ("response_type", Some("token"), "unsupported_response_type"),
            ("response_type", None, "unsupported_response_type"),
            ("response_mode", Some("fragment"), "invalid_request"),
            ("code_challenge_method", Some("plain"), "invalid_request"),
            ("code_challenge_method", None, "invalid_request"),
            ("code_challenge", None, "invalid_request"),
            ("code_challenge", Some("dBjftJeZ4CVP-mB92K27uhbUJU1p1r"), "invalid_request"),
            ("aud", None, "invalid_request"),
            ("aud", Some("https://evil.example/fhir"), "invalid_request"),
            ("scope", Some("system/*.rs"), "invalid_scope"),
            ("scope", Some("openid"), "invalid_scope"),
            ("scope", None, "invalid_scope"),
            ("prompt", Some("none"), "interaction_required"),
            ("request", Some("e30"), "request_not_supported"),
            ("request_uri", Some("https://app.example/r"), "request_not_supported"),
        ];
        for (name, value, wanted) in cases {
            assert_eq!(error(&[(name, value)]), wanted, "{name} {value:?}");
        }
        assert!(Query::parse("client_id=a&client_id=b").is_none(), "a parameter twice");
        assert!(Query::parse(&"a".repeat(5_000)).is_none());
    }

    #[test]
    fn only_addresses_of_the_app_are_registered() {
        for good in [
            "https://app.example/back",
            "https://app.example/back?x=1",
            "http://127.0.0.1/back",
            "http://127.0.0.1:8000/back",
            "http://[::1]/back",
            "http://localhost:3000/back",
            "com.example.app:/back",
        ] {
            assert_eq!(check_redirect_uri(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "back",
            "/back",
            "//app.example/back",
            "http://app.example/back",
            "https://app.example/back#top",
            "https://app.example/back#",
            "https://user@app.example/back",
            "https://*.example/back",
            "https://app.example/ba ck",
            "javascript:alert(1)",
            "data:text/html,x",
            "myapp:/back",
            "http://127.0.0.1.evil.example/back",
        ] {
            assert!(check_redirect_uri(bad).is_err(), "{bad}");
        }
        assert!(check_redirect_uri(&format!("https://app.example/{}", "a".repeat(250))).is_err());
    }

    #[test]
    fn an_answer_goes_to_a_registered_address_letter_by_letter() {
        let known = ["https://app.example/back".to_owned(), "http://127.0.0.1/back".to_owned()];
        for good in [
            "https://app.example/back",
            "http://127.0.0.1/back",
            "http://127.0.0.1:51004/back",
            "http://127.0.0.1:80/back",
        ] {
            assert!(may_answer_at(&known, good), "{good}");
        }
        for bad in [
            "https://app.example/back/",
            "https://app.example/back?x=1",
            "https://APP.example/back",
            "https://app.example:443/back",
            "https://app.example/./back",
            "https://app.example.evil.example/back",
            "https://evil.example/https://app.example/back",
            "http://app.example/back",
            "http://127.0.0.1:51004/other",
            "http://127.0.0.1:51004/back#x",
            "http://127.0.0.1:51004/x/../back",
            "http://user@127.0.0.1:51004/back",
            "http://localhost:51004/back",
            "http://127.0.0.1:/back",
            "http://127.0.0.1:65536/back",
            "http://127.0.0.1:80@evil.example/back",
            "http://127.0.0.1:80evil.example/back",
            "http://127.0.0.1.evil.example/back",
            "http://[::1]:51004/back",
        ] {
            assert!(!may_answer_at(&known, bad), "{bad}");
        }
    }

    #[test]
    fn an_answer_keeps_what_the_address_says() {
        let uri =
            answer("https://app.example/back?x=1", Some("a b&c"), "https://hbc.example", &[("code", "c1")]);
        let wanted = "https://app.example/back?x=1&code=c1&state=a+b%26c&iss=https%3A%2F%2Fhbc.example";
        assert_eq!(uri.expose(), wanted);
        assert_eq!(origin("https://app.example:8443/back?x=1"), "https://app.example:8443");
        assert_eq!(origin("com.example.app:/back"), "com.example.app:");
    }

    #[test]
    fn a_code_survives_writing() {
        let code = Code::random(&Random::seeded(1));
        assert_eq!(Code::parse(&code.write()).unwrap().hash(), code.hash());
        for bad in ["", "hbc_code_", "hbc_code_AAAA", "hbr_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
            assert!(Code::parse(&SecretText::new(bad.to_owned())).is_none(), "{bad}");
        }
    }
}
