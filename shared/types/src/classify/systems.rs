//! Code systems in every spelling, and their codes in one.
//!
//! Senders name one system by its FHIR URL with `http` or `https`, with a slash or a version at its end, by its OID as a
//! `urn:`, by its HL7 v2 name, by a national edition or by the URL that an older FHIR had for it. Whoever compares codes
//! asks here first what system is meant: a spelling that is not known must not make a diagnosis harmless.
//!
//! Why: decision 0110.

/// A code system whose codes are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeSystem {
    /// SNOMED CT, any edition.
    Snomed,
    /// LOINC.
    Loinc,
    /// ICD-10 and its national modifications, but for procedures (ICD-10-PCS).
    Icd10,
    /// ICD-9 and ICD-9-CM, but for procedures.
    Icd9,
    /// RxNorm.
    RxNorm,
    /// HL7's labels of sensitivity and confidentiality: v3 `ActCode` and `Confidentiality`, v2 table 0177.
    SecurityLabel,
    /// HL7's labels that say how data came about or what it is used for, not how sensitive it is: v3 `ActReason` and
    /// `ObservationValue`.
    Handling,
}

/// HL7's object identifiers of the systems. ICD-10's national editions stand below its own; the German ones have an arc
/// of their own ([`BFARM`]).
const OIDS: &[(&str, CodeSystem)] = &[
    ("2.16.840.1.113883.6.96", CodeSystem::Snomed),
    ("2.16.840.1.113883.6.5", CodeSystem::Snomed),
    ("2.16.840.1.113883.6.1", CodeSystem::Loinc),
    ("2.16.840.1.113883.6.3", CodeSystem::Icd10),
    ("2.16.840.1.113883.6.90", CodeSystem::Icd10),
    ("2.16.840.1.113883.6.135", CodeSystem::Icd10),
    ("2.16.840.1.113883.6.2", CodeSystem::Icd9),
    ("2.16.840.1.113883.6.42", CodeSystem::Icd9),
    ("2.16.840.1.113883.6.103", CodeSystem::Icd9),
    ("2.16.840.1.113883.6.88", CodeSystem::RxNorm),
    ("2.16.840.1.113883.5.4", CodeSystem::SecurityLabel),
    ("2.16.840.1.113883.5.25", CodeSystem::SecurityLabel),
    ("2.16.840.1.113883.12.177", CodeSystem::SecurityLabel),
    ("2.16.840.1.113883.5.8", CodeSystem::Handling),
    ("2.16.840.1.113883.5.1063", CodeSystem::Handling),
];

/// The arc below which Germany's classifications stand, one for each year. ICD-10-GM is the one among them whose codes look
/// like ICD-10's.
const BFARM: &str = "1.2.276.0.76.5.";
/// What stands below ICD-10's own OID: its national editions.
const ICD10_EDITIONS: &str = "2.16.840.1.113883.6.3.";

impl CodeSystem {
    /// The system that a URI, OID or name means; nothing if it is none of these.
    #[must_use]
    pub fn of(system: &str) -> Option<Self> {
        let text = system.trim().to_lowercase();
        let text = text.split('|').next().unwrap_or_default().trim();
        if let Some(oid) = oid(text) {
            return Self::of_oid(oid);
        }
        // Bars, dots, case and the like are spelled in many ways, the letters in one.
        let compact = compact(text);
        let has = |word: &str| compact.contains(word);
        if has("snomed") || ["sct", "snm"].contains(&compact.as_str()) {
            return Some(Self::Snomed);
        }
        if has("loinc") || compact == "ln" {
            return Some(Self::Loinc);
        }
        if has("rxnorm") {
            return Some(Self::RxNorm);
        }
        // ICD-10 in French, Spanish and Portuguese; WHO's URLs.
        let icd10 = ["icd10", "cim10", "cie10", "cid10", "icdrelease10"];
        if (icd10.into_iter().any(has) && !has("pcs")) || ["i10", "i10c"].contains(&compact.as_str()) {
            return Some(Self::Icd10);
        }
        if (has("icd9") && !has("proc")) || ["i9", "i9c", "i9cdx"].contains(&compact.as_str()) {
            return Some(Self::Icd9);
        }
        Self::of_hl7(text)
    }

    fn of_oid(oid: &str) -> Option<Self> {
        let known = OIDS.iter().find(|(known, _)| *known == oid).map(|(_, system)| *system);
        let edition = || oid.starts_with(BFARM) || oid.starts_with(ICD10_EDITIONS);
        known.or_else(|| edition().then_some(Self::Icd10))
    }

    /// HL7's own systems: by the last step of the URL, which older versions of FHIR built in other ways
    /// (`…/fhir/v3/ActCode`, `…/CodeSystem/v3-ActCode`, `…/v2/0177`).
    fn of_hl7(text: &str) -> Option<Self> {
        let mut steps = text.split(['/', '#', ':']).filter(|step| !step.is_empty()).rev();
        let last = compact(steps.next()?);
        let last = last.strip_suffix("html").unwrap_or(&last);
        let last = ["codesystem", "valueset"].iter().find_map(|word| last.strip_prefix(word)).unwrap_or(last);
        let version = steps.next().map(compact).unwrap_or_default();
        match last.strip_prefix("v3").unwrap_or(last) {
            "actcode" | "confidentiality" | "informationsensitivitypolicy" => Some(Self::SecurityLabel),
            "actreason" | "observationvalue" | "purposeofuse" => Some(Self::Handling),
            "v20177" | "hl70177" => Some(Self::SecurityLabel),
            "0177" if version == "v2" || version.is_empty() => Some(Self::SecurityLabel),
            _ => None,
        }
    }

    /// A code of this system, in one spelling.
    #[must_use]
    pub fn code(self, code: &str) -> String {
        match self {
            // `F32.1`, `f321`, `B20.-`, `A51.3†`, `B24 +`.
            Self::Icd10 | Self::Icd9 => compact(code).to_uppercase(),
            Self::Snomed | Self::Loinc | Self::RxNorm | Self::SecurityLabel | Self::Handling => {
                code.trim().to_uppercase()
            }
        }
    }
}

/// The object identifier in `urn:oid:1.2.3`, `oid:1.2.3` or `1.2.3`.
fn oid(text: &str) -> Option<&str> {
    let text = text.trim_end_matches(['/', '.']);
    let text = text.strip_prefix("urn:").unwrap_or(text);
    let text = text.strip_prefix("oid:").unwrap_or(text).trim();
    let is_oid = text.contains('.') && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    is_oid.then_some(text)
}

/// The letters and digits of a text.
fn compact(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).collect()
}
