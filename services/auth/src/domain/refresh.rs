//! Refresh tokens: 32 opaque bytes, stored as their hash. Each is good for one refresh and leads to exactly one
//! successor, so that a client whose answer got lost can ask again within the grace and gets the same token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hbc_types::hash::domain_hash;
use hbc_types::secret::{Key32, SecretText};
use hbc_types::{Digest, Random};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long the token before the last still gets the last one again.
pub const GRACE: Duration = Duration::from_secs(10);

/// A refresh token in memory.
pub struct RefreshToken(Zeroizing<[u8; 32]>);

impl RefreshToken {
    /// The first token of a family.
    #[must_use]
    pub fn random(random: &Random) -> Self {
        Self(Zeroizing::new(random.bytes()))
    }

    /// Reads the written form.
    #[must_use]
    pub fn parse(text: &SecretText) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        let written = text.expose().strip_prefix("hbr_")?;
        let length = URL_SAFE_NO_PAD.decode_slice(written, bytes.as_mut_slice()).ok()?;
        (length == 32).then_some(Self(bytes))
    }

    /// The written form.
    #[must_use]
    pub fn write(&self) -> SecretText {
        SecretText::new(format!("hbr_{}", URL_SAFE_NO_PAD.encode(self.0.as_slice())))
    }

    /// What the database knows of it.
    #[must_use]
    pub fn hash(&self) -> Digest {
        domain_hash("hbc/refresh/v1", &[self.0.as_slice()])
    }

    /// The one token that follows this one: HMAC under a server key, so that nobody else can compute it.
    #[must_use]
    pub fn successor(&self, key: &Key32) -> Self {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("32 bytes are a key");
        mac.update(b"hbc/refresh-successor/v1\0");
        mac.update(self.0.as_slice());
        Self(Zeroizing::new(mac.finalize().into_bytes().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_writing_and_has_one_successor() {
        let key = Key32::new([5; 32]);
        let token = RefreshToken::random(&Random::seeded(1));
        let read = RefreshToken::parse(&token.write()).unwrap();
        assert_eq!(read.hash(), token.hash());
        assert_eq!(read.successor(&key).hash(), token.successor(&key).hash());
        assert_ne!(token.successor(&key).hash(), token.hash());
        assert_ne!(token.successor(&key).hash(), token.successor(&Key32::new([6; 32])).hash());
        for bad in ["", "hbr_", "hbr_AAAA", "hbr_!", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
            assert!(RefreshToken::parse(&SecretText::new(bad.to_owned())).is_none(), "{bad}");
        }
    }
}
