//! What every flow needs: the database, the policies, the keys that stand outside the database, time and randomness.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use hbc_chain::genesis::Genesis;
use hbc_client::ledger::Finality;
use hbc_db::{Db, DbError, Lock};
use hbc_service::{AnswerStore, Caller, Problem};
use hbc_types::account::ServiceRole;
use hbc_types::ids::{AccountId, PatientId, SessionId};
use hbc_types::keys::PublicKey;
use hbc_types::saved::SavedAnswer;
use hbc_types::{Clock, Digest, Random};

use crate::domain::keys::MasterKey;
use crate::domain::policy::PolicyEngine;
use crate::domain::rights::RightsSeal;
use crate::error::Error;

/// The service's state. Clones share it.
#[derive(Clone)]
pub struct App(Arc<Core>);

/// What an [`App`] shares.
pub struct Core {
    /// The database.
    pub db: Db,
    /// The policies.
    pub engine: PolicyEngine,
    /// Seals and checks rows that give or take rights.
    pub seal: RightsSeal,
    /// The key above all key-encryption keys.
    pub master: MasterKey,
    /// This service's signing key.
    pub service_key: SigningKey,
    /// The chain.
    pub chain: Digest,
    /// Where the chain began.
    pub genesis: Genesis,
    /// Keys of auth: it registers consent keys.
    pub auth_keys: Vec<PublicKey>,
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
    /// How the ledger stands; wakes the loop that sends transactions to it.
    pub finality: Finality,
}

impl std::ops::Deref for App {
    type Target = Core;
    fn deref(&self) -> &Core {
        &self.0
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("chain", &self.chain).finish_non_exhaustive()
    }
}

impl App {
    /// Shares `core`.
    #[must_use]
    pub fn new(core: Core) -> Self {
        Self(Arc::new(core))
    }

    /// Keys of auth in the genesis.
    #[must_use]
    pub fn auth_keys_of(genesis: &Genesis) -> Vec<PublicKey> {
        genesis.service_keys(ServiceRole::Auth).collect()
    }
}

/// What saved answers are sealed for.
pub const SAVED_ANSWER: &str = "saved answer";

impl AnswerStore for App {
    async fn saved_answer(&self, id: Digest) -> Result<Option<SavedAnswer>, Problem> {
        let saved = hbc_db::idempotency::find(self.db.reads(), id).await;
        let Some(saved) = saved.map_err(|error| Problem::internal(&error))? else { return Ok(None) };
        let unreadable = || Problem::from(Error::Db(DbError::BadValue { column: "body" }));
        let hidden = hex::decode(&saved.body).map_err(|_not_hex| unreadable())?;
        let body = self.seal.show(SAVED_ANSWER, &hidden).map_err(|_tag| unreadable())?;
        Ok(Some(SavedAnswer { body, ..saved }))
    }
}

/// Who calls, as far as decisions take it from the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The account.
    pub account: AccountId,
    /// The login session.
    pub session: SessionId,
}

impl From<&Caller> for Who {
    fn from(caller: &Caller) -> Self {
        Self { account: caller.account.clone(), session: caller.session.clone() }
    }
}

impl Who {
    /// The locks of a decision for this caller about a patient. The patient's is exclusive, because every decision about
    /// a person extends that person's chain of receipts and rivals would only collide there; the directory has none.
    #[must_use]
    pub fn locks(&self, patient: &PatientId) -> Vec<Lock> {
        let of_patient = if patient.is_directory() {
            Lock::shared(patient.as_str())
        } else {
            Lock::exclusive(patient.as_str())
        };
        vec![of_patient, Lock::shared(self.account.as_str()), Lock::shared(self.session.as_str())]
    }
}
