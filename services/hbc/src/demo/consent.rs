//! The doctor asks, the patient narrows and signs, the doctor reads, the patient looks at the log and revokes.

use hbc_client::operations::{access_policy, auth, storage};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hbc_types::ids::GranteeId;
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::purpose::{Action, Purpose};
use hbc_types::wire::access::{
    AccessKind, AccessRequestView, AccessView, GrantDraft, GrantRevocation, GrantSignature, GrantState,
    GrantView, NewAccessRequest, NewGrant, Scope,
};
use hbc_types::wire::auth::{
    ConsentSignature, ConsentSignatureRequest, RevocationSignature, RevocationSignatureRequest,
};
use hbc_types::wire::storage::RecordView;
use hbc_types::{Clock, ids::GrantId};

use super::records;
use super::world::{Person, World, refusal};

/// What the doctor asks for and gets.
const CATEGORIES: [Category; 2] = [Category::Laboratory, Category::VitalSigns];

/// Before any consent: nothing is seen.
pub async fn doctor_sees_nothing(world: &mut World, doctor: &Person, patient: &Person) -> Result<()> {
    world.console.step("The doctor looks for the patient's records before anybody consented");
    let id = patient.patient()?;
    match records::list(world, doctor, id.as_str(), "TREAT").await {
        Ok(seen) if seen.is_empty() => world.console.fact("records seen", 0),
        Ok(seen) => bail!("{} records are seen without consent", seen.len()),
        Err(error) => match error.status() {
            Some(status @ (403 | 404)) => world.console.fact("records seen", format!("0 (answer {status})")),
            _ => return Err(error).context("the look failed in another way"),
        },
    }
    world.console.proves("without a live consent nobody but the patient sees anything");
    Ok(())
}

/// A scope over `categories` for `days` from now.
fn scope(categories: &[Category], days: u64) -> Scope {
    let now = Clock::system().now();
    Scope {
        actions: vec![Action::Read],
        categories: categories.to_vec(),
        sensitivities: vec![Sensitivity::Normal],
        purposes: vec![Purpose::Treatment],
        from: now,
        until: now.plus(Duration::from_secs(days * 86_400)),
        future_records: true,
    }
}

/// Asks for access and has it approved; answers the active grant.
pub async fn ask_and_approve(world: &mut World, doctor: &Person, patient: &Person) -> Result<GrantView> {
    world.console.step("The doctor asks for laboratory and vital-signs, for treatment, for 30 days");
    let asked = NewAccessRequest {
        patient: patient.patient()?,
        scope: scope(&CATEGORIES, 30),
        message: "For your visit next week.".to_owned(),
    };
    let call = world.access.to(access_policy::ask_for_access()).idempotency_key(&world.key()).json(&asked);
    let request: AccessRequestView = doctor.signs(call).fetch().await.context("the request failed")?;
    world.console.fact("request", &request.id);
    world.console.proves("the patient sees who asks, for what, why and how long");

    world.console.step("The patient approves with her password; the consent goes onto the ledger");
    let call = world.access.to(access_policy::list_access_requests());
    let page = patient.signs(call).fetch().await.context("no list of requests")?;
    let open =
        page.items.into_iter().find(|open| open.id == request.id).context("the request is not shown")?;
    world.console.fact("asked by", format!("{} ({})", open.agency_name, open.agency_type));
    let new = NewGrant { request: Some(open.id), ..NewGrant::to(GranteeId::Agency(open.agency), open.scope) };
    let grant = give(world, patient, &new).await?;
    world.console.fact("grant", &grant.id);
    if let (Some(txid), Some(height)) = (grant.txid, grant.height) {
        world.console.fact("on the ledger", format!("transaction {txid} in block {height}"));
    }
    world
        .console
        .proves("a consent takes effect only once the patient's own key signed it and a block made it final");
    Ok(grant)
}

/// Draft, signature by auth after a fresh check of the password, then final.
pub async fn give(world: &World, patient: &Person, new: &NewGrant) -> Result<GrantView> {
    let call = world.access.to(access_policy::draft_grant()).idempotency_key(&world.key()).json(new);
    let draft: GrantDraft = patient.signs(call).fetch().await.context("no draft")?;
    let asked = ConsentSignatureRequest {
        password: patient.password.clone(),
        totp: None,
        payload: draft.payload,
        body: draft.body,
        salt: draft.salt,
    };
    let call = world.auth.to(auth::sign_consent()).json(&asked);
    let signed: ConsentSignature = patient.signs(call).fetch().await.context("auth did not sign")?;
    let signature = GrantSignature {
        jws: signed.jws,
        certificate: signed.certificate,
        registration: signed.registration,
    };
    let call = world.access.to(access_policy::sign_grant(&draft.id)).json(&signature);
    patient.signs(call).done().await.context("the signed consent was refused")?;
    until_state(world, patient, &draft.id, GrantState::Active).await
}

async fn until_state(
    world: &World,
    patient: &Person,
    grant: &GrantId,
    wanted: GrantState,
) -> Result<GrantView> {
    let wait = async {
        loop {
            let call = world.access.to(access_policy::get_grant(grant));
            let view: GrantView = patient.signs(call).fetch().await?;
            if view.state == wanted {
                return Ok::<_, anyhow::Error>(view);
            }
            if view.state == GrantState::Refused {
                bail!("the ledger refused the grant");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let wait = world.console.wait("waiting for the block", wait);
    let waited = tokio::time::timeout(Duration::from_secs(60), wait).await;
    waited.with_context(|| format!("the grant does not become {wanted}"))?
}

/// The doctor lists and reads exactly what was granted, and not for another purpose.
pub async fn doctor_reads(
    world: &mut World,
    doctor: &Person,
    patient: &Person,
    all: &[RecordView],
) -> Result<RecordView> {
    world.console.step("The doctor reads");
    let id = patient.patient()?;
    let seen = records::list(world, doctor, id.as_str(), "TREAT").await.context("the list was refused")?;
    let granted = |record: &&RecordView| {
        CATEGORIES.contains(&record.category) && record.sensitivity == Sensitivity::Normal
    };
    let expected = all.iter().filter(granted).count();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for record in &seen {
        *counts.entry(record.category.to_string()).or_default() += 1;
    }
    if seen.len() != expected || !seen.iter().all(|record| granted(&record)) {
        bail!("{} records are seen, {expected} were granted: {counts:?}", seen.len());
    }
    for (category, count) in &counts {
        world.console.fact(category, format!("{count} records"));
    }
    world.console.fact("of the patient's", format!("{} records", all.len()));
    let observation =
        seen.iter().find(|record| record.kind == "Observation").context("no observation is seen")?;
    let received = storage::get_received(&observation.id);
    let read =
        |purpose: &str| doctor.signs(world.storage.to(received.clone()).header("hbc-purpose", purpose));
    let began = Instant::now();
    let answer = read("TREAT").send().await.context("the read was refused")?;
    let took = began.elapsed();
    let text = std::str::from_utf8(&answer.body).context("the resource is not UTF-8")?;
    if !records::bundle_text()?.contains(text.trim()) {
        bail!("the received bytes are not those of the bundle");
    }
    let short: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(60).collect();
    world
        .console
        .fact("one observation", format!("{short}… ({} bytes, {} ms)", text.len(), took.as_millis()));
    let status = refusal(read("HPAYMT").send().await, "a read for payment")?;
    world.console.fact("the same read for payment", format!("refused ({status})"));
    let other = all.iter().find(|record| !granted(record)).context("nothing lies outside the grant")?;
    let call = world.storage.to(storage::get_received(&other.id)).header("hbc-purpose", "TREAT");
    let status = refusal(doctor.signs(call).send().await, "a read outside the grant")?;
    world.console.fact(&format!("a record of {}", other.category), format!("refused ({status})"));
    world
        .console
        .proves("exactly what was granted is readable, byte for byte, and only for the granted purpose");
    Ok(observation.clone())
}

/// The patient's access log; answers the receipt of the doctor's read.
pub async fn access_log(world: &mut World, doctor: &Person, patient: &Person) -> Result<AccessView> {
    world.console.step("The patient lists who read what, and why");
    let wait = async {
        loop {
            let page = patient
                .signs(world.access.to(access_policy::list_accesses().with("limit=100")))
                .fetch()
                .await?;
            let of_doctor = |access: &&AccessView| access.receipt.actor == doctor.account;
            let read =
                page.items.iter().filter(of_doctor).find(|access| access.receipt.kind == AccessKind::Read);
            if let Some(read) = read.filter(|read| read.height.is_some()) {
                let read = read.clone();
                return Ok::<_, anyhow::Error>((page.items, read));
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    let wait = world.console.wait("waiting for the receipts' block", wait);
    let waited = tokio::time::timeout(Duration::from_secs(60), wait).await;
    let (accesses, read) = waited.context("the doctor's read does not appear")??;
    for access in accesses.iter().take(8) {
        let receipt = &access.receipt;
        let who = access.actor_name.clone().unwrap_or_else(|| "herself".to_owned());
        let anchored = access.height.map_or("not yet".to_owned(), |height| height.to_string());
        world.console.fact(
            &format!("{} {}", receipt.n, receipt.kind),
            format!("{who}, {}, {} records, block {anchored}", receipt.purpose, receipt.records.len()),
        );
    }
    let denied = accesses.iter().any(|access| access.receipt.kind == AccessKind::Denied);
    if !denied {
        bail!("the refused reads are not in the log");
    }
    world
        .console
        .proves("no key leaves without a receipt; refused attempts are there too, numbered without a gap");
    Ok(read)
}

/// Auth signs a revocation with the patient's key.
pub async fn sign_revocation(world: &World, patient: &Person, grant: &GrantView) -> Result<String> {
    let asked = RevocationSignatureRequest {
        password: patient.password.clone(),
        totp: None,
        key: grant.key.context("the grant has no key")?,
        grant: grant.id.clone(),
    };
    let call = world.auth.to(auth::sign_revocation()).json(&asked);
    let signed: RevocationSignature = patient.signs(call).fetch().await.context("auth did not sign")?;
    Ok(signed.jws)
}

/// The patient revokes; the very next read is refused.
pub async fn revoke(
    world: &mut World,
    doctor: &Person,
    patient: &Person,
    grant: &GrantView,
    read_before: &RecordView,
) -> Result<()> {
    world.console.step("The patient revokes");
    let jws = sign_revocation(world, patient, grant).await?;
    let call = world.access.to(access_policy::revoke_grant(&grant.id)).json(&GrantRevocation { jws });
    let began = Instant::now();
    patient.signs(call).done().await.context("the revocation was refused")?;
    world.console.fact("revoked in", format!("{} ms", began.elapsed().as_millis()));
    let call = world.storage.to(storage::get_received(&read_before.id)).header("hbc-purpose", "TREAT");
    let status = refusal(doctor.signs(call).send().await, "the next read")?;
    world.console.fact("the very next read", format!("refused ({status})"));
    world.console.proves("a revocation takes effect before its answer arrives, whatever the ledger does");
    Ok(())
}

/// A small grant for the last act: vital signs for one day.
pub fn small_grant(doctor: &Person) -> Result<NewGrant> {
    Ok(NewGrant::to(GranteeId::Agency(doctor.agency()?), scope(&[Category::VitalSigns], 1)))
}
