//! An endpoint together with who calls it: what the typed clients are made of.

use hbc_types::purpose::Purpose;
use hbc_types::secret::SecretText;

use crate::{Call, ClientError, Endpoint};

/// Header that says why records are read or written.
pub const PURPOSE: &str = "hbc-purpose";
/// Header that names the patient whom a bundle or record is for.
pub const PATIENT: &str = "hbc-patient";

/// A service at one address, called by one account or by nobody. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Session {
    endpoint: Endpoint,
    token: Option<SecretText>,
    purpose: Option<Purpose>,
}

impl Session {
    /// Anonymous calls to the service at `base`.
    pub fn new(base: &str) -> Result<Self, ClientError> {
        Ok(Self { endpoint: Endpoint::new(base)?, token: None, purpose: None })
    }

    /// The same service, called with this access token.
    #[must_use]
    pub fn with_token(&self, token: SecretText) -> Self {
        Self { token: Some(token), ..self.clone() }
    }

    /// The same service and caller, for this purpose.
    #[must_use]
    pub fn with_purpose(&self, purpose: Purpose) -> Self {
        Self { purpose: Some(purpose), ..self.clone() }
    }

    /// The service.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// `GET path` as this caller.
    pub fn get(&self, path: &str) -> Call {
        self.as_caller(self.endpoint.get(path))
    }

    /// `POST path` as this caller.
    pub fn post(&self, path: &str) -> Call {
        self.as_caller(self.endpoint.post(path))
    }

    /// `PUT path` as this caller.
    pub fn put(&self, path: &str) -> Call {
        self.as_caller(self.endpoint.put(path))
    }

    /// `DELETE path` as this caller.
    pub fn delete(&self, path: &str) -> Call {
        self.as_caller(self.endpoint.delete(path))
    }

    fn as_caller(&self, call: Call) -> Call {
        let call = match &self.token {
            Some(token) => call.bearer(token.expose()),
            None => call,
        };
        match self.purpose {
            Some(purpose) => call.header(PURPOSE, purpose.code()),
            None => call,
        }
    }
}

/// Declares a typed client around a [`Session`].
macro_rules! typed_client {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name($crate::Session);

        impl $name {
            /// The service at `base`, called by nobody.
            pub fn new(base: &str) -> Result<Self, $crate::ClientError> {
                Ok(Self($crate::Session::new(base)?))
            }

            /// The same service, called with this access token.
            #[must_use]
            pub fn with_token(&self, token: hbc_types::secret::SecretText) -> Self {
                Self(self.0.with_token(token))
            }

            /// The same service and caller, for this purpose.
            #[must_use]
            pub fn with_purpose(&self, purpose: hbc_types::purpose::Purpose) -> Self {
                Self(self.0.with_purpose(purpose))
            }

            /// For calls that have no method of their own.
            #[must_use]
            pub const fn session(&self) -> &$crate::Session {
                &self.0
            }
        }
    };
}
pub(crate) use typed_client;
