//! A record whose bytes were opened and verified, in the form in which it is shown.

use bytes::Bytes;
use hbc_types::ids::RecordId;

use crate::domain::overlay::Overlay;
use crate::domain::resource::{fhir_id, is_json, mended};
use crate::error::Error;
use crate::store::TrustedRow;

/// An opened record.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Its row.
    pub trusted: TrustedRow,
    /// What is laid over the received bytes.
    pub overlay: Overlay,
    /// The bytes as they were received.
    pub received: Bytes,
    /// The patient's consent version when the key was released.
    pub consent_version: u64,
}

impl Opened {
    /// The overlay, in which the account's Patient was called by its record once.
    fn in_one_name(&self) -> Overlay {
        let (row, patient) = (&self.trusted.row, &self.trusted.secret.patient);
        if patient.is_directory() {
            return self.overlay.clone();
        }
        let record = row.id.as_str();
        self.overlay.with_texts(|text| {
            let named = text.trim_matches('"').strip_prefix("Patient/");
            if let Some(id) = named.filter(|id| RecordId::parse(id).is_ok()) {
                return Some(text.replace(id, patient.as_str()));
            }
            (row.kind == "Patient" && text.contains(record)).then(|| text.replace(record, patient.as_str()))
        })
    }

    /// The form that `/fhir` serves: always JSON, whatever was once taken.
    pub fn applied(&self) -> Result<Vec<u8>, Error> {
        let (row, patient) = (&self.trusted.row, &self.trusted.secret.patient);
        let overlay = self.in_one_name();
        let applied = overlay.apply(&self.received).ok().filter(|applied| is_json(applied));
        let id = fhir_id(&row.kind, &row.id, patient);
        applied
            .or_else(|| mended(&self.received, &overlay, id, row.version, row.created_at))
            .ok_or_else(|| Error::integrity("an overlay", row.id.as_str()))
    }
}
