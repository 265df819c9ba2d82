//! auth's public operations: accounts, sessions, approval of agencies, signatures.

use hbc_types::ids::AgencyId;
use hbc_types::secret::SecretText;
use hbc_types::wire::auth::{
    AgencyCreated, AgencyView, ConsentKeyRegistered, ConsentSignature, ConsentSignatureRequest, Login, Me,
    NewAgency, NewConsentKey, NewPatient, OperatorSignature, PatientCreated, Refresh, RevocationSignature,
    RevocationSignatureRequest, Tokens,
};
use hbc_types::wire::token::Jwks;

use crate::ClientError;
use crate::session::typed_client;

typed_client!(
    /// A client of auth.
    AuthClient
);

impl AuthClient {
    /// A patient signs up.
    pub async fn sign_up_patient(&self, patient: &NewPatient) -> Result<PatientCreated, ClientError> {
        self.0.post("/v1/patients").json(patient).fetch().await
    }

    /// An agency signs up.
    pub async fn sign_up_agency(&self, agency: &NewAgency) -> Result<AgencyCreated, ClientError> {
        self.0.post("/v1/agencies").json(agency).fetch().await
    }

    /// Logs in; the answer's access token goes into `with_token`.
    pub async fn log_in(&self, username: &str, password: &SecretText) -> Result<Tokens, ClientError> {
        let login = Login { username: username.to_owned(), password: password.clone(), totp: None };
        self.0.post("/v1/sessions").json(&login).fetch().await
    }

    /// Logs in with a second factor.
    pub async fn log_in_with(&self, login: &Login) -> Result<Tokens, ClientError> {
        self.0.post("/v1/sessions").json(login).fetch().await
    }

    /// Trades a refresh token for new tokens.
    pub async fn refresh(&self, refresh_token: &SecretText) -> Result<Tokens, ClientError> {
        let refresh = Refresh { refresh_token: refresh_token.clone() };
        self.0.post("/v1/sessions/refresh").json(&refresh).fetch().await
    }

    /// Ends the session of the token.
    pub async fn log_out(&self) -> Result<(), ClientError> {
        self.0.delete("/v1/sessions/current").once().done().await
    }

    /// The account of the token.
    pub async fn me(&self) -> Result<Me, ClientError> {
        self.0.get("/v1/me").fetch().await
    }

    /// An agency.
    pub async fn agency(&self, id: &AgencyId) -> Result<AgencyView, ClientError> {
        self.0.get(&format!("/v1/agencies/{id}")).fetch().await
    }

    /// An operator approves an agency.
    pub async fn approve(&self, id: &AgencyId, with: &OperatorSignature) -> Result<AgencyView, ClientError> {
        self.0.post(&format!("/v1/agencies/{id}/approvals")).json(with).fetch().await
    }

    /// An operator suspends an agency; the answer's body is auth's business, its status says enough.
    pub async fn suspend(&self, id: &AgencyId, with: &OperatorSignature) -> Result<(), ClientError> {
        self.0.post(&format!("/v1/agencies/{id}/suspensions")).json(with).done().await
    }

    /// Signs a draft after fresh re-authentication (server custody).
    pub async fn sign_consent(
        &self,
        request: &ConsentSignatureRequest,
    ) -> Result<ConsentSignature, ClientError> {
        self.0.post("/v1/me/consent-signatures").json(request).fetch().await
    }

    /// Signs a revocation without access-policy (server custody).
    pub async fn sign_revocation(
        &self,
        request: &RevocationSignatureRequest,
    ) -> Result<RevocationSignature, ClientError> {
        self.0.post("/v1/me/revocation-signatures").json(request).fetch().await
    }

    /// Registers a consent key of the client's own.
    pub async fn register_consent_key(
        &self,
        key: &NewConsentKey,
    ) -> Result<ConsentKeyRegistered, ClientError> {
        self.0.post("/v1/me/consent-keys").json(key).fetch().await
    }

    /// The keys that sign access tokens.
    pub async fn jwks(&self) -> Result<Jwks, ClientError> {
        self.0.get("/.well-known/jwks.json").fetch().await
    }
}
