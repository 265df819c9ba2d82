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
use hbc_types::wire::auth::StaffKeyState;
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
    /// Changes of this key's profile that took effect before.
    pub nonce: u64,
    /// What it changes to.
    pub status: StaffStatus,
}

/// One of the keys that an agency has or had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StaffKey {
    /// Whose.
    pub agency: AgencyId,
    /// The how maniest, from 0.
    pub n: i64,
    /// The key.
    pub public_key: [u8; 32],
    /// When the agency asked for it; of the first one when it signed up.
    pub asked_at: Timestamp,
    /// Since when enough operators and auth have signed for it: it is on its way to the ledger, and nobody takes it back.
    pub signed_at: Option<Timestamp>,
    /// Since when its profile is final.
    pub active_at: Option<Timestamp>,
    /// Since when the ledger says that it is ended, or it was withdrawn before the ledger knew it.
    pub ended_at: Option<Timestamp>,
    /// What goes to the ledger once its profile is final: the end of the key before, or of itself if the agency was ended
    /// meanwhile.
    pub ending: Option<String>,
    /// Id of the operator who signed that.
    pub ending_by: Option<String>,
    /// How often the row changed.
    pub version: i64,
}

impl StaffKey {
    /// One that an agency asks for now.
    #[must_use]
    pub const fn asked(agency: AgencyId, n: i64, public_key: [u8; 32], now: Timestamp) -> Self {
        Self {
            agency,
            n,
            public_key,
            asked_at: now,
            signed_at: None,
            active_at: None,
            ended_at: None,
            ending: None,
            ending_by: None,
            version: 1,
        }
    }

    /// How it stands.
    #[must_use]
    pub const fn state(&self) -> StaffKeyState {
        match (self.active_at, self.ended_at) {
            (None, None) => StaffKeyState::Pending,
            (Some(_), None) => StaffKeyState::Active,
            (Some(_), Some(_)) => StaffKeyState::Ended,
            (None, Some(_)) => StaffKeyState::Withdrawn,
        }
    }

    /// Whether it waits for operators: it may still be withdrawn.
    #[must_use]
    pub const fn waits(&self) -> bool {
        matches!(self.state(), StaffKeyState::Pending) && self.signed_at.is_none()
    }
}

/// The number of the key that the account has: 0 where it never asked for another one.
#[must_use]
pub fn present(keys: &[StaffKey], public_key: &[u8; 32]) -> i64 {
    keys.iter().find(|key| key.public_key == *public_key).map_or(0, |key| key.n)
}

/// The key that takes the place of the account's own: operators have signed for it, and it has not done so yet.
#[must_use]
pub fn successor<'k>(keys: &'k [StaffKey], public_key: &[u8; 32]) -> Option<&'k StaffKey> {
    let present = present(keys, public_key);
    keys.iter().find(|key| key.n > present && key.signed_at.is_some() && key.ended_at.is_none())
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
    fn a_successor_is_signed_for_and_not_in_place_yet() {
        let agency = AgencyId::parse("agy-00000000000000000000000000000001").unwrap();
        let now = Timestamp::from_ms(5);
        let key = |n: u8| StaffKey::asked(agency.clone(), i64::from(n), [n; 32], now);
        let first = StaffKey { active_at: Some(now), ..key(0) };
        let withdrawn = StaffKey { ended_at: Some(now), ..key(1) };
        assert!(successor(&[], &[0; 32]).is_none() && present(&[], &[0; 32]) == 0);
        let mut keys = vec![first, withdrawn, key(2)];
        assert!(successor(&keys, &[0; 32]).is_none() && keys[2].waits() && !keys[1].waits());
        keys[2].signed_at = Some(now);
        assert_eq!(successor(&keys, &[0; 32]).map(|key| key.n), Some(2));
        assert!(!keys[2].waits() && keys[2].state() == StaffKeyState::Pending);
        keys[2].active_at = Some(now);
        assert_eq!(successor(&keys, &[0; 32]).map(|key| key.n), Some(2));
        assert_eq!((successor(&keys, &[2; 32]), present(&keys, &[2; 32])), (None, 2));
        let states: Vec<_> = keys.iter().map(StaffKey::state).collect();
        assert_eq!(states, [StaffKeyState::Active, StaffKeyState::Withdrawn, StaffKeyState::Active]);
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
