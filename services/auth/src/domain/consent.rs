//! What auth checks before it signs a consent for a patient: that the text the patient was shown is the one that the
//! ledger's commitment covers, and that nothing in the payload says otherwise.

use std::time::Duration;

use hbc_chain::consent::ConsentBody;
use hbc_chain::json;
use hbc_chain::payload::{Consent, Payload, Revoke};
use hbc_types::account::Custody;
use hbc_types::hash;
use hbc_types::ids::{GrantId, GranteeId, PatientId};
use hbc_types::{Digest, Timestamp};
use serde_json::{Map, Value};

/// How far a draft's `iat` may be from now: drafts live five minutes, clocks differ a little.
const DRAFT_AGE: Duration = Duration::from_secs(6 * 60);
/// How far ahead it may be.
const DRAFT_AHEAD: Duration = Duration::from_secs(30);

/// Why a draft is not signed.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// Another chain.
    #[error("signed for another chain")]
    OtherChain,
    /// `iat` is too far from now.
    #[error("the time is not acceptable")]
    BadTime,
    /// A field does not hold.
    #[error("`{field}` {message}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        message: &'static str,
    },
}

fn refuse<T>(field: &'static str, message: &'static str) -> Result<T, DraftError> {
    Err(DraftError::Field { field, message })
}

fn demand(holds: bool, field: &'static str, message: &'static str) -> Result<(), DraftError> {
    if holds { Ok(()) } else { refuse(field, message) }
}

/// A draft that may be signed once its key is known.
#[derive(Clone, Debug)]
pub struct CheckedDraft {
    payload: Map<String, Value>,
    /// To whom the consent is.
    pub grantee: GranteeId,
    /// The key that the draft names, if it does.
    pub key: Option<Digest>,
}

/// Checks a draft of `patient`.
pub fn check_draft(
    payload: &Value,
    body: &str,
    salt: &[u8; 32],
    chain: &Digest,
    patient: &PatientId,
    now: Timestamp,
) -> Result<CheckedDraft, DraftError> {
    let Value::Object(payload) = payload else { return refuse("payload", "is not an object") };
    let key = match payload.get("key") {
        None => None,
        Some(Value::String(text)) => match Digest::parse(text) {
            Ok(kid) => Some(kid),
            Err(_) => return refuse("payload.key", "is not a fingerprint"),
        },
        Some(_) => return refuse("payload.key", "is not a fingerprint"),
    };
    // The form is checked with any key in the place of an absent one.
    let filled = with_key(payload, &key.unwrap_or(Digest::ZERO))?;
    let consent = consent_of(&filled)?;
    // Without `..`, here and below: what is added to a consent does not compile until it is checked before the signature.
    let Consent {
        chain: of,
        commitment,
        custody,
        grant,
        iat,
        key: _read_above,
        prev: _ledger_checks_it,
        seq,
    } = consent;
    if of != chain {
        return Err(DraftError::OtherChain);
    }
    let signed_at = Timestamp::from_ms(i64::try_from(*iat).unwrap_or(i64::MAX));
    if signed_at < now.minus(DRAFT_AGE) || signed_at > now.plus(DRAFT_AHEAD) {
        return Err(DraftError::BadTime);
    }
    demand(*custody == Custody::Server, "payload.custody", "is not `server`")?;
    demand(key.is_some() || *seq == 1, "payload.seq", "is 1 where no key is named")?;
    let covered = hash::consent_body(salt, body.as_bytes()) == *commitment;
    demand(covered, "body", "is not what the payload's commitment covers")?;
    let grantee = check_body(body, grant, patient, now)?;
    Ok(CheckedDraft { payload: payload.clone(), grantee, key })
}

fn check_body(
    body: &str,
    drafted: &GrantId,
    patient: &PatientId,
    now: Timestamp,
) -> Result<GranteeId, DraftError> {
    let Ok(body) = json::decode::<ConsentBody>(body.as_bytes()) else {
        return refuse("body", "is not the canonical JSON of a consent");
    };
    if let Some(rule) = body.fault() {
        return refuse("body", rule);
    }
    let ConsentBody { device: _, grant, grantee, offline: _, opens: _, patient: of, scope } = body;
    demand(of == *patient, "body", "is another patient's")?;
    demand(grant == *drafted, "body", "is about another grant than the payload")?;
    demand(scope.until > now, "body", "has a period that is over")?;
    match grantee {
        GranteeId::Agency(_) | GranteeId::App(_) | GranteeId::Device(_) => Ok(grantee),
        GranteeId::Link(_) => refuse("body", "is to a grantee that is not served yet"),
    }
}

impl CheckedDraft {
    /// The payload with `kid` in the place of an absent key; nothing else changes.
    pub fn payload(&self, kid: &Digest) -> Result<Payload, DraftError> {
        with_key(&self.payload, kid)
    }
}

fn with_key(payload: &Map<String, Value>, kid: &Digest) -> Result<Payload, DraftError> {
    let mut payload = payload.clone();
    payload.entry("key").or_insert_with(|| Value::String(kid.to_string()));
    let Ok(bytes) = json::encode(&payload) else { return refuse("payload", "has no canonical form") };
    match json::decode::<Payload>(&bytes) {
        Ok(payload) if payload.check().is_ok() => Ok(payload),
        _ => refuse("payload", "is not a consent.grant or consent.alter"),
    }
}

fn consent_of(payload: &Payload) -> Result<&Consent, DraftError> {
    match payload {
        Payload::Grant(consent) | Payload::Alter(consent) => Ok(consent),
        Payload::MemberVote(_)
        | Payload::ServiceKey(_)
        | Payload::Staff(_)
        | Payload::Affiliation(_)
        | Payload::Order(_)
        | Payload::ConsentKey(_)
        | Payload::Anchor(_)
        | Payload::Erase(_)
        | Payload::Revoke(_)
        | Payload::Receipts(_)
        | Payload::Release(_)
        | Payload::NodeEvent(_) => refuse("payload.type", "is not consent.grant or consent.alter"),
    }
}

/// The payload of a revocation.
#[must_use]
pub fn revocation(chain: Digest, kid: Digest, grant: GrantId, now: Timestamp) -> Payload {
    Payload::Revoke(Revoke { chain, grant, iat: now.unsigned_ms(), key: kid })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const GRANT: &str = "grt-00000000000000000000000000000001";
    const PATIENT: &str = "pat-00000000000000000000000000000001";
    const GRANTEE: &str = "agy-00000000000000000000000000000001";
    const NOW: Timestamp = Timestamp::from_ms(1_795_404_630_000);

    fn body() -> Value {
        json!({
            "grant": GRANT, "patient": PATIENT, "grantee": GRANTEE,
            "scope": {
                "actions": ["read"], "categories": ["laboratory"], "sensitivities": ["normal"], "purposes": ["TREAT"],
                "from": NOW.to_string(), "until": NOW.plus(Duration::from_secs(3600)).to_string(),
                "future_records": true,
            },
        })
    }

    fn draft(body: &Value) -> (Value, String) {
        let body = String::from_utf8(json::encode(body).unwrap()).unwrap();
        let payload = json!({
            "chain": Digest::of(b"chain"), "type": "consent.grant", "seq": 1, "prev": null, "grant": GRANT,
            "commitment": hash::consent_body(&[7; 32], body.as_bytes()), "custody": "server", "iat": NOW.ms(),
        });
        (payload, body)
    }

    fn check(payload: &Value, body: &str) -> Result<CheckedDraft, DraftError> {
        let patient = PatientId::parse(PATIENT).unwrap();
        check_draft(payload, body, &[7; 32], &Digest::of(b"chain"), &patient, NOW)
    }

    #[test]
    fn only_the_absent_key_is_filled() {
        let (mut payload, body) = draft(&body());
        let checked = check(&payload, &body).unwrap();
        assert_eq!((checked.key, checked.grantee.as_str()), (None, GRANTEE));
        let kid = Digest::of(b"key");
        let filled = serde_json::to_value(checked.payload(&kid).unwrap()).unwrap();
        payload["key"] = json!(kid);
        assert_eq!(filled, payload);
        let named = check(&payload, &body).unwrap();
        assert_eq!(named.key, Some(kid));
        assert_eq!(named.payload(&Digest::of(b"other")).unwrap(), checked.payload(&kid).unwrap());
    }

    #[test]
    fn a_body_that_says_something_else_is_refused() {
        let (payload, text) = draft(&body());
        assert!(check(&payload, &text.replace("laboratory", "condition")).is_err());
        for (key, value) in [
            ("patient", json!("pat-00000000000000000000000000000002")),
            ("grant", json!("grt-00000000000000000000000000000002")),
            ("grantee", json!("somebody")),
            ("scope", json!({})),
            ("note", json!("more than the patient was shown")),
        ] {
            let mut other = body();
            other[key] = value;
            let (payload, text) = draft(&other);
            assert!(check(&payload, &text).is_err(), "{key}");
        }
        let mut over = body();
        over["scope"]["until"] = json!(NOW.to_string());
        let (payload, text) = draft(&over);
        assert!(check(&payload, &text).is_err());
    }

    #[test]
    fn a_payload_that_says_something_else_is_refused() {
        let (good, text) = draft(&body());
        for (key, value) in [
            ("chain", json!(Digest::of(b"other"))),
            ("type", json!("consent.revoke")),
            ("type", json!("identity.key")),
            ("custody", json!("client")),
            ("iat", json!(NOW.ms() - 400_000)),
            ("iat", json!(NOW.ms() + 60_000)),
            ("iat", json!(1.5)),
            ("key", json!("x")),
            ("key", json!(null)),
            ("seq", json!(2)),
            ("extra", json!(1)),
        ] {
            let mut payload = good.clone();
            payload[key] = value.clone();
            assert!(check(&payload, &text).is_err(), "{key} {value}");
        }
    }
}
