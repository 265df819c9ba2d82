//! storage's public operations: uploads, listings, reads, proofs.

use std::time::Duration;

use bytes::Bytes;
use hbc_types::ids::{PatientId, RecordId};
use hbc_types::wire::Page;
use hbc_types::wire::storage::{DocumentQuery, RecordCreated, RecordQuery, RecordView};

use crate::session::{PATIENT, typed_client};
use crate::{Answer, Call, ClientError};

/// How long an upload of many megabytes may take.
const UPLOAD: Duration = Duration::from_secs(120);

typed_client!(
    /// A client of storage.
    StorageClient
);

impl StorageClient {
    /// Uploads a FHIR batch or transaction bundle, for `patient` if it is not the caller's own.
    pub async fn bundle(
        &self,
        bundle: impl Into<Bytes>,
        patient: Option<&PatientId>,
    ) -> Result<Answer, ClientError> {
        let call = self.0.post("/fhir").body("application/fhir+json", bundle).deadline(UPLOAD);
        for_patient(call, patient).send().await
    }

    /// Uploads one FHIR resource of the type `kind`.
    pub async fn resource(
        &self,
        kind: &str,
        resource: impl Into<Bytes>,
        patient: Option<&PatientId>,
    ) -> Result<Answer, ClientError> {
        let call = self.0.post(&format!("/fhir/{kind}")).body("application/fhir+json", resource);
        for_patient(call, patient).send().await
    }

    /// Uploads a document.
    pub async fn document(
        &self,
        media_type: &str,
        document: impl Into<Bytes>,
        labels: &DocumentQuery,
        patient: Option<&PatientId>,
    ) -> Result<RecordCreated, ClientError> {
        let call = self.0.post("/v1/records").query(labels).body(media_type, document).deadline(UPLOAD);
        for_patient(call, patient).fetch().await
    }

    /// The records that the caller may see, a page of them.
    pub async fn records(&self, query: &RecordQuery) -> Result<Page<RecordView>, ClientError> {
        self.0.get("/v1/records").query(query).fetch().await
    }

    /// A record's description.
    pub async fn record(&self, id: &RecordId) -> Result<RecordView, ClientError> {
        self.0.get(&format!("/v1/records/{id}")).fetch().await
    }

    /// The bytes exactly as they were received.
    pub async fn received(&self, id: &RecordId) -> Result<Bytes, ClientError> {
        Ok(self.0.get(&format!("/v1/records/{id}/received")).send().await?.body)
    }

    /// A FHIR resource in its applied form.
    pub async fn read(&self, kind: &str, id: &RecordId) -> Result<Bytes, ClientError> {
        Ok(self.0.get(&format!("/fhir/{kind}/{id}")).send().await?.body)
    }

    /// The proof document of a record (`hbc_chain::proof`).
    pub async fn record_proof(&self, id: &RecordId) -> Result<Vec<u8>, ClientError> {
        Ok(self.0.get(&format!("/v1/records/{id}/proof")).send().await?.body.to_vec())
    }
}

fn for_patient(call: Call, patient: Option<&PatientId>) -> Call {
    match patient {
        Some(patient) => call.header(PATIENT, patient.as_str()),
        None => call,
    }
}
