//! Why somebody reads or writes: HL7 v3 PurposeOfUse, and the three actions a grant can give.

use crate::codes::codes;

codes! {
    /// HL7 v3 PurposeOfUse codes that HBC knows.
    Purpose {
        /// Treatment.
        Treatment = "TREAT",
        /// Emergency treatment.
        EmergencyTreatment = "ETREAT",
        /// Healthcare payment.
        Payment = "HPAYMT",
        /// Coverage under a policy.
        Coverage = "COVERAGE",
        /// Healthcare research.
        Research = "HRESCH",
        /// Public health.
        PublicHealth = "PUBHLTH",
        /// The patient's own request.
        PatientRequest = "PATRQT",
    }
}

codes! {
    /// What a grant lets its grantee do.
    Action {
        /// Read plaintext of records.
        Read = "read",
        /// Create records for the patient.
        Write = "write",
        /// Have storage compute an answer, never plaintext.
        Answer = "answer",
    }
}
