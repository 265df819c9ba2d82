//! Synthea's bundles go in unmodified and come back byte for byte; what is served refers only to what is there.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "test code")]

use hbc_client::operations::storage;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hbc_testkit::synthea::{HOSPITALS, LARGEST, PRACTITIONERS, SMALLEST, bundle};
use hbc_tests::{Person, TestApp};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Reads under way at once.
const AT_ONCE: usize = 8;

#[derive(Deserialize)]
struct Bundle<'a> {
    #[serde(borrow)]
    entry: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    resource: &'a RawValue,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "resourceType")]
    kind: String,
}

fn kind(resource: &RawValue) -> String {
    serde_json::from_str::<Kind>(resource.get()).unwrap().kind
}

/// Uploads a bundle and answers each entry's type, record and exact text. Entries that named the same thing share a
/// record, whose text is that of the first.
async fn import(
    app: &TestApp,
    person: &Person,
    owner: &str,
    name: &str,
) -> Result<BTreeMap<String, (String, String)>> {
    let bytes = bundle(name)?;
    let answer = app.upload_bundle(person, owner, bytes.clone()).await?;
    let sent: Bundle<'_> = serde_json::from_slice(&bytes)?;
    let answered = answer["entry"].as_array().context("the answer has no entries")?;
    assert_eq!(answered.len(), sent.entry.len(), "{name}");
    let mut records = BTreeMap::new();
    for (entry, answered) in sent.entry.iter().zip(answered) {
        let response = &answered["response"];
        let status = response["status"].as_str().unwrap_or_default();
        ensure!(status.starts_with("20"), "an entry was answered {answered}");
        let location = response["location"].as_str().context("an entry has no location")?;
        let mut parts = location.split('/').skip_while(|part| !part.starts_with(char::is_uppercase));
        let (answered_kind, id) = (parts.next().unwrap(), parts.next().unwrap());
        assert_eq!(kind(entry.resource), answered_kind);
        let found = (answered_kind.to_owned(), entry.resource.get().to_owned());
        records.entry(id.to_owned()).or_insert(found);
    }
    Ok(records)
}

/// Every record's received bytes are the slice of the bundle that it came from.
async fn compare_received(
    app: &TestApp,
    reader: &Person,
    records: &BTreeMap<String, (String, String)>,
) -> Result<()> {
    stream::iter(records)
        .map(Ok)
        .try_for_each_concurrent(AT_ONCE, |(id, (kind, text))| async move {
            let received =
                app.received(reader, id, "PATRQT").await.with_context(|| format!("{kind} {id}"))?;
            ensure!(received == text.as_bytes(), "{kind} {id} came back changed");
            Ok(())
        })
        .await
}

fn references(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match (name.as_str(), member) {
                    ("reference", Value::String(text)) => {
                        into.insert(text.clone());
                    }
                    _ => references(member, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, into)),
        _ => {}
    }
}

/// The applied form of everything that the patient has, page by page.
async fn everything(app: &TestApp, patient: &Person) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    let mut path = storage::fhir_everything(patient.patient()?).with("_count=500").path;
    loop {
        let call = app.storage.get(&path).deadline(Duration::from_secs(120));
        let page: Value = patient.signs(call).fetch().await?;
        all.extend(
            page["entry"].as_array().context("no entries")?.iter().map(|entry| entry["resource"].clone()),
        );
        let links = page["link"].as_array().into_iter().flatten();
        let next = links.into_iter().find(|link| link["relation"] == "next");
        match next.and_then(|link| link["url"].as_str()) {
            Some(url) => path = url.split_once("/fhir/").map(|(_, rest)| format!("/fhir/{rest}")).unwrap(),
            None => return Ok(all),
        }
    }
}

/// Every reference in what is served leads to something that the patient can read; contained ones lead inside.
async fn follow_references(app: &TestApp, patient: &Person, served: &[Value]) -> Result<usize> {
    let mut all = BTreeSet::new();
    for resource in served {
        let mut own = BTreeSet::new();
        references(resource, &mut own);
        for reference in own {
            if let Some(id) = reference.strip_prefix('#') {
                let contained = resource["contained"].as_array().into_iter().flatten();
                ensure!(contained.into_iter().any(|inner| inner["id"] == id), "`#{id}` leads nowhere");
            } else {
                all.insert(reference);
            }
        }
    }
    let found: Vec<u16> = stream::iter(&all)
        .map(|reference| async move {
            ensure!(
                !reference.contains('?') && !reference.starts_with("urn:"),
                "`{reference}` is not applied"
            );
            let (kind, id) = reference.split_once('/').with_context(|| format!("`{reference}`"))?;
            let call = app.storage.to(storage::fhir_read(kind, id));
            let answer = patient.signs(call).send().await.with_context(|| format!("`{reference}`"))?;
            let target: Value = serde_json::from_slice(&answer.body)?;
            let kind = reference.split('/').next();
            ensure!(target["resourceType"].as_str() == kind, "`{reference}` leads to another type");
            Ok(answer.status.as_u16())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    assert!(found.iter().all(|status| *status == 200));
    Ok(found.len())
}

/// A patient's bundle, with everything that is promised about it.
async fn import_patient(app: &TestApp, name: &str) -> Result<()> {
    let patient = app.patient().await?;
    let owner = patient.patient()?.as_str();
    let mut records = import(app, &patient, owner, name).await?;
    let listed = app.until_anchored(&patient).await?;
    // Under `/fhir` a Patient is called by the account, elsewhere by its record like everything else.
    let person = listed.iter().find(|record| record.kind == "Patient").context("no Patient")?.id.to_string();
    let sent = records.remove(owner).context("the Patient is not called by the account")?;
    records.insert(person.clone(), sent);
    let own: BTreeMap<String, String> =
        listed.iter().map(|record| (record.id.to_string(), record.kind.clone())).collect();
    let sent: BTreeMap<String, String> =
        records.iter().map(|(id, (kind, _))| (id.clone(), kind.clone())).collect();
    assert_eq!(own, sent, "{name}: what is listed is what was sent");
    for record in &listed {
        let (_, text) = &records[record.id.as_str()];
        assert_eq!(record.bytes, text.len() as u64);
    }
    compare_received(app, &patient, &records).await?;
    let served = everything(app, &patient).await?;
    assert_eq!(served.len(), records.len(), "{name}");
    for resource in &served {
        let kind = resource["resourceType"].as_str().unwrap_or_default();
        let id = match (kind, resource["id"].as_str().unwrap_or_default()) {
            ("Patient", id) if id == owner => person.as_str(),
            (_, id) => id,
        };
        assert_eq!(sent.get(id).map(String::as_str), Some(kind));
    }
    let followed = follow_references(app, &patient, &served).await?;
    assert!(followed > 1, "{name} refers to something");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn facilities_and_patients_of_synthea_go_in_and_come_back_byte_for_byte() -> Result<()> {
    let Some(app) = TestApp::start().await? else { return Ok(()) };
    let operator = app.operator().await?;
    let reader = app.patient().await?;
    for name in [HOSPITALS, PRACTITIONERS] {
        let records = import(&app, &operator, "dir", name).await?;
        compare_received(&app, &reader, &records).await?;
        // What is conditional in the same batch makes nothing new.
        let again = import(&app, &operator, "dir", name).await?;
        let conditional = |records: &BTreeMap<String, (String, String)>| -> BTreeSet<String> {
            let conditional = records.iter().filter(|(_, (kind, _))| kind != "PractitionerRole");
            conditional.map(|(id, _)| id.clone()).collect()
        };
        assert_eq!(conditional(&records), conditional(&again), "{name} was created twice");
    }
    for name in SMALLEST {
        import_patient(&app, name).await?;
    }
    import_patient(&app, LARGEST).await
}
