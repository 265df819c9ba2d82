//! The keys of patients who hold their own: what shows that somebody has them, what lets them take the place of others, and with
//! what a page gets at a root key again.
//!
//! Why: decision 0136.

use hbc_chain::certificate::{CertificateError, RootCertificate};
use hbc_types::account::Custody;
use hbc_types::ids::PatientId;
use hbc_types::keys::{PublicKey, SignatureBytes, root_possession_text};
use hbc_types::secret::Bytes;
use hbc_types::wire::custody::RootWrap;
use hbc_types::{Digest, Timestamp};

/// How far the clock of whoever signs a certificate may be ahead, in milliseconds.
const AHEAD_MS: u64 = 30_000;
/// A certificate may have been signed this long ago, in milliseconds: an hour less than access-policy takes, which is told later.
const LATEST_MS: u64 = 23 * 60 * 60 * 1_000;
/// Passkeys that open a root key at most.
const MOST_WRAPS: usize = 11;

/// Why keys are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// A value does not hold.
    #[error("`{0}` {1}")]
    Field(&'static str, &'static str),
    /// A signature does not fit.
    #[error("the signature of `{0}` does not fit")]
    Signature(&'static str),
    /// A certificate for another chain.
    #[error("signed for another chain")]
    OtherChain,
    /// A certificate of the future, or of long ago.
    #[error("the time is not acceptable")]
    BadTime,
}

/// Keys that somebody shows.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The root key.
    pub root: Option<&'a Bytes>,
    /// Its signature.
    pub root_pop: Option<&'a Bytes>,
    /// The recovery key.
    pub recovery: Option<&'a Bytes>,
    /// Its signature.
    pub recovery_pop: Option<&'a Bytes>,
}

impl Shown<'_> {
    /// Whether there is nothing.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        let Self { root, root_pop, recovery, recovery_pop } = self;
        root.is_none() && root_pop.is_none() && recovery.is_none() && recovery_pop.is_none()
    }
}

/// A root key and the recovery key beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The root key.
    pub root: PublicKey,
    /// The recovery key.
    pub recovery: Option<PublicKey>,
}

impl Keys {
    /// Keys whose owner shows that they have them: each signs [`root_possession_text`]. The recovery key need not, where it is the
    /// `known` one.
    ///
    /// # Errors
    /// When something is missing, is no key, or does not fit.
    pub fn show(
        shown: Shown<'_>,
        chain: &Digest,
        username: &str,
        known: Option<PublicKey>,
    ) -> Result<Self, KeysError> {
        let Shown { root, root_pop, recovery, recovery_pop } = shown;
        let root =
            key("root_public_key", root)?.ok_or(KeysError::Field("root_public_key", "needs 32 bytes"))?;
        let recovery = key("recovery_public_key", recovery)?;
        if recovery == Some(root) {
            return Err(KeysError::Field("recovery_public_key", "is the root key"));
        }
        let kid = recovery.map(|key| key.kid());
        let text = root_possession_text(chain, &root.kid(), kid.as_ref(), username);
        holds("root_pop", &root, root_pop, &text)?;
        match recovery {
            Some(recovery) if Some(recovery) != known => {
                holds("recovery_pop", &recovery, recovery_pop, &text)?;
            }
            None if recovery_pop.is_some() => {
                return Err(KeysError::Field("recovery_public_key", "is missing"));
            }
            _ => {}
        }
        Ok(Self { root, recovery })
    }

    /// Whether somebody has the root key: its signature over the same text.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn check_pop(&self, chain: &Digest, username: &str, pop: &Bytes) -> Result<(), KeysError> {
        let kid = self.recovery.map(|key| key.kid());
        let text = root_possession_text(chain, &self.root.kid(), kid.as_ref(), username);
        holds("root_pop", &self.root, Some(pop), &text)
    }

    /// The certificate by which these take the place of others.
    #[must_use]
    pub fn certificate(&self, chain: Digest, patient: &PatientId, iat: u64) -> RootCertificate {
        RootCertificate {
            chain,
            iat,
            patient: patient.clone(),
            recovery: self.recovery.unwrap_or(self.root).kid(),
            root: self.root.kid(),
        }
    }

    /// Checks a certificate by which these take the place of `before`, which was signed later than the one that brought those
    /// (`last`, Unix milliseconds).
    ///
    /// # Errors
    /// When it is not of one of those, names others, or its time is not acceptable.
    pub fn accept(
        &self,
        certificate: &str,
        (before, last): (&Self, u64),
        (chain, patient): (Digest, &PatientId),
        now: Timestamp,
    ) -> Result<(), KeysError> {
        let pinned: Vec<PublicKey> = [before.root].into_iter().chain(before.recovery).collect();
        let said = RootCertificate::verify(certificate, &pinned, &chain).map_err(|error| match error {
            CertificateError::Other("chain") => KeysError::OtherChain,
            CertificateError::Jws(_) | CertificateError::Signature(_) | CertificateError::Other(_) => {
                KeysError::Signature("certificate")
            }
        })?;
        if said != self.certificate(chain, patient, said.iat) {
            return Err(KeysError::Field("certificate", "names other keys, or another patient"));
        }
        let now = now.unsigned_ms();
        let in_time = said.iat <= now.saturating_add(AHEAD_MS) && said.iat >= now.saturating_sub(LATEST_MS);
        if in_time && said.iat > last { Ok(()) } else { Err(KeysError::BadTime) }
    }
}

fn key(field: &'static str, raw: Option<&Bytes>) -> Result<Option<PublicKey>, KeysError> {
    let Some(raw) = raw else { return Ok(None) };
    let raw = raw.to_array::<32>().ok_or(KeysError::Field(field, "needs 32 bytes"))?;
    let key = PublicKey::from_bytes(raw);
    key.check().map_err(|_not_a_key| KeysError::Field(field, "is not an acceptable Ed25519 key"))?;
    Ok(Some(key))
}

fn holds(
    field: &'static str,
    key: &PublicKey,
    signature: Option<&Bytes>,
    text: &[u8],
) -> Result<(), KeysError> {
    let signature =
        signature.and_then(Bytes::to_array::<64>).ok_or(KeysError::Field(field, "needs 64 bytes"))?;
    key.verify(text, &SignatureBytes::from_bytes(signature))
        .map_err(|_does_not_fit| KeysError::Signature(field))
}

/// Salt and wrapped seed of a wrap, if they have their lengths.
///
/// # Errors
/// When they have not.
pub fn wrap_parts(salt: &Bytes, wrapped: &Bytes) -> Result<([u8; 32], [u8; 60]), KeysError> {
    let salt = salt.to_array().ok_or(KeysError::Field("salt", "needs 32 bytes"))?;
    let wrapped = wrapped.to_array().ok_or(KeysError::Field("wrapped", "needs 60 bytes"))?;
    Ok((salt, wrapped))
}

/// Whether a root key is not lost with one authenticator: two passkeys open it, or one and the recovery code (decision 0136).
/// Custody by passkeys does not begin before, and what custody is not by passkeys has no wraps.
///
/// # Errors
/// When it would be, or a wrap comes twice.
pub fn check_wraps(custody: Custody, keys: &Keys, wraps: &[RootWrap]) -> Result<(), KeysError> {
    let refuse = |words| Err(KeysError::Field("wraps", words));
    if custody != Custody::Passkey {
        return if wraps.is_empty() { Ok(()) } else { refuse("belong to custody `passkey`") };
    }
    if wraps.len() > MOST_WRAPS {
        return refuse("are too many");
    }
    let openers: std::collections::BTreeSet<Option<&str>> =
        wraps.iter().map(|wrap| wrap.passkey.as_ref().map(AsRef::as_ref)).collect();
    if openers.len() < wraps.len() {
        return refuse("name something twice");
    }
    let code = openers.contains(&None) && keys.recovery.is_some();
    let passkeys = openers.iter().flatten().count();
    match (passkeys, code) {
        (2.., _) | (1, true) => Ok(()),
        _ => refuse(
            "need two passkeys, or a passkey, the recovery code and its key: else the root key is lost with one device",
        ),
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};
    use hbc_types::Random;
    use hbc_types::ids::PasskeyId;

    use super::*;

    const CHAIN: Digest = Digest::ZERO;
    const NOW: Timestamp = Timestamp::from_ms(1_000_000_000_000);

    fn signing(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    fn raw(key: &SigningKey) -> Bytes {
        Bytes::from(PublicKey::of(key).as_bytes().as_slice())
    }

    fn keys(root: u8, recovery: Option<u8>) -> Keys {
        Keys { root: PublicKey::of(&signing(root)), recovery: recovery.map(|n| PublicKey::of(&signing(n))) }
    }

    #[test]
    fn keys_are_shown_by_their_signatures_over_both_and_the_name() {
        let (root, recovery, both) = (signing(1), signing(2), keys(1, Some(2)));
        let kid = both.recovery.unwrap().kid();
        let text = root_possession_text(&CHAIN, &both.root.kid(), Some(&kid), "ada");
        let sign = |key: &SigningKey| Bytes::from(key.sign(&text).to_bytes().as_slice());
        let (root_key, root_pop) = (raw(&root), sign(&root));
        let (recovery_key, recovery_pop) = (raw(&recovery), sign(&recovery));
        let shown = Shown {
            root: Some(&root_key),
            root_pop: Some(&root_pop),
            recovery: Some(&recovery_key),
            recovery_pop: Some(&recovery_pop),
        };
        assert_eq!(Keys::show(shown, &CHAIN, "ada", None), Ok(both));
        let refused = |shown: Shown<'_>, known| Keys::show(shown, &CHAIN, "ada", known).unwrap_err();
        assert_eq!(Keys::show(shown, &CHAIN, "eve", None), Err(KeysError::Signature("root_pop")));
        let alone = Shown { recovery: None, recovery_pop: None, ..shown };
        assert_eq!(
            refused(alone, None),
            KeysError::Signature("root_pop"),
            "it was signed with another beside it"
        );
        assert_eq!(refused(Shown { recovery: None, ..shown }, None), KeysError::Signature("root_pop"));
        let swapped = Shown { recovery_pop: Some(&root_pop), ..shown };
        assert_eq!(refused(swapped, None), KeysError::Signature("recovery_pop"));
        let unshown = Shown { recovery_pop: None, ..shown };
        assert_eq!(refused(unshown, None), KeysError::Field("recovery_pop", "needs 64 bytes"));
        assert_eq!(Keys::show(unshown, &CHAIN, "ada", both.recovery), Ok(both), "it is known");
        let one = Shown { recovery: Some(&root_key), ..shown };
        assert_eq!(refused(one, None), KeysError::Field("recovery_public_key", "is the root key"));
        let zero = Bytes::from([0; 32].as_slice());
        assert!(matches!(
            refused(Shown { root: Some(&zero), ..shown }, None),
            KeysError::Field("root_public_key", _)
        ));
    }

    #[test]
    fn others_take_the_place_of_keys_by_the_word_of_one_of_them() {
        let patient = PatientId::random(&Random::seeded(1));
        let (before, next) = (keys(1, Some(2)), keys(3, Some(2)));
        let good = next.certificate(CHAIN, &patient, NOW.unsigned_ms());
        let accept = |text: &str, now| next.accept(text, (&before, 7), (CHAIN, &patient), now);
        for signer in [1, 2] {
            assert_eq!(accept(&good.sign(&signing(signer)).unwrap(), NOW), Ok(()));
        }
        let text = good.sign(&signing(1)).unwrap();
        assert_eq!(accept(&good.sign(&signing(3)).unwrap(), NOW), Err(KeysError::Signature("certificate")));
        assert_eq!(accept("no certificate", NOW), Err(KeysError::Signature("certificate")));
        let day = LATEST_MS + 1;
        let later = Timestamp::from_ms(NOW.ms() + i64::try_from(day).unwrap());
        assert_eq!(accept(&text, later), Err(KeysError::BadTime));
        let future = RootCertificate { iat: good.iat + AHEAD_MS + 1, ..good.clone() };
        assert_eq!(accept(&future.sign(&signing(1)).unwrap(), NOW), Err(KeysError::BadTime));
        let other = RootCertificate { chain: Digest::of(b"other"), ..good.clone() };
        assert_eq!(accept(&other.sign(&signing(1)).unwrap(), NOW), Err(KeysError::OtherChain));
        let again = next.accept(&text, (&before, good.iat), (CHAIN, &patient), NOW);
        assert_eq!(again, Err(KeysError::BadTime), "it is no later than the one before");
        let others = [
            keys(4, Some(2)).certificate(CHAIN, &patient, NOW.unsigned_ms()),
            keys(3, None).certificate(CHAIN, &patient, NOW.unsigned_ms()),
            next.certificate(CHAIN, &PatientId::random(&Random::seeded(2)), NOW.unsigned_ms()),
        ];
        for other in others {
            let refused = accept(&other.sign(&signing(1)).unwrap(), NOW).unwrap_err();
            assert!(matches!(refused, KeysError::Field("certificate", _)), "{refused:?}");
        }
    }

    #[test]
    fn custody_by_passkeys_outlives_the_loss_of_one_device() {
        let (random, with, without) = (Random::seeded(3), keys(1, Some(2)), keys(1, None));
        let wrap = |passkey| RootWrap { passkey, salt: Bytes::default(), wrapped: Bytes::default() };
        let passkey = || wrap(Some(PasskeyId::random(&random)));
        let (one, two) = (passkey(), passkey());
        let holds = |keys: &Keys, wraps: &[RootWrap]| check_wraps(Custody::Passkey, keys, wraps).is_ok();
        assert!(holds(&without, &[one.clone(), two.clone()]));
        assert!(holds(&with, &[one.clone(), wrap(None)]));
        assert!(!holds(&without, &[one.clone(), wrap(None)]), "nobody typed a code");
        assert!(
            !holds(&with, std::slice::from_ref(&one)) && !holds(&with, &[wrap(None)]) && !holds(&with, &[])
        );
        assert!(!holds(&with, &[one.clone(), one.clone()]));
        let many: Vec<_> = (0..=MOST_WRAPS).map(|_| passkey()).collect();
        assert!(!holds(&with, &many));
        assert!(check_wraps(Custody::Client, &with, &[one]).is_err());
        assert!(check_wraps(Custody::Client, &with, &[]).is_ok());
    }
}
