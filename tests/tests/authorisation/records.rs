//! storage: records belong to patients; others need a grant, and strangers learn nothing.

use serde_json::json;

use crate::case::Case;
use crate::world::{World, observation};

/// Who has nothing to do with alice is not told that there is such a patient.
const STRANGER: [u16; 2] = [403, 404];

fn for_strangers(case: Case, world: &World) -> Case {
    case.stranger(&world.bob, &STRANGER)
        .stranger(&world.otto, &STRANGER)
        .stranger(&world.pia, &STRANGER)
        .stranger(&world.operator, &STRANGER)
}

fn reads(world: &World) -> Vec<Case> {
    let (alice, document, observation) =
        (world.alice.account.as_str(), world.document.as_str(), world.observation.as_str());
    let covered = [
        Case::new("storage GET /fhir/{type}", &["Observation"]).query(&format!("patient={alice}")),
        Case::new("storage GET /fhir/{type}/{id}", &["Observation", observation]),
        Case::new("storage GET /fhir/{type}/{id}/_history/{version}", &["Observation", observation, "1"]),
        Case::new("storage GET /fhir/{type}/{id}/_history", &["Observation", observation]),
        Case::new("storage GET /fhir/{type}/_history", &["Observation"]).query(&format!("patient={alice}")),
        Case::new("storage GET /fhir/_history", &[]).query(&format!("patient={alice}")),
        Case::new("storage GET /fhir/Patient/{id}/$everything", &[alice]),
        Case::new("storage POST /fhir/Patient/{id}/$everything", &[alice]),
        Case::new("storage GET /fhir/Patient/{id}/{type}", &[alice, "Observation"]),
        Case::new("storage POST /fhir/{type}/_search", &["Observation"])
            .body("application/x-www-form-urlencoded", format!("patient={alice}")),
        Case::new("storage GET /fhir/Observation/$lastn", &[]).query(&format!("patient={alice}")),
        Case::new("storage GET /v1/records", &[]).query(&format!("patient={alice}")),
        Case::new("storage GET /v1/records/{id}", &[observation]),
        Case::new("storage GET /v1/records/{id}/received", &[observation]),
        Case::new("storage GET /v1/records/{id}/content", &[observation]),
        Case::new("storage GET /v1/records/{id}/proof", &[observation]),
    ];
    let outside = [
        Case::new("storage GET /v1/records/{id}", &[document]),
        Case::new("storage GET /v1/records/{id}/received", &[document]),
        Case::new("storage GET /v1/records/{id}/content", &[document]),
        Case::new("storage GET /v1/records/{id}/proof", &[document]),
    ];
    // A device sees nothing, not even what it wrote.
    let for_strangers = |case, world| for_strangers(case, world).stranger(&world.device.1, &[401, 403]);
    let covered = covered.map(|case| for_strangers(case, world).rightful(&world.alice).rightful(&world.dora));
    // The doctor's grant is for something else.
    let outside =
        outside.map(|case| for_strangers(case, world).stranger(&world.dora, &[403]).rightful(&world.alice));
    covered.into_iter().chain(outside).collect()
}

fn writes(world: &World) -> Vec<Case> {
    let alice = world.alice.account.as_str();
    let resource = observation(&world.alice);
    let bundle = json!({"resourceType": "Bundle", "type": "batch",
        "entry": [{"resource": resource, "request": {"method": "POST", "url": "Observation"}}]});
    let all = [
        Case::new("storage POST /fhir", &[]).body("application/fhir+json", bundle.to_string()),
        Case::new("storage POST /fhir/{type}", &["Observation"])
            .body("application/fhir+json", resource.to_string()),
        Case::new("storage POST /v1/records", &[]).body("application/pdf", "%PDF-1.7 a letter"),
    ];
    let all = all.map(|case| {
        // The doctor may read and nothing else.
        let case = for_strangers(case.header("hbc-patient", alice), world).stranger(&world.dora, &[403]);
        let case = case.rightful(&world.alice);
        match case.name {
            "storage POST /v1/records" => case.stranger(&world.device.1, &[401]),
            _ => case.rightful(&world.device.1),
        }
    });
    let directory = json!({"resourceType": "Organization", "name": "Harbour Clinic"}).to_string();
    let directory = Case::new("storage POST /fhir/{type}", &["Organization"])
        .body("application/fhir+json", directory)
        .header("hbc-patient", "dir")
        .stranger(&world.bob, &STRANGER)
        .stranger(&world.pia, &STRANGER)
        .stranger(&world.device.1, &[403])
        .rightful(&world.dora)
        .rightful(&world.operator);
    all.into_iter().chain([directory]).collect()
}

/// Changes of what alice wrote, after everybody read it.
fn changes(world: &World) -> Vec<Case> {
    let (alice, id) = (world.alice.account.as_str(), world.observation.as_str());
    let with = |member: &str, value: serde_json::Value| {
        let mut resource = observation(&world.alice);
        resource[member] = value;
        resource.to_string()
    };
    let identifier = json!([{"system": "urn:changes", "value": "1"}]);
    let patch = json!([{"op": "replace", "path": "/status", "value": "amended"}]).to_string();
    let json_patch = "application/json-patch+json";
    let named = [
        Case::new("storage PUT /fhir/{type}/{id}", &["Observation", id])
            .body("application/fhir+json", with("id", id.into())),
        Case::new("storage PATCH /fhir/{type}/{id}", &["Observation", id]).body(json_patch, patch),
        Case::new("storage DELETE /fhir/{type}/{id}", &["Observation", id]),
    ];
    let met = [
        Case::new("storage PUT /fhir/{type}", &["Observation"])
            .query("identifier=urn:changes|1")
            .body("application/fhir+json", with("identifier", identifier)),
        Case::new("storage DELETE /fhir/{type}", &["Observation"]).query("identifier=urn:changes|1"),
    ];
    // Who may not know of a record is told as if there were none: of a PUT, that ids are given here.
    let hidden: &[u16] = &[403, 404, 405];
    let named = named.map(|case| {
        let case = [&world.bob, &world.otto, &world.pia, &world.operator]
            .into_iter()
            .fold(case, |case, stranger| case.stranger(stranger, hidden));
        case.stranger(&world.dora, &[403]).stranger(&world.device.1, &[401, 403]).rightful(&world.alice)
    });
    let met = met.map(|case| {
        let case = for_strangers(case.header("hbc-patient", alice), world);
        case.stranger(&world.dora, hidden).stranger(&world.device.1, &[401, 403]).rightful(&world.alice)
    });
    let validate = Case::new("storage POST /fhir/{type}/$validate", &["Observation"])
        .body("application/fhir+json", observation(&world.alice).to_string())
        .for_everybody("a resource of the caller's own is looked at, and nothing is kept")
        .rightful(&world.alice)
        .rightful(&world.dora);
    met.into_iter().chain(named).chain([validate]).collect()
}

pub fn cases(world: &World) -> Vec<Case> {
    let mut all = vec![
        Case::new("storage GET /fhir/metadata", &[]),
        Case::new("storage GET /fhir/.well-known/smart-configuration", &[]),
    ];
    all.extend(reads(world));
    all.extend(writes(world));
    all.extend(changes(world));
    all
}
