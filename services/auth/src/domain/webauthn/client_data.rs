//! What the browser saw while a passkey was made or used (WebAuthn Level 3 §5.8.1): JSON whose hash the authenticator signs.

use hbc_types::secret::Bytes;
use serde::Deserialize;

use super::fault::CeremonyError;

/// What a page asked the authenticator for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ceremony {
    /// To make a passkey.
    Making,
    /// To use one.
    Using,
}

impl Ceremony {
    const fn code(self) -> &'static str {
        match self {
            Self::Making => "webauthn.create",
            Self::Using => "webauthn.get",
        }
    }
}

/// The members that count here; a browser may add others.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: Bytes,
    origin: String,
    #[serde(default)]
    cross_origin: Option<bool>,
    #[serde(default)]
    top_origin: Option<String>,
}

impl ClientData {
    /// Reads it.
    pub fn parse(json: &[u8]) -> Result<Self, CeremonyError> {
        serde_json::from_slice(json).map_err(|_other| CeremonyError::Malformed("clientDataJSON"))
    }

    /// The challenge that is answered.
    #[must_use]
    pub fn challenge(&self) -> &[u8] {
        self.challenge.as_slice()
    }

    /// Checks the kind and where the page came from: one of `origins`, as they are written, and not within another site's page.
    pub fn check(&self, ceremony: Ceremony, origins: &[String]) -> Result<(), CeremonyError> {
        let Self { kind, challenge: _looked_up, origin, cross_origin, top_origin } = self;
        if kind != ceremony.code() {
            return Err(CeremonyError::Ceremony);
        }
        if !origins.contains(origin) {
            return Err(CeremonyError::Origin);
        }
        if *cross_origin == Some(true) || top_origin.is_some() {
            return Err(CeremonyError::CrossOrigin);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_page_itself_and_the_ceremony_that_was_asked_for_count() {
        let origins = ["https://hbc.example".to_owned(), "http://localhost:7100".to_owned()];
        let good =
            json!({"type": "webauthn.get", "challenge": "AAEC", "origin": "https://hbc.example", "new": {}});
        let check = |name: &str, value: serde_json::Value| {
            let mut data = good.clone();
            data[name] = value;
            ClientData::parse(data.to_string().as_bytes())
                .and_then(|data| data.check(Ceremony::Using, &origins))
        };
        assert_eq!(check("crossOrigin", json!(false)), Ok(()));
        assert_eq!(check("origin", json!("http://localhost:7100")), Ok(()));
        for origin in [
            "http://hbc.example",
            "https://hbc.example/",
            "https://hbc.example:443",
            "https://HBC.example",
            "https://hbc.example.evil.test",
            "null",
            "",
        ] {
            assert_eq!(check("origin", json!(origin)), Err(CeremonyError::Origin), "{origin}");
        }
        assert_eq!(check("type", json!("webauthn.create")), Err(CeremonyError::Ceremony));
        assert_eq!(check("crossOrigin", json!(true)), Err(CeremonyError::CrossOrigin));
        assert_eq!(check("topOrigin", json!("https://hbc.example")), Err(CeremonyError::CrossOrigin));
        for (name, value) in [("challenge", json!("A+==")), ("challenge", json!(5)), ("type", json!(null))] {
            assert_eq!(check(name, value), Err(CeremonyError::Malformed("clientDataJSON")), "{name}");
        }
        let twice = r#"{"type":"webauthn.get","challenge":"AAEC","challenge":"AAED","origin":"x"}"#;
        assert!(ClientData::parse(twice.as_bytes()).is_err());
    }
}
