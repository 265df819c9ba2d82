//! Uploads, listings and reads.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hbc_client::operations::storage;
use hbc_client::{Call, ClientError};
use hbc_types::wire::storage::{AnchorState, RecordCreated, RecordPage, RecordView};
use reqwest::Method;
use serde_json::Value;

use crate::ask::{Ask, Credentials};
use crate::wait::until_within;
use crate::{Person, TestApp};

/// How long a large bundle may take on a slow machine.
const UPLOAD_LIMIT: Duration = Duration::from_secs(300);

impl TestApp {
    /// Posts a bundle for `owner` (an account's id, or `dir`); answers the response bundle.
    pub async fn upload_bundle(&self, person: &Person, owner: &str, bundle: Vec<u8>) -> Result<Value> {
        let ask = Ask::new("storage", Method::POST, "/fhir").body("application/fhir+json", bundle);
        let ask = ask.header("idempotency-key", &self.key()).header("hbc-patient", owner);
        let who = Credentials { token: Some(person.token()), service: None };
        let reply = self.send(&ask, who).await?;
        let text = String::from_utf8_lossy(&reply.body);
        ensure!(reply.status == 200, "the bundle was refused: {} {text:.2000}", reply.status);
        Ok(reply.json())
    }

    /// The upload of a document, to be sent.
    pub fn document(&self, person: &Person, owner: &str, content: Vec<u8>) -> Call<RecordCreated> {
        let call = self.storage.to(storage::create_record()).idempotency_key(&self.key());
        person.signs(call.header("hbc-patient", owner).body("application/pdf", content))
    }

    /// The patient uploads a document of their own.
    pub async fn upload(&self, patient: &Person, content: &[u8]) -> Result<RecordCreated> {
        let call = self.document(patient, patient.patient()?.as_str(), content.to_vec());
        call.fetch().await.context("the document was refused")
    }

    /// All records of `patient` that `person` may see, oldest first.
    pub async fn list(
        &self,
        person: &Person,
        patient: &str,
        purpose: &str,
    ) -> Result<Vec<RecordView>, ClientError> {
        let mut all = Vec::new();
        let mut query = format!("patient={patient}&limit=1000");
        loop {
            let call = self
                .storage
                .to(storage::list_records().with(&query))
                .header("hbc-purpose", purpose)
                .deadline(UPLOAD_LIMIT);
            let page: RecordPage = person.signs(call).fetch().await?;
            all.extend(page.items);
            match page.next {
                Some(cursor) => query = format!("patient={patient}&limit=1000&cursor={cursor}"),
                None => return Ok(all),
            }
        }
    }

    /// The received bytes of a record.
    pub async fn received(
        &self,
        person: &Person,
        record: &str,
        purpose: &str,
    ) -> Result<Vec<u8>, ClientError> {
        let call = self.storage.to(storage::get_received(record));
        let answer = person.signs(call.header("hbc-purpose", purpose)).send().await?;
        Ok(answer.body.to_vec())
    }

    /// Waits until every record of the patient is in a final block; answers them.
    pub async fn until_anchored(&self, patient: &Person) -> Result<Vec<RecordView>> {
        let id = patient.patient()?.as_str();
        until_within("every record is anchored", Duration::from_secs(120), || async {
            let records = self.list(patient, id, "PATRQT").await?;
            Ok(records.iter().all(|record| record.anchor == AnchorState::Final).then_some(records))
        })
        .await
    }

    /// The bytes of an IPFS object as whoever holds the daemon's token gets them.
    pub async fn ipfs_cat(&self, cid: &str) -> Result<Vec<u8>> {
        let kubo = self.stack().kubo().context("there is no Kubo")?;
        let url = format!("{kubo}/api/v0/cat?arg={cid}");
        let answer = self.http.post(url).bearer_auth(self.secret("kubo.token")?).send().await?;
        ensure!(answer.status().is_success(), "Kubo answered {}", answer.status());
        Ok(answer.bytes().await?.to_vec())
    }
}

/// The HTTP status with which a call was refused; an accepted call or another fault is an error.
pub fn refusal<T>(result: Result<T, ClientError>, what: &str) -> Result<u16> {
    match result {
        Ok(_) => anyhow::bail!("{what} was not refused"),
        Err(error) => match error.status() {
            Some(status) => Ok(status),
            None => Err(error).with_context(|| format!("{what} failed in another way")),
        },
    }
}
