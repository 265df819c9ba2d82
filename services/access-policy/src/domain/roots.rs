//! A patient's root key and the recovery key beside it, and what lets others take their place: the certificate of one of them.
//!
//! Why: decision 0136.

use hbc_chain::certificate::{CertificateError, RootCertificate};
use hbc_types::account::Custody;
use hbc_types::keys::PublicKey;
use hbc_types::{Digest, Timestamp};

use crate::domain::consent::{AHEAD, ConsentError, LATEST};
use crate::domain::rights::Pin;

/// Keys of a patient, as auth tells them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The root key.
    pub root: PublicKey,
    /// The recovery key, where there is one.
    pub recovery: Option<PublicKey>,
    /// Who holds the root key.
    pub custody: Custody,
}

impl Keys {
    /// Whether these are pinned.
    #[must_use]
    pub fn are_of(&self, pin: &Pin) -> bool {
        let Self { root, recovery, custody } = self;
        pin.root_public_key == root.as_bytes() && pin.recovery == *recovery && pin.custody == *custody
    }

    /// Checks the certificate by which these take the place of the pinned ones, and says when it was signed: later than the one
    /// before, so that none counts twice, and no earlier than the last that was seen (`floor`, Unix ms). That one brings its keys
    /// again, however old it is, where the database was set back.
    ///
    /// # Errors
    /// When it is of none of the pinned keys, names others, or its time is not acceptable.
    pub fn accept(
        &self,
        certificate: &str,
        pin: &Pin,
        (root, chain, floor): (PublicKey, Digest, i64),
        now: Timestamp,
    ) -> Result<Timestamp, ConsentError> {
        let pinned: Vec<PublicKey> = [root].into_iter().chain(pin.recovery).collect();
        let RootCertificate { chain: _, iat, patient, recovery, root } =
            RootCertificate::verify(certificate, &pinned, &chain)?;
        let demand = |holds: bool, field| if holds { Ok(()) } else { Err(CertificateError::Other(field)) };
        demand(patient == pin.patient, "patient")?;
        demand(root == self.root.kid(), "root")?;
        demand(recovery == self.recovery.unwrap_or(self.root).kid(), "recovery")?;
        let signed_at = i64::try_from(iat).map_err(|_far_away| ConsentError::BadTime)?;
        let recent = (now.minus(LATEST).ms()..=now.plus(AHEAD).ms()).contains(&signed_at);
        let in_time = (recent && signed_at > floor) || signed_at == floor;
        if in_time && signed_at > pin.root_signed_ms() {
            Ok(Timestamp::from_ms(signed_at))
        } else {
            Err(ConsentError::BadTime)
        }
    }
}
