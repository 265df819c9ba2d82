//! Custody of Ed25519 seeds: wrapped under a password or a recovery code, never under a server key alone.
//!
//! Under a password: wrap key = HKDF-SHA256(ikm = Argon2id(password, own 16-byte salt), no salt, info = domain);
//! under a recovery code: wrap key = HKDF-SHA256(ikm = code, salt = own 16-byte salt, info = domain). In both cases
//! AES-256-GCM with a random 12-byte nonce; AAD = domain ‖ 0x00 ‖ length-prefixed account id and raw public key, so that
//! a wrap copied to another account does not open there.
//!
//! Why: decision 0040.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use argon2::{Algorithm, Argon2, Params, Version};
use ed25519_dalek::SigningKey;
use hbc_types::account::Role;
use hbc_types::hash::aad;
use hbc_types::secret::{Key32, SecretText};
use hbc_types::{Digest, Random};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// Length of a seed.
const SEED_BYTES: usize = 32;
/// Length of one wrapped seed: 32 bytes and the 16-byte tag. Two of them are longer.
const WRAPPED_BYTES: usize = SEED_BYTES + 16;

/// What a wrapped key is for; the text is the domain of its key derivation and of its AAD.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyUse {
    /// A patient's root key.
    Root,
    /// An agency's staff key.
    Staff,
    /// An operator's signing key.
    Operator,
}

impl KeyUse {
    /// What the key is for that auth keeps for an account; apps and devices keep their own.
    #[must_use]
    pub const fn of(role: Role) -> Option<Self> {
        match role {
            Role::Patient => Some(Self::Root),
            Role::Agency => Some(Self::Staff),
            Role::Operator => Some(Self::Operator),
            Role::App | Role::Device => None,
        }
    }

    /// The domain.
    #[must_use]
    pub const fn domain(self) -> &'static str {
        match self {
            Self::Root => "hbc/root-key/v1",
            Self::Staff => "hbc/staff-key/v1",
            Self::Operator => "hbc/operator-key/v1",
        }
    }
}

/// The cost of Argon2id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost {
    /// Memory in KiB.
    pub m_kib: u32,
    /// Passes.
    pub t: u32,
    /// Lanes.
    pub p: u32,
}

impl Default for Cost {
    fn default() -> Self {
        Self::STANDARD
    }
}

impl Cost {
    /// 19 MiB, two passes, one lane: OWASP's first choice.
    pub const STANDARD: Self = Self { m_kib: 19_456, t: 2, p: 1 };
    /// Nothing above this is taken from a stored row or file: it would stall the pool.
    const MAX_M_KIB: u32 = 262_144;
    const MAX_T: u32 = 16;
    const MAX_P: u32 = 4;

    /// The Argon2id instance of this cost.
    pub fn argon2(self) -> Result<Argon2<'static>, CustodyError> {
        if self.m_kib > Self::MAX_M_KIB || self.t > Self::MAX_T || self.p > Self::MAX_P {
            return Err(CustodyError::Cost);
        }
        let params =
            Params::new(self.m_kib, self.t, self.p, Some(32)).map_err(|_out_of_range| CustodyError::Cost)?;
        Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
    }
}

/// Whose key it is: what the AAD binds.
#[derive(Clone, Copy, Debug)]
pub struct KeyOwner<'a> {
    /// What the key is for.
    pub key_use: KeyUse,
    /// The account's id.
    pub account: &'a str,
    /// The raw public key.
    pub public_key: &'a [u8; 32],
}

impl KeyOwner<'_> {
    /// Of one key, or of two: while one takes the place of the other the account has the one or the other, and which of the
    /// opened keys is the account's own is compared after opening.
    fn aad(&self, two: bool) -> Vec<u8> {
        let Self { key_use, account, public_key } = self;
        let whose = if two { b"two keys".as_slice() } else { public_key.as_slice() };
        aad(key_use.domain(), &[account.as_bytes(), whose])
    }
}

/// What is wrapped together, so that whatever opens the one opens the other.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The account's key.
    pub key: SigningKey,
    /// An agency's key that waits to take its place, or that had it before.
    pub other: Option<SigningKey>,
}

impl From<SigningKey> for Keys {
    fn from(key: SigningKey) -> Self {
        Self { key, other: None }
    }
}

impl Keys {
    fn seeds(&self) -> Zeroizing<Vec<u8>> {
        let mut seeds = Zeroizing::new(Vec::with_capacity(2 * SEED_BYTES));
        for key in std::iter::once(&self.key).chain(&self.other) {
            seeds.extend_from_slice(&*Zeroizing::new(key.to_bytes()));
        }
        seeds
    }

    /// Reads what [`Keys::seeds`] wrote; which of two is the owner's, the owner's public key says.
    fn read(seeds: &[u8], owner: KeyOwner<'_>) -> Result<Self, CustodyError> {
        let (seeds, rest) = seeds.as_chunks::<SEED_BYTES>();
        let (first, second) = match (seeds, rest) {
            ([first], []) => (SigningKey::from_bytes(first), None),
            ([first, second], []) => (SigningKey::from_bytes(first), Some(SigningKey::from_bytes(second))),
            _ => return Err(CustodyError::DoesNotOpen),
        };
        let is_its = |key: &SigningKey| public_key(key) == *owner.public_key;
        match second {
            other if is_its(&first) => Ok(Self { key: first, other }),
            Some(key) if is_its(&key) => Ok(Self { key, other: Some(first) }),
            _ => Err(CustodyError::OtherKey),
        }
    }
}

/// A wrapped seed, or two.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wrapped {
    /// Salt of the derivation.
    pub salt: [u8; 16],
    /// Nonce of AES-GCM.
    pub nonce: [u8; 12],
    /// Seed and tag.
    pub ciphertext: Vec<u8>,
}

/// Why a key was not wrapped or did not open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CustodyError {
    /// Wrong password or code, or a changed row.
    #[error("the wrapped key does not open")]
    DoesNotOpen,
    /// The stored cost is outside the bounds.
    #[error("the cost of the password hash is out of bounds")]
    Cost,
    /// The wrapped seed belongs to another public key.
    #[error("the wrapped key is another key")]
    OtherKey,
    /// Apps and devices keep their own.
    #[error("an account of this role has no key at auth")]
    NoKey,
    /// Encrypting failed.
    #[error("the key could not be wrapped")]
    Encrypt,
}

/// A fresh signing key.
#[must_use]
pub fn new_key(random: &Random) -> SigningKey {
    let seed = Zeroizing::new(random.bytes::<32>());
    SigningKey::from_bytes(&seed)
}

/// The raw public key of `key`.
#[must_use]
pub fn public_key(key: &SigningKey) -> [u8; 32] {
    key.verifying_key().to_bytes()
}

/// The kid of a raw public key: its SHA-256.
#[must_use]
pub fn kid(public_key: &[u8; 32]) -> Digest {
    Digest::of(public_key)
}

/// Wraps `keys` under `password`. Takes as long as Argon2id does: call it on the password pool.
pub fn wrap_with_password(
    keys: &Keys,
    owner: KeyOwner<'_>,
    password: &SecretText,
    cost: Cost,
    random: &Random,
) -> Result<Wrapped, CustodyError> {
    let salt = random.bytes::<16>();
    let wrap_key = password_key(password, &salt, cost, owner.key_use)?;
    encrypt(keys, owner, &wrap_key, salt, random)
}

/// Opens what [`wrap_with_password`] made. Takes as long as Argon2id does.
pub fn open_with_password(
    wrapped: &Wrapped,
    owner: KeyOwner<'_>,
    password: &SecretText,
    cost: Cost,
) -> Result<Keys, CustodyError> {
    let wrap_key = password_key(password, &wrapped.salt, cost, owner.key_use)?;
    Keys::read(&open(wrapped, owner, &wrap_key)?, owner)
}

/// Wraps `keys` under a recovery code of at least 120 random bits; nothing where the owner holds the key: that the wrap opens
/// shows the code all the same.
pub fn wrap_with_code(
    keys: Option<&Keys>,
    owner: KeyOwner<'_>,
    code: &Zeroizing<[u8; 16]>,
    random: &Random,
) -> Result<Wrapped, CustodyError> {
    let salt = random.bytes::<16>();
    let wrap_key = code_key(code, &salt, owner.key_use)?;
    if let Some(keys) = keys {
        return encrypt(keys, owner, &wrap_key, salt, random);
    }
    let (nonce, ciphertext) = encrypt_bytes(&wrap_key, &[], &owner.aad(false), random)?;
    Ok(Wrapped { salt, nonce, ciphertext })
}

/// Opens what [`wrap_with_code`] made.
pub fn open_with_code(
    wrapped: &Wrapped,
    owner: KeyOwner<'_>,
    code: &Zeroizing<[u8; 16]>,
) -> Result<Option<Keys>, CustodyError> {
    let wrap_key = code_key(code, &wrapped.salt, owner.key_use)?;
    let plain = open(wrapped, owner, &wrap_key)?;
    if plain.is_empty() { Ok(None) } else { Keys::read(&plain, owner).map(Some) }
}

/// The consent key of a root key for one grantee: seed = HKDF-SHA256(ikm = root seed, no salt, info =
/// `hbc/consent-key/v1` ‖ 0x00 ‖ length-prefixed grantee id and counter u32). The counter gives a revoked key a successor.
pub fn consent_key(root: &SigningKey, grantee: &str, counter: u32) -> Result<SigningKey, CustodyError> {
    let seed = Zeroizing::new(root.to_bytes());
    let info = aad("hbc/consent-key/v1", &[grantee.as_bytes(), &counter.to_be_bytes()]);
    let derived = expand(None, seed.as_slice(), &info)?;
    Ok(SigningKey::from_bytes(derived.expose()))
}

/// A 32-byte key for `purpose` from a server key: for what the server may open by itself (second factors).
pub fn server_key(master: &Key32, purpose: &str) -> Result<Key32, CustodyError> {
    expand(None, master.expose(), purpose.as_bytes())
}

/// Encrypts an answer that holds secrets under the password of the request it answers: only the same request can open
/// it. Takes as long as Argon2id does.
pub fn encrypt_answer(
    plain: &[u8],
    password: &SecretText,
    cost: Cost,
    random: &Random,
) -> Result<Wrapped, CustodyError> {
    let salt = random.bytes::<16>();
    let key = stretched_key(password, &salt, cost, ANSWER_DOMAIN)?;
    let (nonce, ciphertext) = encrypt_bytes(&key, plain, ANSWER_DOMAIN.as_bytes(), random)?;
    Ok(Wrapped { salt, nonce, ciphertext })
}

/// Opens what [`encrypt_answer`] made.
pub fn open_answer(
    encrypted: &Wrapped,
    password: &SecretText,
    cost: Cost,
) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
    let key = stretched_key(password, &encrypted.salt, cost, ANSWER_DOMAIN)?;
    open_bytes(&key, &encrypted.nonce, &encrypted.ciphertext, ANSWER_DOMAIN.as_bytes())
}

const ANSWER_DOMAIN: &str = "hbc/saved-answer/v1";

fn password_key(
    password: &SecretText,
    salt: &[u8; 16],
    cost: Cost,
    key_use: KeyUse,
) -> Result<Key32, CustodyError> {
    stretched_key(password, salt, cost, key_use.domain())
}

fn stretched_key(
    password: &SecretText,
    salt: &[u8; 16],
    cost: Cost,
    domain: &str,
) -> Result<Key32, CustodyError> {
    let mut stretched = Zeroizing::new([0_u8; 32]);
    cost.argon2()?
        .hash_password_into(password.expose().as_bytes(), salt, stretched.as_mut_slice())
        .map_err(|_bad_length| CustodyError::Cost)?;
    expand(None, stretched.as_slice(), domain.as_bytes())
}

fn code_key(code: &Zeroizing<[u8; 16]>, salt: &[u8; 16], key_use: KeyUse) -> Result<Key32, CustodyError> {
    expand(Some(salt), code.as_slice(), key_use.domain().as_bytes())
}

fn expand(salt: Option<&[u8]>, ikm: &[u8], info: &[u8]) -> Result<Key32, CustodyError> {
    let mut out = Zeroizing::new([0_u8; 32]);
    Hkdf::<Sha256>::new(salt, ikm)
        .expand(info, out.as_mut_slice())
        .map_err(|_bad_length| CustodyError::Encrypt)?;
    Ok(Key32::new(*out))
}

fn encrypt(
    keys: &Keys,
    owner: KeyOwner<'_>,
    wrap_key: &Key32,
    salt: [u8; 16],
    random: &Random,
) -> Result<Wrapped, CustodyError> {
    let aad = owner.aad(keys.other.is_some());
    let (nonce, ciphertext) = encrypt_bytes(wrap_key, &keys.seeds(), &aad, random)?;
    Ok(Wrapped { salt, nonce, ciphertext })
}

fn open(
    wrapped: &Wrapped,
    owner: KeyOwner<'_>,
    wrap_key: &Key32,
) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
    let aad = owner.aad(wrapped.ciphertext.len() > WRAPPED_BYTES);
    open_bytes(wrap_key, &wrapped.nonce, &wrapped.ciphertext, &aad)
}

/// AES-256-GCM under a fresh random nonce.
pub fn encrypt_bytes(
    key: &Key32,
    plain: &[u8],
    aad: &[u8],
    random: &Random,
) -> Result<([u8; 12], Vec<u8>), CustodyError> {
    let nonce = random.bytes::<12>();
    let cipher = Aes256Gcm::new_from_slice(key.expose()).map_err(|_length| CustodyError::Encrypt)?;
    let encrypted = cipher
        .encrypt(&Nonce::from(nonce), Payload { msg: plain, aad })
        .map_err(|_too_long| CustodyError::Encrypt)?;
    Ok((nonce, encrypted))
}

/// Opens what [`encrypt_bytes`] made.
pub fn open_bytes(
    key: &Key32,
    nonce: &[u8; 12],
    encrypted: &[u8],
    aad: &[u8],
) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
    let cipher = Aes256Gcm::new_from_slice(key.expose()).map_err(|_length| CustodyError::Encrypt)?;
    cipher
        .decrypt(&Nonce::from(*nonce), Payload { msg: encrypted, aad })
        .map(Zeroizing::new)
        .map_err(|_tag| CustodyError::DoesNotOpen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Cheap enough for many rounds; production uses [`Cost::STANDARD`].
    const CHEAP: Cost = Cost { m_kib: 64, t: 1, p: 1 };

    fn password(text: &str) -> SecretText {
        SecretText::new(text.to_owned())
    }

    #[test]
    fn a_wrapped_key_opens_only_with_its_password_for_its_account() {
        let random = Random::seeded(1);
        let key = new_key(&random);
        let public = public_key(&key);
        let owner = KeyOwner { key_use: KeyUse::Root, account: "pat-1", public_key: &public };
        let wrapped =
            wrap_with_password(&key.clone().into(), owner, &password("right"), CHEAP, &random).unwrap();
        assert_eq!(wrapped.ciphertext.len(), WRAPPED_BYTES);
        let opened = open_with_password(&wrapped, owner, &password("right"), CHEAP).unwrap();
        assert_eq!(opened.key.to_bytes(), key.to_bytes());
        let wrong = open_with_password(&wrapped, owner, &password("wrong"), CHEAP);
        assert_eq!(wrong.err(), Some(CustodyError::DoesNotOpen));
        let stranger = KeyOwner { account: "pat-2", ..owner };
        assert!(open_with_password(&wrapped, stranger, &password("right"), CHEAP).is_err());
        let other_use = KeyOwner { key_use: KeyUse::Staff, ..owner };
        assert!(open_with_password(&wrapped, other_use, &password("right"), CHEAP).is_err());
    }

    #[test]
    fn the_operator_wrap_is_the_written_one() {
        let random = Random::seeded(2);
        let key = new_key(&random);
        let public = public_key(&key);
        let owner = KeyOwner { key_use: KeyUse::Operator, account: "op-1", public_key: &public };
        let wrapped =
            wrap_with_password(&key.clone().into(), owner, &password("pw"), CHEAP, &random).unwrap();
        let mut stretched = [0; 32];
        CHEAP.argon2().unwrap().hash_password_into(b"pw", &wrapped.salt, &mut stretched).unwrap();
        let mut wrap_key = [0; 32];
        Hkdf::<Sha256>::new(None, &stretched).expand(b"hbc/operator-key/v1", &mut wrap_key).unwrap();
        let mut written = b"hbc/operator-key/v1\0\0\0\0\x04op-1\0\0\0\x20".to_vec();
        written.extend_from_slice(&public);
        let seed = open_bytes(&Key32::new(wrap_key), &wrapped.nonce, &wrapped.ciphertext, &written).unwrap();
        assert_eq!(seed.as_slice(), key.to_bytes());
    }

    /// Which of the two is the account's changes without anybody's password.
    #[test]
    fn two_keys_open_together_for_an_owner_of_either_and_for_no_other() {
        let random = Random::seeded(4);
        let (first, second) = (new_key(&random), new_key(&random));
        let publics = [public_key(&first), public_key(&second)];
        let [of_first, of_second] = publics.each_ref().map(|public_key| KeyOwner {
            key_use: KeyUse::Staff,
            account: "agy-1",
            public_key,
        });
        let keys = Keys { key: first.clone(), other: Some(second.clone()) };
        let code = Zeroizing::new(random.bytes::<16>());
        let by_code = wrap_with_code(Some(&keys), of_first, &code, &random).unwrap();
        let by_password = wrap_with_password(&keys, of_first, &password("pw"), CHEAP, &random).unwrap();
        for (owner, its, other) in [(of_first, &first, &second), (of_second, &second, &first)] {
            let opened = open_with_code(&by_code, owner, &code).unwrap().unwrap();
            assert_eq!((&opened.key, opened.other.as_ref()), (its, Some(other)));
            let opened = open_with_password(&by_password, owner, &password("pw"), CHEAP).unwrap();
            assert_eq!((&opened.key, opened.other.as_ref()), (its, Some(other)));
        }
        let third = [7; 32];
        let stranger = KeyOwner { public_key: &third, ..of_first };
        assert_eq!(open_with_code(&by_code, stranger, &code).err(), Some(CustodyError::OtherKey));
        let elsewhere = KeyOwner { account: "agy-2", ..of_first };
        assert_eq!(open_with_code(&by_code, elsewhere, &code).err(), Some(CustodyError::DoesNotOpen));
        let patient = KeyOwner { key_use: KeyUse::Root, ..of_first };
        assert!(open_with_code(&by_code, patient, &code).is_err());
    }

    #[test]
    fn consent_keys_differ_by_grantee_and_counter_and_are_stable() {
        let root = new_key(&Random::seeded(3));
        let first = consent_key(&root, "agy-a", 0).unwrap();
        assert_eq!(first.to_bytes(), consent_key(&root, "agy-a", 0).unwrap().to_bytes());
        assert_ne!(first.to_bytes(), consent_key(&root, "agy-a", 1).unwrap().to_bytes());
        assert_ne!(first.to_bytes(), consent_key(&root, "agy-b", 0).unwrap().to_bytes());
        assert_ne!(first.to_bytes(), root.to_bytes());
    }

    /// Computed with another implementation of HKDF. If this changes, every consent key in custody is lost.
    #[test]
    fn the_derivation_of_consent_keys_is_fixed() {
        let root = SigningKey::from_bytes(&[7; 32]);
        let key = consent_key(&root, "agy-00000000000000000000000000000001", 1).unwrap();
        let seed = "5ff53a7014164c32d86436976401d9e0f653c30c9b3c4f8cf62a863cfae868c9";
        assert_eq!(hex::encode(key.to_bytes()), seed);
    }

    #[test]
    fn absurd_costs_are_refused() {
        assert_eq!(Cost { m_kib: u32::MAX, t: 1, p: 1 }.argon2().err(), Some(CustodyError::Cost));
        assert_eq!(Cost { m_kib: 1, t: 1, p: 1 }.argon2().err(), Some(CustodyError::Cost));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_never_opens(seed in any::<u64>(), bit in 0_usize..(WRAPPED_BYTES * 8)) {
            let random = Random::seeded(seed);
            let key = new_key(&random);
            let public = public_key(&key);
            let owner = KeyOwner { key_use: KeyUse::Root, account: "pat-1", public_key: &public };
            let code = Zeroizing::new(random.bytes::<16>());
            let mut wrapped = wrap_with_code(Some(&key.clone().into()), owner, &code, &random).unwrap();
            prop_assert!(open_with_code(&wrapped, owner, &code).is_ok());
            wrapped.ciphertext[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(open_with_code(&wrapped, owner, &code).is_err());
        }
    }
}
