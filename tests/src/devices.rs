//! Devices: they make themselves known, are paired, and get tokens.

use anyhow::{Context as _, Result};
use hbc_client::ClientError;
use hbc_client::operations::auth;
use hbc_testkit::clients::{ClientKey, claims};
use hbc_testkit::http::{FORM, form};
use hbc_types::account::Role;
use hbc_types::ids::{AccountId, DeviceId, GranteeId, PairingId, SessionId};
use hbc_types::labels::Category;
use hbc_types::purpose::{Action, Purpose};
use hbc_types::secret::SecretText;
use hbc_types::wire::access::{GrantState, GrantView, NewGrant, Scope};
use hbc_types::wire::auth::Tokens;
use hbc_types::wire::devices::{
    DeviceProof, DeviceRegistered, NewDevice, PairedDevice, PairingClaim, PairingClaimed, PairingCode,
    PairingConfirmation,
};
use hbc_types::wire::oauth::{JWT_BEARER, TokenResponse};

use crate::{Person, TestApp};

/// A device with its key.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its id and fingerprint.
    pub known: DeviceRegistered,
    /// Its key.
    pub key: ClientKey,
}

impl Device {
    /// Its id.
    #[must_use]
    pub const fn id(&self) -> &DeviceId {
        &self.known.id
    }
}

impl TestApp {
    /// An assertion that `client` makes with its key, good once and for five minutes.
    #[must_use]
    pub fn assertion(&self, client: &str, key: &ClientKey) -> SecretText {
        let endpoint = format!("{}/oauth/token", self.stack().auth());
        let said = claims(client, &endpoint, self.clock.now().seconds(), &self.key());
        SecretText::new(key.sign(&key.header(), &said))
    }

    /// What a device says to make itself known.
    #[must_use]
    pub fn new_device(&self, key: &ClientKey) -> NewDevice {
        NewDevice {
            name: "Cuff".to_owned(),
            model: "Example BP-7".to_owned(),
            jwks: key.jwks(),
            assertion: self.assertion(&key.thumbprint().to_string(), key),
        }
    }

    /// A device that made itself known.
    pub async fn device(&self) -> Result<Device> {
        let key = ClientKey::random(&self.random);
        let call = self.auth.to(auth::register_device()).json(&self.new_device(&key));
        Ok(Device { known: call.fetch().await.context("the device is not known")?, key })
    }

    /// A pairing code of a patient.
    pub async fn pairing_code(&self, patient: &Person) -> Result<PairingCode> {
        patient.signs(self.auth.to(auth::make_pairing_code())).fetch().await.context("no pairing code")
    }

    /// What a device says to claim a code.
    #[must_use]
    pub fn pairing_claim(&self, device: &Device, code: &PairingCode) -> PairingClaim {
        let code = code.code.clone().unwrap_or_else(|| SecretText::new(String::new()));
        PairingClaim { code, assertion: self.assertion(device.id().as_str(), &device.key) }
    }

    /// The device claims a new code of the patient's.
    pub async fn claim(&self, patient: &Person, device: &Device) -> Result<PairingId> {
        let code = self.pairing_code(patient).await?;
        let call = self.auth.to(auth::claim_pairing()).json(&self.pairing_claim(device, &code));
        let claimed: PairingClaimed = call.fetch().await.context("the code was not claimed")?;
        Ok(claimed.id)
    }

    /// Writing `categories`, as a device may, for 30 days.
    #[must_use]
    pub fn device_scope(&self, categories: &[Category]) -> Scope {
        let (actions, purposes) = (vec![Action::Write], vec![Purpose::PatientRequest]);
        Scope { actions, purposes, ..self.scope(categories) }
    }

    /// The patient grants the device that; waits until it takes effect.
    pub async fn grant_device(
        &self,
        patient: &Person,
        device: &Device,
        categories: &[Category],
    ) -> Result<GrantView> {
        let new = NewGrant::to(GranteeId::Device(device.id().clone()), self.device_scope(categories));
        let pending = self.sign_grant(patient, &new).await?;
        self.until_grant(patient, &pending.id, GrantState::Active).await
    }

    /// The whole ceremony: code, claim, grant, confirmation.
    pub async fn pair(
        &self,
        patient: &Person,
        device: &Device,
        categories: &[Category],
    ) -> Result<GrantView> {
        let id = self.claim(patient, device).await?;
        let grant = self.grant_device(patient, device, categories).await?;
        let said = PairingConfirmation { fingerprint: device.known.fingerprint, grant: grant.id.clone() };
        let call = self.auth.to(auth::confirm_pairing(&id)).json(&said);
        let _paired: PairedDevice = patient.signs(call).fetch().await.context("not paired")?;
        Ok(grant)
    }

    /// A token of the device's.
    pub async fn device_token(&self, device: &Device) -> Result<String, ClientError> {
        let assertion = self.assertion(device.id().as_str(), &device.key);
        let asked = form(&[
            ("grant_type", "client_credentials"),
            ("client_assertion_type", JWT_BEARER),
            ("client_assertion", assertion.expose()),
        ]);
        let given: TokenResponse = self.auth.to(auth::grant_token()).body(FORM, asked).fetch().await?;
        Ok(given.access_token.expose().to_owned())
    }

    /// The device with a token, as one who calls.
    pub async fn device_caller(&self, device: &Device) -> Result<Person> {
        let account = AccountId::Device(device.id().clone());
        let tokens = Tokens {
            access_token: SecretText::new(self.device_token(device).await?),
            expires_in: 300,
            refresh_token: SecretText::new(String::new()),
            token_type: "Bearer".to_owned(),
            account: account.clone(),
            role: Role::Device,
            session: SessionId::random(&self.random),
        };
        let (username, password) = (device.id().to_string(), SecretText::new(String::new()));
        Ok(Person { account, username, password, tokens })
    }

    /// The proof that a device shows where it is asked for nothing else.
    #[must_use]
    pub fn device_proof(&self, device: &Device) -> DeviceProof {
        DeviceProof { assertion: self.assertion(device.id().as_str(), &device.key) }
    }
}
