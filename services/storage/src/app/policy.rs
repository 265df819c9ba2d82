//! What storage asks of access-policy. The service key proves who asks; the user's token says for whom.

use std::collections::BTreeSet;

use hbc_client::operations::access_policy;
use hbc_client::{ClientError, Endpoint, ServiceCaller};
use hbc_types::account::ServiceRole;
use hbc_types::ids::PatientId;
use hbc_types::secret::SecretText;
use hbc_types::wire::access::{
    Admission, AdmissionRequest, AnchoredRequest, ConsentVersion, DataKeys, DataKeysRequest, DecisionAnswer,
    DecisionRequest, GrantPage, GrantState, UnwrapRequest, Unwrapped, VoidRequest,
};

/// Grants that are asked for at once, and how often: an agency may have many that are over.
const PAGE: u32 = 200;
const PAGES: usize = 10;

/// access-policy, as storage meets it.
#[derive(Clone, Debug)]
pub struct Policy {
    endpoint: Endpoint,
    caller: ServiceCaller,
}

impl Policy {
    /// The service at `url`, asked by `caller`.
    pub fn new(url: &str, caller: ServiceCaller) -> Result<Self, ClientError> {
        Ok(Self { endpoint: Endpoint::new(url)?, caller })
    }

    /// Whether the caller may write such records at all, before anything of the account is looked at.
    pub async fn admit(
        &self,
        token: &SecretText,
        request: &AdmissionRequest,
    ) -> Result<Admission, ClientError> {
        let call = self.endpoint.to(access_policy::admit()).json(request).bearer(token.expose());
        call.signed(&self.caller, ServiceRole::AccessPolicy).fetch().await
    }

    /// Decides "may write" and makes data keys. Asking again under the same intent gives the same answer.
    pub async fn data_keys(
        &self,
        token: &SecretText,
        request: &DataKeysRequest,
    ) -> Result<DataKeys, ClientError> {
        let call = self.endpoint.to(access_policy::make_data_keys()).json(request).bearer(token.expose());
        call.signed(&self.caller, ServiceRole::AccessPolicy).idempotent().fetch().await
    }

    /// Decides "may read", writes the receipt, releases keys.
    pub async fn unwrap(
        &self,
        token: &SecretText,
        request: &UnwrapRequest,
    ) -> Result<Unwrapped, ClientError> {
        let call = self.endpoint.to(access_policy::unwrap_keys()).json(request).bearer(token.expose());
        call.signed(&self.caller, ServiceRole::AccessPolicy).fetch().await
    }

    /// Which labels may be listed.
    pub async fn decide(
        &self,
        token: &SecretText,
        request: &DecisionRequest,
    ) -> Result<DecisionAnswer, ClientError> {
        let call = self.endpoint.to(access_policy::decide()).json(request).bearer(token.expose());
        call.signed(&self.caller, ServiceRole::AccessPolicy).fetch().await
    }

    /// The patients of whom the calling agency has grants in force; nothing if there are more than `most`.
    pub async fn granted(
        &self,
        token: &SecretText,
        most: usize,
    ) -> Result<Option<Vec<PatientId>>, ClientError> {
        let mut patients = BTreeSet::new();
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES {
            let after = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
            let route = access_policy::list_grants().with(format!("limit={PAGE}{after}"));
            let page: GrantPage = self.endpoint.to(route).bearer(token.expose()).fetch().await?;
            let active = page.items.into_iter().filter(|grant| grant.state == GrantState::Active);
            patients.extend(active.map(|grant| grant.patient));
            match page.next {
                _ if patients.len() > most => return Ok(None),
                Some(next) => cursor = Some(next),
                None => return Ok(Some(patients.into_iter().collect())),
            }
        }
        Ok(None)
    }

    /// The patient's consent version: it grows with whatever gives or takes rights.
    pub async fn consent_version(&self, patient: &PatientId) -> Result<u64, ClientError> {
        let call = self.endpoint.to(access_policy::get_consent_version(patient));
        let answer: ConsentVersion = call.signed(&self.caller, ServiceRole::AccessPolicy).fetch().await?;
        Ok(answer.consent_version)
    }

    /// The intent died.
    pub async fn void(&self, request: &VoidRequest) -> Result<(), ClientError> {
        let call = self.endpoint.to(access_policy::void_numbers()).json(request);
        call.signed(&self.caller, ServiceRole::AccessPolicy).idempotent().done().await
    }

    /// The intent's numbers stand on the ledger.
    pub async fn anchored(&self, request: &AnchoredRequest) -> Result<(), ClientError> {
        let call = self.endpoint.to(access_policy::anchor_numbers()).json(request);
        call.signed(&self.caller, ServiceRole::AccessPolicy).idempotent().done().await
    }
}
