//! Devices that a patient paired.

use anyhow::{Context as _, Result};
use ed25519_dalek::SigningKey;
use hbc_client::Endpoint;
use hbc_client::assertion::ClientKeys;
use hbc_client::operations::auth;
use hbc_types::Random;
use hbc_types::ids::GrantId;
use hbc_types::secret::SecretText;
use hbc_types::wire::devices::{
    DeviceRegistered, NewDevice, PairingClaim, PairingClaimed, PairingCode, PairingConfirmation,
};

use super::programs::{Key, TOKENS, key_set};

/// Devices that may make themselves known from one address at once.
pub const MOST: usize = 40;

/// Devices of one client.
pub const EACH: usize = 10;

/// A paired device and its key.
pub struct Device {
    key: Key,
    /// Tokens that it may still get.
    left: u32,
}

impl Device {
    /// One that makes itself known and is paired. The grant is one that nobody signed: with its tokens it may write nothing, and
    /// they cost what others do.
    pub async fn paired(auth: &Endpoint, patient: &SecretText, random: &Random) -> Result<Self> {
        let own = SigningKey::from_bytes(&random.bytes());
        let jwks = key_set(&own);
        let keys = ClientKeys::parse(&jwks).context("a device's key")?;
        let fingerprint = keys.iter().next().context("a device has a key")?.thumbprint();
        let new = NewDevice {
            name: "Bench".to_owned(),
            model: "Bench".to_owned(),
            jwks,
            assertion: Key::of(fingerprint.to_string(), &own, auth, random).await?.assertion()?,
        };
        let call = auth.to(auth::register_device()).json(&new);
        let known: DeviceRegistered = call.fetch().await.context("a device was not registered")?;
        let key = Key::of(known.id.to_string(), &own, auth, random).await?;
        let call = auth.to(auth::make_pairing_code()).bearer(patient.expose());
        let made: PairingCode = call.fetch().await.context("there is no pairing code")?;
        let claim =
            PairingClaim { code: made.code.context("the code is not told")?, assertion: key.assertion()? };
        let call = auth.to(auth::claim_pairing()).json(&claim);
        let claimed: PairingClaimed = call.fetch().await.context("a code was not claimed")?;
        let said = PairingConfirmation { fingerprint, grant: GrantId::random(random) };
        let call = auth.to(auth::confirm_pairing(&claimed.id)).json(&said).bearer(patient.expose());
        call.fetch().await.context("a device was not paired")?;
        Ok(Self { key, left: TOKENS })
    }

    /// Gets a token; false if it has had all that it may.
    pub async fn get_token(&mut self, auth: &Endpoint) -> Result<bool> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(false) };
        self.left = left;
        let call = auth.to(auth::grant_token()).once();
        self.key.prove(call, &[("grant_type", "client_credentials")])?.fetch().await?;
        Ok(true)
    }
}
