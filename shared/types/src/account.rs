//! Who an account is and how it stands.

use crate::codes::codes;
use crate::purpose::Purpose;

codes! {
    /// The kind of an account.
    Role {
        /// A patient.
        Patient = "patient",
        /// An agency.
        Agency = "agency",
        /// An operator of the deployment.
        Operator = "operator",
        /// A third-party app.
        App = "app",
        /// A device or gateway.
        Device = "device",
    }
}

codes! {
    /// What kind of agency it is.
    AgencyType {
        /// A doctor.
        Doctor = "doctor",
        /// A hospital.
        Hospital = "hospital",
        /// A laboratory.
        Laboratory = "laboratory",
        /// A pharmacy.
        Pharmacy = "pharmacy",
        /// An insurer.
        Insurer = "insurer",
        /// A government body.
        Government = "government",
        /// An auditor.
        Auditor = "auditor",
    }
}

impl AgencyType {
    /// Why such an agency asks, unless it says something else: SMART's clients cannot.
    #[must_use]
    pub const fn usual_purpose(self) -> Option<Purpose> {
        match self {
            Self::Doctor | Self::Hospital | Self::Laboratory | Self::Pharmacy => Some(Purpose::Treatment),
            Self::Insurer => Some(Purpose::Payment),
            Self::Government | Self::Auditor => None,
        }
    }
}

codes! {
    /// How an account stands.
    Standing {
        /// Signed up, not approved yet.
        Pending = "pending",
        /// In good standing.
        Active = "active",
        /// Stopped by an operator.
        Suspended = "suspended",
        /// Closed by its owner, for ever.
        Closed = "closed",
    }
}

impl Standing {
    /// Whether an account that stands so may do nothing at all.
    #[must_use]
    pub const fn is_stopped(self) -> bool {
        match self {
            Self::Suspended | Self::Closed => true,
            Self::Pending | Self::Active => false,
        }
    }
}

codes! {
    /// Who holds the keys that sign a patient's consents.
    Custody {
        /// auth, wrapped by the patient's password and recovery codes.
        Server = "server",
        /// The patient's own client.
        Client = "client",
        /// The patient's own client, opened with a passkey.
        Passkey = "passkey",
    }
}

impl Custody {
    /// Whether the patient's own client holds the root key, and not auth.
    #[must_use]
    pub const fn is_at_client(self) -> bool {
        match self {
            Self::Client | Self::Passkey => true,
            Self::Server => false,
        }
    }
}

codes! {
    /// The services that sign calls and ledger transactions.
    ServiceRole {
        /// Accounts and keys.
        Auth = "auth",
        /// Consents and keys of records.
        AccessPolicy = "access-policy",
        /// Records.
        Storage = "storage",
    }
}

impl ServiceRole {
    /// Whether it signs transactions of its own: a chain does not begin without its key.
    #[must_use]
    pub const fn signs_transactions(self) -> bool {
        match self {
            Self::Auth | Self::AccessPolicy | Self::Storage => true,
        }
    }
}
