//! Labels of a record: its category (what kind of record) and its sensitivity (how sensitive).
//!
//! [`crate::classify`] is the one table that maps every FHIR type to a category and sensitive codes to a sensitivity.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::codes::codes;

/// The labels that decide about a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// Kind of record.
    pub category: Category,
    /// Sensitivity.
    pub sensitivity: Sensitivity,
}

codes! {
    /// What kind of record it is: the unit in which patients grant.
    Category {
        /// Who the patient is: Patient, RelatedPerson, Person.
        Demographics = "demographics",
        /// Visits and appointments.
        Encounter = "encounter",
        /// Problems, diagnoses, family history, risks.
        Condition = "condition",
        /// Allergies and intolerances.
        Allergy = "allergy",
        /// Laboratory results, specimens, laboratory reports.
        Laboratory = "laboratory",
        /// Vital signs.
        VitalSigns = "vital-signs",
        /// Social history and surveys.
        SocialHistory = "social-history",
        /// Every other observation.
        Observation = "observation",
        /// Prescriptions, dispenses, administrations.
        Medication = "medication",
        /// Immunizations.
        Immunization = "immunization",
        /// Procedures, service requests.
        Procedure = "procedure",
        /// Imaging studies, media and their reports.
        Imaging = "imaging",
        /// Care plans, teams and goals.
        CarePlan = "care-plan",
        /// Documents, notes, binaries.
        Document = "document",
        /// Devices and what they are used for.
        Device = "device",
        /// Claims, benefits, coverage, accounts.
        Financial = "financial",
        /// Organisations, practitioners, locations and the like.
        Directory = "directory",
        /// Everything without a category of its own.
        Other = "other",
    }
}

codes! {
    /// How sensitive a record is: `normal`, one of HL7's information sensitivity codes, or `restricted`.
    Sensitivity {
        /// Nothing special.
        Normal = "normal",
        /// Substance abuse.
        SubstanceAbuse = "ETH",
        /// Psychiatry.
        Psychiatry = "PSY",
        /// HIV or AIDS.
        Hiv = "HIV",
        /// Sexually transmitted disease.
        SexuallyTransmitted = "STD",
        /// Substance use disorder.
        SubstanceUse = "SUD",
        /// Genetic disease.
        Genetic = "GDIS",
        /// Sexual assault, abuse or domestic violence.
        Violence = "SDV",
        /// Several of these at once, a label that is not known, or a confidentiality above normal.
        Restricted = "restricted",
    }
}

impl Sensitivity {
    /// Both at once: they have no order, so neither stands for the other.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Normal, one) | (one, Self::Normal) => one,
            (one, same) if one == same => one,
            _ => Self::Restricted,
        }
    }

    /// Whether only the patient, and who is granted it by name, may see it.
    #[must_use]
    pub fn is_sensitive(self) -> bool {
        self != Self::Normal
    }
}
