//! Synthea's bundles, unmodified: counts, received bytes, references, and what lies where afterwards.

use std::collections::HashSet;
use std::str::FromStr;
use std::time::Instant;

use cid::Cid;
use hbc_testkit::synthea;
use hbc_types::ids::AccountId;
use serde_json::Value;

use crate::app::{TestApp, each, eventually};

/// Every reference in an applied resource.
fn references(value: &Value, found: &mut HashSet<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("reference") {
                found.insert(reference.clone());
            }
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// All pages of what the account may see.
async fn everything(app: &TestApp, account: &AccountId) -> Vec<Value> {
    let mut path = format!("/fhir/Patient/{account}/$everything?_count=300");
    let mut all = Vec::new();
    loop {
        let page = app.get(account, &path).await.expect(200).body;
        all.extend(page["entry"].as_array().unwrap().iter().map(|entry| entry["resource"].clone()));
        let links = page["link"].as_array().unwrap();
        let Some(next) = links.iter().find(|link| link["relation"] == "next") else { return all };
        let url = next["url"].as_str().unwrap();
        path = format!("/fhir{}", url.split_once("/fhir").unwrap().1);
    }
}

/// The exact bytes of each resource in a bundle, cut out by hand.
fn received(bundle: &[u8]) -> Vec<Vec<u8>> {
    #[derive(serde::Deserialize)]
    struct Entry<'a> {
        #[serde(borrow)]
        resource: &'a serde_json::value::RawValue,
    }
    #[derive(serde::Deserialize)]
    struct Bundle<'a> {
        #[serde(borrow)]
        entry: Vec<Entry<'a>>,
    }
    let bundle: Bundle<'_> = serde_json::from_slice(bundle).unwrap();
    bundle.entry.iter().map(|entry| entry.resource.get().as_bytes().to_vec()).collect()
}

async fn import(app: &TestApp, name: &str) -> AccountId {
    let account = app.patient();
    let bundle = synthea::bundle(name).unwrap();
    let sources = received(&bundle);
    let started = Instant::now();
    let reply = app.fhir(&account, "/fhir", &[("Prefer", "wait=20")], &bundle).await.expect(200);
    println!("{name}: {} resources in {:?}", sources.len(), started.elapsed());
    assert_eq!(reply.header("hbc-anchor"), "final");
    let entries = reply.body["entry"].as_array().unwrap().clone();
    assert_eq!(entries.len(), sources.len());
    let mut targets = HashSet::new();
    for (entry, source) in entries.iter().zip(&sources).step_by(entries.len() / 40 + 1) {
        assert_eq!(entry["response"]["status"], "201 Created");
        let location = entry["response"]["location"].as_str().unwrap();
        let id = location.split('/').nth(1).unwrap();
        let record = match location.starts_with("Patient/") {
            true => {
                app.get(&account, "/v1/records?kind=Patient").await.expect(200).body["items"][0]["id"].clone()
            }
            false => id.into(),
        };
        let path = format!("/v1/records/{}/received", record.as_str().unwrap());
        let bytes = app.get(&account, &path).await.expect(200).bytes;
        assert_eq!(&bytes, source, "received bytes of {location}");
        let applied = app.get(&account, &format!("/fhir/{location}")).await.expect(200).body;
        assert_eq!(applied["id"], id);
    }
    let all = everything(app, &account).await;
    assert_eq!(all.len(), sources.len());
    let known: HashSet<String> = all
        .iter()
        .map(|resource| {
            format!("{}/{}", resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap())
        })
        .collect();
    all.iter().for_each(|resource| references(resource, &mut targets));
    for target in targets {
        let inside = target.starts_with('#') || known.contains(&target);
        assert!(inside || app.get(&account, &format!("/fhir/{target}")).await.status == 200, "{target}");
    }
    account
}

#[tokio::test(flavor = "multi_thread")]
async fn synthea_patients_go_in_unmodified_and_come_out_whole() {
    each(|app| async move {
        app.directory().await;
        let mut accounts = Vec::new();
        for name in synthea::SMALLEST.iter().chain(&[synthea::LARGEST]) {
            accounts.push(import(&app, name).await);
        }
        nothing_lies_open(&app);
        // Numbers are reported once the anchors are final.
        eventually("numbers reported", || async { app.world.anchored().len() >= 6 }).await;
        // The spool empties once pins and blocks are seen.
        eventually("spool empty", || async { std::fs::read_dir(app.spool()).unwrap().next().is_none() })
            .await;
    })
    .await;
}

/// What a thief of block store and database finds is ciphertext and keyed hashes.
fn nothing_lies_open(app: &TestApp) {
    let words: [&[u8]; 4] = [b"Zandra428", b"O'Hara248", b"Body Height", b"resourceType"];
    let holds = |haystack: &[u8], needle: &[u8]| haystack.windows(needle.len()).any(|part| part == needle);
    for blob in app.blobs.blobs().values() {
        assert!(!words.iter().any(|word| holds(blob, word)));
    }
    if let Some(path) = app.database.url.strip_prefix("sqlite:") {
        for suffix in ["", "-wal"] {
            let Ok(file) = std::fs::read(format!("{path}{suffix}")) else { continue };
            for word in words {
                assert!(!holds(&file, word), "{} in the database", String::from_utf8_lossy(word));
            }
            assert!(!holds(&file, b"pat-"), "a patient's id in the database");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn facility_bundles_twice_make_every_place_once() {
    each(|app| async move {
        app.directory().await;
        let operator = app.operator();
        let body = synthea::bundle(synthea::HOSPITALS).unwrap();
        let again = app.fhir(&operator, "/fhir", &[("HBC-Patient", "dir")], &body).await.expect(200).body;
        let statuses: HashSet<_> = again["entry"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["response"]["status"].clone())
            .collect();
        assert_eq!(statuses, HashSet::from([Value::from("200 OK")]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_directory_a_patients_bundle_says_what_is_missing() {
    each(|app| async move {
        let bundle = synthea::bundle(synthea::SMALLEST[0]).unwrap();
        let reply = app.fhir(&app.patient(), "/fhir", &[], &bundle).await.refused(422, "invalid_input");
        let path = reply.body["issue"][0]["expression"][0].as_str().unwrap().to_owned();
        assert!(path.starts_with("Bundle.entry["), "{path}");
        assert!(app.blobs.pins().is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_come_back_as_they_were() {
    each(|app| async move {
        let patient = app.patient();
        let body: Vec<u8> = (0..3_000_000_u32).map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]).collect();
        let headers = [("content-type", "application/pdf"), ("Prefer", "wait=20")];
        let path = "/v1/records?category=imaging&date=2020-02-03";
        let created = app.call(reqwest::Method::POST, path, Some(&patient), &headers, body.clone()).await;
        let created = created.expect(201).body;
        assert_eq!(created["anchor"], "final");
        let id = created["id"].as_str().unwrap();
        for part in ["received", "content"] {
            let reply = app.get(&patient, &format!("/v1/records/{id}/{part}")).await.expect(200);
            assert_eq!(reply.header("content-type"), "application/pdf");
            assert!(reply.bytes == body);
        }
        let view = app.get(&patient, &format!("/v1/records/{id}")).await.expect(200).body;
        assert_eq!((view["bytes"].as_u64(), &view["date"]), (Some(3_000_000), &Value::from("2020-02-03")));
        assert!(app.blobs.pins().contains(&Cid::from_str(view["cid"].as_str().unwrap()).unwrap()));
        app.get(&patient, &format!("/fhir/Document/{id}")).await.expect(404);
    })
    .await;
}
