//! Staff profiles: what stands on the ledger about an approved agency, and what opens its commitment.

use ed25519_dalek::SigningKey;
use hbc_chain::json;
use hbc_chain::payload::{MAX_TEXT_BYTES, Payload, Staff, StaffStatus};
use hbc_chain::tx;
use hbc_types::account::AgencyType;
use hbc_types::hash;
use hbc_types::ids::AgencyId;
use hbc_types::keys::PublicKey;
use hbc_types::wire::access::StaffBody;
use hbc_types::{Digest, Timestamp};

/// The opening of a staff commitment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// The salt.
    pub salt: [u8; 32],
    /// The committed text.
    pub body: String,
}

/// The committed text of an agency.
pub fn profile_body(
    agency: &AgencyId,
    agency_type: AgencyType,
    licence_number: &str,
    name: &str,
) -> Result<String, json::JsonError> {
    let body = StaffBody {
        agency: agency.clone(),
        agency_type,
        licence_number: licence_number.to_owned(),
        name: name.to_owned(),
    };
    let body = json::encode(&body)?;
    Ok(String::from_utf8(body).unwrap_or_default())
}

/// The public words on the ledger: the organisation's name; a person of their own (a doctor) stays unnamed.
#[must_use]
pub fn public_organisation(agency_type: AgencyType, name: &str, organisation: Option<&str>) -> String {
    let own = || match agency_type {
        AgencyType::Doctor => "own practice",
        AgencyType::Hospital
        | AgencyType::Laboratory
        | AgencyType::Pharmacy
        | AgencyType::Insurer
        | AgencyType::Government
        | AgencyType::Auditor => name,
    };
    let words = organisation.unwrap_or_else(own);
    let mut text: String = words.chars().filter(|c| !c.is_control()).collect();
    while text.len() > MAX_TEXT_BYTES {
        text.pop();
    }
    text
}

/// A change of a staff profile, to be signed by each who must.
#[derive(Clone, Debug)]
pub struct StaffChange {
    /// The chain.
    pub chain: Digest,
    /// The agency's staff key.
    pub public_key: [u8; 32],
    /// What kind of agency.
    pub agency_type: AgencyType,
    /// The public words.
    pub organisation: String,
    /// The profile's opening.
    pub profile: Profile,
    /// Changes that took effect before.
    pub nonce: u64,
    /// What it changes to.
    pub status: StaffStatus,
}

/// A signed transaction.
#[derive(Clone, Debug)]
pub struct Signed {
    /// Its id.
    pub txid: Digest,
    /// Kid of the signer.
    pub author: Digest,
    /// The compact JWS.
    pub jws: String,
}

impl StaffChange {
    /// The payload at `now`.
    #[must_use]
    pub fn payload(&self, now: Timestamp) -> Payload {
        let public = PublicKey::from_bytes(self.public_key);
        Payload::Staff(Staff {
            chain: self.chain,
            commitment: hash::staff(&self.profile.salt, self.profile.body.as_bytes()),
            iat: now.unsigned_ms(),
            key: public.kid(),
            nonce: self.nonce,
            organisation: self.organisation.clone(),
            public,
            role: self.agency_type.code().to_owned(),
            status: self.status,
        })
    }

    /// Signs it with `key`.
    pub fn sign(&self, key: &SigningKey, now: Timestamp) -> Result<Signed, json::JsonError> {
        sign(key, &self.payload(now))
    }
}

/// Signs any payload.
pub fn sign(key: &SigningKey, payload: &Payload) -> Result<Signed, json::JsonError> {
    let jws = tx::sign(key, payload)?;
    Ok(Signed { txid: tx::txid(jws.as_bytes()), author: PublicKey::of(key).kid(), jws })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hbc_chain::tx::Tx;

    fn change() -> StaffChange {
        let agency = AgencyId::parse("agy-00000000000000000000000000000001").unwrap();
        let body = profile_body(&agency, AgencyType::Doctor, "L-1", "Dr. Ada Example").unwrap();
        let key = SigningKey::from_bytes(&[5; 32]);
        StaffChange {
            chain: Digest::of(b"chain"),
            public_key: key.verifying_key().to_bytes(),
            agency_type: AgencyType::Doctor,
            organisation: public_organisation(AgencyType::Doctor, "Dr. Ada Example", None),
            profile: Profile { salt: [1; 32], body },
            nonce: 0,
            status: StaffStatus::Active,
        }
    }

    #[test]
    fn signers_agree_on_everything_but_the_time() {
        let (one, two) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        let first = change().sign(&one, Timestamp::from_ms(5)).unwrap();
        let second = change().sign(&two, Timestamp::from_ms(9)).unwrap();
        let (first, second) =
            (Tx::parse(first.jws.as_bytes()).unwrap(), Tx::parse(second.jws.as_bytes()).unwrap());
        assert_eq!(first.payload().ballot(), second.payload().ballot());
        assert_ne!(first.txid(), second.txid());
    }

    #[test]
    fn the_ledger_never_sees_the_name_of_a_person() {
        let signed = change().sign(&SigningKey::from_bytes(&[1; 32]), Timestamp::from_ms(5)).unwrap();
        let tx = Tx::parse(signed.jws.as_bytes()).unwrap();
        let text = String::from_utf8(json::encode(tx.payload()).unwrap()).unwrap();
        assert!(!text.contains("Ada") && !text.contains("L-1"), "{text}");
        assert_eq!(public_organisation(AgencyType::Hospital, "St. Elsewhere", None), "St. Elsewhere");
        assert_eq!(public_organisation(AgencyType::Doctor, "Ada", Some("St. Elsewhere")), "St. Elsewhere");
        assert!(public_organisation(AgencyType::Hospital, &"ü".repeat(300), None).len() <= MAX_TEXT_BYTES);
    }
}
