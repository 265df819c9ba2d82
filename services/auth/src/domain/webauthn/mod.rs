//! The two ceremonies of passkeys as a relying party sees them: making one (WebAuthn Level 3 §7.1) and using one (§7.2).
//!
//! Signatures are checked by aws-lc-rs and ed25519-dalek, CBOR is read by ciborium; the rules between them stand here. That a
//! challenge is ours, is still good and comes once is the store's to see, before anything of this.
//!
//! Why: decision 0127.

mod authenticator_data;
mod client_data;
mod fault;
mod key;

use hbc_types::Digest;
use hbc_types::secret::Bytes;
use hbc_types::wire::passkeys::{
    PasskeyCreated, PasskeyCreation, PasskeyDescriptor, PasskeyExtensions, PasskeyKeyKind, PasskeyPrf,
    PasskeyRelyingParty, PasskeyRequest, PasskeySelection, PasskeyUsed, PasskeyUser,
};

pub use authenticator_data::Backup;
pub use client_data::ClientData;
pub use fault::CeremonyError;

use authenticator_data::{Attestation, AuthenticatorData, attestation_object};
use client_data::Ceremony;
use key::{ALGORITHMS, PasskeyKey};

/// Milliseconds that a challenge is good for.
pub const CHALLENGE_MS: u32 = 300_000;
/// The one type of credentials.
const PUBLIC_KEY: &str = "public-key";
/// What an authenticator must have.
const REQUIRED: &str = "required";
/// What people read beside the username.
const NAME: &str = "HBC";

/// The setting is not one of a relying party.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelyingPartyError {
    /// Not a domain.
    #[error("`{0}` is no domain")]
    Domain(String),
    /// No origin at all.
    #[error("no origin is allowed: passkeys would work nowhere")]
    NoOrigin,
    /// Not an origin, or one that a browser uses no passkeys of this domain on.
    #[error(
        "`{0}` is no origin of the domain: https://HOST or https://HOST:PORT, of the domain or below; http for localhost"
    )]
    Origin(String),
}

/// For whom passkeys are made.
#[derive(Clone, Debug)]
pub struct RelyingParty {
    id: String,
    origins: Vec<String>,
}

/// A passkey that was made, as far as it is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The authenticator's id of it.
    pub credential: Bytes,
    /// The COSE key.
    pub public_key: Vec<u8>,
    /// How often the authenticator signed.
    pub sign_count: u32,
    /// Whether it is backed up.
    pub backup: Backup,
    /// Whether its authenticator derives secrets.
    pub prf: bool,
}

/// What is known of a passkey that was used.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The COSE key.
    pub public_key: &'a [u8],
    /// What its authenticator has as user handle.
    pub user: &'a [u8],
    /// Whether it was backed up when it was used last.
    pub backup: Backup,
}

/// A passkey that was used rightly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// How often the authenticator signed: [`counter_rises`] says whether that makes sense.
    pub sign_count: u32,
    /// Whether it is backed up now.
    pub backup: Backup,
}

/// Whether a signature counter is one of the same authenticator later (§7.2, step 22): it rises with each use, or stays 0 where
/// there is none, as with passkeys that are on several devices.
#[must_use]
pub const fn counter_rises(before: u32, now: u32) -> bool {
    now > before || (before == 0 && now == 0)
}

impl RelyingParty {
    /// With the domain that passkeys are for, and the origins of the pages that may use them.
    pub fn new(id: &str, origins: &[String]) -> Result<Self, RelyingPartyError> {
        if !is_domain(id) {
            return Err(RelyingPartyError::Domain(id.to_owned()));
        }
        if origins.is_empty() {
            return Err(RelyingPartyError::NoOrigin);
        }
        if let Some(wrong) = origins.iter().find(|origin| !is_origin_of(id, origin)) {
            return Err(RelyingPartyError::Origin(wrong.clone()));
        }
        Ok(Self { id: id.to_owned(), origins: origins.to_vec() })
    }

    /// How a passkey is to be made by an account with these passkeys.
    #[must_use]
    pub fn creation(
        &self,
        challenge: &[u8],
        user: &[u8],
        username: &str,
        existing: Vec<PasskeyDescriptor>,
    ) -> PasskeyCreation {
        PasskeyCreation {
            rp: PasskeyRelyingParty { id: self.id.clone(), name: NAME.to_owned() },
            user: PasskeyUser {
                id: Bytes::from(user),
                name: username.to_owned(),
                display_name: username.to_owned(),
            },
            challenge: Bytes::from(challenge),
            pub_key_cred_params: ALGORITHMS
                .map(|alg| PasskeyKeyKind { kind: PUBLIC_KEY.to_owned(), alg })
                .to_vec(),
            timeout: CHALLENGE_MS,
            exclude_credentials: existing,
            authenticator_selection: PasskeySelection {
                resident_key: REQUIRED.to_owned(),
                require_resident_key: true,
                user_verification: REQUIRED.to_owned(),
            },
            attestation: "none".to_owned(),
            extensions: PasskeyExtensions { prf: PasskeyPrf {}, cred_props: true },
        }
    }

    /// How anybody signs in.
    #[must_use]
    pub fn request(&self, challenge: &[u8]) -> PasskeyRequest {
        PasskeyRequest {
            challenge: Bytes::from(challenge),
            timeout: CHALLENGE_MS,
            rp_id: self.id.clone(),
            allow_credentials: Vec::new(),
            user_verification: REQUIRED.to_owned(),
        }
    }

    /// Checks a passkey that was made (§7.1, from step 7 on).
    pub fn made(&self, created: &PasskeyCreated, client: &ClientData) -> Result<Made, CeremonyError> {
        client.check(Ceremony::Making, &self.origins)?;
        let (bytes, attestation) = attestation_object(created.response.attestation_object.as_slice())?;
        let data = AuthenticatorData::parse(&bytes)?;
        let backup = self.check(&data)?;
        let made = data.made.ok_or(CeremonyError::Malformed("authenticatorData"))?;
        check_id(&created.kind, &created.id, &created.raw_id, Some(made.id))?;
        let key = PasskeyKey::parse(made.key)?;
        match attestation {
            Attestation::None => {}
            Attestation::OwnKey(algorithm, signature) if algorithm == key.algorithm() => {
                key.check(&signed(&bytes, created.response.client_data_json.as_slice()), &signature)?;
            }
            Attestation::OwnKey(..) => return Err(CeremonyError::Attestation),
        }
        let prf = created.client_extension_results.prf.as_ref();
        Ok(Made {
            credential: created.raw_id.clone(),
            public_key: made.key.to_vec(),
            sign_count: data.sign_count,
            backup,
            prf: prf.and_then(|prf| prf.enabled) == Some(true),
        })
    }

    /// Checks a passkey that was used (§7.2, from step 5 on), but for the signature counter.
    pub fn used(
        &self,
        used: &PasskeyUsed,
        client: &ClientData,
        known: Known<'_>,
    ) -> Result<Used, CeremonyError> {
        client.check(Ceremony::Using, &self.origins)?;
        check_id(&used.kind, &used.id, &used.raw_id, None)?;
        // Nobody was named, so that the authenticator had to say whom it means.
        if used.response.user_handle.as_ref().map(Bytes::as_slice) != Some(known.user) {
            return Err(CeremonyError::Account);
        }
        let bytes = used.response.authenticator_data.as_slice();
        let data = AuthenticatorData::parse(bytes)?;
        let backup = self.check(&data)?;
        if backup.is_possible() != known.backup.is_possible() {
            return Err(CeremonyError::Backup);
        }
        let message = signed(bytes, used.response.client_data_json.as_slice());
        PasskeyKey::parse(known.public_key)?.check(&message, used.response.signature.as_slice())?;
        Ok(Used { sign_count: data.sign_count, backup })
    }

    fn check(&self, data: &AuthenticatorData<'_>) -> Result<Backup, CeremonyError> {
        if data.rp_id_hash != Digest::of(self.id.as_bytes()).as_bytes() {
            return Err(CeremonyError::RelyingParty);
        }
        data.check()
    }
}

/// The id stands in up to three places.
fn check_id(kind: &str, id: &Bytes, raw: &Bytes, made: Option<&[u8]>) -> Result<(), CeremonyError> {
    let one = id == raw && made.is_none_or(|made| made == raw.as_slice());
    if one && kind == PUBLIC_KEY { Ok(()) } else { Err(CeremonyError::Malformed("id")) }
}

/// What an authenticator signs (§6.3.3, step 11).
fn signed(authenticator_data: &[u8], client_data: &[u8]) -> Vec<u8> {
    [authenticator_data, Digest::of(client_data).as_bytes().as_slice()].concat()
}

/// A domain, as browsers write it.
fn is_domain(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(inner);
    text.len() <= 253 && text.split('.').all(label) && text.parse::<std::net::Ipv4Addr>().is_err()
}

/// Whether browsers use passkeys of this domain on pages of this origin (§5.1.3, step 8; Secure Contexts), as they write it.
fn is_origin_of(id: &str, origin: &str) -> bool {
    let Some((scheme, rest)) = origin.split_once("://") else { return false };
    let (host, port) = rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)));
    let below = host == id || host.strip_suffix(id).is_some_and(|before| before.ends_with('.'));
    let (secure, usual) = match scheme {
        "https" => (true, 443),
        "http" => (id == "localhost" || id.ends_with(".localhost"), 80),
        _ => return false,
    };
    // A browser leaves out the usual port.
    let written = |port: &str| port.parse().is_ok_and(|n: u16| n != usual && n.to_string() == port);
    secure && below && is_domain(host) && port.is_none_or(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_origins_on_which_browsers_would_use_the_passkeys_are_settings() {
        let party = |id: &str, origin: &str| RelyingParty::new(id, &[origin.to_owned()]);
        for (id, origin) in [
            ("localhost", "http://localhost:7100"),
            ("localhost", "https://localhost"),
            ("hbc.example", "https://hbc.example"),
            ("hbc.example", "https://portal.hbc.example:8443"),
        ] {
            assert!(party(id, origin).is_ok(), "{id} {origin}");
        }
        for origin in [
            "http://hbc.example",
            "https://hbc.example/",
            "https://hbc.example:443",
            "https://HBC.example",
            "https://hbc.example/portal",
            "https://user@hbc.example",
            "https://evilhbc.example",
            "https://hbc.example.evil.test",
            "https://example",
            "hbc.example",
            "*",
            "",
        ] {
            assert_eq!(
                party("hbc.example", origin).unwrap_err(),
                RelyingPartyError::Origin(origin.to_owned()),
                "{origin}"
            );
        }
        for id in
            ["", "https://hbc.example", "hbc.example:443", "127.0.0.1", "HBC.example", ".example", "a..b"]
        {
            assert_eq!(
                party(id, "https://hbc.example").unwrap_err(),
                RelyingPartyError::Domain(id.to_owned())
            );
        }
        assert_eq!(RelyingParty::new("hbc.example", &[]).unwrap_err(), RelyingPartyError::NoOrigin);
    }

    #[test]
    fn a_counter_rises_or_there_is_none() {
        for (before, now, holds) in
            [(0, 0, true), (0, 1, true), (1, 2, true), (1, 1, false), (2, 1, false), (1, 0, false)]
        {
            assert_eq!(counter_rises(before, now), holds, "{before} {now}");
        }
    }
}
