//! What every flow needs: the database, the policies, the keys that stand outside the database, time and randomness.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use hbc_app::{Base, Gauge, Part, ServiceState};
use hbc_db::floors::Rereading;
use hbc_db::journal::{Journal, to_the_end};
use hbc_db::{DbError, JobFuture, Lock, RowMac, Tx};
use hbc_service::{AnswerStore, Caller, Problem};
use hbc_types::Digest;
use hbc_types::account::ServiceRole;
use hbc_types::ids::{AccountId, PatientId, SessionId};
use hbc_types::keys::PublicKey;
use hbc_types::saved::SavedAnswer;
use hbc_types::scope::ScopeWord;

use crate::config::Config;
use crate::domain::floors::{Changes, KINDS};
use crate::domain::keys::MasterKey;
use crate::domain::policy::{Bound, PolicyEngine};
use crate::domain::rights::RowProtection;
use crate::domain::staff::Approvers;
use crate::error::Error;

/// The service's state. Clones share it.
#[derive(Clone)]
pub struct App(Arc<Core>);

/// What an [`App`] shares.
pub struct Core {
    /// What every service stands on.
    pub base: Base,
    /// The policies.
    pub engine: PolicyEngine,
    /// MACs and checks rows that give or take rights.
    pub protection: RowProtection,
    /// What the database must not fall behind.
    pub journal: Journal,
    /// The key above all key-encryption keys.
    pub master: MasterKey,
    /// Keys of auth: it registers consent keys.
    pub auth_keys: Vec<PublicKey>,
    /// Whose votes make a staff profile.
    pub approvers: Approvers,
    /// Receipts wait at most this long for their batch.
    pub batch_interval: Duration,
    /// How the journal stands beside the ledger.
    pub compared: Mutex<Compared>,
}

impl std::ops::Deref for App {
    type Target = Core;
    fn deref(&self) -> &Core {
        &self.0
    }
}

impl std::ops::Deref for Core {
    type Target = Base;
    fn deref(&self) -> &Base {
        &self.base
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("base", &self.base).finish_non_exhaustive()
    }
}

/// How the journal stands beside the last head of it that the ledger has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compared {
    /// The chain has not been read to its end yet.
    #[default]
    NotYet,
    /// It knows that head, or the ledger has none.
    Known,
    /// It does not know this one.
    Later(Digest),
}

impl ServiceState for App {
    async fn gauges(&self) -> Result<Vec<Gauge>, DbError> {
        Ok(vec![("hbc_rights_floors", self.journal.floors().len() as u64)])
    }

    async fn parts(&self) -> Vec<Part> {
        let sound = match self.compared() {
            Compared::Later(head) => Err(format!("the ledger has a later head of it: {head}")),
            Compared::NotYet | Compared::Known => Ok(()),
        };
        vec![Part::sound("journal", sound)]
    }
}

impl App {
    /// Checks the policies and reads the keys that stand outside the database.
    pub fn open(config: &Config, base: Base) -> anyhow::Result<Self> {
        let key = config.rows_key_file.key()?;
        let journal = Journal::open(&config.journal_file, RowMac::new(key.clone()), KINDS, base.clock.now())?;
        Ok(Self(Arc::new(Core {
            engine: PolicyEngine::load()?,
            protection: RowProtection::above(key, journal.floors().clone()),
            journal,
            master: MasterKey::new(&config.master_key_file.key()?),
            auth_keys: base.genesis.service_keys(ServiceRole::Auth).collect(),
            approvers: Approvers::of(&base.genesis),
            batch_interval: config.batch_interval(),
            compared: Mutex::default(),
            base,
        })))
    }

    /// Takes the journal for the present one, where whoever runs the service wrote down the ledger's head beside it.
    pub async fn accept_journal(&self, config: &Config) -> anyhow::Result<()> {
        let file = config.journal_file.with_extension("accepted");
        let Ok(text) = std::fs::read_to_string(&file) else { return Ok(()) };
        let head = Digest::parse(text.trim()).with_context(|| format!("{} is no head", file.display()))?;
        if !self.journal.knows(head) {
            self.journal.accept(head).await?;
            tracing::warn!(journal.head = %head, "An older journal of rights counts: somebody decided so");
        }
        Ok(())
    }

    /// The ledger's last head of the journal is this, or it has none. If the journal does not know it, an older one stands in
    /// its place, and maybe an older database beside it: nothing is decided any more, until somebody says so and starts anew.
    pub fn compare_journal(&self, head: Option<Digest>) {
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*compared, Compared::Later(_)) {
            return;
        }
        *compared = match head.filter(|head| !self.journal.knows(*head)) {
            None => Compared::Known,
            Some(head) => {
                tracing::error!(
                    alarm = "journal_set_back",
                    journal.head = %head,
                    "The journal of rights is older than the ledger says: the service stops"
                );
                Compared::Later(head)
            }
        };
    }

    /// How the journal stands beside the ledger.
    pub fn compared(&self) -> Compared {
        *self.compared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a job that reads rights, on one snapshot of the database.
    pub async fn read<T>(&self, job: impl AsyncFn(&mut Tx) -> Result<T, Error>) -> Result<T, Error> {
        let mut rereading = Rereading::default();
        loop {
            let outcome = job(&mut *self.db.reads().begin().await?).await;
            if !is_to_be_repeated(&mut rereading, &outcome) {
                return outcome;
            }
        }
    }

    /// Runs a job that reads rights and writes something else.
    pub async fn write<T, F>(&self, locks: Vec<Lock>, job: F) -> Result<T, Error>
    where
        F: for<'c> FnOnce(&'c mut Tx) -> JobFuture<'c, T, Error> + Clone + Send + 'static,
        T: Send + 'static,
    {
        let mut rereading = Rereading::default();
        loop {
            let outcome = self.db.write_locked(locks.clone(), job.clone()).await;
            if !is_to_be_repeated(&mut rereading, &outcome) {
                return outcome;
            }
        }
    }

    /// Runs a job that may change rights. What it changed is in the journal, on disk, when this returns.
    pub async fn change<T, F>(&self, locks: Vec<Lock>, job: F) -> Result<T, Error>
    where
        F: for<'c> FnOnce(&'c mut Tx, Changes) -> JobFuture<'c, T, Error> + Clone + Send + 'static,
        T: Send + 'static,
    {
        let this = self.clone();
        // A caller who hangs up stops nothing between the commit and the journal.
        to_the_end("change of rights", async move {
            let gathered = this.write(locks, move |tx| {
                Box::pin(async move {
                    let changes = Changes::default();
                    let value = job(tx, changes.clone()).await?;
                    Ok((value, changes.take()))
                })
            });
            let (value, changes) = gathered.await?;
            this.journal.append(&changes).await?;
            Ok(value)
        })
        .await
    }
}

/// Whether the work must be done again, because what it read changed after it began.
fn is_to_be_repeated<T>(rereading: &mut Rereading, outcome: &Result<T, Error>) -> bool {
    match outcome {
        Err(Error::SetBack(error)) => rereading.is_called_for(*error),
        _ => false,
    }
}

/// What saved answers are encrypted for.
pub const SAVED_ANSWER: &str = "saved answer";

impl AnswerStore for App {
    async fn saved_answer(&self, id: Digest) -> Result<Option<SavedAnswer>, Problem> {
        let saved = hbc_db::idempotency::find(self.db.reads(), id).await;
        let Some(saved) = saved.map_err(|error| Problem::internal(&error))? else { return Ok(None) };
        let unreadable = || Problem::from(Error::Db(DbError::BadValue { column: "body" }));
        let hidden = hex::decode(&saved.body).map_err(|_not_hex| unreadable())?;
        let body = self.protection.show(SAVED_ANSWER, &hidden).map_err(|_tag| unreadable())?;
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
    /// To what an app's token holds it.
    pub bound: Option<Bound>,
}

impl From<&Caller> for Who {
    fn from(caller: &Caller) -> Self {
        let bound = caller.client.as_ref().and_then(|client| {
            let patient = client.patient.clone()?;
            Some(Bound {
                patient,
                offline: client.scope.say(ScopeWord::OfflineAccess),
                categories: client.scope.categories(),
            })
        });
        Self { account: caller.account.clone(), session: caller.session.clone(), bound }
    }
}

impl Who {
    /// The locks of a decision for this caller about a patient. The patient's is exclusive, because every decision
    /// about a person extends that person's chain of receipts and conflicting writers would only collide there; the
    /// directory has none.
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
