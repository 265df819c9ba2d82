//! Drafts of grants, and what must hold before a signed text counts: the certificate under the pinned root, the key and
//! grantee it names, the commitment, the place among the key's events.

use std::time::Duration;

use hbc_chain::certificate::{CertificateError, ConsentCertificate};
use hbc_chain::consent::{ConsentBody, UnfreezeOrder};
use hbc_chain::json::{self, JsonError};
use hbc_chain::payload::{Consent, ConsentKey, KeyStatus, Payload, Revoke};
use hbc_chain::tx::Tx;
use hbc_types::account::Custody;
use hbc_types::hash::{self, Salt};
use hbc_types::ids::{AccessRequestId, GrantId, GranteeId, PatientId};
use hbc_types::keys::PublicKey;
use hbc_types::wire::access::Scope;
use hbc_types::{Digest, Random, Timestamp};
use serde_json::{Value, json};

use crate::domain::grant::{Grant, NumberLimits};
use crate::domain::scope::ordered;

/// How long a draft may be signed.
pub const DRAFT_LIFE: Duration = Duration::from_secs(5 * 60);
/// A signed time may be this far ahead of ours.
pub const AHEAD: Duration = Duration::from_secs(30);
/// What ends something, or names other keys, may have been signed this long ago: each is valid once anyway.
pub const LATEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a signed text does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsentError {
    /// For another chain.
    #[error("it is for another chain")]
    OtherChain,
    /// Dated in the future, or too long ago.
    #[error("its time is not acceptable")]
    BadTime,
    /// Certificate, registration or signature do not verify.
    #[error("{0}")]
    Signature(String),
    /// A field is not what was drafted.
    #[error("`{0}` is not what was drafted")]
    Differs(&'static str),
    /// Not a transaction of the expected kind.
    #[error("{0}")]
    Form(String),
    /// The raw key is not known yet.
    #[error("the key's registration is needed")]
    NeedsRegistration,
    /// The key was revoked.
    #[error("the key is revoked")]
    KeyRevoked,
}

impl From<CertificateError> for ConsentError {
    fn from(error: CertificateError) -> Self {
        match error {
            CertificateError::Other("chain") => Self::OtherChain,
            error => Self::Signature(format!("certificate: {error}")),
        }
    }
}

/// A consent key as the draft needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// Its kid.
    pub kid: Digest,
    /// Place of its last event.
    pub last_seq: u64,
    /// Its last event.
    pub last_txid: Option<Digest>,
}

/// What is to be granted.
#[derive(Clone, Debug)]
pub struct Wish {
    /// By whom.
    pub patient: PatientId,
    /// To whom.
    pub grantee: GranteeId,
    /// To an app: whether it may come when the patient is not there.
    pub offline: Option<bool>,
    /// To a device: kid of its key.
    pub device: Option<Digest>,
    /// What, normalised.
    pub scope: Scope,
    /// In answer to what.
    pub request: Option<AccessRequestId>,
    /// Who holds the keys.
    pub custody: Custody,
    /// The key, if it is known.
    pub key: Option<KnownKey>,
}

/// A draft with everything that its signing needs.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The grant to be.
    pub grant: Grant,
    /// The consent body: JCS text.
    pub body: String,
    /// The commitment's salt.
    pub salt: Salt,
    /// The ledger payload, without `key` when auth is to fill it.
    pub payload: Value,
}

impl Draft {
    /// The commitment that body and salt open.
    #[must_use]
    pub fn commitment(&self) -> Digest {
        hash::consent_body(&self.salt, self.body.as_bytes())
    }

    /// Whether the parts say the same: the grant what the committed body says, the payload the commitment and the time.
    /// A draft's row is under no MAC; what counts is what the patient signs.
    #[must_use]
    pub fn is_coherent(&self) -> bool {
        let Ok(body) = json::decode::<ConsentBody>(self.body.as_bytes()) else { return false };
        let grant = &self.grant;
        let says = |field: &str, value: Value| self.payload.get(field) == Some(&value);
        // Without `..`, here and below: a field that is added to what is signed does not compile until it is compared.
        let ConsentBody { device, grant: id, grantee, offline, opens, patient, scope } = body;
        id == grant.id
            && grantee == grant.grantee
            && (device, offline, opens) == (grant.device, grant.offline, None)
            && patient == grant.patient
            && ordered(scope) == grant.scope
            && says("commitment", json!(self.commitment()))
            && says("iat", json!(grant.given_at.unsigned_ms()))
    }
}

/// Drafts a grant.
pub fn draft(wish: &Wish, chain: Digest, now: Timestamp, random: &Random) -> Result<Draft, JsonError> {
    let id = GrantId::random(random);
    let body = ConsentBody {
        device: wish.device,
        grant: id.clone(),
        grantee: wish.grantee.clone(),
        offline: wish.offline,
        opens: None,
        patient: wish.patient.clone(),
        scope: wish.scope.clone(),
    };
    let body = json::encode(&body)?;
    let salt: Salt = random.bytes();
    let (seq, prev) = wish.key.as_ref().map_or((1, None), |key| (key.last_seq + 1, key.last_txid));
    let mut payload = json!({
        "chain": chain,
        "type": "consent.grant",
        "seq": seq,
        "prev": prev,
        "grant": id,
        "commitment": hash::consent_body(&salt, &body),
        "custody": wish.custody,
        "iat": now.unsigned_ms(),
    });
    if let (Some(key), Value::Object(fields)) = (&wish.key, &mut payload) {
        fields.insert("key".to_owned(), Value::String(key.kid.to_string()));
    }
    let grant = Grant {
        id,
        patient: wish.patient.clone(),
        grantee: wish.grantee.clone(),
        offline: wish.offline,
        device: wish.device,
        request: wish.request.clone(),
        scope: wish.scope.clone(),
        custody: wish.custody,
        given_at: now,
        draft_expires_at: now.plus(DRAFT_LIFE),
        kid: None,
        seq: None,
        txid: None,
        signed_at: None,
        numbers: NumberLimits::new(),
        final_height: None,
        refused: None,
        frozen_at: None,
        revoked_at: None,
        revoked_by: None,
        altered_by: None,
        ended_at: None,
    };
    let body = String::from_utf8(body).map_err(|error| JsonError::Shape(error.to_string()))?;
    Ok(Draft { grant, body, salt, payload })
}

/// A signed text as it arrives.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// The signed event.
    pub jws: &'a str,
    /// The key's certificate.
    pub certificate: &'a str,
    /// The key's registration, when it comes along.
    pub registration: Option<&'a str>,
}

/// Whom and what this service trusts.
#[derive(Clone, Debug)]
pub struct Trust<'a> {
    /// The chain.
    pub chain: Digest,
    /// The patient's pinned root key.
    pub root: PublicKey,
    /// Keys of auth, which registers consent keys.
    pub auth: &'a [PublicKey],
    /// The raw consent key, where it is known already.
    pub known: Option<PublicKey>,
    /// Now.
    pub now: Timestamp,
}

/// A signature that counts.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The event.
    pub event: Tx,
    /// What it says.
    pub consent: Consent,
    /// The key's registration, to be submitted first.
    pub registration: Option<Tx>,
    /// The raw consent key.
    pub key: PublicKey,
}

/// Checks the signature over a draft.
pub fn accept(draft: &Draft, signed: &Signed<'_>, trust: &Trust<'_>) -> Result<Accepted, ConsentError> {
    let event = parse(signed.jws)?;
    let Payload::Grant(consent) = event.payload().clone() else {
        return Err(ConsentError::Form("not a consent.grant".to_owned()));
    };
    if consent.chain != trust.chain {
        return Err(ConsentError::OtherChain);
    }
    same_as_drafted(draft, &consent)?;
    if event.kid() != consent.key {
        return Err(ConsentError::Signature("signed by another key than it names".to_owned()));
    }
    let certificate = ConsentCertificate::verify(signed.certificate, &trust.root, &trust.chain)?;
    check_certificate(&certificate, &draft.grant, &consent, trust.now)?;
    let registration =
        signed.registration.map(|text| check_registration(text, &consent, trust)).transpose()?;
    let introduced = registration.as_ref().and_then(|tx| tx.payload().introduces());
    let key = trust.known.or(introduced).ok_or(ConsentError::NeedsRegistration)?;
    event.verify_signature(&key).map_err(|error| ConsentError::Signature(error.to_string()))?;
    Ok(Accepted { event, consent, registration, key })
}

fn parse(jws: &str) -> Result<Tx, ConsentError> {
    Tx::parse(jws.as_bytes()).map_err(|error| ConsentError::Form(error.to_string()))
}

fn same_as_drafted(draft: &Draft, consent: &Consent) -> Result<(), ConsentError> {
    let Consent { chain: _checked_before, commitment, custody, grant, iat, key, prev, seq } = consent;
    let drafted = |field: &str| draft.payload.get(field).cloned().unwrap_or(Value::Null);
    let named = drafted("key");
    if !named.is_null() && named != json!(key) {
        return Err(ConsentError::Differs("key"));
    }
    let pairs = [
        ("commitment", json!(commitment)),
        ("grant", json!(grant)),
        ("custody", json!(custody)),
        ("seq", json!(seq)),
        ("prev", json!(prev)),
        ("iat", json!(iat)),
    ];
    match pairs.into_iter().find(|(field, value)| drafted(field) != *value) {
        Some((field, _)) => Err(ConsentError::Differs(field)),
        None => Ok(()),
    }
}

/// Checks that a certificate covers a grant and the event that gave or altered it.
pub fn check_certificate(
    certificate: &ConsentCertificate,
    grant: &Grant,
    consent: &Consent,
    now: Timestamp,
) -> Result<(), ConsentError> {
    let refuse = |why: &str| Err(ConsentError::Signature(format!("certificate: {why}")));
    // Chain and root were checked when it was opened; how old it is does not matter.
    let ConsentCertificate { key, grantee, limits, chain: _, root: _, iat: _ } = certificate;
    if *key != consent.key {
        return refuse("for another key");
    }
    if *grantee != grant.grantee.as_str() {
        return refuse("for another grantee");
    }
    limits.allow(&grant.scope, now).or_else(|error| refuse(&error.to_string()))
}

fn check_registration(text: &str, consent: &Consent, trust: &Trust<'_>) -> Result<Tx, ConsentError> {
    let refuse = |why: &str| ConsentError::Signature(format!("registration: {why}"));
    let tx = parse(text)?;
    // `Tx::parse` has checked the proof of possession and that the raw key has this fingerprint.
    let Payload::ConsentKey(ConsentKey { chain, key, status, pop: _, public: _, iat: _ }) = tx.payload()
    else {
        return Err(ConsentError::Form("the registration is no identity.key".to_owned()));
    };
    if *chain != trust.chain {
        return Err(ConsentError::OtherChain);
    }
    if *key != consent.key || *status != KeyStatus::Active {
        return Err(refuse("of another key"));
    }
    let by_auth = trust.auth.iter().any(|auth| tx.verify_signature(auth).is_ok());
    if by_auth { Ok(tx) } else { Err(refuse("not signed by auth")) }
}

/// Checks a signed revocation of `grant`, whose consent key is `key`.
pub fn accept_revocation(
    jws: &str,
    grant: &Grant,
    key: &PublicKey,
    chain: Digest,
    now: Timestamp,
) -> Result<Tx, ConsentError> {
    let tx = parse(jws)?;
    let Payload::Revoke(Revoke { chain: of, grant: id, iat, key: kid }) = tx.payload() else {
        return Err(ConsentError::Form("not a consent.revoke".to_owned()));
    };
    if *of != chain {
        return Err(ConsentError::OtherChain);
    }
    if *id != grant.id {
        return Err(ConsentError::Differs("grant"));
    }
    if Some(*kid) != grant.kid || tx.kid() != *kid {
        return Err(ConsentError::Signature("not by this grant's key".to_owned()));
    }
    let earliest = now.minus(LATEST).unsigned_ms();
    if *iat > now.plus(AHEAD).unsigned_ms() || *iat < earliest {
        return Err(ConsentError::BadTime);
    }
    tx.verify_signature(key).map_err(|error| ConsentError::Signature(error.to_string()))?;
    Ok(tx)
}

/// Checks the root's word that a freeze, which began at `since`, is over.
pub fn accept_unfreeze(
    jws: &str,
    patient: &PatientId,
    grant: Option<&GrantId>,
    since: Timestamp,
    trust: &Trust<'_>,
) -> Result<(), ConsentError> {
    let order = UnfreezeOrder::verify(jws, &trust.root, &trust.chain)?;
    let UnfreezeOrder { chain: _checked_when_opened, grant: of, iat, patient: by } = order;
    if by != *patient {
        return Err(ConsentError::Differs("patient"));
    }
    if of.as_ref() != grant {
        return Err(ConsentError::Differs("grant"));
    }
    // Not older than the freeze: an order that lifted an earlier one lifts nothing now.
    if iat < since.unsigned_ms() || iat > trust.now.plus(AHEAD).unsigned_ms() {
        return Err(ConsentError::BadTime);
    }
    Ok(())
}
