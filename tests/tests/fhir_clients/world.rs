//! Whom the libraries work for: a patient with the records of one of Synthea's, and the directory that these refer to.

use anyhow::{Context as _, Result};
use hbc_testkit::synthea::{HOSPITALS, PRACTITIONERS, SMALLEST, bundle};
use hbc_tests::{Person, TestApp};
use serde_json::{Value, json};

/// The stack, with a page where patients answer apps, so that the metadata is whole.
pub async fn stack() -> Result<Option<TestApp>> {
    TestApp::start_with(hbc_tests::apps::with_page).await
}

/// A patient with 66 records of a child: 7 immunizations and 3 encounters among them.
pub async fn child(app: &TestApp) -> Result<Person> {
    let patient = app.patient().await?;
    app.upload_bundle(&patient, patient.patient()?.as_str(), bundle(SMALLEST[0])?).await?;
    Ok(patient)
}

/// Brings into the directory what the child's records refer to.
pub async fn directory(app: &TestApp) -> Result<()> {
    let records = String::from_utf8(bundle(SMALLEST[0])?)?;
    let operator = app.operator().await?;
    for name in [HOSPITALS, PRACTITIONERS] {
        let mut batch: Value = serde_json::from_slice(&bundle(name)?)?;
        let entries = batch["entry"].as_array_mut().context("no entries")?;
        entries.retain(|entry| {
            let value = entry["resource"]["identifier"][0]["value"].as_str().unwrap_or_default();
            records.contains(&format!("|{value}\""))
        });
        app.upload_bundle(&operator, "dir", batch.to_string().into_bytes()).await?;
    }
    Ok(())
}

/// What a program is told.
pub fn given(app: &TestApp, patient: &Person) -> Result<Value> {
    Ok(json!({
        "fhir": format!("{}/fhir", app.stack().storage()),
        "token": patient.token(),
        "patient": patient.patient()?,
        "unique": app.key(),
    }))
}
