//! access-policy's public operations: requests, grants, freezes, the access log.

use hbc_types::ids::{AccessRequestId, GrantId, PatientId, ReceiptId};
use hbc_types::wire::access::{
    AccessPage, AccessRequestPage, AccessRequestView, ExplainRequest, Explanation, FreezeView, GrantDraft,
    GrantPage, GrantRevocation, GrantSignature, GrantView, NewAccessRequest, NewGrant, RootView,
};

use crate::ClientError;
use crate::session::typed_client;

typed_client!(
    /// A client of access-policy.
    AccessClient
);

/// `?limit=&cursor=` of a listing.
fn paged(path: &str, cursor: Option<&str>) -> String {
    match cursor {
        Some(cursor) => format!("{path}?limit=100&cursor={cursor}"),
        None => format!("{path}?limit=100"),
    }
}

impl AccessClient {
    /// An agency asks for access.
    pub async fn request(&self, request: &NewAccessRequest) -> Result<AccessRequestView, ClientError> {
        self.0.post("/v1/access-requests").json(request).fetch().await
    }

    /// The caller's access requests, as agency or as patient.
    pub async fn requests(&self, cursor: Option<&str>) -> Result<AccessRequestPage, ClientError> {
        self.0.get(&paged("/v1/access-requests", cursor)).fetch().await
    }

    /// The patient says no.
    pub async fn deny(&self, id: &AccessRequestId) -> Result<AccessRequestView, ClientError> {
        self.0.post(&format!("/v1/access-requests/{id}/denial")).fetch().await
    }

    /// The agency takes its request back.
    pub async fn withdraw(&self, id: &AccessRequestId) -> Result<AccessRequestView, ClientError> {
        self.0.post(&format!("/v1/access-requests/{id}/withdrawal")).fetch().await
    }

    /// The patient drafts a grant, unasked or in answer to a request.
    pub async fn draft(&self, grant: &NewGrant) -> Result<GrantDraft, ClientError> {
        self.0.post("/v1/grants").json(grant).fetch().await
    }

    /// The patient's signature makes a draft a grant.
    pub async fn sign(&self, id: &GrantId, signature: &GrantSignature) -> Result<GrantView, ClientError> {
        self.0.put(&format!("/v1/grants/{id}/signature")).json(signature).fetch().await
    }

    /// The caller's grants, given or received.
    pub async fn grants(&self, cursor: Option<&str>) -> Result<GrantPage, ClientError> {
        self.0.get(&paged("/v1/grants", cursor)).fetch().await
    }

    /// One grant.
    pub async fn grant(&self, id: &GrantId) -> Result<GrantView, ClientError> {
        self.0.get(&format!("/v1/grants/{id}")).fetch().await
    }

    /// The patient revokes; effective when this returns.
    pub async fn revoke(&self, id: &GrantId, revocation: &GrantRevocation) -> Result<GrantView, ClientError> {
        self.0.post(&format!("/v1/grants/{id}/revocation")).json(revocation).fetch().await
    }

    /// The patient stops one grant.
    pub async fn freeze(&self, id: &GrantId) -> Result<FreezeView, ClientError> {
        self.0.put(&format!("/v1/grants/{id}/freeze")).fetch().await
    }

    /// The patient stops all grants.
    pub async fn freeze_all(&self) -> Result<FreezeView, ClientError> {
        self.0.put("/v1/me/freeze").fetch().await
    }

    /// Who read what and why, newest first.
    pub async fn accesses(&self, cursor: Option<&str>) -> Result<AccessPage, ClientError> {
        self.0.get(&paged("/v1/me/accesses", cursor)).fetch().await
    }

    /// The proof document of one receipt (`hbc_chain::proof`).
    pub async fn receipt_proof(&self, id: &ReceiptId) -> Result<Vec<u8>, ClientError> {
        let answer = self.0.get(&format!("/v1/me/accesses/{id}/proof")).send().await?;
        Ok(answer.body.to_vec())
    }

    /// What would be decided, and why.
    pub async fn explain(&self, request: &ExplainRequest) -> Result<Explanation, ClientError> {
        self.0.post("/v1/explain").json(request).idempotent().fetch().await
    }

    /// Fingerprint of a patient's pinned root key.
    pub async fn root(&self, patient: &PatientId) -> Result<RootView, ClientError> {
        self.0.get(&format!("/v1/patients/{patient}/root")).fetch().await
    }
}
