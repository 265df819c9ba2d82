//! After a played story nothing that is secret or personal lies where it must not: databases, IPFS, spool, logs.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "test code")]

use hbc_client::operations::auth;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use hbc_testkit::synthea::{HOSPITALS, PRACTITIONERS, SMALLEST, bundle};
use hbc_tests::{Person, TestApp};
use hbc_types::account::AgencyType;
use hbc_types::labels::Category;
use hbc_types::wire::auth::{Contact, Refresh, Tokens};
use serde_json::Value;

/// Needles share a prefix of this length in the index; shorter ones cannot be looked for.
const PREFIX: usize = 6;

/// What is looked for, all at once.
#[derive(Default)]
struct Needles {
    all: Vec<(String, Vec<u8>)>,
    by_prefix: HashMap<u64, Vec<usize>>,
    filter: Vec<bool>,
}

impl Needles {
    fn add(&mut self, what: &str, bytes: &[u8]) {
        assert!(bytes.len() >= PREFIX, "`{what}` is too short to be looked for");
        self.filter.resize(1 << 16, false);
        let prefix = bytes[..PREFIX].iter().fold(0, |word, byte| (word << 8) | u64::from(*byte));
        self.filter[Self::slot(prefix)] = true;
        self.by_prefix.entry(prefix).or_default().push(self.all.len());
        self.all.push((what.to_owned(), bytes.to_vec()));
    }

    fn text(&mut self, what: &str, text: &str) {
        self.add(&format!("{what} `{text}`"), text.as_bytes());
    }

    /// A secret as bytes, hex and both alphabets of base64.
    fn secret(&mut self, what: &str, bytes: &[u8]) {
        self.add(&format!("{what} raw"), bytes);
        self.add(&format!("{what} in hex"), hex::encode(bytes).as_bytes());
        self.add(&format!("{what} in upper hex"), hex::encode_upper(bytes).as_bytes());
        self.add(&format!("{what} in base64"), STANDARD_NO_PAD.encode(bytes).as_bytes());
        self.add(&format!("{what} in base64url"), URL_SAFE_NO_PAD.encode(bytes).as_bytes());
    }

    fn slot(prefix: u64) -> usize {
        let mixed = prefix.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
        usize::try_from(mixed).unwrap()
    }

    /// What of it stands in `bytes`.
    fn found_in(&self, bytes: &[u8]) -> BTreeSet<&str> {
        let (mut found, mut word) = (BTreeSet::new(), 0_u64);
        for (end, byte) in bytes.iter().enumerate() {
            word = ((word << 8) | u64::from(*byte)) & 0xffff_ffff_ffff;
            if end + 1 < PREFIX || !self.filter[Self::slot(word)] {
                continue;
            }
            let rest = &bytes[end + 1 - PREFIX..];
            for &index in self.by_prefix.get(&word).into_iter().flatten() {
                let (what, needle) = &self.all[index];
                if rest.starts_with(needle) {
                    found.insert(what.as_str());
                }
            }
        }
        found
    }
}

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files(&entry.path(), into);
        } else if kind.is_file() {
            into.push(entry.path());
        }
    }
}

/// Everything that the deployment has written, but the folder of secrets: path below the root, and bytes.
fn written(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    files(root, &mut all);
    let name = |path: &Path| path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
    let kept =
        all.into_iter().map(|path| (name(&path), path)).filter(|(name, _)| !name.starts_with("secrets/"));
    // A file may go while others are read: temporary files and logs that are turned over.
    kept.filter_map(|(name, path)| Some((name, std::fs::read(path).ok()?))).collect()
}

/// Where each needle was found.
fn search(written: &[(String, Vec<u8>)], needles: &Needles, skip: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (name, bytes) in written.iter().filter(|(name, _)| !skip(name)) {
        found.extend(needles.found_in(bytes).into_iter().map(|what| format!("{name}: {what}")));
    }
    found
}

/// The names, numbers and diagnoses of a Synthea bundle.
fn personal(bundle: &[u8]) -> Result<BTreeSet<String>> {
    let bundle: Value = serde_json::from_slice(bundle)?;
    let mut found = BTreeSet::new();
    for entry in bundle["entry"].as_array().context("no entries")? {
        let resource = &entry["resource"];
        match resource["resourceType"].as_str().unwrap_or_default() {
            "Patient" => {
                for name in resource["name"].as_array().into_iter().flatten() {
                    found.extend(name["family"].as_str().map(str::to_owned));
                    let given = name["given"].as_array().into_iter().flatten();
                    found.extend(given.filter_map(Value::as_str).map(str::to_owned));
                }
                for (list, field) in [("telecom", "value"), ("identifier", "value"), ("address", "city")] {
                    let items = resource[list].as_array().into_iter().flatten();
                    found.extend(items.filter_map(|item| item[field].as_str()).map(str::to_owned));
                }
                let addresses = resource["address"].as_array().into_iter().flatten();
                let lines = addresses.flat_map(|address| address["line"].as_array().into_iter().flatten());
                found.extend(lines.filter_map(Value::as_str).map(str::to_owned));
            }
            "Condition" | "Procedure" | "Immunization" | "AllergyIntolerance" | "Observation" => {
                for field in ["code", "vaccineCode"] {
                    found.extend(resource[field]["text"].as_str().map(str::to_owned));
                    let codings = resource[field]["coding"].as_array().into_iter().flatten();
                    for coding in codings {
                        found.extend(coding["display"].as_str().map(str::to_owned));
                        // Shorter ones stand anywhere by chance.
                        let code = coding["code"].as_str().unwrap_or_default();
                        found.extend(
                            (code.contains('-') && code.len() > 6 || code.len() > 8).then(|| code.to_owned()),
                        );
                    }
                }
            }
            "MedicationRequest" => {
                found.extend(resource["medicationCodeableConcept"]["text"].as_str().map(str::to_owned));
            }
            _ => {}
        }
    }
    found.retain(|text| text.len() >= PREFIX);
    Ok(found)
}

/// What the story leaves to look for.
struct Story {
    patient: Person,
    doctor: Person,
    /// Contact data: allowed in auth's database only.
    contact: Needles,
    /// Passwords, tokens, codes, what stood in the bundle: nowhere.
    secret: Needles,
    cids: BTreeSet<String>,
}

const ADDRESS: &str = "47 Quince Orchard Lane, Peabody";
const DOCUMENT: &str = "The biopsy of the left shoulder shows a melanoma in situ.";

async fn play(app: &TestApp) -> Result<Story> {
    let (mut contact, mut secret) = (Needles::default(), Needles::default());
    let mut new = app.new_patient();
    new.contact = Contact {
        name: Some("Philippa Quillfeather".to_owned()),
        email: Some("philippa.quillfeather@mail.example".to_owned()),
        phone: Some("+1 978 555 0163".to_owned()),
        address: Some(ADDRESS.to_owned()),
    };
    for text in ["Quillfeather", "quillfeather@mail", "+1 978 555 0163", "9785550163", ADDRESS] {
        contact.text("contact", text);
    }
    let (patient, created) = app.sign_up_patient(&new).await?;
    for code in &created.recovery_codes {
        secret.text("recovery code", code.expose());
        let plain: String = code.expose().chars().filter(char::is_ascii_alphanumeric).collect();
        secret.text("recovery code", &plain);
    }
    let operator = app.operator().await?;
    let mut practice = app.new_agency(AgencyType::Doctor);
    practice.contact_number = "+1 339 555 0177".to_owned();
    practice.email = "fennimore.ostrander@practice.example".to_owned();
    practice.address = "9 Larkspur Terrace, Swampscott".to_owned();
    for text in [&practice.contact_number, &practice.email, &practice.address] {
        contact.text("contact", text);
    }
    let doctor = app.sign_up_agency(&practice).await?;
    app.approve(&operator, doctor.agency()?).await?;

    for name in [HOSPITALS, PRACTITIONERS] {
        app.upload_bundle(&operator, "dir", bundle(name)?).await?;
    }
    let bytes = bundle(SMALLEST[0])?;
    for text in personal(&bytes)? {
        secret.text("from the bundle", &text);
    }
    app.upload_bundle(&patient, patient.patient()?.as_str(), bytes).await?;
    secret.text("document", DOCUMENT);
    app.upload(&patient, DOCUMENT.as_bytes()).await?;
    let records = app.until_anchored(&patient).await?;
    let scope = app.scope(&[Category::Laboratory, Category::VitalSigns, Category::Condition]);
    let asked = app.ask(&doctor, &patient, scope).await?;
    let grant = app.approve_request(&patient, &asked).await?;
    let seen = app.list(&doctor, patient.patient()?.as_str(), "TREAT").await?;
    for record in seen.iter().take(5) {
        app.received(&doctor, record.id.as_str(), "TREAT").await?;
    }
    app.revoke(&patient, &grant).await?;
    let denied = app.received(&doctor, seen[0].id.as_str(), "TREAT").await;
    assert!(matches!(denied.unwrap_err().status(), Some(403 | 404)));
    app.until_receipts_anchored(&patient).await?;

    let refresh = Refresh { refresh_token: patient.tokens.refresh_token.clone() };
    let renewed: Tokens = app.auth.to(auth::refresh_session()).json(&refresh).fetch().await?;
    let wrong = app.try_login(&patient.username, "a wrong password of mine").await;
    assert_eq!(wrong.unwrap_err().status(), Some(401));
    secret.text("wrong password", "a wrong password of mine");
    for person in [&patient, &doctor, &operator] {
        secret.text("password", person.password.expose());
    }
    for tokens in [&patient.tokens, &doctor.tokens, &operator.tokens, &renewed] {
        let access = tokens.access_token.expose();
        let (_, signature) = access.rsplit_once('.').context("the token is no JWT")?;
        secret.text("signature of a token", signature);
        secret.text("refresh token", tokens.refresh_token.expose());
    }
    let cids = records.into_iter().map(|record| record.cid).collect();
    Ok(Story { patient, doctor, contact, secret, cids })
}

/// Command lines and environments of the stack's processes, which other users of the machine may read.
fn processes(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let folder = folder.to_string_lossy().into_owned();
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(&folder) {
            let name = format!("process {}", entry.file_name().to_string_lossy());
            all.push((
                format!("{name}: environment"),
                std::fs::read(entry.path().join("environ")).unwrap_or_default(),
            ));
            all.push((format!("{name}: command line"), line));
        }
    }
    all
}

/// The deployment's own secrets, in every form they might be written in.
fn deployment_secrets(app: &TestApp) -> Result<Needles> {
    let mut needles = Needles::default();
    for entry in std::fs::read_dir(app.dir().join("secrets"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path)?;
        let word = text.split_whitespace().next_back().unwrap_or_default();
        if path.extension().is_some_and(|extension| extension == "json") {
            continue;
        }
        match hex::decode(word) {
            Ok(bytes) => needles.secret(&name, &bytes),
            Err(_) => needles.text(&name, word),
        }
    }
    assert!(needles.all.len() >= 5 * 12, "the secrets of the deployment were read");
    Ok(needles)
}

fn entropy_bits_per_byte(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let all = counts.iter().map(|count| f64::from(*count)).sum::<f64>();
    let shares = counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count) / all);
    shares.map(|share| -share * share.log2()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_or_personal_lies_where_it_must_not() -> Result<()> {
    let Some(mut app) = TestApp::start().await? else { return Ok(()) };
    let story = play(&app).await?;
    let keys = deployment_secrets(&app)?;
    let mut ids = Needles::default();
    ids.text("patient's id", story.patient.account.as_str());
    ids.text("patient's username", &story.patient.username);
    let mut agency = Needles::default();
    agency.text("agency's id", story.doctor.account.as_str());
    for (number, cid) in story.cids.iter().enumerate() {
        let bytes = app.ipfs_cat(cid).await?;
        assert!(story.secret.found_in(&bytes).is_empty() && ids.found_in(&bytes).is_empty(), "{cid}");
        if bytes.len() >= 65_536 {
            assert!(entropy_bits_per_byte(&bytes) > 7.99, "object {number} does not look encrypted");
        }
    }
    // While it runs (write-ahead logs), and after a stop and a start (main files).
    for when in ["running", "after a restart"] {
        let mut written = written(app.dir());
        let running = processes(app.dir());
        assert!(running.len() >= 2 * 8, "the processes were not found");
        written.extend(running);
        let at = |name: &str| written.iter().any(|(file, _)| file.starts_with(name));
        for part in
            ["data/auth/", "data/access-policy/", "data/storage/", "data/node-4/", "kubo/blocks/", "logs/"]
        {
            assert!(at(part), "nothing of {part} was looked at");
        }
        let in_auth = |name: &str| name.starts_with("data/auth/");
        let mut found = search(&written, &story.secret, |_| false);
        found.extend(search(&written, &story.contact, in_auth));
        // Kubo keeps the secrets of its own in its own folder.
        let kubo = |name: &str| name == "kubo/config" || name == "kubo/swarm.key";
        found.extend(search(&written, &keys, kubo));
        assert!(
            !search(&written, &keys, |name| !kubo(name)).is_empty(),
            "the search finds keys where they are"
        );
        // The ledger, IPFS, storage and the logs know no patient, not even by the pseudonym.
        let knows_patients = |name: &str| in_auth(name) || name.starts_with("data/access-policy/");
        found.extend(search(&written, &ids, knows_patients));
        let public = |name: &str| !name.starts_with("kubo/");
        found.extend(search(&written, &agency, public));
        assert!(found.is_empty(), "{when}: {found:#?}");
        assert!(
            written.iter().any(|(name, bytes)| in_auth(name) && !story.contact.found_in(bytes).is_empty()),
            "the search finds what is there"
        );
        app.stack_mut()?.restart().await?;
    }
    Ok(())
}
