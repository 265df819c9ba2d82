//! Synthea's FHIR R4 bundles, as committed: two facility batches and a few patients, bytes unchanged.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};

/// The batch of hospitals (Organization and Location). Goes in first.
pub const HOSPITALS: &str = "0-hospitalInformation1625911868739";
/// The batch of practitioners. Goes in second.
pub const PRACTITIONERS: &str = "0-practitionerInformation1625911868739";
/// The demonstration's patient: 445 resources.
pub const DEMO_PATIENT: &str = "098fc002-b87e-49dc-4b8e-8900a1bc8661";
/// The three smallest patients: 66, 134 and 158 resources.
pub const SMALLEST: [&str; 3] = [
    "8a4c9c04-1524-9f1c-d65b-9b17e4520fef",
    "6c8f3e83-c351-ed33-c38d-6be101c275d2",
    "d1193889-ebd9-4e35-bf1b-8a73ecbfc00b",
];
/// The largest patient: 1,166 resources.
pub const LARGEST: &str = "c4bf405e-26ad-4bb9-e17c-9ee3a40f86c6";

/// The bytes of a bundle exactly as Synthea wrote them.
pub fn bundle(name: &str) -> Result<Vec<u8>> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = format!("{name}.json.bz2");
    let packed = ["services/hbc/data/synthea", "shared/testkit/data/synthea"]
        .iter()
        .find_map(|folder| std::fs::read(project.join(folder).join(&file)).ok())
        .with_context(|| format!("no bundle is called `{name}`"))?;
    let mut bytes = Vec::new();
    bzip2_rs::DecoderReader::new(packed.as_slice())
        .read_to_end(&mut bytes)
        .with_context(|| format!("the bundle `{name}` cannot be unpacked"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_bundle_is_there_and_is_json() {
        for name in [HOSPITALS, PRACTITIONERS, DEMO_PATIENT, LARGEST].iter().chain(&SMALLEST) {
            let value: serde_json::Value = serde_json::from_slice(&bundle(name).unwrap()).unwrap();
            assert_eq!(value["resourceType"], "Bundle");
        }
    }
}
