//! Identifiers: a prefix that tells the kind, a dash, and 128 random bits as 32 lowercase hex digits.
//!
//! They name things without saying anything about them; none of them ever stands on the ledger in clear.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::account::Role;
use crate::random::Random;

/// The text is not an identifier of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier of the form `{prefix}-` and 32 lowercase hex digits")]
pub struct ParseIdError {
    prefix: &'static str,
}

fn hex_tail<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let tail = text.strip_prefix(prefix)?.strip_prefix('-')?;
    let hex = tail.len() == 32 && tail.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    hex.then_some(tail)
}

/// What has a `parse` and an `as_str` is read and written as text everywhere, with this pattern and title in schemas.
macro_rules! as_text {
    ($name:ident, $pattern:expr, $title:expr) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                crate::schema::text($pattern, $title).into()
            }
        }
        impl utoipa::ToSchema for $name {}
    };
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal $(, $special:literal)?) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The kind's prefix, without the dash.
            pub const PREFIX: &'static str = $prefix;

            /// A fresh identifier of 128 random bits.
            #[must_use]
            pub fn random(random: &Random) -> Self {
                Self(format!(concat!($prefix, "-{}"), hex::encode(random.bytes::<16>())))
            }

            /// Parses the exact written form.
            pub fn parse(text: &str) -> Result<Self, ParseIdError> {
                $(if text == $special { return Ok(Self(text.to_owned())); })?
                match hex_tail(text, $prefix) {
                    Some(_) => Ok(Self(text.to_owned())),
                    None => Err(ParseIdError { prefix: $prefix }),
                }
            }

            /// The written form.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        as_text!($name, concat!("^", $prefix, "-[0-9a-f]{32}$"), stringify!($name));
    };
}

id!(
    /// A patient's pseudonym outside auth. The one special value `dir` is the directory of organisations,
    /// practitioners and the like, which every active account reads.
    PatientId, "pat", "dir"
);
id!(
    /// An agency: doctor, hospital, laboratory, pharmacy, insurer, government or auditor.
    AgencyId, "agy"
);
id!(
    /// A third-party app that operators registered.
    AppId, "app"
);
id!(
    /// A program that an agency registered, with keys of its own: its back office.
    ClientId, "cli"
);
id!(
    /// An app's question to a patient for access, from its coming to the code that answers it.
    AuthorizationId, "aut"
);
id!(
    /// A device or gateway with a key of its own.
    DeviceId, "dev"
);
id!(
    /// A pairing code of a patient, and the pairing that comes of it.
    PairingId, "pai"
);
id!(
    /// A link that opens some records.
    LinkId, "lnk"
);
id!(
    /// An operator of the deployment.
    OperatorId, "op"
);
id!(
    /// A passkey of an account.
    PasskeyId, "pky"
);
id!(
    /// A grant of a patient to an agency or organisation.
    GrantId, "grt"
);
id!(
    /// An emergency access: a grantee opened records without a grant, and somebody else looks at it afterwards.
    EmergencyId, "emg"
);
id!(
    /// An agency's request for access.
    AccessRequestId, "req"
);
id!(
    /// A record; also the logical id of its FHIR resource.
    RecordId, "rec"
);
id!(
    /// A storage write intent, under which data keys were handed out.
    IntentId, "int"
);
id!(
    /// A receipt of a read, a write or a denial.
    ReceiptId, "rcp"
);
id!(
    /// A login session: the family of refresh tokens that began with one password check.
    SessionId, "ses"
);

impl PatientId {
    /// The directory's pseudo-patient.
    #[must_use]
    pub fn directory() -> Self {
        Self("dir".to_owned())
    }

    /// Whether this is the directory and no person.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.0 == "dir"
    }
}

/// One of several kinds of identifier, told by the prefix.
macro_rules! one_of {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident($id:ident)),+ $(,)? } $prefixes:literal, $title:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name {
            $($(#[$vdoc])* $variant($id),)+
        }

        impl $name {
            /// Parses by prefix.
            pub fn parse(text: &str) -> Result<Self, ParseIdError> {
                match text.split_once('-').map(|(prefix, _)| prefix) {
                    $(Some($id::PREFIX) => $id::parse(text).map(Self::$variant),)+
                    _ => Err(ParseIdError { prefix: $prefixes }),
                }
            }

            /// The written form.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self { $(Self::$variant(id) => id.as_str(),)+ }
            }
        }

        as_text!($name, concat!("^(", $prefixes, ")-[0-9a-f]{32}$"), $title);
    };
}

one_of!(
    /// Any account that can hold a token. The directory is none.
    AccountId {
        /// A patient.
        Patient(PatientId),
        /// An agency.
        Agency(AgencyId),
        /// An operator.
        Operator(OperatorId),
        /// A third-party app.
        App(AppId),
        /// A device or gateway.
        Device(DeviceId),
    }
    "pat|agy|op|app|dev", "Account id"
);
one_of!(
    /// To whom a patient grants.
    GranteeId {
        /// An agency, or an organisation with its members.
        Agency(AgencyId),
        /// A third-party app.
        App(AppId),
        /// A paired device: it only writes.
        Device(DeviceId),
        /// Whoever has a link.
        Link(LinkId),
    }
    "agy|app|dev|lnk", "Grantee id"
);

one_of!(
    /// A client of auth's OAuth endpoints (`client_id`).
    OAuthClientId {
        /// A program of an agency.
        Program(ClientId),
        /// A third-party app.
        App(AppId),
        /// A device or gateway.
        Device(DeviceId),
    }
    "cli|app|dev", "OAuth client id"
);

impl AccountId {
    /// The role that goes with such an id.
    #[must_use]
    pub const fn role(&self) -> Role {
        match self {
            Self::Patient(_) => Role::Patient,
            Self::Agency(_) => Role::Agency,
            Self::Operator(_) => Role::Operator,
            Self::App(_) => Role::App,
            Self::Device(_) => Role::Device,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_do_not_mix() {
        let random = Random::seeded(7);
        let patient = PatientId::random(&random);
        assert_eq!(PatientId::parse(patient.as_str()), Ok(patient.clone()));
        assert!(AgencyId::parse(patient.as_str()).is_err());
        assert!(PatientId::parse(&patient.as_str().to_uppercase()).is_err());
        assert_eq!(AccountId::parse(patient.as_str()), Ok(AccountId::Patient(patient)));
        assert!(AccountId::parse("dir").is_err());
        assert!(PatientId::parse("dir").is_ok_and(|id| id.is_directory()));
    }
}
